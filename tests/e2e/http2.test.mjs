// HTTP/2 as clients speak it that nobody here wrote: curl, h2load, and Chromium with its WebSockets.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { freshContext, launch, visitAs } from './lib/browser.mjs';
import { until } from './lib/process.mjs';
import { world } from './lib/world.mjs';

const run = promisify(execFile);

let w, browser, page, cookie;
before(async () => {
  w = await world({ tls: true });
  browser = await launch();
  const context = await freshContext(browser, { ignoreHTTPSErrors: true });
  page = await context.newPage();
  await visitAs(page, 'alice', `${w.origin}/`);
  const cookies = await context.cookies(w.origin);
  cookie = cookies.filter(({ name }) => name.startsWith('__Host-doorward')).map(({ name, value }) => `${name}=${value}`).join('; ');
});
after(async () => {
  await browser?.close();
  await w?.stop();
});

async function curl(url, ...args) {
  const { stdout } = await run('curl', ['-sk', '-w', '\n%{http_version} %{http_code}', ...args, url]);
  const at = stdout.lastIndexOf('\n');
  return { body: stdout.slice(0, at), how: stdout.slice(at + 1) };
}

test('curl gets a page over HTTP/2 by ALPN, and one over HTTP/1.1 where it wants that', async () => {
  const { body, how } = await curl(`${w.origin}/`, '--http2', '-H', `cookie: ${cookie}`);
  assert.equal(how, '2 200');
  assert.match(body, /alice/);
  assert.equal((await curl(`${w.origin}/`, '--http1.1', '-H', `cookie: ${cookie}`)).how, '1.1 200');
  assert.equal((await curl(`${w.origin}/`, '--http2')).how, '2 401');
  const upload = await curl(`${w.origin}/upload`, '--http2', '-H', `cookie: ${cookie}`, '--data-binary', `@${process.execPath}`);
  assert.equal(upload.how, '2 200');
  assert.ok(JSON.parse(upload.body).bytes > 10_000_000);
  const download = await curl(`${w.origin}/download?bytes=50000000`, '--http2', '-H', `cookie: ${cookie}`, '-o', '/dev/null', '-w', '\n%{size_download}');
  assert.equal(download.how.trim(), '50000000');
});

test('h2load gets an answer to each of many requests at once', async () => {
  const args = ['-n', '1000', '-c', '4', '-m', '50', '-H', `cookie: ${cookie}`, `${w.origin}/`];
  const { stdout } = await run('h2load', args);
  assert.match(stdout, /Application protocol: h2/);
  assert.match(stdout, /1000 succeeded, 0 failed, 0 errored, 0 timeout/, stdout);
  assert.match(stdout, /status codes: 1000 2xx/, stdout);
});

test("wx_01 Chromium's WebSocket is a stream of the page's own HTTP/2 connection", async () => {
  const protocol = await page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol);
  assert.equal(protocol, 'h2');
  const before = await w.metric('doorward_connections');
  const echo = await page.evaluate(() => new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://${location.host}/ws`);
    window.socket = socket;
    socket.onopen = () => socket.send('hello');
    socket.onmessage = ({ data }) => resolve(data);
    socket.onerror = () => reject(new Error('the socket failed'));
  }));
  assert.equal(echo, 'alice: hello');
  assert.equal(await w.metric('doorward_connections'), before, 'it opened no connection');
  // Over HTTP/1.1 it would be 101.
  const line = await until('the access line', () =>
    w.gateway.output.stdout.split('\n').filter(Boolean).map((text) => JSON.parse(text)).find(({ path }) => path === '/ws'));
  assert.equal(line.status, 200);

  // OX-02: the sign-out, on the same connection, ends it.
  const closed = page.evaluate(() => new Promise((resolve) => {
    window.socket.onclose = ({ code, reason }) => resolve({ code, reason });
  }));
  await page.context().request.get(`${w.origin}/oauth2/sign_out`, { headers: { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate', accept: 'text/html' }, maxRedirects: 0 });
  assert.deepEqual(await closed, { code: 1008, reason: 'session ended' });
});

test('curl speaks HTTP/2 in clear text by prior knowledge', async () => {
  const clear = await world({ provider: false, upstream: w.appUrl });
  try {
    assert.equal((await curl(`${clear.origin}/public`, '--http2-prior-knowledge')).how, '2 200');
    assert.equal((await curl(`${clear.origin}/public`)).how, '1.1 200');
    // An upgrade to it is not offered (RFC 9113 dropped it): the answer is HTTP/1.1's.
    assert.equal((await curl(`${clear.origin}/public`, '--http2')).how, '1.1 200');
  } finally {
    await clear.stop();
  }
});
