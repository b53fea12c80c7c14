// Runs each configuration, and looks at replay, live, an event of 2 MB, an idle stream, polls of two consumers, a client
// that leaves, and a service that is down. It prints a table of what was seen.
import assert from 'node:assert/strict';
import { freePort, insert, sql, startService, stopAll, until } from '../test/programs.js';
import { startProxy } from './proxies.js';

const eventStream = { Accept: 'text/event-stream' };

/** Opens a stream as a browser does. `text` is what has come. */
async function open(url, consumer, after) {
  const abort = new AbortController();
  const response = await fetch(`${url}/events${after === undefined ? '' : `?after=${after}`}`, { headers: { ...eventStream, 'X-Consumer-Id': consumer }, signal: abort.signal });
  const stream = { status: response.status, text: '', close: () => abort.abort() };
  const decoder = new TextDecoder();
  (async () => { for await (const bytes of response.body) stream.text += decoder.decode(bytes, { stream: true }); })()
    .catch(() => {}).finally(() => { stream.ended = true; });
  return stream;
}

async function look(name) {
  const servicePort = await freePort(), port = await freePort();
  let service = await startService(servicePort, { HEARTBEAT_INTERVAL: '1s' });
  const proxy = await startProxy(name, port, servicePort);
  const url = `http://localhost:${port}`, direct = `http://127.0.0.1:${servicePort}`;
  const sessions = async () => Number((await (await fetch(`${direct}/metrics`)).text()).match(/^event_piper_sessions (\d+)/m)[1]);
  const seen = { proxy: name };
  await until(`${name} passes requests on`, async () => (await fetch(`${url}/manage/health`)).ok || (await fetch(`${url}/events/poll?wait=0`)).status === 401);

  const consumer = `through-${name}`;
  const [one, two] = [await insert(consumer, 'a', '1'), await insert(consumer, 'a', '2')];
  const stream = await open(url, consumer, one - 1);
  await until('history is replayed', () => stream.text.includes(`id: ${one}\n`) && stream.text.includes(`id: ${two}\n`));
  seen.replay = 'yes';

  const three = await insert(consumer, 'live', '3');
  const inserted = Date.now();
  await until('an event comes live', () => stream.text.includes(`id: ${three}\nevent: live\ndata: 3\n\n`));
  seen.live = `${Date.now() - inserted} ms`;

  await sql(`insert into events (type, timestamp, subscriber, payload) values ('large', now(), :'v1', to_json(repeat('x', 2 << 20)));`, consumer);
  await until('2 MB come whole', () => /event: large\ndata: "x{2097152}"\n/.test(stream.text));
  seen['2 MB'] = 'whole';

  const beats = () => stream.text.match(/^event: heartbeat$/gm).length;
  const before = beats();
  await until('heartbeats come while idle', () => beats() >= before + 3);
  seen.idle = 'heartbeats';

  const poll = who => fetch(`${url}/events/poll?wait=200`, { headers: { 'X-Consumer-Id': `${consumer}-${who}` } }).then(r => r.json());
  const first = poll('first'), second = poll('second');
  await until('two polls and a stream wait', async () => await sessions() === 3);
  await insert(`${consumer}-second`, 'a', '1');
  assert.equal((await second).events.length, 1);
  await insert(`${consumer}-first`, 'a', '1');
  assert.equal((await first).events.length, 1);
  seen['two polls'] = 'side by side';

  await until('one session is left', async () => await sessions() === 1);
  stream.close();
  await until('the stream of a client that left is ended', async () => await sessions() === 0);
  // A proxy that looks only when it has something to send notices nothing while a poll waits.
  const abort = new AbortController();
  const wait = name === 'varnish' ? 5 : 200; // it never looks
  const gone = fetch(`${url}/events/poll?wait=${wait}`, { headers: { 'X-Consumer-Id': consumer }, signal: abort.signal }).catch(() => {});
  await until('a poll waits', async () => await sessions() === 1);
  const left = Date.now();
  abort.abort();
  await gone;
  await until('the poll of a client that left is ended', async () => await sessions() === 0);
  seen['client gone'] = `seen after ${Date.now() - left} ms`;

  const waiting = await open(url, consumer);
  await until('the stream has begun', () => waiting.text.includes('heartbeat'));
  await service.stop();
  await until('the stream ends with the service', () => waiting.ended);
  const down = async () => {
    const response = await fetch(`${url}/events`, { headers: { ...eventStream, 'X-Consumer-Id': consumer } });
    return `${response.status} ${await response.text()}`.split('\n')[0];
  };
  if (name === 'varnish') seen.down = await down().catch(() => 'connection ends');
  else seen.down = await until('a stream is told to come again', async () => {
    const answer = await down();
    return /^200 retry: \d+$/.test(answer) && answer;
  });
  const polled = await fetch(`${url}/events/poll?wait=0`, { headers: { 'X-Consumer-Id': consumer } });
  assert.ok([502, 503].includes(polled.status), `a poll is answered ${polled.status}`);
  seen['down, poll'] = `${polled.status}`;
  service = await startService(servicePort);
  const again = await until('a stream is served again', async () => {
    const s = await open(url, consumer, two);
    await until('its first frame comes', () => s.text.includes('event: ') || s.ended);
    return s.text.includes(`id: ${three}\n`) && s;
  });
  again.close();
  seen['up again'] = 'streams';
  await Promise.all([proxy.stop(), service.stop()]);
  return seen;
}

try {
  const seen = [];
  for (const name of process.argv.slice(2)) seen.push(await look(name).catch(error => { throw new Error(`${name}: ${error.message}`, { cause: error }); }));
  const columns = Object.keys(seen[0]);
  const widths = columns.map(c => Math.max(c.length, ...seen.map(s => s[c].length)));
  for (const row of [columns, ...seen.map(s => columns.map(c => s[c]))]) console.error(row.map((cell, i) => cell.padEnd(widths[i])).join('  ').trimEnd());
  console.log(`${process.argv.slice(2).join(', ')}: replay, live, 2 MB, idle, polls, client gone, service down`);
} finally {
  await stopAll();
}
