// Compiled, not run: what the types permit.
import { subscribe, type Event, type Reset } from '../index.js';

const subscription = subscribe('/events?types=a,b', {
  on: { error: async event => console.log(event.id, event.type), price: (event: Event<{ n: number }>) => event.payload.n.toFixed() },
  format: 'event',
  onEvent: event => [event.subscriber?.length, event.amends?.toFixed(), event.traceparent],
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
// @ts-expect-error: another format is another object
subscribe('/events', { format: 'cloudevents' });
export { cursor };
