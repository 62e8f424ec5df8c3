//! Whether a token holds, for one configuration. What holds is remembered by the token's hash until it expires or five
//! minutes are over; what that is worth on a route is looked at anew for each request.
//!
//! What strangers can cost is bounded: one verification for each token that is not known, as many refusals a minute for an
//! address as `server.limits.refused_tokens_per_minute` says, and the fetches of keys that `provider` bounds.

mod suppose;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use tokio::runtime::Handle;

use super::Machine;
use super::credentials::Credentials;
use super::principal::Source;
use super::token::{self, Expect, Token};
use crate::clock;
use crate::config::settings::{self, CustomClaim, Settings, TokenIssuer};
use crate::crypto::jwk::KeySet;
use crate::crypto::{jws, random};
use crate::error::{Error, Kind, Result};
use crate::provider::checks::Fault;
use crate::provider::flight::Flights;
use crate::provider::{Issuer, Provider, peek_issuer};
use crate::secret::Secret;
use crate::session::limit::{Limiter, Rate};
use crate::session::state::State;
use crate::store::cache::Bounded;

/// What everything that is remembered may weigh.
const KNOWN_BYTES: u64 = 64 << 20;

/// Refusals of providers that are remembered, at most.
const MOST_REFUSED: u64 = 100_000;

/// How long it is believed that a token holds: so long a token of a key that was taken out, or of a client that was locked
/// out, goes on (JX-20).
const BELIEVED: Duration = Duration::from_secs(300);

/// SHA-256 of a token.
pub type Digest = [u8; 32];

/// A machine, and how it was found out who it is.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) machine: Arc<Machine>,
    pub(super) by: By,
    pub(super) rfc9068: bool,
    /// The token says by itself who issued it.
    pub(super) names_issuer: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum By {
    /// This provider's word.
    Introspection(usize),
    /// A sign-in at this provider.
    Password(usize),
    /// The signature of this issuer.
    Signature(TokenIssuer),
}

/// How a token can be judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// By the provider of this index.
    Ask(usize),
    /// By its signature.
    Verify(TokenIssuer),
}

pub struct Machines {
    /// As in the settings, and so are `issuers`.
    pub(super) providers: Vec<Arc<Provider>>,
    issuers: Vec<Arc<Issuer>>,
    /// By the index of a provider, the claims by which rules keep people out.
    pub(super) denying: Vec<Vec<String>>,
    kept: Vec<String>,
    custom: Vec<CustomClaim>,
    known: Bounded<Digest, Known>,
    /// What a provider refused a moment ago.
    pub(super) refused: Bounded<Digest, ()>,
    pub(super) lookups: Flights<Digest, Result<Known, Arc<Error>>>,
    /// Of refusals, by address; it outlives a configuration.
    pub(super) limiter: Arc<Limiter>,
    /// Of wrong passwords, by user.
    pub(super) by_user: Rate<Digest>,
    pub(super) refused_per_minute: u32,
    pub(super) control: Handle,
    /// Under which passwords are remembered: it is nowhere else, and gone with the process.
    secret: hmac::Key,
}

impl Machines {
    pub fn new(
        settings: &Settings,
        providers: &[Arc<Provider>],
        issuers: &[Arc<Issuer>],
        kept: &[String],
        state: &State,
        control: Handle,
    ) -> Self {
        Self {
            providers: providers.to_vec(),
            issuers: issuers.to_vec(),
            denying: settings.providers.iter().map(|p| settings.denying_claims(&p.claims)).collect(),
            kept: kept.to_vec(),
            custom: settings.custom_claims.clone(),
            known: Bounded::new(KNOWN_BYTES),
            refused: Bounded::new(MOST_REFUSED),
            lookups: Flights::default(),
            limiter: Arc::clone(&state.token_limiter),
            by_user: Rate::default(),
            refused_per_minute: settings.server.limits.refused_tokens_per_minute,
            secret: hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>()),
            control,
        }
    }

    /// Under which these credentials are remembered on this route.
    pub fn digest(&self, route: &settings::Machine, credentials: &Credentials<'_>) -> Digest {
        match credentials {
            Credentials::Bearer(token) => {
                let mut out = Digest::default();
                out.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
                out
            }
            // SECURITY: keyed, as a password can be guessed from its hash, and by provider, as each has its own people.
            Credentials::Basic(basic) => self.keyed(&[
                &provider_bytes(route.basic),
                basic.user.as_bytes(),
                &[0],
                basic.password.expose().as_bytes(),
            ]),
        }
    }

    /// Under which a provider's answer about something is remembered: another one may say something else.
    pub(super) fn of_provider(&self, provider: usize, what: &[u8]) -> Digest {
        self.keyed(&[&provider_bytes(Some(provider)), what])
    }

    fn keyed(&self, parts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&self.secret);
        parts.iter().for_each(|part| context.update(part));
        let mut out = Digest::default();
        out.copy_from_slice(context.sign().as_ref());
        out
    }

    /// Whoever is known by this hash already, on a route with these settings. `None` = to be judged.
    ///
    /// # Errors
    /// `Token` where the token holds, and is not meant for here.
    pub fn recall(&self, route: &settings::Machine, digest: &Digest, now_ms: u64) -> Option<Result<Arc<Machine>>> {
        let known = self.known.find(digest)?;
        // SECURITY: JX-18. Not on the cache's own clock alone.
        let holds = known.machine.expires_ms > now_ms && known.by.counts(route) && !self.is_for_keys(route, &known);
        holds.then(|| known.admitted(route))
    }

    /// SECURITY: AT-01. Looked up for another route, and to be judged by its signature here: see `way`.
    fn is_for_keys(&self, route: &settings::Machine, known: &Known) -> bool {
        let by_keys = || route.issuers.iter().any(|issuer| self.iss(*issuer) == Some(known.machine.issuer.as_str()));
        matches!(known.by, By::Introspection(_)) && known.names_issuer && by_keys()
    }

    /// Whoever the credentials speak for. `client` is whose account a refusal goes on.
    ///
    /// # Errors
    /// `Token` where they do not hold, or not here. `RateLimited` where the client has had too many refused.
    /// `KeysUnavailable` says nothing about them.
    pub async fn judge(
        self: &Arc<Self>,
        route: &settings::Machine,
        credentials: &Credentials<'_>,
        digest: Digest,
        client: IpAddr,
    ) -> Result<Arc<Machine>> {
        // SECURITY: BX-10. Before anything is verified.
        if !self.limiter.has_room(client, self.refused_per_minute) {
            return Err(Error::new(Kind::RateLimited, format!("too many refused tokens from {client}")));
        }
        let known = match credentials {
            Credentials::Basic(basic) => match route.basic {
                Some(provider) => self.by_password(route, provider, basic, digest, client).await?,
                None => return Err(Error::new(Kind::Token, "user names and passwords are not taken here")),
            },
            Credentials::Bearer(token) => {
                let judged = match self.way(route, token) {
                    // Counted by itself: what costs a call is counted before.
                    Ok(Way::Ask(provider)) => {
                        return self.introspected(provider, token, digest, client).await?.admitted(route);
                    }
                    Ok(Way::Verify(issuer)) => self.signed(issuer, token).await,
                    Err(error) => Err(error),
                };
                match &judged {
                    Ok(known) => self.remember(digest, known, BELIEVED),
                    Err(e) if e.kind() == Kind::Token => drop(self.limiter.admit(client, self.refused_per_minute)),
                    Err(_) => {}
                }
                judged?
            }
        };
        known.admitted(route)
    }

    pub(super) fn remember(&self, digest: Digest, known: &Known, longest: Duration) {
        let left = Duration::from_millis(known.machine.expires_ms.saturating_sub(clock::unix_now_ms()));
        self.known.put(digest, known.clone(), known.machine.weight(), left.min(longest));
    }

    /// Who is to judge the token. What it says of itself chooses among those that the route names, and nothing else
    /// (AT-01, JX-15).
    ///
    /// SECURITY: the token of an issuer that nobody here knows is sent nowhere; one that any of the route's issuers can
    /// judge by its signature is not sent either.
    pub(super) fn way(&self, route: &settings::Machine, token: &str) -> Result<Way> {
        let asked = route.introspect.map(Way::Ask);
        let refused = |what| Error::new(Kind::Token, what);
        let Some(iss) = peek_issuer(token) else {
            return asked.ok_or_else(|| refused("not a signed token that names its issuer"));
        };
        let is = |issuer: TokenIssuer| self.iss(issuer) == Some(iss.as_str());
        let signed = route.issuers.iter().copied().find(|issuer| is(*issuer)).map(Way::Verify);
        let asked = asked.filter(|_| route.introspect.is_some_and(|at| is(TokenIssuer::Provider(at))));
        signed.or(asked).ok_or_else(|| refused("of an issuer that is not trusted here"))
    }

    /// A JWT, by the keys of its issuer.
    pub(super) async fn signed(&self, issuer: TokenIssuer, token: &str) -> Result<Known> {
        let refused = |what| Error::new(Kind::Token, what);
        let (checked, source) = match issuer {
            TokenIssuer::Provider(at) => {
                let provider = self.providers.get(at).ok_or_else(|| refused("of an issuer that is gone"))?;
                let settings = provider.settings();
                let source = self.source_of_provider(settings);
                let validate = |keys: &KeySet| {
                    let expect = Expect {
                        issuer: &settings.issuer,
                        client_id: Some(&settings.client_id),
                        audience: &[],
                        algs: &jws::ASYMMETRIC,
                        skew: source.skew,
                        now: clock::unix_now(),
                    };
                    token::validate(token, keys, &expect)
                };
                (provider.judge(validate).await, source)
            }
            TokenIssuer::Issuer(at) => {
                let of = self.issuers.get(at).ok_or_else(|| refused("of an issuer that is gone"))?;
                let settings = of.settings();
                let source = self.source_of_issuer(settings);
                let validate = |keys: &KeySet| {
                    let expect = Expect {
                        issuer: &settings.issuer,
                        client_id: None,
                        audience: &settings.audience,
                        algs: of.algs(),
                        skew: source.skew,
                        now: clock::unix_now(),
                    };
                    token::validate(token, keys, &expect)
                };
                (of.judge(validate).await, source)
            }
        };
        // Whatever kept the keys away, there is no verdict (contract §4): 503.
        let checked =
            checked.map_err(|e| Error::new(Kind::KeysUnavailable, "the token cannot be judged now").because(e))?;
        let made = checked.and_then(|Token { claims, rfc9068 }| {
            let machine = Machine::from_claims(&claims, &source, Secret::new(token))?;
            Ok(Known { machine: Arc::new(machine), by: By::Signature(issuer), rfc9068, names_issuer: true })
        });
        made.map_err(|fault: Fault| Error::new(Kind::Token, format!("the token is refused: {fault}")))
    }

    fn iss(&self, issuer: TokenIssuer) -> Option<&str> {
        match issuer {
            TokenIssuer::Issuer(at) => self.issuers.get(at).map(|issuer| issuer.settings().issuer.as_str()),
            TokenIssuer::Provider(at) => self.providers.get(at).map(|provider| provider.issuer()),
        }
    }

    pub(super) fn source_of_provider<'a>(&'a self, settings: &'a settings::Provider) -> Source<'a> {
        Source {
            section: &settings.name,
            is_provider: true,
            issuer: &settings.issuer,
            paths: &settings.claims,
            skew: settings.clock_skew.as_secs(),
            kept: &self.kept,
            custom: &self.custom,
        }
    }

    fn source_of_issuer<'a>(&'a self, settings: &'a settings::Issuer) -> Source<'a> {
        Source {
            section: &settings.name,
            is_provider: false,
            issuer: &settings.issuer,
            paths: &settings.claims,
            skew: settings.clock_skew.as_secs(),
            kept: &self.kept,
            custom: &self.custom,
        }
    }
}

/// Keeps a provider's people apart from everybody else's.
fn provider_bytes(at: Option<usize>) -> [u8; 8] {
    at.and_then(|at| u64::try_from(at).ok()).unwrap_or(u64::MAX).to_be_bytes()
}

impl By {
    /// Whether the route asks whoever judged it.
    fn counts(self, route: &settings::Machine) -> bool {
        match self {
            Self::Introspection(provider) => route.introspect == Some(provider),
            Self::Password(provider) => route.basic == Some(provider),
            Self::Signature(issuer) => route.issuers.contains(&issuer),
        }
    }
}

impl Known {
    /// SECURITY: AT-01, JX-14, BX-04. A token that holds, and is meant for somebody else, is none for here: asked for each
    /// request, since the same token may come to another route.
    fn admitted(self, route: &settings::Machine) -> Result<Arc<Machine>> {
        // Found out for another route, by somebody whom this one does not ask.
        if !self.by.counts(route) {
            return Err(Error::new(Kind::Token, "of an issuer that is not trusted here"));
        }
        // Whoever signed in is meant for wherever that sign-in counts.
        if matches!(self.by, By::Password(_)) {
            return Ok(self.machine);
        }
        if route.rfc9068 && !self.rfc9068 && matches!(self.by, By::Signature(_)) {
            return Err(Error::new(Kind::Token, "the token is no at+jwt of RFC 9068"));
        }
        // The section of an issuer has an audience of its own, which the token has met.
        let met = matches!(self.by, By::Signature(TokenIssuer::Issuer(_))) && route.audience.is_empty();
        if met || self.machine.audience.iter().any(|aud| route.audience.contains(aud)) {
            return Ok(self.machine);
        }
        Err(Error::new(Kind::Token, "the token is meant for another audience"))
    }
}

#[cfg(test)]
mod tests;
