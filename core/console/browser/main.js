// Uses every part of the console as somebody would who has just started the service. run.sh says what it finds
// in its environment.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';

const { EVENT_PIPER_URL: origin, DATABASE_URL: dsn, SCREENSHOTS: screenshots, CHROMIUM: executablePath } = process.env;
const psql = sql => promisify(execFile)('psql', [dsn, '-qtAXc', sql]);
const insert = (subscriber, type, payload = '{}') =>
  psql(`insert into events (type, timestamp, subscriber, payload) values ('${type}', clock_timestamp(), '${subscriber}', '${payload}')`);

const browser = await chromium.launch({
  executablePath,
  // No name of another host can be looked up. The sandbox does not start as root, which is who CI often is.
  args: ['--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', ...process.getuid() === 0 ? ['--no-sandbox'] : []],
});
const children = [];
setTimeout(() => { console.error('it takes too long'); process.exit(1); }, 900_000).unref(); // minutes on a busy machine
let step;
const at = name => console.error(step = name);
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 1000 }, permissions: ['clipboard-read', 'clipboard-write'] });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const requests = [], complaints = [];
  page.on('request', r => requests.push(r.url()));
  page.on('pageerror', e => complaints.push(e.message));
  page.on('console', m => m.type() === 'error' && complaints.push(m.text()));

  const watch = page.getByRole('region', { name: 'Watch' });
  const button = name => page.getByRole('button', { name, exact: true });
  const rows = page.locator('#events tr');
  const cell = (row, column) => rows.nth(row).locator('td').nth(column);
  const text = (selector, wanted) => page.waitForFunction(
    ([selector, source]) => new RegExp(source).test(document.querySelector(selector).textContent), [selector, wanted.source])
    .catch(async () => assert.fail(`${step}: ${selector} is ${await page.locator(selector).textContent()}, want ${wanted}`));
  const count = n => page.waitForFunction(n => document.querySelectorAll('#events tr').length === n, n)
    .catch(async () => assert.fail(`${step}: ${await rows.count()} events, want ${n}: ${await page.locator('#state').textContent()}`));
  const types = async () => (await rows.locator('td:nth-child(2)').allTextContents()).reverse();
  // What the page has said, as some of it stands there for a moment only.
  const said = async (act, wanted) => {
    const before = await page.evaluate(() => said.length);
    await act();
    await page.waitForFunction(([before, source]) => said.slice(before).some(text => new RegExp(source).test(text)), [before, wanted.source])
      .catch(async () => assert.fail(`${step}: the page has said ${await page.evaluate(() => said.join(' | '))}, want ${wanted}`));
  };
  const live = async transport => { await text('#state', /^live/); await text('#transport', new RegExp(`^${transport}$`)); };
  const connect = async (fields, transport = 'SSE') => {
    await button('Clear').click();
    for (const [name, value] of Object.entries({ Topics: '', Types: '', ...fields })) {
      const field = watch.locator(`[name=${name.toLowerCase()}]`);
      if (await field.evaluate(e => e.tagName) === 'SELECT') await field.selectOption(value); else await field.fill(value);
    }
    await button('Connect').click();
    await live(transport);
  };

  at('GET / leads to the console');
  await page.goto(`${origin}/`);
  assert.equal(page.url(), `${origin}/console`);
  await text('#service', /delivering/);
  await page.evaluate(() => {
    globalThis.said = [];
    for (const id of ['state', 'copied']) {
      const place = document.getElementById(id);
      new MutationObserver(() => said.push(`${id}: ${place.textContent}`)).observe(place, { childList: true, characterData: true, subtree: true });
    }
  });

  at('by keyboard alone: connect, insert, see it');
  await watch.getByLabel('Consumer').focus();
  await page.keyboard.press('Enter');
  await live('SSE');
  assert.deepEqual(await page.evaluate(() => said), ['state: connecting: to the stream', 'state: live'], 'it connects at once');
  await text('#heartbeat', /\d/);
  await page.getByRole('region', { name: 'Insert' }).getByLabel('Payload').fill('{"order": 17, "total": 42.50, "big": 12345678901234567890}');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await text('#inserted', /^Inserted/);
  await count(1);
  assert.equal(await cell(0, 1).textContent(), 'order.created');
  const format = await watch.locator('[name=format]').inputValue();
  assert.ok((await cell(0, 4).textContent()).includes('"total":42.50,"big":12345678901234567890'), 'the payload is exact');
  assert.equal(await page.locator('#cursor').textContent(), await cell(0, 0).textContent());
  if (format === 'event') {
    assert.match(await page.locator('#latency').textContent(), /^\d+ ms$/);
    assert.equal(await cell(0, 2).textContent(), 'toto');
  }
  const outlined = await button('Connect').evaluate(e => { e.focus(); return getComputedStyle(e).outlineStyle; });
  assert.equal(outlined, 'solid', 'the focus is seen');

  at('what cannot be inserted says why');
  const form = page.getByRole('region', { name: 'Insert' });
  await form.getByLabel('Type').fill('heartbeat');
  await button('Insert').click();
  await text('#inserted', /Refused: .*not reserved/);
  await form.getByLabel('Payload').fill('{');
  await button('Insert').click();
  await text('#inserted', /not JSON/);
  complaints.splice(0, 10, ...complaints.filter(c => !c.includes('422'))); // which Chromium logs of every failed request

  at('cut, and resume');
  await button('Cut the connection').click();
  await text('#state', /^cut/);
  await text('#sessions-note', /Nobody/);
  for (const n of [1, 2, 3]) await insert('toto', `while.cut.${n}`);
  assert.equal(await rows.count(), 1, 'events while it is cut');
  await page.keyboard.press('Enter'); // the focus has moved to the button that resumes
  await count(4);
  assert.deepEqual(await types(), ['order.created', 'while.cut.1', 'while.cut.2', 'while.cut.3']);
  await live('SSE');

  at('filter by type');
  await connect({ Types: 'order.paid', From: 'now' });
  await insert('toto', 'order.noted');
  await insert('toto', 'order.paid');
  await count(1);
  assert.deepEqual(await types(), ['order.paid']);
  const paid = Number(await cell(0, 0).textContent());

  at('replay from the start, and after an id');
  await connect({ From: 'start' });
  await count(6);
  await connect({ After: String(paid - 2) });
  assert.equal(await watch.locator('[name=from]').inputValue(), 'after');
  await count(2);
  assert.deepEqual(await types(), ['order.noted', 'order.paid']);

  at('a cursor that is ahead is said');
  await connect({ After: '999999' });
  await count(1);
  assert.match(await rows.first().textContent(), /reset.*ahead/);

  at('topics');
  await connect({ Topics: 'team-7', From: 'now' });
  await insert('team-7', 'for.the.team');
  await count(1);
  assert.deepEqual(await types(), ['for.the.team']);
  await text('#sessions', /team-7/);

  at('formats');
  for (const [name, wanted] of [['payload', /^\{"a":1\.0\}$/], ...format === 'event' ? [['event', /"subscriber":"toto"/], ['cloudevents', /"specversion":"1\.0"/]] : []]) {
    await connect({ Format: name, From: 'now' });
    await insert('toto', 'order.created', '{"a": 1.0}');
    await count(1);
    assert.match(await cell(0, 4).textContent(), wanted);
  }

  at('SSE that does not get through');
  await connect({ Format: format, From: 'now' });
  await watch.getByLabel('Block SSE').check();
  await live('long-poll');
  await insert('toto', 'by.poll', '{"total": 1.50}');
  await count(1);
  assert.match(await cell(0, 4).textContent(), /"total":1\.50/);
  await text('#sessions', /poll/);
  await watch.getByLabel('Block SSE').uncheck();
  await live('SSE');
  await insert('toto', 'by.stream');
  await count(2);
  assert.deepEqual(await types(), ['by.poll', 'by.stream']);

  at('a proxy that answers in place of the service, or keeps what it is asked');
  const own = /console\/(status|events)$/, kept = /\/events(\/poll)?\?/;
  await page.route(own, route => route.fulfill({ status: 502, contentType: 'text/html', body: '<html>Bad Gateway</html>' }));
  await text('#service', /does not answer: 502/);
  await form.getByLabel('Payload').fill('{}');
  await button('Insert').click();
  await text('#inserted', /^Refused: 502/);
  await page.unroute(own);
  await text('#service', /delivering/);
  complaints.splice(0, 100, ...complaints.filter(c => !c.includes('502')));
  await page.route(kept, () => {});
  await button('Connect').click();
  await text('#state', /^connecting: by polling/);
  await page.unroute(kept);
  await connect({ Format: format, From: 'now' });

  at('who holds the watermark back');
  const writer = spawn('psql', [dsn, '-qtAX'], { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(writer);
  const written = once(writer.stdout, 'data');
  writer.stdin.write("begin;\ninsert into events (type, timestamp, subscriber, payload) values ('slow', now(), 'titi', '{}');\nselect pg_backend_pid();\n");
  const pid = String((await written)[0]).trim();
  await insert('toto', 'waits');
  await text('#held-text', new RegExp(`process ${pid} .* [1-9]\\d* s: \\d+ positions? waits? for it`));
  await text('#writers', /^1$/);
  assert.match(await page.locator('#held pre').textContent(), new RegExp(`pid = ${pid}$`));
  assert.equal(await rows.count(), 0, 'events above the watermark');
  await page.screenshot({ path: `${screenshots}/held-back.png`, fullPage: true });
  writer.stdin.end('commit;\n');
  await text('#held-text', /No transaction/);
  await count(1);

  at('end a session');
  const other = spawn('curl', ['-sN', `${origin}/events`, '-H', 'X-Consumer-Id: titi'], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(other);
  let heard = '';
  other.stdout.on('data', data => { heard += data; });
  const closed = once(other, 'close');
  await button(/^End the session of titi/).click();
  const [code] = await closed;
  assert.equal(code, 0, 'curl ended in good order');
  assert.match(heard, /retry: \d+\n\n$/);
  await text('#ended', /titi was ended/);
  await page.waitForFunction(() => !document.querySelector('#sessions').textContent.includes('titi'));
  const before = await page.locator('#cursor').textContent();
  await said(() => button(/^End the session of toto/).click(), /^state: waiting/);
  await live('SSE');
  assert.ok(Number(await page.locator('#cursor').textContent()) >= Number(before));

  at('the chart');
  await psql(`insert into events (type, timestamp, subscriber, payload) select 'many', clock_timestamp(), 'toto', '{}' from generate_series(1, 50)`);
  await text('#chart-text', /^[5-9]\d events in the last minute, at most \d\d in a second/); // which may be two seconds' events
  assert.ok(await page.locator('#chart rect').count() > 2, 'bars');
  if (format === 'event') assert.ok(await page.locator('#chart polyline').count() > 0, 'a line');

  at('what is copied works');
  await button('Clear').click();
  await connect({ Consumer: "o'hara", From: 'now' });
  for (const title of ['psql', 'curl', 'JavaScript']) {
    await said(() => button(`Copy: ${title}`).click(), /^copied: Copied$/);
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.equal(copied, await page.locator('.command', { has: button(`Copy: ${title}`) }).locator('pre').textContent());
    if (title === 'psql') await promisify(execFile)('bash', ['-c', copied]);
    if (title === 'curl') {
      const curl = spawn('bash', ['-c', `exec ${copied} -s`], { stdio: ['ignore', 'pipe', 'inherit'] });
      children.push(curl);
      assert.match(String((await once(curl.stdout, 'data'))[0]), /event: heartbeat/);
      curl.kill();
    }
    await page.waitForFunction(() => ![...document.querySelectorAll('.command button')].some(b => b.textContent === 'Copied'));
  }
  await count(1);
  assert.match(await cell(0, 4).textContent(), /"foo":"bar"/);

  at('how it looks');
  await connect({ Consumer: 'toto', After: '', From: 'now' });
  const story = [['order.created', '{"order": 17, "total": 42.50}'], ['order.paid', '{"order": 17, "by": "card"}'], ['order.packed', '{"order": 17, "parcels": 2}'],
    ['order.created', '{"order": 18, "total": 7.90}'], ['order.shipped', '{"order": 17, "carrier": "pigeon"}']];
  await form.getByLabel('Type').fill('order.created');
  await form.getByLabel('Payload').fill('{"order": 19, "total": 120.00}');
  for (let i = 0; i < 20; i++) await insert('toto', ...story[i % story.length]);
  for (const consumer of ['titi', 'warehouse', 'billing']) {
    children.push(spawn('curl', ['-sN', `${origin}/events${consumer === 'billing' ? '?after=0' : ''}`, '-H', `X-Consumer-Id: ${consumer}`], { stdio: 'ignore' }));
  }
  await text('#sessions', /warehouse[^]*|billing/);
  await button('Insert').click();
  await count(21);
  await page.waitForTimeout(2000); // for the highlight of new rows to fade, and the chart to be drawn
  const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
  for (const [name, width, colorScheme] of [['light', 1280, 'light'], ['dark', 1280, 'dark'], ['phone', 360, 'light'], ['phone-dark', 360, 'dark']]) {
    await page.setViewportSize({ width, height: 1000 });
    await page.emulateMedia({ colorScheme });
    const wide = await page.evaluate(() => document.scrollingElement.scrollWidth);
    assert.ok(wide <= width, `${name}: the page is ${wide} pixels wide`);
    await page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });
    const found = await check(axe);
    assert.deepEqual(found, [], `${name}: what axe finds against WCAG 2.2 AA`);
  }
  await page.setViewportSize({ width: 1200, height: 900 });
  await page.emulateMedia({ colorScheme: 'light' });
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: `${screenshots}/readme.png` });
  const { size } = await stat(`${screenshots}/readme.png`);
  assert.ok(size < 150_000, `the screenshot of the README takes ${size} bytes`);

  // The policy of the page forbids scripts from elsewhere, so axe runs in a copy of what is shown.
  async function check(path) {
    const copy = await browser.newPage({ viewport: page.viewportSize(), colorScheme: await page.evaluate(() => matchMedia('(prefers-color-scheme: dark)').matches) ? 'dark' : 'light', bypassCSP: true });
    const css = await (await fetch(`${origin}/console/console.css`)).text();
    await copy.setContent((await page.content()).replace(/<link rel="stylesheet"[^>]*>|<script[^]*?<\/script>/g, ''));
    await copy.addStyleTag({ content: css });
    await copy.addScriptTag({ path });
    const { violations } = await copy.evaluate(() => globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
    await copy.close();
    return violations.map(v => `${v.id}: ${v.nodes.map(n => n.html.slice(0, 120)).join(' | ')}`);
  }

  at('nothing from elsewhere');
  assert.deepEqual(requests.filter(url => !url.startsWith(`${origin}/`) && !url.startsWith('data:')), []);
  assert.deepEqual(complaints.filter(c => !(format !== 'event' && c.includes('400'))), [], 'what the browser complains of');

  console.log(`${browser.version()}: all parts of the console, format ${format}; axe finds nothing in light and dark, on a desk and on a phone`);
} catch (error) {
  console.error(`${step}:`);
  await browser.contexts()[0]?.pages()[0]?.screenshot({ path: `${screenshots}/failed.png`, fullPage: true });
  throw error;
} finally {
  for (const child of children) child.kill();
  await browser.close();
}
