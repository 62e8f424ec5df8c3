// Where a sign-in or sign-out may lead: nowhere but home.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { freshContext, launch, signIn } from './lib/browser.mjs';
import { Jar } from './lib/jar.mjs';
import { world } from './lib/world.mjs';

// `own.test` stands for this origin's host and port.
const PAYLOADS = [
  '//evil.test', '///evil.test', '////evil.test/%2e%2e', '/\\evil.test', '\\/evil.test', '\\\\evil.test', '/\\/evil.test', '/\\\\/evil.test',
  '/%5Cevil.test', '/%2F%2Fevil.test', '/%2Fevil.test', '%2F%2Fevil.test', '/\t/evil.test', '/%09/evil.test', '/\n/evil.test', '/%0A/evil.test',
  '/\r/evil.test', '/%0D%0A/evil.test', ' //evil.test', '/%20//evil.test', '/\x0b/evil.test', '/\x0c\\evil.test', '\thttps://evil.test', 'h\tttps://evil.test',
  'https:evil.test', 'https:/evil.test', 'https:///evil.test', 'https:\\\\evil.test', 'http:evil.test', 'HTTPS://EVIL.TEST',
  'http://own.test@evil.test', 'http://own.test%40evil.test', 'http://own.test:443@evil.test', 'http://evil.test#own.test', 'http://evil.test?own.test',
  'http://evil.test\\.own.test', 'http://evil.test\\@own.test', 'http://own.test\\@evil.test', 'http://own.test%2eevil.test', 'http://own.test%00.evil.test',
  'http://own.test%0d.evil.test', 'http://own。test.evil.test', '//evil｡test', '//ｅｖｉｌ.test', '//evil%E3%80%82test', '/／evil.test', '//⑯⑨.②⑤④.⑯⑨.②⑤④',
  '//[::1]/', '//2130706433/', '//0x7f.1/', '//127.1/', 'javascript:alert(1)', 'java%0ascript:alert(1)', 'data:text/html,x', 'vbscript:x', 'blob:https://evil.test/x',
  '/.//evil.test', '/..//evil.test', '/x/..//evil.test', '/./\\evil.test', '/%2e%2e//evil.test', '/;//evil.test', '/?//evil.test', '/#//evil.test',
  'evil.test', '.evil.test', '@evil.test', ':443//evil.test', 'http://own.test:evil.test', 'http://own.test:80:evil.test', '//own.test:x@evil.test/',
  'http://own.test/..;/@evil.test', 'https://own.test', 'ws://own.test', '//%E2%80%AEtset.live', '/\x00/evil.test', 'http://127.0.0.1.evil.test/', 'http://127.0.0.1:1/',
];

const ROUTES = (url) => `
[[route]]
name = "wild"
host = "*.foo.localhost"
path = "/"
upstream = "${url}"
access = "authenticated"
`;

let w, jar;
before(async () => {
  w = await world({ more: { routes: ROUTES } });
  jar = new Jar();
  await jar.signIn(w, 'alice');
});
after(() => w?.stop());

const payloads = () => PAYLOADS.map((payload) => payload.replaceAll('own.test', w.host));

function assertLocal(location, payload) {
  assert.equal(new URL(location, w.origin).origin, w.origin, JSON.stringify(payload));
  assert.ok(!/^[\\/]{2}/.test(location.slice(location.startsWith(w.origin) ? w.origin.length : 0)), JSON.stringify(payload));
}

test('r_01 xx_03 no rd leads a sign-in away, written plainly, encoded once or twice', async () => {
  for (const payload of payloads()) {
    for (const rd of [encodeURIComponent(payload), encodeURIComponent(encodeURIComponent(payload))]) {
      const callback = await jar.authorize(w, 'alice', `${w.origin}/oauth2/start?rd=${rd}`);
      const answer = await jar.request(callback);
      assert.equal(answer.status, 302);
      assertLocal(answer.headers.location, payload);
    }
    const page = await jar.request(`${w.origin}/oauth2/sign_in?rd=${encodeURIComponent(payload)}`);
    if (page.status === 200) assert.doesNotMatch(page.text, /(href|action|value|url)="?[^"]*(^|[^\w%.])(evil|EVIL)\.(test|TEST)/);
  }
});

test('r_03 rl_04 no rd leads a sign-out away', async () => {
  for (const payload of payloads()) {
    const answer = await new Jar().request(`${w.origin}/oauth2/sign_out?rd=${encodeURIComponent(payload)}`, {
      headers: { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate', accept: 'text/html' },
    });
    if (answer.headers.location) assertLocal(answer.headers.location, payload);
    const back = await new Jar().request(`${w.origin}/oauth2/signed_out?rd=${encodeURIComponent(payload)}&state=${encodeURIComponent(payload)}`);
    if (back.headers.location) assertLocal(back.headers.location, payload);
  }
});

test('r_04 w_04 forwarding headers of a client change no redirect', async () => {
  const spoofed = { 'x-forwarded-host': 'evil.test', 'x-forwarded-proto': 'https', 'x-forwarded-uri': '//evil.test', 'x-forwarded-port': '1', forwarded: 'host=evil.test', accept: 'text/html' };
  const person = new Jar();
  const start = await person.request(`${w.origin}/oauth2/start?rd=%2Fx`, { headers: spoofed });
  assert.doesNotMatch(decodeURIComponent(start.headers.location), /evil/);
  const callback = await person.authorize(w, 'alice', start.location);
  assert.ok(callback.startsWith(w.origin));
  const done = await person.request(callback, { headers: spoofed });
  assert.equal(new URL(done.headers.location, w.origin).href, `${w.origin}/x`);
});

test('r_06 a wildcard is one label, after a dot', async () => {
  const { port } = new URL(w.origin);
  for (const [host, stays] of [['x.foo.localhost', true], ['foo.localhost', false], ['a.b.foo.localhost', false], ['.foo.localhost', false], ['x-foo.localhost', false]]) {
    const callback = await jar.authorize(w, 'alice', `${w.origin}/oauth2/start?rd=${encodeURIComponent(`http://${host}:${port}/there`)}`);
    const { location } = (await jar.request(callback)).headers;
    assert.equal(location.includes('/there'), stays, `${host}: ${location}`);
  }
});

test('r_07 a line break in rd splits no header', async () => {
  for (const rd of ['/%0d%0aX-Evil:%201', '/%0d%0a%0d%0a<script>', '/%250d%250aX-Evil:1', '/x%00y']) {
    const start = await new Jar().request(`${w.origin}/oauth2/start?rd=${rd}`);
    assert.equal(start.headers['x-evil'], undefined);
    const callback = await jar.authorize(w, 'alice', `${w.origin}/oauth2/start?rd=${rd}`);
    const answer = await jar.request(callback);
    assert.equal(answer.headers['x-evil'], undefined);
    assertLocal(answer.headers.location, rd);
  }
});

test('r_09 rd is never one of our own endpoints', async () => {
  for (const rd of ['/oauth2/sign_out', '/oauth2/start?rd=/', '/oauth2/callback?code=x', '/%6fauth2/sign_out', '/x/../oauth2/sign_out', '//oauth2/sign_out', `${w.origin}/oauth2/sign_out`, '/oauth2;x/sign_out']) {
    const callback = await jar.authorize(w, 'alice', `${w.origin}/oauth2/start?rd=${encodeURIComponent(rd)}`);
    const { location } = (await jar.request(callback)).headers;
    assert.doesNotMatch(new URL(location, w.origin).pathname, /^\/+oauth2/, rd);
  }
});

test('r_10 Chromium stays at home, whatever rd was', async () => {
  const browser = await launch();
  try {
    const page = await (await freshContext(browser)).newPage();
    await page.goto(`${w.origin}/`);
    await signIn(page, 'alice');
    await page.waitForURL(`${w.origin}/`);
    for (const payload of payloads()) {
      await page.goto(`${w.origin}/oauth2/start?rd=${encodeURIComponent(payload)}`);
      assert.equal(await page.evaluate(() => location.origin), w.origin, JSON.stringify(payload));
    }
  } finally {
    await browser.close();
  }
});

test('xx_09 userinfo is JSON that another site cannot read as anything else, with no token in it', async () => {
  const anonymous = await new Jar().request(`${w.origin}/oauth2/userinfo`);
  assert.equal(anonymous.status, 401);
  const { headers, text } = await jar.request(`${w.origin}/oauth2/userinfo`);
  assert.match(headers['content-type'], /^application\/json/);
  assert.equal(headers['x-content-type-options'], 'nosniff');
  assert.equal(headers['access-control-allow-origin'], undefined);
  assert.deepEqual(Object.keys(JSON.parse(text)).sort(), ['email', 'groups', 'preferredUsername', 'user']);
});
