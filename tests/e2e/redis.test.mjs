// Redis goes away and comes back, as one server, with Sentinel, as a cluster: who is signed in stays signed in, and is
// told to wait meanwhile. What it keeps is of no use to whoever reads it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ask, crowd, keepAsking, signIn, tally } from './lib/load.mjs';
import { until } from './lib/process.mjs';
import { startRecorder } from './lib/recorder.mjs';
import { ask as command, onDisk, startRedis } from './lib/redis.mjs';
import { SESSION_COOKIE, sessions, world } from './lib/world.mjs';

const PEOPLE = 30;
// How long after a server is there again requests may still be told to wait: the longest pause between two tries to
// connect, and what a cluster takes to agree.
const BACK = 5_000;

let upstream;
before(async () => {
  upstream = await startRecorder();
});
after(() => upstream?.stop());

async function site(redis) {
  return world({ upstream: upstream.url, provider: { accessToken: 600 }, more: { session: sessions({ store: 'redis', redis: redis.url, more: 'lifetime = "1h"' }) } });
}

const OUTAGES = {
  one: async (redis) => {
    await redis.kill();
    return () => redis.restart();
  },
  // Nobody restarts anything: another master takes over.
  sentinel: async (redis) => {
    await redis.kill();
    return () => until('the failover', redis.failedOver, 30);
  },
  cluster: async (redis) => {
    await redis.kill();
    return async () => {
      await redis.restart();
      for (const { port } of redis.servers) {
        await until('the cluster to be whole', async () => /cluster_state:ok/.test(await command(port, ['CLUSTER', 'INFO'])));
      }
    };
  },
};

for (const [kind, outage] of Object.entries(OUTAGES)) {
  test(`dx_05 rf_17 redis (${kind}) is killed under load: 503 while it is away, and every session is there afterwards`, async () => {
    const redis = await startRedis(kind);
    const w = await site(redis);
    let load;
    try {
      const people = await crowd(w, PEOPLE);
      const replica = await w.startReplica();
      const targets = [w];
      load = keepAsking(people, targets, { pause: 30 });
      await load.round();
      const killed = Date.now();
      const comeBack = await outage(redis);
      // The first may go on with what it has in hand while events arrive: a cluster passes them on by any node. The
      // second has never seen these sessions.
      targets.push(replica);
      await until('it to be noticed', () => load.answers.some(({ status }) => status === 503));
      await load.round();
      await comeBack();
      const back = Date.now();
      await until('everybody to be served again', async () => {
        const from = load.answers.length;
        await load.round();
        return load.answers.slice(from).every(({ status }) => status === 200);
      });
      const whole = Date.now();
      for (let round = 0; round < 3; round += 1) await load.round();
      const answers = await load.stop();

      const told = answers.filter(({ status }) => status !== 200);
      assert.deepEqual(Object.keys(tally(told)), ['503'], 'nobody is signed out, nobody is let through');
      assert.ok(told.every(({ headers }) => /^\d+$/.test(headers['retry-after'])), 'with Retry-After');
      assert.ok(told.every(({ headers }) => headers['set-cookie'] === undefined), 'and the cookie stays');
      assert.ok(told.every(({ at }) => at >= killed && at <= back + BACK), 'only while it is away');
      assert.equal(w.provider.tokens.calls.length, PEOPLE, 'nobody signed in again');
      console.log(`# ${kind}: ${told.length} of ${answers.length} requests were told to wait; away for ${back - killed} ms, whole ${whole - back} ms later`);

      const late = await signIn(w, 'user999');
      assert.equal((await late.ask(w)).status, 200, 'and sign-ins work');
    } finally {
      await load?.stop();
      await w.stop();
      await redis.stop();
    }
  });
}

test('dx_05 without redis at the start Doorward runs, is not ready and says 503; redis comes, and sign-in works', async () => {
  const redis = await startRedis();
  const w = await site(redis);
  try {
    const visitor = await signIn(w, 'alice');
    w.gateway.signal('SIGTERM');
    await w.gateway.ended;
    await redis.kill();
    await w.startGateway({ session: sessions({ store: 'redis', redis: redis.url }) });
    await until('the connection to be refused', async () => (await visitor.ask(w)).status === 503);
    assert.equal((await fetch(`${w.admin}/readyz`)).status, 503);
    await redis.restart();
    await until('Doorward to be ready', async () => (await fetch(`${w.admin}/readyz`)).ok);
    await until('the session to be found', async () => (await visitor.ask(w)).status === 200);
    await signIn(w, 'bob');
  } finally {
    await w.stop();
    await redis.stop();
  }
});

// Every key with what it holds, as bytes in latin1.
async function everything(redis) {
  const READ = { hash: ['HGETALL'], zset: ['ZRANGE', '0', '-1'], string: ['GET'] };
  const held = {};
  for (const key of await redis.ask('KEYS', '*')) {
    const [read, ...more] = READ[await redis.ask('TYPE', key)];
    held[key] = [await redis.ask(read, key, ...more)].flat();
  }
  return held;
}

test('s_23 who reads redis, its memory or its disk, finds no token, no name, no address and no claim', async () => {
  const redis = await startRedis();
  const w = await site(redis);
  try {
    w.provider.accessToken = 2;
    const alice = await signIn(w, 'alice');
    await until('the token to expire', () => Date.now() > alice.since + 2050);
    assert.equal((await alice.ask(w)).status, 200);
    assert.equal(w.provider.tokens.refreshes().length, 1, 'what a refresh writes is looked at too');
    const log = await onDisk(redis.servers[0].home);
    await redis.ask('BGREWRITEAOF');
    await until('a snapshot in place of the log', async () => {
      const info = await redis.ask('INFO', 'persistence');
      return /aof_rewrite_in_progress:0/.test(info) && /aof_rewrite_scheduled:0/.test(info);
    });

    const secrets = w.provider.tokens.calls.flatMap(({ made, access, spent }) => [made, access, spent]).filter(Boolean);
    assert.ok(secrets.length >= 5);
    const clear = ['alice', 'Alice', 'example.test', 'admins', 'staff', 'localhost', '127.0.0.1', 'main', '"sub"', 'eyJ', ...secrets];
    const [id, half] = [alice.cookie.split('=')[1].slice(0, 20), alice.cookie.split('=')[1].slice(-20)];
    const held = await everything(redis);
    assert.ok(Object.keys(held).length >= 3, Object.keys(held).join(' '));
    const memory = Object.entries(held).flat(2).join('\n');
    const snapshot = await onDisk(redis.servers[0].home);
    for (const disk of [log, snapshot]) {
      assert.ok(Object.keys(held).filter((key) => disk.includes(key)).length >= 3, 'the disk holds the records');
    }
    for (const [where, bytes] of Object.entries({ memory, log, snapshot })) {
      for (const word of [...clear, id, half]) {
        for (const form of [word, Buffer.from(word).toString('base64').replace(/=+$/, '').slice(0, -1)]) {
          assert.ok(form.length < 4 || !bytes.includes(form), `${where} holds ${word}`);
        }
      }
    }
  } finally {
    await w.stop();
    await redis.stop();
  }
});

test('s_23 what redis holds opens nothing: not as a cookie, not under the key of another session', async () => {
  const redis = await startRedis();
  const w = await site(redis);
  try {
    const [alice, bob] = [await signIn(w, 'alice'), await signIn(w, 'bob')];
    const [name] = alice.cookie.split('=');
    assert.match(name, SESSION_COOKIE);
    const held = await everything(redis);
    const encode = (text) => Buffer.from(text, 'latin1').toString('base64url');
    const values = Object.entries(held).flatMap(([key, parts]) => [key, key.split(':').at(-1), ...parts, ...parts.map(encode)]);
    const asCookies = values.map((value) => value.replace(/[^\w+/=.-]/g, '')).filter(Boolean);
    assert.ok(asCookies.length > 20);
    for (const value of asCookies) {
      assert.equal((await ask(w, `${name}=${value}`)).status, 401, value);
    }

    // Each record in the place of the other: both sessions are nobody's, and no one is the other.
    const records = Object.keys(held).filter((key) => held[key].includes('v'));
    assert.equal(records.length, 2);
    const [first, second] = records;
    await redis.ask('RENAME', first, 'kept');
    await redis.ask('RENAME', second, first);
    await redis.ask('RENAME', 'kept', second);
    // Nothing may be answered from what Doorward still has in hand.
    await w.restart({ session: sessions({ store: 'redis', redis: redis.url }) });
    const seen = upstream.requests.length;
    for (const visitor of [alice, bob]) assert.equal((await ask(w, visitor.cookie)).status, 401, visitor.user);
    assert.equal(upstream.requests.length, seen);
    await redis.ask('RENAME', first, 'kept');
    await redis.ask('RENAME', second, first);
    await redis.ask('RENAME', 'kept', second);
    for (const visitor of [alice, bob]) assert.equal((await ask(w, visitor.cookie)).status, 200, `${visitor.user}: it was the place`);
  } finally {
    await w.stop();
    await redis.stop();
  }
});
