// What the documents say must be true: configurations load, and links lead somewhere.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { access, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { Jar } from './lib/jar.mjs';
import { freePort, start, until } from './lib/process.mjs';
import { CLIENT, startProvider } from './lib/provider.mjs';
import { DOORWARD } from './lib/world.mjs';

const ROOT = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
const run = promisify(execFile);

test('the configurations of the README load', async () => {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'doorward-docs-'));
  try {
    const { stdout: key } = await run(DOORWARD, ['key']);
    await writeFile(path.join(dir, 'client-secret'), 'a client secret\n');
    await writeFile(path.join(dir, 'session-key'), key);
    const readme = await readFile(path.join(ROOT, 'README.md'), 'utf8');
    const blocks = [...readme.matchAll(/```toml\n([^]*?)```/g)].map(([, text]) => text);
    assert.equal(blocks.length, 2);
    const file = path.join(dir, 'doorward.toml');
    for (const config of [blocks[0], blocks.join('\n')]) {
      await writeFile(file, config.replaceAll('/run/secrets', dir));
      await run(DOORWARD, ['check', '--config', file]);
    }
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('the command of the README that needs no file serves', async () => {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'doorward-docs-'));
  const [port, admin, providerPort] = [await freePort(), await freePort(), await freePort()];
  const provider = await startProvider({ port: providerPort, origins: ['https://app.example.com'] });
  const readme = await readFile(path.join(ROOT, 'README.md'), 'utf8');
  const [, command] = /^doorward (serve --issuer(?:[^\n]*\\\n)*[^\n]*)$/m.exec(readme);
  const args = command.replaceAll('\\\n', ' ').trim().split(/ +/)
    .map((word) => word.replace('https://id.example.com/realms/main', provider.issuer).replace('/run/secrets', dir));
  await writeFile(path.join(dir, 'client-secret'), `${CLIENT.secret}\n`);
  const env = { PATH: process.env.PATH, STATE_DIRECTORY: dir, DOORWARD_ADMIN__LISTEN: `127.0.0.1:${admin}` };
  const gateway = start(DOORWARD, [...args, '--listen', `127.0.0.1:${port}`], { env });
  try {
    await until('Doorward to be ready', async () => {
      if (!gateway.running()) throw new Error(gateway.output.stderr);
      return (await fetch(`http://127.0.0.1:${admin}/readyz`)).ok;
    });
    const answer = await new Jar().request(`http://127.0.0.1:${port}/`);
    assert.equal(answer.status, 302, answer.text + gateway.output.stderr);
    assert.ok(answer.location.startsWith(provider.issuer));
    assert.match(answer.headers['set-cookie'][0], /^__Host-doorward\.login\..*Secure/);
    await assert.doesNotReject(access(path.join(dir, 'session-key')));
  } finally {
    await gateway.stop();
    await provider.stop();
    await rm(dir, { recursive: true });
  }
});

test('a configuration error is exit status 2, says where it is and suggests what was meant', async () => {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'doorward-docs-'));
  try {
    const file = path.join(dir, 'doorward.toml');
    await writeFile(file, '[sesion]\nlifetime = "1h"\n');
    const error = await run(DOORWARD, ['check', '--config', file]).then(() => assert.fail('it loaded'), (failed) => failed);
    assert.equal(error.code, 2);
    assert.match(error.stderr, /sesion/);
    assert.match(error.stderr, /\bsession\b/);
    assert.ok(error.stderr.includes(file));
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('every link between the documents leads to a file', async () => {
  const pages = ['README.md', 'SECURITY.md', 'CHANGELOG.md'];
  for (const name of await readdir(path.join(ROOT, 'docs'))) if (name.endsWith('.md')) pages.push(`docs/${name}`);
  for (const page of pages) {
    const text = await readFile(path.join(ROOT, page), 'utf8');
    for (const [, target] of text.matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g)) {
      await assert.doesNotReject(access(path.join(ROOT, path.dirname(page), target)), `${page} links to ${target}`);
    }
  }
});
