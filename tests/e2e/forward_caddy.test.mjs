// The recipe of deploy/caddy, with a real Caddy.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { arrived, cookies, forwardCases, session, told } from './lib/forward_cases.mjs';
import { Jar } from './lib/jar.mjs';
import { start } from './lib/process.mjs';
import { program, proxied, send } from './lib/proxied.mjs';

// Not in the recipe: it has a name that a public authority certifies, the test has not, and Caddy does it itself.
const OPTIONS = `{
	admin off
	auto_https disable_redirects
	default_sni 127.0.0.1
	local_certs
	skip_install_trust
}
import sites
`;

const recipe = ({ dir, port, file }) => file('Caddyfile', { 'app.example.com': site(port) }).then((sites) => caddy(dir, sites));
const site = (port) => `https://127.0.0.1:${port}`;

async function caddy(dir, sites) {
  await writeFile(path.join(dir, 'sites'), sites);
  await writeFile(path.join(dir, 'Caddyfile'), OPTIONS);
  const env = { ...process.env, HOME: dir, XDG_DATA_HOME: dir, XDG_CONFIG_HOME: dir };
  return start(process.env.CADDY ?? program('caddy'), ['run', '--config', 'Caddyfile', '--adapter', 'caddyfile'], { cwd: dir, env });
}

describe('the recipe', () => {
  forwardCases({ recipe: 'caddy', proxy: recipe, absent: true });

  test('hx_20 the application gets its own cookies and none of Doorward\'s', async () => {
    const w = await proxied({ recipe: 'caddy', proxy: recipe });
    try {
      const ours = await session(w, 'many');
      for (const cookie of [`${ours}; theme=dark`, `theme=dark; ${ours}`, `lang=en; ${ours}; theme=dark`]) {
        const { answer, lines } = await arrived(w, () => send(w, '/page', { cookie }));
        assert.equal(answer.status, 200);
        const [got] = told(lines[0], 'cookie');
        assert.match(got, /theme=dark/);
        assert.equal(got.includes('lang=en'), cookie.includes('lang=en'));
        assert.doesNotMatch(got, /doorward/);
      }
    } finally {
      await w.stop();
    }
  });
});

// https://oauth2-proxy.github.io/oauth2-proxy/configuration/integrations/caddy with other addresses.
const OAUTH2_PROXY = `
app.example.com {
	handle /oauth2/* {
		reverse_proxy 127.0.0.1:4180 {
			header_up X-Real-IP {remote_host}
			header_up X-Forwarded-Uri {uri}
		}
	}
	handle {
		forward_auth 127.0.0.1:4180 {
			uri /oauth2/auth
			header_up X-Real-IP {remote_host}
			copy_headers X-Auth-Request-User X-Auth-Request-Email
			@error status 401
			handle_response @error {
				redir * /oauth2/sign_in?rd={scheme}://{host}{uri}
			}
		}
		reverse_proxy 127.0.0.1:3000
	}
}
`;

describe('the configuration that oauth2-proxy documents', () => {
  let w;
  before(async () => {
    const proxy = ({ dir, port, fill }) => caddy(dir, fill(OAUTH2_PROXY, { 'app.example.com': site(port) }));
    w = await proxied({ recipe: 'caddy', proxy });
  });
  after(() => w?.stop());

  test('b_01 hx_20 sends people to the page to sign in, and tells the application who they are', async () => {
    const jar = new Jar();
    const page = `${w.origin}/page?x=1&y=2`;
    const away = await jar.request(page);
    assert.equal(away.status, 302);
    assert.equal(away.location, `${w.origin}/oauth2/sign_in?rd=https://127.0.0.1/page?x=1&y=2`);
    const signIn = await jar.request(away.location);
    assert.equal(signIn.status, 200);
    await jar.signIn(w, 'bob', `${w.origin}${/href="([^"]*\/oauth2\/start[^"]*)"/.exec(signIn.text)[1].replaceAll('&amp;', '&')}`);
    const { answer, lines } = await arrived(w, () => send(w, '/page', { cookie: cookies(jar, w), headers: { 'X-Auth-Request-Email': 'eve@example.test' } }));
    assert.equal(answer.status, 200);
    assert.deepEqual(told(lines[0], 'x-auth-request-user'), ['bob']);
    assert.deepEqual(told(lines[0], 'x-auth-request-email'), ['bob@example.test']);
  });
});
