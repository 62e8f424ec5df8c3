// Where the provider of the tests keeps its grants and tokens. The library's own keeps the last thousand entries only:
// fewer than the tests that sign in a crowd need.
const OF_A_GRANT = new Set(['AccessToken', 'AuthorizationCode', 'RefreshToken']);

// A class, as the library wants it, with a store of its own: each provider has different people.
export function adapter() {
  const entries = new Map();
  const grants = new Map();

  return class Adapter {
    constructor(model) {
      this.model = model;
    }

    #key(id) {
      return `${this.model}:${id}`;
    }

    async find(id) {
      const entry = entries.get(this.#key(id));
      return entry && entry.until > Date.now() ? entry.payload : undefined;
    }

    async findByUid(uid) {
      const found = [...entries].find(([key, { payload }]) => key.startsWith(`${this.model}:`) && payload.uid === uid);
      return found?.[1].payload;
    }

    async upsert(id, payload, seconds) {
      entries.set(this.#key(id), { payload, until: seconds ? Date.now() + seconds * 1000 : Infinity });
      if (payload.grantId && OF_A_GRANT.has(this.model)) {
        const of = grants.get(payload.grantId) ?? new Set();
        grants.set(payload.grantId, of.add(this.#key(id)));
      }
    }

    async consume(id) {
      entries.get(this.#key(id)).payload.consumed = Math.floor(Date.now() / 1000);
    }

    async destroy(id) {
      entries.delete(this.#key(id));
    }

    async revokeByGrantId(grantId) {
      for (const key of grants.get(grantId) ?? []) entries.delete(key);
      grants.delete(grantId);
    }
  };
}
