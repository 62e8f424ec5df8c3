// Chromium, and what a person does in it.
import assert from 'node:assert/strict';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { SESSION_COOKIE } from './world.mjs';

// `at`: the ports of this machine where some hosts are.
export function launch(at = {}) {
  const rules = Object.entries(at).map(([host, port]) => `MAP ${host} 127.0.0.1:${port}`);
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      ...(rules.length ? [`--host-resolver-rules=${rules.join(', ')}`] : []),
    ],
  });
}

// A browser nobody has signed in with. What it asks for and does not get within 20 s fails the test.
export async function freshContext(browser, options = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(20_000);
  return context;
}

// Fills in the provider's form, which must be on the page.
export async function signIn(page, user) {
  await page.getByLabel('User name').fill(user);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
}

// Visits `url` and signs in on the way.
export async function visitAs(page, user, url) {
  await page.goto(url);
  await signIn(page, user);
  await page.waitForURL(url);
}

// The application's page says who is there.
export async function assertIdentity(page, { user, email, groups }) {
  assert.equal(await page.locator('#user').textContent(), user);
  assert.equal(await page.locator('#email').textContent(), email);
  assert.equal(await page.locator('#groups').textContent(), groups);
}

// The `Cookie` header that this browser would send to Doorward.
export async function cookieHeader(context, origin) {
  const cookies = await context.cookies(origin);
  return cookies
    .filter(({ name }) => SESSION_COOKIE.test(name))
    .map(({ name, value }) => `${name}=${value}`)
    .join('; ');
}

// Signs in at the form on the page but stops short of the last step: the callback's URL, still unused.
export async function unusedCallback(page, user, origin) {
  let callback;
  await page.route('**/interaction/**', async (route) => {
    const answer = await route.fetch({ maxRedirects: 0 });
    callback = await followTo(page.context(), answer, origin);
    await route.fulfill({ body: 'stopped here' });
  });
  await signIn(page, user);
  await page.getByText('stopped here').waitFor();
  await page.unroute('**/interaction/**');
  return callback;
}

// Follows redirects, with the browser's cookies, until one leads to `origin`: that URL, not yet visited.
export async function followTo(context, answer, origin) {
  for (;;) {
    const next = new URL(answer.headers().location, answer.url()).href;
    if (next.startsWith(origin)) return next;
    answer = await context.request.get(next, { maxRedirects: 0 });
  }
}

// Pictures for the eyes of a reviewer, in shots/.
const SHOTS = path.join(path.dirname(fileURLToPath(import.meta.url)), '../shots');
const LOOKS = {
  light: { colorScheme: 'light', viewport: { width: 1024, height: 720 } },
  dark: { colorScheme: 'dark', viewport: { width: 1024, height: 720 } },
  phone: { colorScheme: 'light', viewport: { width: 360, height: 720 } },
};

// Photographs the page in light, dark and on a phone; in none of them may it scroll sideways.
export async function photograph(page, name) {
  for (const [look, { colorScheme, viewport }] of Object.entries(LOOKS)) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize(viewport);
    const fits = await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);
    assert.ok(fits, `${name} scrolls sideways: ${look}`);
    await page.screenshot({ path: path.join(SHOTS, `${name}-${look}.png`), fullPage: true });
  }
}
