// deploy/caddy, as it is, and the Caddyfile that oauth2-proxy documents.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { HOST, ORIGIN, forwardWorld, values } from './lib/forward.mjs';
import { forwardTests } from './lib/forward_tests.mjs';
import { Jar } from './lib/jar.mjs';
import { snippet, startCaddy } from './lib/programs.mjs';

// A site of port 443 that is another port here.
const site = (w) => ({ [`${HOST} {`]: `https://${HOST}:${w.ports.proxy} {` });

const RECIPE = {
  name: 'caddy',
  places: (w) => ({ ...site(w), '127.0.0.1:3000': w.app }),
  startProxy: (w) => startCaddy({ ...w, sites: [`${w.dir}/Caddyfile`] }),
};

forwardTests({ ...RECIPE, away: [502], also });

function also(world) {
  test('caddy: an application sets cookies, but none of Doorward\'s', async () => {
    const w = world();
    const jar = await w.signedIn('bob');
    // Once the counter of fruitless sign-ins has been cleared, Doorward sets none.
    await w.xhr(jar, '/page');
    const set = async (line) => (await w.xhr(jar, `/cookie?line=${encodeURIComponent(line)}`)).headers['set-cookie'];
    assert.deepEqual(await set('a=1; Path=/'), ['a=1; Path=/']);
    for (const name of ['doorwards', 'b.doorward']) assert.deepEqual(await set(`${name}=1; Path=/`), [`${name}=1; Path=/`]);
    for (const name of ['__Host-doorward', '__Host-doorward.1', 'doorward', 'doorward.login.x', '=doorward', '= __Host-doorward ', 'doorward.1 ']) assert.deepEqual(await set(`${name}=1; Path=/; Secure`), ['dropped=; Max-Age=0']);
    assert.equal((await w.xhr(jar, '/page')).status, 200);
  });

  test('k_08 caddy: of several Cookie lines the application gets what is its own', async () => {
    const w = world();
    const session = (await w.signedIn('bob')).header(new URL(ORIGIN));
    const [line] = await w.during(() => w.raw('/page', ['Cookie: a=1', `Cookie: ${session}`, 'Cookie: b=2; doorward.1=x']));
    assert.deepEqual(values(line, 'cookie').join('; ').split(/[; ]+/).filter(Boolean), ['a=1', 'b=2']);
    assert.deepEqual(values(line, 'x-forwarded-user'), ['bob']);
  });

  test('hx_21 a header without a value does not arrive', async () => {
    const w = world();
    const nomail = await w.signedIn('nomail');
    const lines = await w.during(async () => {
      await w.xhr(nomail, '/page');
      await w.xhr(w.jar(), '/public/page');
    });
    assert.deepEqual(values(lines[0], 'x-forwarded-user'), ['nomail']);
    assert.deepEqual([lines[0], lines[1]].map((line) => values(line, 'x-forwarded-email')), [[], []]);
    assert.deepEqual(values(lines[1], 'x-forwarded-user'), []);
  });
}

test('hx_20 hx_21 caddy: the headers of another preset, copied as its README says', async () => {
  const readme = await readFile(new URL('../../deploy/caddy/README.md', import.meta.url), 'utf8');
  const [told, copied] = [...readme.matchAll(/^```caddyfile\n([^]*?)^```/gm)].map(([, lines]) => lines);
  const w = await forwardWorld({
    ...RECIPE,
    places: (w) => ({ ...RECIPE.places(w), '(told) {\n': `(told) {\n${told}`, 'handle_response @allowed {\n': `handle_response @allowed {\n${copied}` }),
    toml: '\n[[route]]\nname = "remote"\npath = "/remote"\nupstream = "status:404"\naccess = "authenticated"\nidentity = ["remote"]\n',
  });
  try {
    const jar = await w.signedIn('bob');
    const [named, other] = await w.during(async () => {
      for (const target of ['/remote', '/page']) assert.equal((await w.xhr(jar, target, { headers: { 'remote-user': 'alice' } })).status, 200);
    });
    assert.deepEqual(values(named, 'remote-user'), ['bob']);
    assert.deepEqual(values(other, 'remote-user'), []);
  } finally {
    await w.stop();
  }
});

describe('caddy, as oauth2-proxy documents it', () => {
  let w;
  before(async () => {
    w = await forwardWorld({
      name: 'caddy',
      async startProxy(w) {
        const file = `${w.dir}/snippet`;
        await writeFile(file, await snippet('oauth2-proxy.Caddyfile', { ...site(w), '127.0.0.1:4180': w.doorward, '127.0.0.1:3000': w.app }));
        return startCaddy({ ...w, sites: [file] });
      },
    });
  });
  after(() => w?.stop());

  test('b_07 people are sent to the page to sign in and come back; the application is told who they are', async () => {
    const jar = w.jar();
    const page = `${ORIGIN}/page?x=1&y=2`;
    const away = await jar.request(page);
    assert.equal(away.status, 302);
    assert.equal(away.location, `${ORIGIN}/oauth2/sign_in?rd=${page}`);
    const shown = await jar.request(away.location);
    const start = new URL(/href="([^"]*\/oauth2\/start[^"]*)"/.exec(shown.text)[1].replaceAll('&amp;', '&'), ORIGIN);
    const back = await jar.signIn(w, 'bob', start.href);
    // Their `rd` is not encoded: what follows `&` is lost on the way, at oauth2-proxy as here.
    assert.equal(back.location, `${ORIGIN}/page?x=1`);
    const [line] = await w.during(() => w.xhr(jar, '/page', { headers: { 'X-Auth-Request-Email': 'eve@example.test' } }));
    assert.deepEqual(values(line, 'x-auth-request-user'), ['bob']);
    assert.deepEqual(values(line, 'x-auth-request-email'), ['bob@example.test']);
    assert.equal((await w.xhr(new Jar(w.at), '/admin')).status, 302);
    assert.equal((await w.xhr(jar, '/admin')).status, 403);
  });
});
