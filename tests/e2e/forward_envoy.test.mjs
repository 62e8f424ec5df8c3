// deploy/envoy, as it is: Envoy asks Doorward (ext_authz) over HTTP or over gRPC.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import http from 'node:http';
import http2 from 'node:http2';
import path from 'node:path';
import { test } from 'node:test';
import { HOST, ORIGIN, forwardWorld, values } from './lib/forward.mjs';
import { forwardTests } from './lib/forward_tests.mjs';
import { startEnvoy } from './lib/programs.mjs';

const NAVIGATION = { accept: 'text/html', 'sec-fetch-mode': 'navigate', 'sec-fetch-site': 'none', 'sec-fetch-dest': 'document' };
const XHR = { accept: '*/*', 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'same-origin' };
const GRPC = { ':method': 'POST', 'content-type': 'application/grpc', te: 'trailers' };

// `edit`: changes Envoy's file.
const recipe = (kind, edit) => ({
  name: 'envoy',
  places: (w) => ({
    'address: 0.0.0.0, port_value: 443 ': `address: 127.0.0.1, port_value: ${w.ports.proxy} `,
    'address: 0.0.0.0, port_value: 80 ': `address: 127.0.0.1, port_value: ${w.ports.plain} `,
    'port_value: 3000 ': `port_value: ${w.ports.app} `,
    'port_value: 4180 ': `port_value: ${w.ports.doorward} `,
    'port_value: 9191 ': `port_value: ${w.ports.grpc} `,
    '127.0.0.1:9191': `127.0.0.1:${w.ports.grpc}`,
    '/etc/envoy/tls.crt': w.cert,
    '/etc/envoy/tls.key': w.key,
  }),
  async startProxy(w) {
    const file = path.join(w.dir, `envoy-${kind}.yaml`);
    if (edit) await writeFile(file, edit(await readFile(file, 'utf8')));
    return startEnvoy(w, path.basename(file));
  },
});

for (const kind of ['http', 'grpc']) {
  forwardTests({
    ...recipe(kind),
    label: `envoy-${kind}`,
    // normalize_path and merge_slashes.
    arrives: '/page/a;b=c/d',
    cookies: kind === 'grpc' ? 'taken' : 'kept',
    // Over gRPC the answer headers of `auth` come along.
    tells: kind === 'grpc' ? { 'x-auth-request-user': 'bob', 'x-auth-request-email': 'bob@example.test', 'x-auth-request-groups': 'staff' } : {},
    also(world) {
      test(`envoy-${kind}: a refusal comes with all that Doorward says`, async () => {
        const w = world();
        const jar = w.jar();
        const sent = await jar.request(`${ORIGIN}/page?x=1`);
        assert.equal(sent.status, 302);
        assert.ok(sent.location.startsWith(w.provider.issuer), sent.location);
        assert.match(sent.headers['set-cookie'].join('\n'), /^__Host-doorward\.login\.[^\n]*HttpOnly[^\n]*$/i);
        assert.equal(sent.headers['cache-control'], 'no-store');
        // The sixth sign-in under way takes the place of the first: two cookies.
        for (let n = 2; n <= 5; n += 1) await jar.request(`${ORIGIN}/page?x=${n}`);
        const sixth = await jar.request(`${ORIGIN}/page?x=6`);
        assert.equal(sixth.headers['set-cookie'].length, 2, sixth.headers['set-cookie']);
        assert.equal(jar.named(ORIGIN, /^__Host-doorward\.login\./).length, 5);

        const head = await jar.request(`${ORIGIN}/page`, { method: 'HEAD' });
        assert.deepEqual([head.status, head.text], [302, '']);
        const program = await w.xhr(w.jar(), '/page');
        assert.match(program.headers['www-authenticate'], /^Bearer/);
        assert.match(program.headers['content-type'], /^application\/json/);
        assert.ok(JSON.parse(program.text).login_url.startsWith(`${ORIGIN}/oauth2/`));
        const page = await (await w.signedIn('bob')).request(`${ORIGIN}/admin`);
        assert.match(page.headers['content-type'], /^text\/html/);
        assert.match(page.headers['content-security-policy'], /frame-ancestors 'none'/);
        assert.match(page.text, /<h1/);
      });

      test(`hx_02 px_05 envoy-${kind}: what Doorward is not asked about has plain names, and no identity either`, async () => {
        const w = world();
        await w.gateway.stop();
        try {
          const forged = ['X-Forwarded-User: alice', 'x_forwarded_user: alice', 'X.Forwarded.User: alice', 'Remote-User: alice', 'X-Auth-Request-Groups: admins'];
          const [line] = await w.during(async () => assert.match(await w.raw('/public/static/a-b/page_1.html?x=1', forged), /^HTTP\/1\.1 200 /));
          for (const [name, value] of line.headers) assert.ok(!/^(alice|admins)/.test(value), `${name}: ${value}`);
          const got = await w.during(async () => {
            for (const target of ['/public/static/..;/admin', '/public/static/x;y', '/public/static/%20', '/public/static/../page', '/public/static', '/PUBLIC/static/x']) {
              assert.match(await w.raw(target), /^HTTP\/1\.1 503 /, target);
            }
          });
          assert.deepEqual(got, []);
        } finally {
          await w.startDoorward();
        }
      });

      test(`l_20 envoy-${kind}: HTTP/2 and gRPC get the same decisions, in the terms of each`, async () => {
        const w = world();
        const cookie = (await w.signedIn('bob')).header(new URL(ORIGIN));
        const session = http2.connect(ORIGIN, { host: '127.0.0.1', port: w.port, servername: HOST, rejectUnauthorized: false });
        try {
          const anonymous = await ask(session, { ':path': '/page', ...NAVIGATION });
          assert.equal(anonymous.headers[':status'], 302);
          const fields = { ':path': '/page', ...XHR, 'x-forwarded-user': 'alice', 'x.forwarded.user': 'alice', cookie: ['theme=dark', ...cookie.split('; ')] };
          const [line] = await w.during(async () => assert.equal((await ask(session, fields)).headers[':status'], 200));
          assert.deepEqual(values(line, 'x-forwarded-user'), ['bob']);
          const got = await w.during(async () => {
            const bare = await ask(session, { ':path': '/test.Notes/Say', ...GRPC });
            assert.deepEqual([bare.headers[':status'], bare.status], [200, '16']);
            const denied = await ask(session, { ':path': '/admin/Say', ...GRPC, cookie });
            assert.deepEqual([denied.headers[':status'], denied.status], [200, '7']);
          });
          assert.deepEqual(got, []);
        } finally {
          session.destroy();
        }
      });

      test(`envoy-${kind}: plain http leads to https`, async () => {
        const w = world();
        const answer = await new Promise((resolve, reject) => {
          http.get({ host: '127.0.0.1', port: w.ports.plain, path: '/page?x=1', headers: { host: HOST } }, resolve).on('error', reject);
        });
        answer.resume();
        assert.deepEqual([answer.statusCode, answer.headers.location], [301, `${ORIGIN}/page?x=1`]);
      });
    },
  });
}

test('hx_03 hx_05 envoy-grpc: Doorward alone has odd spellings removed, by the names that the client gave them', async () => {
  const w = await forwardWorld(recipe('grpc', (text) => {
    const open = text.replace('DROP_HEADER', 'ALLOW').replace(/ +early_header_mutation_extensions:[^]*?(?= +route_config:)/, '');
    assert.ok(open.length < text.length - 1000);
    return open;
  }));
  try {
    const jar = await w.signedIn('bob');
    const forged = ['x_forwarded_user: alice', 'X.Forwarded_Groups: admins', 'remote_user: alice', 'x_auth_request_email: alice@example.test', 'X-Forwarded-Email: alice@example.test'];
    for (const [target, lines, user] of [['/page', [`Cookie: ${jar.header(new URL(ORIGIN))}`], ['bob']], ['/public/asked;x', [], []]]) {
      const [line] = await w.during(async () => assert.match(await w.raw(target, [...forged, ...lines]), /^HTTP\/1\.1 200 /));
      assert.deepEqual(values(line, 'x-forwarded-user'), user);
      for (const [name, value] of line.headers) assert.ok(!/^(alice|admins)/.test(value), `${name}: ${value}`);
    }
  } finally {
    await w.stop();
  }
});

// One request of an HTTP/2 session: its headers, and the status where it is gRPC's.
function ask(session, fields) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':authority': HOST, ...fields });
    const answer = { headers: {} };
    stream.on('response', (headers) => Object.assign(answer, { headers, status: headers['grpc-status'] }));
    stream.on('trailers', (trailers) => Object.assign(answer, { status: trailers['grpc-status'] }));
    stream.on('error', reject).on('end', () => resolve(answer)).resume();
    stream.end();
  });
}
