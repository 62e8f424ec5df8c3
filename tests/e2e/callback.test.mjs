// The sign-in as an attacker would bend it, against a provider that knows nothing of the attack.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Jar } from './lib/jar.mjs';
import { CLIENT } from './lib/provider.mjs';
import { LOGIN_COOKIE, SESSION_COOKIE, world } from './lib/world.mjs';

let w;
before(async () => {
  w = await world({ more: { provider: 'par = "off"' } });
});
after(() => w?.stop());

// The authorization request that a navigation to `url` leads to.
async function authorizationRequest(url = `${w.origin}/`, jar = new Jar()) {
  const { status, location } = await jar.request(url);
  assert.equal(status, 302);
  assert.ok(location.startsWith(w.issuer));
  return new URL(location).searchParams;
}

// 4xx, no session, and the provider saw no code: whatever it was, it ended here.
async function rejected(name, jar, url) {
  const answer = await jar.request(url);
  assert.ok(answer.status >= 400 && answer.status < 500, `${name}: ${answer.status}`);
  assert.deepEqual(jar.named(w.origin, SESSION_COOKIE), [], `${name}: a session`);
  assert.equal(answer.headers['cache-control'], 'no-store');
  return answer;
}

const edited = (callback, edit) => {
  const url = new URL(callback);
  edit(url.searchParams);
  return url.href;
};

test('c_01 p_01 the authorization request asks for a code, with openid, our client, the exact redirect URI and S256', async () => {
  const query = await authorizationRequest();
  assert.equal(query.get('response_type'), 'code');
  assert.ok(query.get('scope').split(' ').includes('openid'));
  assert.equal(query.get('client_id'), CLIENT.id);
  assert.equal(query.get('redirect_uri'), `${w.origin}/oauth2/callback`);
  assert.equal(query.get('code_challenge_method'), 'S256');
  assert.match(query.get('code_challenge'), /^[\w-]{43}$/);
  for (const name of new Set(query.keys())) assert.equal(query.getAll(name).length, 1, name);
});

test('c_02 c_03 p_02 state, nonce and challenge are long and never the same, and the nonce is not in the browser', async () => {
  const seen = { state: new Set(), nonce: new Set(), code_challenge: new Set() };
  for (let n = 0; n < 200; n += 1) {
    const jar = new Jar();
    const query = await authorizationRequest(`${w.origin}/`, jar);
    for (const [name, values] of Object.entries(seen)) {
      assert.ok(query.get(name).length >= 22, `${name} holds 128 bits`);
      values.add(query.get(name));
    }
    for (const [, value] of jar.named(w.origin, /./)) {
      assert.ok(!value.includes(query.get('nonce')));
      assert.ok(!Buffer.from(value, 'base64url').includes(query.get('nonce')));
    }
  }
  for (const values of Object.values(seen)) assert.equal(values.size, 200);
});

test('l_02 a callback without its state, or with an empty or foreign one, is refused', async () => {
  for (const [name, edit] of [
    ['none', (query) => query.delete('state')],
    ['empty', (query) => query.set('state', '')],
    ['another', (query) => query.set('state', 'x'.repeat(query.get('state').length))],
    ['twice', (query) => query.append('state', query.get('state'))],
  ]) {
    const jar = new Jar();
    await rejected(name, jar, edited(await jar.authorize(w, 'alice'), edit));
  }
  await rejected('nothing at all', new Jar(), `${w.origin}/oauth2/callback`);
});

test('l_04 another person\'s code and state sign nobody in here', async () => {
  const attacker = new Jar();
  const callback = await attacker.authorize(w, 'alice');
  const victim = new Jar();
  await victim.authorize(w, 'bob');
  await rejected('a foreign callback', victim, callback);
});

test('l_05 b_04 p_03 another person\'s code with one\'s own state is refused by the verifier', async () => {
  const attacker = new Jar();
  const code = new URL(await attacker.authorize(w, 'alice')).searchParams.get('code');
  const victim = new Jar();
  const callback = await victim.authorize(w, 'bob');
  await rejected('an injected code', victim, edited(callback, (query) => query.set('code', code)));
});

test('l_07 of two callbacks at once one makes the session, and a third comes too late', async () => {
  const jar = new Jar();
  const callback = await jar.authorize(w, 'alice');
  const cookie = jar.header(new URL(callback));
  const once = () => new Jar().request(callback, { headers: { cookie, accept: 'text/html' } });
  const answers = await Promise.all([once(), once()]);
  const sessions = (answer) => (answer.headers['set-cookie'] ?? []).filter((line) => SESSION_COOKIE.test(line.split('=')[0]) && !/max-age=0/i.test(line));
  assert.equal(answers.filter((answer) => sessions(answer).length > 0).length, 1);
  const replay = await once();
  assert.equal(sessions(replay).length, 0);
  assert.equal(replay.status, 400);
});

test('l_13 i_01 i_02 an iss that is missing, foreign, twice or written otherwise is refused', async () => {
  for (const [name, edit] of [
    ['missing', (query) => query.delete('iss')],
    ['foreign', (query) => query.set('iss', 'http://evil.test')],
    ['a slash more', (query) => query.set('iss', `${w.issuer}/`)],
    ['twice', (query) => query.append('iss', w.issuer)],
    ['encoded again', (query) => query.set('iss', encodeURIComponent(w.issuer))],
    ['on an error', (query) => { query.delete('code'); query.set('error', 'access_denied'); query.set('iss', 'http://evil.test'); }],
  ]) {
    const jar = new Jar();
    await rejected(name, jar, edited(await jar.authorize(w, 'alice'), edit));
  }
});

test('l_14 a code of any shape makes no more than an error page', async () => {
  for (const code of ['c'.repeat(20_000), 'a\r\nX-Evil: 1', 'a\0b', '', '\u{202e}', '../../x']) {
    const jar = new Jar();
    const answer = await rejected(JSON.stringify(code.slice(0, 20)), jar, edited(await jar.authorize(w, 'alice'), (query) => query.set('code', code)));
    assert.equal(answer.headers['x-evil'], undefined);
  }
});

test('c_22 an error of the provider ends at one page, escaped, and the sign-in is over', async () => {
  const jar = new Jar();
  const callback = edited(await jar.authorize(w, 'alice'), (query) => {
    query.delete('code');
    query.set('error', 'access_denied');
    query.set('error_description', '<script>alert(1)</script>');
  });
  const answer = await rejected('an error', jar, callback);
  assert.doesNotMatch(answer.text, /<script/);
  assert.deepEqual(jar.named(w.origin, LOGIN_COOKIE), []);
});

test('l_17 a browser that keeps no cookies gets a page, not a loop', async () => {
  const jar = new Jar();
  const callback = await jar.authorize(w, 'alice');
  jar.drop(w.origin, /./);
  const answer = await rejected('no cookies', jar, callback);
  assert.match(answer.headers['content-type'], /^text\/html/);
  assert.match(answer.text, /cookie/i);
});

test('l_22 HEAD by a script, prefetch and prerender begin no sign-in', async () => {
  for (const headers of [
    { 'sec-fetch-mode': 'no-cors', 'sec-purpose': 'prefetch', accept: 'text/html' },
    { 'sec-fetch-mode': 'navigate', 'sec-purpose': 'prefetch;prerender', accept: 'text/html' },
    { accept: 'application/json' },
  ]) {
    const jar = new Jar();
    const answer = await jar.request(`${w.origin}/`, { headers, method: headers.accept === 'application/json' ? 'HEAD' : 'GET' });
    assert.equal(answer.status, 401);
    assert.deepEqual(jar.named(w.origin, LOGIN_COOKIE), []);
  }
});

test('l_23 parameters of the URL do not reach the authorization request', async () => {
  const poison = 'scope=admin&prompt=none&redirect_uri=http%3A%2F%2Fevil.test&client_id=x&state=s&nonce=n&acr_values=x&login_hint=v';
  for (const path of [`/?${poison}`, `/oauth2/start?rd=%2F&${poison}`, `/oauth2/sign_in?${poison}`]) {
    const answer = await new Jar().request(`${w.origin}${path}`);
    if (answer.status === 200) continue; // the sign-in page
    const query = new URL(answer.location).searchParams;
    for (const [name, value] of new URLSearchParams(poison)) {
      assert.notEqual(query.get(name), value, `${path}: ${name}`);
      assert.ok(query.getAll(name).length <= 1);
    }
  }
});
