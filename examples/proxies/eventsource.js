// Lets a browser's EventSource follow through each proxy while what is behind it answers 429, 502, 503 or 504, hangs up,
// says nothing or refuses connections. It has to come back each time, and to miss no event.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { freePort, insert, startService, stopAll, until } from '../test/programs.js';
import { startProxy } from './proxies.js';

const { chromium } = await import(process.env.PLAYWRIGHT);

/** A gateway that passes requests of one consumer on, unless it is told to fail. */
async function startFaulty(port, servicePort, consumer) {
  const faulty = { fault: undefined, cut: () => server.closeAllConnections() };
  const server = http.createServer((request, response) => {
    const fault = request.url.startsWith('/events') && faulty.fault; // it stays healthy: HAProxy would say 503 itself
    if (fault === 'hangs up') return request.destroy();
    if (fault === 'says nothing') return;
    if (fault) return response.writeHead(fault, { 'Content-Type': 'text/plain', 'Retry-After': '7' }).end('not now\n');
    const headers = { ...request.headers, 'x-consumer-id': consumer };
    const passed = http.request({ port: servicePort, host: '127.0.0.1', path: request.url, headers }, answer => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
      answer.on('error', () => response.destroy());
    });
    passed.on('error', () => response.destroy());
    response.on('close', () => passed.destroy());
    passed.end();
  });
  faulty.listen = () => once(server.listen(port, '127.0.0.1'), 'listening');
  faulty.close = () => { const closed = once(server, 'close'); server.close(); server.closeAllConnections(); return closed; };
  await faulty.listen();
  return faulty;
}

async function look(browser, name, servicePort) {
  const port = await freePort(), behind = await freePort(), consumer = `eventsource-${name}`;
  const faulty = await startFaulty(behind, servicePort, consumer);
  // The times for which people would not like to wait here.
  const proxy = await startProxy(name, port, behind, text => text.replaceAll('310s', '2s').replaceAll('retry: 5000', 'retry: 100'));
  const url = `http://localhost:${port}`;
  await until(`${name} passes requests on`, async () => (await fetch(`${url}/events/poll?wait=0`)).ok);
  const page = await browser.newPage();
  page.setDefaultTimeout(120_000);
  await page.goto(`${url}/events/poll?wait=0`); // any page of this origin
  await page.evaluate(() => {
    globalThis.seen = { events: [], errors: 0 };
    const source = globalThis.source = new EventSource('/events');
    source.addEventListener('a', event => seen.events.push(event.data));
    source.addEventListener('heartbeat', () => { seen.begun = true; });
    source.onerror = () => { seen.errors++; };
  });
  await page.waitForFunction(() => seen.begun);

  // Varnish pipes streams, so it cannot change an answer. Caddy waits for as long as a client does.
  const faults = [429, 502, 503, 504, 'hangs up', 'says nothing', 'refuses'].filter(fault =>
    name === 'varnish' ? ['hangs up', 'refuses'].includes(fault) : name !== 'caddy' || fault !== 'says nothing');
  const inserted = [];
  for (const fault of faults) {
    const errors = await page.evaluate(() => seen.errors);
    if (fault === 'refuses') await faulty.close();
    else {
      faulty.fault = fault;
      faulty.cut();
    }
    // One for the stream that was cut, and one for each time that it came in vain.
    await page.waitForFunction(errors => seen.errors >= errors + 3 || source.readyState === EventSource.CLOSED, errors);
    assert.notEqual(await page.evaluate(() => source.readyState), 2, `the EventSource has given up: what is behind ${fault}`);
    if (typeof fault === 'number' && name !== 'varnish') {
      await until(`${name} tells a poll of the ${fault}`, async () => { // a proxy on a busy machine may have one of its own before
        const poll = await fetch(`${url}/events/poll?wait=0`);
        return poll.status === fault && poll.headers.get('Retry-After') === '7';
      });
    }
    inserted.push(`${inserted.length}`);
    await insert(consumer, 'a', inserted.at(-1));
    if (fault === 'refuses') await faulty.listen();
    faulty.fault = undefined;
    if (fault === 'says nothing') faulty.cut();
    await page.waitForFunction(n => seen.events.length >= n, inserted.length);
    assert.deepEqual(await page.evaluate(() => seen.events), inserted, `events after what is behind ${fault}`);
  }
  await page.close();
  await Promise.all([proxy.stop(), faulty.close()]);
  return `${name} (${faults.join(', ')})`;
}

const servicePort = await freePort();
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost', '--disable-background-networking', ...process.getuid() === 0 ? ['--no-sandbox'] : []],
});
try {
  await startService(servicePort, { HEARTBEAT_INTERVAL: '500ms' });
  const seen = [];
  for (const name of process.argv.slice(2)) seen.push(await look(browser, name, servicePort).catch(error => { throw new Error(`${name}: ${error.message}`, { cause: error }); }));
  console.log(`an EventSource comes back through ${seen.join('; ')}`);
} finally {
  await browser.close();
  await stopAll();
}
