//! Everything the provider remembers: sessions, pending sign-ins, pushed requests, codes, grants and tokens. All of it in
//! memory and bounded; the oldest goes first. It decides what a code or token is still good for, never who may ask.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::request::AuthorizeRequest;
use crate::crypto::random;
use crate::demo::web::Params;

/// One act of authentication.
#[derive(Clone, Debug)]
pub(super) struct SignIn {
    pub(super) user: String,
    pub(super) auth_time: u64,
    pub(super) acr: Option<String>,
    pub(super) sid: String,
}

/// What a client got: it lives until revoked or forgotten.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) sign_in: SignIn,
    pub(super) scopes: Vec<String>,
}

/// What a token response is made of.
pub(super) struct Issued {
    pub(super) grant: Grant,
    pub(super) access_token: String,
    pub(super) refresh_token: String,
}

/// Why a code or refresh token is not taken; the texts are for `error_description`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    Reused,
    Unknown,
}

#[derive(Default)]
pub(super) struct Store {
    sessions: Bounded<SignIn>,
    pending: Bounded<AuthorizeRequest>,
    pushed: Bounded<Pushed>,
    codes: Bounded<Code>,
    grants: Bounded<Grant>,
    refresh_tokens: Bounded<RefreshToken>,
    access_tokens: Bounded<AccessToken>,
}

impl Store {
    pub(super) fn start_session(&mut self, sign_in: SignIn) -> String {
        self.sessions.insert(sign_in)
    }

    pub(super) fn session(&self, id: &str) -> Option<&SignIn> {
        self.sessions.get(id)
    }

    /// Ends the session with this cookie value or this `sid`, and what was granted in it. Returns what ended.
    pub(super) fn end_session(&mut self, id: Option<&str>, sid: Option<&str>) -> Vec<SignIn> {
        let mut ended: Vec<SignIn> = id.and_then(|id| self.sessions.remove(id)).into_iter().collect();
        if let Some(sid) = sid.filter(|sid| ended.iter().all(|of_cookie| of_cookie.sid != *sid)) {
            // Without single sign-on there is no session; after a revocation, no grant.
            let granted = self.grants.values.values().map(|grant| &grant.sign_in);
            ended.extend(self.sessions.values.values().chain(granted).find(|one| one.sid == sid).cloned());
        }
        for over in &ended {
            self.sessions.retain(|session| session.sid != over.sid);
            self.grants.retain(|grant| grant.sign_in.sid != over.sid);
        }
        ended
    }

    pub(super) fn sids(&self, user: &str) -> Vec<String> {
        let grants = self.grants.order.iter().filter_map(|id| self.grants.get(id));
        let mut sids: Vec<String> = Vec::new();
        for grant in grants.filter(|grant| grant.sign_in.user == user) {
            if !sids.contains(&grant.sign_in.sid) {
                sids.push(grant.sign_in.sid.clone());
            }
        }
        sids
    }

    pub(super) fn revoke_user(&mut self, user: &str) {
        self.sessions.retain(|session| session.user != user);
        self.grants.retain(|grant| grant.sign_in.user != user);
        self.codes.retain(|code| code.sign_in.user != user);
    }

    /// Keeps a request while its sign-in page is shown.
    pub(super) fn hold(&mut self, request: AuthorizeRequest) -> String {
        self.pending.insert(request)
    }

    pub(super) fn held(&self, id: &str) -> Option<&AuthorizeRequest> {
        self.pending.get(id)
    }

    pub(super) fn release(&mut self, id: &str) -> Option<AuthorizeRequest> {
        self.pending.remove(id)
    }

    pub(super) fn push(&mut self, params: Params) -> String {
        self.pushed.insert(Pushed { params, expires: Instant::now() + PUSHED_TTL })
    }

    /// A pushed request; it stays until its code is issued, so that the sign-in page can be loaded again.
    pub(super) fn pushed(&self, id: &str) -> Option<Params> {
        self.pushed.get(id).filter(|p| p.expires > Instant::now()).map(|p| p.params.clone())
    }

    pub(super) fn issue_code(&mut self, request: AuthorizeRequest, sign_in: SignIn) -> String {
        if let Some(id) = &request.pushed {
            self.pushed.remove(id);
        }
        self.codes.insert(Code { request, sign_in, expires: Instant::now() + CODE_TTL, grant: None })
    }

    /// Redeems a code if `fits` says that this request may. Used before, it costs the grant it made
    /// (RFC 6749 §4.1.2); a request that does not fit costs the code.
    pub(super) fn redeem(
        &mut self,
        code: &str,
        access_ttl: Duration,
        fits: impl FnOnce(&AuthorizeRequest) -> bool,
    ) -> Result<(Issued, Option<String>), Refusal> {
        let entry = self.codes.get_mut(code).ok_or(Refusal::Unknown)?;
        if let Some(grant) = entry.grant.take() {
            self.codes.remove(code);
            self.grants.remove(&grant);
            return Err(Refusal::Reused);
        }
        if entry.expires <= Instant::now() || !fits(&entry.request) {
            self.codes.remove(code);
            return Err(Refusal::Unknown);
        }
        let grant = Grant { sign_in: entry.sign_in.clone(), scopes: entry.request.scopes.clone() };
        let nonce = entry.request.nonce.clone();
        let id = self.grants.insert(grant.clone());
        entry.grant = Some(id.clone());
        Ok((self.issue(id, grant, access_ttl), nonce))
    }

    /// Spends a refresh token for new ones. A spent one costs the whole grant (RFC 9700 §4.14.2). Where they do not
    /// rotate, the same one comes back.
    pub(super) fn refresh(&mut self, token: &str, access_ttl: Duration, rotate: bool) -> Result<Issued, Refusal> {
        let entry = self.refresh_tokens.get_mut(token).ok_or(Refusal::Unknown)?;
        let id = entry.grant.clone();
        if std::mem::replace(&mut entry.spent, rotate) {
            self.grants.remove(&id);
            return Err(Refusal::Reused);
        }
        let grant = self.grants.get(&id).cloned().ok_or(Refusal::Unknown)?;
        let issued = self.issue(id, grant, access_ttl);
        Ok(if rotate { issued } else { Issued { refresh_token: token.to_owned(), ..issued } })
    }

    pub(super) fn granted(&self, access_token: &str) -> Option<&Grant> {
        let token = self.access_tokens.get(access_token).filter(|token| token.expires > Instant::now())?;
        self.grants.get(&token.grant)
    }

    pub(super) fn expires(&self, access_token: &str) -> Option<Instant> {
        self.access_tokens.get(access_token).map(|token| token.expires)
    }

    /// A grant that no code led to.
    pub(super) fn grant(&mut self, sign_in: SignIn, scopes: Vec<String>, access_ttl: Duration) -> Issued {
        let grant = Grant { sign_in, scopes };
        let id = self.grants.insert(grant.clone());
        self.issue(id, grant, access_ttl)
    }

    /// A refresh token takes its grant with it, an access token only itself (RFC 7009 §2.1).
    pub(super) fn revoke(&mut self, token: &str) {
        if let Some(refresh) = self.refresh_tokens.remove(token) {
            self.grants.remove(&refresh.grant);
        }
        self.access_tokens.remove(token);
    }

    fn issue(&mut self, id: String, grant: Grant, access_ttl: Duration) -> Issued {
        let expires = Instant::now() + access_ttl;
        let access_token = self.access_tokens.insert(AccessToken { grant: id.clone(), expires });
        let refresh_token = self.refresh_tokens.insert(RefreshToken { grant: id, spent: false });
        Issued { grant, access_token, refresh_token }
    }
}

/// 256 random bits, fit for a URL.
pub(super) fn random_id() -> String {
    random::token()
}

struct Pushed {
    params: Params,
    expires: Instant,
}

struct Code {
    request: AuthorizeRequest,
    sign_in: SignIn,
    expires: Instant,
    /// Set once it is redeemed.
    grant: Option<String>,
}

struct RefreshToken {
    grant: String,
    spent: bool,
}

struct AccessToken {
    grant: String,
    expires: Instant,
}

/// Values under random names, the oldest dropped at `CAPACITY`.
struct Bounded<V> {
    values: HashMap<String, V>,
    /// Oldest first; names of removed values linger until they are its turn.
    order: VecDeque<String>,
}

impl<V> Bounded<V> {
    fn insert(&mut self, value: V) -> String {
        while self.order.len() >= CAPACITY {
            if let Some(oldest) = self.order.pop_front() {
                self.values.remove(&oldest);
            }
        }
        let id = random_id();
        self.order.push_back(id.clone());
        self.values.insert(id.clone(), value);
        id
    }

    fn get(&self, id: &str) -> Option<&V> {
        self.values.get(id)
    }

    fn get_mut(&mut self, id: &str) -> Option<&mut V> {
        self.values.get_mut(id)
    }

    fn remove(&mut self, id: &str) -> Option<V> {
        self.values.remove(id)
    }

    fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        self.values.retain(|_, value| keep(value));
    }
}

impl<V> Default for Bounded<V> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

/// Of each kind of thing.
const CAPACITY: usize = 10_000;
const CODE_TTL: Duration = Duration::from_secs(60);
pub(super) const PUSHED_TTL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let mut bounded = Bounded::default();
        let ids: Vec<_> = (0..=CAPACITY).map(|n| bounded.insert(n)).collect();
        assert_eq!(bounded.get(&ids[0]), None);
        assert_eq!(bounded.get(&ids[1]), Some(&1));
        assert_eq!(bounded.values.len(), CAPACITY);
    }
}
