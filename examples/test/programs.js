// Starts what the examples' tests need, and ends it with them.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

export const database = process.env.DATABASE_URL;
export const sql = async (statement, ...variables) => {
  const set = variables.flatMap((value, i) => ['--set', `v${i + 1}=${value}`]);
  const psql = promisify(execFile)('psql', [database, '--quiet', '--no-psqlrc', '--tuples-only', '--no-align', '--set', 'ON_ERROR_STOP=1', ...set]);
  psql.child.stdin.end(statement);
  return (await psql).stdout.trim();
};
export const insert = (consumer, type, payload) =>
  sql(`insert into events (type, timestamp, subscriber, payload) values (:'v2', now(), :'v1', :'v3') returning id;`, consumer, type, payload).then(Number);

/** A free port below those that systems hand out to clients: one of these could be given a server's while that is down. */
export async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    const server = createServer().listen(port, '127.0.0.1');
    try {
      await once(server, 'listening');
    } catch {
      continue; // it is taken
    }
    server.close();
    await once(server, 'close');
    return port;
  }
}

/** Waits until a function returns something true. */
export async function until(what, holds, patience = 120_000) {
  for (const end = Date.now() + patience; ;) {
    const value = await Promise.resolve().then(holds).catch(() => undefined);
    if (value) return value;
    if (Date.now() > end) throw new Error(`it did not come about that ${what}`);
    await sleep(50);
  }
}

const running = new Set();

/** Starts a program. What it prints is in `output`; what it complains of is shown. */
export function start(command, args, env = {}) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit'), closed = once(child, 'close');
  const program = { output: '', stop: async (signal = 'SIGTERM') => {
    child.kill(signal);
    await ended;
    // Its output is open for as long as anything that it started runs.
    const late = new AbortController();
    await Promise.race([closed, sleep(20_000, undefined, late).then(() => { throw new Error(`${command} has left something running`); })]);
    late.abort();
  } };
  child.stdout.on('data', text => { program.output += text; });
  running.add(program);
  ended.then(() => running.delete(program));
  return program;
}

export const stopAll = () => Promise.all([...running].map(program => program.stop()));

/** Starts the service, and returns when it is healthy. */
export async function startService(port, env = {}) {
  const program = start(process.env.STREAM, [], { PORT: `${port}`, ADDRESS: '127.0.0.1', DRAIN_TIME: '500ms', RETRY: '200ms', LOG_LEVEL: 'error', ...env });
  await until('the service is healthy', async () => (await fetch(`http://127.0.0.1:${port}/manage/health`)).ok);
  return program;
}
