// What every proxy that asks Doorward must keep, tried against the proxy itself: who gets in, what the application sees,
// what nobody can talk anybody into.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { assertIdentity, freshContext, launch, signIn } from './browser.mjs';
import { HOST, ORIGIN, SESSION, SHARED_SESSION, check, forwardWorld, values } from './forward.mjs';
import { until } from './process.mjs';

// Beside the routes of the recipes: one for a network only, and one that refuses a method.
const MORE = `
[[route]]
name = "inside"
path = "/inside"
upstream = "status:404"
access = "policy"
allow = [{ network = "127.0.0.9/32" }]
`;

const API = 'https://api.example.test';
const SERVICE = {
  client_id: 'billing', client_secret: 'the-secret-of-billing-of-32-chars', token_endpoint_auth_method: 'client_secret_post', grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
};
const MACHINES = {
  clients: [SERVICE],
  features: {
    clientCredentials: { enabled: true },
    resourceIndicators: { enabled: true, getResourceServerInfo: () => ({ scope: '', audience: API, accessTokenFormat: 'jwt' }) },
  },
};

// One that the application is shown credentials for, and one whose bearer tokens are for Doorward.
const CREDENTIALS = `
[[route]]
name = "presented"
path = "/presented"
upstream = "status:404"
access = "authenticated"
[route.upstream_auth]
kind = "basic"
username = "doorward"
password = "a secret of ours"

[[route]]
name = "judged"
path = "/judged"
upstream = "status:404"
access = "authenticated"
[route.machine]
issuers = ["main"]
audience = ["${API}"]
`;
const PRESENTED = `Basic ${Buffer.from('doorward:a secret of ours').toString('base64')}`;

const SECONDS = 3;

// What clients say of themselves, and what applications might believe.
const SPOOFED = ['X-Forwarded-User: alice', 'x-forwarded-USER: alice', 'x_forwarded_user: alice', 'X.Forwarded.User: alice',
  'X-Forwarded-Groups: admins', 'X_Forwarded-Email: alice@example.test', 'X-Forwarded-Email: alice@example.test', 'X-Forwarded-Preferred-Username: alice',
  'X-Forwarded-Access-Token: x', 'X-Auth-Request-User: alice', 'X-Auth-Request-Email: alice@example.test', 'x_auth_request_groups: admins',
  'Remote-User: alice', 'remote_user: alice', 'Remote-Groups: admins', 'X-WEBAUTH-USER: alice', 'X-Doorward-Assertion: x'];
// And every name that Doorward itself would remove.
const KNOWN = [.../const IDENTITY: &\[&str\] = &\[([^]*?)\];/.exec(await readFile(new URL('../../../src/http/headers.rs', import.meta.url), 'utf8'))[1].matchAll(/"([a-z-]+)"/g)]
  .map(([, name]) => name);
SPOOFED.push(...KNOWN.filter((name) => !SPOOFED.some((line) => line.toLowerCase().startsWith(`${name}:`))).map((name) => `${name}: alice`));
const IDENTITY = [...new Set(SPOOFED.map((line) => line.split(':')[0].toLowerCase().replace(/[^a-z]/g, '-')))];

// What clients say of their request, to be judged by another one.
const ROUTING = ['X-Forwarded-Uri: /public/x', `X-Original-URL: ${ORIGIN}/public/x`, 'X-Original-URI: /public/x', 'X-Rewrite-URL: /public/x',
  'X-Forwarded-Host: other.example.com', 'X-Forwarded-Method: OPTIONS', 'X-Original-Method: OPTIONS', 'X-Forwarded-Proto: http', 'x_forwarded_uri: /public/x',
  'X_Original-URL: /public/x', 'X-HTTP-Method-Override: OPTIONS', 'Forwarded: for=127.0.0.9;host=other.example.com', 'X-Auth-Request-Redirect: /public/x'];

const TRICKS = ['/public/../admin', '//admin', '/%61dmin', '/public/%2e%2e/admin', '/public;/../admin', '/public/..;/admin', '/admin%2f..%2fpublic',
  '/public/..%2fadmin', '/public%2f../admin', '/./admin', '/admin/', '/admin;x', '/public/%252e%252e/admin', '/public/..%5cadmin', '/public/..\\admin', '/admin?/public/',
  '/oauth2/../admin', '/oauth2/%2e%2e/admin', '/oauth2/..;/admin', '/oauth2//../admin', '//oauth2/../admin', '/oauth2;/../admin', '/public/x/../../admin',
  `${ORIGIN}/admin`, `https://other.example.com/admin`, `http://user@${HOST}/admin`, '/Admin/../admin', '/admin%00', '/admin%23', '/public#/../admin'];

const SAID = '/page//a;b=c/./d';

const status = (answer) => Number(/^HTTP\/1\.[01] (\d{3}) /.exec(answer)?.[1]);
// The path as an application reads it that resolves dot segments; its log has it decoded.
const resolved = (line) => path.posix.normalize(line.path.replaceAll('\\', '/'));
const inPublic = (line) => /^\/public(\/|$)/.test(resolved(line));
const inAdmin = (line) => /^\/admin([/;]|$)/.test(resolved(line));

// `name`, `places`, `startProxy`: as of `forwardWorld`; `label`: in titles, in place of the name. `away`: the statuses while
// Doorward is not there. `cookies`: 'kept' where the proxy cannot take Doorward's out of the request. `tells`: what it tells
// of bob beside X-Forwarded-*. `arrives`: the path that it makes of SAID. `marks`: false where an answer of the application's with
// Doorward's cookies stays as cacheable as the application says. `advice`: what the README says to add for that and for
// `Authorization`, as `places`. `also`: further tests, given a function that returns the world.
export function forwardTests({ away = [503], cookies = 'taken', tells = {}, arrives = SAID, marks = true, advice = {}, also = () => {}, label, ...recipe }) {
  const name = label ?? recipe.name;

  describe(name, () => {
    let w;
    before(async () => {
      w = await forwardWorld({ ...recipe, toml: MORE });
    });
    after(() => w?.stop());

    test(`${name}: the recipe's configuration passes doorward check`, async () => {
      const { stdout, stderr } = await check(path.join(w.dir, 'doorward.toml'));
      assert.doesNotMatch(stdout + stderr, /warning/i);
    });

    test(`${name}: a person signs in on the way, comes back to the URL asked for, and opens a WebSocket`, async () => {
      const browser = await launch(w.at);
      try {
        const context = await freshContext(browser, { ignoreHTTPSErrors: true });
        const page = await context.newPage();
        const url = `${ORIGIN}/page?a=1&b=%20two&rd=%2Fx%26y`;
        await page.goto(url);
        await signIn(page, 'alice');
        await page.waitForURL(url);
        await assertIdentity(page, { user: 'alice', email: 'alice@example.test', groups: 'admins,staff' });
        const echo = await page.evaluate(() => new Promise((resolve, reject) => {
          const socket = new WebSocket(`wss://${location.host}/ws`);
          socket.onopen = () => socket.send('hello');
          socket.onmessage = ({ data }) => resolve(data);
          socket.onerror = () => reject(new Error('the socket failed'));
        }));
        assert.equal(echo, 'alice: hello');
        // The page of a refusal is Doorward's.
        await context.clearCookies();
        await page.goto(`${ORIGIN}/admin`);
        await signIn(page, 'bob');
        await page.getByText('403').or(page.getByRole('heading')).first().waitFor();
        assert.equal(page.url(), `${ORIGIN}/admin`);
        assert.match(await page.content(), /bob/);
      } finally {
        await browser.close();
      }
    });

    test(`hx_02 hx_03 hx_05 hx_20 ${name}: what clients claim to be does not arrive, anonymous or signed in, on any route`, async () => {
      const jar = await w.signedIn('bob');
      const cookie = `Cookie: other=1; ${jar.header(new URL(ORIGIN))}; last=2`;
      for (const [target, lines, expected] of [
        ['/public/page', [], {}],
        ['/public/page', [cookie], undefined],
        ['/page', [cookie], { 'x-forwarded-user': 'bob', 'x-forwarded-email': 'bob@example.test', 'x-forwarded-groups': 'staff', 'x-forwarded-preferred-username': 'bob', ...tells }],
      ]) {
        const [line, ...others] = await w.during(async () => assert.equal(status(await w.raw(target, [...SPOOFED, ...lines])), 200));
        assert.deepEqual(others, []);
        for (const header of IDENTITY) {
          const got = values(line, header).filter((value) => value !== '');
          const bobs = ['bob', 'bob@example.test', 'staff'];
          if (expected) assert.deepEqual(got, expected[header] ? [expected[header]] : [], `${header} at ${target}`);
          else assert.ok(got.length <= 1 && got.every((value) => bobs.includes(value)), `${header} at ${target}: ${got}`);
        }
        if (lines.length && cookies === 'taken') assert.deepEqual(values(line, 'cookie').join('; ').replace(/; $/, ''), 'other=1; last=2', 'the session stays outside');
      }
    });

    test(`hx_21 ${name}: who has no e-mail address does not get the client's`, async () => {
      const jar = await w.signedIn('nomail');
      const [line] = await w.during(async () => {
        const answer = await w.raw('/page', [...SPOOFED, `Cookie: ${jar.header(new URL(ORIGIN))}`]);
        assert.equal(status(answer), 200);
      });
      assert.deepEqual(values(line, 'x-forwarded-user'), ['nomail']);
      assert.deepEqual(values(line, 'x-forwarded-email').filter(Boolean), []);
    });

    test(`hx_09 ${name}: a Connection header that names identity headers cannot remove them`, async () => {
      const cookie = `Cookie: ${(await w.signedIn('bob')).header(new URL(ORIGIN))}`;
      const [line] = await w.during(() => w.raw('/page', ['Connection: X-Forwarded-User, x-forwarded-groups, x-auth-request-user', cookie]));
      assert.deepEqual(values(line, 'x-forwarded-user'), ['bob']);
      assert.deepEqual(values(line, 'x-forwarded-groups'), ['staff']);
      // Whose cookie is gone is nobody.
      const [other] = await w.during(() => w.raw('/page', ['Connection: x-forwarded-user, cookie', cookie]));
      if (other) assert.deepEqual(values(other, 'x-forwarded-user'), ['bob']);
    });

    test(`px_20 px_22 ${name}: no header of a client's makes another request of it`, async () => {
      const jar = await w.signedIn('bob');
      const cookie = `Cookie: ${jar.header(new URL(ORIGIN))}`;
      const got = await w.during(async () => {
        for (const line of [...ROUTING, ROUTING.join('\r\n')]) {
          for (const target of ['/admin', '/page']) assert.ok([401, 403].includes(status(await w.raw(target, [line]))), `${target} with ${line}`);
          assert.equal(status(await w.raw('/admin', [line, cookie])), 403, line);
        }
      });
      assert.deepEqual(got, []);
    });

    test(`hx_03 px_22 ${name}: what the application reads of the request's way is the proxy's own`, async () => {
      const jar = await w.signedIn('bob');
      const said = ['Forwarded: for=192.0.2.7', 'X-Forwarded-For: 192.0.2.7', 'X-Forwarded-Host: x.test', 'X-Forwarded-Prefix: /x', 'X-Forwarded-Uri: /x', 'X.Forwarded.Uri: /x',
        'X-Original-URL: /x', 'X_Original_URL: /x', 'X-Real-IP: 192.0.2.7', 'X-Rewrite-URL: /x'];
      for (const lines of [[], [`Cookie: ${jar.header(new URL(ORIGIN))}`]]) {
        // What Doorward was told two things of, it refuses.
        const [line] = await w.during(() => w.raw('/public/page', [...said, ...lines]));
        for (const [header, value] of line?.headers ?? []) assert.ok(!said.some((text) => text.endsWith(`: ${value}`)), `${header}: ${value}`);
      }
    });

    test(`px_20 ${name}: the query is the application's, whatever is in it`, async () => {
      const jar = await w.signedIn('bob');
      assert.match((await w.xhr(jar, '/page?allowed_groups=none&allowed_emails=none')).text, /\/page\?allowed_groups=none&amp;allowed_emails=none</);
      assert.equal((await w.xhr(jar, '/admin?allowed_groups=staff')).status, 403);
    });

    test(`w_01 px_22 ${name}: a client's address is its own`, async () => {
      const got = await w.during(async () => {
        for (const header of ['X-Forwarded-For: 127.0.0.9', 'X-Real-IP: 127.0.0.9', 'Forwarded: for=127.0.0.9', 'x_forwarded_for: 127.0.0.9', 'X-Forwarded-For: 127.0.0.9, 127.0.0.9']) {
          assert.ok([401, 403].includes(status(await w.raw('/inside', [header]))), header);
        }
      });
      assert.deepEqual(got, []);
      const [line] = await w.during(async () => {
        assert.equal(status(await w.raw('/inside', ['X-Forwarded-For: 192.0.2.7'], { from: '127.0.0.9' })), 200);
      });
      assert.deepEqual(values(line, 'x-forwarded-for'), ['127.0.0.9']);
      assert.deepEqual(values(line, 'x-forwarded-proto'), ['https']);
    });

    test(`l_20 ${name}: programs are told, never redirected; a wrong group is refused`, async () => {
      const [anonymous, bob, alice] = [w.jar(), await w.signedIn('bob'), await w.signedIn('alice')];
      const got = await w.during(async () => {
        const unknown = await w.xhr(anonymous, '/page');
        assert.equal(unknown.status, 401);
        assert.equal(unknown.headers['set-cookie'], undefined, 'no login was started');
        assert.equal((await w.xhr(anonymous, '/upload', { method: 'POST', form: { a: 'b' } })).status, 401);
        assert.equal((await anonymous.request(`${ORIGIN}/upload`, { method: 'POST', form: { a: 'b' } })).status, 401);
        assert.equal((await w.xhr(bob, '/admin')).status, 403);
        const refused = await bob.request(`${ORIGIN}/admin`);
        assert.equal(refused.status, 403);
        assert.equal(refused.location, undefined);
      });
      assert.deepEqual(got, []);
      assert.equal((await w.xhr(alice, '/admin')).status, 200);
      const sent = 'x'.repeat(1024 * 1024);
      const answer = await w.xhr(bob, '/upload', { method: 'POST', form: { sent } });
      assert.deepEqual(JSON.parse(answer.text), { bytes: sent.length + 'sent='.length, user: 'bob' });
    });

    test(`px_01 px_02 px_05 px_07 px_14 ${name}: no spelling of a path leads past the decision`, async () => {
      const jar = await w.signedIn('bob');
      for (const lines of [[], [`Cookie: ${jar.header(new URL(ORIGIN))}`]]) {
        for (const target of TRICKS) {
          const got = await w.during(async () => assert.ok(status(await w.raw(target, lines)) >= 200, target));
          assert.deepEqual(got.filter(inAdmin), [], target);
          if (!lines.length) assert.ok(got.every(inPublic), target);
        }
      }
    });

    test(`${name}: who may keep an answer is for the application to say, as long as Doorward sets no cookie`, async () => {
      const jar = await w.signedIn('bob');
      // This clears the counter of fruitless sign-ins.
      await w.xhr(jar, '/page');
      const { headers } = await w.xhr(jar, '/cacheable');
      assert.deepEqual([headers['cache-control'], headers['set-cookie']], ['public, max-age=86400', undefined]);
    });

    test(`px_01 ${name}: the path that was judged is the path that arrives`, async () => {
      const cookie = `Cookie: ${(await w.signedIn('bob')).header(new URL(ORIGIN))}`;
      const [line] = await w.during(async () => assert.equal(status(await w.raw(SAID, [cookie])), 200));
      assert.equal(line.path, arrives);
      const judged = await until('the access record', () => /"target":"access".*"path":"([^"]*b=c[^"]*)"/.exec(w.gateway.output.stdout)?.[1]);
      assert.equal(judged, line.path);
    });

    test(`${name}: the answers for proxies are no pages: nobody reads a token there`, async () => {
      const jar = await w.signedIn('alice');
      // All at once: Envoy takes a second to close a connection.
      await Promise.all(['/oauth2/auth', '/oauth2/forward', '/oauth2/ext_authz/page', '/oauth2/ext_authz', '/oauth2/ext_authz?x', '/oauth2/ext_authz/', '/oauth2/auth?x', '/oauth2/%61uth', '/oauth2//auth', '/oauth2/./auth', '/x/../oauth2/auth', '/oauth2/auth;x', '/oauth2/x/..%2fauth', '/oauth2/forward/x', '/%6fauth2/forward'].map(async (target) => {
        for (const more of [[], [`X-Original-URL: ${ORIGIN}/public/x`], ['X-Forwarded-Uri: /page', 'X-Forwarded-Method: GET']]) {
          const answer = await w.raw(target, [...more, `Cookie: ${jar.header(new URL(ORIGIN))}`]);
          assert.ok([400, 403, 404].includes(status(answer)), `${target}: ${answer.slice(0, 200)}`);
          assert.doesNotMatch(answer, /^x-(auth-request|forwarded)-user: alice/im);
        }
      }));
    });

    test(`wx_01 wx_02 ${name}: a WebSocket needs the session and the own origin, and nothing else is a tunnel`, async () => {
      const jar = await w.signedIn('alice');
      assert.equal(await w.handshake(jar, { origin: ORIGIN }), 101);
      const got = await w.during(async () => {
        assert.equal(await w.handshake(w.jar(), { origin: ORIGIN }), 401);
        assert.equal(await w.handshake(jar, { origin: 'https://evil.example.com' }), 403);
        assert.equal(await w.handshake(jar, { origin: 'null' }), 403);
      });
      assert.deepEqual(got, []);
      const lines = await w.during(async () => {
        for (const upgrade of ['h2c', 'h2c, websocket', 'websocket, h2c', 'h2c\r\nUpgrade: websocket', 'websocket\r\nUpgrade: h2c']) {
          for (const connection of ['close', 'Upgrade', 'Upgrade, HTTP2-Settings']) {
            const h2c = await w.raw('/page', [`Upgrade: ${upgrade}`, 'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA', `Connection: ${connection}`, `Origin: ${ORIGIN}`, `Cookie: ${jar.header(new URL(ORIGIN))}`]);
            assert.notEqual(status(h2c), 101);
          }
        }
      });
      // RFC 7540 §3.2 wants both.
      for (const line of lines) assert.ok(!/h2c/.test(values(line, 'upgrade').join()) || !values(line, 'http2-settings').length, JSON.stringify(line.headers));
    });

    test(`wx_01 wx_02 ${name}: nor does RFC 8441 open one past the decision`, async () => {
      const jar = await w.signedIn('alice');
      const got = await w.during(async () => {
        for (const headers of [{ origin: ORIGIN }, { origin: 'https://evil.example.com', cookie: jar.header(new URL(ORIGIN)) }]) {
          assert.ok([0, 400, 401, 403, 404, 405].includes(await w.extendedConnect(headers)), JSON.stringify(headers));
        }
      });
      assert.deepEqual(got, []);
    });

    test(`rl_01 ${name}: a sign-out ends it, for the browser and for a copy of the cookie`, async () => {
      const jar = await w.signedIn('alice');
      const copy = jar.header(new URL(ORIGIN));
      assert.equal((await w.xhr(jar, '/page')).status, 200);
      assert.deepEqual(jar.named(ORIGIN, /\.loop$/), [], 'this sign-in led somewhere');
      const out = await jar.request(`${ORIGIN}/oauth2/sign_out`, { headers: { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate' } });
      assert.equal(out.status, 302);
      assert.deepEqual(jar.named(ORIGIN, SESSION), []);
      const got = await w.during(async () => {
        assert.equal((await w.xhr(jar, '/page')).status, 401);
        assert.equal((await w.xhr(w.jar(), '/page', { headers: { cookie: copy } })).status, 401);
      });
      assert.deepEqual(got, []);
    });

    also(() => w);

    test(`${name}: without Doorward nobody passes, and afterwards everybody is still there`, async () => {
      const jar = await w.signedIn('alice');
      await w.gateway.stop();
      const got = await w.during(async () => {
        const asked = ['/page', '/admin', '/public/page'].map(async (target) => (await w.xhr(jar, target)).status);
        asked.push(jar.request(`${ORIGIN}/page`).then((answer) => answer.status), w.handshake(jar, { origin: ORIGIN }));
        for (const answered of await Promise.all(asked)) assert.ok(away.includes(answered), `${answered}`);
      });
      assert.deepEqual(got, []);
      await w.startDoorward();
      await until('the session to be good again', async () => (await w.xhr(jar, '/page')).status === 200);
    });
  });

  const refreshing = (more) => forwardWorld({ ...recipe, ...more, provider: { accessToken: SECONDS, demands: MACHINES }, env: { ...more.env, DOORWARD_SESSION__REFRESH_GRACE: '3s' } });

  describe(`${name}, refreshed`, () => {
    let w;
    before(async () => {
      w = await refreshing({ toml: MORE });
    });
    after(() => w?.stop());

    for (const [user, chunks] of [['alice', 1], ['many', 2]]) {
      test(`rf_01 cx_01 ${name}: a session of ${chunks === 1 ? 'one cookie' : 'several cookies'} that is refreshed on the way reaches the browser, and it alone`, async () => {
        await refreshed(w, { user, chunks, marks });
      });
    }

    test(`${name}: with an expired token and no provider nobody passes`, async () => {
      const jar = await w.signedIn('bob');
      await expired(jar);
      await w.provider.stop();
      const got = await w.during(async () => {
        for (const answer of [await w.xhr(jar, '/page'), await jar.request(`${ORIGIN}/page`)]) assert.equal(answer.status, 503, answer.text);
      });
      assert.deepEqual(got, []);
      await w.provider.start();
      await until('the session to be good again', async () => (await w.xhr(jar, '/page')).status === 200);
    });
  });

  // The cookies have another name then.
  describe(`${name}, with session.cookie_domain`, () => {
    let w;
    before(async () => {
      const places = (at) => ({ ...recipe.places(at), ...advice });
      w = await refreshing({ toml: CREDENTIALS, env: { DOORWARD_SESSION__COOKIE_DOMAIN: 'example.com' }, places });
    });
    after(() => w?.stop());

    test(`rf_01 cx_01 ${name}: a session with cookie_domain that is refreshed on the way reaches the browser, and it alone`, async () => {
      await refreshed(w, { user: 'many', chunks: 2, session: SHARED_SESSION });
    });

    test(`${name}: the application gets every cookie but those of Doorward, by the name that cookie_domain gives them`, { skip: cookies === 'kept' && 'documented' }, async () => {
      const jar = await w.signedIn('many');
      const own = jar.header(new URL(ORIGIN)).split('; ');
      assert.ok(own.length > 1 && own.every((pair) => pair.startsWith('doorward')), 'this session has chunks');
      for (const [sent, passed] of [
        [own, ''],
        [['a=1', ...own, 'b=2'], 'a=1; b=2'],
        [['xdoorward=1', ...own, 'doorwardx=2', 'b.doorward=3', 'c=doorward'], 'xdoorward=1; doorwardx=2; b.doorward=3; c=doorward'],
        [[own[0], 'a=1', ...own.slice(1)], 'a=1'],
      ]) {
        const [line] = await w.during(async () => assert.equal(status(await w.raw('/page', [`Cookie: ${sent.join('; ')}`])), 200));
        assert.equal(values(line, 'cookie').join('; ').replace(/;? ?$/, ''), passed);
      }
    });

    test(`at_01 ${name}: the application gets what Doorward presents, and no credentials that are for Doorward`, async () => {
      const jar = await w.signedIn('bob');
      const { access_token: token } = await (await fetch(`${w.issuer}/token`, { method: 'POST', body: new URLSearchParams({ grant_type: 'client_credentials', client_id: SERVICE.client_id, client_secret: SERVICE.client_secret, resource: API }) })).json();
      for (const [who, target, credentials, expected] of [[jar, '/presented', 'Basic YTpi', [PRESENTED]], [w.jar(), '/judged', `Bearer ${token}`, []]]) {
        const [line] = await w.during(async () => {
          assert.equal((await w.xhr(who, target, { headers: { authorization: credentials } })).status, 200, target);
        });
        assert.deepEqual(values(line, 'authorization').filter(Boolean), expected, target);
      }
    });
  });
}

async function expired(jar) {
  const since = Date.now();
  await until('the access token to expire', () => Date.now() > since + SECONDS * 1000 + 50);
  return jar.header(new URL(ORIGIN));
}

// Somebody's session is refreshed on the way to something that the application lets everybody keep.
async function refreshed(w, { user, chunks, session = SESSION, marks = true }) {
  const jar = await w.signedIn(user);
  assert.ok(chunks === 1 || jar.named(ORIGIN, session).length >= chunks, 'this session has chunks');
  const old = await expired(jar);
  const calls = w.provider.tokens.refreshes().length;
  const [line] = await w.during(async () => {
    const answer = await w.xhr(jar, '/cacheable');
    assert.equal(answer.status, 200);
    const set = answer.headers['set-cookie'].filter((text) => session.test(text.split('=')[0]));
    assert.ok(set.length >= chunks, `${set.length} cookies`);
    for (const text of set) assert.match(text, /; *HttpOnly/i);
    assert.doesNotMatch(JSON.stringify(answer.headers), /x-doorward-set-cookie/);
    if (marks) {
      assert.match(answer.headers['cache-control'], /\bno-store\b/);
      assert.doesNotMatch(answer.headers['cache-control'], /public|max-age/);
    }
  });
  assert.deepEqual(values(line, 'x-forwarded-user'), [user]);
  assert.notEqual(jar.header(new URL(ORIGIN)), old);
  assert.ok(w.provider.tokens.refreshes().length > calls);
  assert.equal(await w.handshake(jar, { origin: ORIGIN, cookie: old }), 101, 'a WebSocket is opened with the cookies of the one before');
  await until('the grace to pass', async () => (await w.xhr(w.jar(), '/page', { headers: { cookie: old } })).status === 401);
  assert.equal((await w.xhr(jar, '/page')).status, 200, 'the browser goes on with the new one');
}
