// `doorward demo`: the first minute of everybody who tries it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { freshContext, launch, photograph } from './lib/browser.mjs';
import { freePort, start, until } from './lib/process.mjs';
import { DOORWARD } from './lib/world.mjs';

let demo, browser, url;
before(async () => {
  const port = await freePort(2); // its provider and application take the next two
  demo = start(DOORWARD, ['demo', '--port', String(port)]);
  const printed = () => {
    if (!demo.running()) throw new Error(demo.output.stderr);
    return new RegExp(`http://[^\\s/]+:${port}/?`).exec(demo.output.stdout)?.[0];
  };
  url = new URL(await until('the URL', printed)).href;
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await demo?.stop();
});

test('the demo prints its address and users; one signs in, sees the sample application, signs out, must sign in again', async () => {
  assert.match(demo.output.stdout, /alice/);
  assert.match(demo.output.stdout, /bob/);

  const page = await (await freshContext(browser)).newPage();
  await page.goto(url);
  await photograph(page, 'demo-sign-in');
  await page.getByLabel(/password/i).fill('wrong');
  await page.getByLabel(/user ?name/i).fill('alice');
  await page.getByRole('button', { name: /^sign in$/i }).click();
  await page.getByRole('alert').waitFor();
  await photograph(page, 'demo-sign-in-wrong');
  await signInAtDemo(page);
  await page.waitForURL((now) => now.href.startsWith(url));
  await page.getByText('alice@example.test').first().waitFor();
  await photograph(page, 'demo-application');

  await page.getByRole('link', { name: /sign out/i }).or(page.getByRole('button', { name: /sign out/i })).first().click();
  await page.waitForURL(/signed_out/);
  await page.goto(url);
  await page.getByLabel(/password/i).first().waitFor();
});

test('the demo ends at SIGTERM with status 0', async () => {
  demo.signal('SIGTERM');
  assert.deepEqual(await demo.ended, { code: 0, signal: null });
});

async function signInAtDemo(page) {
  await page.getByLabel(/user ?name/i).fill('alice');
  await page.getByLabel(/password/i).fill('alice');
  await page.getByRole('button', { name: /^sign in$/i }).click();
}
