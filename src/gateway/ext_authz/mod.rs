//! Envoy's external authorization over gRPC (`envoy.service.auth.v3`): one method, `Check`, which takes the way of
//! `forward_auth::judge` with the request that Envoy describes. What Envoy is to do with it is said in header mutations, so
//! that nothing a client sent can pass for ours.

pub mod proto;
mod question;
mod verdict;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use self::proto::{CheckRequest, CheckResponse};
use self::question::question;
use super::Gateway;
use super::body::{Body, Inner};
use super::conn::Conn;
use super::exchange::{Asked, Begin, Exchange};
use super::forward::request_id;
use super::forward_auth::{NOT_TRUSTED, judge, not_judged};
use crate::clock;
use crate::telemetry::refused::Refused;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// A head, and what Envoy tells besides. Bodies are not asked for, and one that is sent has to fit.
const MESSAGE_BYTES: usize = 1024 * 1024;
/// Before the message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// One call, whole. It always answers.
pub async fn handle(gateway: &Arc<Gateway>, conn: &Arc<Conn>, request: Request<Incoming>) -> Response<Body> {
    conn.busy();
    // SECURITY: H-15.
    if !gateway.has_room(conn) {
        return Status::new(Code::Unavailable, "too many requests").into_http::<Bytes>().map(Body::bare);
    }
    let (parts, body) = request.into_parts();
    let mut exchange = Exchange::begin(Begin {
        conn,
        method: &parts.method,
        target: parts.uri.path_and_query(),
        id: request_id(&parts.headers, false),
        unrouted: &gateway.own_counters,
        now_ms: clock::unix_now_ms(),
        log: gateway.settings.telemetry.access_log,
    });
    let refusal = if !gateway.trusts(conn.peer) {
        // SECURITY: PX-20. Before anything of the message is read.
        let reply = not_judged(gateway, &exchange, &parts, NOT_TRUSTED);
        exchange.status = reply.status();
        Some(Status::new(Code::PermissionDenied, NOT_TRUSTED.why()))
    } else if parts.uri.path() != CHECK {
        exchange.status = StatusCode::NOT_FOUND;
        Some(Status::new(Code::Unimplemented, "Check is all that is answered here"))
    } else {
        None
    };
    let message = match refusal {
        None => message(gateway, body).await.inspect_err(|_| exchange.status = StatusCode::BAD_REQUEST),
        Some(status) => Err(status),
    };
    let response = match message {
        Err(status) => status.into_http(),
        Ok(message) => {
            // What cannot be read as a message leaves it at that.
            exchange.status = StatusCode::BAD_REQUEST;
            let check = Check { gateway, exchange: Some(&mut exchange) };
            let codec = ProstCodec::<CheckResponse, CheckRequest>::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(MESSAGE_BYTES);
            whole(grpc.unary(check, Request::from_parts(parts, Full::new(message))).await).await
        }
    };
    response.map(|inner| Body::new(inner, exchange, &gateway.sessions))
}

/// SECURITY: H-15. Whole in the time that a body may stand still, or a caller that stops within it would keep its place among
/// the requests. Judging has limits of its own.
async fn message(gateway: &Gateway, body: Incoming) -> Result<Bytes, Status> {
    let limited = Limited::new(body, PREFIX_BYTES + MESSAGE_BYTES);
    match timeout(gateway.settings.server.limits.body_timeout, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(Status::out_of_range("a message of more than 1 MiB")),
        Ok(Err(_)) => Err(Status::cancelled("a message that was cut short")),
        Err(_) => {
            gateway.metrics.refusals.count(Refused::BodyTimeout);
            Err(Status::deadline_exceeded("a message that did not come in time"))
        }
    }
}

/// The one call of the service.
struct Check<'a> {
    gateway: &'a Arc<Gateway>,
    exchange: Option<&'a mut Exchange>,
}

impl<'a> UnaryService<CheckRequest> for Check<'a> {
    type Response = CheckResponse;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<CheckResponse>, Status>> + Send + 'a>>;

    fn call(&mut self, request: tonic::Request<CheckRequest>) -> Self::Future {
        let (gateway, exchange) = (self.gateway, self.exchange.take());
        Box::pin(async move {
            let exchange = exchange.ok_or_else(|| Status::internal("called twice"))?;
            Ok(tonic::Response::new(check(gateway, exchange, request.into_inner()).await))
        })
    }
}

async fn check(gateway: &Arc<Gateway>, exchange: &mut Exchange, request: CheckRequest) -> CheckResponse {
    let original = match question(gateway, exchange.conn.peer, request) {
        Ok(original) => original,
        Err(refusal) => {
            let (parts, ()) = Request::new(()).into_parts();
            let reply = not_judged(gateway, exchange, &parts, refusal);
            return verdict::denied(exchange, reply);
        }
    };
    exchange.id = request_id(&original.parts.headers, true);
    exchange.about(Asked::ForAnswer, &original.parts.method, original.parts.uri.path_and_query());
    match judge(gateway, exchange, &original, None).await {
        Ok(passed) => verdict::allowed(gateway, exchange, &original.parts.headers, passed),
        Err(reply) => verdict::denied(exchange, reply),
    }
}

/// What tonic has made, in a body of ours. It is one message, and there already.
async fn whole(response: Response<tonic::body::Body>) -> Response<Inner> {
    let (parts, body) = response.into_parts();
    match body.collect().await {
        Ok(collected) => {
            let trailers = collected.trailers().cloned();
            Response::from_parts(parts, Inner::with_trailers(collected.to_bytes(), trailers))
        }
        Err(status) => status.into_http(),
    }
}
