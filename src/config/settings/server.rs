//! How Doorward is reached, and what it lets whoever reaches it take.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::http::origin::Origin;

#[derive(Clone, Debug)]
pub struct Server {
    /// At least one.
    pub listen: Vec<Listen>,
    /// What browsers type.
    pub public_url: Origin,
    /// Begins with `/`, does not end with one, canonical.
    pub prefix: String,
    pub trusted_proxies: Vec<IpNet>,
    /// Peers among `trusted_proxies` begin each connection with a PROXY protocol header; nobody else may.
    pub proxy_protocol: bool,
    pub drain_timeout: Duration,
    /// Between the end of readiness and the end of listening: for load balancers to notice.
    pub drain_delay: Duration,
    /// How often the files of the configuration are compared with what was read; zero = a signal only.
    pub reload_interval: Duration,
    pub state_dir: PathBuf,
    /// Worker threads; 0 = one a core.
    pub workers: usize,
    pub tls: Option<Tls>,
    pub limits: Limits,
    /// A 403 names the rule that refused: for whoever may know how access is decided.
    pub show_rule: bool,
    pub forward_auth: ForwardAuth,
}

/// How other proxies ask for decisions; only `trusted_proxies` may.
#[derive(Clone, Debug)]
pub struct ForwardAuth {
    /// For Envoy's gRPC; None = not offered.
    pub grpc_listen: Option<Listen>,
    /// It speaks TLS, with the certificates of `Server::tls`.
    pub grpc_tls: bool,
    /// Of a positive answer of the `auth` endpoint: 200 to 299.
    pub success_status: u16,
    pub headers: QuestionHeaders,
}

/// The headers in which proxies tell `auth` and `forward` about a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QuestionHeaders {
    /// Whichever are there, as long as they agree.
    Any,
    /// `X-Forwarded-Method`, `-Host`, `-Uri`.
    Forwarded,
    /// `X-Original-URL`, `-URI`, `-Method`.
    Original,
}

impl QuestionHeaders {
    pub fn has_forwarded(self) -> bool {
        self != Self::Original
    }

    pub fn has_original(self) -> bool {
        self != Self::Forwarded
    }
}

impl Default for ForwardAuth {
    fn default() -> Self {
        Self { grpc_listen: None, grpc_tls: false, success_status: 202, headers: QuestionHeaders::Any }
    }
}

impl Server {
    /// All of them: those that serve, those that redirect to https, and the one that answers Envoy.
    pub fn listeners(&self) -> impl Iterator<Item = &Listen> {
        self.listen.iter().chain(self.redirect_listen()).chain(&self.forward_auth.grpc_listen)
    }

    pub fn redirect_listen(&self) -> &[Listen] {
        self.tls.as_ref().map_or(&[], |tls| &tls.redirect_listen)
    }
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Listen {
    /// Inherited from whoever started the process: systemd's first is 3.
    Fd(RawFd),
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// As it is written in the configuration.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fd(number) => write!(f, "fd:{number}"),
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// At least one; the first is shown to whoever names no host, or none that another one covers.
    pub certificates: Vec<KeyPair>,
    pub client_certificates: Option<ClientCertificates>,
    pub min_version: TlsVersion,
    /// `max-age` of Strict-Transport-Security; zero = no header.
    pub hsts: Duration,
    /// Plain http listeners that answer nothing but a redirect to https.
    pub redirect_listen: Vec<Listen>,
}

/// PEM files; the OCSP response is DER.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPair {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ocsp: Option<PathBuf>,
}

/// What clients show, and who must have signed it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCertificates {
    pub ca: PathBuf,
    /// false: a client without one is served too; a bad one never is.
    pub required: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

#[derive(Clone, Debug)]
pub struct Limits {
    /// For a request's whole head.
    pub header_timeout: Duration,
    /// Between requests, and while a client takes nothing of an answer.
    pub idle_timeout: Duration,
    /// While a client sends nothing of a body that it has begun.
    pub body_timeout: Duration,
    /// While neither side of an upgraded connection sends anything; zero = for ever.
    pub websocket_idle_timeout: Duration,
    /// For TLS, the PROXY protocol header included.
    pub handshake_timeout: Duration,
    /// TLS handshakes at one time, whole process.
    pub handshakes: usize,
    pub header_bytes: usize,
    /// Fields of a request's head.
    pub headers: usize,
    /// The largest request body; zero = any.
    pub body_bytes: u64,
    pub connections: usize,
    /// Of one client address that is no trusted proxy; zero = any number.
    pub connections_per_address: usize,
    /// Of one HTTP/2 connection at one time.
    pub streams: u32,
    /// A second of one HTTP/2 connection: frames that carry no part of a request and answer none of ours.
    pub control_frames: u32,
    /// Under way at one time, whole process; beyond, 503.
    pub requests: usize,
    pub logins_per_minute: u32,
    /// Refused tokens and passwords of machines, for each client address; beyond, what is not known yet is 429.
    pub refused_tokens_per_minute: u32,
}

#[derive(Clone, Debug)]
pub struct Admin {
    pub listen: SocketAddr,
}
