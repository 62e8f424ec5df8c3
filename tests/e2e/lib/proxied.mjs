// A proxy that asks Doorward and sends requests to the application itself: both as a recipe of deploy/ configures them,
// with this machine's addresses, names and files in place of those of the recipe, and nothing else changed.
import https from 'node:https';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, start, until } from './process.mjs';
import { CLIENT, startProvider } from './provider.mjs';
import { DOORWARD, SESSION_KEY, certificate, startApplication } from './world.mjs';

const E2E = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const DEPLOY = path.join(E2E, '../../deploy');

// A program that came with the Python packages.
export const program = (name) => path.join(E2E, '.venv/bin', name);

export const SESSION_COOKIE = /^__Host-doorward(\.\d+)?$/;

// `recipe`: its directory in deploy/. `proxy({ dir, port, origin, file, fill })` starts the proxy: `file(name, more)`
// resolves to one of the recipe's files for this machine, with `more` replaced in it, too; `fill(text, more)` is the same
// for a text. `provider`: options of `startProvider`. `env`: Doorward's environment. `routes`: further lines of its
// configuration.
export async function proxied({ recipe, proxy, provider: options = {}, env = {}, routes = '' }) {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'doorward-e2e-'));
  const ports = { proxy: await freePort(), gateway: await freePort(), admin: await freePort(), app: await freePort(), provider: await freePort() };
  const origin = `https://127.0.0.1:${ports.proxy}`;
  const here = {
    'https://app.example.com': origin,
    'app.example.com': '127.0.0.1',
    'https://id.example.com/realms/main': `http://localhost:${ports.provider}`,
    '127.0.0.1:4180': `127.0.0.1:${ports.gateway}`,
    '127.0.0.1:3000': `127.0.0.1:${ports.app}`,
    '/run/secrets': dir,
  };
  const fill = (text, more = {}) => replace(text, { ...here, ...more });
  const file = async (name, more) => fill(await readFile(path.join(DEPLOY, recipe, name), 'utf8'), more);
  const children = [];
  const run = (child) => {
    children.push(child);
    return child;
  };

  const w = {
    dir,
    origin,
    host: `127.0.0.1:${ports.proxy}`,
    port: ports.proxy,
    issuer: here['https://id.example.com/realms/main'],
    // Where Doorward listens itself: only the proxy has business there.
    gatewayOrigin: `http://127.0.0.1:${ports.gateway}`,

    async appLog() {
      const log = await readFile(path.join(dir, 'app.log'), 'utf8');
      return log.split('\n').filter(Boolean).map((line) => JSON.parse(line));
    },

    async stop() {
      await Promise.all(children.map((child) => child.stop()));
      await w.provider?.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };

  try {
    w.provider = await startProvider({ port: ports.provider, origins: [origin], ...options });
    w.application = run(startApplication(ports.app, dir));
    const config = path.join(dir, 'doorward.toml');
    await writeFile(path.join(dir, 'client-secret'), CLIENT.secret);
    await writeFile(path.join(dir, 'session-key'), SESSION_KEY);
    await writeFile(config, `${await file('doorward.toml')}\n${routes}`);
    w.gateway = run(start(DOORWARD, ['serve', '--config', config], {
      env: { ...process.env, DOORWARD_ADMIN__LISTEN: `127.0.0.1:${ports.admin}`, DOORWARD_SERVER__LIMITS__LOGINS_PER_MINUTE: '10000', ...env },
    }));
    await certificate(dir);
    w.proxy = run(await proxy({ dir, port: ports.proxy, origin, file, fill }));
    await until('the application', async () => (await fetch(`http://127.0.0.1:${ports.app}/up`)).ok);
    await until('Doorward to be ready', async () => {
      if (!w.gateway.running()) throw new Error(w.gateway.output.stderr);
      return (await fetch(`http://127.0.0.1:${ports.admin}/readyz`)).ok;
    });
    await until('the proxy', async () => {
      if (!w.proxy.running()) throw new Error(w.proxy.output.stderr);
      return (await send(w, '/public/up')).status === 200;
    });
  } catch (error) {
    await w.stop();
    throw error;
  }
  return w;
}

// All at once: what was put in is not looked at again.
function replace(text, pairs) {
  const longestFirst = Object.keys(pairs).sort((a, b) => b.length - a.length);
  const any = new RegExp(longestFirst.map((key) => key.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|'), 'g');
  return text.replace(any, (found) => pairs[found]);
}

// One request over TLS, its path as it is; resolves to { status, headers, text }, a tunnel that was opened to 101.
export function send(w, at, { method = 'GET', headers = {}, cookie, body } = {}) {
  return new Promise((resolve, reject) => {
    const request = https.request({
      host: '127.0.0.1',
      port: w.port,
      path: at,
      method,
      agent: false,
      rejectUnauthorized: false,
      headers: { host: w.host, ...(cookie && { cookie }), ...headers },
    });
    request.on('error', reject);
    request.on('upgrade', (response, socket) => {
      socket.destroy();
      resolve({ status: 101, headers: response.headers, text: '' });
    });
    request.on('response', async (response) => {
      resolve({ status: response.statusCode, headers: response.headers, text: (await response.toArray()).join('') });
    });
    request.end(body);
  });
}

// The answer to a WebSocket handshake.
export function handshake(w, { origin = w.origin, ...more }) {
  return send(w, '/ws', {
    headers: {
      origin,
      connection: 'keep-alive, Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
    },
    ...more,
  });
}
