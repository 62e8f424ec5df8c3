//! Whoever a request comes from, once that is known: a person with a session, or a machine with a token.

use http::header::HeaderValue;

use crate::config::settings::IdentityValue;
use crate::machine::Machine;
use crate::secret::Secret;
use crate::session::Session;
use crate::session::identity::Identity;
use crate::session::presented::Presented;

#[derive(Clone, Copy)]
pub enum Who<'a> {
    Machine(&'a Machine),
    Person(&'a Session),
}

impl<'a> Who<'a> {
    pub fn identity(self) -> &'a Identity {
        match self {
            Self::Machine(machine) => &machine.identity,
            Self::Person(session) => &session.data.identity,
        }
    }

    /// The fields of one identity header that comes from claims or is the token; empty = there is no such claim.
    pub fn header(self, value: &IdentityValue) -> &'a [HeaderValue] {
        match self {
            Self::Machine(machine) => machine.header(value),
            Self::Person(session) => session.header(value),
        }
    }

    /// What is shown upstream in their name besides.
    pub fn presented(self) -> &'a Presented {
        match self {
            Self::Machine(machine) => &machine.headers.presented,
            Self::Person(session) => session.presented(),
        }
    }

    /// The session's access token, or the token that the request came with.
    pub fn access_token(self) -> Option<&'a Secret> {
        match self {
            Self::Machine(machine) => Some(&machine.token),
            Self::Person(session) => session.data.tokens.access.as_ref(),
        }
    }

    /// For logs and pages.
    pub fn name(self) -> &'a str {
        match self {
            Self::Machine(machine) => machine.name(),
            Self::Person(session) => session.user(),
        }
    }
}
