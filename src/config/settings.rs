//! What the gateway runs by: parsed, typed, cross-checked. Only `config::load` makes one; nothing here is read again
//! from the file, and every field is valid by construction.

mod provider;
mod route;
mod server;
mod upstream;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::header::HeaderName;

use crate::secret::Secret;
pub use provider::*;
pub use route::*;
pub use server::*;
pub use upstream::*;

#[derive(Clone, Debug)]
pub struct Settings {
    pub server: Server,
    pub admin: Option<Admin>,
    /// At least one, unless every route is public or deny. Sorted by name.
    pub providers: Vec<Provider>,
    /// Trusted for the tokens of machines only. Sorted by name; no name is a provider's too.
    pub issuers: Vec<Issuer>,
    pub session: Session,
    pub telemetry: Telemetry,
    /// At least one.
    pub routes: Vec<Route>,
    /// What `IdentityValue::Custom` points into, each once.
    pub custom_claims: Vec<CustomClaim>,
    /// The dotted paths of `claim.…` in rules, each once.
    pub rule_claims: Vec<String>,
    /// Whatever was read for these settings, and whatever they name that is read when they are put to use.
    pub files: Files,
    /// One sentence each, printed by `check` and logged at start.
    pub warnings: Vec<String>,
}

/// Paths of files.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Files(pub Vec<PathBuf>);

// SECURITY: ZX-06: what does not look like a path may be a secret that was written in the wrong place.
impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} file(s)", self.0.len())
    }
}

impl Settings {
    /// What is kept of somebody's claims beside the four that have a name of their own: for headers, and for rules.
    pub fn kept_claims(&self) -> Vec<String> {
        let mut kept: Vec<String> = Vec::new();
        let custom = self.custom_claims.iter().filter_map(|custom| match &custom.source {
            Source::Claim(claim) => Some(claim),
            Source::Groups | Source::User => None,
        });
        for claim in custom.chain(&self.rule_claims) {
            if !kept.contains(claim) {
                kept.push(claim.clone());
            }
        }
        kept
    }

    /// The claims by which some rule keeps people out, as `claims` of a provider names them: who lacks one of them must
    /// really lack it.
    pub fn denying_claims(&self, claims: &Claims) -> Vec<String> {
        let policies = self.routes.iter().filter_map(|route| match &route.access {
            Access::Policy(policy) => Some(policy),
            Access::Authenticated | Access::Deny | Access::Optional | Access::Public => None,
        });
        let mut named: Vec<String> = Vec::new();
        for rule in policies.flat_map(|policy| &policy.deny) {
            let email = !rule.email.is_empty() || !rule.email_domain.is_empty();
            named.extend(email.then(|| claims.email.clone()));
            named.extend((!rule.group.is_empty()).then(|| claims.groups.clone()));
            named.extend(rule.claims.iter().map(|(path, _)| path.clone()));
        }
        named
    }

    /// The names of the providers whose ID tokens some route presents upstream.
    pub fn presented_id_tokens(&self) -> Vec<String> {
        let presents = |index: &usize| {
            let routes = self.routes.iter().filter(|route| route.upstream_auth == UpstreamAuth::IdToken);
            routes.into_iter().any(|route| route.providers.contains(index))
        };
        let names = self.providers.iter().enumerate().filter(|(index, _)| presents(index));
        names.map(|(_, provider)| provider.name.clone()).collect()
    }

    /// The names of every identity header, each once: what no client may send.
    pub fn identity_names(&self) -> Vec<HeaderName> {
        let mut names: Vec<HeaderName> = Vec::new();
        for header in self.routes.iter().flat_map(|r| &r.identity) {
            if !names.contains(&header.name) {
                names.push(header.name.clone());
            }
        }
        names
    }
}

#[derive(Clone, Debug)]
pub struct Session {
    /// At least one; the first seals.
    pub keys: Vec<Secret>,
    pub cookie: String,
    pub cookie_domain: Option<String>,
    pub same_site: SameSite,
    /// Absolute, from sign-in.
    pub lifetime: Duration,
    /// Zero = none.
    pub idle_timeout: Duration,
    pub refresh_before: Duration,
    pub refresh_grace: Duration,
    pub store: Store,
    /// Hosts other than `public_url`'s get their cookie from a sign-in there, by a one-time hand-over.
    pub hand_over: bool,
    /// Set with `Store::Redis`.
    pub redis: Option<Redis>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SameSite {
    Lax,
    Strict,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Store {
    Cookie,
    Memory,
    Redis,
}

/// A Redis or Valkey, and how it is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redis {
    pub servers: RedisServers,
    pub tls: bool,
    /// Of the servers that hold data; sentinels are asked without.
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// 0 in a cluster.
    pub database: u32,
    /// None = the machine's root certificates.
    pub ca: Option<PathBuf>,
    /// For each call.
    pub timeout: Duration,
    /// Before every key and channel; without braces.
    pub key_prefix: String,
}

/// Hosts without the brackets of IPv6.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RedisServers {
    One(String, u16),
    Unix(PathBuf),
    /// At least one sentinel.
    Sentinel {
        sentinels: Vec<(String, u16)>,
        master: String,
    },
    /// Some nodes, at least one: they name the others.
    Cluster(Vec<(String, u16)>),
}

impl RedisServers {
    /// Whether no other machine is named.
    pub fn are_here(&self) -> bool {
        let is_here = |host: &str| host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        match self {
            Self::One(host, _) => is_here(host),
            Self::Unix(_) => true,
            Self::Sentinel { sentinels: hosts, .. } | Self::Cluster(hosts) => {
                hosts.iter().all(|(host, _)| is_here(host))
            }
        }
    }
}

/// For messages: nothing of it is secret.
impl fmt::Display for RedisServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |(host, port): &(String, u16)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let places = |hosts: &[(String, u16)]| hosts.iter().map(place).collect::<Vec<_>>().join(",");
        match self {
            Self::One(host, port) => f.write_str(&place(&(host.clone(), *port))),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Sentinel { sentinels, master } => write!(f, "master {master} of sentinels {}", places(sentinels)),
            Self::Cluster(hosts) => write!(f, "cluster {}", places(hosts)),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Telemetry {
    /// A filter as tracing-subscriber reads it: `info`, `doorward=debug`.
    pub log: String,
    pub format: LogFormat,
    pub access_log: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Json,
    Text,
}
