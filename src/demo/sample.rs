//! The application that `doorward demo` protects. It shows what an application behind Doorward gets to see, and keeps the
//! last requests for tests. It checks nothing itself: that is the point of a gateway.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use askama::Template;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::time::{Interval, interval};

use super::web::{self, Body, Cut, Page, Server};

/// A running application. Dropped, it closes the listener and every connection.
pub struct Sample {
    server: Server,
    log: Log,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// With the query.
    pub path: String,
    /// In order of arrival of the names; values that are no text have their odd bytes replaced.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    /// The first value of a header; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Serves on the current tokio runtime. Refuses a listener that others than this machine can reach.
pub fn start(listener: TcpListener) -> io::Result<Sample> {
    let log = Log::default();
    let handler = {
        let log = Arc::clone(&log);
        move |request| handle(Arc::clone(&log), request)
    };
    Ok(Sample { server: Server::start(listener, handler)?, log })
}

impl Sample {
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The last 1000 requests, oldest first.
    pub fn log(&self) -> Vec<Seen> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

type Log = Arc<Mutex<VecDeque<Seen>>>;

async fn handle(log: Log, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    let seen = Seen {
        method: request.method().to_string(),
        path: request.uri().path_and_query().map_or("*", |path| path.as_str()).to_owned(),
        headers: listed(request.headers()),
    };
    {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == LOG_LENGTH {
            log.pop_front();
        }
        log.push_back(seen.clone());
    }
    Ok(match request.uri().path() {
        "/events" => events(),
        "/json" => web::full(as_json(&seen, request.into_body()).await?),
        _ => web::full(as_page(&seen, request).await),
    })
}

async fn as_json(seen: &Seen, mut body: Incoming) -> Result<Page, Cut> {
    let mut length = 0_u64;
    while let Some(frame) = body.frame().await {
        length += frame.map_err(|_| Cut)?.data_ref().map_or(0, |data| data.len() as u64);
    }
    let answer = json!({ "method": seen.method, "path": seen.path, "headers": seen.headers, "body_length": length });
    Ok(web::json(StatusCode::OK, &answer))
}

async fn as_page(seen: &Seen, request: Request<Incoming>) -> Page {
    let posted = request.method() == Method::POST;
    let message = if posted { web::form(request.into_body()).await.one("message").map(str::to_owned) } else { None };
    let known = |name: &str| seen.header(name).filter(|value| !value.is_empty()).map(decoded);
    let page = SamplePage {
        method: &seen.method,
        path: &seen.path,
        headers: &seen.headers,
        user: known("x-forwarded-user"),
        email: known("x-forwarded-email"),
        groups: seen
            .header("x-forwarded-groups")
            .unwrap_or_default()
            .split(',')
            .map(decoded)
            .filter(|group| !group.is_empty())
            .collect(),
        message,
    };
    web::html(StatusCode::OK, &page)
}

fn events() -> Response<Body> {
    let mut page = Response::new(Events { ticks: interval(Duration::from_secs(1)), sent: 0 }.boxed());
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

/// Server-sent events, one a second, the first at once.
struct Events {
    ticks: Interval,
    sent: u32,
}

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.sent == EVENTS {
            return Poll::Ready(None);
        }
        ready!(self.ticks.poll_tick(cx));
        self.sent += 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(format!("data: {} of {EVENTS}\n\n", self.sent))))))
    }
}

#[derive(Template)]
#[template(path = "demo/templates/sample.html")]
struct SamplePage<'a> {
    method: &'a str,
    path: &'a str,
    headers: &'a [(String, String)],
    user: Option<String>,
    email: Option<String>,
    groups: Vec<String>,
    message: Option<String>,
}

fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

/// Identity headers carry what is not ASCII percent-encoded.
fn decoded(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

const LOG_LENGTH: usize = 1000;
const EVENTS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::web::client::{get, send};

    fn started() -> Sample {
        start(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()
    }

    #[tokio::test]
    async fn shows_who_one_is_and_escapes_it() {
        let sample = started();
        let request = Request::get("/a?b=c")
            .header("x-forwarded-user", "<alice>")
            .header("x-forwarded-groups", "admins,caf%C3%A9")
            .body(String::new())
            .unwrap();
        let answer = send(sample.address(), request).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let page = String::from_utf8(answer.into_body().to_vec()).unwrap();
        assert!(page.contains("&#60;alice&#62;") && !page.contains("<alice>"), "{page}");
        assert!(page.contains("café"), "{page}");
        let log = sample.log();
        assert_eq!((log[0].method.as_str(), log[0].path.as_str()), ("GET", "/a?b=c"));
        assert_eq!(log[0].header("x-forwarded-user"), Some("<alice>"));
    }

    #[tokio::test]
    async fn counts_a_body() {
        let sample = started();
        let answer = send(sample.address(), Request::put("/json").body("x".repeat(100_000)).unwrap()).await;
        let answer: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!((&answer["method"], &answer["body_length"]), (&json!("PUT"), &json!(100_000)));
    }

    #[tokio::test]
    async fn the_log_is_bounded() {
        let sample = started();
        let seen = |n: usize| Seen { method: "GET".to_owned(), path: format!("/{n}"), headers: Vec::new() };
        sample.log.lock().unwrap().extend((0..LOG_LENGTH).map(seen));
        get(sample.address(), "/last").await;
        let log = sample.log();
        assert_eq!((log.len(), log[0].path.as_str(), log[LOG_LENGTH - 1].path.as_str()), (LOG_LENGTH, "/1", "/last"));
    }
}
