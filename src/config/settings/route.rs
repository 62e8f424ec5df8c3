//! One route: what it matches, who may pass, what the upstream sees.

use std::time::Duration;

use http::header::HeaderName;
use ipnet::IpNet;

use super::Upstream;
use crate::http::origin::Origin;
use crate::secret::Secret;

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
    /// What the client's certificate says goes upstream too, whoever has signed in.
    pub client_cert: bool,
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
    /// `[policy.NAME]`; None = written at the route.
    pub name: Option<String>,
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
    /// As `config::certificate` spells them.
    pub certificate: Vec<String>,
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
    /// A request that has no value for it does not pass: without it the upstream would take it for somebody else's.
    pub required: bool,
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
    /// The subject at the provider, whatever `claims.user` says.
    Sub,
    User,
    /// Index into `Settings::custom_claims`.
    Custom(usize),
}

/// What some route sends upstream in a form of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CustomClaim {
    pub source: Source,
    pub form: Form,
    /// Values that begin so are left out: they mean something else to the upstream.
    pub without: Option<&'static str>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// Dotted path.
    Claim(String),
    Groups,
    User,
}

/// How the values of one claim become header values.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Form {
    /// A field each.
    Each,
    /// One field, with this between them.
    Joined(String),
    /// The one value there is; of several none.
    Single,
}

/// Step-up: what the sign-in must have been like.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Require {
    pub acr: Vec<String>,
    pub max_age: Option<Duration>,
}
