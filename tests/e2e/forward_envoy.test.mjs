// Envoy asks Doorward (ext_authz), over HTTP and over gRPC, with the files of deploy/envoy.
import assert from 'node:assert/strict';
import http from 'node:http';
import http2 from 'node:http2';
import { after, before, describe, test } from 'node:test';
import { assertIdentity, freshContext, launch, signIn, visitAs } from './lib/browser.mjs';
import { envoyWorld, SESSION_COOKIE } from './lib/envoy.mjs';
import { until } from './lib/process.mjs';
import { MANY_GROUPS } from './lib/provider.mjs';

const NAVIGATION = { accept: 'text/html', 'sec-fetch-mode': 'navigate', 'sec-fetch-site': 'none', 'sec-fetch-dest': 'document' };
const XHR = { accept: 'application/json', 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'same-origin' };

// Rules about where a request comes from.
const NETWORKS = `
[[route]]
name = "everywhere"
path = "/everywhere"
upstream = "status:404"
access = "policy"
allow = [{ network = ["0.0.0.0/0", "::/0"] }]

[[route]]
name = "elsewhere"
path = "/elsewhere"
upstream = "status:404"
access = "policy"
allow = [{ network = ["203.0.113.7"] }]
`;

const SPOOFED = {
  'X-Forwarded-User': 'alice', 'X.Forwarded.User': 'alice', 'X-Forwarded-Email': 'alice@example.test', 'X-Forwarded-Groups': 'admins',
  'X-Forwarded-Preferred-Username': 'alice', 'X.Forwarded-Groups': 'admins', 'X-Auth-Request-User': 'alice',
  'X-Auth-Request-Email': 'alice@example.test', 'Remote-User': 'alice', 'Remote.Groups': 'admins', 'X-WEBAUTH-USER': 'alice',
};
const IDENTITY = /^(x-forwarded-(user|email|groups|preferred-username)|x-auth-request-.*|remote-.*|x-webauth-.*)$/;

// What the application was told of somebody, under any spelling: { name: [values] }; empty values say nothing.
function identity({ headers }) {
  const told = {};
  for (const [name, value] of headers) {
    const plain = name.toLowerCase().replace(/[^a-z0-9]/g, '-');
    if (IDENTITY.test(plain) && value !== '') (told[plain] ??= []).push(value);
  }
  return told;
}

// What it is told of `user`, who is in one group. Over gRPC the answer headers of `auth` come along.
function told(kind, user, email) {
  const values = { user, email, groups: 'staff', 'preferred-username': user };
  const prefixes = kind === 'grpc' ? ['x-forwarded', 'x-auth-request'] : ['x-forwarded'];
  const fields = prefixes.flatMap((prefix) => Object.entries(values).map(([name, value]) => [`${prefix}-${name}`, [value]]));
  return Object.fromEntries(fields.filter(([, [value]]) => value));
}

const browser = await launch();
after(() => browser.close());

for (const kind of ['http', 'grpc']) {
  describe(`ext_authz over ${kind}`, () => {
    const BOB = told(kind, 'bob', 'bob@example.test');
    let w, bob;
    before(async () => {
      w = await envoyWorld(kind, { routes: NETWORKS });
      bob = w.cookie(await w.signIn('bob'));
    });
    after(() => w?.stop());

    const last = async (path) => (await w.appLog()).findLast((line) => line.path === path);

    // Whatever these requests are answered, the application gets none of them.
    async function reachesNobody(requests) {
      const before = (await w.appLog()).length;
      const answers = [];
      for (const [target, options] of requests) answers.push(await w.send(target, options));
      const line = (await w.appLog())[before];
      assert.equal(line, undefined, JSON.stringify(line));
      return answers;
    }

    test(`a person signs in, comes back to the page asked for, talks by WebSocket and signs out (${kind})`, async () => {
      const context = await freshContext(browser, { ignoreHTTPSErrors: true });
      const page = await context.newPage();
      await visitAs(page, 'alice', `${w.origin}/reports?year=2026&q=a%20b&next=%2Fx`);
      await assertIdentity(page, { user: 'alice', email: 'alice@example.test', groups: 'admins,staff' });
      assert.equal(await page.locator('#page').textContent(), '/reports?year=2026&q=a%20b&next=%2Fx');
      const echo = await page.evaluate(() => new Promise((resolve, reject) => {
        const socket = new WebSocket(`wss://${location.host}/ws`);
        socket.onopen = () => socket.send('hello');
        socket.onmessage = ({ data }) => resolve(data);
        socket.onerror = () => reject(new Error('no WebSocket'));
      }));
      assert.equal(echo, 'alice: hello');
      await page.getByRole('link', { name: 'Sign out' }).click();
      await page.getByRole('button', { name: 'Sign out of the provider' }).click();
      await page.waitForURL(/\/oauth2\/signed_out/);
      await page.goto(`${w.origin}/reports`);
      await page.getByLabel('User name').waitFor();
      await signIn(page, 'bob');
      await page.waitForURL(`${w.origin}/reports`);
      await assertIdentity(page, { user: 'bob', email: 'bob@example.test', groups: 'staff' });
      await context.close();
    });

    test(`an anonymous navigation is sent to the provider with everything that Doorward answers (${kind})`, async () => {
      const [answer, head] = await reachesNobody([['/page?x=1', { headers: NAVIGATION }], ['/page', { method: 'HEAD', headers: NAVIGATION }]]);
      assert.equal(answer.status, 302);
      assert.ok(answer.headers.location.startsWith(w.provider.issuer), answer.headers.location);
      assert.equal(answer.headers['set-cookie'].length, 1);
      assert.match(answer.headers['set-cookie'][0], /^__Host-doorward\.login\..*HttpOnly/i);
      assert.equal(answer.headers['cache-control'], 'no-store');
      assert.equal(head.status, 302);
      assert.equal(head.text, '');
    });

    test(`programs get 401, the wrong group 403, and neither a redirect (${kind})`, async () => {
      const [xhr, post, prefetch, wrong, page] = await reachesNobody([
        ['/page', { headers: XHR }],
        ['/page', { method: 'POST', headers: NAVIGATION, body: 'x=1' }],
        ['/page', { headers: { ...NAVIGATION, 'sec-purpose': 'prefetch' } }],
        ['/admin/x', { headers: XHR, cookie: bob }],
        ['/admin/x', { headers: NAVIGATION, cookie: bob }],
      ]);
      assert.equal(xhr.status, 401);
      assert.equal(xhr.headers['set-cookie'], undefined);
      assert.match(xhr.headers['www-authenticate'], /^Bearer/);
      assert.match(xhr.headers['content-type'], /^application\/json/);
      assert.ok(JSON.parse(xhr.text).login_url);
      assert.equal(post.status, 401);
      assert.equal(prefetch.status, 401);
      assert.equal(wrong.status, 403);
      assert.ok(JSON.parse(wrong.text).error);
      assert.equal(page.status, 403);
      assert.match(page.headers['content-type'], /^text\/html/);
      assert.match(page.headers['content-security-policy'], /frame-ancestors 'none'/);
      assert.match(page.text, /<h1/);
    });

    test(`a body passes whole, of whoever is signed in (${kind})`, async () => {
      const body = Buffer.alloc(1024 * 1024, 'u');
      const [refused] = await reachesNobody([['/upload', { method: 'POST', headers: XHR, body }]]);
      assert.ok(refused.status === 401 || refused.error, `${refused.status}`);
      const answer = await w.send('/upload', { method: 'POST', headers: XHR, cookie: bob, body });
      assert.equal(answer.status, 200, answer.text);
      assert.deepEqual(JSON.parse(answer.text), { bytes: body.length, user: 'bob' });
    });

    test(`hx_02 hx_03 hx_05 hx_06 hx_09 spoofed identity headers never arrive, asked about or not (${kind})`, async () => {
      for (const [path, cookie, want] of [
        ['/own', bob, BOB],
        ['/public/asked;x', bob, {}], ['/public/asked;x', undefined, {}],
        ['/public/unasked', bob, {}], ['/public/unasked', undefined, {}],
        ['/everywhere', undefined, {}],
      ]) {
        const answer = await w.send(path, { headers: { ...XHR, ...SPOOFED }, cookie });
        assert.equal(answer.status, 200, `${path} ${answer.text}`);
        assert.deepEqual(identity(await last(path)), want, path);
      }
      await reachesNobody(['x_forwarded_user', 'X_Forwarded-Groups', 'remote_user'].flatMap((name) => [
        ['/own', { headers: { ...XHR, [name]: 'alice' }, cookie: bob }],
        ['/public/unasked', { headers: { ...XHR, [name]: 'alice' } }],
      ]));
      // What Connection names, Envoy removes: before Doorward is asked.
      await w.send('/own/connection', { headers: { ...XHR, connection: 'close, x-forwarded-user, X-Forwarded-Groups' }, cookie: bob });
      assert.deepEqual(identity(await last('/own/connection')), BOB);
    });

    test(`hx_21 who has no e-mail gets none from the client (${kind})`, async () => {
      const cookie = w.cookie(await w.signIn('user0'));
      assert.equal((await w.send('/nomail', { headers: { ...XHR, ...SPOOFED }, cookie })).status, 200);
      assert.deepEqual(identity(await last('/nomail')), told(kind, 'user0'));
    });

    test(`px_20 px_22 what a client says about its request moves no decision (${kind})`, async () => {
      const elsewhere = `${w.origin}/public`;
      const claims = [
        { 'x-forwarded-uri': '/public' }, { 'x-original-url': elsewhere }, { 'x-original-uri': '/public' }, { 'x-rewrite-url': '/public' },
        { 'x-forwarded-method': 'OPTIONS', 'x-original-method': 'OPTIONS' }, { 'x-forwarded-host': 'evil.test' }, { 'x-forwarded-proto': 'http' },
        { 'x-envoy-original-path': '/public' }, { 'x-forwarded-for': '203.0.113.7', 'x-real-ip': '203.0.113.7', forwarded: 'for=203.0.113.7' },
        { 'x-forwarded-for': '203.0.113.7, 203.0.113.7', 'x-envoy-external-address': '203.0.113.7' },
      ];
      for (const claim of claims) {
        const [anonymous, wrong, network, navigation] = await reachesNobody([
          ['/admin', { headers: { ...XHR, ...claim } }],
          ['/admin', { headers: { ...XHR, ...claim }, cookie: bob }],
          ['/elsewhere', { headers: { ...XHR, ...claim } }],
          ['/admin?x=1', { headers: { ...NAVIGATION, ...claim } }],
        ]);
        const what = JSON.stringify(claim);
        assert.equal(anonymous.status, 401, what);
        assert.equal(wrong.status, 403, what);
        assert.equal(network.status, 401, what);
        assert.equal(navigation.status, 302, what);
        assert.ok(navigation.headers.location.startsWith(w.provider.issuer), what);
      }
      assert.equal((await w.send('/everywhere', { headers: XHR })).status, 200, 'networks are looked at');
      for (const [target, status] of [['/oauth2/auth', 404], ['/oauth2/ext_authz/', 404], ['/oauth2/%61uth', 404], ['/oauth2/forward', 404], ['/oauth2/userinfo', 401]]) {
        assert.equal((await w.send(target, { headers: { ...XHR, 'x-original-url': elsewhere } })).status, status, target);
      }
    });

    test(`px_01 px_02 px_04 px_05 px_07 no spelling of a path gets an anonymous request to what is protected (${kind})`, async () => {
      const tricks = [
        '/public/../admin', '//admin', '/%61dmin', '/public/%2e%2e/admin', '/public/%2E%2E/admin', '/public;/../admin', '/admin%2f..%2fpublic',
        '/public%2f..%2fadmin', '/public/..;/admin', '/public/..;x=1/admin', '/public\\..\\admin', '/public%5c..%5cadmin', '/./admin', '/public/./../admin',
        '/public/..%00/admin', '/public/..', '/ADMIN', '/admin;x', '/admin.', '/public/../../admin', '/public/.%2e/admin', '/publicx', '/public%2fx/../../admin',
      ];
      for (const target of tricks) {
        const [anonymous] = await reachesNobody([[target, { headers: XHR }]]);
        assert.ok([400, 401, 403, 404].includes(anonymous.status) || anonymous.error, `${target} ${anonymous.status}`);
      }
      const seen = (await w.appLog()).length;
      for (const target of tricks) await w.send(target, { headers: XHR, cookie: bob });
      const reached = (await w.appLog()).slice(seen).map(({ path }) => path);
      assert.deepEqual(reached.filter((path) => /admin/.test(path) && path !== '/ADMIN' && path !== '/admin.'), [], 'nor bob, who is no admin');
      // Encoded twice it is a name like another, to Envoy, Doorward and the application.
      for (const target of ['/public/%252e%252e/admin', '/public/%2561dmin']) {
        const { status } = await w.send(target, { headers: XHR });
        if (status === 200) assert.ok((await w.appLog()).at(-1).path.startsWith('/public/%'), target);
      }
    });

    test(`a WebSocket wants a session and its own origin (${kind})`, async () => {
      const before = (await w.appLog()).length;
      assert.equal(await w.upgrade('/ws', { origin: w.origin }), 401);
      assert.equal(await w.upgrade('/ws', { origin: 'https://evil.test', cookie: bob }), 403);
      assert.equal((await w.appLog()).length, before);
      assert.equal(await w.upgrade('/ws', { origin: w.origin, cookie: bob }), 101);
    });

    test(`HTTP/2 and gRPC: the same decisions, in the terms of each (${kind})`, async () => {
      const session = http2.connect(w.origin, { rejectUnauthorized: false });
      try {
        const anonymous = await ask2(session, { ':path': '/h2?x=1', ...NAVIGATION });
        assert.equal(anonymous.headers[':status'], 302);
        const own = await ask2(session, { ':path': '/h2', ...XHR, ...SPOOFED, cookie: ['theme=dark', ...bob.split('; ')] });
        assert.equal(own.headers[':status'], 200);
        assert.deepEqual(identity(await last('/h2')), BOB);
        const call = { ':method': 'POST', 'content-type': 'application/grpc', te: 'trailers' };
        const bare = await ask2(session, { ':path': '/test.Notes/Say', ...call });
        assert.equal(bare.headers[':status'], 200);
        assert.equal(bare.headers['grpc-status'] ?? bare.trailers['grpc-status'], '16');
        const denied = await ask2(session, { ':path': '/admin/Say', ...call, cookie: bob });
        assert.equal(denied.headers['grpc-status'] ?? denied.trailers['grpc-status'], '7');
      } finally {
        session.destroy();
      }
      assert.equal((await w.appLog()).filter(({ path }) => /Say$/.test(path)).length, 0);
    });

    test(`a sign-out at Envoy ends the session, for a copy of its cookie too (${kind})`, async () => {
      const jar = await w.signIn('alice');
      const copy = w.cookie(jar);
      assert.equal((await w.send('/page', { headers: XHR, cookie: copy })).status, 200);
      const out = await jar.request(`${w.origin}/oauth2/sign_out`, { headers: { ...NAVIGATION, 'sec-fetch-site': 'same-origin' } });
      assert.ok([302, 303].includes(out.status), `${out.status}`);
      assert.deepEqual(jar.named(w.origin, SESSION_COOKIE), []);
      const [gone] = await reachesNobody([['/page', { headers: XHR, cookie: copy }]]);
      assert.equal(gone.status, 401);
    });

    test(`Doorward's own cookies: ${kind === 'grpc' ? 'kept from the application' : 'only HTTP cannot keep them from the application'} (${kind})`, async () => {
      await w.send('/cookies', { headers: XHR, cookie: `theme=dark; ${bob}; lang=en` });
      const cookie = (await last('/cookies')).headers.filter(([name]) => name === 'cookie').map(([, value]) => value);
      assert.deepEqual(cookie, [kind === 'grpc' ? 'theme=dark; lang=en' : `theme=dark; ${bob}; lang=en`]);
    });

    test(`plain http leads to https (${kind})`, async () => {
      const answer = await new Promise((resolve, reject) => {
        http.get({ host: '127.0.0.1', port: w.plainPort, path: '/page?x=1', headers: { host: w.host } }, resolve).on('error', reject);
      });
      answer.resume();
      assert.equal(answer.statusCode, 301);
      assert.equal(answer.headers.location, `${w.origin}/page?x=1`);
    });

    // The last one: nothing works afterwards.
    test(`without Doorward nobody passes (${kind})`, async () => {
      await w.doorward.stop();
      const answers = await reachesNobody([
        ['/page', { headers: XHR, cookie: bob }], ['/page', { headers: NAVIGATION }], ['/everywhere', { headers: XHR }], ['/public/odd;x', { headers: XHR }],
      ]);
      assert.deepEqual(answers.map(({ status }) => status), [503, 503, 503, 503]);
      assert.equal((await w.send('/public/page')).status, 200, 'what Doorward is not asked about');
      await w.startDoorward();
      await until('the session to count again', async () => (await w.send('/page', { headers: XHR, cookie: bob })).status === 200);
    });
  });

  describe(`refresh over ${kind}`, () => {
    const SECONDS = 3;
    let w;
    before(async () => {
      w = await envoyWorld(kind, { accessToken: SECONDS, session: { refresh_grace: '4s' } });
    });
    after(() => w?.stop());

    for (const user of ['bob', 'many']) {
      test(`rf_01 the successor of ${user}'s session comes through Envoy, all of it (${kind})`, async () => {
        w.provider.accessToken = SECONDS;
        const jar = await w.signIn(user);
        const since = Date.now();
        const [old, chunks] = [w.cookie(jar), jar.named(w.origin, SESSION_COOKIE).length];
        assert.ok(user === 'bob' ? chunks === 1 : chunks > 1, `${chunks} cookies`);
        // The successor is not due itself for as long as this takes.
        w.provider.accessToken = 600;
        await until('the access token to expire', () => Date.now() > since + SECONDS * 1000 + 50);
        const answer = await jar.request(`${w.origin}/page`, { headers: XHR });
        assert.equal(answer.status, 200, answer.text);
        const set = answer.headers['set-cookie'].map((line) => line.split('=', 1)[0]);
        assert.equal(set.filter((name) => SESSION_COOKIE.test(name)).length, chunks);
        assert.deepEqual(Object.keys(answer.headers).filter((name) => /^x-(doorward|auth)-/.test(name)), []);
        const fresh = w.cookie(jar);
        assert.notEqual(fresh, old);
        await until('the grace to pass', async () => (await w.send('/page', { headers: XHR, cookie: old })).status === 401);
        const path = `/after/${user}`;
        assert.equal((await w.send(path, { headers: XHR, cookie: fresh })).status, 200);
        const known = identity((await w.appLog()).findLast((line) => line.path === path));
        assert.deepEqual(known['x-forwarded-user'], [user]);
        if (user === 'many') assert.deepEqual(known['x-forwarded-groups'], [MANY_GROUPS.join(',')]);
      });
    }

    test(`with the provider away an expired token passes nobody, and signs nobody out (${kind})`, async () => {
      w.provider.accessToken = SECONDS;
      const jar = await w.signIn('alice');
      const since = Date.now();
      w.provider.accessToken = 600;
      await until('the access token to expire', () => Date.now() > since + SECONDS * 1000 + 50);
      await w.provider.stop();
      const answer = await jar.request(`${w.origin}/away`, { headers: XHR });
      assert.equal(answer.status, 503, answer.text);
      // Over HTTP, Envoy takes a 5xx for no answer and makes one of its own.
      if (kind === 'grpc') assert.ok(answer.headers['retry-after']);
      assert.equal((await w.appLog()).filter(({ path }) => path === '/away').length, 0);
      await w.provider.start();
      await until('the session to go on', async () => (await jar.request(`${w.origin}/back`, { headers: XHR })).status === 200);
    });
  });
}

// An Envoy that lets everything through: Doorward alone takes care.
test('hx_03 hx_05 over gRPC odd spellings are removed by the names that the client gave them', async () => {
  const edit = (text) => text
    .replace('headers_with_underscores_action: REJECT_REQUEST', 'headers_with_underscores_action: ALLOW')
    .replace(/ +early_header_mutation_extensions:[^]*?(?= +route_config:)/, '');
  const w = await envoyWorld('grpc', { edit });
  try {
    const cookie = w.cookie(await w.signIn('bob'));
    const odd = { x_forwarded_user: 'alice', 'X_Forwarded-Groups': 'admins', remote_user: 'alice', x_auth_request_email: 'alice@example.test' };
    assert.equal((await w.send('/own', { headers: { ...XHR, ...SPOOFED, ...odd }, cookie })).status, 200);
    assert.deepEqual(identity((await w.appLog()).findLast((line) => line.path === '/own')), told('grpc', 'bob', 'bob@example.test'));
    assert.equal((await w.send('/public/asked;x', { headers: { ...XHR, ...SPOOFED, ...odd } })).status, 200);
    assert.deepEqual(identity((await w.appLog()).findLast((line) => line.path === '/public/asked;x')), {});
  } finally {
    await w.stop();
  }
});

// One request of an HTTP/2 session: { headers, trailers }.
function ask2(session, headers) {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers);
    const answer = { headers: {}, trailers: {} };
    stream.on('response', (got) => Object.assign(answer.headers, got));
    stream.on('trailers', (got) => Object.assign(answer.trailers, got));
    stream.on('error', reject).on('end', () => resolve(answer)).resume();
    stream.end();
  });
}
