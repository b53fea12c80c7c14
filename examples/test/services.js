// Runs an example of a service: events of before its start, live ones, ones of while it is down, and a restart of
// event-piper. It must have worked off each once: node services.js NAME COMMAND…
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, insert, start, startService, stopAll, until } from './programs.js';

const [name, command, ...args] = process.argv.slice(2);
const folder = await mkdtemp(join(tmpdir(), 'event-piper-example-'));
const port = await freePort(), consumer = `example-${name}`;
const secret = 'a secret';
const posted = [];
let answers = [500]; // the first attempt of all fails

// The receiver of webhooks.
const hook = createServer(async (request, response) => {
  let body = '';
  for await (const text of request) body += text;
  const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature } = request.headers;
  assert.equal(signature, `v1,${createHmac('sha256', secret).update(`${id}.${timestamp}.${body}`).digest('base64')}`);
  const status = answers.shift() ?? 204;
  if (status < 300) posted.push(`${id} ${JSON.parse(body).type} ${JSON.stringify(JSON.parse(body).data)}`);
  response.writeHead(status).end();
}).listen(0, '127.0.0.1');
await once(hook, 'listening');

const env = {
  EVENT_PIPER_URL: `http://127.0.0.1:${port}/events`, CONSUMER: consumer, CURSOR_FILE: join(folder, 'cursor'),
  WEBHOOK_URL: `http://127.0.0.1:${hook.address().port}/`, WEBHOOK_SECRET: secret,
};
const programs = [];
const run = () => { const program = start(command, args, env); programs.push(program); return program; };
const done = () => name === 'webhooks' ? posted : programs.flatMap(program => program.output.split('\n').slice(0, -1)); // whole lines
const want = [];
const place = async (type, item) => {
  const payload = `{"item":"${item}"}`;
  const id = await insert(consumer, type, payload);
  if (name === 'shell' || name === 'webhooks') want.push(`${id} ${type} ${payload}`);
  else if (type !== 'other') want.push(`${id}: ${type === 'order.paid' ? 'ship' : 'pack'} ${item}`);
};
const caughtUp = () => until(`${want.length} events are worked off: ${done().join('; ')}`, () => done().length >= want.length);

try {
  let service = await startService(port);
  await place('order.placed', 'tea');
  await place('other', 'nothing');
  let program = run();
  await caughtUp();
  await place('order.paid', 'tea');
  await caughtUp();

  await service.stop('SIGKILL');
  await place('order.placed', 'milk');
  service = await startService(port);
  await caughtUp();

  // What it has printed, it has also noted.
  await until('the cursor is noted', async () => Number(await readFile(env.CURSOR_FILE, 'utf8')) >= parseInt(want.at(-1)));
  await program.stop();
  await place('order.paid', 'milk');
  program = run();
  await caughtUp();
  assert.deepEqual(done(), want);
  console.log(`${want.length} events once each, over a restart of the service and of its own`);
} finally {
  await stopAll();
  hook.close();
  await rm(folder, { recursive: true, force: true });
}
