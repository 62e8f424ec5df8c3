// Redis as people run it: one server, a master with replicas and sentinels, a cluster. Every write is on the disk before
// it is answered, so that a server that is killed forgets nothing. Each has ports and a directory of its own.
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, start, until } from './process.mjs';

const MASTER = 'doorward';
const ROOT = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../..');

// Doorward's own user, with the rights that docs/operating.md grants it, `more` for some kinds of servers, and no others.
const PASSWORD = 'a/password@with:odd%characters';
const LOGIN = `doorward:${encodeURIComponent(PASSWORD)}@`;
async function user(more = '') {
  const text = await readFile(path.join(ROOT, 'docs/operating.md'), 'utf8');
  const [, rights] = /^ACL SETUSER doorward on >PASSWORD ([^`]*)```$/m.exec(text);
  return `user doorward on >${PASSWORD} ${rights.trim().replace(/\s+/g, ' ')} ${more}`;
}

// `kind`: one | sentinel | cluster. `kill` takes the server away that matters (the master, one node of three) and
// `restart` brings it back; after a failover `restart` brings the old master back as a replica.
export async function startRedis(kind = 'one') {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'doorward-redis-'));
  const servers = [];
  const redis = {
    dir,
    url: '',
    // Sends a command to the first server, or to the one at `port`.
    ask: (...command) => ask(servers[0].port, command),
    servers,
    kill: () => servers[0].kill(),
    restart: () => servers[0].start(),
    async stop() {
      await Promise.all(servers.map((server) => server.kill()));
      await rm(dir, { recursive: true, force: true });
    },
  };
  try {
    await KINDS[kind](redis, dir, servers);
  } catch (error) {
    await redis.stop();
    throw error;
  }
  return redis;
}

const KINDS = {
  async one(redis, dir, servers) {
    servers.push(await server(dir, 'one', [await user()]));
    redis.url = `redis://${LOGIN}127.0.0.1:${servers[0].port}/0`;
  },

  async sentinel(redis, dir, servers) {
    const master = await server(dir, 'master', [await user('+role')]);
    servers.push(master);
    servers.push(await server(dir, 'replica', [await user('+role'), `replicaof 127.0.0.1 ${master.port}`]));
    const sentinels = [];
    for (const name of ['first', 'second', 'third']) {
      sentinels.push(await server(dir, name, [
        `sentinel monitor ${MASTER} 127.0.0.1 ${master.port} 2`,
        `sentinel down-after-milliseconds ${MASTER} 1000`,
        `sentinel failover-timeout ${MASTER} 6000`,
        `sentinel parallel-syncs ${MASTER} 1`,
      ], ['--sentinel']));
    }
    servers.push(...sentinels);
    redis.url = `redis-sentinel://${LOGIN}${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',')}/${MASTER}/0`;
    for (const { port } of sentinels) {
      await until('the sentinels to know each other and the replica', async () => {
        const [known] = await ask(port, ['SENTINEL', 'MASTERS']);
        const value = (name) => Number(known[known.indexOf(name) + 1]);
        return value('num-other-sentinels') === 2 && value('num-slaves') === 1;
      });
    }
    await until('the replica to follow', async () => /master_link_status:up/.test(await ask(servers[1].port, ['INFO', 'replication'])));
    redis.failedOver = async () => Number((await ask(sentinels[0].port, ['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', MASTER]))[1]) !== master.port;
  },

  async cluster(redis, dir, servers) {
    for (const name of ['a', 'b', 'c']) {
      servers.push(await server(dir, name, [
        await user('+cluster'),
        'cluster-enabled yes',
        'cluster-config-file nodes.conf',
        `cluster-port ${await freePort()}`,
        'cluster-node-timeout 1000',
      ]));
    }
    const [first, ...others] = servers;
    for (const { port, bus } of others) await ask(first.port, ['CLUSTER', 'MEET', '127.0.0.1', String(port), String(bus)]);
    for (const [at, { port }] of servers.entries()) {
      const [from, to] = [Math.ceil((16384 / 3) * at), Math.ceil((16384 / 3) * (at + 1)) - 1];
      await ask(port, ['CLUSTER', 'ADDSLOTSRANGE', String(from), String(to)]);
    }
    for (const { port } of servers) {
      await until('the cluster to be whole', async () => {
        const info = await ask(port, ['CLUSTER', 'INFO']);
        return /cluster_state:ok/.test(info) && /cluster_known_nodes:3/.test(info);
      });
    }
    redis.url = `redis-cluster://${LOGIN}${servers.map(({ port }) => `127.0.0.1:${port}`).join(',')}`;
  },
};

// One process of its own, begun; `start` begins it again, with what is on its disk.
async function server(dir, name, lines = [], flags = []) {
  const port = await freePort();
  const home = path.join(dir, name);
  await mkdir(home);
  const file = path.join(dir, `${name}.conf`); // not beside the data, which tests look into
  const disk = flags.length === 0 ? ['appendonly yes', 'appendfsync always', 'save ""', 'rdbcompression no'] : [];
  const config = [`port ${port}`, 'bind 127.0.0.1', 'protected-mode no', `dir ${home}`, ...disk, ...lines];
  await writeFile(file, `${config.join('\n')}\n`);
  let child;
  const self = {
    port,
    home,
    bus: Number(/cluster-port (\d+)/.exec(config.join('\n'))?.[1] ?? 0),
    async start() {
      child = start('redis-server', [file, ...flags]);
      await until(`${name} of redis to answer`, async () => {
        if (!child.running()) throw new Error(child.output.stdout);
        return (await ask(port, ['PING'])) === 'PONG';
      });
    },
    async kill() {
      await child.stop();
    },
  };
  await self.start();
  return self;
}

// All that is on the disk under `dir`, as one text of bytes.
export async function onDisk(dir) {
  const parts = [];
  for (const entry of await readdir(dir, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) parts.push(await readFile(path.join(entry.parentPath ?? entry.path, entry.name)));
  }
  return Buffer.concat(parts).toString('latin1');
}

// One command on a connection of its own. Bulk strings are latin1, so that bytes survive.
export async function ask(port, command) {
  const socket = net.connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    const parts = command.map((part) => `$${Buffer.byteLength(part, 'latin1')}\r\n${part}\r\n`);
    socket.write(`*${command.length}\r\n${parts.join('')}`, 'latin1');
    let text = '';
    for await (const chunk of socket) {
      text += chunk.toString('latin1');
      const read = reply(text, 0);
      if (read) {
        if (read.value instanceof Error) throw read.value;
        return read.value;
      }
    }
    throw new Error('redis closed the connection');
  } finally {
    socket.destroy();
  }
}

// { value, end } of the reply at `at`; undefined while it is not all there.
function reply(text, at) {
  const line = text.indexOf('\r\n', at);
  if (line < 0) return undefined;
  const [kind, rest, end] = [text[at], text.slice(at + 1, line), line + 2];
  if (kind === '+') return { value: rest, end };
  if (kind === '-') return { value: new Error(rest), end };
  if (kind === ':') return { value: Number(rest), end };
  const length = Number(rest);
  if (length < 0) return { value: null, end };
  if (kind === '$') return text.length < end + length + 2 ? undefined : { value: text.slice(end, end + length), end: end + length + 2 };
  const value = [];
  let next = end;
  for (let n = 0; n < length; n += 1) {
    const item = reply(text, next);
    if (!item) return undefined;
    value.push(item.value);
    next = item.end;
  }
  return { value, end: next };
}
