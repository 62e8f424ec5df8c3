//! Where a route's requests go, and how.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// At least one; `Status` only alone.
    pub targets: Vec<Target>,
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

/// As it is written in the configuration.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "status:{code}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Url(url) => f.write_str(url.as_str().trim_end_matches('/')),
        }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpstreamOptions {
    pub connect_timeout: Duration,
    /// To the first byte of the answer; streams are not cut.
    pub response_timeout: Duration,
    /// How long an idle connection is kept; below the upstream's own keep-alive time.
    pub idle_timeout: Duration,
    /// How often a host name is resolved anew; connections to an address that it has no longer are not used again.
    pub resolve_interval: Duration,
    pub ca: Option<PathBuf>,
    /// What Doorward shows of itself: certificate and key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// The name asked for in TLS and looked for in the certificate; None = the URL's host.
    pub server_name: Option<String>,
    /// HTTP/2 and nothing else: by ALPN over TLS, without asking elsewhere. Always with `h2c://`.
    pub http2: bool,
    /// true: the request's own Host goes upstream; false: the upstream URL's.
    pub pass_host: bool,
    pub balance: Balance,
    pub health: Option<Health>,
    /// Failures in a row after which an upstream is not chosen for `eject_time`; zero = never.
    pub eject_after: u32,
    pub eject_time: Duration,
    /// Requests under way at one upstream, whole process.
    pub requests: usize,
    /// Requests that wait for one of them to end, for at most `queue_timeout`; what comes beyond is 503 at once.
    pub queue: usize,
    pub queue_timeout: Duration,
}

/// What is not written in the configuration.
impl Default for UpstreamOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(4),
            resolve_interval: Duration::from_secs(30),
            ca: None,
            client_cert: None,
            server_name: None,
            http2: false,
            pass_host: true,
            balance: Balance::LeastRequest,
            health: None,
            eject_after: 5,
            eject_time: Duration::from_secs(10),
            requests: 1024,
            queue: 256,
            queue_timeout: Duration::from_secs(1),
        }
    }
}

/// Which of several upstreams a request goes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Balance {
    /// The one with fewer requests under way of two chosen at random.
    LeastRequest,
    RoundRobin,
}

/// A GET that an upstream answers with a 2xx while it is well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health {
    /// Of the upstream's own host, and not below the path of its URL.
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
}
