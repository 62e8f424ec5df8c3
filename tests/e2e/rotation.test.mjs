// The runbook "Rotating the session key" of docs/operating.md, step by step, while people work: nobody notices.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { ask, crowd, keepAsking, signIn, tally } from './lib/load.mjs';
import { until } from './lib/process.mjs';
import { startRecorder } from './lib/recorder.mjs';
import { startRedis } from './lib/redis.mjs';
import { DOORWARD, sessions, world } from './lib/world.mjs';

const run = promisify(execFile);
const PEOPLE = 20;

let redis, upstream, dir;
before(async () => {
  redis = await startRedis();
  upstream = await startRecorder();
  dir = await mkdtemp(path.join(os.tmpdir(), 'doorward-keys-'));
});
after(async () => {
  await upstream?.stop();
  await redis?.stop();
  if (dir) await rm(dir, { recursive: true });
});

for (const store of ['cookie', 'memory', 'redis']) {
  test(`s_13 a session key is replaced under load and nobody notices (${store})`, async () => {
    const [old, fresh] = [{ file: path.join(dir, `${store}-old`) }, { file: path.join(dir, `${store}-new`) }];
    for (const { file } of [old, fresh]) await writeFile(file, (await run(DOORWARD, ['key'])).stdout);
    const more = (keys) => ({ session: sessions({ store, redis: redis.url, keys }) });
    const w = await world({ upstream: upstream.url, more: more([old]) });
    let load;
    try {
      // With a memory store there is one instance.
      const instances = store === 'memory' ? [w] : [w, await w.startReplica()];
      // One instance after the other, as a rollout does, with requests at all of them between.
      const rollOut = async (keys) => {
        for (const instance of instances) {
          await instance.reload(more(keys));
          await load.round();
        }
      };
      const people = await crowd(w, PEOPLE);
      const idle = await signIn(w, 'alice');
      const before = new Map(people.map((visitor) => [visitor, visitor.cookie]));
      const same = (cookies) => people.every((visitor) => visitor.cookie === cookies.get(visitor));
      load = keepAsking(people, instances, { pause: 20 });
      await load.round();
      assert.ok(same(before), 'a cookie stays as it is');

      // Step 2: every instance can open what the new key sealed before any seals with it.
      await rollOut([old, fresh]);
      assert.ok(same(before), 'the old key still seals');
      // Step 3: the new key seals.
      await rollOut([fresh, old]);
      await until('everybody to have a cookie of the new key', async () => {
        await load.round();
        return people.every((visitor) => visitor.cookie !== before.get(visitor));
      });
      const resealed = new Map(people.map((visitor) => [visitor, visitor.cookie]));
      for (const _ of instances) await load.round();
      assert.ok(same(resealed), 'once is enough');
      const [first] = people;
      assert.equal((await ask(w, before.get(first))).status, 200, 'a copy of the old cookie is good while the old key is there');

      // Step 4: the old key goes.
      await rollOut([fresh]);
      for (let round = 0; round < 3; round += 1) await load.round();
      for (const instance of instances) {
        assert.equal((await ask(instance, before.get(first))).status, 401, 'and no longer');
        assert.equal((await ask(instance, idle.cookie)).status, 401, 'who did not come by meanwhile signs in again');
      }
      const answers = await load.stop();
      assert.deepEqual(Object.keys(tally(answers)), ['200']);
      assert.equal(w.provider.tokens.calls.length, PEOPLE + 1, 'nobody else signed in again');

      const listed = await (await fetch(`${w.admin}/sessions?user=user3`)).json();
      assert.equal(listed.length, 1, 'they are found under the new key');
      assert.equal((await fetch(`${w.admin}/sessions?user=user3`, { method: 'DELETE' })).status, 200);
      assert.equal((await ask(w, people[3].cookie)).status, 401, 'and can be ended');
      console.log(`# ${store}: ${answers.length} requests by ${PEOPLE} people at ${instances.length} instances, none noticed`);
    } finally {
      await load?.stop();
      await w.stop();
    }
  });
}
