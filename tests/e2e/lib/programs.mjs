// The other proxies that came with the Python packages, each with the files of a recipe or a snippet.
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ORIGIN } from './forward.mjs';
import { Jar } from './jar.mjs';
import { start, until } from './process.mjs';

const E2E = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const program = (name) => path.join(E2E, '.venv/bin', name);

// What no recipe has: a name that no public authority knows is certified by Caddy's own, and only this machine is served.
const OPTIONS = `{
	admin off
	auto_https disable_redirects
	default_bind 127.0.0.1
	local_certs
	skip_install_trust
}
`;

// `sites`: files with sites.
export async function startCaddy({ dir, tmp, sites }) {
  const file = path.join(dir, 'all.Caddyfile');
  await writeFile(file, OPTIONS + sites.map((site) => `import ${site}\n`).join(''));
  const env = { ...process.env, HOME: tmp, XDG_DATA_HOME: tmp, XDG_CONFIG_HOME: tmp };
  return start(process.env.CADDY ?? program('caddy'), ['run', '--config', file, '--adapter', 'caddyfile'], { cwd: dir, env });
}

// `file`: of its directory.
export function startEnvoy({ dir }, file) {
  return start(process.env.ENVOY ?? program('envoy'), ['-c', path.join(dir, file), '--disable-hot-restart', '--concurrency', '1', '--log-level', 'warn']);
}

export async function startTraefik({ dir, at }) {
  const child = start(program('traefik'), [`--configFile=${path.join(dir, 'traefik.yml')}`], { cwd: dir });
  // It answers 404 to everything until it has read its dynamic configuration.
  await until('Traefik to know its routers', async () => (await new Jar(at).request(`${ORIGIN}/oauth2/sign_in`)).status === 200);
  return child;
}

// One of snippets/, with `places` put in.
export async function snippet(name, places) {
  const text = await readFile(path.join(E2E, 'snippets', name), 'utf8');
  return Object.entries(places).reduce((before, [from, to]) => before.replaceAll(from, () => to), text);
}
