// Posts each event to a URL, in order, until that has answered with success; beside `make run`:
//
//   CONSUMER=toto WEBHOOK_URL=https://example.com/hook WEBHOOK_SECRET=… node examples/webhooks/bridge.js
//
// A webhook is delivered at least once: its receiver knows one that comes again by webhook-id. It is signed as
// https://www.standardwebhooks.com says.
import { createHmac } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { subscribe } from '../../clients/js/index.js';

const {
  EVENT_PIPER_URL = 'http://localhost:4000/events', CONSUMER = 'toto', CURSOR_FILE = 'webhooks.cursor', WEBHOOK_URL, WEBHOOK_SECRET,
} = process.env;
if (!WEBHOOK_URL || !WEBHOOK_SECRET) {
  console.error('WEBHOOK_URL and WEBHOOK_SECRET must be set');
  process.exit(2);
}
const end = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => end.abort());

async function post({ id, type, payload }) {
  const body = JSON.stringify({ type, data: payload });
  for (let failures = 0; ; failures++) {
    const timestamp = Math.floor(Date.now() / 1000);
    const signature = createHmac('sha256', WEBHOOK_SECRET).update(`${id}.${timestamp}.${body}`).digest('base64');
    try {
      const response = await fetch(WEBHOOK_URL, {
        method: 'POST', body, signal: AbortSignal.timeout(15_000), redirect: 'error',
        headers: { 'Content-Type': 'application/json', 'webhook-id': `${id}`, 'webhook-timestamp': `${timestamp}`, 'webhook-signature': `v1,${signature}` },
      });
      if (response.ok) return;
      console.error(`${id}: ${response.status}`);
    } catch (error) {
      console.error(`${id}: ${error.cause ?? error}`);
    }
    // Events wait for the one before them. Growing, jittered, at most a minute.
    await sleep(Math.min(1000 * 2 ** failures, 60_000) * (0.5 + Math.random() / 2), undefined, { signal: end.signal });
  }
}

await subscribe(EVENT_PIPER_URL, {
  headers: () => ({ 'X-Consumer-Id': CONSUMER }),
  after: 0,
  storage: {
    getItem: () => readFile(CURSOR_FILE, 'utf8').catch(() => null),
    setItem: async (_, cursor) => {
      await writeFile(`${CURSOR_FILE}.new`, cursor);
      await rename(`${CURSOR_FILE}.new`, CURSOR_FILE);
    },
  },
  onEvent: post,
  onReset: ({ reason, cursor }) => console.error(`events are missing up to ${cursor}: ${reason}`),
  signal: end.signal,
}).done.catch(error => { if (!end.signal.aborted) throw error; });
