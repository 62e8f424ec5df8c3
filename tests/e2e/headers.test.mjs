// What a client may claim about itself: nothing.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { cookieHeader, freshContext, launch, visitAs } from './lib/browser.mjs';
import { Jar } from './lib/jar.mjs';
import { ODD_USER } from './lib/provider.mjs';
import { rawRequest } from './lib/raw.mjs';
import { SESSION_COOKIE, world } from './lib/world.mjs';

// Names of one's own, in an unusual case.
const ROUTES = (url) => `
[[route]]
name = "own names"
path = "/own"
upstream = "${url}"
access = "authenticated"
identity = ["remote", { header = "X-TEAM-user", claim = "preferred_username" }]
`;

let w, cookie;
before(async () => {
  w = await world({ more: { routes: ROUTES } });
  const browser = await launch();
  const context = await freshContext(browser);
  await visitAs(await context.newPage(), 'bob', `${w.origin}/`);
  cookie = await cookieHeader(context, w.origin);
  await browser.close();
});
after(() => w?.stop());

const SPOOFED = ['X-Forwarded-User: alice', 'x-forwarded-USER: alice', 'x_forwarded_user: alice', 'X.Forwarded.User: alice',
  'X-Forwarded-Groups: admins', 'X_Forwarded-Email: alice@example.test'];

// The values the application got under any spelling of `name`.
function values(line, name) {
  const spelling = (text) => text.toLowerCase().replace(/[^a-z0-9]/g, '-');
  return line.headers.filter(([key]) => spelling(key) === name).map(([, value]) => value);
}

async function received(path, lines) {
  const answer = await rawRequest(w.port, [`GET ${path} HTTP/1.1`, `Host: ${w.host}`, ...lines]);
  assert.match(answer, /^HTTP\/1\.1 200 /);
  return (await w.appLog()).findLast((line) => line.path === path);
}

test('hx_03 hx_05 hx_06 spoofed identity headers in every spelling give way to the session', async () => {
  const line = await received('/spoofed', [...SPOOFED, `Cookie: ${cookie}`, 'Connection: close']);
  assert.deepEqual(values(line, 'x-forwarded-user'), ['bob']);
  assert.deepEqual(values(line, 'x-forwarded-email'), ['bob@example.test']);
  assert.deepEqual(values(line, 'x-forwarded-groups'), ['staff']);
});

test('h_04 hx_09 a Connection header that names ours cannot remove it', async () => {
  const line = await received('/connection', [
    `Cookie: ${cookie}`,
    'Connection: close, x-forwarded-user, X-Forwarded-Groups, host, cookie',
  ]);
  assert.deepEqual(values(line, 'x-forwarded-user'), ['bob']);
  assert.deepEqual(values(line, 'x-forwarded-groups'), ['staff']);
  assert.deepEqual(values(line, 'connection').filter((value) => /forwarded/i.test(value)), []);
});

test('hx_02 a public page gets no identity from a client either', async () => {
  const line = await received('/public/page', [...SPOOFED, 'Connection: close']);
  for (const name of ['x-forwarded-user', 'x-forwarded-email', 'x-forwarded-groups']) assert.deepEqual(values(line, name), []);
});

test('w_01 forwarding headers of an untrusted client are not believed', async () => {
  const line = await received('/forwarded', [
    'X-Forwarded-For: 192.0.2.7', 'X-Forwarded-Host: evil.test', 'X-Forwarded-Proto: https', 'Forwarded: for=192.0.2.7;host=evil.test',
    'X-Real-IP: 192.0.2.7', 'X-Original-URL: /admin', 'X-Rewrite-URL: /admin', `Cookie: ${cookie}`, 'Connection: close',
  ]);
  assert.deepEqual(values(line, 'x-forwarded-for'), ['127.0.0.1']);
  assert.deepEqual(values(line, 'x-forwarded-host'), [w.host]);
  assert.deepEqual(values(line, 'x-forwarded-proto'), ['http']);
  for (const name of ['forwarded', 'x-real-ip', 'x-original-url', 'x-rewrite-url']) assert.deepEqual(values(line, name), []);
});

test('hx_08 a configured name is protected in every spelling too', async () => {
  const line = await received('/own/names', ['x-team-USER: alice', 'X_Team_User: alice', 'X-Team.User: alice', 'remote_user: alice', `Cookie: ${cookie}`, 'Connection: close']);
  assert.deepEqual(values(line, 'x-team-user'), ['bob']);
  assert.deepEqual(values(line, 'remote-user'), ['bob']);
  assert.deepEqual(values(line, 'remote-name'), ['Bob Brown']);
});

test('hx_15 hx_17 xx_02 odd claims split no header, make no group and no markup', async () => {
  const jar = new Jar();
  await jar.signIn(w, ODD_USER);
  const odd = jar.named(w.origin, SESSION_COOKIE).map((pair) => pair.join('=')).join('; ');
  const line = await received('/own/odd', [`Cookie: ${odd}`, 'Connection: close']);
  assert.deepEqual(values(line, 'x-evil'), []);
  assert.deepEqual(values(line, 'remote-name'), ['%C3%96dd%0D%0AX-Evil: 1']);
  assert.deepEqual(values(line, 'remote-groups'), ['plain,two words']);
  for (const path of ['/admin', '/oauth2/session']) {
    const page = await jar.request(`${w.origin}${path}`);
    assert.match(page.text, /alert/, 'the page names the person');
    assert.doesNotMatch(page.text, /<script/);
  }
});
