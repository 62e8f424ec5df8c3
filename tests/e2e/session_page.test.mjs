// A person's own page: where else am I signed in, and the end of it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { cookieHeader, freshContext, launch, photograph, visitAs } from './lib/browser.mjs';
import { ask } from './lib/load.mjs';
import { world } from './lib/world.mjs';

const PHONE = 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1';
const DESK = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0';

let w, browser;
before(async () => {
  w = await world();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await w?.stop();
});

// Somebody's browser, signed in.
async function signedIn(user, userAgent) {
  const context = await freshContext(browser, { userAgent });
  const page = await context.newPage();
  await visitAs(page, user, `${w.origin}/`);
  return { context, page, cookie: await cookieHeader(context, w.origin) };
}

const status = async (cookie) => (await ask(w, cookie)).status;

test('rl_03 xx_02 the page lists where else one is signed in, ends one of these, and all of them', async () => {
  const [desk, phone, other] = [await signedIn('alice', DESK), await signedIn('alice', PHONE), await signedIn('bob', PHONE)];
  try {
    const { page } = desk;
    await page.goto(`${w.origin}/oauth2/session`);
    await page.getByText('Firefox on Linux').waitFor();
    const items = page.getByRole('listitem');
    assert.equal(await items.count(), 1, 'her own other one, and not that of bob');
    assert.match(await items.first().textContent(), /Safari on iPhone/);
    assert.match(await items.first().textContent(), /from 127\.0\.0\.1/);
    await photograph(page, 'session-list');

    await items.first().getByRole('button', { name: /sign out/i }).click();
    await page.waitForURL(`${w.origin}/oauth2/session`);
    assert.equal(await page.getByRole('listitem').count(), 0);
    assert.equal(await status(phone.cookie), 401);
    assert.equal(await status(desk.cookie), 200);

    const again = await signedIn('alice', PHONE);
    await page.reload();
    assert.equal(await page.getByRole('listitem').count(), 1);
    await page.getByRole('button', { name: 'Sign out everywhere' }).click();
    await page.getByRole('button', { name: 'Sign out of the provider' }).click();
    await page.waitForURL(/\/oauth2\/signed_out/);
    for (const { cookie } of [desk, again]) assert.equal(await status(cookie), 401);
    assert.equal(await status(other.cookie), 200, 'bob is where he was');
    await again.context.close();
  } finally {
    await Promise.all([desk, phone, other].map(({ context }) => context.close()));
  }
});
