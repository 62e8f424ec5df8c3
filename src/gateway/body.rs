//! The body of every answer: our own bytes, or the upstream's stream passed on as it comes. It carries the exchange, so
//! that the access line is written when the last byte has gone, or the peer has. A stream ends with its session.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::exchange::Exchange;
use crate::session::Session;
use crate::session::manager::Sessions;
use crate::upstream::ResponseBody;

/// PERF: an enum, never a boxed body; the upstream's frames are handed on without a copy.
pub enum Inner {
    Full(Bytes),
    /// Our own bytes with trailers behind them: a message of gRPC.
    Trailed(Box<Trailed>),
    Upstream(ResponseBody),
}

pub struct Trailed {
    data: Bytes,
    trailers: Option<HeaderMap>,
}

pub struct Body {
    inner: Inner,
    exchange: Option<Exchange>,
    life: Option<Life>,
}

/// Why an answer stopped short. The connection is closed, so that nobody takes it for whole.
#[derive(Debug)]
pub enum Cut {
    Session,
    Upstream(hyper::Error),
}

/// What a stream lives by.
struct Life {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    /// `Conn::looks` when the answer began.
    looks: u32,
    /// PERF: neither made nor timed for an answer that is over before its connection is next looked at: nearly all are.
    ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Body {
    /// Of an answer that is neither logged nor timed.
    pub fn bare(bytes: Bytes) -> Self {
        Self { inner: Inner::Full(bytes), exchange: None, life: None }
    }

    pub fn new(inner: Inner, exchange: Exchange, sessions: &Arc<Sessions>) -> Self {
        let session = exchange.session.as_ref().filter(|_| matches!(inner, Inner::Upstream(_)));
        let life = session.map(|session| Life {
            sessions: Arc::clone(sessions),
            session: Arc::clone(session),
            looks: exchange.conn.looks(),
            ended: None,
        });
        Self { inner, exchange: Some(exchange), life }
    }
}

impl Life {
    /// Whether the session has ended; watched from the connection's next look, which also polls the body.
    ///
    /// SECURITY: OX-02. By the connection's clock and not from the first wait: a peer that takes an endless stream in small
    /// pieces finds the next frame there each time, and nothing is ever waited for.
    fn is_over(&mut self, cx: &mut Context<'_>, looks: u32) -> bool {
        if self.ended.is_none() && self.looks != looks {
            self.ended = Some(Box::pin(Arc::clone(&self.sessions).ended(Arc::clone(&self.session))));
        }
        if self.ended.as_mut().is_some_and(|ended| ended.as_mut().poll(cx).is_ready()) {
            // Whoever asks again after the end gets the same answer, not a panic.
            self.ended = Some(Box::pin(std::future::ready(())));
            return true;
        }
        false
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        let polled = match &mut this.inner {
            Inner::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Inner::Trailed(trailed) => Poll::Ready(trailed.next().map(Ok)),
            Inner::Upstream(body) => Pin::new(body).poll_frame(cx).map_err(Cut::Upstream),
        };
        // SECURITY: OX-02. What began with a session does not outlive it.
        if let Some(life) = &mut this.life
            && !matches!(polled, Poll::Ready(None))
            && let Some(exchange) = &this.exchange
            && life.is_over(cx, exchange.conn.looks())
        {
            return Poll::Ready(Some(Err(Cut::Session)));
        }
        if let Some(exchange) = &mut this.exchange {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    exchange.sent(frame.data_ref().map_or(0, Bytes::len));
                    // Behind trailers nobody asks for more.
                    if frame.is_trailers() || this.inner.is_end_stream() {
                        exchange.finished();
                    }
                }
                Poll::Ready(None) => exchange.finished(),
                Poll::Ready(Some(Err(_))) | Poll::Pending => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Trailed(trailed) => SizeHint::with_exact(trailed.data.len() as u64),
            Inner::Upstream(body) => body.size_hint(),
        }
    }
}

/// Of an answer that is all head, as gRPC's errors are.
impl Default for Inner {
    fn default() -> Self {
        Self::Full(Bytes::new())
    }
}

impl Trailed {
    fn next(&mut self) -> Option<Frame<Bytes>> {
        if !self.data.is_empty() {
            return Some(Frame::data(std::mem::take(&mut self.data)));
        }
        self.trailers.take().map(Frame::trailers)
    }
}

impl Inner {
    pub fn with_trailers(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self::Trailed(Box::new(Trailed { data, trailers }))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Trailed(trailed) => trailed.data.is_empty() && trailed.trailers.is_none(),
            Self::Upstream(body) => body.is_end_stream(),
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session => f.write_str("the session ended"),
            Self::Upstream(error) => write!(f, "the upstream broke off: {error}"),
        }
    }
}

impl std::error::Error for Cut {}

impl Drop for Body {
    fn drop(&mut self) {
        if self.inner.is_end_stream()
            && let Some(exchange) = &mut self.exchange
        {
            exchange.finished();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;
    use crate::config::settings::{self, SameSite, Store};
    use crate::provider::testing::Op;
    use crate::secret::Secret;
    use crate::session::data::{Begun, Tokens};
    use crate::session::identity::Identity;
    use crate::session::state::State;

    #[tokio::test]
    async fn ox_02_a_stream_whose_next_frame_is_always_there_ends_with_its_session() {
        let hour = std::time::Duration::from_secs(3600);
        let settings = settings::Session {
            keys: vec![Secret::new("a key of at least thirty-two bytes..")],
            cookie: "doorward".into(),
            cookie_domain: None,
            same_site: SameSite::Lax,
            lifetime: hour,
            idle_timeout: hour,
            refresh_before: hour,
            refresh_grace: hour,
            store: Store::Memory,
            hand_over: false,
            redis: None,
        };
        let state = Arc::new(State::new(Handle::current()));
        let sessions = Arc::new(Sessions::new(&settings, &[], Vec::new(), true, state).unwrap());
        let provider = Op::new().await.provider(|_| {});
        let who = Identity { sub: "alice".into(), user: "alice".into(), ..Identity::default() };
        let session = sessions.create(&provider, who, Tokens::default(), Begun::default()).await.unwrap();
        let mut life = Life { sessions: Arc::clone(&sessions), session: Arc::clone(&session), looks: 7, ended: None };
        let mut next = async |looks| std::future::poll_fn(|cx| Poll::Ready(life.is_over(cx, looks))).await;
        assert!(!next(7).await && !next(8).await && !next(8).await);
        sessions.revoke(&session).await.unwrap();
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        assert!(next(9).await && next(9).await, "and stays over");
    }
}
