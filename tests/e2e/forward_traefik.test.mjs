// deploy/traefik, as it is, and the `errors` middleware that oauth2-proxy documents.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { freshContext, launch, signIn } from './lib/browser.mjs';
import { ORIGIN, forwardWorld, values } from './lib/forward.mjs';
import { forwardTests } from './lib/forward_tests.mjs';
import { snippet, startTraefik } from './lib/programs.mjs';

const RECIPE = {
  name: 'traefik',
  places: (w) => ({
    '":80"': `"127.0.0.1:${w.ports.plain}"`,
    '":443"': `"127.0.0.1:${w.ports.proxy}"`,
    '127.0.0.1:3000': w.app,
    '/etc/traefik/dynamic.yml': `${w.dir}/dynamic.yml`,
    '/etc/traefik/tls.crt': w.cert,
    '/etc/traefik/tls.key': w.key,
  }),
  startProxy: startTraefik,
};

forwardTests({
  ...RECIPE,
  away: [500],
  cookies: 'kept',
  // sanitizePath, its default.
  arrives: '/page/a;b=c/d',
  marks: false,
  advice: {
    'customRequestHeaders: {': 'customResponseHeaders: { Cache-Control: no-store }\n        customRequestHeaders: {',
    '|http2.settings)$': '|http2.settings|authorization)$',
  },
  tells: { 'x-auth-request-user': 'bob', 'x-auth-request-email': 'bob@example.test', 'x-auth-request-groups': 'staff' },
});

describe('traefik, as oauth2-proxy documents it', () => {
  let w;
  before(async () => {
    w = await forwardWorld({
      ...RECIPE,
      async startProxy(w) {
        await writeFile(`${w.dir}/dynamic.yml`, await snippet('oauth2-proxy.traefik.yml', { '127.0.0.1:4180': w.doorward, '127.0.0.1:3000': w.app }));
        return startTraefik(w);
      },
    });
  });
  after(() => w?.stop());

  test('b_07 a person gets the page to sign in, and comes back', async () => {
    const browser = await launch(w.at);
    try {
      const page = await (await freshContext(browser, { ignoreHTTPSErrors: true })).newPage();
      await page.goto(`${ORIGIN}/page?x=1&y=2`);
      await page.getByRole('link', { name: /^Sign in/ }).click();
      await signIn(page, 'alice');
      await page.waitForURL(`${ORIGIN}/page?x=1&y=2`);
    } finally {
      await browser.close();
    }
  });

  test('hx_20 the application is told who it is by Doorward alone', async () => {
    const bob = w.jar();
    await bob.signIn(w, 'bob', `${ORIGIN}/oauth2/start`);
    const [line] = await w.during(() => w.xhr(bob, '/page', { headers: { 'X-Auth-Request-Email': 'eve@example.test' } }));
    assert.deepEqual(values(line, 'x-auth-request-user'), ['bob']);
    assert.deepEqual(values(line, 'x-auth-request-email'), ['bob@example.test']);
  });

  test('px_20 what is refused does not arrive, whatever a client says of it', async () => {
    const got = await w.during(async () => {
      for (const target of ['/page', '/admin', '/public/../admin', '//admin', '/%61dmin']) {
        for (const headers of [{}, { 'X-Forwarded-Uri': '/public/page' }, { 'X-Original-URL': `${ORIGIN}/public/page` }, { 'X-Original-URI': '/public/page' }]) {
          assert.notEqual((await w.xhr(w.jar(), target, { headers })).status, 200);
        }
      }
    });
    assert.deepEqual(got, []);
  });
});
