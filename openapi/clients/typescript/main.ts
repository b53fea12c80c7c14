// Uses the types that openapi-typescript generates, with openapi-fetch, against a running service.
// ../run.sh says what it finds in its environment.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { EventSource } from 'eventsource';
import createClient from 'openapi-fetch';
import type { paths } from './schema.js';

const baseUrl = process.env.EVENT_PIPER_URL!;
const consumer = process.env.CONSUMER!;
const as = (name: string) => createClient<paths>({ baseUrl, headers: { 'X-Consumer-Id': name } });
const client = as(consumer);
type Query = NonNullable<paths['/events/poll']['get']['parameters']['query']>;

async function poll(query: Query, of = client) {
  const { data, error } = await of.GET('/events/poll', { params: { query } });
  if (!data) throw new Error(`poll: ${JSON.stringify(error)}`);
  return data;
}

const insert = (type: string, payload = '{}') => promisify(execFile)(process.env.INSERT!, [consumer, type, payload]);

const start = await poll({ wait: 0 });

// JSON.parse makes every number a double; who needs more digits asks for text and brings a parser of their own.
const exact = '{"z":123456789012345678901234567890,"a":0.1000000000000000055511151231257827,"m":1.50}';
const [waited] = await Promise.all([poll({ after: start.cursor }), insert('order.created', exact)]);
assert.deepEqual(waited.events.map(e => e.type), ['order.created'], 'a waiting poll answers what is inserted meanwhile');
assert.equal(waited.cursor, waited.events[0]!.id);
assert.deepEqual(waited.events[0]!.payload, JSON.parse(exact));
const text = await client.GET('/events/poll', { params: { query: { after: start.cursor } }, parseAs: 'text' });
assert.ok((text.data as string).includes(`"payload":${exact}}`), `payload is not exact in ${text.data}`);

await insert('order.noted');
await insert('order.paid');
const filtered = await poll({ after: waited.cursor, types: ['order.paid', 'order.refunded'] });
assert.deepEqual(filtered.events.map(e => e.type), ['order.paid'], 'types');

const paged: string[] = [];
for (let page = { cursor: start.cursor, more: true }; page.more;) {
  const next = await poll({ after: page.cursor, limit: 1 });
  paged.push(...next.events.map(e => e.type));
  page = next;
}
assert.deepEqual(paged, ['order.created', 'order.noted', 'order.paid'], 'page by page');

// What was missed, and then an event inserted while the stream is open.
const streamed = await new Promise<MessageEvent[]>((resolve, reject) => {
  const received: MessageEvent[] = [];
  const source = new EventSource(`${baseUrl}/events?after=${start.cursor}`, {
    fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, 'X-Consumer-Id': consumer } }),
  });
  source.onerror = e => { source.close(); reject(new Error(`stream: ${e.message}`)); };
  for (const type of ['order.created', 'order.noted', 'order.paid', 'order.shipped']) {
    source.addEventListener(type, e => {
      received.push(e);
      if (type === 'order.paid') insert('order.shipped').catch(reject);
      if (type === 'order.shipped') { source.close(); resolve(received); }
    });
  }
});
assert.deepEqual(streamed.map(e => e.type), ['order.created', 'order.noted', 'order.paid', 'order.shipped'], 'stream');
assert.equal(streamed[0]!.data, exact, 'the data of a stream is text, hence exact');
assert.equal(streamed[0]!.lastEventId, String(waited.cursor));

const nobody = await createClient<paths>({ baseUrl }).GET('/events/poll');
assert.equal(nobody.error?.status, 401, 'without a consumer');

const ahead = await client.GET('/events/poll', { params: { query: { after: 2 ** 48 } } });
assert.equal(ahead.error?.status, 410, 'a cursor that is ahead');
assert.equal(ahead.error?.reason, 'ahead');

const pruned = await as('pruned').GET('/events/poll', { params: { query: { after: 0 } } });
assert.equal(pruned.error?.status, 410, 'a cursor that was pruned');
assert.equal(pruned.error?.reason, 'pruned');
const rest = await poll({ after: pruned.error!.oldest! }, as('pruned'));
assert.deepEqual(rest.events.map(e => e.type), ['kept'], 'from oldest');

const wrong = await client.GET('/events/poll', { params: { query: { wait: 301 } } });
assert.equal(wrong.error?.status, 422, 'wait=301');
assert.equal(wrong.error?.errors?.[0]?.location, 'query.wait');

console.log('polled, filtered and streamed; numbers rounded by JSON.parse, exact as text; 401, 410 and 422 typed');
