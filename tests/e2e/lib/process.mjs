// Child processes, free ports and waiting: for a condition, never for a time.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';

// A port that nobody listens on at this moment, nor on the next `more` after it. Below the range that the system takes
// outgoing connections' ports from, so that none of those gets in between.
export async function freePort(more = 0) {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const servers = [];
    try {
      for (let next = port; next <= port + more; next += 1) servers.push(await listen(next));
      return port;
    } catch (error) {
      if (error.code !== 'EADDRINUSE') throw error;
    } finally {
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    }
  }
}

async function listen(port) {
  const server = net.createServer().listen(port, '127.0.0.1');
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
