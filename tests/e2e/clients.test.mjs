// A provider that demands more of its clients than a secret: requests pushed beforehand, assertions signed by a key, a
// certificate, tokens bound to a key, signed userinfo. Each alone, and together; what the provider saw is what counts.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Jar } from './lib/jar.mjs';
import { signIn } from './lib/load.mjs';
import { freePort, until } from './lib/process.mjs';
import { CLIENT } from './lib/provider.mjs';
import { field, startRecorder } from './lib/recorder.mjs';
import { world } from './lib/world.mjs';

// What the client calls itself, for each path of the provider.
const CALLED = { par: '/request', token: '/token', revocation: '/token/revocation', userinfo: '/me' };
const SECONDS = 3;

const dir = mkdtempSync(path.join(os.tmpdir(), 'doorward-clients-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const inDir = (name) => path.join(dir, name);

const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
writeFileSync(inDir('client-key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }));

const part = (token, n) => JSON.parse(Buffer.from(token.split('.')[n], 'base64url'));

// The parts of a provider's demands, and of Doorward's answer to them.
const PAR = {
  features: { pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: true } },
  lines: ['par = "required"'],
};
const KEY = {
  metadata: {
    client_secret: undefined,
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'PS256',
    jwks: { keys: [{ ...publicKey.export({ format: 'jwk' }), kid: '2026', alg: 'PS256', use: 'sig' }] },
  },
  // Stricter than the library: the issuer, as a string, and nothing else.
  configuration: {
    assertJwtClientAuthClaimsAndHeader: (ctx, claims) => {
      if (claims.aud !== ctx.oidc.issuer || claims.exp - claims.iat > 60) throw new Error('not what RFC 7523 and FAPI ask for');
    },
  },
  lines: [
    `private_key = { file = ${JSON.stringify(inDir('client-key.pem'))} }`,
    'client_auth = "private_key_jwt"',
    'client_auth_signing_alg = "PS256"',
    'key_id = "2026"',
  ],
};
const DPOP = {
  metadata: { dpop_bound_access_tokens: true },
  features: { dPoP: { enabled: true, nonceSecret: Buffer.alloc(32, 7), requireNonce: () => true } },
  lines: ['dpop = true'],
};
// Groups come from userinfo alone.
const USERINFO = { configuration: { conformIdTokenClaims: true } };
const SIGNED = {
  metadata: { userinfo_signed_response_alg: 'RS256' },
  features: { jwtUserinfo: { enabled: true } },
};

// Doorward before a provider with these demands, and what that saw of it: { path, status, form, headers, type,
// certificate }. `lines` instead of those that the demands ask for.
async function demanding(parts, lines = parts.flatMap((one) => one.lines ?? [])) {
  const merged = (name) => Object.assign({}, USERINFO[name], ...parts.map((one) => one[name]));
  const demands = { metadata: merged('metadata'), features: merged('features'), configuration: merged('configuration') };
  const seen = [];
  const watch = (ctx) => {
    if (!Object.values(CALLED).includes(ctx.path)) return;
    const { path: at, status, headers, socket } = ctx;
    seen.push({ path: at, status, headers, form: { ...ctx.oidc?.body }, type: ctx.response.type, certificate: socket.getPeerCertificate?.()?.raw });
  };
  const upstream = await startRecorder();
  const client = { id: CLIENT.id, secret: demands.metadata.token_endpoint_auth_method ? undefined : CLIENT.secret };
  const provider = { accessToken: SECONDS, demands, watch };
  const w = await world({ client, upstream: upstream.url, provider, more: { provider: lines.join('\n') } });
  return {
    w,
    seen,
    at: (name) => seen.filter(({ path: at }) => at === CALLED[name]),
    last: () => upstream.requests.at(-1),
    async stop() {
      await w.stop();
      await upstream.stop();
    },
  };
}

// Signs in, refreshes and signs out; the upstream saw who it was, from userinfo, before and after the refresh.
async function wholeLife({ w, last, at }) {
  const visitor = await signIn(w, 'alice');
  assert.equal((await visitor.ask(w, { path: '/admin' })).status, 200, 'a group of userinfo is a group');
  assert.equal(field(last(), 'x-forwarded-groups'), 'admins,staff');
  const before = w.provider.tokens.refreshes().length;
  await until('the access token to expire', () => Date.now() > visitor.since + SECONDS * 1000 + 50);
  assert.equal((await visitor.ask(w)).status, 200);
  const refreshes = w.provider.tokens.refreshes().slice(before).filter(({ status }) => status === 200);
  assert.equal(refreshes.length, 1);
  assert.equal(field(last(), 'x-forwarded-groups'), 'admins,staff');
  const out = await visitor.ask(w, { path: '/oauth2/sign_out', headers: { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate', accept: 'text/html' } });
  assert.equal(out.status, 302, out.body);
  await until('the tokens to be revoked', () => at('revocation').length >= 2);
  assert.ok(at('revocation').every(({ status }) => status === 200), 'by a client that the provider knows');
}

// The browser carries two parameters; all others were pushed, by an authenticated client.
async function assertPushed({ w, at }) {
  const url = new URL((await new Jar().request(`${w.origin}/`)).location);
  assert.deepEqual([...url.searchParams.keys()].sort(), ['client_id', 'request_uri']);
  const { form, status } = at('par').at(-1);
  assert.equal(status, 201);
  for (const name of ['response_type', 'scope', 'state', 'nonce', 'redirect_uri', 'code_challenge']) assert.ok(form[name], name);
}

// Each request to an endpoint for clients had an assertion of its own.
function assertAsserted({ at, w }) {
  const calls = [...at('par'), ...at('token'), ...at('revocation')];
  assert.ok(calls.length >= 5, `${calls.length}`);
  const ids = calls.map(({ form, headers }) => {
    assert.equal(headers.authorization, undefined);
    assert.equal(form.client_secret, undefined);
    assert.deepEqual(part(form.client_assertion, 0), { alg: 'PS256', kid: '2026', typ: 'JWT' });
    const claims = part(form.client_assertion, 1);
    assert.equal(claims.aud, w.issuer);
    return claims.jti;
  });
  assert.equal(new Set(ids).size, ids.length, 'none was sent twice');
}

// Each request for a token, and each use of one, had a proof of its own, in the end with the provider's nonce.
function assertProved({ at }) {
  const calls = [...at('token'), ...at('userinfo')];
  const proofs = calls.map(({ headers }) => {
    assert.equal(part(headers.dpop, 0).typ, 'dpop+jwt');
    return part(headers.dpop, 1);
  });
  assert.equal(new Set(proofs.map(({ jti }) => jti)).size, proofs.length, 'none was sent twice');
  for (const [n, call] of calls.entries()) {
    assert.equal(Boolean(proofs[n].nonce), call.status === 200, `${call.path} ${call.status}`);
    assert.equal(Boolean(proofs[n].ath), call.path === CALLED.userinfo);
  }
  const refused = calls.filter(({ status }) => status !== 200);
  assert.deepEqual(refused.map(({ path: at, status }) => [at, status]), [['/token', 400]], 'asked for the nonce once, for all');
  assert.ok(at('userinfo').every(({ headers }) => headers.authorization.startsWith('DPoP ')));
}

const assertSigned = ({ at }) => assert.ok(at('userinfo').every(({ type }) => type === 'application/jwt'));

for (const [name, parts, checks] of [
  ['par_01 par_03 pushed requests', [PAR], [assertPushed]],
  ['pk_01 f_02 private_key_jwt', [KEY], [assertAsserted]],
  ['dp_01 dp_02 f_06 DPoP with a nonce', [DPOP], [assertProved]],
  ['c_18 signed userinfo', [SIGNED], [assertSigned]],
  ['par_01 pk_01 dp_02 all of them together', [PAR, KEY, DPOP, SIGNED], [assertPushed, assertAsserted, assertProved, assertSigned]],
]) {
  describe(name, () => {
    let world;
    before(async () => {
      world = await demanding(parts);
    });
    after(() => world?.stop());

    test(`${name}: sign-in, userinfo, refresh and sign-out`, async () => {
      await wholeLife(world);
      for (const check of checks) await check(world);
    });
  });
}

test('each of them is a demand: who does not meet it is signed in nowhere', async () => {
  for (const [demand, lines] of [[PAR, ['par = "off"']], [KEY, ['client_auth = "none"']], [DPOP, []]]) {
    const world = await demanding([demand], lines);
    try {
      const jar = new Jar();
      const answer = await jar.signIn(world.w, 'alice').catch(({ message }) => message);
      assert.notEqual(answer.status, 302, JSON.stringify(answer));
      assert.equal((await jar.request(`${world.w.origin}/`, { headers: {} })).status, 401);
    } finally {
      await world.stop();
    }
  }
});

test('dp_03 a provider whose tokens are not bound signs nobody in', async () => {
  const world = await demanding([{ lines: DPOP.lines, features: { dPoP: { enabled: false } } }]);
  try {
    const answer = await new Jar().signIn(world.w, 'alice');
    assert.equal(answer.status, 502, answer.text);
    assert.equal(world.at('userinfo').length, 0);
  } finally {
    await world.stop();
  }
});

describe('mt_01 d_11 tls_client_auth', () => {
  let world, server;
  before(async () => {
    certificates();
    const port = await freePort();
    const secure = `https://localhost:${port}`;
    const shown = (ctx) => ctx.socket.getPeerX509Certificate?.();
    const mTLS = {
      enabled: true,
      tlsClientAuth: true,
      certificateBoundAccessTokens: true,
      getCertificate: (ctx) => shown(ctx)?.toString(),
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_san_dns' && shown(ctx).checkHost(expected) === expected,
    };
    const certificate = {
      metadata: {
        client_secret: undefined,
        token_endpoint_auth_method: 'tls_client_auth',
        tls_client_auth_san_dns: 'doorward.test',
        tls_client_certificate_bound_access_tokens: true,
      },
      features: { mTLS },
      configuration: {
        clientAuthMethods: ['client_secret_basic', 'tls_client_auth'],
        discovery: {
          mtls_endpoint_aliases: {
            token_endpoint: `${secure}/token`,
            userinfo_endpoint: `${secure}/me`,
            revocation_endpoint: `${secure}/token/revocation`,
            pushed_authorization_request_endpoint: `${secure}/request`,
          },
        },
      },
      lines: [
        'client_auth = "tls_client_auth"',
        `ca = ${JSON.stringify(inDir('ca.pem'))}`,
        `client_cert = ${JSON.stringify(inDir('doorward.test.pem'))}`,
        `client_key = ${JSON.stringify(inDir('doorward.test.key'))}`,
      ],
    };
    world = await demanding([PAR, certificate]);
    const pem = (name) => readFileSync(inDir(name));
    const options = { key: pem('localhost.key'), cert: pem('localhost.pem'), ca: pem('ca.pem'), requestCert: true, rejectUnauthorized: true };
    server = https.createServer(options, world.w.provider.answer).listen(port, '127.0.0.1');
    await once(server, 'listening');
  });
  after(async () => {
    server?.closeAllConnections();
    server?.close();
    await world?.stop();
  });

  test('mt_01 d_11 the certificate proves the client, and the tokens are bound to it', async () => {
    await wholeLife(world);
    await assertPushed(world);
    for (const { path: at, certificate, form, headers } of world.seen) {
      assert.ok(certificate?.length > 0, `${at} saw the certificate`);
      assert.equal(form.client_secret ?? form.client_assertion, undefined);
      if (at === CALLED.userinfo) continue;
      assert.equal(form.client_id, 'doorward');
      assert.equal(headers.authorization, undefined);
    }
  });
});

// An authority, and pairs of its own for a server and for the client.
function certificates() {
  const openssl = (...args) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=ca');
  for (const name of ['localhost', 'doorward.test']) {
    writeFileSync(inDir(`${name}.ext`), `subjectAltName=DNS:${name}\nbasicConstraints=CA:FALSE\n`);
    openssl('req', ...key, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-extfile', `${name}.ext`, '-out', `${name}.pem`);
  }
}
