// nginx with the sites that a test gives it.
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { start } from './process.mjs';

// The program: another version than the one in PATH, say. Not NGINX: in that nginx looks for sockets that it inherits.
export const NGINX = process.env.NGINX_BIN || 'nginx';

// `tmp`: a directory of its own. `sites`: the files that http includes.
export async function startNginx({ tmp, sites }) {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${tmp}/${kind};`);
  const file = path.join(tmp, 'nginx.conf');
  await mkdir(tmp, { recursive: true });
  await writeFile(file, `
daemon off;
master_process off;
pid ${tmp}/nginx.pid;
error_log stderr;
events { worker_connections 512; }
http {
  ${temporary.join('\n  ')}
  access_log off;
  ${sites.map((site) => `include ${site};`).join('\n  ')}
}
`);
  return start(NGINX, ['-e', 'stderr', '-c', file]);
}
