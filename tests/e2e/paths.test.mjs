// Paths, hosts and methods that two servers could read differently: /public is open, /admin is not, and no spelling of
// the one leads into the other.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { rawBytes, statuses } from './lib/raw.mjs';
import { startRecorder } from './lib/recorder.mjs';
import { world } from './lib/world.mjs';

const ROUTES = (url) => `
[[route]]
name = "stripped"
path = "/api"
upstream = "${url}"
access = "public"
strip_prefix = "/api"

[[route]]
name = "read only"
path = "/readonly"
methods = ["GET"]
upstream = "${url}"
access = "public"

[[route]]
name = "exact"
path = "=/healthz"
upstream = "${url}"
access = "public"
`;

let w, upstream;
before(async () => {
  upstream = await startRecorder();
  w = await world({ upstream: upstream.url, more: { routes: ROUTES } });
});
after(async () => {
  await w?.stop();
  await upstream?.stop();
});
beforeEach(() => {
  upstream.requests.length = 0;
});

async function status(target, { method = 'GET', host = w.host } = {}) {
  const answer = await rawBytes(w.port, `${method} ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  return statuses(answer)[0];
}

// Refused or asked to sign in; nothing arrived.
async function denied(targets, options) {
  for (const target of targets) {
    const got = await status(target, options);
    assert.ok([400, 401, 404, 405, 421].includes(got), `${target}: ${got}`);
    assert.deepEqual(upstream.requests.map((request) => request.target), [], target);
  }
}

test('px_01 px_02 dot segments are resolved before the decision', async () => {
  await denied(['/public/../admin', '/public/%2e%2e/admin', '/public/%2E%2E/admin', '/public/.%2e/admin', '/public/%2e./admin', '/public/./../admin',
    '/public/x/../../admin', '/public//../admin', '//admin', '/./admin', '/public/..//admin', '/public/%2e%2e%2fadmin', '/public/..%2fadmin', '/public/..%5cadmin', '/public/..\\admin']);
});

test('px_04 what is encoded twice is decoded once at most', async () => {
  assert.equal(await status('/public/%252e%252e/admin'), 200);
  assert.deepEqual(upstream.requests.map(({ target }) => target), ['/public/%252e%252e/admin']);
});

test('px_05 dot segments with parameters are refused', async () => {
  await denied(['/public/..;/admin', '/public/..;x=1/admin', '/public;x=/../admin', '/public/%2e%2e;/admin', '/admin;x', '/;/admin', '/public/.;/../admin']);
});

test('px_07 px_08 letters encoded and suffixes that servers drop decide like the plain name', async () => {
  await denied(['/%61dmin', '/adm%69n', '/admin/', '/admin?', '/admin?x', '/admin%20', '/admin%00', '/admin%09', '/admin.', '/admin%2f', '/ADMIN', '/Admin', '/admin%23', '/admin%3f']);
});

test('px_10 px_11 the query decides nothing, and a prefix ends at a segment', async () => {
  await denied(['/admin?/public/', '/admin?x=/public/', '/publicx', '/public.html', '/healthz/x', '/healthzx']);
  assert.equal(await status('/public?/admin'), 200);
  assert.equal(await status('/healthz'), 200);
});

test('px_13 characters that only look like dots and slashes are literal', async () => {
  for (const text of ['／', '．．', '․․']) {
    upstream.requests.length = 0;
    const got = await status(`/public/${encodeURIComponent(text)}/admin`);
    assert.ok(got === 200 || got === 400);
    for (const { target } of upstream.requests) assert.match(target, /^\/public\/%/);
  }
});

test('px_16 a Host is one canonical name, or nothing', async () => {
  await denied(['/admin'], { host: 'evil.test' });
  await denied(['/public/x'], { host: 'evil.test@own' });
  const answer = await rawBytes(w.port, 'GET /oauth2/start HTTP/1.1\r\nHost: evil.test\r\nAccept: text/html\r\nConnection: close\r\n\r\n');
  const location = /^location: (.*)\r$/im.exec(answer)?.[1] ?? '';
  assert.doesNotMatch(decodeURIComponent(location), /evil\.test/);
});

test('px_19 methods are compared exactly', async () => {
  assert.equal(await status('/readonly'), 200);
  upstream.requests.length = 0;
  await denied(['/readonly'], { method: 'POST' });
  await denied(['/readonly'], { method: 'get' });
  await denied(['/readonly'], { method: 'HEAD' });
  await denied(['/readonly'], { method: 'OPTIONS' });
});

test('px_25 a stripped prefix is decided as it came and forwarded without dot segments', async () => {
  await denied(['/api../admin', '/api%2e%2e/admin', '/api/../admin']);
  assert.equal(await status('/api/x'), 200);
  assert.equal(await status('/api'), 200);
  assert.deepEqual(upstream.requests.map(({ target }) => target), ['/x', '/']);
});

test('px_28 our own endpoints are under no other spelling the upstream\'s', async () => {
  for (const target of ['/%6fauth2/callback', '//oauth2/callback', '/oauth2/callback;x', '/oauth2/callback/', '/oauth2', '/oauth2/none', '/public/../oauth2/start']) await status(target);
  assert.deepEqual(upstream.requests, []);
  assert.equal(await status('/OAUTH2/callback'), 401, 'another case is a path of the application');
});

test('gx_11 nothing of the admin listener is on the public one', async () => {
  await denied(['/livez', '/readyz', '/metrics', '/sessions']);
});
