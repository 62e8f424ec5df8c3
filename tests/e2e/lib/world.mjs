// A provider, an application and Doorward between them, on ports of their own: `await world(...)` in a test file's
// `before`, `stop()` in its `after`.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { CLIENT, startProvider } from './provider.mjs';
import { freePort, start, until } from './process.mjs';

const HERE = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');

export const DOORWARD = path.resolve(process.env.DOORWARD ?? path.join(HERE, '../../target/release/doorward'));

// The session cookie and its chunks; `doorward` because these tests speak plain http on loopback.
export const SESSION_COOKIE = /^doorward(\.\d+)?$/;
export const LOGIN_COOKIE = /^doorward\.login\./;

// `upstream`: a URL to forward to instead of starting the application. `provider`: false, or the options of
// `startProvider`. `port`: Doorward's own, if it has to be known before. `tls`: it speaks https; or the `cert` and `key` to do so with, and further lines as `more`. `backchannel`: the provider tells Doorward of logouts. `more`: further lines of TOML, `server`, `provider`,
// `session` (which replaces the keys: see `sessions`), `limits` and `routes` (a function of the upstream's URL).
export async function world({ client = CLIENT, provider: options = {}, backchannel, port, tls = false, upstream, more = {} } = {}) {
  const providerRuns = options !== false;
  const dir = await mkdtemp(path.join(os.tmpdir(), 'doorward-e2e-'));
  const ports = { gateway: port ?? (await freePort()), admin: await freePort(), provider: await freePort(), app: await freePort() };
  const origin = `${tls ? 'https' : 'http'}://127.0.0.1:${ports.gateway}`;
  const admin = `http://127.0.0.1:${ports.admin}`;
  const appUrl = upstream ?? `http://127.0.0.1:${ports.app}`;
  const issuer = `http://localhost:${ports.provider}`;
  const file = path.join(dir, 'doorward.toml');
  const children = [];
  let running = more;
  const pair = tls === true ? await certificate(dir) : tls;

  const w = {
    file,
    // What was started by `startProvider`; also when it is away.
    provider: undefined,
    origin,
    admin,
    appUrl,
    issuer,
    host: `127.0.0.1:${ports.gateway}`,
    port: ports.gateway,

    // The first time a new one; then again the one that `stopProvider` stopped, with what it knew.
    async startProvider() {
      if (w.provider) return w.provider.start();
      const logoutUri = backchannel ? `${origin}/oauth2/backchannel-logout` : undefined;
      w.provider = await startProvider({ port: ports.provider, origins: [origin], logoutUri, ...options });
      return undefined;
    },

    async stopProvider() {
      await w.provider.stop();
    },

    appLog: () => applicationLog(dir),

    // Doorward again, on the same ports, with other lines in its configuration.
    async restart(more = {}) {
      w.gateway.signal('SIGTERM');
      await w.gateway.ended;
      await w.startGateway(more);
      await until('Doorward to be ready', () => ok(`${admin}/readyz`));
    },

    async startGateway(more) {
      running = more;
      w.gateway = await startDoorward(file, ports, more);
    },

    // One more Doorward of the same site and configuration, on ports of its own: browsers would reach it by a balancer,
    // so what is sent to its `port` names the `host` of the first.
    async startReplica() {
      const own = { ...ports, gateway: await freePort(), admin: await freePort() };
      const ownFile = path.join(dir, `replica-${own.gateway}.toml`);
      const replica = { admin: `http://127.0.0.1:${own.admin}`, host: w.host, port: own.gateway };
      replica.reload = (more) => reload(replica, ownFile, own, more);
      replica.gateway = await startDoorward(ownFile, own, running);
      await until('the replica to be ready', () => ok(`${replica.admin}/readyz`));
      return replica;
    },

    // Other lines in the configuration, taken up without a restart.
    async reload(more) {
      running = more;
      await reload(w, file, ports, more);
    },

    // One line of /metrics; 0 when it is not there (yet).
    async metric(name, of = admin) {
      const text = await (await fetch(`${of}/metrics`)).text();
      return Number(text.split('\n').find((line) => line.startsWith(`${name} `))?.slice(name.length + 1) ?? 0);
    },

    async stop() {
      await Promise.all(children.map((child) => child.stop()));
      await w.provider?.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };

  async function reload(instance, file, ports, more) {
    const reloads = () => w.metric('doorward_reloads_total{outcome="ok"}', instance.admin);
    const before = await reloads();
    await writeFile(file, config({ origin, ports, issuer, client, appUrl, pair, more }));
    instance.gateway.signal('SIGHUP');
    await until('the reload', async () => (await reloads()) > before);
  }

  async function startDoorward(file, ports, more) {
    await writeFile(file, config({ origin, ports, issuer, client, appUrl, pair, more }));
    const child = start(DOORWARD, ['serve', '--config', file]);
    children.push(child);
    await until('Doorward to live', () => {
      if (!child.running()) throw new Error(child.output.stderr);
      return ok(`http://127.0.0.1:${ports.admin}/livez`);
    });
    return child;
  }

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

// One that no browser trusts: whoever visits has to ignore that.
export async function certificate(dir, name = 'IP:127.0.0.1') {
  const [cert, key] = [path.join(dir, 'tls.crt'), path.join(dir, 'tls.key')];
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', cert, '-days', '1'];
  await promisify(execFile)('openssl', [...args, '-subj', '/CN=doorward', '-addext', `subjectAltName=${name}`]);
  return { cert, key };
}

// Writes what it gets to app.log in `dir`.
export function startApplication(port, dir) {
  return start(
    path.join(HERE, '.venv/bin/python'),
    ['-m', 'uvicorn', 'app:app', '--host', '127.0.0.1', '--port', String(port), '--log-level', 'warning'],
    { cwd: HERE, env: { ...process.env, APP_LOG: path.join(dir, 'app.log'), PYTHONDONTWRITEBYTECODE: '1' } },
  );
}

// What the application received, oldest first: { method, path, headers: [[name, value]] }.
export async function applicationLog(dir) {
  const text = await readFile(path.join(dir, 'app.log'), 'utf8');
  return text.split('\n').filter(Boolean).map((line) => JSON.parse(line));
}

export async function ok(url) {
  return (await fetch(url)).ok;
}

export const SESSION_KEY = Buffer.from('end-to-end tests: 32 bytes long!').toString('base64url');

// The lines of [session] for a store; `redis`: the URL of one; `keys`: themselves, or { file }. `more`: further lines of
// the section.
export function sessions({ store, redis, keys = [SESSION_KEY], more = '' }) {
  const written = keys.map((key) => (key.file ? `{ file = ${JSON.stringify(key.file)} }` : JSON.stringify(key)));
  const lines = [`keys = [${written.join(', ')}]`, `store = "${store}"`, more];
  if (store === 'redis') lines.push('[session.redis]', `url = "${redis}"`);
  return lines.join('\n');
}

function config({ origin, ports, issuer, client, appUrl, pair, more }) {
  const toml = JSON.stringify; // a JSON string is a TOML basic string
  const route = (name, at, more) => `
[[route]]
name = "${name}"
path = "${at}"
upstream = "${appUrl}"
provider = "main"
identity = ["x-forwarded"]
${more}`;
  return `
[server]
listen = ["127.0.0.1:${ports.gateway}"]
public_url = "${origin}"
${more.server ?? ''}

${pair ? `[server.tls]\ncert = "${pair.cert}"\nkey = "${pair.key}"\n${pair.more ?? ''}` : ''}
[server.limits]
logins_per_minute = 10000
${more.limits ?? ''}

[admin]
listen = "127.0.0.1:${ports.admin}"

[provider.main]
issuer = "${issuer}"
client_id = ${toml(client.id)}
${client.secret ? `client_secret = ${toml(client.secret)}` : ''}
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
