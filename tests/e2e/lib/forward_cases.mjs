// What holds behind every proxy that asks Doorward at `forward` and passes its answers on.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { assertIdentity, freshContext, launch, signIn } from './browser.mjs';
import { Jar } from './jar.mjs';
import { until } from './process.mjs';
import { handshake, proxied, send, SESSION_COOKIE } from './proxied.mjs';

const SECONDS = 3;
const REFRESHING = { DOORWARD_SESSION__REFRESH_GRACE: '2s' };

// Open to one network, which is nobody's here.
const INSIDE = `
[[route]]
name = "inside"
path = "/inside"
upstream = "status:404"
access = "policy"
allow = [{ network = ["192.0.2.0/24"] }]
`;

const XHR = { accept: 'application/json', 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'same-origin' };
const NAVIGATION = { accept: 'text/html', 'sec-fetch-mode': 'navigate', 'sec-fetch-site': 'none', 'sec-fetch-dest': 'document' };

const WHO = {
  'X-Forwarded-User': 'eve',
  'X-Forwarded-Email': 'eve@example.test',
  'X-Forwarded-Groups': 'admins',
  'X-Auth-Request-Email': 'eve@example.test',
  x_forwarded_user: 'eve',
  X_Forwarded_Email: 'eve@example.test',
  'X-Forwarded_Groups': 'admins',
  'X.Forwarded.User': 'eve',
  'Remote-User': 'eve',
};

const WHERE = [
  { 'X-Forwarded-Uri': '/public/page' },
  { 'X-Forwarded-Method': 'OPTIONS' },
  { 'X-Forwarded-Host': 'public.example.test' },
  { 'X-Forwarded-Proto': 'http' },
  { 'X-Original-URL': 'https://127.0.0.1/public/page', 'X-Original-Method': 'GET' },
  { 'X-Original-URI': '/public/page' },
  { x_forwarded_uri: '/public/page', 'X.Forwarded.Uri': '/public/page' },
  { 'X-Rewrite-URL': '/public/page', Forwarded: 'for=192.0.2.7;host=public.example.test' },
  { 'X-Forwarded-For': '192.0.2.7' },
  { 'X-Real-IP': '192.0.2.7' },
  { Connection: 'close, X-Forwarded-Uri, X-Forwarded-Method, X-Forwarded-Host, X-Forwarded-For' },
];

export const cookies = (jar, w, pattern = SESSION_COOKIE) => jar.named(w.origin, pattern).map((pair) => pair.join('=')).join('; ');

export async function session(w, user, pattern) {
  const jar = new Jar();
  const answer = await jar.signIn(w, user);
  assert.equal(answer.status, 302, answer.text);
  return cookies(jar, w, pattern);
}

// The values that the application got under any spelling of `name`, save empty ones.
export function told(line, name) {
  const spelling = (text) => text.toLowerCase().replace(/[^a-z0-9]/g, '-');
  return line.headers.filter(([key, value]) => spelling(key) === name && value !== '').map(([, value]) => value);
}

// What the application was sent while `act` ran.
export async function arrived(w, act) {
  const seen = (await w.appLog()).length;
  const answer = await act();
  return { answer, lines: (await w.appLog()).slice(seen) };
}

// `recipe` and `proxy` as in lib/proxied.mjs. `absent`: whether a header without a value does not arrive at all.
export function forwardCases({ recipe, proxy, absent }) {
  describe('a session', () => {
    let w, alice, bob;
    before(async () => {
      w = await proxied({ recipe, proxy, routes: INSIDE });
      [alice, bob] = await Promise.all([session(w, 'alice'), session(w, 'bob')]);
    });
    after(() => w?.stop());

    test('b_01 a browser comes back to the page that it asked for', async () => {
      const browser = await launch();
      try {
        const page = await (await freshContext(browser, { ignoreHTTPSErrors: true })).newPage();
        const url = `${w.origin}/page?x=1&to=a%2Fb`;
        await page.goto(url);
        await signIn(page, 'alice');
        await page.waitForURL(url);
        assert.equal(await page.locator('#page').textContent(), '/page?x=1&to=a%2Fb');
        await assertIdentity(page, { user: 'alice', email: 'alice@example.test', groups: 'admins,staff' });
        await page.goto(`${w.origin}/admin`);
        await assertIdentity(page, { user: 'alice', email: 'alice@example.test', groups: 'admins,staff' });
      } finally {
        await browser.close();
      }
    });

    test('hx_02 hx_03 hx_20 who one is cannot be told, in no spelling, on no route', async () => {
      for (const [path, cookie] of [['/page', bob], ['/public/page', bob], ['/public/page', undefined]]) {
        const { answer, lines } = await arrived(w, () => send(w, path, { cookie, headers: WHO }));
        assert.equal(answer.status, 200, path);
        assert.equal(lines.length, 1);
        const [line] = lines;
        const own = cookie === undefined || path.startsWith('/public') ? [[], ['bob']] : [['bob']];
        assert.ok(own.some((values) => JSON.stringify(values) === JSON.stringify(told(line, 'x-forwarded-user'))), JSON.stringify(line.headers));
        for (const { 1: value } of line.headers) assert.doesNotMatch(value, /eve|admins/, JSON.stringify(line.headers));
      }
    });

    test('hx_21 who has no e-mail gets none', async () => {
      const { lines } = await arrived(w, async () => send(w, '/page', { cookie: await session(w, 'nomail'), headers: WHO }));
      assert.deepEqual(told(lines.at(-1), 'x-forwarded-user'), ['nomail']);
      assert.deepEqual(told(lines.at(-1), 'x-forwarded-email'), []);
      if (absent) assert.ok(lines.at(-1).headers.every(([name]) => name !== 'x-forwarded-email'));
    });

    test('h_04 hx_09 a Connection header cannot remove who one is', async () => {
      const headers = { connection: 'close, X-Forwarded-User, X-Forwarded-Groups, X-Auth-Request-User' };
      const { lines } = await arrived(w, () => send(w, '/page', { cookie: bob, headers }));
      assert.deepEqual(told(lines[0], 'x-forwarded-user'), ['bob']);
      assert.deepEqual(told(lines[0], 'x-forwarded-groups'), ['staff']);
    });

    test('px_20 px_22 what a client says of the request decides nothing', async () => {
      for (const headers of WHERE) {
        const what = JSON.stringify(headers);
        for (const [path, cookie] of [['/admin', bob], ['/admin', undefined], ['/page', undefined], ['/inside', undefined]]) {
          const { answer, lines } = await arrived(w, () => send(w, path, { cookie, headers }));
          assert.ok([401, 403].includes(answer.status), `${path} ${what}: ${answer.status}`);
          assert.deepEqual(lines, [], what);
        }
        const { answer, lines } = await arrived(w, () => send(w, '/admin/mine', { cookie: alice, headers }));
        assert.equal(answer.status, 200, what);
        assert.deepEqual(told(lines[0], 'x-forwarded-user'), ['alice']);
        const away = await send(w, '/page', { headers: { ...NAVIGATION, ...headers } });
        assert.equal(away.status, 302);
        assert.ok(away.headers.location.startsWith(w.issuer), away.headers.location);
      }
    });

    test('px_20 the query of a request is the application\'s, whatever is in it', async () => {
      const query = '?allowed_groups=nobody&allowed_emails=nobody@example.test&rd=https://evil.test/';
      const { answer } = await arrived(w, () => send(w, `/page${query}`, { cookie: bob }));
      assert.equal(answer.status, 200);
      assert.equal((await send(w, '/admin?allowed_groups=staff', { cookie: bob })).status, 403);
    });

    test('hx_03 the application is not told another URL than its own', async () => {
      const headers = Object.assign({}, ...WHERE.slice(0, -1));
      const { lines } = await arrived(w, () => send(w, '/public/page', { headers }));
      for (const name of ['x-original-url', 'x-original-uri', 'x-original-method', 'x-rewrite-url', 'forwarded']) {
        assert.deepEqual(told(lines[0], name), [], name);
      }
      for (const [name, own] of [['x-forwarded-host', w.host], ['x-forwarded-proto', 'https'], ['x-forwarded-for', '127.0.0.1']]) {
        assert.deepEqual(told(lines[0], name), [own]);
      }
      for (const { 1: value } of lines[0].headers) assert.doesNotMatch(value, /192\.0\.2\.7|\/public\/page/);
    });

    test('b_07 a program is told 401, the wrong person 403, and neither is redirected', async () => {
      const { lines } = await arrived(w, async () => {
        const anonymous = await send(w, '/page', { headers: XHR });
        assert.equal(anonymous.status, 401);
        assert.equal(typeof JSON.parse(anonymous.text).login_url, 'string');
        assert.equal(anonymous.headers.location, undefined);
        assert.equal((await send(w, '/upload', { method: 'POST', headers: XHR, body: 'x' })).status, 401);
        assert.equal((await send(w, '/admin', { cookie: bob, headers: NAVIGATION })).status, 403);
        assert.equal((await send(w, '/admin', { cookie: bob, headers: XHR })).status, 403);
      });
      assert.deepEqual(lines, []);
    });

    test('b_07 the body of a request arrives whole, with its method', async () => {
      const body = 'b'.repeat(300_000);
      const { answer, lines } = await arrived(w, () => send(w, '/upload', { method: 'POST', cookie: bob, headers: XHR, body }));
      assert.deepEqual(JSON.parse(answer.text), { bytes: body.length, user: 'bob' });
      assert.equal(lines[0].method, 'POST');
    });

    test('px_01 px_02 no spelling of a path leads past the question', async () => {
      const paths = ['/public/../admin', '//admin', '/%61dmin', '/public/%2e%2e/admin', '/public;/../admin', '/admin%2f..%2fpublic',
        '/public/..%2fadmin', '/public/..;/admin', '/public/.%2e/admin', '/./admin', '/public//../admin', '/admin/', '/ADMIN', '/public/%2e%2e%2fadmin',
        '/public/..%5cadmin', '/admin;x', '/oauth2/../admin', '/oauth2/%2e%2e/admin', '/oauth2/..;/admin', '//oauth2/../admin', '/oauth2/callback/../../admin',
        '/oauth2', '/OAUTH2/page', '/oauth2/auth/../../page'];
      for (const path of paths) {
        for (const headers of [{}, NAVIGATION]) {
          const { answer, lines } = await arrived(w, () => send(w, path, { headers }));
          assert.ok([301, 302, 307, 308, 400, 401, 403, 404].includes(answer.status), `${path}: ${answer.status}`);
          assert.deepEqual(lines, [], path);
        }
      }
      for (const path of ['/public/../admin', '//admin', '/%61dmin', '/public/%2e%2e/admin', '/admin;x', '/public/..%2fadmin']) {
        const { answer, lines } = await arrived(w, () => send(w, path, { cookie: bob }));
        assert.ok(answer.status >= 400, `${path}: ${answer.status}`);
        assert.deepEqual(lines, [], path);
      }
    });

    test('xx_09 what Doorward answers to proxies is not for browsers, and not for those who go around the proxy', async () => {
      for (const path of ['/oauth2/auth', '/oauth2/forward', '/oauth2/%61uth', '/oauth2//forward', '/oauth2/ext_authz/page']) {
        const answer = await send(w, path, { cookie: alice, headers: { 'X-Forwarded-Uri': '/page', 'X-Forwarded-Method': 'GET' } });
        assert.ok([400, 401, 403, 404].includes(answer.status), `${path}: ${answer.status}`);
        assert.equal(answer.headers['x-auth-request-user'], undefined, path);
      }
    });

    test('w_02 h2c is no tunnel to the application', async () => {
      const headers = { connection: 'Upgrade, HTTP2-Settings', upgrade: 'h2c', 'http2-settings': 'AAMAAABkAARAAAAAAAIAAAAA' };
      const { lines } = await arrived(w, () => send(w, '/public/page', { headers }));
      assert.deepEqual(told(lines[0], 'http2-settings'), []);
    });

    test('ws_01 ws_02 a WebSocket opens with a session, from the page\'s own origin', async () => {
      assert.equal((await handshake(w, { cookie: bob })).status, 101);
      const { lines } = await arrived(w, async () => {
        assert.equal((await handshake(w, {})).status, 401);
        assert.equal((await handshake(w, { cookie: bob, origin: 'https://evil.test' })).status, 403);
      });
      assert.deepEqual(lines, []);
    });

    test('rl_01 a sign-out ends it', async () => {
      const jar = new Jar();
      await jar.signIn(w, 'bob');
      const page = `${w.origin}/page`;
      assert.equal((await jar.request(page)).status, 200);
      const copy = cookies(jar, w);
      const out = await jar.request(`${w.origin}/oauth2/sign_out`, { headers: { ...NAVIGATION, 'sec-fetch-site': 'same-origin' } });
      assert.equal(out.status, 302, out.text);
      assert.equal(cookies(jar, w), '');
      assert.equal((await jar.request(page)).status, 302);
      assert.equal((await send(w, '/page', { cookie: copy })).status, 401);
    });

    // The last: nothing works after it.
    test('o_01 while Doorward is away nothing passes', async () => {
      await w.gateway.stop();
      const { lines } = await arrived(w, async () => {
        for (const [path, cookie] of [['/page', alice], ['/page', undefined], ['/public/page', undefined], ['/oauth2/start', undefined]]) {
          const { status } = await send(w, path, { cookie });
          assert.ok(status >= 500, `${path}: ${status}`);
        }
        assert.ok((await handshake(w, { cookie: alice })).status >= 500);
      });
      assert.deepEqual(lines, []);
    });
  });

  describe('a refresh', () => {
    let w;
    before(async () => {
      w = await proxied({ recipe, proxy, provider: { accessToken: SECONDS }, env: REFRESHING });
    });
    after(() => w?.stop());

    for (const user of ['bob', 'many']) {
      test(`rf_01 the browser gets the successor of its session and goes on with it (${user})`, async () => {
        const jar = new Jar();
        await jar.signIn(w, user);
        const old = cookies(jar, w);
        assert.equal(old.split('; ').length > 1, user === 'many', 'several cookies');
        const calls = w.provider.tokens.refreshes().length;
        // The successor is good for as long as this takes.
        w.provider.accessToken = 600;
        const page = `${w.origin}/page`;
        await until('the refresh', async () => (await jar.request(page)).status === 200 && cookies(jar, w) !== old);
        w.provider.accessToken = SECONDS;
        await until('the grace to pass', async () => (await send(w, '/page', { cookie: old })).status === 401);
        const { answer, lines } = await arrived(w, () => jar.request(page));
        assert.equal(answer.status, 200);
        assert.deepEqual(told(lines[0], 'x-forwarded-user'), [user]);
        assert.ok(cookies(jar, w).split('; ').length > 1 === (user === 'many'));
        assert.equal(w.provider.tokens.refreshes().length - calls, 1);
      });
    }

    test('o_02 while the provider is away nobody passes with an expired token', async () => {
      const cookie = await session(w, 'alice');
      await w.provider.stop();
      const { answer } = await arrived(w, () => until('the token to expire', async () => {
        const answer = await send(w, '/page', { cookie });
        return answer.status !== 200 && answer;
      }));
      assert.equal(answer.status, 503);
      const { lines } = await arrived(w, () => send(w, '/page', { cookie }));
      assert.deepEqual(lines, []);
    });
  });
}
