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
      const people = await crowd(w, PEOPLE);
      const idle = await signIn(w, 'alice');
      const before = new Map(people.map((visitor) => [visitor, visitor.cookie]));
      load = keepAsking(people, [w], { pause: 20 });
      await load.round();
      assert.ok(people.every((visitor) => visitor.cookie === before.get(visitor)), 'a cookie stays as it is');

      await w.reload(more([fresh, old]));
      await until('everybody to have a cookie of the new key', async () => {
        await load.round();
        return people.every((visitor) => visitor.cookie !== before.get(visitor));
      });
      const resealed = new Map(people.map((visitor) => [visitor, visitor.cookie]));
      await load.round();
      assert.ok(people.every((visitor) => visitor.cookie === resealed.get(visitor)), 'once is enough');
      assert.equal((await ask(w, before.get(people[0]))).status, 200, 'a copy of the old cookie is good while the old key is there');

      await w.reload(more([fresh]));
      for (let round = 0; round < 3; round += 1) await load.round();
      assert.equal((await ask(w, before.get(people[0]))).status, 401, 'and no longer');
      assert.equal((await idle.ask(w)).status, 401, 'who did not come by meanwhile signs in again');
      const answers = await load.stop();
      assert.deepEqual(Object.keys(tally(answers)), ['200']);
      assert.equal(w.provider.tokens.calls.length, PEOPLE + 1, 'nobody else signed in again');

      const listed = await (await fetch(`${w.admin}/sessions?user=user3`)).json();
      assert.equal(listed.length, 1, 'they are found under the new key');
      assert.equal((await fetch(`${w.admin}/sessions?user=user3`, { method: 'DELETE' })).status, 200);
      assert.equal((await people[3].ask(w)).status, 401, 'and can be ended');
      console.log(`# ${store}: ${answers.length} requests by ${PEOPLE} people, none noticed`);
    } finally {
      await load?.stop();
      await w.stop();
    }
  });
}
