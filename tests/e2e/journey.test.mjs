// Signing in, in a real browser.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertIdentity, freshContext, launch, signIn, unusedCallback, visitAs } from './lib/browser.mjs';
import { MANY_GROUPS, ODD_CLIENT } from './lib/provider.mjs';
import { LOGIN_COOKIE, SESSION_COOKIE, world } from './lib/world.mjs';

let w, browser;
before(async () => {
  w = await world();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await w?.stop();
});

const ALICE = { user: 'alice', email: 'alice@example.test', groups: 'admins,staff' };
const BOB = { user: 'bob', email: 'bob@example.test', groups: 'staff' };

const providersForm = (page) => page.getByLabel('User name').waitFor();

test('a person visits a deep page, signs in, is back at it with an identity, signs out, must sign in again', async () => {
  const context = await freshContext(browser);
  const page = await context.newPage();
  const url = `${w.origin}/reports/2026/q4?sort=name&filter=a%20b`;

  await visitAs(page, 'alice', url);
  await assertIdentity(page, ALICE);
  assert.equal(await page.locator('#page').textContent(), '/reports/2026/q4?sort=name&filter=a%20b');

  const line = (await w.appLog()).findLast(({ path }) => path === '/reports/2026/q4');
  const seen = new Map(line.headers);
  assert.equal(seen.get('x-forwarded-user'), ALICE.user);
  assert.equal(seen.get('x-forwarded-email'), ALICE.email);
  assert.equal(seen.get('x-forwarded-groups'), ALICE.groups);
  assert.equal(seen.get('x-forwarded-preferred-username'), 'alice');
  assert.equal(seen.get('x-forwarded-host'), w.host);
  assert.equal(seen.get('x-forwarded-proto'), 'http');
  assert.doesNotMatch(seen.get('cookie') ?? '', /doorward/, 'k_07: our cookies stay ours');

  await page.getByRole('link', { name: 'Sign out' }).click();
  await page.getByRole('button', { name: 'Sign out of the provider' }).click();
  await page.waitForURL(/\/oauth2\/signed_out/);
  const left = (await context.cookies(w.origin)).filter(({ name }) => SESSION_COOKIE.test(name));
  assert.deepEqual(left, [], 'k_05: no session cookie is left');

  await page.goto(url);
  await providersForm(page);
  await context.close();
});

test('l_08 two tabs that sign in at once both land on their own page', async () => {
  const context = await freshContext(browser);
  const [first, second] = [await context.newPage(), await context.newPage()];
  await Promise.all([first.goto(`${w.origin}/tab/1`), second.goto(`${w.origin}/tab/2`)]);
  await providersForm(first);
  await providersForm(second);

  await signIn(second, 'bob');
  await second.waitForURL(`${w.origin}/tab/2`);
  await signIn(first, 'bob');
  await first.waitForURL(`${w.origin}/tab/1`);
  await assertIdentity(first, BOB);
  await assertIdentity(second, BOB);
  await context.close();
});

test('l_08 dx_01 twenty visits without signing in leave at most five login cookies, and the last one signs in', async () => {
  const context = await freshContext(browser);
  const page = await context.newPage();
  for (let visit = 1; visit <= 20; visit += 1) {
    await page.goto(`${w.origin}/visit/${visit}`);
    await providersForm(page);
    const logins = (await context.cookies(w.origin)).filter(({ name }) => LOGIN_COOKIE.test(name));
    assert.ok(logins.length >= 1 && logins.length <= 5, `${logins.length} login cookies after visit ${visit}`);
  }
  await signIn(page, 'bob');
  await page.waitForURL(`${w.origin}/visit/20`);
  await assertIdentity(page, BOB);
  await context.close();
});

test('k_03 hx_18 a person in 400 groups signs in; every group arrives and every cookie fits', async () => {
  const context = await freshContext(browser);
  const page = await context.newPage();
  await visitAs(page, 'many', `${w.origin}/groups`);
  await assertIdentity(page, { user: 'many', email: 'many@example.test', groups: MANY_GROUPS.join(',') });

  const chunks = (await context.cookies(w.origin)).filter(({ name }) => SESSION_COOKIE.test(name));
  assert.ok(chunks.length > 1, 'the session needs more than one cookie');
  for (const { name, value } of chunks) assert.ok(name.length + value.length <= 4096, `${name} is too long`);

  await page.reload();
  assert.equal(await page.locator('#user').textContent(), 'many', 'and the chunks come back together');
  await context.close();
});

test('o_01 a client id and a secret of every awkward character sign in', async () => {
  const odd = await world({ client: ODD_CLIENT });
  const context = await freshContext(browser);
  try {
    const page = await context.newPage();
    await visitAs(page, 'alice', `${odd.origin}/odd`);
    await assertIdentity(page, ALICE);
  } finally {
    await context.close();
    await odd.stop();
  }
});

test('l_01 a callback in a browser that started no sign-in is a 400 page whose "sign in again" works', async () => {
  const context = await freshContext(browser);
  const page = await context.newPage();
  await page.goto(`${w.origin}/from/here`);
  const callback = await unusedCallback(page, 'alice', w.origin);
  await context.close();

  const other = await freshContext(browser);
  const stranger = await other.newPage();
  const answer = await stranger.goto(callback);
  assert.equal(answer.status(), 400);
  assert.equal(answer.headers()['cache-control'], 'no-store');
  assert.deepEqual((await other.cookies(w.origin)).filter(({ name }) => SESSION_COOKIE.test(name)), []);

  await stranger.getByRole('link', { name: 'Sign in again' }).click();
  await stranger.getByRole('link', { name: 'Sign in', exact: true }).click();
  await signIn(stranger, 'bob');
  await stranger.waitForURL(`${w.origin}/`);
  await assertIdentity(stranger, BOB);
  await other.close();
});

test('who is not in the group gets a 403 page, and "sign in as someone else" lets another person in', async () => {
  const context = await freshContext(browser);
  const page = await context.newPage();
  await page.goto(`${w.origin}/admin/users`);
  const refused = page.waitForResponse(`${w.origin}/admin/users`);
  await signIn(page, 'bob');
  const answer = await refused;
  assert.equal(answer.status(), 403);
  assert.equal(answer.headers()['cache-control'], 'no-store');
  assert.equal((await w.appLog()).filter(({ path }) => path === '/admin/users').length, 0, 'the application saw nothing');

  await page.getByRole('button', { name: 'Sign in as someone else' }).click();
  await page.getByRole('button', { name: 'Sign out of the provider' }).click();
  await signIn(page, 'alice');
  await page.waitForURL(`${w.origin}/`);
  await page.goto(`${w.origin}/admin/users`);
  await assertIdentity(page, ALICE);
  await context.close();
});
