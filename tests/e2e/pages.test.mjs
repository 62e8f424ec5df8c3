// Doorward's own pages: each is reached as people reach it, held to what all of them promise, and photographed.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { followTo, freshContext, launch, photograph, signIn, unusedCallback, visitAs } from './lib/browser.mjs';
import { SESSION_COOKIE, world } from './lib/world.mjs';

let w, away, browser;
before(async () => {
  w = await world();
  away = await world({ provider: false });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await w?.stop();
  await away?.stop();
});

// Each `reach` leaves the page open and resolves to the answer that brought it.
const PAGES = {
  'sign-in': { status: 200, reach: (page) => page.goto(`${w.origin}/oauth2/sign_in?rd=%2Freports`) },
  'callback-400': { status: 400, reach: (page) => page.goto(`${w.origin}/oauth2/callback?code=none&state=none`) },
  'signed-out': { status: 200, reach: (page) => page.goto(`${w.origin}/oauth2/signed_out`) },
  'not-found': { status: 404, reach: (page) => page.goto(`${w.origin}/oauth2/none`) },
  'provider-away': { status: 503, reach: (page) => page.goto(`${away.origin}/`) },
  'sign-in-error': { status: 400, reach: signInError },
  forbidden: { status: 403, reach: forbidden },
  'sign-out-question': { status: 200, reach: signOutQuestion },
  session: { status: 200, reach: session },
  loop: { reach: loop },
};

for (const [name, { status, reach }] of Object.entries(PAGES)) {
  test(`b_09 b_19 cx_01 xx_05 xx_06 the page "${name}" is readable everywhere and loads nothing from elsewhere`, async () => {
    const context = await freshContext(browser);
    const page = await context.newPage();
    const problems = [];
    page.on('console', (message) => message.type() === 'error' && /Content Security Policy/.test(message.text()) && problems.push(message.text()));
    page.on('pageerror', (error) => problems.push(String(error)));

    const answer = await reach(page);
    if (status) assert.equal(answer.status(), status);
    const headers = answer.headers();
    assert.equal(headers['content-type'], 'text/html; charset=utf-8');
    assert.equal(headers['cache-control'], 'no-store');
    assert.match(headers['content-security-policy'], /default-src 'none'/);
    assert.match(headers['content-security-policy'], /frame-ancestors 'none'/);
    assert.equal(headers['x-frame-options'].toUpperCase(), 'DENY');
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal(headers['referrer-policy'], 'no-referrer');

    assert.equal(await page.locator('html').getAttribute('lang'), 'en');
    assert.equal(await page.locator('h1').count(), 1);
    const foreign = await page.evaluate(() => performance.getEntriesByType('resource').map(({ name }) => name));
    assert.deepEqual(foreign.filter((url) => new URL(url).origin !== new URL(page.url()).origin), []);

    await photograph(page, name);
    assert.deepEqual(problems, []);
    await context.close();
  });
}

// The provider says no: our page shows it, and starts nothing by itself (C-22).
async function signInError(page) {
  const answer = page.waitForResponse((response) => response.url().startsWith(`${w.origin}/oauth2/callback`));
  await page.goto(`${w.origin}/wanted`);
  await signIn(page, 'mallory');
  return answer;
}

async function forbidden(page) {
  await page.goto(`${w.origin}/admin`);
  await signIn(page, 'bob');
  await page.waitForURL(`${w.origin}/admin`);
  return page.reload();
}

async function session(page) {
  await visitAs(page, 'alice', `${w.origin}/`);
  return page.goto(`${w.origin}/oauth2/session`);
}

// From an `about:blank` opened by another origin there is no Referer and no same-origin proof.
async function signOutQuestion(page) {
  await visitAs(page, 'alice', `${w.origin}/`);
  await page.goto(`${w.issuer}/.well-known/openid-configuration`);
  const answer = page.waitForResponse(`${w.origin}/oauth2/sign_out`);
  await page.evaluate((url) => { location.href = url; }, `${w.origin}/oauth2/sign_out`);
  return answer;
}

// L-16, L-17: a browser that completes three sign-ins and never shows a session gets a page, not a fourth redirect.
async function loop(page) {
  const context = page.context();
  await page.goto(`${w.origin}/`);
  let callback = await unusedCallback(page, 'alice', w.origin);
  for (let completed = 1; ; completed += 1) {
    const done = await context.request.get(callback, { maxRedirects: 0 });
    assert.equal(done.status(), 302, `sign-in ${completed}`);
    await context.clearCookies({ name: SESSION_COOKIE });
    if (completed === 3) return page.goto(`${w.origin}/`);
    const again = await context.request.get(`${w.origin}/`, { headers: { accept: 'text/html' }, maxRedirects: 0 });
    callback = await followTo(context, again, w.origin);
  }
}
