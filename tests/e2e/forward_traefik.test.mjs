// The recipe of deploy/traefik, with a real Traefik.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { arrived, cookies, forwardCases, told } from './lib/forward_cases.mjs';
import { Jar } from './lib/jar.mjs';
import { freePort, start } from './lib/process.mjs';
import { program, proxied, send } from './lib/proxied.mjs';

async function traefik({ dir, port, file }, dynamic) {
  const here = { '/etc/traefik': dir };
  const ports = { '":80"': `"127.0.0.1:${await freePort()}"`, '":443"': `"127.0.0.1:${port}"` };
  await writeFile(path.join(dir, 'traefik.yml'), await file('traefik.yml', { ...here, ...ports }));
  await writeFile(path.join(dir, 'dynamic.yml'), dynamic ?? (await file('dynamic.yml', here)));
  return start(program('traefik'), ['--configFile=traefik.yml'], { cwd: dir });
}

describe('the recipe', () => {
  forwardCases({ recipe: 'traefik', proxy: traefik, absent: false });
});

// https://oauth2-proxy.github.io/oauth2-proxy/configuration/integrations/traefik, "ForwardAuth with 401 errors middleware":
// with other addresses and without `auth-headers`, whose options Traefik 3 has no more.
const OAUTH2_PROXY = `
http:
  routers:
    a-service:
      rule: "Host(\`app.example.com\`)"
      service: a-service-backend
      middlewares:
        - oauth-errors
        - oauth-auth
      tls: {}
    oauth:
      rule: "Host(\`app.example.com\`, \`oauth.example.com\`) && PathPrefix(\`/oauth2/\`)"
      service: oauth-backend
      tls: {}
  services:
    a-service-backend:
      loadBalancer:
        servers:
          - url: http://127.0.0.1:3000
    oauth-backend:
      loadBalancer:
        servers:
          - url: http://127.0.0.1:4180
  middlewares:
    oauth-auth:
      forwardAuth:
        address: http://127.0.0.1:4180/oauth2/auth
        trustForwardHeader: true
        authResponseHeaders:
          - X-Auth-Request-User
          - X-Auth-Request-Email
    oauth-errors:
      errors:
        status:
          - "401-403"
        service: oauth-backend
        query: "/oauth2/sign_in?rd={url}"
        statusRewrites:
          "401": 302
`;
