// A recipe of deploy/ as it is, but for where things are: addresses, ports, certificates, secrets.
import { cp, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const DEPLOY = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../../deploy');

// Copies deploy/`name` to `dir` and replaces in every file the keys of `places` by their values, the longest first. Each
// has to be somewhere in the recipe: a test that replaces nothing would no longer test what people copy.
export async function recipe(name, dir, places) {
  await mkdir(dir, { recursive: true });
  await cp(path.join(DEPLOY, name), dir, { recursive: true });
  const wanted = Object.keys(places).sort((a, b) => b.length - a.length);
  const missing = new Set(wanted);
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath ?? entry.path, entry.name);
    let text = await readFile(file, 'utf8');
    for (const from of wanted) {
      if (text.includes(from)) missing.delete(from);
      text = text.replaceAll(from, String(places[from]));
    }
    await writeFile(file, text);
  }
  if (missing.size) throw new Error(`deploy/${name} does not say ${[...missing].join(', ')}`);
}
