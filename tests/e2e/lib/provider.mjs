// The OpenID provider of the tests: npm oidc-provider, an implementation nobody here wrote, with its own sign-in form.
// Consent is implied; the claims travel in the ID token.
import http from 'node:http';
import { createHash } from 'node:crypto';
import Provider from 'oidc-provider';

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
  many: { email: 'many@example.test', name: 'Many Groups', groups: MANY_GROUPS },
  [ODD_USER]: { email: 'odd@example.test', name: 'Ödd\r\nX-Evil: 1', groups: ['a,admins', 'plain', 'two words'] },
};

// `origins` are the places where Doorward is seen by browsers: the redirect URIs follow from them.
export async function startProvider({ port, origins }) {
  const issuer = `http://localhost:${port}`;
  const client = ({ id, secret }) => ({
    client_id: id,
    client_secret: secret,
    token_endpoint_auth_method: 'client_secret_basic',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    redirect_uris: origins.map((origin) => `${origin}/oauth2/callback`),
    post_logout_redirect_uris: origins.map((origin) => `${origin}/oauth2/signed_out`),
  });

  const provider = new Provider(issuer, {
    clients: [client(CLIENT), client(ODD_CLIENT)],
    findAccount: (_ctx, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email_verified: true, preferred_username: id, ...USERS[id] }),
    }),
    claims: {
      openid: ['sub'],
      email: ['email', 'email_verified'],
      profile: ['name', 'preferred_username', 'groups'],
    },
    conformIdTokenClaims: false,
    cookies: { keys: ['only for tests'] },
    features: {
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
    },
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: () => true,
    loadExistingGrant: impliedConsent,
    pkce: { required: () => true },
    renderError: (ctx, out) => {
      ctx.body = page('Provider error', `<p>${escape(JSON.stringify(out))}</p>`);
    },
    rotateRefreshToken: true,
    ttl: { AccessToken: 600, Grant: 3600, IdToken: 600, Interaction: 600, RefreshToken: 3600, Session: 3600 },
  });

  const callback = provider.callback();
  const server = http.createServer((req, res) => {
    if (req.url.startsWith('/interaction/')) {
      interaction(provider, req, res).catch((error) => {
        res.statusCode = 500;
        res.end(String(error));
      });
    } else {
      callback(req, res);
    }
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });

  return {
    issuer,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
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
  const result = USERS[accountId]
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
