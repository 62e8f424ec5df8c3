//! A token that nobody has sent: for explaining what one with these claims would be worth.

use serde_json::{Map, Value};

use super::*;

impl Machines {
    /// Whoever a token with these claims would speak for on a route with these settings, if it held: only what `admitted`
    /// asks is asked. `section` names the issuer, else `iss` does.
    ///
    /// # Errors
    /// `Token`, as `judge` has it.
    pub fn suppose(
        &self,
        route: &settings::Machine,
        claims: &Map<String, Value>,
        section: Option<&str>,
    ) -> Result<Arc<Machine>> {
        let refused = |what: String| Error::new(Kind::Token, what);
        let iss = claims.get("iss").and_then(Value::as_str);
        let is_meant = |issuer: &TokenIssuer| match section {
            Some(name) => self.source(*issuer).is_some_and(|source| source.section == name),
            None => iss.is_some() && self.iss(*issuer) == iss,
        };
        let signed = route.issuers.iter().copied().find(is_meant).map(|issuer| (issuer, By::Signature(issuer)));
        // An answer about an opaque token need not say who issued it.
        let asked = route.introspect.map(|at| (TokenIssuer::Provider(at), By::Introspection(at)));
        let asked = asked.filter(|(issuer, _)| is_meant(issuer) || section.is_none() && iss.is_none());
        let found = signed.or(asked);
        let (issuer, by) = found.ok_or_else(|| refused("of an issuer that is not trusted here".to_owned()))?;
        let source = self.source(issuer).ok_or_else(|| refused("of an issuer that is gone".to_owned()))?;
        let machine = Machine::from_claims(claims, &source, Secret::new("(access token)"))
            .map_err(|fault| refused(format!("the token is refused: {fault}")))?;
        let own = match issuer {
            TokenIssuer::Issuer(at) => self.issuers.get(at).map_or(&[][..], |issuer| &issuer.settings().audience),
            TokenIssuer::Provider(_) => &[],
        };
        if !own.is_empty() && !machine.audience.iter().any(|aud| own.contains(aud)) {
            return Err(refused("aud is none of the issuer's configured audience".to_owned()));
        }
        Known { machine: Arc::new(machine), by, rfc9068: true, names_issuer: true }.admitted(route)
    }

    fn source(&self, issuer: TokenIssuer) -> Option<Source<'_>> {
        match issuer {
            TokenIssuer::Issuer(at) => self.issuers.get(at).map(|issuer| self.source_of_issuer(issuer.settings())),
            TokenIssuer::Provider(at) => {
                self.providers.get(at).map(|provider| self.source_of_provider(provider.settings()))
            }
        }
    }
}
