// What an operator does while people work: new certificates and routes, and the restart of one instance of two. Nobody
// notices.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { Jar } from './lib/jar.mjs';
import { signIn, tally } from './lib/load.mjs';
import { NGINX } from './lib/nginx.mjs';
import { freePort, start, until } from './lib/process.mjs';
import { world } from './lib/world.mjs';

const run = promisify(execFile);
const RELOADS = 50;

let dir, upstream;
before(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'doorward-rolling-'));
  upstream = http.createServer((request, response) => {
    request.resume().on('end', () => response.end(`${request.method} ${request.url}`));
  });
  await new Promise((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  upstream.url = `http://127.0.0.1:${upstream.address().port}`;
});
after(async () => {
  upstream?.closeAllConnections();
  upstream?.close();
  if (dir) await rm(dir, { recursive: true });
});

// One request over TLS or not; resolves to { status, body, certificate }, or { error }.
function send({ protocol = http, port, host, cookie, agent, method = 'GET', path: target = '/', body }) {
  return new Promise((resolve) => {
    const headers = { host, accept: '*/*', ...(cookie && { cookie }) };
    const options = { host: '127.0.0.1', port, path: target, method, agent, headers, rejectUnauthorized: false };
    const request = protocol.request(options, (response) => {
      const certificate = response.socket.getPeerCertificate?.().fingerprint256;
      const parts = [];
      response.on('data', (part) => parts.push(part)).on('error', (error) => resolve({ error: error.code }));
      response.on('end', () => resolve({ status: response.statusCode, body: Buffer.concat(parts).toString(), certificate }));
    });
    request.on('error', (error) => resolve({ error: `${method} ${error.code ?? error.message}` }));
    request.end(body);
  });
}

// Each of `askers` (a function that resolves to an answer) again and again, until `stop`, which resolves to all answers.
function constantly(askers) {
  const answers = [];
  let over = false;
  const loops = askers.map(async (asker) => {
    while (!over) answers.push(await asker());
  });
  return {
    answers,
    async stop() {
      over = true;
      await Promise.all(loops);
      return answers;
    },
  };
}

// Some connections of HTTP/2, each with several requests at one time; what became of them.
async function h2load(url, cookie) {
  const { stdout } = await run('h2load', ['-n', '500', '-c', '4', '-m', '4', '-H', `cookie: ${cookie}`, url]);
  const [, succeeded, ...failed] = /, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout/.exec(stdout).map(Number);
  const others = /status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx/.exec(stdout).slice(1).map(Number);
  const isBad = !/Application protocol: h2\n/.test(stdout) || [...failed, ...others].some((count) => count > 0);
  return { succeeded, bad: isBad && stdout };
}

test('yx_09 certificates and routes change fifty times under load and no request fails', async () => {
  const routes = (n) => (url) => `
[[route]]
name = "changing"
path = "/changing"
upstream = "${url}/v${n}"
access = "authenticated"
[[route]]
name = "only-${n}"
path = "/only-${n}"
upstream = "status:204"
access = "public"
`;
  const w = await world({ tls: true, upstream: upstream.url, more: { routes: routes(0) } });
  let load, flood;
  const kept = new https.Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const jar = new Jar();
    assert.equal((await jar.signIn(w, 'alice', `${w.origin}/`)).status, 302);
    const cookie = jar.header(new URL(`${w.origin}/`));
    const at = { protocol: https, port: w.port, host: w.host, cookie, path: '/changing' };
    const fresh = () => new https.Agent({ keepAlive: false, maxCachedSessions: 0 });
    load = constantly([
      ...Array.from({ length: 4 }, () => () => send({ ...at, agent: kept })),
      ...Array.from({ length: 3 }, () => () => send({ ...at, agent: fresh() })),
    ]);
    flood = constantly([() => h2load(`${w.origin}/changing`, cookie)]);
    const place = path.dirname(w.file);
    for (let n = 1; n <= RELOADS; n += 1) {
      const next = path.join(dir, `${n}`);
      await mkdir(next);
      const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1', '-subj', '/CN=127.0.0.1'];
      const [crt, key] = ['tls.crt', 'tls.key'].map((name) => path.join(next, name));
      await run('openssl', [...args, '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', crt]);
      await copyFile(crt, path.join(place, 'tls.crt'));
      await copyFile(key, path.join(place, 'tls.key'));
      await w.reload({ routes: routes(n) });
      const now = await send({ ...at, agent: fresh(), path: `/only-${n}` });
      assert.equal(now.status, 204, 'the next connection has the new routes');
      const gone = await send({ ...at, agent: fresh(), path: `/only-${n - 1}` });
      assert.equal(gone.status, 200, 'and not the old ones: the application answers');
    }
    const answers = await load.stop();
    assert.deepEqual(Object.keys(tally(answers)), ['200'], JSON.stringify(tally(answers)));
    const floods = await flood.stop();
    const versions = new Set(answers.map(({ body }) => body));
    const certificates = new Set(answers.map(({ certificate }) => certificate));
    assert.ok(versions.size > RELOADS / 2, `${versions.size} versions were seen`);
    assert.ok(certificates.size > RELOADS / 2, `${certificates.size} certificates were seen`);
    assert.equal(await w.metric('doorward_reloads_total{outcome="error"}'), 0);
    const http2 = floods.reduce((sum, { succeeded }) => sum + succeeded, 0);
    console.log(`# ${answers.length} requests, and ${http2} of h2load; ${versions.size} versions of the route, ${certificates.size} certificates`);
    assert.deepEqual(floods.filter(({ bad }) => bad), []);
  } finally {
    await load?.stop();
    await flood?.stop();
    kept.destroy();
    await w.stop();
  }
});

test('one instance of two behind nginx ends and comes back under load, and no request fails', async () => {
  const more = { server: 'drain_delay = "1s"\ntrusted_proxies = ["127.0.0.1/32"]' };
  const w = await world({ upstream: upstream.url, more });
  const replica = await w.startReplica();
  const port = await freePort();
  const conf = path.join(dir, 'nginx.conf');
  // The defaults of proxy_next_upstream, max_fails and fail_timeout.
  await writeFile(conf, `
pid ${dir}/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path ${dir}/b; proxy_temp_path ${dir}/p; fastcgi_temp_path ${dir}/f; uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
  upstream doorward {
    server 127.0.0.1:${w.port};
    server 127.0.0.1:${replica.port};
    keepalive 16;
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://doorward;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
    }
  }
}
`);
  const nginx = start(NGINX, ['-e', 'stderr', '-p', dir, '-c', conf, '-g', 'daemon off;']);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 12 });
  let load;
  try {
    const { cookie } = await signIn(w, 'alice');
    const at = { port, host: w.host, cookie, agent, path: '/app' };
    await until('nginx', async () => (await send(at)).status === 200);
    load = constantly([
      ...Array.from({ length: 6 }, () => () => send(at)),
      ...Array.from({ length: 3 }, () => () => send({ ...at, method: 'POST', body: 'x'.repeat(1000) })),
    ]);
    const seen = async (instance) => {
      const before = load.answers.length;
      const count = () => w.metric('doorward_requests_total{route="app",code="200"}', instance.admin);
      const from = await count();
      await until('requests there', async () => (await count()) > from && load.answers.length > before);
    };
    await seen(w);
    await seen(replica);
    w.gateway.signal('SIGTERM');
    await until('readiness to go', async () => (await fetch(`${w.admin}/readyz`)).status === 503);
    await seen(w);
    assert.deepEqual(await w.gateway.ended, { code: 0, signal: null });
    await seen(replica);
    await w.startGateway(more);
    await until('the first to be ready again', async () => (await fetch(`${w.admin}/readyz`)).ok);
    await until('requests there', async () => (await w.metric('doorward_requests_total{route="app",code="200"}')) > 0);
    const answers = await load.stop();
    console.log(`# ${answers.length} requests through nginx: ${JSON.stringify(tally(answers))}`);
    assert.deepEqual(Object.keys(tally(answers)), ['200'], nginx.output.stderr);
  } finally {
    await load?.stop();
    agent.destroy();
    // Its workers would outlive a SIGKILL.
    nginx.signal('SIGTERM');
    await nginx.ended;
    await w.stop();
  }
});
