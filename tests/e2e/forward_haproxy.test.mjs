// deploy/haproxy, as it is: HAProxy asks Doorward with a Lua script. And HAProxy that only passes connections on and says
// whose they are.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ORIGIN, forwardWorld, values } from './lib/forward.mjs';
import { forwardTests } from './lib/forward_tests.mjs';
import { Jar } from './lib/jar.mjs';
import { freePort, start, until } from './lib/process.mjs';
import { world } from './lib/world.mjs';

const RECIPE = {
  name: 'haproxy',
  places: (w) => ({
    'bind :443 ': `bind 127.0.0.1:${w.ports.proxy} `,
    'bind :80\n': `bind 127.0.0.1:${w.ports.plain}\n`,
    '127.0.0.1:3000': w.app,
    '/etc/haproxy/': `${w.dir}/`,
  }),
  async startProxy(w) {
    await writeFile(path.join(w.dir, 'app.pem'), (await readFile(w.cert, 'utf8')) + (await readFile(w.key, 'utf8')));
    return start('haproxy', ['-db', '-f', path.join(w.dir, 'haproxy.cfg')]);
  },
};

test('haproxy: an error in the script lets nobody pass', async () => {
  const w = await forwardWorld({ ...RECIPE, places: (w) => ({ ...RECIPE.places(w), 'core.httpclient()': 'core.no_such_thing()' }) });
  try {
    const got = await w.during(async () => {
      for (const target of ['/page', '/public/page']) assert.match(await w.raw(target), /^HTTP\/1\.1 503 /);
    });
    assert.deepEqual(got, []);
  } finally {
    await w.stop();
  }
});

test('haproxy: an event stream that is quiet for longer than the timeouts goes on', async () => {
  const w = await forwardWorld({ ...RECIPE, places: (w) => ({ ...RECIPE.places(w), 'timeout client  60s': 'timeout client  1s', 'timeout server  60s': 'timeout server  1s' }) });
  try {
    const jar = await w.signedIn('bob');
    const reading = w.xhr(jar, '/events');
    const since = Date.now();
    await until('more than the timeouts to pass', () => Date.now() > since + 2500);
    await fetch(`http://${w.app}/release`);
    assert.equal((await reading).text, 'data: first\n\ndata: second\n\n');
  } finally {
    await w.stop();
  }
});

forwardTests({
  ...RECIPE,
  also(world) {
    test('hx_09 haproxy: nor does the application hear of a header to be removed', async () => {
      const w = world();
      const jar = await w.signedIn('bob');
      for (const upgrade of [[], ['Upgrade: websocket'], ['Upgrade: websocket, h2c'], ['Upgrade: h2c']]) {
        const handshake = ['Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', `Origin: ${ORIGIN}`];
        const lines = ['Connection: X-Forwarded-User, upgrade', ...upgrade, ...handshake, `Cookie: ${jar.header(new URL(ORIGIN))}`];
        const [line] = await w.during(() => w.raw('/page', lines));
        assert.deepEqual(values(line, 'upgrade'), upgrade[0] === 'Upgrade: websocket' ? ['websocket'] : []);
        assert.doesNotMatch(values(line, 'connection').join(), /forwarded/i);
        assert.deepEqual(values(line, 'x-forwarded-user'), ['bob']);
      }
    });

    test('haproxy: an application sets cookies, but none of Doorward\'s', async () => {
      const w = world();
      const jar = await w.signedIn('bob');
      // Once the counter of fruitless sign-ins has been cleared, Doorward sets none.
      await w.xhr(jar, '/page');
      const set = async (line) => (await w.xhr(jar, `/cookie?line=${encodeURIComponent(line)}`)).headers['set-cookie'];
      for (const name of ['a', 'doorwards', 'b.doorward']) assert.deepEqual(await set(`${name}=1; Path=/`), [`${name}=1; Path=/`]);
      for (const name of ['__Host-doorward', '__Host-doorward.1', 'doorward', 'doorward.login.x', '=doorward', '= __Host-doorward ', 'doorward.1 ']) assert.equal(await set(`${name}=1; Path=/; Secure`), undefined);
      assert.equal((await w.xhr(jar, '/page')).status, 200);
    });
  },
});

for (const version of ['send-proxy', 'send-proxy-v2']) {
  describe(`HAProxy with ${version}`, () => {
    let w, dir, balancer, port;
    before(async () => {
      w = await world({ more: { server: 'trusted_proxies = ["127.0.0.1/32"]\nproxy_protocol = true' } });
      dir = await mkdtemp(path.join(os.tmpdir(), 'doorward-haproxy-'));
      port = await freePort();
      await writeFile(path.join(dir, 'haproxy.cfg'), `
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen doorward
    bind 127.0.0.1:${port}
    server doorward 127.0.0.1:${w.port} ${version}
`);
      balancer = start('haproxy', ['-db', '-f', path.join(dir, 'haproxy.cfg')]);
      await until('HAProxy', async () => {
        if (!balancer.running()) throw new Error(balancer.output.stderr);
        return (await get('/public/up')) === 200;
      });
    });
    after(async () => {
      await balancer?.stop();
      await w?.stop();
      if (dir) await rm(dir, { recursive: true, force: true });
    });

    const get = (target, headers = {}, localAddress = '127.0.0.1') => new Promise((resolve, reject) => {
      const place = { host: '127.0.0.1', port, localAddress, agent: false, path: target, headers: { host: w.host, ...headers } };
      http.get(place, (answer) => resolve(answer.resume().statusCode)).on('error', reject);
    });

    test(`w_01 the client is whoever connects to HAProxy (${version})`, async () => {
      assert.equal(await get('/public/who', { 'x-forwarded-for': '192.0.2.7' }, '127.0.0.7'), 200);
      const line = (await w.appLog()).at(-1);
      assert.deepEqual(line.headers.filter(([name]) => name === 'x-forwarded-for').map(([, value]) => value), ['127.0.0.7']);
    });

    test(`a person signs in through it (${version})`, async () => {
      const jar = new Jar({ '127.0.0.1': port });
      assert.equal((await jar.signIn(w, 'alice')).status, 302);
      const answer = await jar.request(`${w.origin}/page`);
      assert.match(answer.text, /id="user">alice</);
    });
  });
}
