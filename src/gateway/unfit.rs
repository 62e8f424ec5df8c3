//! Why a request that may pass cannot go upstream as it would have to: what the upstream must be shown is not there.

use super::respond::Asker;
use crate::error::Error;
use crate::http::reply::Reply;

#[derive(Debug)]
pub enum Unfit {
    Failed(Error),
    /// Whoever asks is nobody that this upstream can be told of, or that its provider gives a token for.
    Refused(&'static str),
}

impl Unfit {
    /// The answer, and the operator's line.
    pub fn answer(&self, asker: &Asker<'_>, route: &str, request_id: &str) -> Reply {
        match self {
            Self::Failed(error) => asker.failed(error),
            Self::Refused(why) => {
                tracing::warn!(route, request_id, why, "request not passed on");
                asker.forbidden(None, None)
            }
        }
    }
}
