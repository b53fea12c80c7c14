// The tabs of the fault test (clients/faults): two, which share a connection. A line on standard input closes the
// oldest and opens another.
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  // The sandbox does not start as root, which is who CI often is. Nothing but this machine is to be reached.
  args: ['--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', '--disable-quic', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', ...process.getuid() === 0 ? ['--no-sandbox'] : []],
});
const context = await browser.newContext();
const tabs = [];
let opened = 0;

async function open() {
  const reader = `tab-${++opened}`;
  const page = await context.newPage();
  page.on('console', message => {
    const text = message.text();
    if (message.type() === 'log') console.log(text);
    else console.error(reader, text);
  });
  page.on('pageerror', error => console.error(reader, error));
  await page.goto(`${new URL('/test/page.html', process.env.EVENT_PIPER_URL)}?reader=${reader}`);
  tabs.push({ reader, page });
}

await open();
await open();
for await (const _ of createInterface(process.stdin)) {
  const { reader, page } = tabs.shift();
  await page.close();
  console.log(JSON.stringify({ reader, end: true }));
  await open();
}
await browser.close();
