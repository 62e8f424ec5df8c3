// The OpenID provider of the tests: npm oidc-provider, an implementation nobody here wrote, with its own sign-in form.
// Consent is implied; the claims travel in the ID token.
import http from 'node:http';
import { createHash } from 'node:crypto';
import Provider from 'oidc-provider';
import { adapter } from './adapter.mjs';

export const CLIENT = { id: 'doorward', secret: 'a-plain-client-secret-of-32-chars' };

// Every character that RFC 6749 section 2.3.1 wants form-encoded before base64 (O-01).
export const ODD_CLIENT = { id: 'odd:client', secret: `sp ace+plus%25/slash:colon&amp=~"quoted" '1234` };

// Names that do not compress, so that the session needs more than one cookie.
export const MANY_GROUPS = Array.from(
  { length: 400 },
  (_, n) => `g-${createHash('sha256').update(String(n)).digest('hex').slice(0, 12)}`,
);

// What no form would let one choose, but a directory may hold.
export const ODD_USER = '"><script>alert(1)</script>';

const USERS = {
  alice: { email: 'alice@example.test', name: 'Alice Adams', groups: ['admins', 'staff'] },
  bob: { email: 'bob@example.test', name: 'Bob Brown', groups: ['staff'] },
  nomail: { name: 'No Mail', groups: ['staff'] },
  many: { email: 'many@example.test', name: 'Many Groups', groups: MANY_GROUPS },
  [ODD_USER]: { email: 'odd@example.test', name: 'Ödd\r\nX-Evil: 1', groups: ['a,admins', 'plain', 'two words'] },
};

// A crowd without end: user0, user1 …
const CROWD = /^user\d+$/;

// What refreshed people are shown to be: how often their tokens were made, as a group.
const madeGroup = (times) => `made-${times}`;

// `origins` are the places where Doorward is seen by browsers: the redirect URIs follow from them. `accessToken`: seconds
// that an access token lives. `logoutUri`: where logout tokens go. `counted`: everybody is in a group that says how often
// their ID token was made, so that an upstream's log tells a refreshed identity from the one before. `demands`: more of
// the library's own { metadata (of the client), clients (beside it), features, configuration }; `watch` is shown each
// request once it is answered.
export async function startProvider({ port, origins, accessToken = 600, logoutUri, counted = false, demands = {}, watch }) {
  const issuer = `http://localhost:${port}`;
  const made = new Map();
  const client = ({ id, secret }) => ({
    client_id: id,
    client_secret: secret,
    token_endpoint_auth_method: 'client_secret_basic',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    // Where there are several providers, each has a callback of its own.
    redirect_uris: origins.flatMap((origin) =>
      ['', '/main', '/other'].map((name) => `${origin}/oauth2/callback${name}`),
    ),
    post_logout_redirect_uris: origins.map((origin) => `${origin}/oauth2/signed_out`),
    ...demands.metadata,
    ...(logoutUri && { backchannel_logout_uri: logoutUri, backchannel_logout_session_required: true }),
  });
  const claims = (id, use) => {
    const known = USERS[id] ?? { email: `${id}@example.test`, name: `One of many: ${id}`, groups: ['staff'] };
    if (!counted || use !== 'id_token') return known;
    made.set(id, (made.get(id) ?? 0) + 1);
    return { ...known, groups: [madeGroup(made.get(id))] };
  };

  const provider = new Provider(issuer, {
    adapter: adapter(),
    clients: [client(CLIENT), client(ODD_CLIENT), ...(demands.clients ?? [])],
    findAccount: (_ctx, id) => ({
      accountId: id,
      claims: (use) => ({ sub: id, email_verified: true, preferred_username: id, ...claims(id, use) }),
    }),
    claims: {
      openid: ['sub'],
      email: ['email', 'email_verified'],
      profile: ['name', 'preferred_username', 'groups'],
    },
    conformIdTokenClaims: false,
    cookies: { keys: ['only for tests'] },
    features: {
      backchannelLogout: { enabled: logoutUri !== undefined },
      devInteractions: { enabled: false },
      revocation: { enabled: true },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, form) => {
          ctx.body = page('Sign out', `${form}<button form="op.logoutForm" name="logout" value="yes">Sign out of the provider</button>`);
        },
        postLogoutSuccessSource: (ctx) => {
          ctx.body = page('Signed out of the provider', '');
        },
      },
      ...demands.features,
    },
    // Without the library's guard against addresses of this machine: here everything is one.
    fetch: (url, { dispatcher: _guard, ...request }) => fetch(url, request),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: () => true,
    loadExistingGrant: impliedConsent,
    pkce: { required: () => true },
    renderError: (ctx, out) => {
      ctx.body = page('Provider error', `<p>${escape(JSON.stringify(out))}</p>`);
    },
    rotateRefreshToken: true,
    ttl: { AccessToken: () => running.accessToken, Grant: 3600, IdToken: 600, Interaction: 600, RefreshToken: 3600, Session: 3600 },
    ...demands.configuration,
  });

  if (watch) provider.use((ctx, next) => next().finally(() => watch(ctx)));
  const tokens = watchTokens(provider);
  const callback = provider.callback();
  const answer = (req, res) => {
    if (req.url.startsWith('/interaction/')) {
      interaction(provider, req, res).catch((error) => {
        res.statusCode = 500;
        res.end(String(error));
      });
    } else {
      callback(req, res);
    }
  };
  let server;

  const running = {
    issuer,
    tokens,
    madeGroup,
    accessToken,
    // For a server of one's own.
    answer,

    // There again, with everything it knew.
    async start() {
      server = http.createServer(answer);
      await new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(port, '127.0.0.1', resolve);
      });
    },

    // Gone: whoever connects is refused.
    async stop() {
      tokens.release();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },

    // Sends the logout token for one of its sessions (by `sid`) or for all of a person's (by `sub` alone); resolves when
    // Doorward has answered 200.
    async logout({ sub, sid }) {
      const client = await provider.Client.find(CLIENT.id);
      client.backchannelLogoutSessionRequired = sid !== undefined;
      await client.backchannelLogout(sub, sid);
    },
  };
  await running.start();
  return running;
}

// The token endpoint's log, and a gate in front of it. `calls`: { grant, spent, made, access, of, sid, status }, in the order in which
// they came; what is secret in them is for comparing only.
function watchTokens(provider) {
  let gate;
  const tokens = {
    calls: [],
    refreshes: () => tokens.calls.filter(({ grant }) => grant !== 'authorization_code'),
    // From now on no call is answered until `release`.
    hold() {
      gate ??= resolvers();
    },
    release() {
      gate?.resolve();
      gate = undefined;
    },
    waiting: 0,
  };
  provider.use(async (ctx, next) => {
    if (ctx.path !== '/token') return next();
    const call = {};
    tokens.calls.push(call);
    tokens.waiting += 1;
    await gate?.promise;
    await next();
    tokens.waiting -= 1;
    const { params } = ctx.oidc;
    Object.assign(call, { grant: params?.grant_type, spent: params?.refresh_token, made: ctx.body?.refresh_token, access: ctx.body?.access_token, status: ctx.status });
    if (ctx.body?.id_token) {
      const { sub, sid } = JSON.parse(Buffer.from(ctx.body.id_token.split('.')[1], 'base64url'));
      Object.assign(call, { of: sub, sid });
    }
    return undefined;
  });
  return tokens;
}

function resolvers() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

async function impliedConsent(ctx) {
  const { client, session } = ctx.oidc;
  const grant = new ctx.oidc.provider.Grant({ accountId: session.accountId, clientId: client.clientId });
  grant.addOIDCScope('openid profile email offline_access');
  await grant.save();
  return grant;
}

// GET shows the form, POST signs in whoever is named: these people have no passwords.
async function interaction(provider, req, res) {
  if (req.method === 'GET') {
    const { params } = await provider.interactionDetails(req, res);
    res.setHeader('content-type', 'text/html; charset=utf-8');
    res.end(page('Sign in', `
      <p>for ${escape(params.client_id)}</p>
      <form method="post">
        <label>User name <input name="login" autofocus></label>
        <button>Sign in</button>
      </form>`));
    return;
  }
  const body = [];
  for await (const chunk of req) body.push(chunk);
  const accountId = new URLSearchParams(Buffer.concat(body).toString()).get('login');
  const result = USERS[accountId] || CROWD.test(accountId)
    ? { login: { accountId } }
    : { error: 'access_denied', error_description: 'nobody of that name' };
  await provider.interactionFinished(req, res, result, { mergeWithLastSubmission: false });
}

function page(title, body) {
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${title}</title><h1>${title}</h1>${body}`;
}

function escape(text) {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}
