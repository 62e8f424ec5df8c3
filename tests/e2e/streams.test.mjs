// What must never be held back: large bodies, events, sockets.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { pipeline } from 'node:stream/promises';
import { after, before, test } from 'node:test';
import { cookieHeader, freshContext, launch, visitAs } from './lib/browser.mjs';
import { until } from './lib/process.mjs';
import { handshake } from './lib/raw.mjs';
import { world } from './lib/world.mjs';

const SIZE = Math.round(Number(process.env.E2E_GIB ?? 1) * 1024 ** 3);
// What a body may add at its highest: the pieces on their way, and what the allocator keeps of them.
const MEMORY = 16 * 1024 ** 2;

let w, browser, page, cookie;
before(async () => {
  w = await world();
  browser = await launch();
  const context = await freshContext(browser);
  page = await context.newPage();
  await visitAs(page, 'alice', `${w.origin}/`);
  cookie = await cookieHeader(context, w.origin);
});
after(async () => {
  await browser?.close();
  await w?.stop();
});

// In bytes: what Doorward holds, and the most that it has held since `forgetPeak` (clear_refs in proc(5)).
async function memory(line) {
  const status = await readFile(`/proc/${w.gateway.pid}/status`, 'utf8');
  return Number(new RegExp(`^${line}:\\s+(\\d+) kB$`, 'm').exec(status)[1]) * 1024;
}

async function forgetPeak() {
  await writeFile(`/proc/${w.gateway.pid}/clear_refs`, '5');
  return memory('VmRSS');
}

async function assertFlat(before) {
  const added = (await memory('VmHWM')) - before;
  console.log(`# ${(added / 1024 ** 2).toFixed(1)} MiB more at the highest`);
  assert.ok(added < MEMORY, `Doorward took ${(added / 1024 ** 2).toFixed(1)} MiB more`);
}

function request(method, path, headers = {}) {
  const sent = http.request(`${w.origin}${path}`, { method, headers: { cookie, ...headers }, agent: false });
  const answer = new Promise((resolve, reject) => {
    sent.once('response', resolve);
    sent.once('error', reject);
  });
  answer.catch(() => {});
  return { sent, answer };
}

test(`an upload of ${SIZE} bytes streams through, and memory stays flat`, async () => {
  const before = await forgetPeak();
  const block = Buffer.alloc(64 * 1024, 'u');
  const { sent, answer } = request('POST', '/upload', { 'content-length': SIZE });
  function* blocks() {
    for (let left = SIZE; left > 0; left -= block.length) yield left < block.length ? block.subarray(0, left) : block;
  }
  await pipeline(blocks, sent);
  const response = await answer;
  assert.equal(response.statusCode, 200);
  assert.deepEqual(JSON.parse((await response.toArray()).join('')), { bytes: SIZE, user: 'alice' });
  await assertFlat(before);
});

test(`a download of ${SIZE} bytes streams through, and memory stays flat`, async () => {
  const before = await forgetPeak();
  const { sent, answer } = request('GET', `/download?bytes=${SIZE}`);
  sent.end();
  const response = await answer;
  assert.equal(response.statusCode, 200);
  let count = 0;
  for await (const chunk of response) count += chunk.length;
  assert.equal(count, SIZE);
  await assertFlat(before);
});

test('a client that stops reading stops the application: Doorward buffers next to nothing', async () => {
  const before = await forgetPeak();
  const { sent, answer } = request('GET', `/download?bytes=${SIZE}`);
  sent.end();
  const response = await answer;
  let previous = -1;
  const stalled = await until('the application to stall', async () => {
    const now = await (await fetch(`${w.appUrl}/sent`)).json();
    const same = now > 0 && now === previous;
    previous = now;
    return same && now;
  });
  assert.ok(stalled < SIZE / 2, `${stalled} bytes left the application`);
  await assertFlat(before);
  response.destroy();
});

test('the first event arrives before the second is sent', async () => {
  await fetch(`${w.appUrl}/hold`);
  await page.evaluate(() => {
    window.received = [];
    const source = new EventSource('/events');
    source.onmessage = ({ data }) => {
      window.received.push(data);
      if (window.received.length === 2) source.close();
    };
  });
  await page.waitForFunction(() => window.received.length === 1);
  assert.deepEqual(await page.evaluate(() => window.received), ['first']);
  await fetch(`${w.appUrl}/release`);
  await page.waitForFunction(() => window.received.length === 2);
  assert.deepEqual(await page.evaluate(() => window.received), ['first', 'second']);
});

test('a WebSocket echoes after sign-in, and the application knows who it is', async () => {
  const echo = await page.evaluate(() => new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://${location.host}/ws`);
    socket.onopen = () => socket.send('hello');
    socket.onmessage = ({ data }) => {
      socket.close();
      resolve(data);
    };
    socket.onerror = () => reject(new Error('the socket failed'));
  }));
  assert.equal(echo, 'alice: hello');
});

test('wx_01 a WebSocket without a session is a 401', async () => {
  const answer = await handshake(w.origin, '/ws', { origin: w.origin });
  assert.equal(answer.status, 401);
  assert.ok(JSON.parse(answer.body).error);
});

test('wx_02 a WebSocket from another origin is a 403, even with the session', async () => {
  assert.equal((await handshake(w.origin, '/ws', { origin: w.origin, cookie })).status, 101);
  assert.equal((await handshake(w.origin, '/ws', { origin: 'http://evil.test', cookie })).status, 403);
  assert.equal((await handshake(w.origin, '/ws', { origin: 'null', cookie })).status, 403);
});

test('ox_02 a sign-out closes the page\'s WebSocket, and the page is told why', async () => {
  const context = await freshContext(browser);
  const mine = await context.newPage();
  await visitAs(mine, 'alice', `${w.origin}/`);
  await mine.evaluate(() => new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://${location.host}/ws`);
    window.ending = new Promise((closed) => {
      socket.onclose = ({ code, reason, wasClean }) => closed({ code, reason, wasClean });
    });
    socket.onopen = () => socket.send('hello');
    socket.onmessage = resolve;
    socket.onerror = () => reject(new Error('the socket failed'));
  }));
  const out = await mine.request.get(`${w.origin}/oauth2/sign_out`, {
    headers: { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate', accept: 'text/html' },
    maxRedirects: 0,
  });
  assert.ok(out.status() < 400, `${out.status()}`);
  assert.deepEqual(await mine.evaluate(() => window.ending), { code: 1008, reason: 'session ended', wasClean: true });
  await context.close();
});
