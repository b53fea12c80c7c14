// The comments of the types are in index.d.ts, the reasons for what is here in README.md.

/** The control frames: the database refuses these two as types of events. */
const HEARTBEAT = 'heartbeat', RESET = 'reset';
/** How many messages a tab keeps that its handlers are too slow for. What it drops it reads again. */
const QUEUE = 1000;
const seconds = 1000;

export function subscribe(url, options = {}) {
  const {
    on = {}, onEvent, onReset, onStatus, onError = error => console.warn(error),
    getState, storage, key = `event-piper:${url}`, share, format, headers, request, parse = JSON.parse,
    patience = 5 * seconds, silence = 15 * seconds, longestWait = 30 * seconds,
  } = options;
  const over = new AbortController();
  let cursor, failure, channel, leading, status;
  let positionDue = Boolean(getState || share);
  let retry = seconds; // the server's wish

  const close = () => over.abort();
  const fail = error => { failure ??= { error }; close(); };

  /** Calls a handler. What it throws ends the subscription, and the cursor stays where it was. */
  const call = async (handler, argument) => {
    if (over.signal.aborted) throw over.signal.reason;
    try {
      await handler?.(argument);
    } catch (error) {
      fail(error);
      throw error;
    }
  };

  const say = now => now !== status && call(onStatus, status = now);
  const post = message => channel && leading && channel.postMessage(message);

  const move = async id => {
    if (!(id >= 0) || id === cursor) return;
    cursor = id;
    await call(storage && (() => storage.setItem(key, `${id}`)));
  };

  const takeEvent = async object => {
    const { id, type, payload } = object;
    if (id <= cursor) return;
    // A poll tells the whole object in any case, and a handler shall not notice which way an event came.
    const event = format ? object : { id, type, payload };
    post({ previous: cursor, event });
    await call(onEvent, event);
    // A type may be called "constructor": only what the caller wrote is a handler.
    if (Object.hasOwn(on, type)) await call(on[type], event);
    await move(id);
  };

  const takeCursor = id => {
    if (!(id > (cursor ?? -1))) return;
    post({ previous: cursor, cursor: id });
    return move(id);
  };

  const takeReset = async reset => {
    post({ reset });
    if (!onReset && !getState) fail(Object.assign(new Error(`reset: ${reset.reason}`), { reset }));
    await call(onReset, reset);
    await move(reset.cursor);
    positionDue = Boolean(getState);
  };

  /** Runs one request, which `use` reads to its end, each step of it within a time of its own. */
  const attempt = async (path, query, accept, use) => {
    const abort = new AbortController();
    const stop = () => abort.abort(over.signal.reason);
    over.signal.addEventListener('abort', stop);
    const within = async (limit, step) => {
      const timer = setTimeout(() => abort.abort(new Error(`nothing came for ${limit} ms`)), limit);
      try {
        return await step;
      } finally {
        clearTimeout(timer);
      }
    };
    try {
      const target = new URL(url, globalThis.location?.href);
      target.pathname += path;
      // The cursor is in the query because a header of its own would cost a CORS preflight.
      for (const name in query) if (query[name] != null) target.searchParams.set(name, query[name]);
      const own = await headers?.();
      if (over.signal.aborted) throw over.signal.reason;
      const response = await within(patience + (query.wait ?? 0) * seconds, fetch(target, {
        cache: 'no-store', ...request, headers: { ...own, accept }, signal: abort.signal,
      }));
      const served = response.ok && response.headers.get('content-type')?.startsWith(accept);
      if (!served && response.status !== 410) {
        throw Object.assign(new Error(`${response.status} instead of ${accept} from ${target}`), {
          status: response.status, retryAfter: response.headers.get('retry-after') * seconds,
        });
      }
      return await use(response, within);
    } finally {
      over.signal.removeEventListener('abort', stop);
      abort.abort();
    }
  };

  const poll = (wait, after = cursor) => attempt('/poll', { after, wait }, 'application/json', async (response, within) => {
    const page = parse(await within(silence, response.text()));
    if (response.status === 410) {
      const { reason, oldest, newest, cursor = reason === 'ahead' ? newest : oldest } = page;
      return { reset: { reason, oldest, newest, cursor } };
    }
    return page;
  });

  const catchUp = async wait => {
    const page = await poll(wait);
    if (page.reset) return takeReset(page.reset);
    for (const event of page.events) await takeEvent(event);
    await takeCursor(page.cursor);
  };

  /** Finds the position first and the caller's state second, so that the events after it complete the state. */
  const begin = async () => {
    if (!positionDue) return;
    if (getState || cursor === undefined) {
      const position = (await poll(0, null)).cursor;
      await getState?.(position);
      await move(position);
    }
    positionDue = false;
  };

  /** Reads one stream to its end. It notes in `seen` what has come. */
  const stream = seen => attempt('', { after: cursor, format }, 'text/event-stream', async (response, within) => {
    // Not a TextDecoderStream: an error further up would take what is still in it along.
    const reader = response.body.getReader(), decoder = new TextDecoder();
    let rest = '', id, type, data;
    for (;;) {
      const { done, value } = await within(seen.frame ? silence : patience, reader.read());
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split('\n');
      rest = lines.pop();
      for (const line of lines) {
        seen.line = true;
        const colon = line.indexOf(':');
        const field = line.slice(0, colon), text = line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
        if (field === 'id') id = +text;
        if (field === 'event') type = text;
        if (field === 'data') data = data === undefined ? text : `${data}\n${text}`;
        if (field === 'retry') retry = +text || retry;
        if (line) continue;
        if (data !== undefined) {
          seen.frame = true;
          await say('streaming');
          if (type === HEARTBEAT) await takeCursor(id);
          else if (type === RESET) await takeReset({ ...parse(data), cursor: id });
          else await takeEvent(format ? parse(data) : { id, type, payload: parse(data) });
          if (positionDue) return;
        }
        id = type = data = undefined;
      }
    }
  });

  const sleep = limit => new Promise(resolve => {
    const wake = () => {
      clearTimeout(timer);
      over.signal.removeEventListener('abort', wake);
      resolve();
    };
    const timer = setTimeout(wake, limit);
    over.signal.addEventListener('abort', wake);
  });

  /** Reads until the end: streams, and polls while no stream gets through. */
  const read = async () => {
    let failures = 0, polling = false, streamAgain = 0, pollingTime = 5 * seconds;
    while (!over.signal.aborted) {
      const seen = {};
      let pause = true, retryAfter = 0;
      try {
        await begin();
        if (polling) {
          const wait = Math.ceil((streamAgain - Date.now()) / seconds);
          // Without a cursor an answer that gets lost would take the start with it: ask for that first.
          await catchUp(cursor === undefined ? 0 : Math.max(0, Math.min(wait, 20)));
          await say('polling');
          failures = 0;
          pause = false;
          polling = wait > 0;
        } else {
          await stream(seen);
        }
      } catch (error) {
        if (over.signal.aborted) return;
        retryAfter = error.retryAfter || 0;
        await call(onError, error);
      }
      if (!pause) continue;
      if (seen.frame) {
        failures = 0;
        pollingTime = 5 * seconds;
      } else if (!positionDue && !polling && !seen.line) {
        polling = true;
        streamAgain = Date.now() + pollingTime;
        pollingTime = Math.min(pollingTime * 2, 300 * seconds);
      } else {
        polling = false;
      }
      await say('waiting');
      await sleep(Math.max(retryAfter, Math.min(retry * 2 ** failures++, longestWait) * (0.5 + Math.random() / 2)));
    }
  };

  /** Takes what the tab that reads says. A gap before it is read from the service. */
  const follow = async ({ previous, event, cursor: moved, reset }) => {
    await begin();
    await say('following');
    if (reset) {
      if (reset.reason === 'ahead' ? cursor > reset.cursor : cursor < reset.cursor) await takeReset(reset);
      return begin();
    }
    // Waiting a little bounds how often an instance is asked that is behind the one that the other tab reads.
    while (cursor < previous && !positionDue) await catchUp(1);
    await begin();
    await (event ? takeEvent(event) : takeCursor(moved));
  };

  const readForAllTabs = async () => {
    const name = `event-piper:${share}:${format}:${url}`;
    let queued = 0, work = Promise.resolve();
    channel = new BroadcastChannel(name);
    channel.onmessage = ({ data }) => {
      if (data.hello) {
        if (cursor !== undefined) post({ previous: cursor, cursor });
      } else if (!leading && queued < QUEUE) {
        queued++;
        work = work.then(() => follow(data)).catch(error => over.signal.aborted || call(onError, error)).catch(() => {})
          .finally(() => queued--);
      }
    };
    channel.postMessage({ hello: true });
    try {
      await navigator.locks.request(name, { signal: over.signal }, async () => {
        leading = true;
        await work;
        await read();
      });
    } finally {
      channel.close();
    }
  };

  const run = async () => {
    try {
      const stored = await storage?.getItem(key);
      cursor = stored ? +stored : options.after;
      await (share && globalThis.navigator?.locks ? readForAllTabs() : read());
    } catch (error) {
      if (!over.signal.aborted) fail(error);
    }
    if (failure) throw failure.error;
  };

  if (options.signal?.aborted) close();
  options.signal?.addEventListener('abort', close);
  const done = run().finally(() => options.signal?.removeEventListener('abort', close));
  return { close, done, get cursor() { return cursor; } };
}
