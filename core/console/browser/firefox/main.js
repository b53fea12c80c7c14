// Uses the console in a headless Firefox: insert, see it, cut, resume, and the way around SSE. What the page is for
// besides, ../main.js tries in Chromium.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import puppeteer from 'puppeteer-core';

const { EVENT_PIPER_URL: origin, DATABASE_URL: dsn, SCREENSHOTS: screenshots, FIREFOX: executablePath } = process.env;
const insert = type => promisify(execFile)('psql', [dsn, '-qtAXc',
  `insert into events (type, timestamp, subscriber, payload) values ('${type}', clock_timestamp(), 'firefox', '{}')`]);

const browser = await puppeteer.launch({
  browser: 'firefox', executablePath,
  extraPrefsFirefox: { 'network.dns.disabled': true }, // an address needs no name, and nothing else is to be asked
});
setTimeout(() => { console.error('it takes too long'); process.exit(1); }, 900_000).unref();
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(60_000);
  const complaints = [];
  page.on('pageerror', error => complaints.push(error.message));
  page.on('console', message => message.type() === 'error' && complaints.push(message.text()));
  const text = (selector, wanted) => page.waitForFunction(
    (selector, source) => new RegExp(source).test(document.querySelector(selector).textContent), {}, selector, wanted.source)
    .catch(async () => assert.fail(`${selector} is ${await page.$eval(selector, e => e.textContent)}, want ${wanted}`));
  const shows = async (...types) => {
    await page.waitForFunction(n => document.querySelectorAll('#events tr').length >= n, {}, types.length)
      .catch(() => {}); // what is missing is told below
    assert.deepEqual((await page.$$eval('#events td:nth-child(2)', cells => cells.map(c => c.textContent))).reverse(), types);
  };
  const fill = (selector, value) => page.locator(selector).fill(value);
  const click = selector => page.locator(selector).click();
  const live = async transport => { await text('#state', /^live/); await text('#transport', new RegExp(`^${transport}$`)); };

  await page.goto(`${origin}/console`);
  await fill('#watch [name=consumer]', 'firefox');
  await click('#connect');
  await live('SSE');
  await text('#heartbeat', /\d/);

  await fill('#insert [name=subscriber]', 'firefox');
  await fill('#insert textarea', '{"total": 42.50, "big": 12345678901234567890}');
  await click('#insert button');
  await text('#inserted', /^Inserted/);
  await shows('order.created');
  await text('#events td:nth-child(5)', /"total":42\.50,"big":12345678901234567890/);

  await click('#cut');
  await text('#state', /^cut/);
  for (const type of ['cut.1', 'cut.2']) await insert(type);
  await shows('order.created');
  await click('#resume');
  await shows('order.created', 'cut.1', 'cut.2');
  await live('SSE');

  await click('#block');
  await live('long-poll');
  await insert('by.poll');
  await shows('order.created', 'cut.1', 'cut.2', 'by.poll');
  await click('#block');
  await live('SSE');
  await insert('by.stream');
  await shows('order.created', 'cut.1', 'cut.2', 'by.poll', 'by.stream');

  await page.setViewport({ width: 360, height: 1000 });
  const wide = await page.evaluate(() => document.scrollingElement.scrollWidth);
  assert.ok(wide <= 360, `on a phone the page is ${wide} pixels wide`);
  await page.setViewport({ width: 1280, height: 1000 });
  await page.screenshot({ path: `${screenshots}/firefox.png`, fullPage: true });
  assert.deepEqual(complaints, [], 'what the browser complains of');
  console.log(`${await browser.version()}: inserted, seen, cut, resumed, and read by long-polling where SSE is blocked`);
} finally {
  await browser.close();
}
