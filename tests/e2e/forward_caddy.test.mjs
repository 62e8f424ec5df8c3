// deploy/caddy, as it is, and the Caddyfile that oauth2-proxy documents.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
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

forwardTests({ ...RECIPE, away: [502] });

describe('caddy, besides', () => {
  let w, bob;
  before(async () => {
    w = await forwardWorld(RECIPE);
    bob = await w.signedIn('bob');
  });
  after(() => w?.stop());

  test('px_20 the query is the application\'s, whatever is in it', async () => {
    const query = '?allowed_groups=nobody&allowed_emails=nobody@example.test';
    assert.match((await w.xhr(bob, `/page${query}`)).text, /allowed_groups=nobody&amp;allowed_emails=/);
    assert.equal((await w.xhr(bob, '/admin?allowed_groups=staff')).status, 403);
  });

  test('hx_03 what is said of the request is said by Caddy alone', async () => {
    const said = { 'X-Original-URL': '/x', 'X-Rewrite-URL': '/x', Forwarded: 'for=192.0.2.7', 'X-Forwarded-Uri': '/x', 'X-Forwarded-Prefix': '/x', 'X-Forwarded-Host': 'x.test', 'X-Forwarded-For': '192.0.2.7', 'X-Real-IP': '192.0.2.7' };
    const [line] = await w.during(() => w.xhr(bob, '/page', { headers: said }));
    assert.deepEqual(values(line, 'x-forwarded-for'), ['127.0.0.1']);
    assert.deepEqual(values(line, 'x-forwarded-host'), [HOST]);
    for (const [name, value] of line.headers) assert.ok(!Object.values(said).includes(value), `${name}: ${value}`);
  });

  test('hx_21 a header without a value does not arrive', async () => {
    const nomail = await w.signedIn('nomail');
    const lines = await w.during(async () => {
      await w.xhr(nomail, '/page');
      await w.xhr(w.jar(), '/public/page');
    });
    assert.deepEqual(values(lines[0], 'x-forwarded-user'), ['nomail']);
    assert.deepEqual([lines[0], lines[1]].map((line) => values(line, 'x-forwarded-email')), [[], []]);
    assert.deepEqual(values(lines[1], 'x-forwarded-user'), []);
  });
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
