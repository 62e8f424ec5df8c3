//! Calls of `Check` as Envoy makes them: one connection a worker thread of Envoy's, many calls at once on each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use doorward::gateway::ext_authz::proto::{
    Address, AttributeContext, CheckRequest, CheckResponse, HeaderValue, HttpRequest, Peer, SocketAddress,
};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const WORKERS: usize = 2;

pub(crate) struct Check {
    grpc: SocketAddr,
    /// The question, framed.
    message: Bytes,
}

impl Check {
    pub(crate) fn new(grpc: SocketAddr, host: SocketAddr, target: &str, headers: &[(&'static str, String)]) -> Self {
        let fields = headers.iter().map(|(name, value)| HeaderValue::new(name.to_ascii_lowercase(), value));
        // What Envoy adds.
        let own = [
            (":authority", host.to_string()),
            (":method", "GET".into()),
            (":path", target.into()),
            (":scheme", "http".into()),
            ("x-forwarded-proto", "http".into()),
            ("x-request-id", "9427c1a1-5aea-4295-b43b-64a452d196ff".into()),
        ];
        let http = HttpRequest {
            method: "GET".into(),
            headers: fields.chain(own.map(|(name, value)| HeaderValue::new(name, value))).collect(),
            path: target.into(),
            host: host.to_string(),
            scheme: "http".into(),
            ..HttpRequest::default()
        };
        let address = Address { socket_address: Some(SocketAddress { address: "203.0.113.7".into() }) };
        let request = doorward::gateway::ext_authz::proto::Request { http: Some(http) };
        let attributes = AttributeContext { source: Some(Peer { address: Some(address) }), request: Some(request) };
        let message = CheckRequest { attributes: Some(attributes) }.encode_to_vec();
        let mut framed = vec![0];
        framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend(message);
        Self { grpc, message: framed.into() }
    }

    /// Makes `requests` calls, `at_once` of them at a time; each must be allowed.
    pub(crate) async fn run(&self, requests: usize, at_once: usize) -> Duration {
        let (mut workers, mut connections) = (Vec::new(), JoinSet::new());
        for _ in 0..WORKERS.min(at_once) {
            let stream = TcpStream::connect(self.grpc).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            connections.spawn(connection);
            workers.push(sender);
        }
        let start = Instant::now();
        let mut callers = JoinSet::new();
        for (_, worker) in (0..at_once).zip(workers.iter().cycle()) {
            callers.spawn(calls(worker.clone(), self.grpc, self.message.clone(), requests / at_once));
        }
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
        let took = start.elapsed();
        // Nobody would answer Doorward's goodbye on what is left open.
        drop(workers);
        while connections.join_next().await.is_some() {}
        took
    }
}

async fn calls(mut worker: SendRequest<Full<Bytes>>, grpc: SocketAddr, message: Bytes, calls: usize) {
    for _ in 0..calls {
        let request = Request::post(format!("http://{grpc}/envoy.service.auth.v3.Authorization/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "15000m");
        let answer = worker.send_request(request.body(Full::new(message.clone())).unwrap()).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let answer = CheckResponse::decode(body.get(5..).unwrap_or_default()).unwrap();
        assert_eq!(answer.status.map(|status| status.code), Some(0), "it was not allowed");
    }
}
