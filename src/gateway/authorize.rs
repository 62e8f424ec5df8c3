//! May they? The route's rules over the identity. Every path through here ends in one verdict, and an error is never
//! `Allow`.

use http::header::{AUTHORIZATION, HeaderMap};

use super::exchange::Exchange;
use super::rules::Rules;
use super::who::Who;
use crate::config::settings::Access;
use crate::policy::{Decision, Facts, Refusal, Trace};

pub enum Verdict {
    Allow,
    /// Signed in and refused by the policy, which on this route is only watched.
    Observe(Reason),
    /// `Authorization` was brought where Doorward judges it, and does not convince.
    BadCredentials,
    Deny(Reason),
    /// Nobody, nobody that this route knows, or somebody of whom the policy does not know enough: a sign-in is due.
    SignIn,
    /// Signed in, but not in the way that the route requires (C-14).
    StepUp,
}

/// Why not. PERF: put into words only where they are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// `access = "deny"`.
    Access,
    Policy(Refusal),
    /// The policy asks about a claim that this token was not searched for.
    Unknown,
    /// The upstream cannot be told who it is, and would take them for Doorward itself.
    Nameless,
    /// Nor can it be shown a token for them.
    NoToken,
    /// By a fault of ours.
    NoPolicy,
}

impl Reason {
    pub fn text(self, rules: &Rules) -> String {
        match (self, &rules.policy) {
            (Self::Access, _) => "access = \"deny\"".to_owned(),
            (Self::Policy(refusal), Some(policy)) => policy.name(refusal).to_string(),
            (Self::Unknown, _) => "a claim that was not looked for".to_owned(),
            (Self::NoToken, _) => "no token for this upstream".to_owned(),
            (Self::Nameless, _) => "no name that this upstream could be told".to_owned(),
            (Self::Policy(_), None) | (Self::NoPolicy, _) => "no policy was compiled".to_owned(),
        }
    }
}

pub fn authorize(rules: &Rules, exchange: &Exchange, headers: &HeaderMap) -> Verdict {
    decide(rules, exchange, headers, &mut ())
}

/// The one decision: of requests that are served and of those that are only explained.
pub fn decide<T: Trace>(rules: &Rules, exchange: &Exchange, headers: &HeaderMap, trace: &mut T) -> Verdict {
    if exchange.preflight {
        return preflight(rules, exchange, trace);
    }
    // SECURITY: JX-27. Credentials that were brought where Doorward judges them, and of which nothing came, are not made
    // good by a cookie beside them.
    if rules.machine.is_some() && exchange.machine.is_none() && headers.contains_key(AUTHORIZATION) {
        return Verdict::BadCredentials;
    }
    let who = exchange.who().filter(|who| rules.vouched(*who));
    let verdict = match (&rules.settings.access, who) {
        (Access::Deny, _) => Verdict::Deny(Reason::Access),
        (Access::Public, _) | (Access::Optional, None) => Verdict::Allow,
        (Access::Authenticated, None) => Verdict::SignIn,
        (Access::Policy(_), who) => by_policy(rules, exchange, who, trace),
        (Access::Optional | Access::Authenticated, Some(who)) => step_up(rules, who, exchange.now_ms),
    };
    match (&rules.required, verdict) {
        // SECURITY: B-14. Also where a rule lets nobody in particular through.
        (Some(value), Verdict::Allow | Verdict::Observe(_)) if who.is_none_or(|who| who.header(value).is_empty()) => {
            if who.is_some() {
                Verdict::Deny(Reason::Nameless)
            } else {
                Verdict::SignIn
            }
        }
        (_, verdict) => verdict,
    }
}

fn by_policy<T: Trace>(rules: &Rules, exchange: &Exchange, who: Option<Who<'_>>, trace: &mut T) -> Verdict {
    let Some(policy) = &rules.policy else { return Verdict::Deny(Reason::NoPolicy) };
    // Like the address it is the connection's, whoever is signed in.
    let certificate = exchange.certificate().map_or(&[][..], |certificate| &certificate.names);
    let nobody = Facts { certificate, ..Facts::anonymous(exchange.client, exchange.method()) };
    let decision = policy.decide(&who.map_or(nobody, |who| facts(who, nobody)), trace);
    match (decision, who) {
        (Decision::Allow, None) => Verdict::Allow,
        (Decision::Allow, Some(who)) => step_up(rules, who, exchange.now_ms),
        (Decision::Observe(refusal), Some(who)) => match step_up(rules, who, exchange.now_ms) {
            Verdict::Allow => Verdict::Observe(Reason::Policy(refusal)),
            first => first,
        },
        (Decision::Deny(refusal) | Decision::Observe(refusal), _) => Verdict::Deny(Reason::Policy(refusal)),
        // SECURITY: a session from before the rule: the next one knows the claim. A token says no more when it comes again.
        (Decision::Unknown, Some(Who::Machine(_))) => Verdict::Deny(Reason::Unknown),
        (Decision::Unknown | Decision::SignIn, _) => Verdict::SignIn,
    }
}

/// A preflight, where the route lets them pass: it comes from nobody, however many are signed in. What refuses a request
/// whoever sends it refuses this one too.
fn preflight<T: Trace>(rules: &Rules, exchange: &Exchange, trace: &mut T) -> Verdict {
    match &rules.settings.access {
        Access::Deny => Verdict::Deny(Reason::Access),
        // The upstream would take whoever is not named for Doorward itself.
        _ if rules.required.is_some() => Verdict::Deny(Reason::Nameless),
        Access::Authenticated | Access::Optional | Access::Public => Verdict::Allow,
        Access::Policy(_) => match by_policy(rules, exchange, None, trace) {
            Verdict::SignIn => Verdict::Allow,
            verdict => verdict,
        },
    }
}

fn facts<'a>(who: Who<'a>, nobody: Facts<'a>) -> Facts<'a> {
    let identity = who.identity();
    let known = Facts {
        known: true,
        user: Some(identity.user.as_str()).filter(|user| !user.is_empty()),
        email: identity.email.as_deref(),
        email_verified: identity.email_verified,
        groups: &identity.groups,
        claims: Some(&identity.kept),
        ..nobody
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
    if is_strong_enough(rules, who, now_ms) { Verdict::Allow } else { Verdict::StepUp }
}

/// Whether the sign-in was such as the route requires.
pub fn is_strong_enough(rules: &Rules, who: Who<'_>, now_ms: u64) -> bool {
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
    acr && fresh
}
