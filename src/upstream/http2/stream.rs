//! One request on an HTTP/2 connection.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::uri::Scheme;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, sleep_until};

use super::form;
use super::link::{Link, Slot};
use crate::error::{Error, Reason};
use crate::net::dial::broken_by;
use crate::upstream::body::RequestBody;
use crate::upstream::connection::{Exchanged, failed, in_time};
use crate::upstream::replay::Tape;
use crate::upstream::upload::Progress;

/// A place for one request on a connection, given back at the end of the answer's body, or of the tunnel that it opened.
pub(in crate::upstream) struct Stream {
    link: Arc<Link>,
    slot: Slot,
    scheme: Scheme,
}

impl Stream {
    pub(super) fn new(link: Arc<Link>, slot: Slot, scheme: Scheme) -> Self {
        Self { link, slot, scheme }
    }

    pub(in crate::upstream) fn tape(&self) -> &Tape {
        &self.slot.tape
    }

    /// One attempt. Answers come in the form of HTTP/1.1, a WebSocket's as 101.
    pub(in crate::upstream) async fn exchange(
        &mut self,
        mut request: Request<RequestBody>,
        start: Instant,
        progress: Option<&Progress>,
        response_timeout: Duration,
    ) -> Exchanged {
        // What has no body can go again whole.
        let head = request.body().is_empty().then(|| {
            let mut copy = Request::new(RequestBody::empty());
            *copy.method_mut() = request.method().clone();
            *copy.uri_mut() = request.uri().clone();
            *copy.headers_mut() = request.headers().clone();
            copy
        });
        let websocket = match form::outgoing(&mut request, &self.scheme, self.link.takes_websockets()) {
            Ok(websocket) => websocket,
            Err(error) => return Exchanged::Failed(error),
        };
        let mut sender = self.link.sender();
        let answer = sender.try_send_request(request);
        let timer = self.slot.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + response_timeout)));
        match in_time(answer, timer, start, progress, response_timeout).await {
            Ok(Ok(mut response)) => {
                self.link.answered();
                form::incoming(&mut response, websocket);
                Exchanged::Answered(response)
            }
            Ok(Err(failure)) => self.failed(failure, head),
            Err(error) => {
                self.link.unanswered();
                Exchanged::Failed(error)
            }
        }
    }

    #[cold]
    fn failed(&self, mut failure: TrySendError<Request<RequestBody>>, head: Option<Request<RequestBody>>) -> Exchanged {
        let unsent = failure.take_message();
        let error = failure.into_error();
        if let Some(mut request) = unsent {
            form::handed_back(&mut request);
            return Exchanged::Unsent(head.unwrap_or(request), failed(error));
        }
        let Some(cause) = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<h2::Error>())
        else {
            // The connection broke: an I/O error, or no sign of life.
            if let Some(head) = &head {
                self.slot.tape.write(head);
            }
            let io = std::error::Error::source(&error).and_then(|source| source.downcast_ref());
            return Exchanged::Lost(Error::upstream(io.and_then(broken_by).unwrap_or(Reason::Broken)).because(error));
        };
        // RFC 9113 §8.7: neither a refused stream nor one above the last that a GOAWAY names was processed.
        if cause.is_remote() && (cause.is_go_away() || cause.reason() == Some(h2::Reason::REFUSED_STREAM)) {
            if cause.is_go_away() {
                self.link.leave();
            }
            let error = Error::upstream(Reason::NotTaken).because(error);
            return match head {
                Some(request) => Exchanged::Refused(request, error),
                None => Exchanged::Failed(error),
            };
        }
        // A stream that we reset is one whose client broke off; its body knows.
        let reason = if cause.is_remote() { Reason::Reset } else { Reason::Protocol };
        Exchanged::Failed(Error::upstream(reason).because(error))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.link.give_back(Slot { timer: self.slot.timer.take(), tape: self.slot.tape.clone() });
    }
}
