// A connection to the service on one cursor: Server-Sent Events over fetch, because EventSource can set
// no header, and long-polling where they do not get through. It comes back by itself.

const FIRST_FRAME = 3000; // ms; the service sends one at once, so a later one is held back by something between
const SILENCE = 15_000; // ms; heartbeats come every few seconds
const POLLING = 60_000; // ms; then the stream is tried again
const WAIT = 10; // s; that a poll waits for an event

/** The frames of an event stream, as WHATWG HTML, section 9.2.6, reads them. */
export async function* frames(body) {
  const decoder = new TextDecoder();
  let rest = '', frame = {};
  for await (const bytes of chunks(body)) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split(/\r\n|\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        yield { event: 'message', ...frame };
        frame = {};
        continue;
      }
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      frame[field] = field === 'data' && 'data' in frame ? `${frame.data}\n${value}` : value;
    }
  }
}

async function* chunks(body) {
  const reader = body.getReader();
  try {
    for (let chunk; !(chunk = await reader.read()).done;) yield chunk.value;
  } finally {
    reader.cancel().catch(() => {}); // it may be broken already
  }
}

/** JSON with the numbers as they are written, where the browser can: 12345678901234567890 is none of JavaScript's. */
const exact = (_, value, context) => (typeof value === 'number' && JSON.rawJSON && context ? JSON.rawJSON(context.source) : value);

/** What an answer that is not good says in a line: a problem's detail, or the status alone, where it is a proxy's page. */
export async function refusal(response) {
  const body = await response.text();
  let detail = response.statusText;
  try { detail = JSON.parse(body).detail ?? detail; } catch { /* not ours */ }
  return Object.assign(new Error(`${response.status} ${detail}`.trim()), { status: response.status, body });
}

export class Connection {
  /**
   * ask: consumer, token, topics, types, format, cursor ('' is from now on). Handlers: onEvent({id, type, text, subscriber,
   * time}), onReset({id, text}), onHeartbeat(id), onState(state, detail), onTransport(name), and blocked(): whether
   * what a stream brings is to be kept from the page, as by a proxy that buffers. It begins with run().
   */
  constructor(ask, handlers) {
    Object.assign(this, { ask, handlers, cursor: ask.cursor, retry: 1000, pollsUntil: 0 });
    this.ended = new AbortController();
  }

  /** Ends the connection; the cursor stays. */
  end() { this.ended.abort(); }

  /** Cuts what is under way, as a network would, and tries the stream again. */
  interrupt() {
    this.pollsUntil = 0;
    this.attempt?.abort();
  }

  async run() {
    for (let failures = 0; !this.ended.signal.aborted;) {
      this.attempt = new AbortController();
      this.got = false;
      let problem;
      const polls = Date.now() < this.pollsUntil;
      try {
        if (polls) await this.poll(); else await this.stream();
      } catch (error) {
        problem = error;
      }
      if (this.ended.signal.aborted) return;
      if (problem?.final) return this.handlers.onState('refused', problem.message);
      if (polls && (!problem || this.attempt.signal.aborted)) continue;
      if (this.stuck) {
        this.stuck = false;
        this.pollsUntil = Date.now() + POLLING;
        this.began = Date.now();
        continue;
      }
      if (this.attempt.signal.aborted && !problem?.status && this.got) continue; // cut on purpose
      failures = this.got ? 0 : failures + 1;
      const pause = Math.min(this.retry * 2 ** Math.min(failures, 4), 15_000) * (0.5 + Math.random() / 2);
      this.handlers.onState('waiting', `${problem?.message ?? 'the service ended the stream'}; again in ${(pause / 1000).toFixed(1)} s`);
      await new Promise(resolve => {
        const timer = setTimeout(resolve, pause);
        for (const controller of [this.ended, this.attempt]) {
          controller.signal.addEventListener('abort', () => { clearTimeout(timer); resolve(); }, { once: true });
        }
      });
    }
  }

  url(path) {
    const query = new URLSearchParams();
    if (this.cursor !== '') query.set('after', this.cursor);
    for (const name of ['topics', 'types']) if (this.ask[name]) query.set(name, this.ask[name]);
    if (this.ask.format !== 'payload' && path === 'events') query.set('format', this.ask.format);
    return `${path}?${query}`;
  }

  async fetch(url, accept, ...signals) {
    const { token, consumer, topics } = this.ask;
    const headers = { Accept: accept, ...token ? { Authorization: `Bearer ${token}` } : { 'X-Consumer-Id': consumer } };
    if (topics && !token) headers['X-Consumer-Topics'] = topics; // here the page stands for the gateway
    const response = await fetch(url, { headers, signal: AbortSignal.any([this.ended.signal, this.attempt.signal, ...signals]), cache: 'no-store' });
    if (response.ok) return response;
    const error = await refusal(response);
    throw Object.assign(error, { final: [400, 401, 403, 404, 422].includes(error.status) });
  }

  async stream() {
    this.polling = false;
    this.handlers.onState('connecting', 'to the stream');
    this.began = Date.now();
    const expect = (ms, stuck) => setTimeout(() => { this.stuck = stuck; this.attempt.abort(); }, ms);
    let watchdog = expect(FIRST_FRAME, true);
    try {
      const response = await this.fetch(this.url('events'), 'text/event-stream');
      for await (const frame of frames(response.body)) {
        if (this.handlers.blocked()) continue;
        clearTimeout(watchdog);
        watchdog = expect(SILENCE, false);
        if (frame.retry) this.retry = Number(frame.retry);
        if (frame.data === undefined) continue;
        if (!this.got) {
          this.handlers.onTransport('SSE');
          this.handlers.onState('live', '');
        }
        this.got = true;
        this.take(frame);
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  take({ id, event, data }) {
    if (id !== undefined) this.cursor = id;
    if (event === 'heartbeat') return this.handlers.onHeartbeat(this.cursor);
    if (event === 'reset') return this.handlers.onReset({ id: this.cursor, text: data });
    const { format } = this.ask, e = format === 'payload' ? {} : JSON.parse(data);
    this.handlers.onEvent({ id, type: event, text: data, subscriber: e.subscriber ?? e.subject, time: e.timestamp ?? e.time });
  }

  async poll() {
    this.handlers.onTransport('long-poll');
    // The first one is answered at once, which shows whether polls get through.
    const wait = this.polling ? WAIT : 0;
    if (!this.polling) this.handlers.onState('connecting', 'by polling');
    this.polling = false;
    try {
      const response = await this.fetch(`${this.url('events/poll')}&wait=${wait}`, 'application/json', AbortSignal.timeout(wait * 1000 + SILENCE));
      const answer = JSON.parse(await response.text(), exact);
      this.polling = true;
      this.handlers.onState('live', 'SSE did not get through');
      for (const event of answer.events) {
        const text = JSON.stringify(this.ask.format === 'payload' ? event.payload : event);
        this.handlers.onEvent({ id: String(event.id?.rawJSON ?? event.id), type: event.type, text, subscriber: event.subscriber, time: event.timestamp });
      }
      this.cursor = String(answer.cursor?.rawJSON ?? answer.cursor);
      this.got = true;
      this.handlers.onHeartbeat(this.cursor);
    } catch (error) {
      if (error.status !== 410) throw error;
      const gone = JSON.parse(error.body);
      this.cursor = String(gone.reason === 'ahead' ? gone.newest : gone.oldest);
      this.handlers.onReset({ id: this.cursor, text: error.body });
    }
  }
}
