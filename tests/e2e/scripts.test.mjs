// Requests that no person typed: a script's fetch, a form's POST. They are told, never redirected.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { freshContext, launch, visitAs } from './lib/browser.mjs';
import { SESSION_COOKIE, world } from './lib/world.mjs';

let w, browser, page;
before(async () => {
  w = await world();
  browser = await launch();
  const context = await freshContext(browser);
  page = await context.newPage();
  await visitAs(page, 'alice', `${w.origin}/dashboard`);
  await context.clearCookies({ name: SESSION_COOKIE });
});
after(async () => {
  await browser?.close();
  await w?.stop();
});

function fetchInPage(method) {
  return page.evaluate(async (method) => {
    const answer = await fetch('/api/data', { method, body: method === 'POST' ? 'x=1' : undefined });
    return {
      status: answer.status,
      redirected: answer.redirected,
      type: answer.headers.get('content-type'),
      cache: answer.headers.get('cache-control'),
      challenge: answer.headers.get('www-authenticate'),
      body: await answer.json(),
    };
  }, method);
}

test('l_20 a fetch after the session went away is a 401 in JSON, without a redirect', () => refusedInJson('GET'));

test('l_19 so is a POST', () => refusedInJson('POST'));

test('l_20 such requests start no sign-in', async () => {
  const context = page.context();
  const before = (await context.cookies(w.origin)).length;
  await fetchInPage('GET');
  assert.equal((await context.cookies(w.origin)).length, before);
});

async function refusedInJson(method) {
  const answer = await fetchInPage(method);
  assert.equal(answer.status, 401);
  assert.equal(answer.redirected, false);
  assert.match(answer.type, /^application\/json/);
  assert.equal(answer.cache, 'no-store');
  assert.match(answer.challenge, /^Bearer/);
  assert.deepEqual(Object.keys(answer.body).sort(), ['error', 'login_url', 'request_id']);
  assert.ok(new URL(answer.body.login_url, w.origin).href.startsWith(`${w.origin}/oauth2/`));
}
