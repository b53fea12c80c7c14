// Receives events with EventSource in a headless Chromium, across a restart of the service, and opens /docs
// without a network. ../run.sh says what it finds in its environment.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';
import { freePort } from '../../../examples/test/programs.js';

const consumer = process.env.CONSUMER;
const insert = type => promisify(execFile)(process.env.INSERT, [consumer, type, `{"type":"${type}"}`]);

/** Starts the service and returns how to stop it. */
async function start() {
  const env = { ...process.env, PORT: port, ADDRESS: '127.0.0.1', RETRY: '200ms', DRAIN_TIME: '500ms', LOG_FORMAT: 'json' };
  const service = spawn(process.env.STREAM, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(service, 'exit');
  const stop = async () => { service.kill('SIGTERM'); await ended; };
  const log = [];
  return new Promise((resolve, reject) => {
    ended.then(() => reject(new Error(`the service ended: ${log.join('\n')}`)));
    createInterface(service.stderr).on('line', line => {
      log.push(line);
      if (line.includes('"msg":"listening"')) resolve({ stop });
    });
  });
}

const port = await freePort();
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  // No name of another host can be looked up. The sandbox does not start as root, which is who CI often is.
  args: ['--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', ...process.getuid() === 0 ? ['--no-sandbox'] : []],
});
let service;
try {
  service = await start();
  const origin = `http://127.0.0.1:${port}`;
  // The header stands for the gateway in front, which EventSource has no other way to get.
  const page = await browser.newPage({ extraHTTPHeaders: { 'X-Consumer-Id': consumer } });
  const requests = [], complaints = [];
  page.on('request', r => requests.push(r));
  page.on('pageerror', e => complaints.push(e.message));
  page.on('console', m => m.type() === 'error' && complaints.push(m.text()));

  await page.goto(`${origin}/docs`);
  await page.locator('#operations-events-streamEvents').waitFor();
  await page.locator('#operations-events-pollEvents').waitFor();
  assert.deepEqual(complaints, [], 'what /docs complains of');
  assert.deepEqual(requests.map(r => r.url()).filter(url => !url.startsWith(`${origin}/`) && !url.startsWith('data:')), [], 'what /docs loads from elsewhere');

  const received = count => page.waitForFunction(count => window.received.length >= count && window.received, count).then(v => v.jsonValue());
  await page.evaluate(async () => {
    window.received = [];
    const events = window.events = new EventSource('/events?types=order.created,order.paid');
    for (const type of ['order.created', 'order.noted', 'order.paid']) {
      events.addEventListener(type, e => window.received.push({ type: e.type, id: e.lastEventId, data: JSON.parse(e.data) }));
    }
    await new Promise(resolve => events.addEventListener('open', resolve, { once: true }));
  });
  await insert('order.created');
  const [first] = await received(1);

  await service.stop();
  await insert('order.noted');
  await insert('order.paid');
  service = await start();
  await received(2);
  await insert('order.created');
  const all = await received(3);
  await page.evaluate(() => window.events.close());

  assert.deepEqual(all.map(e => e.type), ['order.created', 'order.paid', 'order.created'], 'events before, during and after the restart');
  assert.ok(all.every((e, i) => e.data.type === e.type && (i === 0 || +e.id > +all[i - 1].id)), JSON.stringify(all));
  const cursors = await Promise.all(requests.filter(r => r.url().includes('/events?')).map(async r => (await r.allHeaders())['last-event-id']));
  assert.equal(cursors[0], undefined, 'Last-Event-ID of the first request');
  assert.ok(cursors.slice(1).includes(first.id), `Last-Event-ID of the requests: ${cursors}, want ${first.id} after the restart`);

  console.log(`${browser.version()}: EventSource resumed with Last-Event-ID after a restart; /docs needs no other host`);
} finally {
  await browser.close();
  await service?.stop();
}
