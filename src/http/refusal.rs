//! Why a request is refused before anything is decided about it. Never holds what the client sent.

use std::fmt;

use http::StatusCode;

use crate::error::{Error, Kind};

/// A request that cannot be understood in exactly one way, or asks for what is not offered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    status: StatusCode,
    why: &'static str,
}

impl Refusal {
    pub const fn new(status: StatusCode, why: &'static str) -> Self {
        Self { status, why }
    }

    pub(super) const fn bad(why: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    pub fn status(self) -> StatusCode {
        self.status
    }

    /// One clause for the log and the error page.
    pub fn why(self) -> &'static str {
        self.why
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(Kind::BadRequest, refusal.why)
    }
}
