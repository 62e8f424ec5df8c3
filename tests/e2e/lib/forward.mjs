// Forward authentication: a provider, an application, Doorward with the configuration of a recipe, and another proxy that
// asks it. Browsers reach the proxy as https://app.example.com, which is a port of this machine.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import http2 from 'node:http2';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { promisify } from 'node:util';
import { Jar } from './jar.mjs';
import { CLIENT, startProvider } from './provider.mjs';
import { freePort, start, until } from './process.mjs';
import { recipe } from './recipe.mjs';
import { DOORWARD, SESSION_KEY, applicationLog, certificate, ok, startApplication } from './world.mjs';

export const HOST = 'app.example.com';
export const ORIGIN = `https://${HOST}`;

// The session cookie and its chunks, as they are named on https.
export const SESSION = /^__Host-doorward(\.\d+)?$/;
// And with session.cookie_domain.
export const SHARED_SESSION = /^doorward(\.\d+)?$/;

const XHR = { accept: '*/*', 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'same-origin', 'sec-fetch-dest': 'empty' };

// `name`: the recipe's directory in deploy/. `places(w)`: what its files name, and where that is here, beside what every
// doorward.toml names. `startProxy(w)`: a child of `start`; it listens on `w.port` for https. `provider`: options of
// `startProvider`; `env`: settings of Doorward's by environment variables; `toml`: more lines for its file.
export async function forwardWorld({ name, places = () => ({}), startProxy, provider = {}, env = {}, toml = '' }) {
  const dir = await mkdtemp(path.join(os.tmpdir(), `doorward-${name}-`));
  const ports = { doorward: await freePort(), admin: await freePort(), provider: await freePort(), app: await freePort(), proxy: await freePort(), plain: await freePort(), grpc: await freePort() };
  const children = [];
  const w = {
    dir: path.join(dir, 'recipe'),
    origin: ORIGIN,
    host: HOST,
    port: ports.proxy,
    ports,
    at: { [HOST]: ports.proxy },
    issuer: `http://localhost:${ports.provider}`,
    admin: `http://127.0.0.1:${ports.admin}`,
    app: `127.0.0.1:${ports.app}`,
    doorward: `127.0.0.1:${ports.doorward}`,

    jar: () => new Jar(w.at),
    appLog: () => applicationLog(dir),

    // What the application got while `action` ran.
    async during(action) {
      const before = (await w.appLog()).length;
      await action();
      return (await w.appLog()).slice(before);
    },

    async signedIn(user) {
      const jar = w.jar();
      const answer = await jar.signIn(w, user, `${ORIGIN}/`);
      if (answer.status !== 302) throw new Error(`${user} was not signed in: ${answer.status} ${answer.text}`);
      return jar;
    },

    // As a script of the page asks.
    xhr: (jar, target, { headers, ...more } = {}) => jar.request(`${ORIGIN}${target}`, { headers: { ...XHR, ...headers }, ...more }),

    // A request head as it is written; everything that came back. `from`: the client's address.
    raw: (target, lines = [], { method = 'GET', from } = {}) => overTls(ports.proxy,
      `${[`${method} ${target} HTTP/1.1`, `Host: ${HOST}`, ...lines, 'Connection: close'].join('\r\n')}\r\n\r\n`, from),

    // The status that answers a WebSocket handshake.
    handshake: (jar, headers, target = '/ws') => new Promise((resolve, reject) => {
      const request = https.get({
        host: '127.0.0.1', port: ports.proxy, servername: HOST, rejectUnauthorized: false, agent: false, path: target, ALPNProtocols: ['http/1.1'],
        headers: {
          host: HOST, cookie: jar.header(new URL(ORIGIN)), connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13',
          'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==', ...headers,
        },
      });
      request.on('upgrade', (answer, socket) => {
        socket.destroy();
        resolve(answer.statusCode);
      });
      request.on('response', (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      });
      request.on('error', reject);
    }),

    // The status that answers a WebSocket asked for over HTTP/2 (RFC 8441); 0 = the proxy has none or ends the stream.
    extendedConnect: (headers, target = '/ws') => new Promise((resolve, reject) => {
      const session = http2.connect(`https://127.0.0.1:${ports.proxy}`, { servername: HOST, rejectUnauthorized: false });
      const done = (status) => {
        session.destroy();
        resolve(status);
      };
      session.once('error', reject);
      session.once('remoteSettings', ({ enableConnectProtocol }) => {
        if (!enableConnectProtocol) return done(0);
        const stream = session.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'https', ':authority': HOST, ':path': target, 'sec-websocket-version': '13', ...headers });
        stream.once('response', (answer) => done(answer[':status'])).once('error', () => done(0));
      });
    }),

    async startDoorward() {
      const settings = {
        DOORWARD_ADMIN__LISTEN: `127.0.0.1:${ports.admin}`,
        DOORWARD_SERVER__LIMITS__LOGINS_PER_MINUTE: '10000',
        ...env,
      };
      w.gateway = start(DOORWARD, ['serve', '--config', path.join(w.dir, 'doorward.toml')], { env: { PATH: process.env.PATH, ...settings } });
      children.push(w.gateway);
      await until('Doorward to be ready', () => {
        if (!w.gateway.running()) throw new Error(w.gateway.output.stderr);
        return ok(`${w.admin}/readyz`);
      });
    },

    async stop() {
      await Promise.all(children.map((child) => child.stop()));
      await w.provider?.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };

  try {
    const pair = await certificate(dir, `DNS:${HOST}`);
    await recipe(name, w.dir, {
      'https://id.example.com/realms/main': w.issuer,
      '/run/secrets': dir,
      '127.0.0.1:4180': w.doorward,
      ...places({ ...w, ...pair }),
    });
    await writeFile(path.join(dir, 'client-secret'), CLIENT.secret);
    await writeFile(path.join(dir, 'session-key'), SESSION_KEY);
    if (toml) await writeFile(path.join(w.dir, 'doorward.toml'), toml, { flag: 'a' });
    w.provider = await startProvider({ port: ports.provider, origins: [ORIGIN], ...provider });
    children.push(startApplication(ports.app, dir));
    await until('the application', () => ok(`http://${w.app}/up`));
    await w.startDoorward();
    await mkdir(path.join(dir, 'tmp'));
    const proxy = await startProxy({ ...w, ...pair, tmp: path.join(dir, 'tmp') });
    w.proxy = proxy;
    children.push(proxy);
    await until(`${name} to answer`, async () => {
      if (!proxy.running()) throw new Error(proxy.output.stderr);
      return w.raw('/oauth2/none');
    });
  } catch (error) {
    await w.stop();
    throw error;
  }
  return w;
}

// `doorward check` of a recipe's configuration.
export const check = (file) => promisify(execFile)(DOORWARD, ['check', '--config', file]);

// Sends `bytes` (latin1) and resolves to everything that came back.
function overTls(port, bytes, from) {
  return new Promise((resolve, reject) => {
    const place = { port, host: '127.0.0.1', localAddress: from, servername: HOST, rejectUnauthorized: false };
    const socket = tls.connect(place, () => socket.write(bytes, 'latin1'));
    const chunks = [];
    const done = () => {
      socket.destroy();
      resolve(Buffer.concat(chunks).toString('latin1'));
    };
    socket.setTimeout(30_000, () => {
      socket.destroy();
      reject(new Error(`no end to the answer of ${JSON.stringify(bytes.slice(0, 200))}`));
    });
    socket.on('data', (chunk) => chunks.push(chunk)).on('end', done);
    socket.on('error', (error) => (error.code === 'ECONNRESET' && chunks.length ? done() : reject(error)));
  });
}

// The values the application got under any spelling of `name`.
export function values(line, name) {
  const spelling = (text) => text.toLowerCase().replace(/[^a-z0-9]/g, '-');
  return line.headers.filter(([key]) => spelling(key) === spelling(name)).map(([, value]) => value);
}
