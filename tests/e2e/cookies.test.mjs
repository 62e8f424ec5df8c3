// What can be done with cookies by who owns, finds or invents them.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Jar } from './lib/jar.mjs';
import { until } from './lib/process.mjs';
import { LOGIN_COOKIE, SESSION_COOKIE, SESSION_KEY, world } from './lib/world.mjs';

// The same application under a second name.
const ROUTES = (url) => `
[[route]]
name = "second"
host = "localhost"
path = "/"
upstream = "${url}"
access = "authenticated"
`;

let w, alice, many;
before(async () => {
  w = await world({ more: { routes: ROUTES } });
  alice = await session('alice');
  many = await session('many');
});
after(() => w?.stop());

// The session's cookies: [[name, value]], the first being the one without a number.
async function session(user, jar = new Jar()) {
  const answer = await jar.signIn(w, user);
  assert.equal(answer.status, 302, answer.text);
  return jar.named(w.origin, SESSION_COOKIE).sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true }));
}

const header = (cookies) => cookies.map(([name, value]) => `${name}=${value}`).join('; ');

async function get(cookie, path = '/asked', headers = {}) {
  return new Jar().request(`${w.origin}${path}`, { headers: { ...(cookie && { cookie }), ...headers } });
}

async function denied(name, cookie) {
  const { status } = await get(cookie);
  assert.ok(status === 401 || status === 400 || status === 431, `${name}: ${status}`);
}

async function allowed(cookie, user) {
  const { status, text } = await get(cookie);
  assert.equal(status, 200);
  assert.match(text, new RegExp(`id="user">${user}<`));
}

test('k_02 k_06 the session cookie is HttpOnly, SameSite and of plain characters', async () => {
  const answer = await new Jar().signIn(w, 'bob');
  const set = answer.headers['set-cookie'].filter((line) => SESSION_COOKIE.test(line.split('=')[0]));
  assert.ok(set.length >= 1);
  for (const line of set) {
    assert.match(line, /; *HttpOnly/i);
    assert.match(line, /; *SameSite=Lax/i);
    assert.match(line, /; *Path=\/(;|$)/i);
    assert.doesNotMatch(line, /; *Domain=/i);
    assert.doesNotMatch(line, /; *Secure/i, 'the origin is http on loopback');
    assert.match(line, /^[\w.-]+=[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+(;|$)/);
  }
});

test('s_01 a change at any place of the session cookie makes it nobody\'s', async () => {
  const [[name, value], ...rest] = alice;
  await allowed(header(alice), 'alice');
  const bodies = new Set();
  for (let at = 0; at < value.length; at += 1) {
    const other = value[at] === 'A' ? 'B' : 'A';
    const answer = await get(header([[name, value.slice(0, at) + other + value.slice(at + 1)], ...rest]));
    assert.equal(answer.status, 401, `character ${at}`);
    bodies.add(Object.keys(JSON.parse(answer.text)).join() + JSON.parse(answer.text).error);
  }
  assert.equal(bodies.size, 1, 'every place gets the same answer');
});

test('s_02 cut short, extended or empty, it is nobody\'s', async () => {
  const [[name, value]] = alice;
  for (let length = 0; length < value.length; length += 7) await denied(`${length} characters`, `${name}=${value.slice(0, length)}`);
  for (const tail of ['A', '=', '==', '.', 'AAAA', '%00', ' x']) await denied(JSON.stringify(tail), `${name}=${value}${tail}`);
});

test('s_04 after the sign-out a copy of the cookie is worth nothing here', async () => {
  const jar = new Jar();
  const copy = await session('bob', jar);
  await allowed(header(copy), 'bob');
  const out = await jar.request(`${w.origin}/oauth2/sign_out`, { headers: { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate' } });
  assert.equal(out.status, 302);
  assert.deepEqual(jar.named(w.origin, SESSION_COOKIE), [], 'k_05: every chunk is cleared');
  await denied('the copy', header(copy));
});

test('s_07 the cookie of a sign-in is no session, and a session is no sign-in', async () => {
  const jar = new Jar();
  const callback = await jar.authorize(w, 'alice');
  const [[loginName, loginValue]] = jar.named(w.origin, LOGIN_COOKIE);
  await denied('a login as session', `${alice[0][0]}=${loginValue}`);
  const answer = await new Jar().request(callback, { headers: { cookie: `${loginName}=${alice[0][1]}`, accept: 'text/html' } });
  assert.equal(answer.status, 400);
});

test('s_08 a cookie of one host is nobody\'s at another', async () => {
  const answer = await get(header(alice), '/asked', { host: `localhost:${w.port}` });
  assert.equal(answer.status, 401);
});

test('s_10 chunks reordered, missing, repeated, extended or of two sessions are nobody\'s', async () => {
  assert.ok(many.length >= 2, 'this session has chunks');
  await allowed(header(many), 'many');
  await allowed(header([...many].reverse()), 'many'); // their order in the header is nothing: their names count
  const names = many.map(([name]) => name);
  const values = many.map(([, value]) => value);
  const named = (chosen) => header(chosen.map((value, n) => [names[n] ?? `${names[0]}.${n}`, value]));
  await denied('swapped', named([values[1], values[0], ...values.slice(2)]));
  await denied('first missing', header(many.slice(1)));
  await denied('last missing', header(many.slice(0, -1)));
  await denied('a gap', header([many[0], [`${names[0]}.7`, values[1]]]));
  await denied('another numbering', header([many[0], [`${names[0]}.01`, values[1]], ...many.slice(2)]));
  const other = await session('many');
  assert.notEqual(other[0][1], many[0][1]);
  await denied('of two sessions', header([many[0], ...other.slice(1)]));
});

test('s_11 hundreds of chunks and absurd numbers cost next to nothing', async () => {
  const name = many[0][0];
  for (const cookie of [
    header(Array.from({ length: 500 }, (_, n) => [`${name}.${n}`, 'x'.repeat(20)])),
    `${name}.99999999=x; ${name}=y`,
    `${name}.4294967296=x; ${name}.18446744073709551616=x; ${name}.-1=x; ${name}=y`,
  ]) {
    await denied(cookie.slice(0, 60), cookie);
  }
  await allowed(`${name}.99999999=x; ${header(alice)}`, 'alice');
});

test('s_14 the same person twice makes two cookies without a common part', async () => {
  const [[, first]] = await session('alice');
  const [[, second]] = await session('alice');
  const same = [...first].filter((character, n) => character === second[n]).length;
  assert.ok(same < first.length / 8, `${same} of ${first.length} characters agree`);
});

test('s_16 junk beside the session under the same name locks nobody out', async () => {
  await allowed(`${alice[0][0]}=junk; ${header(alice)}`, 'alice');
  await allowed(`${header(alice)}; ${alice[0][0]}=junk`, 'alice');
});

test('s_17 junk under the names of a sign-in does not stop it', async () => {
  const jar = new Jar();
  for (const name of ['doorward.login.junk', 'doorward.login.', 'doorward.login.0', 'doorward.1']) jar.store(new URL(w.origin), `${name}=junk; Path=/`);
  assert.equal((await jar.signIn(w, 'bob')).status, 302);
  await allowed(header(jar.named(w.origin, SESSION_COOKIE)), 'bob');
});

test('s_19 a sign-in never adopts the session it found, and ends it', async () => {
  const jar = new Jar();
  const planted = await session('bob');
  for (const [name, value] of planted) jar.store(new URL(w.origin), `${name}=${value}; Path=/`);
  const callback = await jar.authorize(w, 'alice', `${w.origin}/oauth2/start?rd=%2F`);
  await jar.request(callback);
  const own = jar.named(w.origin, SESSION_COOKIE);
  assert.notEqual(own[0][1], planted[0][1]);
  await allowed(header(own), 'alice');
  await denied('the planted one', header(planted));
});

test('s_20 a cookie bomb is 431 or served, never a 5xx', async () => {
  for (const size of [8, 30, 60, 100]) {
    const { status } = await get(`bomb=${'b'.repeat(size * 1024)}; ${header(alice)}`);
    assert.ok([200, 400, 431].includes(status), `${size} KiB: ${status}`);
  }
  await allowed(`${Array.from({ length: 200 }, (_, n) => `c${n}=v`).join('; ')}; ${header(alice)}`, 'alice');
});

test('s_22 invented sessions are nobody\'s', async () => {
  for (let n = 0; n < 500; n += 1) await denied(`guess ${n}`, `${alice[0][0]}=${randomBytes(16 + n).toString('base64url')}`);
});

test('s_13 a rotated key keeps everybody signed in; a removed one nobody', async () => {
  const fresh = Buffer.from('another key of 32 bytes, the 2nd').toString('base64url');
  await w.restart({ session: `keys = ["${fresh}", "${SESSION_KEY}"]` });
  await allowed(header(alice), 'alice');
  const under = await session('bob');
  await w.restart({ session: `keys = ["${fresh}"]` });
  await denied('under the removed key', header(alice));
  await allowed(header(under), 'bob');
  await w.restart();
  await denied('under a key that never was', header(under));
});

test('s_05 a session ends with its lifetime', async () => {
  await w.restart({ session: `keys = ["${SESSION_KEY}"]\nlifetime = "3s"\nrefresh_before = "1s"` });
  const jar = new Jar();
  await session('alice', jar);
  await until('the session to end', async () => (await get(header(jar.named(w.origin, SESSION_COOKIE)))).status === 401);
  await w.restart();
});
