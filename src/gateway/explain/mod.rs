//! What would be done with a request, and why, without one: for `doorward explain`. It takes the steps of
//! `gateway::handle` by the same functions, with a caller who is made up of claims. It sends nothing and waits for nobody.

pub mod log;
mod words;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_util::task::TaskTracker;

use super::admit::{Admitted, admit};
use super::authorize::{Verdict, decide};
use super::certificate::CLIENT_CERT;
use super::conn::{Conn, Open, Worker};
use super::exchange::{Begin, Exchange};
use super::route::{self, Head, Nowhere, Routed};
use super::rules::Rules;
use super::who::Who;
use super::{Gateway, X_REQUEST_ID, endpoints, forward, resource};
use crate::clock;
use crate::config::settings::{Access, IdentityValue, Mode, Unauthenticated};
use crate::error::Error;
use crate::net::tls::{ClientCertificate, Handshake};
use crate::policy::{Answer, List, Trace};
use crate::provider::Provider;
use crate::secret::Secret;
use crate::session::data::{Begun, Tokens};
use crate::session::identity::Identity;
use crate::telemetry::access::Sink;
use crate::telemetry::writer::Writer;

/// A request that nobody has sent.
pub struct Question {
    pub method: Method,
    /// As in a Host header.
    pub authority: String,
    pub target: PathAndQuery,
    /// The client's address.
    pub client: IpAddr,
    /// The names in the client's certificate, as `config::certificate` spells them; empty = it shows none.
    pub certificate: Vec<String>,
    pub headers: HeaderMap,
    /// `None` = nobody has signed in.
    pub caller: Option<Caller>,
}

/// Whoever asks: what an ID token, or a machine's token, says of them.
pub struct Caller {
    pub claims: Map<String, Value>,
    pub voucher: Voucher,
}

/// Who vouches for the claims.
pub enum Voucher {
    /// Nobody was named: the route, and what the claims look like, say it.
    Guess,
    /// A token of `[issuer.NAME]` or `[provider.NAME]`.
    Issuer(String),
    /// A sign-in at `[provider.NAME]`.
    Provider(String),
}

/// Every field is part of the contract of `doorward explain --json`.
#[derive(Debug, Serialize)]
pub struct Explanation {
    pub method: String,
    /// As routes match it; null where the request could not be understood.
    pub host: Option<String>,
    pub path: Option<String>,
    pub client: IpAddr,
    pub caller: Known,
    /// Null where none matches, or Doorward answers by itself.
    pub route: Option<Chosen>,
    /// In the order in which they were tried; those after the one that decided were not.
    pub rules: Vec<Tried>,
    pub decision: Outcome,
    /// In words: the rule that refused, or what is wrong with the request.
    pub reason: Option<String>,
    /// What Doorward answers by itself; null where the upstream answers.
    pub status: Option<Status>,
    pub upstream: Option<Sent>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Allow,
    BadRequest,
    BadToken,
    Deny,
    MethodNotAllowed,
    NotFound,
    /// Refused by the policy, and let in because the route only observes.
    Observe,
    /// One of Doorward's own endpoints.
    Own,
    SignIn,
    StepUp,
}

/// Who the request is from, as the route sees it.
#[derive(Debug, Default, Serialize)]
pub struct Known {
    pub kind: Kind,
    /// What logs call them.
    pub name: Option<String>,
    /// The section that vouches for them.
    pub section: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Anonymous,
    Machine,
    Person,
}

#[derive(Debug, Serialize)]
pub struct Chosen {
    pub name: String,
    /// By what it matches.
    pub why: String,
    pub access: &'static str,
    /// The `[policy.NAME]`; null where the rules stand at the route, or there are none.
    pub policy: Option<String>,
    pub mode: &'static str,
}

#[derive(Debug, Serialize)]
pub struct Tried {
    /// `allow` or `deny`.
    pub list: &'static str,
    /// From 1.
    pub number: usize,
    /// As it is configured.
    pub rule: String,
    /// `matched`, `not matched`, or `unknown`: about somebody who is not known yet, or a claim that was not looked for.
    pub answer: &'static str,
}

#[derive(Debug, Serialize)]
pub struct Status {
    /// To a browser that opens the address.
    pub page: u16,
    /// To anything else.
    pub program: u16,
}

#[derive(Debug, Serialize)]
pub struct Sent {
    /// Where to, with the path that goes there.
    pub to: String,
    /// Tokens and what is new in each request are shown by name.
    pub headers: Vec<Header>,
}

#[derive(Debug, Serialize)]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// What is shown of a value that is secret, or another one each time.
const SHOWN: [(HeaderName, &str); 5] = [
    (AUTHORIZATION, "(credentials)"),
    (COOKIE, "(cookies)"),
    (X_REQUEST_ID, "(new)"),
    (HeaderName::from_static("traceparent"), "(new)"),
    (http::header::VIA, "(this instance)"),
];

/// `gateway` is not started: nothing of it may reach the network.
///
/// # Errors
/// A sentence on what the question lacks: who vouches for the claims, or a claim that names the user.
pub async fn explain(gateway: &Gateway, question: Question) -> Result<Explanation, String> {
    let (mut parts, mut exchange) = begin(gateway, &question)?;
    let method = parts.method.to_string();
    let blank = |decision, reason: &str, status: u16| Explanation {
        method: method.clone(),
        host: None,
        path: None,
        client: question.client,
        caller: Known::default(),
        route: None,
        rules: Vec::new(),
        decision,
        reason: Some(reason.to_owned()),
        status: Some(Status { page: status, program: status }),
        upstream: None,
    };
    let admitted = match admit(gateway, &exchange.conn, &parts, question.target.path()) {
        Ok(admitted) => admitted,
        Err(refusal) => return Ok(blank(Outcome::BadRequest, refusal.why(), refusal.status().as_u16())),
    };
    exchange.client = admitted.client;
    exchange.site = Some(Arc::clone(&admitted.site));
    let placed = |explanation: Explanation| Explanation {
        host: Some(admitted.site.host.clone()),
        path: Some(admitted.path.forward.to_string()),
        client: admitted.client,
        ..explanation
    };
    if resource::answer(gateway, &admitted, &parts.method).is_some()
        || endpoints::is_ours(gateway, &admitted.site, &admitted.path.matching)
    {
        return Ok(placed(Explanation { status: None, ..blank(Outcome::Own, "one of Doorward's own endpoints", 0) }));
    }
    let head = Head { method: &parts.method, headers: &parts.headers, has_body: false };
    let rules = match route::route(gateway, &admitted.site, &admitted.path, &head) {
        Routed::To(rules) => rules,
        Routed::Preflight(rules) => {
            exchange.preflight = true;
            rules
        }
        Routed::Nowhere(why) => {
            return Ok(placed(match why {
                Nowhere::Ambiguous => blank(Outcome::BadRequest, route::AMBIGUOUS, 400),
                Nowhere::Method => blank(Outcome::MethodNotAllowed, "routes match, but none with this method", 405),
                Nowhere::NotFound => blank(Outcome::NotFound, "no route matches", 404),
            }));
        }
    };

    let asks = !exchange.preflight && !matches!(rules.settings.access, Access::Public | Access::Deny);
    if let Some(caller) = question.caller.filter(|_| asks) {
        if is_machine(rules, &caller) {
            parts.headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer (access token)"));
            if let Err(error) = bring_token(gateway, rules, &mut exchange, &caller) {
                let why = error.to_string();
                return Ok(Explanation { route: Some(chosen(rules)), ..placed(blank(Outcome::BadToken, &why, 401)) });
            }
        } else {
            sign_in(gateway, rules, &mut exchange, &caller).await?;
        }
    }
    let mut tried = Collected::default();
    let verdict = decide(rules, &exchange, &parts.headers, &mut tried);
    let (decision, reason) = outcome(rules, &verdict);
    let passes = matches!(decision, Outcome::Allow | Outcome::Observe) && rules.upstream.is_some();
    let upstream = passes.then(|| sent(gateway, rules, &exchange, &admitted, &parts)).transpose();
    let upstream = upstream.map_err(|error| error.to_string())?;
    Ok(Explanation {
        caller: known(rules, &exchange),
        rules: tried.read(rules),
        decision,
        reason,
        status: status(rules, &parts.method, &verdict),
        upstream,
        route: Some(chosen(rules)),
        ..placed(blank(decision, "", 0))
    })
}

/// The head of the request, as a client would send it.
fn begin(gateway: &Gateway, question: &Question) -> Result<(Parts, Exchange), String> {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = question.method.clone();
    parts.uri = Uri::from(question.target.clone());
    parts.headers = question.headers.clone();
    let host = HeaderValue::try_from(&question.authority).map_err(|_| "the host is none".to_owned())?;
    parts.headers.insert(HOST, host);
    // Nothing is written to it.
    let writer = Writer::start().map_err(|error| error.to_string())?;
    let worker =
        Worker { index: 0, sink: Sink::new(false, writer), requests: Arc::default(), tunnels: TaskTracker::new() };
    // As `handle` does, for what the exchange gives back at its end.
    worker.requests.enter(usize::MAX);
    let open = Open::new(&Arc::new(AtomicUsize::new(0)), &gateway.metrics);
    let shown = (!question.certificate.is_empty()).then(|| ClientCertificate::supposed(question.certificate.clone()));
    let handshake = shown.map(|shown| Handshake { client: Some(Arc::new(shown)), ..Handshake::default() });
    let conn = Arc::new(Conn::new(question.client.to_canonical(), handshake, Arc::new(worker), open));
    let exchange = Exchange::begin(Begin {
        conn: &conn,
        method: &parts.method,
        target: Some(&question.target),
        id: HeaderValue::from_static("explain"),
        unrouted: &gateway.unrouted,
        now_ms: clock::unix_now_ms(),
        log: false,
    });
    Ok((parts, exchange))
}

/// A route that takes no tokens leaves them to its upstream; an ID token has no scope, and no client but its audience.
fn is_machine(rules: &Rules, caller: &Caller) -> bool {
    match caller.voucher {
        Voucher::Issuer(_) => true,
        Voucher::Provider(_) => false,
        Voucher::Guess => {
            let of_tokens = ["scope", "scp", "client_id", "gty", "idtyp"];
            rules.machine.is_some() && of_tokens.iter().any(|name| caller.claims.contains_key(*name))
        }
    }
}

/// Makes the caller known, as a token with these claims would have.
fn bring_token(gateway: &Gateway, rules: &Rules, exchange: &mut Exchange, caller: &Caller) -> Result<(), Error> {
    let (Some(machines), Some(tokens)) = (&gateway.machines, &rules.machine) else { return Ok(()) };
    let section = match &caller.voucher {
        Voucher::Issuer(name) => Some(name.as_str()),
        Voucher::Guess | Voucher::Provider(_) => None,
    };
    let machine = machines.suppose(&tokens.settings, &caller.claims, section)?;
    // Of a certificate that is made up of names, no token can say that it is bound to it: it is supposed to be.
    let supposed = exchange.conn.certificate().and(machine.certificate.as_deref());
    machine.holds_over(supposed)?;
    exchange.machine = Some(machine);
    Ok(())
}

/// Makes the caller known, as a sign-in with these claims would have.
async fn sign_in(gateway: &Gateway, rules: &Rules, exchange: &mut Exchange, caller: &Caller) -> Result<(), String> {
    let provider = provider_of(gateway, rules, caller)?;
    let identity = Identity::from_claims(&caller.claims, &provider.settings().claims, &gateway.kept)
        .map_err(|error| error.to_string())?;
    // Stands where a real one would, and is shown as it is.
    let tokens = Tokens { access: Some(Secret::new("(access token)")), ..Tokens::default() };
    let session = gateway.sessions.create(provider, identity, tokens, Begun::default()).await;
    exchange.session = Some(session.map_err(|error| error.to_string())?);
    Ok(())
}

/// Who has signed them in: the one that is named, else the one whose issuer the claims name, else the route's only one.
fn provider_of<'a>(gateway: &'a Gateway, rules: &'a Rules, caller: &Caller) -> Result<&'a Arc<Provider>, String> {
    if let Voucher::Provider(name) = &caller.voucher {
        return gateway.provider_named(name).ok_or_else(|| format!("there is no [provider.{name}]"));
    }
    let issuer = caller.claims.get("iss").and_then(Value::as_str);
    let named = rules.providers.iter().find(|provider| Some(provider.issuer()) == issuer);
    match (named, rules.providers.as_slice()) {
        (Some(provider), _) => Ok(provider),
        (None, [only]) => Ok(only),
        (None, _) => Err("several providers could vouch for these claims, or none: name it with --provider".to_owned()),
    }
}

fn known(rules: &Rules, exchange: &Exchange) -> Known {
    match exchange.who().filter(|who| rules.vouched(*who)) {
        None => Known::default(),
        Some(who) => {
            let (kind, section) = match who {
                Who::Machine(machine) => (Kind::Machine, &machine.section),
                Who::Person(session) => (Kind::Person, &session.data.provider),
            };
            Known { kind, name: Some(who.name().to_owned()), section: Some(section.clone()) }
        }
    }
}

fn chosen(rules: &Rules) -> Chosen {
    let route = &rules.settings;
    let (access, policy) = match &route.access {
        Access::Authenticated => ("authenticated", None),
        Access::Deny => ("deny", None),
        Access::Optional => ("optional", None),
        Access::Policy(policy) => ("policy", policy.name.clone()),
        Access::Public => ("public", None),
    };
    let mode = match route.mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    };
    Chosen { name: rules.name().to_owned(), why: words::matches(route), access, policy, mode }
}

fn outcome(rules: &Rules, verdict: &Verdict) -> (Outcome, Option<String>) {
    match verdict {
        Verdict::Allow => (Outcome::Allow, None),
        Verdict::BadCredentials => (Outcome::BadToken, Some("these credentials do not convince".to_owned())),
        Verdict::Deny(reason) => (Outcome::Deny, Some(reason.text(rules))),
        Verdict::Observe(reason) => (Outcome::Observe, Some(reason.text(rules))),
        Verdict::SignIn => (Outcome::SignIn, None),
        Verdict::StepUp => (Outcome::StepUp, Some(words::required(&rules.settings.require))),
    }
}

/// As `challenge` and `turn_away` answer.
fn status(rules: &Rules, method: &Method, verdict: &Verdict) -> Option<Status> {
    let reads = *method == Method::GET || *method == Method::HEAD;
    let same = |status| Some(Status { page: status, program: status });
    match verdict {
        Verdict::Allow | Verdict::Observe(_) => rules.answers().and_then(|status| same(status.as_u16())),
        Verdict::BadCredentials => same(401),
        Verdict::Deny(_) => same(403),
        Verdict::SignIn | Verdict::StepUp => match rules.settings.unauthenticated {
            Unauthenticated::Auto if reads => Some(Status { page: 302, program: 401 }),
            Unauthenticated::Redirect if reads => same(302),
            Unauthenticated::Auto | Unauthenticated::Redirect | Unauthenticated::Status401 => same(401),
        },
    }
}

/// The request as it would go on.
fn sent(
    gateway: &Gateway,
    rules: &Rules,
    exchange: &Exchange,
    admitted: &Admitted<'_>,
    parts: &Parts,
) -> Result<Sent, Error> {
    let mut parts = parts.clone();
    forward::prepare(gateway, exchange, admitted, rules, &mut parts, None)?;
    let headers = &mut parts.headers;
    if rules.settings.client_cert && exchange.conn.certificate().is_some() {
        headers.insert(CLIENT_CERT, HeaderValue::from_static("(certificate)"));
    }
    match forward::presented(rules, exchange) {
        None => {}
        // Which one it would be is the provider's to say.
        Some(presents)
            if !exchange.preflight
                && (!presents.is_somebodys() || exchange.who().is_some_and(|who| rules.vouched(who))) =>
        {
            headers.insert(AUTHORIZATION, HeaderValue::from_static("-"));
        }
        Some(_) => {
            headers.remove(AUTHORIZATION);
        }
    }
    // Which one of several it would be is decided by what they are doing then.
    let target = rules.settings.upstream.targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    let path = forward::upstream_uri(rules, admitted, &parts.uri).map_or_else(String::new, |uri| uri.to_string());
    let headers = headers.iter().map(|(name, value)| shown(rules, name, value)).collect();
    Ok(Sent { to: format!("{target}{path}"), headers })
}

fn shown(rules: &Rules, name: &HeaderName, value: &HeaderValue) -> Header {
    let secret = rules.settings.identity.iter().filter(|header| header.name == *name).find_map(|h| match h.value {
        IdentityValue::AccessToken => Some("(access token)"),
        IdentityValue::Assertion => Some("(assertion)"),
        _ => None,
    });
    let stand_in = || SHOWN.iter().find(|(hidden, _)| hidden == name).map(|(_, shown)| *shown);
    let value =
        secret.or_else(stand_in).map_or_else(|| String::from_utf8_lossy(value.as_bytes()).into_owned(), str::to_owned);
    Header { name: name.to_string(), value }
}

/// The rules that were tried.
#[derive(Default)]
struct Collected(Vec<(List, usize, Answer)>);

impl Trace for Collected {
    fn tried(&mut self, list: List, number: usize, answer: Answer) {
        self.0.push((list, number, answer));
    }
}

impl Collected {
    fn read(&self, rules: &Rules) -> Vec<Tried> {
        let Access::Policy(policy) = &rules.settings.access else { return Vec::new() };
        let tried = |(list, number, answer): &(List, usize, Answer)| {
            let all = match list {
                List::Allow => &policy.allow,
                List::Deny => &policy.deny,
            };
            Tried {
                list: list.name(),
                number: number + 1,
                rule: all.get(*number).map(words::rule).unwrap_or_default(),
                answer: words::answer(*answer),
            }
        };
        self.0.iter().map(tried).collect()
    }
}
