//! One address of an upstream: its connections, and sending over one of them with the safe retry.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::body::{Lease, RequestBody, ResponseBody};
use super::connection::{Connection, connect, failed, is_lost_connection};
use super::pool::Pool;
use super::replay::Replay;
use super::request::Rewrite;
use crate::config::settings::{Target, UpstreamOptions};
use crate::error::Error;
use crate::net::dial::Endpoint;

pub(super) struct Peer {
    endpoint: Endpoint,
    rewrite: Rewrite,
    pub(super) pool: Pool,
    response_timeout: Duration,
}

impl Peer {
    pub(super) fn new(target: &Target, options: &UpstreamOptions, workers: usize) -> Result<Self, Error> {
        Ok(Self {
            endpoint: Endpoint::new(target, options)?,
            rewrite: Rewrite::new(target, options)?,
            pool: Pool::new(workers, options.idle_timeout),
            response_timeout: options.response_timeout,
        })
    }

    pub(super) async fn send(
        self: &Arc<Self>,
        worker: usize,
        mut request: Request<RequestBody>,
        now: Instant,
    ) -> Result<Response<ResponseBody>, Error> {
        self.rewrite.apply(&mut request)?;
        let progress = request.body().progress();
        let upgrades = request.method() == Method::CONNECT || request.headers().contains_key(http::header::UPGRADE);
        let (mut start, mut replayed) = (now, false);
        loop {
            let pooled = if replayed { None } else { self.pool.take(worker, start) };
            let reused = pooled.is_some();
            let mut connection = match pooled {
                Some(connection) => connection,
                // PERF: boxed, so that dialling does not swell the future of every request.
                None => {
                    let connection = Box::pin(connect(&self.endpoint, self.response_timeout)).await?;
                    start = Instant::now();
                    connection
                }
            };
            // PERF: a new connection that fails is no race with a keep-alive timeout, so nothing is copied for it.
            let replay = if reused { Replay::of(&request, &connection.tape) } else { None };
            let mut failure =
                match connection.exchange(request, start, progress.as_deref(), self.response_timeout).await? {
                    Ok(response) => return Ok(self.answer(worker, connection, response, upgrades)),
                    Err(failure) => failure,
                };
            // Handed back: not one byte of it was written, so any method may go again. Otherwise the rule of RFC 9110
            // §9.2.2: idempotent, without a body, once, and only where a reused connection explains the failure.
            request = match (failure.take_message(), replay) {
                (Some(unsent), _) if reused => unsent,
                (None, Some(replay)) if is_lost_connection(failure.error()) => {
                    replayed = true;
                    replay.into_request(&connection.tape).ok_or_else(|| failed(failure.into_error()))?
                }
                _ => return Err(failed(failure.into_error())),
            };
        }
    }

    fn answer(
        self: &Arc<Self>,
        worker: usize,
        connection: Connection,
        response: Response<Incoming>,
        upgrades: bool,
    ) -> Response<ResponseBody> {
        // SECURITY: RUSTSEC-2026-0033. A connection that was asked to become something else is never an HTTP one again.
        let lease = if response.status() == StatusCode::SWITCHING_PROTOCOLS || upgrades {
            Lease::spent(connection)
        } else {
            Lease::new(Arc::clone(self), worker, connection)
        };
        response.map(|incoming| ResponseBody::new(incoming, lease))
    }
}
