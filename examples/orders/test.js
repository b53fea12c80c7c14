// Orders and pays in two tabs of Chromium, across a reload and restarts of the service and of the backend.
import assert from 'node:assert/strict';
import { freePort, start, startService, stopAll, until } from '../test/programs.js';

const { chromium } = await import(process.env.PLAYWRIGHT);
const [port, backend, eventPiper] = [await freePort(), await freePort(), await freePort()];
let service = await startService(eventPiper);
const example = { PORT: `${port}`, BACKEND_PORT: `${backend}`, EVENT_PIPER: `127.0.0.1:${eventPiper}` };
let orders = start(new URL('run.sh', import.meta.url).pathname, [], example);
const up = () => until('the page is there', async () => (await fetch(`http://localhost:${port}/`)).ok, 120_000);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost', '--disable-background-networking', ...process.getuid() === 0 ? ['--no-sandbox'] : []],
});
const complaints = [];
/** An EventSource beside the page's client: it ends for good at any status but 200. */
const listen = page => page.evaluate(() => {
  globalThis.seen = { events: [], errors: 0 };
  const source = globalThis.source = new EventSource('/events');
  for (const type of ['order.placed', 'order.paid']) source.addEventListener(type, event => seen.events.push(JSON.parse(event.data).item));
  source.addEventListener('heartbeat', () => { seen.begun = true; });
  source.onerror = () => { seen.errors++; };
});
/** Waits until it has come back in vain and not given up. */
const turnedAway = async (page, what) => {
  const errors = await page.evaluate(() => seen.errors);
  await page.waitForFunction(errors => seen.errors >= errors + 2 || source.readyState === EventSource.CLOSED, errors);
  assert.notEqual(await page.evaluate(() => source.readyState), 2, `the EventSource has given up while ${what} is down`);
};
try {
  await up();
  const context = await browser.newContext();
  const open = async () => {
    const page = await context.newPage();
    page.setDefaultTimeout(120_000);
    page.on('pageerror', error => complaints.push(error));
    await page.goto(`http://localhost:${port}/`);
    await page.fill('[name=customer]', 'alice');
    await page.click('text=Sign in');
    return page;
  };
  const place = (page, item) => page.fill('[name=item]', item).then(() => page.click('text="Order"'));
  const shows = async (page, ...rows) => {
    await page.waitForFunction(wanted => document.querySelectorAll('li span').length >= wanted, rows.length);
    await page.waitForFunction(rows => rows.every((row, i) => document.querySelectorAll('li span')[i]?.textContent === row), rows);
    assert.equal(await page.locator('li').count(), rows.length);
  };

  const denied = await fetch(`http://localhost:${port}/events`, { headers: { 'X-Consumer-Id': 'alice' } });
  assert.equal(denied.status, 401, 'who is not signed in is refused, whatever the header says');

  const first = await open();
  await first.locator('#status', { hasText: 'streaming' }).waitFor(); // it holds the connection of both
  const second = await open();
  const alice = `customer=${(await context.cookies()).find(cookie => cookie.name === 'customer').value}`;
  const granted = await fetch(`http://localhost:${port}/events/poll?wait=0&topics=team-7`, { headers: { Cookie: alice, 'X-Consumer-Topics': 'team-7' } });
  assert.equal(granted.status, 403, 'who is signed in follows no topic that she grants herself');
  await listen(second);
  await second.waitForFunction(() => seen.begun);
  await second.locator('#status', { hasText: 'following' }).waitFor();
  await place(first, 'tea');
  await shows(first, 'tea: placed');
  await shows(second, 'tea: placed');
  await second.click('text=Pay');
  await shows(first, 'tea: paid');

  await first.reload(); // the other tab reads on, now for both
  await shows(first, 'tea: paid');
  await second.locator('#status', { hasText: 'streaming' }).waitFor();

  await service.stop('SIGKILL'); // nginx says 502
  await place(first, 'milk');
  await second.locator('#status', { hasText: 'waiting' }).waitFor();
  await turnedAway(second, 'the service');
  service = await startService(eventPiper);
  await shows(first, 'tea: paid', 'milk: placed');
  await shows(second, 'tea: paid', 'milk: placed');

  await orders.stop(); // the backend and nginx
  orders = start(new URL('run.sh', import.meta.url).pathname, [], example);
  await up();
  await place(second, 'cake');
  await shows(first, 'tea: paid', 'milk: placed', 'cake: placed');
  await second.waitForFunction(() => seen.events.includes('cake'));
  assert.deepEqual(await second.evaluate(() => seen.events), ['tea', 'tea', 'milk', 'cake'], 'what the EventSource had');
  if (process.env.SCREENSHOT) await first.screenshot({ path: process.env.SCREENSHOT });
  assert.deepEqual(complaints, [], 'what the page complains of');
  console.log('two tabs had every order, across a reload and restarts of the service, nginx and the backend');
} finally {
  await browser.close();
  await stopAll();
}
