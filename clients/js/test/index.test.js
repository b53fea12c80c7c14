// What the fault test does not show: the size, the types, and what each option promises. The service here is a script.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { transform } from 'esbuild';
import { subscribe } from '../index.js';

/** Answers each request with the next of `answers`: a function, or a stream's text, which then stays open. */
async function serve(t, ...answers) {
  const requests = [];
  const server = createServer((request, response) => {
    requests.push(request);
    const answer = answers.shift() ?? '';
    if (typeof answer === 'function') return answer(response, request);
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.write(answer);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => { server.closeAllConnections(); server.close(); });
  return { url: `http://127.0.0.1:${server.address().port}/events`, requests, paths: () => requests.map(r => r.url) };
}

const json = (status, body, headers) => response => {
  response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
};
const ended = text => response => {
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  response.end(text);
};
const heartbeat = id => `id: ${id}\nevent: heartbeat\ndata: thump\nretry: 10\n\n`;
const frame = (id, type = 'insert', data = `{"n":${id}}`) => `id: ${id}\nevent: ${type}\ndata: ${data}\n\n`;
const quiet = { onError: () => {} };

/** Subscribes, and waits until `count` things have been told. */
async function told(t, url, count, options = {}) {
  const all = [];
  let enough;
  const promise = new Promise(resolve => { enough = resolve; });
  const tell = what => argument => { all.push([what, argument]); if (all.length === count) enough(); };
  const subscription = subscribe(url, { onEvent: tell('event'), onReset: tell('reset'), ...quiet, ...options });
  t.after(() => subscription.close());
  await Promise.race([promise, subscription.done]);
  return { all, subscription };
}

test('at most 3 KB', async () => {
  const { code } = await transform(await readFile(new URL('../index.js', import.meta.url)), { minify: true, format: 'esm' });
  const size = gzipSync(code, { level: 9 }).length;
  console.log(`minified and compressed: ${size} bytes`);
  assert.ok(size <= 3072, `${size} bytes`);
});

test('goes on after what a cut has left', async t => {
  const { url, paths } = await serve(t, ended(heartbeat(5) + frame(6) + 'id: 7\nevent: insert\ndata: {"n":7}\n'), heartbeat(6) + frame(7));
  const { all, subscription } = await told(t, url, 2);
  assert.deepEqual(all.map(([, e]) => e), [{ id: 6, type: 'insert', payload: { n: 6 } }, { id: 7, type: 'insert', payload: { n: 7 } }]);
  assert.deepEqual(paths(), ['/events', '/events?after=6']);
  subscription.close();
  await subscription.done;
});

test('a first frame is a cursor, even when nothing follows', async t => {
  const { url, paths } = await serve(t, ended(heartbeat(41)), frame(42));
  await told(t, url, 1);
  assert.deepEqual(paths(), ['/events', '/events?after=41']);
});

test('characters and frames may come in pieces', async t => {
  const bytes = Buffer.from(heartbeat(1) + frame(2, 'été', '"€"'));
  const { url } = await serve(t, async response => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    for (const byte of bytes) await new Promise(done => response.write(Buffer.of(byte), done));
  });
  const { all } = await told(t, url, 1);
  assert.deepEqual(all, [['event', { id: 2, type: 'été', payload: '€' }]]);
});

test('types are names like others', async t => {
  const types = ['error', 'open', 'message', 'constructor', '__proto__', 'toString'];
  const { url } = await serve(t, heartbeat(0) + types.map((type, i) => frame(i + 1, type)).join(''));
  const called = [];
  const on = Object.fromEntries(types.slice(0, 5).map(type => [type, e => called.push(e.type)]));
  const { all } = await told(t, url, types.length, { on });
  assert.deepEqual(all.map(([, e]) => e.type), types);
  assert.deepEqual(called, types.slice(0, 5));
});

test('any answer but a stream is tried again, by polling first', async t => {
  const gateway = response => { response.writeHead(502, { 'Content-Type': 'application/json' }); response.end('{"events":[]}'); };
  const { url, paths } = await serve(t, gateway, gateway, frame(3));
  const errors = [];
  await told(t, url, 1, { after: 2, longestWait: 20, onError: error => errors.push(error.status) });
  assert.deepEqual(errors, [502, 502]);
  assert.match(paths().join(' '), /^\/events\?after=2 \/events\/poll\?after=2&wait=\d \/events\?after=2$/);
});

test('the format decides what an event tells, not the way it came', async t => {
  const whole = [6, 7].map(id => ({
    id, type: 'price', timestamp: '2026-03-01T12:00:00Z', subscriber: 'team-7', amends: 2, traceparent: '00-ab-cd-01', payload: { n: id },
  }));
  const refused = response => { response.writeHead(502); response.end(); };
  for (const format of ['event', undefined]) {
    const { url, paths } = await serve(t,
      ended(heartbeat(5) + frame(6, 'price', JSON.stringify(format ? whole[0] : whole[0].payload))), refused,
      json(200, { events: [whole[1]], cursor: 7 }));
    const { all } = await told(t, url, 2, { format, longestWait: 20 });
    assert.deepEqual(all.map(([, e]) => e), format ? whole : whole.map(({ id, type, payload }) => ({ id, type, payload })));
    assert.match(paths().join(' '), format ? /^\/events\?format=event \/events\?after=6&format=event \/events\/poll\?after=6&wait=\d$/
      : /^\/events \/events\?after=6 \/events\/poll\?after=6&wait=\d$/);
  }
});

test('overload is waited for, not polled', async t => {
  const { url, paths } = await serve(t, ended('retry: 10\n\n'), frame(3));
  await told(t, url, 1, { after: 2 });
  assert.deepEqual(paths(), ['/events?after=2', '/events?after=2']);
});

test('Retry-After is waited for', async t => {
  const times = [];
  const { url } = await serve(t,
    r => { times.push(Date.now()); json(503, {}, { 'Retry-After': '1' })(r); },
    r => { times.push(Date.now()); json(200, { events: [{ id: 3, type: 'a', payload: 1 }], cursor: 3 })(r); });
  await told(t, url, 1, { after: 2, longestWait: 10 });
  assert.ok(times[1] - times[0] >= 990, `${times[1] - times[0]} ms`);
});

test('a buffered stream is left for polls, which end in time for another stream', async t => {
  const held = () => {};
  const { url, paths } = await serve(t, held, json(200, { events: [{ id: 3, type: 'a', payload: 1 }], cursor: 4 }));
  const status = [];
  const { subscription } = await told(t, url, 1, { after: 2, patience: 50, longestWait: 10, onStatus: s => status.push(s) });
  assert.match(paths()[1], /^\/events\/poll\?after=2&wait=5$/);
  while (subscription.cursor !== 4) await new Promise(setImmediate);
  await new Promise(setImmediate);
  assert.deepEqual(status, ['waiting', 'polling']);
});

test('a reset is told, by a stream and by a poll', async t => {
  const { url, paths } = await serve(t,
    `event: reset\ndata: {"reason":"pruned","oldest":10,"newest":20}\nid: 10\n\n` + frame(11),
    json(410, { reason: 'ahead', oldest: 1, newest: 7 }, { 'Content-Type': 'application/problem+json' }));
  const { all } = await told(t, url, 2, { after: 2 });
  assert.deepEqual(all.map(([what]) => what), ['reset', 'event']);
  assert.deepEqual(all[0][1], { reason: 'pruned', oldest: 10, newest: 20, cursor: 10 });
  assert.deepEqual(paths(), ['/events?after=2']);

  const other = await serve(t, json(403, {}), json(410, { reason: 'ahead', oldest: 1, newest: 7 }, { 'Content-Type': 'application/problem+json' }));
  const { all: polled, subscription } = await told(t, other.url, 1, { after: 200, longestWait: 10 });
  assert.deepEqual(polled, [['reset', { reason: 'ahead', oldest: 1, newest: 7, cursor: 7 }]]);
  while (subscription.cursor !== 7) await new Promise(setImmediate);
});

test('a reset that nobody takes ends the subscription', async t => {
  const { url } = await serve(t, `event: reset\ndata: {"reason":"pruned","oldest":10,"newest":20}\nid: 10\n\n`);
  await assert.rejects(subscribe(url, { after: 2 }).done, { message: 'reset: pruned', reset: { reason: 'pruned', oldest: 10, newest: 20, cursor: 10 } });
});

test('position first, state second, events after it; again after a reset', async t => {
  const { url, paths } = await serve(t, json(200, { events: [], cursor: 5 }),
    `event: reset\ndata: {"reason":"pruned","oldest":10,"newest":20}\nid: 10\n\n`, json(200, { events: [], cursor: 20 }), frame(21));
  const states = [];
  const { all } = await told(t, url, 2, { getState: position => states.push(position), longestWait: 10 });
  assert.deepEqual(states, [5, 20]);
  assert.equal(all[1][1].id, 21);
  assert.deepEqual(paths(), ['/events/poll?wait=0', '/events?after=5', '/events/poll?wait=0', '/events?after=20']);
});

test('the cursor is stored after the handler, and what a handler throws ends all before it', async t => {
  const { url } = await serve(t, frame(1) + frame(2) + frame(3));
  const stored = new Map(), seen = [];
  const storage = { getItem: key => stored.get(key), setItem: (key, value) => stored.set(key, value) };
  const { done } = subscribe(url, {
    storage, key: 'k', after: 0,
    onEvent: async ({ id }) => { await null; seen.push([id, stored.get('k')]); if (id === 2) throw new Error('no'); },
  });
  await assert.rejects(done, { message: 'no' });
  assert.deepEqual(seen, [[1, undefined], [2, '1']]);
  assert.equal(stored.get('k'), '1');
  const next = await serve(t, frame(2));
  await told(t, next.url, 1, { storage, key: 'k', after: 0 });
  assert.deepEqual(next.paths(), ['/events?after=1']);
});

test('headers are made for each request, and one handler is done before the next', async t => {
  const { url, requests } = await serve(t, ended(heartbeat(0) + frame(1) + frame(2)), frame(3));
  let made = 0, running = 0;
  const slowly = async () => {
    assert.equal(++running, 1);
    await new Promise(setImmediate);
    running--;
  };
  await told(t, url, 3, { headers: async () => ({ Authorization: `Bearer ${++made}` }), on: { insert: slowly }, onError: assert.fail });
  assert.deepEqual(requests.map(r => r.headers.authorization), ['Bearer 1', 'Bearer 2']);
});

test('after an abort no handler is called', async t => {
  const { url } = await serve(t, frame(1) + frame(2));
  const abort = new AbortController(), seen = [];
  const { done } = subscribe(url, { after: 0, signal: abort.signal, onEvent: e => { seen.push(e.id); abort.abort(); } });
  await done;
  assert.deepEqual(seen, [1]);
});

/** Stands for Web Locks, which Node 20 has not: one holder at a time, in the order of asking. */
function locks() {
  const tails = new Map();
  return {
    async request(name, { signal }, hold) {
      const before = tails.get(name);
      let release;
      tails.set(name, new Promise(resolve => { release = resolve; }));
      try {
        await Promise.race([before, new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))]);
        return await hold();
      } finally {
        Promise.resolve(before).then(release);
      }
    },
  };
}

test('a tab reads itself what the reading tab had before it, and goes on when that is closed', { timeout: 120_000 }, async t => {
  Object.defineProperty(globalThis, 'navigator', { value: { locks: locks() }, configurable: true });
  let stream;
  const { url, paths } = await serve(t, response => {
    stream = response;
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.write(heartbeat(10));
  }, json(200, { events: [{ id: 4, type: 'a', payload: 4 }], cursor: 10 }), heartbeat(12) + frame(13));
  const leader = [], follower = [], status = [];
  const first = subscribe(url, { share: 'toto', after: 10, onEvent: e => leader.push(e.id), ...quiet });
  while (!stream) await new Promise(setImmediate);
  const second = subscribe(url, {
    share: 'toto', after: 2, onStatus: s => status.push(s), ...quiet,
    onEvent: e => {
      follower.push(e.id);
      if (e.id === 4) stream.write(frame(11));
      if (e.id === 11) stream.write(frame(12));
      if (e.id === 12) first.close();
      if (e.id === 13) second.close();
    },
  });
  await second.done;
  await first.done;
  assert.deepEqual(follower, [4, 11, 12, 13]);
  assert.deepEqual(leader, [11, 12]);
  assert.deepEqual(paths(), ['/events?after=10', '/events/poll?after=2&wait=1', '/events?after=12']);
  assert.deepEqual(status, ['following', 'streaming']);
});
