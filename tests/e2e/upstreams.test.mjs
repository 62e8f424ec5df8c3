// Three upstreams, processes of their own, of which one after the other is killed and started again under load.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Visitor, keepAsking, p99, tally } from './lib/load.mjs';
import { freePort, start, until } from './lib/process.mjs';
import { world } from './lib/world.mjs';

// Says on its output what it was asked to do, before it answers: what a killed process did is still known.
const SERVER = `
  require('node:http').createServer((request, response) => {
    request.resume().on('end', () => {
      if (request.method === 'POST') process.stdout.write(request.url + '\\n');
      setTimeout(() => response.end(process.argv[1]), 2);
    });
  }).listen(Number(process.argv[1]), '127.0.0.1');
`;

const upstreams = [];
let w;

class Killable {
  output = '';

  async start() {
    this.port ??= await freePort();
    this.child = start(process.execPath, ['-e', SERVER, String(this.port)]);
    await until('the upstream', async () => (await fetch(`http://127.0.0.1:${this.port}/`)).ok);
  }

  async kill() {
    this.child.signal('SIGKILL');
    await this.child.ended;
    this.output += this.child.output.stdout;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }
}

before(async () => {
  for (let n = 0; n < 3; n += 1) upstreams.push(new Killable());
  for (const upstream of upstreams) await upstream.start();
  const list = JSON.stringify(upstreams.map(({ url }) => url));
  w = await world({
    provider: false,
    upstream: upstreams[0].url,
    more: {
      routes: () => `
[[route]]
name = "several"
path = "/public/several"
upstream = ${list}
access = "public"
[route.upstream_options]
eject_time = "300ms"
health = { path = "/", interval = "100ms" }
`,
    },
  });
});
after(async () => {
  await w?.stop();
  await Promise.all(upstreams.map(({ child }) => child.stop()));
});

test('an upstream killed and started again under load costs no idempotent request', async (t) => {
  const path = '/public/several/x';
  const visitors = Array.from({ length: 16 }, (_, n) => new Visitor(`visitor${n}`, []));
  const load = keepAsking(visitors, [w], { pause: 1, path });
  const some = async (count) => {
    const from = load.answers.length;
    await until(`${count} answers`, () => load.answers.length >= from + count, 60);
    return load.answers.slice(from);
  };
  const posts = keepPosting(path);
  await some(500);
  const quiet = await some(2000);
  const from = load.answers.length;
  for (const upstream of upstreams) {
    const healthy = () => w.metric(`doorward_upstream_healthy{route="several",upstream="${upstream.url}"}`);
    await upstream.kill();
    await until('it to be left out', async () => (await healthy()) === 0);
    await some(200);
    await upstream.start();
    await until('it to be back', async () => (await healthy()) === 1);
    const back = await some(500);
    assert.ok(back.some(({ body }) => body === String(upstream.port)), 'it is asked again');
  }
  const answers = await load.stop();
  const during = answers.slice(from);
  assert.deepEqual(tally(answers), { 200: answers.length });
  const [calm, rough] = [p99(quiet), p99(during)];
  t.diagnostic(`${during.length} requests while three upstreams were killed: p99 ${rough.toFixed(1)} ms, ${(rough / calm).toFixed(2)} times the ${calm.toFixed(1)} ms before`);
  const retried = await w.metric('doorward_upstream_retries_total{route="several"}');
  assert.ok(retried > 0, 'some met the end of an upstream');

  // Whatever became of a POST, no upstream got it twice.
  const sent = await posts.stop();
  await Promise.all(upstreams.map((upstream) => upstream.kill()));
  const lines = upstreams.flatMap(({ output }) => output.split('\n').filter(Boolean));
  assert.equal(new Set(lines).size, lines.length);
  const answered = sent.filter(({ status }) => status === 200);
  assert.ok(answered.length > 0 && answered.every(({ id }) => lines.includes(`${path}?${id}`)));
  assert.ok(sent.every(({ status }) => [200, 502].includes(status)), JSON.stringify(tally(sent)));
  t.diagnostic(`${sent.length} POSTs, ${sent.length - answered.length} of them 502`);
});

// POSTs with a number each, one after the other on each of four connections.
function keepPosting(path) {
  const sent = [];
  let over = false;
  const loops = Array.from({ length: 4 }, async (_, n) => {
    for (let turn = 0; !over; turn += 1) {
      const id = `${n}-${turn}`;
      const answer = await fetch(`${w.origin}${path}?${id}`, { method: 'POST', body: 'x' });
      await answer.arrayBuffer();
      sent.push({ id, status: answer.status });
    }
  });
  return {
    async stop() {
      over = true;
      await Promise.all(loops);
      return sent;
    },
  };
}
