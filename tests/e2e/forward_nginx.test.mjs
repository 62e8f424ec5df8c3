// deploy/nginx, as it is: nginx asks Doorward with auth_request.
import { forwardTests } from './lib/forward_tests.mjs';
import { startNginx } from './lib/nginx.mjs';

forwardTests({
  name: 'nginx',
  places: (w) => ({
    'listen 443 ': `listen 127.0.0.1:${w.ports.proxy} `,
    'listen 80;': `listen 127.0.0.1:${w.ports.plain};`,
    '127.0.0.1:3000': w.app,
    '/etc/nginx/tls.crt': w.cert,
    '/etc/nginx/tls.key': w.key,
    '/etc/nginx/doorward': `${w.dir}/doorward`,
  }),
  startProxy: (w) => startNginx({ tmp: w.tmp, sites: [`${w.dir}/app.conf`] }),
});
