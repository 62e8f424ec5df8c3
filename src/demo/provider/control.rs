//! How tests steer a running provider: faults, key rotation, revocation, automatic sign-in; and what it counted. Nothing
//! here answers a request: `serve` asks for the fault of this call and applies it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Options, Shared, logout, machine};
use crate::error::Result;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Endpoint {
    Authorize,
    Discovery,
    EndSession,
    Introspection,
    Jwks,
    Par,
    Revocation,
    Token,
    Userinfo,
}

/// Changes the header and the claims of an ID token or a logout token before it is signed.
pub type Tamper = Arc<dyn Fn(&mut Map<String, Value>, &mut Map<String, Value>) + Send + Sync>;

/// What goes wrong. The token faults act at the token endpoint and in `Control::logout_token`, the member faults on a JSON
/// answer or on the parameters of a redirect to the client; elsewhere they do nothing.
#[derive(Clone)]
pub enum Fault {
    /// The last byte of the token's signature is another one.
    BadSignature,
    /// The answer lacks this member.
    DropMember(&'static str),
    /// 200, `application/json`, no body.
    Empty,
    /// No answer until the client gives up.
    Hang,
    /// 200 with a page, as captive portals and maintenance proxies answer.
    Html,
    /// 200, `application/json`, this many bytes in chunks.
    Huge(usize),
    Json(u16, String),
    Redirect(String),
    /// The connection is closed without an answer.
    Reset,
    /// The answer's member has this value.
    SetMember(&'static str, Value),
    Status(u16),
    /// The token is changed, then signed properly; see `KeySet::sign` for what its `alg` does.
    TamperToken(Tamper),
}

impl Fault {
    pub fn tamper(change: impl Fn(&mut Map<String, Value>, &mut Map<String, Value>) + Send + Sync + 'static) -> Self {
        Self::TamperToken(Arc::new(change))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadSignature => f.write_str("BadSignature"),
            Self::DropMember(name) => write!(f, "DropMember({name})"),
            Self::Empty => f.write_str("Empty"),
            Self::Hang => f.write_str("Hang"),
            Self::Html => f.write_str("Html"),
            Self::Huge(bytes) => write!(f, "Huge({bytes})"),
            Self::Json(status, _) => write!(f, "Json({status})"),
            Self::Redirect(to) => write!(f, "Redirect({to})"),
            Self::Reset => f.write_str("Reset"),
            Self::SetMember(name, value) => write!(f, "SetMember({name}, {value})"),
            Self::Status(status) => write!(f, "Status({status})"),
            Self::TamperToken(_) => f.write_str("TamperToken"),
        }
    }
}

/// A handle to a running provider; cheap to clone.
#[derive(Clone)]
pub struct Control(pub(super) Arc<Shared>);

impl Control {
    /// From now on, every call of `endpoint` fails like this. Of several faults of an endpoint the oldest acts.
    pub fn fault(&self, endpoint: Endpoint, fault: Fault) {
        self.push(endpoint, fault, None);
    }

    /// The next `times` calls fail like this, after those of faults set before.
    pub fn fault_times(&self, endpoint: Endpoint, fault: Fault, times: u32) {
        self.push(endpoint, fault, Some(times));
    }

    /// No more faults and delays.
    pub fn clear(&self) {
        let mut dials = self.0.dials();
        dials.faults.clear();
        dials.token_delay = Duration::ZERO;
    }

    /// New signing keys; with `keep_old` the ones before stay published.
    pub fn rotate_keys(&self, keep_old: bool) -> Result<()> {
        let rotated = Arc::new(self.0.keys().rotated(keep_old)?);
        self.0.set_keys(rotated);
        Ok(())
    }

    /// Ends every grant and session of this user, as an administrator would.
    pub fn revoke_all(&self, user: &str) {
        self.0.store().revoke_user(user);
    }

    /// Signs this user in at once, without a page; `None` shows the page again.
    pub fn auto_login(&self, user: Option<&str>) {
        self.0.dials().auto_login = user.map(str::to_owned);
    }

    /// Holds back every answer of the token endpoint; the grant is spent before.
    pub fn token_delay(&self, delay: Duration) {
        self.0.dials().token_delay = delay;
    }

    /// Sign-outs are told to this address of the client too; see `Options::backchannel_logout_uris`.
    pub fn backchannel_logout_to(&self, uri: &str) {
        self.0.dials().backchannel_logout_uris.push(uri.to_owned());
    }

    /// A logout token as a sign-out would send it, for whoever sends it himself. It ends nothing here, and need be for
    /// nobody who is signed in.
    pub fn logout_token(&self, sub: Option<&str>, sid: Option<&str>, fault: Option<&Fault>) -> Result<String> {
        logout::logout_token(&self.0, sub, sid, fault)
    }

    /// An access token of RFC 9068 for this subject, whoever that is: `aud` `demo-api`, scope `read`.
    pub fn access_token(&self, sub: &str, fault: Option<&Fault>) -> Result<String> {
        machine::access_token(&self.0, sub, "read", machine::AUDIENCE, fault)
    }

    /// An access token of this user that only introspection explains.
    pub fn opaque_token(&self, user: &str, scope: &str) -> String {
        machine::grant(&self.0, user, scope).access_token
    }

    /// The `sid` of each sign-in of this user that still has a grant, the oldest first.
    pub fn sids(&self, user: &str) -> Vec<String> {
        self.0.store().sids(user)
    }

    fn push(&self, endpoint: Endpoint, fault: Fault, times: Option<u32>) {
        self.0.dials().faults.push(Set { endpoint, fault, times });
    }
}

/// What happened since the start.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub(super) hits: BTreeMap<Endpoint, u64>,
    /// Token requests with `grant_type=authorization_code`.
    pub code_grants: Outcomes,
    /// Token requests with `grant_type=refresh_token`.
    pub refresh_grants: Outcomes,
    /// Token requests with `grant_type=client_credentials`.
    pub client_grants: Outcomes,
    /// Token requests with `grant_type=password`.
    pub password_grants: Outcomes,
    /// Token exchanges.
    pub exchanges: Outcomes,
    /// Logout tokens that were sent; refused are also those that nobody answered.
    pub logout_tokens: Outcomes,
    /// Spent refresh tokens that were presented again.
    pub refresh_reuse: u64,
}

impl Stats {
    /// Requests that reached the endpoint, faults included.
    pub fn hits(&self, endpoint: Endpoint) -> u64 {
        self.hits.get(&endpoint).copied().unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Outcomes {
    pub ok: u64,
    pub refused: u64,
}

impl Outcomes {
    pub(super) fn count(&mut self, ok: bool) {
        *(if ok { &mut self.ok } else { &mut self.refused }) += 1;
    }
}

/// What `Control` turned.
pub(super) struct Dials {
    pub(super) backchannel_logout_uris: Vec<String>,
    faults: Vec<Set>,
    pub(super) auto_login: Option<String>,
    pub(super) token_delay: Duration,
}

impl Dials {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            backchannel_logout_uris: options.backchannel_logout_uris.clone(),
            faults: Vec::new(),
            auto_login: None,
            token_delay: Duration::ZERO,
        }
    }

    /// The fault of this call, if there is one.
    pub(super) fn next_fault(&mut self, endpoint: Endpoint) -> Option<Fault> {
        self.faults.retain(|set| set.times != Some(0));
        let set = self.faults.iter_mut().find(|set| set.endpoint == endpoint)?;
        if let Some(times) = &mut set.times {
            *times -= 1;
        }
        Some(set.fault.clone())
    }
}

struct Set {
    endpoint: Endpoint,
    fault: Fault,
    times: Option<u32>,
}
