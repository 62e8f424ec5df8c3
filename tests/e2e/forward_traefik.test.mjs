// The recipe of deploy/traefik, with a real Traefik.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { freshContext, launch, signIn } from './lib/browser.mjs';
import { arrived, cookies, forwardCases, told } from './lib/forward_cases.mjs';
import { Jar } from './lib/jar.mjs';
import { freePort, start } from './lib/process.mjs';
import { program, proxied, send } from './lib/proxied.mjs';

async function traefik({ dir, port, file }, dynamic) {
  const here = { '/etc/traefik': dir };
  const ports = { '":80"': `"127.0.0.1:${await freePort()}"`, '":443"': `"127.0.0.1:${port}"` };
  await writeFile(path.join(dir, 'traefik.yml'), await file('traefik.yml', { ...here, ...ports }));
  await writeFile(path.join(dir, 'dynamic.yml'), dynamic ?? (await file('dynamic.yml', here)));
  return start(program('traefik'), ['--configFile=traefik.yml'], { cwd: dir });
}

describe('the recipe', () => {
  forwardCases({ recipe: 'traefik', proxy: traefik, absent: false });
});

// https://oauth2-proxy.github.io/oauth2-proxy/configuration/integrations/traefik, "ForwardAuth with 401 errors middleware":
// with other addresses, one host a rule and no `auth-headers`, as Traefik 3 wants it.
const OAUTH2_PROXY = `
http:
  routers:
    a-service:
      rule: "Host(\`app.example.com\`)"
      service: a-service-backend
      middlewares:
        - oauth-errors
        - oauth-auth
      tls: {}
    oauth:
      rule: "Host(\`app.example.com\`) && PathPrefix(\`/oauth2/\`)"
      service: oauth-backend
      tls: {}
  services:
    a-service-backend:
      loadBalancer:
        servers:
          - url: http://127.0.0.1:3000
    oauth-backend:
      loadBalancer:
        servers:
          - url: http://127.0.0.1:4180
  middlewares:
    oauth-auth:
      forwardAuth:
        address: http://127.0.0.1:4180/oauth2/auth
        trustForwardHeader: true
        authResponseHeaders:
          - X-Auth-Request-User
          - X-Auth-Request-Email
    oauth-errors:
      errors:
        status:
          - "401-403"
        service: oauth-backend
        query: "/oauth2/sign_in?rd={url}"
        statusRewrites:
          "401": 302
`;

describe('the configuration that oauth2-proxy documents', () => {
  let w;
  before(async () => {
    w = await proxied({ recipe: 'traefik', proxy: (given) => traefik(given, given.fill(OAUTH2_PROXY)) });
  });
  after(() => w?.stop());

  test('b_01 hx_20 shows people the page to sign in, and tells the application who they are', async () => {
    const jar = new Jar();
    const page = `${w.origin}/page?x=1&y=2`;
    const shown = await jar.request(page);
    assert.equal(shown.status, 302, 'as `statusRewrites` has it');
    assert.equal(shown.location, undefined);
    const start = new URL(/href="([^"]*\/oauth2\/start[^"]*)"/.exec(shown.text)[1].replaceAll('&amp;', '&'), w.origin);
    const back = await jar.signIn(w, 'bob', start.href);
    assert.equal(back.location, page);
    const { answer, lines } = await arrived(w, () => send(w, '/page', { cookie: cookies(jar, w), headers: { 'X-Auth-Request-Email': 'eve@example.test' } }));
    assert.equal(answer.status, 200);
    assert.deepEqual(told(lines[0], 'x-auth-request-user'), ['bob']);
    assert.deepEqual(told(lines[0], 'x-auth-request-email'), ['bob@example.test']);
  });

  test('b_07 a browser that ends up there signs in', async () => {
    const browser = await launch();
    try {
      const page = await (await freshContext(browser, { ignoreHTTPSErrors: true })).newPage();
      await page.goto(`${w.origin}/page?x=1`);
      await page.getByRole('link', { name: /^Sign in/ }).click();
      await signIn(page, 'alice');
      await page.waitForURL(`${w.origin}/page?x=1`);
    } finally {
      await browser.close();
    }
  });

  test('px_20 nothing that is refused arrives', async () => {
    const { lines } = await arrived(w, async () => {
      for (const path of ['/page', '/admin', '/public/../admin', '//admin', '/%61dmin']) {
        for (const headers of [{}, { 'X-Forwarded-Uri': '/public/page' }, { 'X-Original-URL': `${w.origin}/public/page` }, { 'X-Original-URI': '/public/page' }]) {
          assert.notEqual((await send(w, path, { headers })).status, 200);
        }
      }
    });
    assert.deepEqual(lines, []);
  });
});
