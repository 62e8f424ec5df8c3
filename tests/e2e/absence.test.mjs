// A provider that is slow or gone is nobody's trouble who is signed in.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { crowd, keepAsking, tally } from './lib/load.mjs';
import { freePort, until } from './lib/process.mjs';
import { CLIENT, startProvider } from './lib/provider.mjs';
import { field, startRecorder } from './lib/recorder.mjs';
import { startRedis } from './lib/redis.mjs';
import { sessions, world } from './lib/world.mjs';

const PEOPLE = 100;
const ABSENCE = 60;
// Seconds that an access token lives. It is due half-way, while the provider is away, and good until it is back.
const TOKEN = 112;

let redis, upstream;
before(async () => {
  redis = await startRedis();
  upstream = await startRecorder();
});
after(async () => {
  await upstream?.stop();
  await redis?.stop();
});

test(`rf_07 a provider that is away for ${ABSENCE} s is not noticed, and nobody signs in again when it is back`, { concurrency: true }, async (t) => {
  await Promise.all(['cookie', 'memory', 'redis'].map((store) => t.test(store, () => absence(store))));
});

async function absence(store) {
  const w = await world({
    upstream: upstream.url,
    provider: { accessToken: TOKEN },
    more: {
      provider: 'timeout = "2s"',
      session: sessions({ store, redis: redis.url, more: 'refresh_before = "1h"' }),
    },
  });
  let load;
  try {
    const { tokens } = w.provider;
    const people = await crowd(w, PEOPLE);
    load = keepAsking(people, [w], { pause: 500 });
    await w.stopProvider();
    const gone = Date.now();
    await until('the absence to end', () => Date.now() - gone > ABSENCE * 1000, ABSENCE + 10);
    assert.ok((await w.metric('doorward_refreshes_total{outcome="failed"}')) > 0, 'refreshes were tried and failed meanwhile');
    await w.startProvider();
    await until('every session to be refreshed', () => tokens.refreshes().filter(({ status }) => status === 200).length >= PEOPLE, 40);
    await load.round();
    const answers = await load.stop();
    assert.deepEqual(Object.keys(tally(answers)), ['200']);
    assert.equal(tokens.refreshes().length, PEOPLE, 'once each: a call that could not be made was not made');
    assert.equal(tokens.calls.length - tokens.refreshes().length, PEOPLE, 'no sign-in but the first');
    console.log(`# ${store}: ${answers.length} requests by ${PEOPLE} people, none failed`);
  } finally {
    await load?.stop();
    await w.stop();
  }
}

test('rf_07 two hundred sessions that wait for a slow provider do not delay those of another', async () => {
  const [port, gateway] = [await freePort(), await freePort()];
  const route = (appUrl) => `
[[route]]
name = "other"
path = "/other"
upstream = "${appUrl}"
access = "authenticated"
provider = "other"
identity = ["x-forwarded"]`;
  const second = await startProvider({ port, origins: [`http://127.0.0.1:${gateway}`], accessToken: 3, counted: true });
  const w = await world({
    port: gateway,
    upstream: upstream.url,
    provider: { accessToken: 3, counted: true },
    more: {
      provider: `[provider.other]\nissuer = "${second.issuer}"\nclient_id = "${CLIENT.id}"\nclient_secret = "${CLIENT.secret}"`,
      routes: route,
    },
  });
  try {
    const slow = w.provider.tokens;
    const [many, few] = await Promise.all([crowd(w, 200), crowd(w, 20, `${w.origin}/other`)]);
    const last = Math.max(...[...many, ...few].map(({ since }) => since));
    await until('all tokens to expire', () => Date.now() > last + 3050);
    const seen = upstream.requests.length;
    slow.hold();
    const waiting = many.map((visitor) => visitor.ask(w));
    await until('the slow provider to be asked by all', () => slow.waiting === many.length);
    const answers = await Promise.all(few.map((visitor) => visitor.ask(w, { path: '/other' })));
    assert.deepEqual(tally(answers), { 200: few.length });
    const passed = upstream.requests.slice(seen);
    assert.ok(passed.every((request) => request.target === '/other'), 'while the slow one has answered nobody');
    assert.ok(passed.every((request) => field(request, 'x-forwarded-groups') === second.madeGroup(2)));
    slow.release();
    assert.deepEqual(tally(await Promise.all(waiting)), { 200: many.length });
    assert.equal(slow.refreshes().length, many.length, 'one call each');
  } finally {
    await w.stop();
    await second.stop();
  }
});
