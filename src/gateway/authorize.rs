//! May they? The route's rules over the identity. Every path through here ends in one verdict, and an error is never
//! `Allow`.

use http::header::{AUTHORIZATION, HeaderMap};

use super::exchange::Exchange;
use super::rules::Rules;
use crate::config::settings::Access;
use crate::policy::{Decision, Facts};
use crate::session::Session;

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
    if rules.settings.machine && headers.get(AUTHORIZATION).is_some_and(|v| !v.is_empty()) {
        return Verdict::BadCredentials;
    }
    let session = exchange.session.as_deref().filter(|s| rules.vouched(s));
    match (&rules.settings.access, session) {
        (Access::Deny, _) => Verdict::Deny("access = \"deny\"".to_owned()),
        (Access::Public, _) => Verdict::Allow,
        (Access::Optional, None) => Verdict::Allow,
        (_, None) => Verdict::SignIn,
        (Access::Policy(_), Some(session)) => match rules.policy.as_ref().map(|p| p.decide(&facts(session))) {
            Some(Decision::Allow) => step_up(rules, session, exchange.now_ms),
            Some(Decision::Deny { rule }) => Verdict::Deny(rule),
            None => Verdict::Deny("no policy was compiled".to_owned()),
        },
        (Access::Optional | Access::Authenticated, Some(session)) => step_up(rules, session, exchange.now_ms),
    }
}

fn facts(session: &Session) -> Facts<'_> {
    let who = &session.data.identity;
    Facts {
        user: &who.user,
        email: who.email.as_deref(),
        email_verified: who.email_verified,
        groups: &who.groups,
        provider: &session.data.provider,
    }
}

fn step_up(rules: &Rules, session: &Session, now_ms: u64) -> Verdict {
    let (require, who) = (&rules.settings.require, &session.data.identity);
    let acr = require.acr.is_empty() || who.acr.as_ref().is_some_and(|acr| require.acr.contains(acr));
    // The same tolerance as when the ID token was checked: a sign-in that passed there must not be asked again here.
    let skew = rules.provider.as_ref().map_or(0, |p| p.settings().clock_skew.as_secs());
    let fresh = require.max_age.is_none_or(|max| {
        let now = now_ms / 1000;
        who.auth_time.is_some_and(|at| at <= now + skew && now.saturating_sub(at) <= max.as_secs().saturating_add(skew))
    });
    if acr && fresh { Verdict::Allow } else { Verdict::StepUp }
}
