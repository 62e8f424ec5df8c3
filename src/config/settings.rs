//! What the gateway runs by: parsed, typed, cross-checked. Only `config::load` makes one; nothing here is read again
//! from the file, and every field is valid by construction.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::header::HeaderName;
use ipnet::IpNet;
use url::Url;

use crate::http::origin::Origin;
use crate::secret::Secret;

#[derive(Clone, Debug)]
pub struct Settings {
    pub server: Server,
    pub admin: Option<Admin>,
    /// At least one, unless every route is public or deny. Sorted by name.
    pub providers: Vec<Provider>,
    pub session: Session,
    pub telemetry: Telemetry,
    /// At least one.
    pub routes: Vec<Route>,
    /// What `IdentityValue::Custom` points into: each distinct claim and separator once.
    pub custom_claims: Vec<CustomClaim>,
    /// One sentence each, printed by `check` and logged at start.
    pub warnings: Vec<String>,
}

impl Settings {
    /// The names of every custom identity header, each once: what no client may send.
    pub fn identity_names(&self) -> Vec<HeaderName> {
        let mut names: Vec<HeaderName> = Vec::new();
        for header in self.routes.iter().flat_map(|r| &r.identity) {
            if matches!(header.value, IdentityValue::Custom(_)) && !names.contains(&header.name) {
                names.push(header.name.clone());
            }
        }
        names
    }
}

#[derive(Clone, Debug)]
pub struct Server {
    /// At least one.
    pub listen: Vec<Listen>,
    /// What browsers type.
    pub public_url: Origin,
    /// Begins with `/`, does not end with one, canonical.
    pub prefix: String,
    pub trusted_proxies: Vec<IpNet>,
    pub drain_timeout: Duration,
    pub state_dir: PathBuf,
    /// Worker threads; 0 = one a core.
    pub workers: usize,
    pub tls: Option<Tls>,
    pub limits: Limits,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// As it is written in the configuration.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// `max-age` of Strict-Transport-Security; zero = no header.
    pub hsts: Duration,
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub header_bytes: usize,
    pub connections: usize,
    pub logins_per_minute: u32,
}

#[derive(Clone, Debug)]
pub struct Admin {
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Provider {
    /// The section's name, `[provider.NAME]`.
    pub name: String,
    /// As written: OpenID Connect compares it byte for byte.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Option<Secret>,
    pub client_auth: ClientAuth,
    pub scopes: Vec<String>,
    pub extra_params: Vec<(String, String)>,
    pub par: Par,
    /// Empty = what discovery lists, asymmetric only.
    pub id_token_algs: Vec<String>,
    pub timeout: Duration,
    /// None = `{origin}{prefix}/signed_out`.
    pub post_logout_redirect_uri: Option<String>,
    pub ca: Option<PathBuf>,
    pub clock_skew: Duration,
    /// `insecure = true`: plain http to hosts that are not loopback.
    pub insecure: bool,
    pub claims: Claims,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientAuth {
    /// `client_secret_basic` unless discovery only lists `client_secret_post`; `none` without a secret.
    Auto,
    Basic,
    None,
    Post,
}

/// Parameters of the authorization request that Doorward sets itself, or that would replace all of them: no
/// `extra_params` can (L-23).
pub const OWN_PARAMETERS: [&str; 12] = [
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "request",
    "request_uri",
    "response_mode",
    "response_type",
    "scope",
    "state",
];

/// Pushed authorization requests (RFC 9126).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Par {
    Auto,
    Off,
    Required,
}

/// Dotted paths into the ID token's claims, then userinfo's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claims {
    pub user: String,
    pub email: String,
    pub name: String,
    pub groups: String,
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

#[derive(Clone, Debug)]
pub struct Route {
    /// In logs and metrics; host and path where none was given. Unique.
    pub name: String,
    pub host: HostMatch,
    pub path: PathMatch,
    /// Empty = all. Upper case as sent; methods are case-sensitive.
    pub methods: Vec<String>,
    pub upstream: Upstream,
    pub access: Access,
    pub unauthenticated: Unauthenticated,
    /// Index into `Settings::providers`; set wherever `access` can ask for a sign-in.
    pub provider: Option<usize>,
    pub identity: Vec<IdentityHeader>,
    pub require: Require,
    /// Extra WebSocket origins; empty = the request's own only.
    pub origins: Vec<Origin>,
    /// Removed from the path sent upstream, after the decision. Canonical, begins with `/`, no trailing `/`.
    pub strip_prefix: Option<String>,
    /// A `[route.machine]` section is there: `Authorization` is judged by Doorward, not passed on.
    pub machine: bool,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum HostMatch {
    Any,
    /// Lower case, no port, no trailing dot.
    Exact(String),
    /// `*.example.com` is kept as `example.com`: one label before it.
    Wildcard(String),
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum PathMatch {
    Exact(String),
    /// By whole segments: `/a` matches `/a` and `/a/b`, never `/ab`.
    Prefix(String),
}

#[derive(Clone, Debug)]
pub enum Access {
    Authenticated,
    Deny,
    Optional,
    Policy(Policy),
    Public,
}

/// OR between rules, AND inside one; `deny` wins.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Empty beside `deny` rules: everybody who is signed in. Empty beside none: nobody; no configuration says so.
    pub allow: Vec<Rule>,
    pub deny: Vec<Rule>,
}

/// Every list that is not empty must match; any member of a list matches it.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    pub user: Vec<String>,
    /// Lower case.
    pub email: Vec<String>,
    /// Lower case, no `@`.
    pub email_domain: Vec<String>,
    pub group: Vec<String>,
    pub provider: Vec<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unauthenticated {
    /// A navigation is redirected, the rest gets 401.
    Auto,
    Redirect,
    Status401,
}

/// One header that tells the upstream who it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdentityHeader {
    pub name: HeaderName,
    pub value: IdentityValue,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IdentityValue {
    Email,
    /// Joined with a comma.
    Groups,
    Name,
    PreferredUsername,
    User,
    /// Index into `Settings::custom_claims`.
    Custom(usize),
}

/// A claim that some route sends upstream under a name of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CustomClaim {
    /// Dotted path.
    pub claim: String,
    pub separator: String,
}

/// Step-up: what the sign-in must have been like.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Require {
    pub acr: Vec<String>,
    pub max_age: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct Upstream {
    pub target: Target,
    pub options: UpstreamOptions,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// http or https; no query, no fragment, no user name. A path, if any, is put before the request's.
    Url(Url),
    Unix(PathBuf),
    /// `status:NNN` answers by itself.
    Status(u16),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpstreamOptions {
    pub connect_timeout: Duration,
    /// To the first byte of the answer; streams are not cut.
    pub response_timeout: Duration,
    /// How long an idle connection is kept; below the upstream's own keep-alive time.
    pub idle_timeout: Duration,
    pub ca: Option<PathBuf>,
    /// true: the request's own Host goes upstream; false: the upstream URL's.
    pub pass_host: bool,
}
