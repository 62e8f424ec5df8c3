// deploy/nginx, as it is: nginx asks Doorward with auth_request.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { HOST, ORIGIN, forwardWorld, values } from './lib/forward.mjs';
import { forwardTests } from './lib/forward_tests.mjs';
import { NGINX, startNginx } from './lib/nginx.mjs';

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
  advice: {
    '# The request itself.': 'auth_request_set $auth_authorization $upstream_http_authorization;\nproxy_set_header Authorization $auth_authorization;',
  },

  also(world) {
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
        [['a=1; __Host-doorward=x', '__Host-doorward.1=y; b=2', 'c=3'], 'a=1; b=2; c=3'],
        ['__Host-doorward=x; b=2; __Host-doorward.1=y; c=3; __Host-doorward.2=z', ''],
        // As session.cookie_domain has it, and what only looks like it.
        ['doorward=x', ''],
        ['doorward=x; doorward.1=y; doorward.login.Z-_=z; a=1', 'a=1'],
        ['a=1;  doorward=x;\tdoorward.1=y; __Host-doorward=z; b=2', 'a=1;  b=2'],
        ['xdoorward=1; doorwardx=2; x.doorward=3; a=doorward=4; b=5 doorward=6', 'xdoorward=1; doorwardx=2; x.doorward=3; a=doorward=4; b=5 doorward=6'],
        ['xdoorward=1; doorward=x; doorward-x=2; doorward.1=y; c=3', 'xdoorward=1; doorward-x=2; c=3'],
        ['doorward=x; b=2; doorward.1=y; c=3; doorward.2=z', ''],
        [`a=${'v'.repeat(20_000)}; __Host-doorward=${'x'.repeat(4000)}; ${'c=3; '.repeat(1000)}d=4`, `a=${'v'.repeat(20_000)}; ${'c=3; '.repeat(1000)}d=4`],
      ]) {
        const lines = [sent].flat().map((cookies) => `Cookie: ${cookies}`);
        const [line] = await w.during(() => w.raw('/public/page', lines));
        assert.equal(values(line, 'cookie').join(), passed, lines.join().slice(0, 100));
      }
    });

    test('nginx: -t finds nothing in the recipe but what its README says', async () => {
      const found = async (file) => {
        const { stderr } = await promisify(execFile)(NGINX, ['-e', 'stderr', '-t', '-c', file]);
        return stderr.match(/\[\w+\] .*/g) ?? [];
      };
      const { dir } = world();
      const file = path.join(dir, '../tmp/nginx.conf');
      const warnings = await found(file);
      if (!warnings.length) return;
      assert.match(warnings.join('\n'), /^\[warn\] .* the "listen \.\.\. http2" directive is deprecated.*$/);
      const instead = path.join(dir, 'instead.conf');
      await writeFile(instead, (await readFile(path.join(dir, 'app.conf'), 'utf8')).replace(' ssl http2;', ' ssl;\n    http2 on;'));
      await writeFile(`${file}.instead`, (await readFile(file, 'utf8')).replace(path.join(dir, 'app.conf'), instead));
      assert.deepEqual(await found(`${file}.instead`), []);
    });

    test('nginx: plain http leads to https', async () => {
      const w = world();
      const answer = await fetch(`http://127.0.0.1:${w.ports.plain}/page?a=1`, { headers: { host: HOST }, redirect: 'manual' });
      assert.equal(answer.status, 301);
      assert.match(answer.headers.get('location'), /^https:\/\/[^/]+\/page\?a=1$/);
    });
  },
});
