// What was written for oauth2-proxy works as it stands: the nginx snippet of its documentation, and what ingress-nginx makes
// of its annotations. What they do not promise is not asked of them here: that is deploy/nginx.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { HOST, ORIGIN, SESSION, forwardWorld, values } from './lib/forward.mjs';
import { Jar } from './lib/jar.mjs';
import { startNginx } from './lib/nginx.mjs';
import { freePort, until } from './lib/process.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const SECONDS = 3;

const CLASSIC = {
  'error_page 401 = @oauth2_signin': '401 = @oauth2_signin',
  'error_page 401 = /oauth2/sign_in': '401 = /oauth2/sign_in',
  'error_page 401 =403 /oauth2/sign_in': '401 =403 /oauth2/sign_in',
};

// The host of an `auth-url`, and whether the question goes through the ingress of Doorward itself.
const INGRESS = {
  'auth-url https://$host/oauth2/auth': { host: '$host', through: true },
  // proxy-add-original-uri-header, on by default before 1.0.
  'auth-url https://$host/oauth2/auth, with X-Original-URI': { host: '$host', through: true, originalUri: true },
  'auth-url http://doorward.auth.svc.cluster.local:4180/oauth2/auth': { host: 'doorward.auth.svc.cluster.local' },
};

const ESCAPED = ['/page', '/page?a=1&b=%20two', '/admin', '/public/page'];
const MAPS = `
map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
map $http_x_request_id $req_id { default $http_x_request_id; "" $request_id; }
map $request_uri $escaped_request_uri {
${ESCAPED.map((uri) => `  "${uri}" "${encodeURIComponent(uri)}";`).join('\n')}
}
`;

let w;
const ports = {};
before(async () => {
  w = await forwardWorld({
    name: 'nginx',
    places: ({ app }) => ({ '127.0.0.1:3000': app }),
    provider: { accessToken: SECONDS },
    // The default: these proxies set what they set.
    env: { DOORWARD_SESSION__REFRESH_GRACE: '3s', DOORWARD_FORWARD_AUTH__HEADERS: 'any' },
    async startProxy({ dir, tmp, cert, key, app, doorward, port }) {
      const [classic, ingress] = await Promise.all(['oauth2-proxy', 'ingress-nginx'].map((name) => readFile(path.join(HERE, `snippets/${name}.conf`), 'utf8')));
      const sites = [MAPS];
      const site = async (form, text, places) => {
        ports[form] = sites.length === 1 ? port : await freePort();
        const all = {
          LISTEN: `127.0.0.1:${ports[form]}`, TLS: `ssl_certificate ${cert}; ssl_certificate_key ${key};`, '127.0.0.1:4180': doorward, '127.0.0.1:3000': app, ...places,
        };
        sites.push(Object.entries(all).reduce((before, [from, to]) => before.replaceAll(from, () => to), text.replace(/^#.*\n/gm, '')));
      };
      for (const [form, page] of Object.entries(CLASSIC)) await site(form, classic, { ERROR_PAGE: page });
      for (const [form, { host, through, originalUri }] of Object.entries(INGRESS)) {
        const self = await freePort();
        await site(form, ingress, {
          AUTH_HOST: host,
          TARGET: through ? `https://127.0.0.1:${self}/oauth2/auth` : `http://${doorward}/oauth2/auth`,
          ORIGINAL_URI: originalUri ? 'proxy_set_header X-Original-URI $request_uri;' : '',
          'listen ': `listen 127.0.0.1:${self} ssl; listen `,
        });
      }
      const file = path.join(dir, 'snippets.conf');
      await writeFile(file, sites.join('\n'));
      return startNginx({ tmp, sites: [file] });
    },
  });
});
after(() => w?.stop());

const jarAt = (form) => new Jar({ [HOST]: ports[form] });
const session = (jar) => jar.named(ORIGIN, /^__Host-doorward$/).join();

// From `url` to the provider and back, over Doorward's page with the button if there is one; the page that was asked for.
async function visit(jar, user, url) {
  let answer = await jar.request(url);
  while (answer.location && !answer.location.startsWith(w.issuer) && !/\/oauth2\/start/.test(answer.url)) answer = await jar.request(answer.location);
  const button = /href="(\/oauth2\/start[^"]*)"/.exec(answer.text)?.[1].replaceAll('&amp;', '&').replaceAll('&#38;', '&');
  const returned = await jar.signIn(w, user, button ? `${ORIGIN}${button}` : answer.url);
  assert.equal(returned.status, 302, returned.text);
  return { shown: answer, returned, page: await jar.request(returned.location) };
}

// Also for a browser that holds what has to go at the same time: the second cookie of a session that was longer, the count of
// sign-ins. nginx passes on one Set-Cookie: the first, or since 1.23 all of them as one, of which the last Max-Age counts.
async function refreshed(jar) {
  const since = Date.now();
  const holds = ['__Host-doorward.1', '__Host-doorward.loop'].map((name) => {
    const more = new Jar(jar.at);
    more.cookies = [...jar.cookies, { host: HOST, name, value: 'x', path: '/' }];
    return more;
  });
  await until('the access token to expire', () => Date.now() > since + SECONDS * 1000 + 50);
  const old = session(jar);
  for (const browser of [jar, ...holds]) {
    const answer = await w.xhr(browser, '/page');
    assert.equal(answer.status, 200);
    assert.ok(answer.headers['set-cookie'].some((line) => SESSION.test(line.split('=')[0])));
    assert.ok(![old, ''].includes(session(browser)), `the successor reached the browser: ${answer.headers['set-cookie']}`);
    assert.match((await w.xhr(browser, '/page')).text, /Legacy app/);
  }
}

async function last(action) {
  return (await w.during(action)).at(-1);
}

for (const form of Object.keys(CLASSIC)) {
  test(`oauth2-proxy's snippet, ${form}`, async () => {
    const jar = jarAt(form);
    const got = await w.during(async () => {
      for (const target of ['/page', '/admin', '/public/../admin', '//admin', '/%61dmin']) {
        const { status, text } = await jarAt(form).request(`${ORIGIN}${target}`);
        assert.ok([302, 200, 401, 403, 500].includes(status) && !/Legacy app/.test(text), `${target}: ${status}`);
      }
    });
    assert.deepEqual(got, []);
    const line = await last(async () => {
      const { shown, returned, page } = await visit(jar, 'bob', `${ORIGIN}/page?a=1&b=2`);
      assert.match(shown.text, /Sign in/);
      if (form.includes('=403')) assert.equal(shown.status, 403);
      // The snippet does not encode what it writes into `rd`; where it sends a header instead, all of it comes back.
      assert.equal(returned.location, `${ORIGIN}/page?a=1${form.includes('@') ? '' : '&b=2'}`);
      assert.equal(page.status, 200);
    });
    assert.deepEqual(values(line, 'x-user'), ['bob']);
    assert.deepEqual(values(line, 'x-email'), ['bob@example.test']);
    assert.deepEqual(values(line, 'x-access-token').filter(Boolean), []);
    assert.equal((await w.xhr(jar, '/admin')).status, 403);
    const spoofed = await last(() => w.xhr(jar, '/page', { headers: { 'x-user': 'alice', 'x-email': 'alice@example.test' } }));
    assert.deepEqual([values(spoofed, 'x-user'), values(spoofed, 'x-email')], [['bob'], ['bob@example.test']]);
    await refreshed(jar);
  });
}

for (const form of Object.keys(INGRESS)) {
  test(`hx_21 px_20 ingress-nginx, ${form}`, async () => {
    const jar = jarAt(form);
    const got = await w.during(async () => {
      for (const target of ['/page', '/admin']) {
        const answer = await jarAt(form).request(`${ORIGIN}${target}`);
        assert.equal(answer.status, 302);
        assert.equal(answer.location, `${ORIGIN}/oauth2/start?rd=${encodeURIComponent(target)}`);
      }
      for (const headers of [{ 'x-forwarded-uri': '/public/page' }, { 'x-original-uri': '/public/page' }, { 'x-forwarded-host': 'other.example.com' }, { 'x-forwarded-method': 'OPTIONS' }, { 'x-original-url': `${ORIGIN}/public/page` }]) {
        const { status } = await w.xhr(jarAt(form), '/admin', { headers });
        assert.ok([302, 403].includes(status), `${status} ${JSON.stringify(headers)}`);
      }
    });
    assert.deepEqual(got, []);
    assert.equal((await w.xhr(jarAt(form), '/public/page')).status, 200);

    const line = await last(async () => {
      const { returned, page } = await visit(jar, 'bob', `${ORIGIN}/page?a=1&b=%20two`);
      assert.equal(returned.location, `${ORIGIN}/page?a=1&b=%20two`);
      assert.equal(page.status, 200);
    });
    assert.deepEqual(values(line, 'x-auth-request-user'), ['bob']);
    assert.deepEqual(values(line, 'x-auth-request-email'), ['bob@example.test']);
    assert.deepEqual(values(line, 'x-auth-request-groups'), ['staff']);
    assert.equal((await w.xhr(jar, '/admin')).status, 403);
    assert.equal((await w.xhr(jar, '/page', { method: 'POST', form: { a: 'b' } })).status, 200);
    await refreshed(jar);

    const nomail = jarAt(form);
    await visit(nomail, 'nomail', `${ORIGIN}/page`);
    const spoofed = await last(() => w.xhr(nomail, '/page', { headers: { 'x-auth-request-email': 'alice@example.test' } }));
    assert.deepEqual(values(spoofed, 'x-auth-request-user'), ['nomail']);
    assert.deepEqual(values(spoofed, 'x-auth-request-email').filter(Boolean), []);
  });
}
