// A browser's cookie jar and redirects by hand: as a person would go through a sign-in, but at any step one can look,
// stop or cheat.
import http from 'node:http';
import https from 'node:https';

const NAVIGATION = { accept: 'text/html', 'sec-fetch-mode': 'navigate', 'sec-fetch-site': 'none', 'sec-fetch-dest': 'document' };
const keepAlive = new http.Agent({ keepAlive: true });
// The certificates of these tests are nobody's.
const overTls = new https.Agent({ keepAlive: true, rejectUnauthorized: false });

export class Jar {
  // { host, name, path, value }; hosts with their ports, as an origin's are.
  cookies = [];

  // `at`: the ports of this machine where some hosts are, as the browser's resolver rules have it.
  constructor(at = {}) {
    this.at = at;
  }

  // One request, no redirect followed. `headers: null` sends none of a navigation's.
  async request(url, { method = 'GET', headers = NAVIGATION, form } = {}) {
    const target = new URL(url);
    const port = this.at[target.hostname];
    const body = form && new URLSearchParams(form).toString();
    const cookie = this.header(target);
    const response = await new Promise((resolve, reject) => {
      const secure = target.protocol === 'https:';
      const request = (secure ? https : http).request(target, {
        method,
        ...(port && { hostname: '127.0.0.1', port, servername: target.hostname }),
        agent: secure ? overTls : keepAlive,
        headers: {
          host: target.host,
          ...(cookie && { cookie }),
          ...(form && { 'content-type': 'application/x-www-form-urlencoded' }),
          ...headers,
        },
      });
      request.on('response', resolve).on('error', reject).end(body);
    });
    for (const line of response.headers['set-cookie'] ?? []) this.store(target, line);
    const text = (await response.toArray()).map(String).join('');
    const location = response.headers.location && new URL(response.headers.location, target).href;
    return { url, status: response.statusCode, headers: response.headers, location, text };
  }

  header({ host, pathname }) {
    return this.cookies
      .filter((cookie) => cookie.host === host && pathname.startsWith(cookie.path))
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ');
  }

  store({ host }, line) {
    const [pair, ...attributes] = line.split(/; */);
    const equals = pair.indexOf('=');
    const name = pair.slice(0, equals);
    const path = attributes.find((text) => /^path=/i.test(text))?.slice(5) ?? '/';
    const gone = attributes.some((text) => /^max-age=0$/i.test(text) || (/^expires=/i.test(text) && new Date(text.slice(8)) < Date.now()));
    this.cookies = this.cookies.filter((cookie) => !(cookie.host === host && cookie.name === name && cookie.path === path));
    if (!gone) this.cookies.push({ host, name, path, value: pair.slice(equals + 1) });
  }

  // The cookies of `origin` whose names match: [[name, value]].
  named(origin, pattern) {
    const { host } = new URL(origin);
    return this.cookies.filter((cookie) => cookie.host === host && pattern.test(cookie.name)).map(({ name, value }) => [name, value]);
  }

  drop(origin, pattern) {
    const { host } = new URL(origin);
    this.cookies = this.cookies.filter((cookie) => !(cookie.host === host && pattern.test(cookie.name)));
  }

  // Goes from `url` to the provider and through its form; the answer's `location` is the callback, not yet visited.
  async authorize(w, user, url = `${w.origin}/`) {
    let answer = await this.request(url);
    for (;;) {
      if (answer.location?.startsWith(w.origin)) return answer.location;
      if (answer.location) answer = await this.request(answer.location);
      else if (answer.url.includes('/interaction/')) {
        answer = await this.request(answer.url, { method: 'POST', form: { login: user } });
      } else throw new Error(`no way on from ${answer.url}: ${answer.status} ${answer.text}`);
    }
  }

  // A whole sign-in; resolves to the callback's answer.
  async signIn(w, user, url) {
    return this.request(await this.authorize(w, user, url));
  }
}
