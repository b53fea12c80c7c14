// Starts a proxy with its configuration, on a port of its own.
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { start } from '../test/programs.js';

const here = new URL('.', import.meta.url).pathname;
const commands = {
  nginx: (file, _, folder) => ['nginx', ['-c', file, '-p', folder, '-e', 'stderr']],
  haproxy: file => ['haproxy', ['-q', '-f', file]],
  caddy: file => ['caddy', ['run', '--adapter', 'caddyfile', '--config', file]],
  varnish: (file, port, folder) => ['varnishd', ['-F', '-a', `127.0.0.1:${port}`, '-f', file, '-n', folder]],
};
const files = { nginx: 'nginx.conf', haproxy: 'haproxy.cfg', caddy: 'Caddyfile', varnish: 'varnish.vcl' };

/** Starts a proxy in front of a service. `change` is applied to what its configuration says. */
export async function startProxy(name, port, servicePort, change = text => text) {
  const folder = await mkdtemp(join(tmpdir(), `event-piper-${name}-`));
  await chmod(folder, 0o755); // varnishd reads as a user of its own
  const file = join(folder, files[name]);
  // HAProxy and Caddy listen on a name or an address of this machine: the port is all that changes.
  await writeFile(file, change(await readFile(here + files[name], 'utf8')).replace(/8080|4000/g, known => known === '8080' ? port : servicePort)
    .replaceAll('/tmp/event-piper-nginx.pid', join(folder, 'nginx.pid')));
  const program = start(...commands[name](file, port, folder), { HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder });
  return { stop: () => program.stop().then(() => rm(folder, { recursive: true, force: true })) };
}
