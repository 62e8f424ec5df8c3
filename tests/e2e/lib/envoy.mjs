// Envoy from a file of deploy/envoy, Doorward from the one beside it, both as they are but for addresses, names and paths;
// a provider and an application around them.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Jar } from './jar.mjs';
import { freePort, start, until } from './process.mjs';
import { CLIENT, MANY_GROUPS, startProvider } from './provider.mjs';
import { certificate, DOORWARD, SESSION_KEY, startApplication } from './world.mjs';

const E2E = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const RECIPE = path.join(E2E, '../../deploy/envoy');
const ENVOY = process.env.ENVOY ?? path.join(E2E, '.venv/bin/envoy');

// https: hence the prefix.
export const SESSION_COOKIE = /^__Host-doorward(\.\d+)?$/;

const PEOPLE = {
  alice: { email: 'alice@example.test', groups: ['admins', 'staff'] },
  bob: { email: 'bob@example.test', groups: ['staff'] },
  user0: { groups: ['staff'] }, // no e-mail
  many: { email: 'many@example.test', groups: MANY_GROUPS },
};

// `kind`: http or grpc. `accessToken`: seconds. `session`: { key: value } of [session]. `routes`: more of them. `edit`:
// changes Envoy's file.
export async function envoyWorld(kind, { accessToken = 600, session = {}, routes = '', edit } = {}) {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'doorward-envoy-'));
  const ports = {};
  for (const name of ['https', 'http', 'app', 'doorward', 'grpc', 'admin', 'provider']) ports[name] = await freePort();
  const host = `127.0.0.1:${ports.https}`;
  const origin = `https://${host}`;
  const admin = `http://127.0.0.1:${ports.admin}`;
  const files = { doorward: path.join(dir, 'doorward.toml'), envoy: path.join(dir, 'envoy.yaml') };
  const pair = await certificate(dir);
  const children = [];

  const w = {
    host,
    origin,
    port: ports.https,
    plainPort: ports.http,
    directPort: ports.doorward,

    async startDoorward() {
      const env = {
        ...process.env,
        DOORWARD_ADMIN__LISTEN: `127.0.0.1:${ports.admin}`,
        DOORWARD_SERVER__LIMITS__LOGINS_PER_MINUTE: '10000',
        ...Object.fromEntries(Object.entries(session).map(([key, value]) => [`DOORWARD_SESSION__${key.toUpperCase()}`, value])),
      };
      w.doorward = start(DOORWARD, ['serve', '--config', files.doorward], { env });
      children.push(w.doorward);
      await until('Doorward to be ready', () => {
        if (!w.doorward.running()) throw new Error(w.doorward.output.stderr);
        return answers(`${admin}/readyz`);
      });
    },

    // What the application received, oldest first: { method, path, headers: [[name, value]] }.
    async appLog() {
      const text = await readFile(path.join(dir, 'app.log'), 'utf8');
      return text.split('\n').filter(Boolean).map((line) => JSON.parse(line));
    },

    // One request with the path as written, which `fetch` would tidy up: { status, headers, text }. A request that Envoy
    // resets has no status.
    send(target, { method = 'GET', headers = {}, cookie, body } = {}) {
      return new Promise((resolve) => {
        const request = https.request({
          host: '127.0.0.1', port: ports.https, path: target, method, agent: false, rejectUnauthorized: false,
          headers: { host, accept: '*/*', ...(cookie && { cookie }), ...headers },
        });
        request.on('error', (error) => resolve({ error, headers: {} }));
        request.on('response', async (response) => {
          const text = Buffer.concat(await response.toArray()).toString();
          resolve({ status: response.statusCode, headers: response.headers, text });
        });
        request.end(body);
      });
    },

    // The answer to a WebSocket handshake: its status, 101 if it was taken.
    upgrade(target, headers) {
      return new Promise((resolve, reject) => {
        const request = https.get({
          host: '127.0.0.1', port: ports.https, path: target, agent: false, rejectUnauthorized: false,
          headers: { host, connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==', ...headers },
        });
        request.on('upgrade', (_response, socket) => {
          socket.destroy();
          resolve(101);
        });
        request.on('response', (response) => resolve(response.resume().statusCode));
        request.on('error', reject);
      });
    },

    // A jar in which `user` is signed in.
    async signIn(user, target = '/') {
      const jar = new Jar();
      const answer = await jar.signIn(w, user, `${origin}${target}`);
      if (answer.location !== `${origin}${target}`) throw new Error(`${user} was not signed in: ${answer.status} ${answer.text}`);
      return jar;
    },

    cookie: (jar) => jar.header(new URL(origin)),

    async stop() {
      await Promise.all(children.map((child) => child.stop()));
      await w.provider?.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };

  try {
    await writeFile(path.join(dir, 'client-secret'), CLIENT.secret);
    await writeFile(path.join(dir, 'session-key'), SESSION_KEY);
    await recipe('doorward.toml', files.doorward, {
      'https://app.example.com': origin,
      'https://id.example.com/realms/main': `http://localhost:${ports.provider}`,
      '/run/secrets': dir,
      '127.0.0.1:4180': `127.0.0.1:${ports.doorward}`,
      '127.0.0.1:9191': `127.0.0.1:${ports.grpc}`,
    }, (text) => text + routes);
    await recipe(`envoy-${kind}.yaml`, files.envoy, {
      'app.example.com': host,
      '/etc/envoy/tls.crt': pair.cert,
      '/etc/envoy/tls.key': pair.key,
      'address: 0.0.0.0, port_value: 443 ': `address: 127.0.0.1, port_value: ${ports.https} `,
      'address: 0.0.0.0, port_value: 80 ': `address: 127.0.0.1, port_value: ${ports.http} `,
      'port_value: 3000 ': `port_value: ${ports.app} `,
      'port_value: 4180 ': `port_value: ${ports.doorward} `,
      ...(kind === 'grpc' && { 'port_value: 9191 ': `port_value: ${ports.grpc} ` }),
    }, edit);
    w.provider = await startProvider({
      port: ports.provider,
      origins: [origin],
      accessToken,
      demands: {
        configuration: {
          findAccount: (_ctx, id) => ({
            accountId: id,
            claims: () => ({ sub: id, preferred_username: id, ...PEOPLE[id], ...(PEOPLE[id].email && { email_verified: true }) }),
          }),
        },
      },
    });
    children.push(startApplication(ports.app, dir));
    await until('the application', () => answers(`http://127.0.0.1:${ports.app}/up`));
    await w.startDoorward();
    w.envoy = start(ENVOY, ['-c', files.envoy, '--disable-hot-restart', '--concurrency', '1', '--log-level', 'warn']);
    children.push(w.envoy);
    await until('Envoy to listen', async () => {
      if (!w.envoy.running()) throw new Error(w.envoy.output.stderr);
      return (await w.send('/public/up')).status === 200;
    });
  } catch (error) {
    await w.stop();
    throw error;
  }
  return w;
}

// A file of the recipe with each of `changes` made: one that is not there to be made is an error.
async function recipe(name, to, changes, edit = (text) => text) {
  let text = await readFile(path.join(RECIPE, name), 'utf8');
  for (const [from, replacement] of Object.entries(changes)) {
    if (!text.includes(from)) throw new Error(`${name} does not hold ${from}`);
    text = text.replaceAll(from, replacement);
  }
  await writeFile(to, edit(text));
}

async function answers(url) {
  return (await fetch(url)).ok;
}
