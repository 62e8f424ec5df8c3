// What Traefik's forwardAuth sends, header by header, as Traefik 3.7.15 was seen to send it, without Traefik: once with
// `trustForwardHeader: false`, once with `true` and once as before 3.7, when it was not set.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ask, signIn } from './lib/load.mjs';
import { rawRequest, statuses } from './lib/raw.mjs';
import { LOGIN_COOKIE, world } from './lib/world.mjs';

const TRUSTED = 'trusted_proxies = ["127.0.0.1/32"]';

let w, alice, bob;
before(async () => {
  w = await world({ more: { server: TRUSTED } });
  [alice, bob] = (await Promise.all(['alice', 'bob'].map((user) => signIn(w, user)))).map(({ cookie }) => cookie);
});
after(() => w?.stop());

const MANNERS = {
  'trustForwardHeader: false': () => ({ 'X-Forwarded-Port': String(w.port) }),
  'trustForwardHeader: true': (scheme) => ({
    'X-Forwarded-Port': String(w.port), 'X-Forwarded-Server': 'edge-1', 'X-Real-Ip': '127.0.0.1', 'X-Forwarded-Proto': scheme,
  }),
  'not set': (scheme) => ({
    'X-Forwarded-Port': String(w.port), 'X-Forwarded-Server': 'edge-1', 'X-Real-Ip': '127.0.0.1',
    'X-Forwarded-Prefix': '/of-the-client', 'X-Forwarded-Proto': scheme === 'ws' ? 'http' : scheme,
  }),
};

const NAVIGATION = { Accept: 'text/html', 'Sec-Fetch-Mode': 'navigate', 'Sec-Fetch-Site': 'none', 'Sec-Fetch-Dest': 'document' };

// Traefik's Go client names Doorward's own address in Host.
function asks(manner, uri, { endpoint = 'forward', method = 'GET', scheme = 'http', cookie, headers = {} } = {}) {
  return ask(w, cookie, {
    path: `/oauth2/${endpoint}`,
    headers: {
      host: `127.0.0.1:${w.port}`,
      'User-Agent': 'curl/8.0',
      'X-Forwarded-For': '127.0.0.1',
      'X-Forwarded-Host': w.host,
      'X-Forwarded-Method': method,
      'X-Forwarded-Proto': 'http',
      'X-Forwarded-Uri': uri,
      'Accept-Encoding': 'gzip',
      ...MANNERS[manner](scheme),
      ...headers,
    },
  });
}

for (const manner of Object.keys(MANNERS)) {
  describe(manner, () => {
    test('b_07 a navigation is sent to the provider, with the cookie of the sign-in', async () => {
      const answer = await asks(manner, '/page?x=1', { headers: NAVIGATION });
      assert.equal(answer.status, 302);
      assert.ok(answer.headers.location.startsWith(`${w.issuer}/`), answer.headers.location);
      assert.ok(answer.cookies.some((line) => LOGIN_COOKIE.test(line)), answer.cookies.join());
    });

    test('b_07 anything else is 401, and the wrong person 403', async () => {
      for (const more of [{}, { method: 'POST' }, { method: 'POST', headers: NAVIGATION }, { headers: { 'X-Requested-With': 'XMLHttpRequest', Accept: 'text/html' } }]) {
        const answer = await asks(manner, '/page', more);
        assert.equal(answer.status, 401, JSON.stringify(more));
        assert.equal(answer.headers.location, undefined);
      }
      for (const headers of [{}, NAVIGATION]) assert.equal((await asks(manner, '/admin', { cookie: bob, headers })).status, 403);
    });

    test('hx_20 hx_21 a yes names the person, and everything else with nothing in it', async () => {
      for (const [endpoint, status] of [['forward', 200], ['auth', 202]]) {
        const answer = await asks(manner, '/admin?x=1', { cookie: alice, endpoint, headers: { 'X-Forwarded-User': 'eve', X_forwarded_user: 'eve', 'X-Forwarded.user': 'eve' } });
        assert.equal(answer.status, status);
        assert.equal(answer.headers['x-forwarded-user'], 'alice');
        assert.equal(answer.headers['x-auth-request-groups'], 'admins,staff');
        assert.equal(answer.body, '');
        const nobody = await asks(manner, '/public/page', { endpoint, headers: { 'X-Forwarded-User': 'eve' } });
        assert.equal(nobody.status, status);
        for (const name of ['x-forwarded-user', 'x-forwarded-email', 'x-auth-request-user', 'x-auth-request-groups']) assert.equal(nobody.headers[name], '', name);
      }
    });

    // Traefik keeps Upgrade and Connection to itself and may name the scheme ws.
    test('ws_01 ws_02 a WebSocket handshake is one without Upgrade', async () => {
      const handshake = (more, origin = w.origin) => asks(manner, '/ws', {
        scheme: 'ws', ...more, headers: { Origin: origin, 'Sec-Websocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', 'Sec-Websocket-Version': '13' },
      });
      assert.equal((await handshake({ cookie: bob })).status, 200);
      assert.equal((await handshake({ cookie: bob }, 'https://evil.test')).status, 403);
      assert.equal((await handshake({})).status, 401);
    });

    test('px_22 headers of the client that Traefik does not set move nothing', async () => {
      for (const headers of [
        { 'X-Original-Url': `${w.origin}/public/page` }, { 'X-Original-Uri': '/public/page' }, { 'X-Original-Method': 'OPTIONS' },
        { X_forwarded_uri: '/public/page' }, { 'X-Rewrite-Url': '/public/page' }, { Forwarded: 'for=192.0.2.7;host=evil.test;proto=https' },
      ]) {
        for (const cookie of [undefined, bob]) {
          const { status } = await asks(manner, '/admin', { cookie, headers });
          assert.ok([401, 403].includes(status), `${JSON.stringify(headers)}: ${status}`);
        }
      }
    });

    test('px_20 a path that two would read differently is refused', async () => {
      for (const uri of ['/public/../admin', '/public/%2e%2e/admin', '/public/..%2Fadmin', '/%2Fadmin', '/public/..%5Cadmin', '/public/..;/admin', '/oauth2/auth', '/oauth2/forward']) {
        const { status } = await asks(manner, uri);
        assert.ok([400, 401, 403].includes(status), `${uri}: ${status}`);
      }
    });
  });
}

test('px_20 with two values of a header that decides, nothing is decided', async () => {
  const lines = ['X-Forwarded-For: 127.0.0.1', `X-Forwarded-Host: ${w.host}`, 'X-Forwarded-Proto: http', 'X-Forwarded-Method: GET', `Cookie: ${bob}`, 'Connection: close'];
  const answer = await rawRequest(w.port, ['GET /oauth2/forward HTTP/1.1', `Host: ${w.host}`, ...lines, 'X-Forwarded-Uri: /page', 'X-Forwarded-Uri: /public/page']);
  assert.deepEqual(statuses(answer), [403]);
});

// `preserveRequestMethod` and `forwardBody`.
test('b_07 the question may come by the method of the request, and with its body', async () => {
  const lines = ['X-Forwarded-For: 127.0.0.1', `X-Forwarded-Host: ${w.host}`, 'X-Forwarded-Proto: http', 'X-Forwarded-Uri: /upload', 'Connection: close'];
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'HEAD']) {
    const answer = await rawRequest(w.port, [`${method} /oauth2/forward HTTP/1.1`, `Host: ${w.host}`, ...lines, `X-Forwarded-Method: ${method}`, `Cookie: ${bob}`]);
    assert.deepEqual(statuses(answer), [200], method);
  }
  const answer = await rawRequest(w.port, ['POST /oauth2/forward HTTP/1.1', `Host: ${w.host}`, ...lines, 'X-Forwarded-Method: POST', `Cookie: ${bob}`, 'Content-Length: 4', '', 'body']);
  assert.deepEqual(statuses(answer), [200]);
});

// The last: then it trusts nobody.
test('r_04 whoever is no trusted proxy is not answered', async () => {
  await w.reload({});
  for (const endpoint of ['forward', 'auth']) assert.equal((await asks('not set', '/public/page', { endpoint, cookie: bob })).status, 403);
});
