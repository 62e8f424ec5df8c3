//! Whether a token holds, for one configuration. What holds is remembered by the token's hash until it expires or five
//! minutes are over; what that is worth on a route is looked at anew for each request.
//!
//! What strangers can cost is bounded: one verification for each token that is not known, as many refusals a minute for an
//! address as `server.limits.refused_tokens_per_minute` says, and the fetches of keys that `provider` bounds.

mod suppose;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;

use super::Machine;
use super::credentials::Credentials;
use super::principal::Source;
use super::token::{self, Expect, Token};
use crate::clock;
use crate::config::settings::{self, CustomClaim, Settings, TokenIssuer};
use crate::crypto::jwk::KeySet;
use crate::crypto::jws;
use crate::error::{Error, Kind, Result};
use crate::provider::checks::Fault;
use crate::provider::{Issuer, Provider, peek_issuer};
use crate::secret::Secret;
use crate::session::limit::Limiter;
use crate::store::cache::Bounded;

/// What everything that is remembered may weigh.
const KNOWN_BYTES: u64 = 64 << 20;

/// How long it is believed that a token holds: so long a token of a key that was taken out, or of a client that was locked
/// out, goes on (JX-20).
const BELIEVED: Duration = Duration::from_secs(300);

/// SHA-256 of a token.
pub type Digest = [u8; 32];

/// A machine, and how it was found out who it is.
#[derive(Clone)]
struct Known {
    machine: Arc<Machine>,
    by: By,
    rfc9068: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum By {
    /// The signature of this issuer.
    Signature(TokenIssuer),
}

pub struct Machines {
    /// As in the settings, and so are `issuers`.
    providers: Vec<Arc<Provider>>,
    issuers: Vec<Arc<Issuer>>,
    kept: Vec<String>,
    custom: Vec<CustomClaim>,
    known: Bounded<Digest, Known>,
    /// Of refusals, by address; it outlives a configuration.
    limiter: Arc<Limiter>,
    refused_per_minute: u32,
}

impl Machines {
    pub fn new(
        settings: &Settings,
        providers: &[Arc<Provider>],
        issuers: &[Arc<Issuer>],
        kept: &[String],
        limiter: Arc<Limiter>,
    ) -> Self {
        Self {
            providers: providers.to_vec(),
            issuers: issuers.to_vec(),
            kept: kept.to_vec(),
            custom: settings.custom_claims.clone(),
            known: Bounded::new(KNOWN_BYTES),
            limiter,
            refused_per_minute: settings.server.limits.refused_tokens_per_minute,
        }
    }

    pub fn digest(&self, credentials: &Credentials<'_>) -> Digest {
        let mut out = Digest::default();
        match credentials {
            Credentials::Bearer(token) => {
                out.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
            }
            Credentials::Basic(_) => {}
        }
        out
    }

    /// Whoever is known by this hash already, on a route with these settings. `None` = to be judged.
    ///
    /// # Errors
    /// `Token` where the token holds, and is not meant for here.
    pub fn recall(&self, route: &settings::Machine, digest: &Digest, now_ms: u64) -> Option<Result<Arc<Machine>>> {
        let known = self.known.find(digest)?;
        // SECURITY: JX-18. Not on the cache's own clock alone.
        let holds = known.machine.expires_ms > now_ms && known.by.counts(route);
        holds.then(|| known.admitted(route))
    }

    /// Whoever the credentials speak for. `client` is whose account a refusal goes on.
    ///
    /// # Errors
    /// `Token` where they do not hold, or not here. `RateLimited` where the client has had too many refused.
    /// `KeysUnavailable` says nothing about them.
    pub async fn judge(
        &self,
        route: &settings::Machine,
        credentials: &Credentials<'_>,
        digest: Digest,
        client: IpAddr,
    ) -> Result<Arc<Machine>> {
        // SECURITY: BX-10. Before anything is verified.
        if !self.limiter.has_room(client, self.refused_per_minute) {
            return Err(Error::new(Kind::RateLimited, format!("too many refused tokens from {client}")));
        }
        let judged = match credentials {
            Credentials::Bearer(token) => self.signed(route, token).await,
            Credentials::Basic(_) => Err(Error::new(Kind::Token, "user names and passwords are not taken here")),
        };
        let outcome = judged.and_then(|known| {
            let now_ms = clock::unix_now_ms();
            let left = Duration::from_millis(known.machine.expires_ms.saturating_sub(now_ms));
            self.known.put(digest, known.clone(), known.machine.weight(), left.min(BELIEVED));
            known.admitted(route)
        });
        if outcome.as_ref().is_err_and(|e| e.kind() == Kind::Token) {
            self.limiter.admit(client, self.refused_per_minute);
        }
        outcome
    }

    async fn signed(&self, route: &settings::Machine, token: &str) -> Result<Known> {
        let refused = |what| Error::new(Kind::Token, what);
        let iss = peek_issuer(token).ok_or_else(|| refused("not a signed token that names its issuer"))?;
        // SECURITY: AT-01, JX-15. What the token says of itself chooses among the route's issuers, and nothing else.
        let issuer = route.issuers.iter().copied().find(|issuer| self.iss(*issuer) == Some(iss.as_str()));
        let issuer = issuer.ok_or_else(|| refused("of an issuer that is not trusted here"))?;
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
            Ok(Known { machine: Arc::new(machine), by: By::Signature(issuer), rfc9068 })
        });
        made.map_err(|fault: Fault| Error::new(Kind::Token, format!("the token is refused: {fault}")))
    }

    fn iss(&self, issuer: TokenIssuer) -> Option<&str> {
        match issuer {
            TokenIssuer::Issuer(at) => self.issuers.get(at).map(|issuer| issuer.settings().issuer.as_str()),
            TokenIssuer::Provider(at) => self.providers.get(at).map(|provider| provider.issuer()),
        }
    }

    fn source_of_provider<'a>(&'a self, settings: &'a settings::Provider) -> Source<'a> {
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

impl By {
    /// Whether the route asks whoever judged it.
    fn counts(self, route: &settings::Machine) -> bool {
        match self {
            Self::Signature(issuer) => route.issuers.contains(&issuer),
        }
    }
}

impl Known {
    /// SECURITY: AT-01, JX-14, BX-04. A token that holds, and is meant for somebody else, is none for here: asked for each
    /// request, since the same token may come to another route.
    fn admitted(self, route: &settings::Machine) -> Result<Arc<Machine>> {
        if route.rfc9068 && !self.rfc9068 {
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
