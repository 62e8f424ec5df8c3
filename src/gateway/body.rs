//! The body of every answer: our own bytes, or the upstream's stream passed on as it comes. It carries the exchange, so
//! that the access line is written when the last byte has gone, or the peer has.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::exchange::Exchange;
use crate::upstream::ResponseBody;

/// PERF: an enum, never a boxed body; the upstream's frames are handed on without a copy.
pub enum Inner {
    Full(Bytes),
    Upstream(ResponseBody),
}

pub struct Body {
    inner: Inner,
    exchange: Option<Exchange>,
}

impl Body {
    pub fn new(inner: Inner, exchange: Exchange) -> Self {
        Self { inner, exchange: Some(exchange) }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let polled = match &mut this.inner {
            Inner::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Inner::Upstream(body) => Pin::new(body).poll_frame(cx),
        };
        if let Some(exchange) = &mut this.exchange {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    exchange.sent(frame.data_ref().map_or(0, Bytes::len));
                    if this.inner.is_end_stream() {
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
            Inner::Upstream(body) => body.size_hint(),
        }
    }
}

impl Inner {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Upstream(body) => body.is_end_stream(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if self.inner.is_end_stream()
            && let Some(exchange) = &mut self.exchange
        {
            exchange.finished();
        }
    }
}
