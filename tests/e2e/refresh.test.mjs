// However many requests find an expired token, the provider is asked once, and nobody notices. The provider rotates
// refresh tokens and takes a second use of one for theft.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ask, burst, keepAsking, p99, signIn, tally } from './lib/load.mjs';
import { until } from './lib/process.mjs';
import { field, startRecorder } from './lib/recorder.mjs';
import { startRedis } from './lib/redis.mjs';
import { SESSION_COOKIE, sessions, world } from './lib/world.mjs';

const SECONDS = 3;
// How long the predecessor of a session is answered.
const GRACE = 'refresh_grace = "4s"';

let redis;
before(async () => {
  redis = await startRedis();
});
after(() => redis?.stop());

const expired = (visitor, seconds = SECONDS) => until('the access token to expire', () => Date.now() > visitor.since + seconds * 1000 + 50);

// The session cookie that an answer sets.
const successor = (answer) => answer.cookies.find((line) => SESSION_COOKIE.test(line.split('=', 1)[0]) && !/max-age=0/i.test(line));

for (const store of ['cookie', 'memory', 'redis']) {
  describe(`store ${store}`, () => {
    let w, upstream;
    before(async () => {
      upstream = await startRecorder();
      w = await world({
        upstream: upstream.url,
        provider: { accessToken: SECONDS, counted: true },
        more: { session: sessions({ store, redis: redis.url, more: GRACE }) },
      });
    });
    after(async () => {
      await w?.stop();
      await upstream?.stop();
    });

    // All requests are under way before the provider answers the first of them.
    async function burstAtExpiry(visitor, count, targets = [w], admins = [w.admin]) {
      const { tokens, madeGroup } = w.provider;
      await expired(visitor);
      const [calls, seen] = [tokens.refreshes().length, upstream.requests.length];
      tokens.hold();
      const asked = burst(targets, visitor.cookie, count);
      await until('all of them to be connected', async () => {
        const open = await Promise.all(admins.map((admin) => w.metric('doorward_connections', admin)));
        return open.reduce((sum, n) => sum + n) >= count;
      });
      await until('the provider to be asked', () => tokens.waiting > 0);
      assert.equal(upstream.requests.length, seen, 'nothing passes with an expired token');
      tokens.release();
      const answers = await asked;
      assert.deepEqual(tally(answers), { 200: count });
      assert.equal(tokens.refreshes().length - calls, 1, 'one call');
      const groups = new Set(upstream.requests.slice(seen).map((request) => field(request, 'x-forwarded-groups')));
      assert.deepEqual([...groups], [madeGroup(2)], 'the upstream saw the new identity only');
      return answers;
    }

    test(`rf_01 rf_02 8, 50 and 1000 requests at expiry are one refresh (${store})`, async () => {
      const counts = [8, 50, 1000];
      const visitors = await Promise.all(counts.map((_, n) => signIn(w, `user${n}`)));
      for (const [n, count] of counts.entries()) {
        const answers = await burstAtExpiry(visitors[n], count);
        if (store !== 'cookie') continue;
        assert.ok(answers.every(successor), 'each brings the new cookie');
        const calls = w.provider.tokens.refreshes().length;
        const again = await Promise.all(answers.slice(0, 50).map((answer) => ask(w, successor(answer).split(';')[0])));
        assert.deepEqual(tally(again), { 200: again.length }, 'and each of them is the session');
        assert.equal(w.provider.tokens.refreshes().length, calls);
      }
    });

    test(`rf_01 a client that goes away does not stop the refresh (${store})`, async () => {
      const visitor = await signIn(w, 'user10');
      const { tokens } = w.provider;
      await expired(visitor);
      const calls = tokens.refreshes().length;
      tokens.hold();
      const gone = new AbortController();
      const lost = ask(w, visitor.cookie, { signal: gone.signal });
      await until('the provider to be asked', () => tokens.waiting === 1);
      gone.abort();
      assert.ok((await lost).error);
      tokens.release();
      const next = await visitor.ask(w);
      assert.equal(next.status, 200);
      assert.equal(tokens.refreshes().length - calls, 1, 'one call, and its result is used');
      assert.equal(field(upstream.requests.at(-1), 'x-forwarded-groups'), w.provider.madeGroup(2));
    });

    test(`rf_01 while the token is good nobody waits for a slow provider (${store})`, async () => {
      const { tokens } = w.provider;
      w.provider.accessToken = 8;
      const visitors = await Promise.all(Array.from({ length: 8 }, (_, n) => signIn(w, `user${20 + n}`)));
      w.provider.accessToken = SECONDS;
      const calls = tokens.refreshes().length;
      const load = keepAsking(visitors, [w], { pause: 10 });
      tokens.hold();
      await until('every session to be due', () => tokens.refreshes().length - calls === visitors.length);
      const due = performance.now();
      await until('the provider to have taken 2 s', () => performance.now() - due > 2000);
      const last = load.answers.length;
      tokens.release();
      const released = performance.now();
      await load.stop();
      const meanwhile = load.answers.slice(0, last).filter(({ began }) => began >= due);
      assert.ok(meanwhile.length > visitors.length, `${meanwhile.length} requests`);
      assert.ok(meanwhile.every(({ ended }) => ended < released), 'answered before the provider was');
      assert.deepEqual(Object.keys(tally(load.answers)), ['200']);
      assert.equal(tokens.refreshes().length - calls, visitors.length);
      const earlier = load.answers.filter(({ began }) => began < due);
      console.log(`# ${store}: p99 ${p99(earlier).toFixed(1)} ms before, ${p99(meanwhile).toFixed(1)} ms meanwhile, ratio ${(p99(meanwhile) / p99(earlier)).toFixed(2)}`);
    });

    if (store === 'cookie') {
      test('rf_01 the old cookie is good for the grace, then it is nobody: the spent token is never sent again', async () => {
        const visitor = await signIn(w, 'user30');
        const old = visitor.cookie;
        // The successor is not due itself for as long as this takes.
        w.provider.accessToken = 600;
        await burstAtExpiry(visitor, 2);
        w.provider.accessToken = SECONDS;
        const { tokens } = w.provider;
        const calls = tokens.calls.length;
        const again = await ask(w, old);
        assert.equal(again.status, 200);
        assert.ok(successor(again));
        await until('the grace to pass', async () => (await ask(w, old)).status === 401);
        assert.equal(tokens.calls.length, calls, 'the provider was not asked');
        const spent = tokens.refreshes().map((call) => call.spent);
        assert.equal(new Set(spent).size, spent.length, 'no token was ever sent twice');
      });
    }

    test(`rf_11 who goes on sending the old cookie gets a token that is good (${store})`, async () => {
      const visitor = await signIn(w, 'user50');
      const { tokens, madeGroup } = w.provider;
      const calls = tokens.refreshes().length;
      for (const round of [1, 2]) {
        await expired(visitor);
        assert.equal((await ask(w, visitor.cookie)).status, 200);
        visitor.since = Date.now();
        assert.equal(tokens.refreshes().length - calls, round, `refresh ${round}`);
        assert.equal(field(upstream.requests.at(-1), 'x-forwarded-groups'), madeGroup(1 + round));
      }
    });

    if (store === 'redis') {
      test('rf_01 rf_02 fifty requests over two replicas are one refresh in sum', async () => {
        const replica = await w.startReplica();
        const visitors = await Promise.all([signIn(w, 'user40'), signIn(w, 'user41')]);
        await burstAtExpiry(visitors[0], 50, [w, replica], [w.admin, replica.admin]);
        await burstAtExpiry(visitors[1], 1000, [w, replica], [w.admin, replica.admin]);
        const spent = w.provider.tokens.refreshes().map((call) => call.spent);
        assert.equal(new Set(spent).size, spent.length, 'no token was ever sent twice');
      });
    }
  });
}
