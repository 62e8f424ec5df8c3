// Child processes, free ports and waiting: for a condition, never for a time.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';

// A port that nobody listens on, nor on the next `more` after it, and that no other test is given while this process lives:
// files run at the same time, and two servers that share their port (SO_REUSEPORT) would not even notice. Below the range that
// the system takes outgoing connections' ports from, so that none of those gets in between.
export async function freePort(more = 0) {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const ports = Array.from({ length: more + 1 }, (_, n) => port + n);
    const [claims, servers] = [[], []];
    try {
      for (const next of ports) claims.push(await listen(`\0doorward-test-port-${next}`));
      for (const next of ports) servers.push(await listen(next, '127.0.0.1'));
      for (const claim of claims) claim.unref();
      return port;
    } catch (error) {
      if (error.code !== 'EADDRINUSE') throw error;
      for (const claim of claims) claim.close();
    } finally {
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    }
  }
}

// A claim is a Unix socket with a name in the abstract (unix(7)): it goes with the process, however that ends.
async function listen(...address) {
  const server = net.createServer().listen(...address);
  await once(server, 'listening');
  return server;
}

// Polls `condition` until it returns something true; what it throws counts as "not yet".
export async function until(what, condition, seconds = 20) {
  const deadline = Date.now() + seconds * 1000;
  let last;
  do {
    try {
      const value = await condition();
      if (value) return value;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  } while (Date.now() < deadline);
  throw new Error(`waited ${seconds} s for ${what}`, { cause: last });
}

// A child with its output kept; it ends with the test process.
export function start(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  const output = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr']) {
    child[stream].setEncoding('utf8').on('data', (text) => {
      output[stream] += text;
      if (process.env.E2E_VERBOSE) process.stderr.write(text);
    });
  }
  const ended = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  ended.catch(() => {});
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);

  return {
    pid: child.pid,
    output,
    ended,
    // Without a pid it never ran: the program is missing.
    running: () => child.pid !== undefined && child.exitCode === null && child.signalCode === null,
    signal: (name) => child.kill(name),
    async stop() {
      child.kill('SIGKILL');
      process.off('exit', kill);
      return ended.catch(() => {});
    },
  };
}
