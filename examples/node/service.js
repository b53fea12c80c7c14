// A service that works off events, beside `make run`:
//
//   EVENT_PIPER_URL=http://localhost:4000/events CONSUMER=toto node examples/node/service.js
//
// Its cursor is in a file. It is written after the work is done: work that a crash interrupts is done again.
import { readFile, rename, writeFile } from 'node:fs/promises';
import { subscribe } from '../../clients/js/index.js';

const { EVENT_PIPER_URL = 'http://localhost:4000/events', CONSUMER = 'toto', CURSOR_FILE = 'node.cursor' } = process.env;
const end = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => end.abort());

const { done } = subscribe(EVENT_PIPER_URL, {
  headers: () => ({ 'X-Consumer-Id': CONSUMER }), // with AUTH=jwt: { Authorization: `Bearer ${token}` }
  after: 0,
  storage: {
    getItem: () => readFile(CURSOR_FILE, 'utf8').catch(() => null),
    setItem: async (_, cursor) => {
      await writeFile(`${CURSOR_FILE}.new`, cursor);
      await rename(`${CURSOR_FILE}.new`, CURSOR_FILE);
    },
  },
  on: {
    'order.placed': async ({ id, payload }) => console.log(`${id}: pack ${payload.item}`),
    'order.paid': async ({ id, payload }) => console.log(`${id}: ship ${payload.item}`),
  },
  onReset: ({ reason, cursor }) => console.error(`events are missing up to ${cursor}: ${reason}`),
  signal: end.signal,
});
await done;
