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
    /// Trusted for the tokens of machines only. Sorted by name; no name is a provider's too.
    pub issuers: Vec<Issuer>,
    pub session: Session,
    pub telemetry: Telemetry,
    /// At least one.
    pub routes: Vec<Route>,
    /// What `IdentityValue::Custom` points into: each distinct claim and separator once.
    pub custom_claims: Vec<CustomClaim>,
    /// The dotted paths of `claim.…` in rules, each once.
    pub rule_claims: Vec<String>,
    /// One sentence each, printed by `check` and logged at start.
    pub warnings: Vec<String>,
}

impl Settings {
    /// What is kept of somebody's claims beside the four that have a name of their own: for headers, and for rules.
    pub fn kept_claims(&self) -> Vec<String> {
        let mut kept: Vec<String> = Vec::new();
        for claim in self.custom_claims.iter().map(|c| &c.claim).chain(&self.rule_claims) {
            if !kept.contains(claim) {
                kept.push(claim.clone());
            }
        }
        kept
    }

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
    /// A 403 names the rule that refused: for whoever may know how access is decided.
    pub show_rule: bool,
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
    /// Refused tokens and passwords of machines, for each client address; beyond, what is not known yet is 429.
    pub refused_tokens_per_minute: u32,
}

#[derive(Clone, Debug)]
pub struct Admin {
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Provider {
    /// The section's name, `[provider.NAME]`.
    pub name: String,
    pub kind: ProviderKind,
    /// As written: OpenID Connect compares it byte for byte. Of a provider without OpenID: the origin of its
    /// `authorization_url`, a name that no ID token bears.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Option<Secret>,
    pub client_auth: ClientAuth,
    /// Signs client assertions (`private_key_jwt`).
    pub client_key: Option<ClientKey>,
    /// Shown to the provider in TLS (RFC 8705).
    pub client_cert: Option<ClientCert>,
    /// Sender-constrained tokens (RFC 9449), towards the token endpoint and userinfo.
    pub dpop: bool,
    pub flow: Flow,
    pub response_mode: ResponseMode,
    pub callback: Callback,
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
    /// A JWT under the client secret (OpenID Connect Core §9).
    ClientSecretJwt,
    None,
    Post,
    /// A JWT under the client's own key (RFC 7523).
    PrivateKeyJwt,
    /// The certificate of the connection (RFC 8705 §2.1).
    TlsClientAuth,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProviderKind {
    /// OpenID Connect with discovery.
    Oidc,
    /// OAuth 2.0 without OpenID: no discovery, no ID token; who somebody is comes from `userinfo_url`.
    OAuth2(Box<OAuth2Endpoints>),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OAuth2Endpoints {
    pub authorization_url: Url,
    pub token_url: Url,
    pub userinfo_url: Url,
    /// A list of `{ email, primary, verified }`, as GitHub keeps it; None: userinfo says it all.
    pub emails_url: Option<Url>,
}

/// A private key in PEM, and how it signs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientKey {
    pub pem: Secret,
    /// RFC 7518 name; None = RS256, ES256, ES384 or EdDSA by the kind of key.
    pub alg: Option<String>,
    /// None = the key's RFC 7638 thumbprint.
    pub kid: Option<String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCert {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flow {
    Code,
    /// `response_type=id_token` by `form_post`, for providers without a token endpoint.
    ImplicitFormPost,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseMode {
    FormPost,
    Query,
}

/// Where the provider sends people back to (B-03).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Callback {
    /// `{prefix}/callback/NAME`: what comes there is of this provider. The rule where there are several.
    Own,
    /// `{prefix}/callback`. Beside other providers an answer must then name its issuer (RFC 9207).
    Shared,
}

/// `[issuer.NAME]`: whose tokens count, and nothing else: nobody signs in there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issuer {
    pub name: String,
    /// As written: compared byte for byte.
    pub issuer: String,
    /// None = from discovery.
    pub jwks_url: Option<Url>,
    /// At least one.
    pub audience: Vec<String>,
    /// Empty = RS, PS, ES256 and above, EdDSA.
    pub algorithms: Vec<String>,
    pub clock_skew: Duration,
    pub timeout: Duration,
    pub ca: Option<PathBuf>,
    pub insecure: bool,
    pub claims: Claims,
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
    /// Indexes into `Settings::providers`: one, or several to choose from; not empty wherever `access` can ask for a
    /// sign-in.
    pub providers: Vec<usize>,
    pub identity: Vec<IdentityHeader>,
    pub require: Require,
    /// Extra WebSocket origins; empty = the request's own only.
    pub origins: Vec<Origin>,
    /// Removed from the path sent upstream, after the decision. Canonical, begins with `/`, no trailing `/`.
    pub strip_prefix: Option<String>,
    /// Doorward judges `Authorization` here; without, it is the upstream's.
    pub machine: Option<Machine>,
    pub upstream_auth: UpstreamAuth,
    pub mode: Mode,
    /// The path goes upstream byte for byte as it came. Only of the one route of its host.
    pub raw_path: bool,
    /// A CORS preflight (Fetch §3.3.2) passes without a sign-in: browsers send none with it.
    pub allow_preflight: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    Enforce,
    /// Whoever is signed in passes, also where the policy says no; that is logged.
    Observe,
}

/// Tokens instead of cookies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Machine {
    pub issuers: Vec<TokenIssuer>,
    /// Not empty where `issuers` names a provider: a token for somebody else is none for here. Beside an
    /// `[issuer.NAME]`, empty = that section's own.
    pub audience: Vec<String>,
    /// Index into `Settings::providers`: who is asked about opaque tokens (RFC 7662).
    pub introspect: Option<usize>,
    /// Index into `Settings::providers`: HTTP Basic goes to its password grant.
    pub basic: Option<usize>,
    /// RFC 9728.
    pub resource_metadata: bool,
    /// Only tokens of RFC 9068 (`typ: at+jwt`, every claim of §2.2).
    pub rfc9068: bool,
}

/// Index into `Settings::providers` or `Settings::issuers`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenIssuer {
    Issuer(usize),
    Provider(usize),
}

/// What Doorward presents upstream in `Authorization`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UpstreamAuth {
    AccessToken,
    Assertion,
    Basic {
        username: String,
        password: Secret,
    },
    /// A token of Doorward's own.
    ClientCredentials(TokenRequest),
    IdToken,
    /// The client's own `Authorization` where Doorward does not judge it; else nothing.
    None,
    /// A token made of the person's (RFC 8693).
    TokenExchange(TokenRequest),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenRequest {
    /// Index into `Settings::providers`.
    pub provider: usize,
    pub scopes: Vec<String>,
    pub audience: Option<String>,
    pub resource: Option<String>,
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
    /// Dotted path, and the texts that one of its values must be.
    pub claims: Vec<(String, Vec<String>)>,
    pub scope: Vec<String>,
    /// `[provider.NAME]`: who signed them in, or issued their token.
    pub provider: Vec<String>,
    /// `[issuer.NAME]` or `[provider.NAME]`: who issued the token of the request. Nobody with a cookie has one.
    pub issuer: Vec<String>,
    pub client: Vec<String>,
    pub network: Vec<IpNet>,
    pub method: Vec<String>,
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
    /// The access token, or the token that the request came with.
    AccessToken,
    /// A JWT of ours.
    Assertion,
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
