// A provider, an application and Doorward between them, on ports of their own: `await world(...)` in a test file's
// `before`, `stop()` in its `after`.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { CLIENT, startProvider } from './provider.mjs';
import { freePort, start, until } from './process.mjs';

const HERE = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');

export const DOORWARD = path.resolve(process.env.DOORWARD ?? path.join(HERE, '../../target/release/doorward'));

// The session cookie and its chunks; `doorward` because these tests speak plain http on loopback.
export const SESSION_COOKIE = /^doorward(\.\d+)?$/;
export const LOGIN_COOKIE = /^doorward\.login\./;

// `upstream`: a URL to forward to instead of starting the application. `more`: further lines of TOML, `provider`,
// `session` (which replaces the keys) and `routes` (a function of the upstream's URL).
export async function world({ client = CLIENT, provider: providerRuns = true, upstream, more = {} } = {}) {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'doorward-e2e-'));
  const ports = { gateway: await freePort(), admin: await freePort(), provider: await freePort(), app: await freePort() };
  const origin = `http://127.0.0.1:${ports.gateway}`;
  const admin = `http://127.0.0.1:${ports.admin}`;
  const appUrl = upstream ?? `http://127.0.0.1:${ports.app}`;
  const issuer = `http://localhost:${ports.provider}`;
  const file = path.join(dir, 'doorward.toml');
  const children = [];
  let provider;

  const w = {
    origin,
    admin,
    appUrl,
    issuer,
    host: `127.0.0.1:${ports.gateway}`,
    port: ports.gateway,

    async startProvider() {
      provider = await startProvider({ port: ports.provider, origins: [origin] });
    },

    async stopProvider() {
      await provider?.stop();
      provider = undefined;
    },

    // What the application received, oldest first: { method, path, headers: [[name, value]] }.
    async appLog() {
      const text = await readFile(path.join(dir, 'app.log'), 'utf8');
      return text.split('\n').filter(Boolean).map((line) => JSON.parse(line));
    },

    // Doorward again, on the same ports, with other lines in its configuration.
    async restart(more = {}) {
      w.gateway.signal('SIGTERM');
      await w.gateway.ended;
      await w.startGateway(more);
      await until('Doorward to be ready', () => ok(`${admin}/readyz`));
    },

    async startGateway(more) {
      await writeFile(file, config({ origin, ports, issuer, client, appUrl, more }));
      w.gateway = start(DOORWARD, ['serve', '--config', file]);
      children.push(w.gateway);
      await until('Doorward to live', () => {
        if (!w.gateway.running()) throw new Error(w.gateway.output.stderr);
        return ok(`${admin}/livez`);
      });
    },

    async stop() {
      await Promise.all(children.map((child) => child.stop()));
      await w.stopProvider();
      await rm(dir, { recursive: true, force: true });
    },
  };

  if (providerRuns) await w.startProvider();

  try {
    if (upstream === undefined) {
      children.push(startApplication(ports.app, dir));
      await until('the application', () => ok(`${appUrl}/up`));
    }
    await w.startGateway(more);
    if (providerRuns) await until('Doorward to be ready', () => ok(`${admin}/readyz`));
  } catch (error) {
    await w.stop();
    throw error;
  }
  return w;
}

function startApplication(port, dir) {
  return start(
    path.join(HERE, '.venv/bin/python'),
    ['-m', 'uvicorn', 'app:app', '--host', '127.0.0.1', '--port', String(port), '--log-level', 'warning'],
    { cwd: HERE, env: { ...process.env, APP_LOG: path.join(dir, 'app.log'), PYTHONDONTWRITEBYTECODE: '1' } },
  );
}

async function ok(url) {
  return (await fetch(url)).ok;
}

export const SESSION_KEY = Buffer.from('end-to-end tests: 32 bytes long!').toString('base64url');

function config({ origin, ports, issuer, client, appUrl, more }) {
  const toml = JSON.stringify; // a JSON string is a TOML basic string
  const route = (name, at, more) => `
[[route]]
name = "${name}"
path = "${at}"
upstream = "${appUrl}"
identity = ["x-forwarded"]
${more}`;
  return `
[server]
listen = ["127.0.0.1:${ports.gateway}"]
public_url = "${origin}"

[server.limits]
logins_per_minute = 10000

[admin]
listen = "127.0.0.1:${ports.admin}"

[provider.main]
issuer = "${issuer}"
client_id = ${toml(client.id)}
client_secret = ${toml(client.secret)}
${more.provider ?? ''}

[session]
${more.session ?? `keys = ["${SESSION_KEY}"]`}
${route('app', '/', 'access = "authenticated"')}
${route('admin', '/admin', 'access = "policy"\nallow = [{ group = ["admins"] }]')}

[[route]]
name = "public"
path = "/public"
upstream = "${appUrl}"
access = "public"
${more.routes?.(appUrl) ?? ''}
`;
}
