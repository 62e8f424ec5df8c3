//! `Authorization` towards the upstream, where Doorward sets it: in place of whatever the client sent, and never the
//! client's own for want of another.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::assertion::Stamp;
use super::upstream_tokens::{Exchanges, OwnToken};
use super::who::Who;
use crate::config::settings::UpstreamAuth;
use crate::error::{Error, Kind, Result};
use crate::provider::Provider;
use crate::session::presented::secret_value;

/// What a route presents, compiled.
pub enum Presents {
    AccessToken,
    Assertion,
    /// The same for everybody.
    Fixed(HeaderValue),
    IdToken,
    Exchanged(Arc<Exchanges>),
    Own(Arc<OwnToken>),
}

/// The `Authorization` of one request.
pub enum Authorization {
    /// What the client sent, if anything.
    Theirs,
    /// In place of it.
    Ours(HeaderValue),
    /// Nobody is there to present anything for.
    Removed,
}

/// Why there is nothing to present.
#[derive(Debug)]
pub enum Unfit {
    Failed(Error),
    /// The provider gives no token for this upstream to whoever asks.
    Refused,
}

impl From<Error> for Unfit {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The tokens that routes of one configuration present: those who ask for the same share it.
#[derive(Default)]
pub struct Tokens {
    own: Vec<Arc<OwnToken>>,
    exchanges: Vec<Arc<Exchanges>>,
}

impl Tokens {
    /// What `route` presents; `None` = nothing of ours. A token of the configuration `before` is good for as long as its
    /// provider and its request are the same.
    ///
    /// # Errors
    /// `Internal`: a provider that is not there, a password that is no header value. No configuration that loads has either.
    pub fn presented(
        &mut self,
        route: &UpstreamAuth,
        providers: &[Arc<Provider>],
        before: Option<&Self>,
    ) -> Result<Option<Presents>> {
        let provider = |index: usize| {
            providers
                .get(index)
                .ok_or_else(|| Error::new(Kind::Internal, "upstream_auth names a provider that is not there"))
        };
        Ok(Some(match route {
            UpstreamAuth::None => return Ok(None),
            UpstreamAuth::AccessToken => Presents::AccessToken,
            UpstreamAuth::IdToken => Presents::IdToken,
            UpstreamAuth::Assertion => Presents::Assertion,
            UpstreamAuth::Basic { username, password } => {
                let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
                let value = secret_value(format!("Basic {pair}").into());
                Presents::Fixed(value.ok_or_else(|| Error::new(Kind::Internal, "a password that is no header value"))?)
            }
            UpstreamAuth::ClientCredentials(request) => {
                let token = OwnToken::new(provider(request.provider)?, request);
                let earlier = before.map(|b| b.own.as_slice()).unwrap_or_default();
                Presents::Own(shared(token, &mut self.own, earlier, OwnToken::is_same))
            }
            UpstreamAuth::TokenExchange(request) => {
                let exchange = Exchanges::new(provider(request.provider)?, request);
                let earlier = before.map(|b| b.exchanges.as_slice()).unwrap_or_default();
                Presents::Exchanged(shared(exchange, &mut self.exchanges, earlier, Exchanges::is_same))
            }
        }))
    }
}

fn shared<T>(new: T, known: &mut Vec<Arc<T>>, earlier: &[Arc<T>], is_same: impl Fn(&T, &T) -> bool) -> Arc<T> {
    let here = known.iter().find(|k| is_same(k, &new));
    if let Some(here) = here {
        return Arc::clone(here);
    }
    let kept = earlier.iter().find(|k| is_same(k, &new)).cloned().unwrap_or_else(|| Arc::new(new));
    known.push(Arc::clone(&kept));
    kept
}

impl Presents {
    /// Whether it is somebody's: of nobody nothing is presented.
    pub fn is_somebodys(&self) -> bool {
        match self {
            Self::AccessToken | Self::Assertion | Self::IdToken | Self::Exchanged(_) => true,
            Self::Fixed(_) | Self::Own(_) => false,
        }
    }

    /// # Errors
    /// What the upstream has to be shown is not to be had. It never goes without, and never with something else.
    pub async fn authorization(&self, who: Option<Who<'_>>, stamp: &Stamp<'_>) -> Result<Authorization, Unfit> {
        match self {
            Self::Fixed(value) => return Ok(Authorization::Ours(value.clone())),
            Self::Own(token) => {
                let value = match token.ready(stamp.now_ms) {
                    Some(value) => value,
                    // PERF: boxed: rare and large.
                    None => Box::pin(token.get()).await.map_err(|error| Unfit::Failed(failed(&error)))?,
                };
                return Ok(Authorization::Ours(value));
            }
            Self::AccessToken | Self::Assertion | Self::IdToken | Self::Exchanged(_) => {}
        }
        // Only where nobody has to sign in.
        let Some(who) = who else { return Ok(Authorization::Removed) };
        let value = match self {
            Self::AccessToken => who.presented().bearer(who.access_token()).cloned().ok_or_else(missing)?,
            Self::Assertion => stamp.assertion(who)?.bearer,
            Self::Exchanged(exchange) => {
                let subject = who.access_token().ok_or_else(missing)?;
                match exchange.ready(subject, stamp.now_ms) {
                    Some(value) => value,
                    None => Box::pin(exchange.get(subject)).await.map_err(|error| refused(&error))?,
                }
            }
            Self::IdToken => match who {
                Who::Person(session) => {
                    let token = session.data.tokens.id.as_ref();
                    who.presented().id_bearer(token).cloned().ok_or_else(missing)?
                }
                Who::Machine(_) => return Err(Unfit::Refused),
            },
            Self::Fixed(_) | Self::Own(_) => return Err(missing()),
        };
        Ok(Authorization::Ours(value))
    }
}

impl Authorization {
    /// After what the client sent was cleaned, so that no `Connection` names it away (H-04).
    pub fn put(self, headers: &mut HeaderMap) {
        match self {
            Self::Theirs => {}
            Self::Ours(value) => {
                headers.insert(AUTHORIZATION, value);
            }
            Self::Removed => {
                headers.remove(AUTHORIZATION);
            }
        }
    }
}

/// A session from before this route presented what it should.
fn missing() -> Unfit {
    Unfit::Failed(Error::new(
        Kind::UpstreamAuth,
        "the session lacks the token that this route presents: a new sign-in has it",
    ))
}

/// SECURITY: O-11, TX-01. What the provider said is for the log; 503 only where waiting helps.
fn failed(error: &Arc<Error>) -> Error {
    let kind = match error.kind() {
        Kind::ProviderUnavailable => Kind::ProviderUnavailable,
        _ => Kind::UpstreamAuth,
    };
    Error::new(kind, "there is no token to present upstream").because(Box::new(Arc::clone(error)))
}

/// As `failed`, but for what RFC 8693 §2.2.2 says of a subject or a target that is not acceptable: that is about this
/// person.
fn refused(error: &Arc<Error>) -> Unfit {
    match error.oauth_code() {
        Some("access_denied" | "invalid_grant" | "invalid_request" | "invalid_target") => {
            tracing::debug!(error = %error, "token exchange refused");
            Unfit::Refused
        }
        _ => Unfit::Failed(failed(error)),
    }
}
