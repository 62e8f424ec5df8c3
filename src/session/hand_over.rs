//! A sign-in that is handed over: from the host where people sign in to another host of ours, which shares no cookie with
//! it. Two sealed texts travel through the browser, the request one way and the ticket the other; both keep what they say
//! from the browser, and from everybody whom it shows them to.
//!
//! The ticket is good for a minute, for one host, and only beside the sign-in cookie that the browser got there: it names
//! that cookie's state and the hash of its verifier.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};

use super::Session;
use super::login::{LIFETIME, Login};
use super::lookup::Ticket;
use super::manager::{Sessions, millis};
use crate::crypto::seal::{Place, Purpose};
use crate::error::Result;
use crate::provider::pkce_challenge;
use crate::store::Key;

/// From the redirect that carries it to the request that brings it.
const TICKET_LIFETIME: Duration = Duration::from_secs(60);

/// What the other host asks for.
#[derive(Debug, Deserialize, Serialize)]
pub struct Request {
    /// The host that asks, as browsers know it.
    #[serde(rename = "h")]
    pub host: String,
    /// The route that the person wants to come to; None = one that asks nobody who they are.
    #[serde(rename = "r")]
    pub route: Option<String>,
    /// The provider that the person chose.
    #[serde(rename = "p")]
    pub provider: Option<String>,
    /// Of the sign-in cookie that the browser has there.
    #[serde(rename = "s")]
    pub state: String,
    /// The session that the browser showed there in vain: it will not do, whatever it looks like here.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub unwanted: Option<Key>,
    /// The hash of that cookie's verifier.
    #[serde(rename = "c")]
    challenge: String,
    #[serde(rename = "t")]
    made_ms: u64,
}

impl Request {
    pub fn new(host: &str, route: Option<&str>, provider: Option<&str>, login: &Login) -> Self {
        Self {
            host: host.to_owned(),
            route: route.map(str::to_owned),
            provider: provider.map(str::to_owned),
            state: login.state.clone(),
            unwanted: None,
            challenge: pkce_challenge(&login.verifier),
            made_ms: login.started_ms,
        }
    }
}

impl Sessions {
    /// `sign_in_host`: whoever is asked; nobody else opens it.
    pub fn seal_request(&self, request: &Request, sign_in_host: &str) -> Option<String> {
        let place = Place { name: "request", host: sign_in_host };
        self.ring.seal(Purpose::HandOver, place, &serde_json::to_vec(request).ok()?)
    }

    /// Good for as long as the sign-in that it belongs to.
    pub fn open_request(&self, text: &str, sign_in_host: &str, now_ms: u64) -> Option<Request> {
        let opened = self.ring.open(Purpose::HandOver, Place { name: "request", host: sign_in_host }, text)?;
        let request: Request = serde_json::from_slice(&opened.plain).ok()?;
        (now_ms.saturating_sub(request.made_ms) <= millis(LIFETIME)).then_some(request)
    }

    /// What brings `session` to the host that asked. None where sessions have no store: two cookies would then hold one
    /// refresh token.
    pub fn seal_ticket(&self, session: &Session, request: &Request, now_ms: u64) -> Option<String> {
        let half = session.stored?.half;
        let until_ms = now_ms.saturating_add(millis(TICKET_LIFETIME)).to_be_bytes();
        let bound = bound(&request.challenge, &request.state);
        let plain = [session.data.id.as_slice(), &half, &until_ms, bound.as_bytes()].concat();
        self.ring.seal(Purpose::HandOver, Place { name: "ticket", host: &request.host }, &plain)
    }

    /// The session of a ticket that came to `host`, whose sign-in is `login`. None where it is not for here, not of this
    /// sign-in, too old, or its session has ended. Whether it comes for the first time is for the caller to ask.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn open_ticket(
        &self,
        text: &str,
        host: &str,
        login: &Login,
        now_ms: u64,
    ) -> Result<Option<Arc<Session>>> {
        let Some(ticket) = self.ticket(text, host, login, now_ms) else { return Ok(None) };
        let fetched = self.fetch(&ticket, now_ms).await?;
        Ok(fetched.map(|(session, _)| session).filter(|session| !self.has_ended(session, now_ms)))
    }

    fn ticket(&self, text: &str, host: &str, login: &Login, now_ms: u64) -> Option<Ticket> {
        let opened = self.ring.open(Purpose::HandOver, Place { name: "ticket", host }, text)?;
        let (id, rest) = opened.plain.split_first_chunk::<16>()?;
        let (half, rest) = rest.split_first_chunk::<32>()?;
        let (until_ms, rest) = rest.split_first_chunk::<8>()?;
        // SECURITY: L-04. Of this browser's own sign-in: a ticket that somebody else slipped it opens nothing.
        let bound = bound(&pkce_challenge(&login.verifier), &login.state);
        verify_slices_are_equal(rest, bound.as_bytes()).ok()?;
        (now_ms < u64::from_be_bytes(*until_ms)).then_some(Ticket { id: *id, half: *half })
    }
}

fn bound(challenge: &str, state: &str) -> String {
    [challenge, "\0", state].concat()
}
