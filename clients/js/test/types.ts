// Compiled, not run: what the types permit.
import { subscribe, type Event, type Reset } from '../index.js';

const subscription = subscribe('/events?types=a,b', {
  onEvent: (event: Event<{ n: number }>) => event.payload.n.toFixed(),
  on: { error: async event => console.log(event.id, event.type) },
  onReset: (reset: Reset) => reset.reason === 'pruned' && reset.cursor,
  onStatus: status => status === 'following',
  onError: error => error.status === 401,
  getState: async position => void position,
  headers: async () => ({ Authorization: 'Bearer …' }),
  request: { credentials: 'include' },
  storage: sessionStorage,
  signal: AbortSignal.timeout(1000),
  share: 'toto',
});
await subscription.done;
const cursor: number | undefined = subscription.cursor;
// @ts-expect-error: a cursor is a number
subscribe('/events', { after: '5' });
export { cursor };
