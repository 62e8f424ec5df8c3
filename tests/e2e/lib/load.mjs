// Many people at once, and what each of them is answered: status, time, cookies.
import http from 'node:http';
import { Jar } from './jar.mjs';
import { SESSION_COOKIE } from './world.mjs';

// One request. `target`: { port, host }. Resolves to { status, headers, body, cookies, began, ended } with the times of
// this process; `error` instead of a status when no answer came.
export function ask(target, cookie, { path = '/', agent = false, signal, headers = {} } = {}) {
  const began = performance.now();
  return new Promise((resolve) => {
    const done = (more) => resolve({ began, ended: performance.now(), cookies: [], headers: {}, ...more });
    const request = http.get({
      host: '127.0.0.1',
      port: target.port,
      path,
      agent,
      signal,
      headers: { host: target.host, accept: '*/*', ...(cookie && { cookie }), ...headers },
    });
    request.on('error', (error) => done({ error: error.code ?? error.name }));
    request.on('response', (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part)).on('error', (error) => done({ error: error.code })).on('end', () => done({
        status: response.statusCode,
        headers: response.headers,
        cookies: response.headers['set-cookie'] ?? [],
        body: Buffer.concat(parts).toString(),
      }));
    });
  });
}

// `count` requests with the same cookie, all at once, each on a connection of its own, spread over the targets.
export function burst(targets, cookie, count) {
  return Promise.all(Array.from({ length: count }, (_, n) => ask(targets[n % targets.length], cookie)));
}

// How often each status (or error) came.
export function tally(answers) {
  const counts = {};
  for (const { status, error } of answers) counts[status ?? error] = (counts[status ?? error] ?? 0) + 1;
  return counts;
}

// The time in milliseconds that 99 of 100 of the answers took at most.
export function p99(answers) {
  const times = answers.map(({ began, ended }) => ended - began).sort((a, b) => a - b);
  return times[Math.floor((times.length - 1) * 0.99)];
}

// A browser that is signed in: it keeps the session cookies that it is given.
export class Visitor {
  #cookies = new Map();
  #agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

  constructor(user, pairs) {
    this.user = user;
    this.#cookies = new Map(pairs);
    this.since = Date.now();
  }

  get cookie() {
    return [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  }

  // What a browser does with the answer's cookies.
  take(answer) {
    for (const line of answer.cookies) {
      const [name, value] = line.split(';', 1)[0].split(/=(.*)/s);
      if (!SESSION_COOKIE.test(name)) continue;
      if (/max-age=0/i.test(line)) this.#cookies.delete(name);
      else this.#cookies.set(name, value);
    }
    return answer;
  }

  async ask(target, options) {
    return this.take(await ask(target, this.cookie, { agent: this.#agent, ...options }));
  }
}

// Signs somebody in and shows the session once, so that only its own cookies are left.
export async function signIn(w, user, url = `${w.origin}/`) {
  const jar = new Jar();
  const answer = await jar.signIn(w, user, url);
  if (answer.status !== 302) throw new Error(`${user} was not signed in: ${answer.status} ${answer.text}`);
  const since = Date.now();
  await jar.request(url);
  return Object.assign(new Visitor(user, jar.named(w.origin, SESSION_COOKIE)), { since });
}

// user0, user1 …, signed in some at a time.
export async function crowd(w, count, url) {
  const visitors = [];
  const next = async () => {
    while (visitors.length < count) {
      const at = visitors.push(undefined) - 1;
      visitors[at] = await signIn(w, `user${at}`, url);
    }
  };
  await Promise.all(Array.from({ length: 8 }, next));
  return visitors;
}

// Each visitor asks again and again, `pause` milliseconds after each answer (people do not ask without a break), until
// `stop`, which resolves to all answers: { visitor, at, status … }. `answers` grows meanwhile.
export function keepAsking(visitors, targets, { pause = 50, path } = {}) {
  const answers = [];
  let over = false;
  const loops = visitors.map(async (visitor, n) => {
    for (let turn = n; !over; turn += 1) {
      const answer = await visitor.ask(targets[turn % targets.length], { path });
      answers.push({ visitor, at: Date.now(), ...answer });
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  });
  return {
    answers,
    // Resolves when each visitor has been answered again.
    async round() {
      const from = answers.length;
      while (new Set(answers.slice(from).map(({ visitor }) => visitor)).size < visitors.length) {
        await new Promise((resolve) => setTimeout(resolve, 25));
      }
    },
    async stop() {
      over = true;
      await Promise.all(loops);
      return answers;
    },
  };
}
