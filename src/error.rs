//! The one error type. It says what went wrong (`kind`, also the metric label), whose fault it was (`side`), and carries
//! a sentence for the operator. It never carries a token, a code, a cookie or a secret: a `detail` is written to the log.
//!
//! `gateway::respond` is the only place that turns an `Error` into an answer.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What went wrong, for programs. `as_str` is the bounded label set of logs and metrics.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// The request cannot be understood in exactly one way (400).
    BadRequest,
    /// A client that sent nothing of its body for too long (408).
    BodyTimeout,
    /// A body that weighs more than it may (413).
    BodyTooLarge,
    /// The callback does not belong to a sign-in of this browser (400).
    Callback,
    /// A sign-in answer of the provider that fails a check of OpenID Connect Core §3.1.3.7 (400).
    IdToken,
    /// A fault of our own (500).
    Internal,
    /// The keys that would decide are not to be had now (503).
    KeysUnavailable,
    /// The provider answered something that is no answer (502).
    ProviderAnswer,
    /// The provider refused: an OAuth error response (RFC 6749 §5.2, §4.1.2.1).
    ProviderRefused,
    /// The provider cannot be reached, or answers 5xx (503).
    ProviderUnavailable,
    /// More than a limit allows (429).
    RateLimited,
    /// A session that no browser would keep in its cookies (400).
    SessionTooLarge,
    /// The store that sessions are kept in cannot be reached, or does not answer in time (503).
    StoreUnavailable,
    /// What a machine shows of itself, a token or a password, fails a check (401).
    Token,
    /// What the upstream is to be shown, a token of somebody's or of ours, is not to be had (502).
    UpstreamAuth,
    /// The upstream has as much to do as it may, and enough requests wait (503).
    UpstreamBusy,
    /// The upstream broke the connection or the protocol (502).
    UpstreamFailed,
    /// The upstream did not answer in time (504).
    UpstreamTimeout,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::Callback => "callback",
            Self::IdToken => "id_token",
            Self::Internal => "internal",
            Self::KeysUnavailable => "keys_unavailable",
            Self::ProviderAnswer => "provider_answer",
            Self::ProviderRefused => "provider_refused",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::RateLimited => "rate_limited",
            Self::SessionTooLarge => "session_too_large",
            Self::StoreUnavailable => "store_unavailable",
            Self::Token => "token",
            Self::UpstreamAuth => "upstream_auth",
            Self::UpstreamBusy => "upstream_busy",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamTimeout => "upstream_timeout",
        }
    }
}

/// Why an upstream could not serve a request. The label of a metric and a word of the log; never part of an answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// Its host name has no address, or could not be asked for.
    Dns,
    /// Nobody listens there.
    Refused,
    /// No connection for another cause: no route, no such socket, no permission.
    Connect,
    /// No connection within `connect_timeout`.
    ConnectTimeout,
    /// Its certificate is of an authority that is not known here.
    UnknownCa,
    /// Its certificate is for another name.
    NameMismatch,
    /// Its certificate does not hold for another cause: expired, not for servers, badly signed.
    Certificate,
    /// It ended the handshake: it wants a client certificate, another one, or nothing that we can offer.
    TlsAlert,
    /// The handshake broke in another way.
    Tls,
    /// It speaks no HTTP/2, and the route demands it.
    NoHttp2,
    /// It takes no WebSocket over HTTP/2 (RFC 8441).
    NoWebSocket,
    /// The connection broke before the answer began.
    Broken,
    /// It took no more requests on an HTTP/2 connection, time and again.
    NotTaken,
    /// It reset the request instead of answering it.
    Reset,
    /// What it sent is no HTTP.
    Protocol,
    /// No answer within `response_timeout`.
    ResponseTimeout,
    /// It has as much to do as it may, and as many requests wait as may.
    QueueFull,
    /// It had as much to do as it may for longer than `queue_timeout`.
    QueueTimeout,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::UnknownCa => "unknown_ca",
            Self::NameMismatch => "name_mismatch",
            Self::Certificate => "certificate",
            Self::TlsAlert => "tls_alert",
            Self::Tls => "tls",
            Self::NoHttp2 => "no_http2",
            Self::NoWebSocket => "no_websocket",
            Self::Broken => "broken",
            Self::NotTaken => "not_taken",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::ResponseTimeout => "response_timeout",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
        }
    }

    /// false: it says something of the request, and nothing of how well the upstream is.
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::NoWebSocket | Self::Reset)
    }

    fn kind(self) -> Kind {
        match self {
            Self::ConnectTimeout | Self::ResponseTimeout => Kind::UpstreamTimeout,
            Self::QueueFull | Self::QueueTimeout => Kind::UpstreamBusy,
            _ => Kind::UpstreamFailed,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Dns => "the upstream's host name has no address",
            Self::Refused => "the upstream refused the connection",
            Self::Connect => "no connection to the upstream",
            Self::ConnectTimeout => "no connection to the upstream in time",
            Self::UnknownCa => "the upstream's certificate is of an unknown authority: set `ca`",
            Self::NameMismatch => "the upstream's certificate is for another name: set `server_name`",
            Self::Certificate => "the upstream's certificate does not hold",
            Self::TlsAlert => "the upstream ended the TLS handshake",
            Self::Tls => "no TLS with the upstream",
            Self::NoHttp2 => "the upstream speaks no HTTP/2",
            Self::NoWebSocket => "the upstream takes no WebSockets over HTTP/2 (RFC 8441)",
            Self::Broken => "the upstream broke the connection",
            Self::NotTaken => "the upstream took no more requests on its connection",
            Self::Reset => "the upstream reset the request",
            Self::Protocol => "the upstream broke the protocol",
            Self::ResponseTimeout => "no answer of the upstream in time",
            Self::QueueFull => "the upstream's queue is full",
            Self::QueueTimeout => "no place at the upstream within queue_timeout",
        }
    }
}

/// Whose fault it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    Client,
    Internal,
    Provider,
    Store,
    Upstream,
}

/// See the module. Boxed inside, so that `Result<T, Error>` stays small on the request path.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    reason: Option<Reason>,
    side: Side,
    detail: Cow<'static, str>,
    /// The `error` member of an OAuth error response, if that is what it was.
    oauth: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        let side = match kind {
            Kind::BadRequest
            | Kind::BodyTimeout
            | Kind::BodyTooLarge
            | Kind::Callback
            | Kind::RateLimited
            | Kind::Token => Side::Client,
            Kind::Internal => Side::Internal,
            Kind::IdToken
            | Kind::KeysUnavailable
            | Kind::ProviderAnswer
            | Kind::ProviderRefused
            | Kind::ProviderUnavailable
            | Kind::SessionTooLarge
            | Kind::UpstreamAuth => Side::Provider,
            Kind::StoreUnavailable => Side::Store,
            Kind::UpstreamBusy | Kind::UpstreamFailed | Kind::UpstreamTimeout => Side::Upstream,
        };
        Self(Box::new(Inner { kind, reason: None, side, detail: detail.into(), oauth: None, source: None }))
    }

    /// An upstream's failure.
    pub fn upstream(reason: Reason) -> Self {
        let mut error = Self::new(reason.kind(), reason.sentence());
        error.0.reason = Some(reason);
        error
    }

    /// Adds the cause; its text goes to the log, so it must hold nothing secret.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Adds where it was: the one of several that failed.
    #[must_use]
    pub fn at(mut self, place: &str) -> Self {
        self.0.detail = Cow::Owned(format!("{}: {place}", self.0.detail));
        self
    }

    /// Adds the `error` code of an OAuth error response.
    #[must_use]
    pub fn oauth(mut self, code: impl Into<String>) -> Self {
        self.0.oauth = Some(code.into());
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Where `kind` is an upstream's failure.
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason
    }

    pub fn side(&self) -> Side {
        self.0.side
    }

    pub fn oauth_code(&self) -> Option<&str> {
        self.0.oauth.as_deref()
    }

    pub fn detail(&self) -> &str {
        &self.0.detail
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail)?;
        let mut cause = self.0.source.as_deref().map(|e| e as &dyn std::error::Error);
        // Three causes say enough; a longer chain is a library talking to itself.
        for _ in 0..3 {
            let Some(e) = cause else { break };
            write!(f, ": {e}")?;
            cause = e.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl std::error::Error for Error {}
