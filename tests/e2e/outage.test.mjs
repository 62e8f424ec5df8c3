// A provider that is not there yet, and a Doorward that is told to go.
import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { assertIdentity, cookieHeader, freshContext, launch, signIn, visitAs } from './lib/browser.mjs';
import { until } from './lib/process.mjs';
import { world } from './lib/world.mjs';

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

test('d_06 without its provider Doorward runs, is not ready and says 503; the provider comes, and sign-in works', async () => {
  const w = await world({ provider: false });
  const context = await freshContext(browser);
  try {
    assert.equal((await fetch(`${w.admin}/readyz`)).status, 503);
    const page = await context.newPage();
    const answer = await page.goto(`${w.origin}/early`);
    assert.equal(answer.status(), 503);
    assert.match(answer.headers()['content-type'], /^text\/html/);
    assert.match(answer.headers()['retry-after'], /^\d+$/);
    assert.equal(answer.headers()['cache-control'], 'no-store');
    assert.equal((await w.appLog()).filter(({ path }) => path === '/early').length, 0);
    assert.equal((await fetch(`${w.origin}/public/page`)).status, 200, 'public pages need no provider');

    await w.startProvider();
    await until('Doorward to be ready', async () => (await fetch(`${w.admin}/readyz`)).ok, 30);
    await page.goto(`${w.origin}/early`);
    await signIn(page, 'alice');
    await page.waitForURL(`${w.origin}/early`);
    await assertIdentity(page, { user: 'alice', email: 'alice@example.test', groups: 'admins,staff' });

    await w.stopProvider();
    await page.goto(`${w.origin}/later`);
    assert.equal(await page.locator('#user').textContent(), 'alice', 'a session outlives its provider');
  } finally {
    await context.close();
    await w.stop();
  }
});

test('SIGTERM lets a slow download finish, takes no new connection and exits 0', async () => {
  const w = await world();
  const context = await freshContext(browser);
  try {
    await visitAs(await context.newPage(), 'alice', `${w.origin}/`);
    const cookie = await cookieHeader(context, w.origin);
    await context.close();

    await fetch(`${w.appUrl}/hold`);
    const size = 8 * 1024 ** 2;
    const response = await new Promise((resolve, reject) => {
      http.get(`${w.origin}/download?bytes=${size}&gated=true`, { headers: { cookie }, agent: false }, resolve).on('error', reject);
    });
    const body = response[Symbol.asyncIterator]();
    let count = (await body.next()).value.length;

    w.gateway.signal('SIGTERM');
    await until('the listener to close', () => refused(w.port));
    assert.ok(w.gateway.running(), 'it waits for the download');

    await fetch(`${w.appUrl}/release`);
    for (let next = await body.next(); !next.done; next = await body.next()) count += next.value.length;
    assert.equal(count, size);
    assert.deepEqual(await w.gateway.ended, { code: 0, signal: null });
  } finally {
    await context.close();
    await w.stop();
  }
});

function refused(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.on('error', () => resolve(true));
  });
}
