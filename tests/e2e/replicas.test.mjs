// An end is an end everywhere: whoever ends a session, and wherever, it is refused and its sockets are closed on every
// replica within two seconds. In cookie mode: on the one instance there is.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ask, keepAsking, signIn } from './lib/load.mjs';
import { Jar } from './lib/jar.mjs';
import { until } from './lib/process.mjs';
import { startRedis } from './lib/redis.mjs';
import { openSocket } from './lib/socket.mjs';
import { SESSION_COOKIE, sessions, world } from './lib/world.mjs';

const SOON = 2_000;
// "Policy violation" of RFC 6455: what a session that has ended is.
const CODE = 1008;

for (const store of ['cookie', 'memory', 'redis']) {
  describe(`store ${store}`, () => {
    let redis, w, places;
    before(async () => {
      if (store === 'redis') redis = await startRedis();
      w = await world({ backchannel: true, more: { session: sessions({ store, redis: redis?.url }) } });
      places = store === 'redis' ? [w, await w.startReplica()] : [w];
    });
    after(async () => {
      await w?.stop();
      await redis?.stop();
    });

    // Somebody who is signed in, has a socket open at every place and asks at every place; `end` does it.
    async function endsEverywhere(user, end) {
      const visitor = await signIn(w, user);
      const other = await signIn(w, 'bob');
      const { cookie } = visitor;
      const sockets = await Promise.all(places.map((place) => openSocket(place, cookie)));
      const bystander = await openSocket(places.at(-1), other.cookie);
      // With sessions in hand everywhere: what is kept must be let go of.
      for (const place of places) assert.equal((await ask(place, cookie)).status, 200);
      const began = Date.now();
      await end(visitor);
      await Promise.all(places.map((place) => until('it to be refused', async () => (await ask(place, cookie)).status === 401, 5)));
      assert.deepEqual(await Promise.all(sockets.map(({ closed }) => closed)), sockets.map(() => CODE));
      const took = Math.max(Date.now(), ...sockets.map(({ closedAt }) => closedAt)) - began;
      assert.ok(took < SOON, `${took} ms`);
      for (const place of places) assert.equal((await ask(place, cookie)).status, 401, 'and stays so');
      assert.equal((await other.ask(places.at(-1))).status, 200, 'nobody else is touched');
      assert.equal(bystander.closedAt, undefined);
      bystander.end();
    }

    const signedIn = (user) => w.provider.tokens.calls.findLast(({ grant, of }) => grant === 'authorization_code' && of === user);

    test(`bl_04 ox_09 the provider ends one session by its sid (${store})`, async () => {
      await endsEverywhere('alice', async () => {
        const { sid } = signedIn('alice');
        assert.ok(sid);
        await w.provider.logout({ sub: 'alice', sid });
      });
    });

    test(`bl_04 ox_09 the provider ends all sessions of a person (${store})`, async () => {
      const elsewhere = await signIn(w, 'alice');
      await endsEverywhere('alice', () => w.provider.logout({ sub: 'alice' }));
      for (const place of places) assert.equal((await ask(place, elsewhere.cookie)).status, 401);
      const again = await signIn(w, 'alice');
      assert.equal((await again.ask(places.at(-1))).status, 200, 'a later sign-in is another session');
    });

    test(`ox_02 a sign-out holds for every copy of the cookie (${store})`, async () => {
      await endsEverywhere('alice', async (visitor) => {
        const headers = { cookie: visitor.cookie, accept: 'text/html', 'sec-fetch-mode': 'navigate', 'sec-fetch-site': 'same-origin', 'sec-fetch-dest': 'document' };
        const answer = await ask(w, undefined, { path: '/oauth2/sign_out', headers });
        assert.equal(answer.status, 302);
        assert.ok(answer.cookies.some((line) => SESSION_COOKIE.test(line.split('=')[0]) && /max-age=0/i.test(line)));
      });
    });

    test(`ox_02 the operator ends one session, and all of a person (${store})`, async () => {
      const admin = async (path, method = 'GET') => {
        const answer = await fetch(`${w.admin}/sessions${path}`, { method });
        assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
        return answer.status === 204 ? undefined : answer.json();
      };
      await endsEverywhere('user1', async () => {
        const listed = await admin('?user=user1');
        assert.equal(listed.length, 1);
        await admin(`/${listed[0].id}`, 'DELETE');
      });
      await endsEverywhere('user1', () => admin('?user=user1', 'DELETE'));
    });
  });
}

test('ox_02 ox_09 the end of the session at the provider reaches Doorward by itself, under load', async () => {
  const redis = await startRedis();
  const w = await world({ backchannel: true, more: { session: sessions({ store: 'redis', redis: redis.url }) } });
  let load;
  try {
    const replica = await w.startReplica();
    const jar = new Jar();
    await jar.signIn(w, 'alice');
    const cookie = jar.named(w.origin, SESSION_COOKIE).map((pair) => pair.join('=')).join('; ');
    load = keepAsking([await signIn(w, 'bob')], [w, replica], { pause: 10 });
    assert.equal((await ask(replica, cookie)).status, 200);
    // The person signs out at the provider, which Doorward has no part in.
    const question = await jar.request(`${w.issuer}/session/end`);
    const [, xsrf] = /name="xsrf" value="([^"]+)"/.exec(question.text);
    await jar.request(`${w.issuer}/session/end/confirm`, { method: 'POST', form: { xsrf, logout: 'yes' } });
    for (const place of [w, replica]) {
      await until('it to be refused', async () => (await ask(place, cookie)).status === 401, SOON / 1000);
    }
    assert.ok((await load.stop()).every(({ status }) => status === 200), 'nobody else is touched');
  } finally {
    await load?.stop();
    await w.stop();
    await redis.stop();
  }
});
