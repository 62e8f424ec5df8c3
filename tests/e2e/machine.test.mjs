// Machines with real parts: a service gets its token at npm oidc-provider by client credentials and calls through Doorward.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { world } from './lib/world.mjs';

const API = 'https://api.example.test';
const OPAQUE = 'https://opaque.example.test';
const OTHER = 'https://other.example.test';

const service = (id) => ({
  client_id: id,
  client_secret: `the secret of ${id}, long enough`,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
});

const FEATURES = {
  clientCredentials: { enabled: true },
  introspection: { enabled: true },
  resourceIndicators: {
    enabled: true,
    getResourceServerInfo: (_ctx, resource) => ({
      scope: 'read write',
      audience: resource,
      accessTokenFormat: resource === OPAQUE ? 'opaque' : 'jwt',
    }),
  },
};

const ROUTES = (url) => `
[[route]]
name = "api"
path = "/api"
upstream = "${url}"
provider = "main"
access = "policy"
allow = [{ client = "billing", scope = "read" }]
[route.machine]
issuers = ["main"]
audience = ["${API}", "${OPAQUE}"]
introspect = "main"
rfc9068 = true
`;

// How often the provider was asked, by path.
const asked = {};
const watch = (ctx) => {
  asked[ctx.path] = (asked[ctx.path] ?? 0) + 1;
};

let w;
before(async () => {
  w = await world({
    provider: { demands: { clients: [service('billing'), service('reports')], features: FEATURES }, watch },
    more: { routes: ROUTES, limits: 'refused_tokens_per_minute = 1000000' },
  });
});
after(() => w?.stop());

async function tokenOf(id, { resource = API, scope = 'read', endpoint = `${w.issuer}/token` } = {}) {
  const answer = await fetch(endpoint, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`${id}:${encodeURIComponent(service(id).client_secret).replaceAll('%20', '+')}`)}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', resource, scope }),
  });
  const body = await answer.json();
  assert.equal(answer.status, 200, JSON.stringify(body));
  return body.access_token;
}

const call = (token, path = '/api/x') => fetch(`${w.origin}${path}`, { headers: { authorization: `Bearer ${token}` } });

async function received(path) {
  const line = (await w.appLog()).findLast((one) => one.path === path);
  const values = (name) => line.headers.filter(([key]) => key.toLowerCase() === name).map(([, value]) => value);
  return values;
}

test('at_01 b_20 a service calls with its own token and is announced as a client, never as a user', async () => {
  assert.equal((await call(await tokenOf('billing'), '/api/service')).status, 200);
  const values = await received('/api/service');
  assert.deepEqual(values('x-doorward-client'), ['billing']);
  assert.deepEqual(values('x-forwarded-user'), []);
  assert.deepEqual(values('authorization'), []);
});

test('bx_01 another client, and one without the scope, are refused by the rules', async () => {
  assert.equal((await call(await tokenOf('reports'))).status, 403);
  const answer = await call(await tokenOf('billing', { scope: 'write' }));
  assert.equal(answer.status, 403);
  assert.match(answer.headers.get('www-authenticate'), /error="insufficient_scope", scope="read"/);
});

test('at_01 jx_14 a token for another audience is no token for here', async () => {
  const answer = await call(await tokenOf('billing', { resource: OTHER }));
  assert.equal(answer.status, 401);
  assert.match(answer.headers.get('www-authenticate'), /error="invalid_token"/);
});

test('in_01 an opaque token is looked up once', async () => {
  const token = await tokenOf('billing', { resource: OPAQUE });
  assert.doesNotMatch(token, /\./);
  const before = asked['/token/introspection'] ?? 0;
  for (let n = 0; n < 20; n += 1) assert.equal((await call(token, '/api/opaque')).status, 200);
  assert.equal(asked['/token/introspection'], before + 1);
  const values = await received('/api/opaque');
  assert.deepEqual([values('x-doorward-client'), values('x-forwarded-user')], [['billing'], []]);
});

test('o_09 a client that knows nothing finds its way from the 401 to a token, as MCP has it', async () => {
  const refused = await fetch(`${w.origin}/api/mcp`);
  assert.equal(refused.status, 401);
  const [, url] = /resource_metadata="([^"]+)"/.exec(refused.headers.get('www-authenticate'));
  const resource = await (await fetch(url)).json();
  assert.equal(resource.resource, `${w.origin}/api`);
  assert.deepEqual(resource.scopes_supported, ['read']);
  const [server] = resource.authorization_servers;
  const metadata = await (await fetch(`${server}/.well-known/openid-configuration`)).json();
  const [scope] = resource.scopes_supported;
  assert.equal((await call(await tokenOf('billing', { scope, endpoint: metadata.token_endpoint }), '/api/mcp')).status, 200);
});

test('d_08 jx_09 a thousand requests fetch no keys again, and ten thousand unknown keys once a cool-down', async () => {
  const all = async (count, one) => {
    for (let done = 0; done < count; done += 50) {
      await Promise.all(Array.from({ length: 50 }, (_, n) => one(done + n)));
    }
  };
  const good = await tokenOf('billing');
  assert.equal((await call(good)).status, 200);
  const before = asked['/jwks'];
  await all(1000, async () => assert.equal((await call(good)).status, 200));
  assert.equal(asked['/jwks'], before);

  const [header, payload, signature] = good.split('.');
  const decoded = JSON.parse(Buffer.from(header, 'base64url').toString());
  const began = Date.now();
  await all(10_000, async (n) => {
    const unknown = Buffer.from(JSON.stringify({ ...decoded, kid: `unknown-${n}` })).toString('base64url');
    assert.equal((await call(`${unknown}.${payload}.${signature}`)).status, 401);
  });
  const coolDowns = Math.floor((Date.now() - began) / 10_000);
  const fetched = asked['/jwks'] - before;
  assert.ok(fetched >= 1 && fetched <= 1 + coolDowns, `${fetched} fetches in ${Date.now() - began} ms`);
  assert.equal((await call(good)).status, 200);
});
