// Several ways to sign in, in a browser: the page to choose on, answers by form_post, ID tokens by the implicit flow, and
// one sign-in for hosts that share no cookie.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { assertIdentity, freshContext, launch, photograph, signIn } from './lib/browser.mjs';
import { freePort } from './lib/process.mjs';
import { CLIENT } from './lib/provider.mjs';
import { sessions, world } from './lib/world.mjs';

const browser = await launch();
after(() => browser.close());

const IMPLICIT = { grant_types: ['implicit'], response_types: ['id_token'] };
const ALICE = { user: 'alice', email: 'alice@example.test', groups: 'admins,staff' };

test('b_03 b_19 a person chooses between two providers, and comes to the page that was asked for', async () => {
  // The same program twice: the second is a provider of its own.
  const other = await world({ upstream: 'http://127.0.0.1:9' });
  const port = await freePort();
  const w = await world({
    port,
    more: {
      provider: `label = "Staff accounts"
[provider.partners]
label = "Partner accounts"
issuer = "${other.issuer}"
client_id = "${CLIENT.id}"
client_secret = "${CLIENT.secret}"
`,
      routes: (url) => `
[[route]]
name = "either"
path = "/either"
upstream = "${url}"
access = "authenticated"
`,
    },
    provider: { demands: { metadata: { redirect_uris: [`http://127.0.0.1:${port}/oauth2/callback/main`] } } },
  });
  const context = await freshContext(browser);
  try {
    const page = await context.newPage();
    const problems = [];
    page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
    await page.goto(`${w.origin}/either?x=1`);
    assert.equal(new URL(page.url()).pathname, '/oauth2/sign_in');
    await page.getByText('To open 127.0.0.1').waitFor();
    await page.getByRole('link', { name: 'Sign in with Partner accounts' }).waitFor();
    assert.deepEqual(await context.cookies(), []);
    await photograph(page, 'choose-a-provider');
    assert.deepEqual(problems, []);
    await page.getByRole('link', { name: 'Sign in with Staff accounts' }).click();
    await signIn(page, 'alice');
    await page.waitForURL(`${w.origin}/either?x=1`);
    await assertIdentity(page, ALICE);
  } finally {
    await context.close();
    await w.stop();
    await other.stop();
  }
});

test('c_24 k_01 a sign-in comes back by form_post', async () => {
  const w = await world({ tls: true, more: { provider: 'response_mode = "form_post"' } });
  const context = await freshContext(browser, { ignoreHTTPSErrors: true });
  try {
    const page = await context.newPage();
    const callback = page.waitForRequest((request) => request.url().startsWith(`${w.origin}/oauth2/callback`));
    await page.goto(`${w.origin}/page`);
    await signIn(page, 'alice');
    const request = await callback;
    assert.equal(request.method(), 'POST');
    assert.equal(new URL(request.url()).search, '', 'nothing in the URL');
    assert.ok(request.postData().includes('code='));
    await page.waitForURL(`${w.origin}/page`);
    await assertIdentity(page, ALICE);
  } finally {
    await context.close();
    await w.stop();
  }
});

test('b_10 c_13 an ID token comes by the implicit flow, in a form and alone', async () => {
  const w = await world({ tls: true, more: { provider: 'flow = "implicit_form_post"\npar = "off"' }, provider: { demands: { metadata: IMPLICIT } } });
  const context = await freshContext(browser, { ignoreHTTPSErrors: true });
  try {
    const page = await context.newPage();
    const asked = page.waitForRequest((request) => request.url().startsWith(`${w.issuer}/auth?`));
    const callback = page.waitForRequest((request) => request.url().startsWith(`${w.origin}/oauth2/callback`));
    await page.goto(`${w.origin}/page`);
    assert.equal(new URL((await asked).url()).searchParams.get('response_type'), 'id_token');
    await signIn(page, 'alice');
    const form = new URLSearchParams((await callback).postData());
    assert.ok(form.get('id_token') && !form.has('access_token') && !form.has('code'));
    await page.waitForURL(`${w.origin}/page`);
    await assertIdentity(page, ALICE);
    assert.equal(w.provider.tokens.calls.length, 0, 'the token endpoint was not asked');
  } finally {
    await context.close();
    await w.stop();
  }
});

test('s_08 b_08 one sign-in opens hosts that share no cookie, and one sign-out closes them', async () => {
  const port = await freePort();
  const w = await world({
    port,
    more: {
      session: sessions({ store: 'memory', more: 'hand_over = true' }),
      routes: (url) => ['wiki.localhost', 'blog.example.localhost'].map((host) => `
[[route]]
name = "${host}"
host = "${host}"
path = "/"
upstream = "${url}"
access = "authenticated"
identity = ["x-forwarded"]
`).join(''),
    },
  });
  const context = await freshContext(browser);
  try {
    const [wiki, blog] = [`http://wiki.localhost:${port}`, `http://blog.example.localhost:${port}`];
    const page = await context.newPage();
    await page.goto(`${wiki}/page`);
    assert.ok(page.url().startsWith(w.issuer), page.url());
    await signIn(page, 'alice');
    await page.waitForURL(`${wiki}/page`);
    await assertIdentity(page, ALICE);
    await photograph(page, 'handed-over');
    // The others open by themselves.
    for (const url of [`${blog}/`, `${w.origin}/`]) {
      await page.goto(url);
      assert.equal(page.url(), url);
      await assertIdentity(page, ALICE);
    }
    const values = await Promise.all([wiki, blog, w.origin].map(async (url) => (await context.cookies(url)).find(({ name }) => name === 'doorward').value));
    assert.equal(new Set(values).size, 3, 'each host has a cookie of its own');

    await page.goto(`${blog}/oauth2/session`);
    await page.getByRole('button', { name: 'Sign out', exact: true }).first().click();
    await page.waitForLoadState();
    for (const url of [wiki, blog, w.origin]) {
      const answer = await page.goto(`${url}/oauth2/userinfo`);
      assert.equal(answer.status(), 401, url);
    }
  } finally {
    await context.close();
    await w.stop();
  }
});
