// Receives events with the EventSource of a headless Chromium.
import { chromium } from 'playwright-core';

const url = process.env.EVENTS_URL;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: process.getuid() === 0 ? ['--no-sandbox'] : [], // which does not start as root
});
const page = await browser.newPage();
await page.exposeFunction('got', data => console.log(`got ${JSON.parse(data).token}`));
await page.exposeFunction('beat', () => console.log('beat'));
await page.goto(new URL('/manage/health', url).href); // a page of the same origin
await page.evaluate(url => {
  window.events = new EventSource(url);
  window.events.addEventListener('order', e => window.got(e.data));
  window.events.addEventListener('heartbeat', () => window.beat());
}, url);
