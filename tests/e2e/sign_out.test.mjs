// Signing out is the person's own wish: another site can neither do it nor ask for it unseen.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { after, before, test } from 'node:test';
import { freshContext, launch, visitAs } from './lib/browser.mjs';
import { world } from './lib/world.mjs';

let w, browser, site, elsewhere;
before(async () => {
  w = await world();
  browser = await launch();
  // `localhost` is another site than 127.0.0.1.
  site = http.createServer((_req, res) => {
    res.setHeader('content-type', 'text/html');
    res.end(`<!doctype html><title>Elsewhere</title>
      <img src="${w.origin}/oauth2/sign_out" alt="" onerror="document.title = 'tried'">
      <a href="${w.origin}/oauth2/sign_out">Win a prize</a>`);
  }).listen(0, '127.0.0.1');
  await once(site, 'listening');
  elsewhere = `http://localhost:${site.address().port}/`;
});
after(async () => {
  await browser?.close();
  site?.close();
  await w?.stop();
});

test('rl_03 a picture on another site signs nobody out; a link there asks first', async () => {
  const context = await freshContext(browser);
  const page = await context.newPage();
  await visitAs(page, 'alice', `${w.origin}/mine`);

  await page.goto(elsewhere);
  await page.waitForFunction(() => document.title === 'tried');
  await page.getByRole('link', { name: 'Win a prize' }).click();
  await page.waitForURL(/\/oauth2\/sign_out/);
  const confirm = page.getByRole('button', { name: /sign out/i });
  await confirm.waitFor();

  const other = await context.newPage();
  await other.goto(`${w.origin}/mine`);
  assert.equal(await other.locator('#user').textContent(), 'alice', 'still signed in');

  await confirm.click();
  await page.getByRole('button', { name: 'Sign out of the provider' }).click();
  await page.waitForURL(/\/oauth2\/signed_out/);
  await other.goto(`${w.origin}/mine`);
  await other.getByLabel('User name').waitFor();
  await context.close();
});

test('xx_05 no page of ours can be framed', async () => {
  const answer = await fetch(`${w.origin}/oauth2/sign_in`, { redirect: 'manual' });
  assert.match(answer.headers.get('content-security-policy') ?? '', /frame-ancestors 'none'/);
  assert.equal((answer.headers.get('x-frame-options') ?? '').toUpperCase(), 'DENY');
});
