// The signed assertion before an application that verifies it with PyJWT: also across a change of keys, and never one that
// somebody else made. The provider, the gateway and the application are real.
import assert from 'node:assert/strict';
import { createSign, generateKeyPairSync } from 'node:crypto';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { Jar } from './lib/jar.mjs';
import { freePort, start, until } from './lib/process.mjs';
import { SESSION_KEY, world } from './lib/world.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const NEXT_KEY = Buffer.from('the next key of these tests, 32 b').toString('base64url');

const routes = (upstream) => `
[[route]]
name = "verified"
path = "/verified"
upstream = "${upstream}"
access = "authenticated"
identity = ["assertion", { header = "X-Pomerium-Jwt-Assertion", assertion = true }]
`;
const keys = (...list) => `keys = [${list.map((key) => JSON.stringify(key)).join(', ')}]`;

let w, upstream, elsewhere;
const children = [];
before(async () => {
  const gateway = await freePort();
  const issuer = `http://127.0.0.1:${gateway}`;
  [upstream, elsewhere] = [await verifier(issuer, '127.0.0.1'), await verifier(issuer, 'other.example.test')];
  w = await world({ port: gateway, upstream, more: { session: keys(SESSION_KEY), routes } });
});
after(async () => {
  await w?.stop();
  await Promise.all(children.map((child) => child.stop()));
});

// The application, as one of this host; its URL.
async function verifier(issuer, audience) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const env = { ...process.env, ISSUER: issuer, AUDIENCE: audience, PYTHONDONTWRITEBYTECODE: '1' };
  const command = ['-m', 'uvicorn', 'verifier:app', '--host', '127.0.0.1', '--port', String(port), '--log-level', 'warning'];
  children.push(start(path.join(HERE, '.venv/bin/python'), command, { cwd: HERE, env }));
  await until('the application', async () => (await fetch(`${url}/up`)).status === 401);
  return url;
}

async function signedIn(user) {
  const jar = new Jar();
  await jar.signIn(w, user);
  return jar;
}

const asked = async (jar) => JSON.parse((await jar.request(`${w.origin}/verified`)).text);
const shown = async (token, at = upstream) => {
  const answer = await fetch(`${at}/`, { headers: { 'x-doorward-assertion': token } });
  return { status: answer.status, ...(await answer.json()) };
};
const base64 = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const parts = (token) => token.split('.').map((part) => Buffer.from(part, 'base64url'));

test('hx_23 an application that verifies is told who it is, each person as themselves', async () => {
  const [alice, bob] = [await signedIn('alice'), await signedIn('bob')];
  for (const [jar, name] of [[alice, 'alice'], [bob, 'bob'], [alice, 'alice']]) {
    const { claims, header } = await asked(jar);
    assert.deepEqual(
      { sub: claims.sub, type: claims.sub_type, email: claims.email, verified: claims.email_verified },
      { sub: name, type: 'user', email: `${name}@example.test`, verified: true },
    );
    assert.equal(claims.exp - claims.iat, 300);
    assert.deepEqual([header.alg, header.typ], ['ES256', 'assertion+jwt']);
  }
  const { claims } = await asked(alice);
  assert.deepEqual(claims.groups, ['admins', 'staff']);
});

test('hx_23 b_14 an assertion that somebody else made, changed or took from the client is refused', async () => {
  const alice = await signedIn('alice');
  const { token, header } = await asked(alice);
  const [, claims, signature] = parts(token);
  const changed = { ...JSON.parse(claims), sub: 'root' };
  const sign = (head, body) => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const message = `${base64(head)}.${base64(body)}`;
    return `${message}.${createSign('SHA256').update(message).sign({ key: privateKey, dsaEncoding: 'ieee-p1363' }, 'base64url')}`;
  };
  for (const forged of [
    sign(header, changed),
    sign({ ...header, kid: 'unknown' }, changed),
    `${base64(header)}.${base64(changed)}.${signature.toString('base64url')}`,
    `${base64({ ...header, alg: 'none' })}.${base64(changed)}.`,
    '',
  ]) {
    assert.equal((await shown(forged)).status, 401, forged);
    // Brought by the client it never arrives: the application sees ours.
    const answer = await alice.request(`${w.origin}/verified`, { headers: { accept: 'application/json', 'x-doorward-assertion': forged } });
    assert.equal(JSON.parse(answer.text).claims.sub, 'alice');
  }
  assert.equal((await shown(token)).status, 200, 'the one that was copied from is good');
  assert.equal((await shown(token, elsewhere)).error, 'InvalidAudienceError', 'and good for this host only');
});

test('hx_23 the session key changes while people work, and no assertion meets a key that was not published before', async () => {
  const alice = await signedIn('alice');
  const before = await asked(alice);
  await w.reload({ session: keys(NEXT_KEY, SESSION_KEY), routes });
  const published = await jwks();
  const during = await asked(alice);
  assert.equal(during.header.kid, before.header.kid, 'the new key is published first');
  assert.equal((await shown(before.token)).status, 200);

  await w.reload({ session: keys(NEXT_KEY), routes });
  const after = await asked(alice);
  assert.equal(after.claims.sub, 'alice');
  assert.notEqual(after.header.kid, before.header.kid);
  assert.ok(published.includes(after.header.kid));
  assert.ok(!(await jwks()).includes(before.header.kid), 'what is removed is published no more');
});

const jwks = async () => (await (await fetch(`${w.origin}/oauth2/.well-known/jwks.json`)).json()).keys.map((key) => key.kid);
