//! What only the provider can say: whose an opaque token is, and whose a user name and password. It is asked once for all
//! that wait for the same answer, and seldom again: what it said is remembered, good or bad.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use super::credentials::Basic;
use super::introspection;
use super::judge::{By, Digest, Known, Machines, Way};
use crate::clock;
use crate::config::{fold_case, settings};
use crate::error::{Error, Kind, Result};
use crate::provider::{PasswordGrant, peek_issuer};
use crate::secret::Secret;

/// How long a provider's good word is believed (IN-03), and how long its refusal.
const BELIEVED: Duration = Duration::from_secs(60);
const REFUSED: Duration = Duration::from_secs(10);

/// Wrong passwords that one user name may have within a minute, from everywhere.
const PASSWORDS_PER_MINUTE: u32 = 10;

/// One question to a provider.
struct Asked {
    /// Of the credentials.
    digest: Digest,
    /// The same, of this provider's alone.
    of_provider: Digest,
    client: IpAddr,
    /// Whose password it is.
    user: Option<Digest>,
}

impl Machines {
    /// An opaque token, by introspection (RFC 7662) at the provider of this index.
    pub(super) async fn introspected(
        self: &Arc<Self>,
        provider: usize,
        token: &str,
        digest: Digest,
        client: IpAddr,
    ) -> Result<Known> {
        let asked = Asked { digest, of_provider: self.of_provider(provider, &digest), client, user: None };
        let (this, token) = (Arc::clone(self), Secret::new(token));
        self.once(asked, async move { this.introspect(provider, token).await }).await
    }

    /// A user name and password, at the password grant of the provider of this index.
    pub(super) async fn by_password(
        self: &Arc<Self>,
        route: &settings::Machine,
        provider: usize,
        basic: &Basic,
        digest: Digest,
        client: IpAddr,
    ) -> Result<Known> {
        let (this, route) = (Arc::clone(self), route.clone());
        let (user, password) = (basic.user.clone(), basic.password.clone());
        let work = async move { this.password(&route, provider, &user, &password).await };
        // SECURITY: BX-10. In whichever spelling: many providers take them all for the same user.
        let counted = self.of_provider(provider, fold_case(basic.user.trim()).as_bytes());
        self.once(Asked { digest, of_provider: digest, client, user: Some(counted) }, work).await
    }

    /// Runs `work` unless its outcome is known, or somebody waits for it already.
    ///
    /// SECURITY: BX-10. Counted before, and forgiven if it was good: of those that are under way no more can be refused than
    /// may be.
    async fn once(
        self: &Arc<Self>,
        asked: Asked,
        work: impl Future<Output = Result<Known>> + Send + 'static,
    ) -> Result<Known> {
        let Asked { digest, of_provider, client, user } = asked;
        if self.refused.find(&of_provider).is_some() {
            return Err(Error::new(Kind::Token, "the provider refused it a moment ago"));
        }
        let start = || {
            let counted = self.limiter.admit(client, self.refused_per_minute)
                && user.is_none_or(|user| self.by_user.admit(user, PASSWORDS_PER_MINUTE));
            let this = Arc::clone(self);
            counted.then_some(async move {
                let outcome = work.await;
                if outcome.as_ref().is_err_and(|error| error.kind() == Kind::Token) {
                    this.refused.put(of_provider, (), 1, REFUSED);
                } else {
                    // It was good, or the provider's fault, which is nobody else's.
                    this.limiter.forgive(client, this.refused_per_minute);
                    if let Some(user) = user {
                        this.by_user.forgive(&user, PASSWORDS_PER_MINUTE);
                    }
                }
                if let Ok(known) = &outcome {
                    this.remember(digest, known, BELIEVED);
                }
                outcome.map_err(Arc::new)
            })
        };
        match self.lookups.join(of_provider, &self.control, start).await {
            Some(outcome) => outcome.map_err(|e| Error::new(e.kind(), e.to_string())),
            None => Err(Error::new(Kind::RateLimited, format!("too many refused tokens or passwords from {client}"))),
        }
    }

    async fn introspect(&self, at: usize, token: Secret) -> Result<Known> {
        let provider = self.providers.get(at).ok_or_else(gone)?;
        let settings = provider.settings();
        // SECURITY: IN-03. Whatever went wrong, nothing is known about the token: 503.
        let answer = provider.introspect(&token).await.map_err(no_verdict)?;
        let names_issuer = peek_issuer(token.expose()).is_some();
        let source = self.source_of_provider(settings);
        let claims = introspection::check(answer, &settings.issuer, source.skew, clock::unix_now());
        let machine = claims.and_then(|claims| Machine::from_claims(&claims, &source, token));
        let machine = machine.map_err(|fault| Error::new(Kind::Token, format!("the token is refused: {fault}")))?;
        Ok(Known { machine: Arc::new(machine), by: By::Introspection(at), rfc9068: false, names_issuer })
    }

    async fn password(&self, route: &settings::Machine, at: usize, user: &str, password: &Secret) -> Result<Known> {
        let provider = self.providers.get(at).ok_or_else(gone)?;
        let denying = self.denying.get(at).map(Vec::as_slice).unwrap_or_default();
        let granted = provider.password(user, password, denying).await;
        let granted = granted.map_err(|e| if e.kind() == Kind::Token { e } else { no_verdict(e) })?;
        let PasswordGrant { access, claims } = granted;
        let Some(mut claims) = claims else {
            return match self.way(route, access.expose())? {
                Way::Ask(provider) if provider == at => self.introspect(provider, access).await,
                // SECURITY: IN-01. It is this provider's own: no other one is shown it, or could say whose it is.
                Way::Ask(_) => Err(Error::new(Kind::Token, "an opaque token of a provider that is not asked here")),
                Way::Verify(issuer) => self.signed(issuer, access.expose()).await,
            };
        };
        // Believed for its own time, however long the ID token would be.
        claims.insert("exp".to_owned(), (clock::unix_now() + BELIEVED.as_secs()).into());
        let source = self.source_of_provider(provider.settings());
        let machine = Machine::from_person(&claims, &source, access);
        let machine = machine.map_err(|fault| Error::new(Kind::Token, format!("the ID token is refused: {fault}")))?;
        Ok(Known { machine: Arc::new(machine), by: By::Password(at), rfc9068: false, names_issuer: false })
    }
}

fn gone() -> Error {
    Error::new(Kind::Internal, "a route names a provider that is gone")
}

fn no_verdict(error: Error) -> Error {
    Error::new(Kind::ProviderUnavailable, "the provider cannot say whose it is").because(error)
}
