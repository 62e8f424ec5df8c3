//! Whoever a request comes from, once that is known: a person with a session, or a machine with a token.

use http::header::HeaderValue;

use crate::config::settings::IdentityValue;
use crate::machine::Machine;
use crate::session::Session;
use crate::session::identity::Identity;

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

    /// The value of one identity header that comes from claims.
    pub fn header(self, value: &IdentityValue) -> Option<&'a HeaderValue> {
        match self {
            Self::Machine(machine) => machine.headers.get(value),
            Self::Person(session) => session.header(value),
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
