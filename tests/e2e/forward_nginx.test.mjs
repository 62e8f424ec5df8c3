// deploy/nginx, as it is: nginx asks Doorward with auth_request.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HOST, ORIGIN, forwardWorld, values } from './lib/forward.mjs';
import { forwardTests } from './lib/forward_tests.mjs';
import { startNginx } from './lib/nginx.mjs';

const RECIPE = {
  name: 'nginx',
  places: (w) => ({
    'listen 443 ': `listen 127.0.0.1:${w.ports.proxy} `,
    'listen 80;': `listen 127.0.0.1:${w.ports.plain};`,
    '127.0.0.1:3000': w.app,
    '/etc/nginx/tls.crt': w.cert,
    '/etc/nginx/tls.key': w.key,
    '/etc/nginx/doorward': `${w.dir}/doorward`,
  }),
  startProxy: (w) => startNginx({ tmp: w.tmp, sites: [`${w.dir}/app.conf`] }),
};

test('nginx: whom the question alone refuses is refused, and no page reads who that is', async () => {
  const asked = { 'internal;': 'internal; rewrite ^ /oauth2/auth?allowed_groups=none break;' };
  const w = await forwardWorld({ ...RECIPE, places: (w) => ({ ...RECIPE.places(w), ...asked }) });
  try {
    const cookie = `Cookie: ${(await w.signedIn('alice')).header(new URL(ORIGIN))}`;
    const got = await w.during(async () => {
      const answer = await w.raw('/page', [cookie]);
      assert.match(answer, /^HTTP\/1\.1 403 /);
      assert.doesNotMatch(answer, /^x-(auth-request|forwarded|doorward)-/im);
    });
    assert.deepEqual(got, []);
  } finally {
    await w.stop();
  }
});

forwardTests({
  ...RECIPE,

  also(world) {
    test('px_01 nginx: the path that was judged is the path that arrives', async () => {
      const w = world();
      const cookie = `Cookie: ${(await w.signedIn('bob')).header(new URL(ORIGIN))}`;
      const [line] = await w.during(() => w.raw('/page//a;b=c/./d', [cookie]));
      assert.equal(line.path, '/page//a;b=c/./d');
    });

    test('nginx: a program is told once how to sign in, in JSON', async () => {
      const w = world();
      const answer = await w.xhr(w.jar(), '/page?a=1');
      assert.equal(answer.headers['www-authenticate'], 'Bearer realm="doorward"');
      assert.equal(JSON.parse(answer.text).login_url, `${ORIGIN}/oauth2/start?rd=%2Fpage%3Fa%3D1`);
    });

    test('nginx: the application gets every cookie but those of Doorward', async () => {
      const w = world();
      for (const [sent, passed] of [
        ['a=1; b=__Host-doorwar; c=3', 'a=1; b=__Host-doorwar; c=3'],
        ['__Host-doorward=x', ''],
        ['__Host-doorward=x; __Host-doorward.1=y; __Host-doorward.login.Z-_=z; a=1', 'a=1'],
        ['a=1; b="2 3"; __Host-doorward=x; __Host-doorward.1=y', 'a=1; b="2 3";'],
        ['a=1; __Host-doorward=x; b=2; __Host-doorward.1=y; c=3', 'a=1; b=2; c=3'],
        ['a=1;__Host-doorward=x;b=2', 'a=1;b=2'],
        ['__Host-doorward=x; b=2; __Host-doorward.1=y; c=3; __Host-doorward.2=z', ''],
        [`a=${'v'.repeat(20_000)}; __Host-doorward=${'x'.repeat(4000)}; ${'c=3; '.repeat(1000)}d=4`, `a=${'v'.repeat(20_000)}; ${'c=3; '.repeat(1000)}d=4`],
      ]) {
        const [line] = await w.during(() => w.raw('/public/page', [`Cookie: ${sent}`]));
        assert.equal(values(line, 'cookie').join(), passed, sent.slice(0, 100));
      }
    });

    test('nginx: plain http leads to https', async () => {
      const w = world();
      const answer = await fetch(`http://127.0.0.1:${w.ports.plain}/page?a=1`, { headers: { host: HOST }, redirect: 'manual' });
      assert.equal(answer.status, 301);
      assert.match(answer.headers.get('location'), /^https:\/\/[^/]+\/page\?a=1$/);
    });
  },
});
