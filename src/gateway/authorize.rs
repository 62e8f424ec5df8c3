//! May they? The route's rules over the identity. Every path through here ends in one verdict, and an error is never
//! `Allow`.

use http::header::{AUTHORIZATION, HeaderMap};

use super::exchange::Exchange;
use super::rules::Rules;
use super::who::Who;
use crate::config::settings::Access;
use crate::policy::{Decision, Facts};

pub enum Verdict {
    Allow,
    /// `Authorization` was brought where Doorward judges it, and does not convince.
    BadCredentials,
    /// Which rule said no, for the log.
    Deny(String),
    /// Nobody, or nobody that this route knows: a sign-in is due.
    SignIn,
    /// Signed in, but not in the way that the route requires (C-14).
    StepUp,
}

pub fn authorize(rules: &Rules, exchange: &Exchange, headers: &HeaderMap) -> Verdict {
    // Where tokens of machines are judged, a bad one is not made good by a cookie beside it (JX-27). This version trusts
    // no issuer of such tokens, so none convinces.
    if rules.settings.machine.is_some() && headers.get(AUTHORIZATION).is_some_and(|v| !v.is_empty()) {
        return Verdict::BadCredentials;
    }
    let who = exchange.who().filter(|who| rules.vouched(*who));
    match (&rules.settings.access, who) {
        (Access::Deny, _) => Verdict::Deny("access = \"deny\"".to_owned()),
        (Access::Public, _) => Verdict::Allow,
        (Access::Optional, None) => Verdict::Allow,
        (_, None) => Verdict::SignIn,
        (Access::Policy(_), Some(who)) => match rules.policy.as_ref().map(|p| p.decide(&facts(who, exchange))) {
            Some(Decision::Allow) => step_up(rules, who, exchange.now_ms),
            Some(Decision::Deny { rule }) => Verdict::Deny(rule),
            None => Verdict::Deny("no policy was compiled".to_owned()),
        },
        (Access::Optional | Access::Authenticated, Some(who)) => step_up(rules, who, exchange.now_ms),
    }
}

/// A preflight where the route lets them pass: a browser sends it without credentials, so that nobody is known however
/// many are signed in.
pub fn preflight(rules: &Rules) -> Verdict {
    match &rules.settings.access {
        Access::Deny => Verdict::Deny("access = \"deny\"".to_owned()),
        Access::Authenticated | Access::Optional | Access::Policy(_) | Access::Public => Verdict::Allow,
    }
}

fn facts<'a>(who: Who<'a>, exchange: &'a Exchange) -> Facts<'a> {
    let identity = who.identity();
    let known = Facts {
        user: Some(identity.user.as_str()).filter(|user| !user.is_empty()),
        email: identity.email.as_deref(),
        email_verified: identity.email_verified,
        groups: &identity.groups,
        claims: Some(&identity.kept),
        ..Facts::anonymous(exchange.client, exchange.method())
    };
    match who {
        Who::Machine(machine) => Facts {
            scopes: &machine.scopes,
            client: machine.client.as_deref(),
            provider: machine.is_provider.then_some(machine.section.as_str()),
            issuer: Some(&machine.section),
            ..known
        },
        Who::Person(session) => Facts { provider: Some(&session.data.provider), ..known },
    }
}

fn step_up(rules: &Rules, who: Who<'_>, now_ms: u64) -> Verdict {
    let (require, identity) = (&rules.settings.require, who.identity());
    let acr = require.acr.is_empty() || identity.acr.as_ref().is_some_and(|acr| require.acr.contains(acr));
    // The same tolerance as when the ID token was checked: a sign-in that passed there must not be asked again here.
    let skew = rules.skew(who);
    let fresh = require.max_age.is_none_or(|max| {
        let now = now_ms / 1000;
        identity
            .auth_time
            .is_some_and(|at| at <= now + skew && now.saturating_sub(at) <= max.as_secs().saturating_add(skew))
    });
    if acr && fresh { Verdict::Allow } else { Verdict::StepUp }
}
