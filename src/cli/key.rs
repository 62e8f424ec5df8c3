//! `doorward key`

use std::io::Write as _;
use std::process::ExitCode;

use super::{FAILED, fail};
use crate::crypto::random;

/// 256 random bits, base64url: one line, nothing else, so that it can be redirected into a file.
pub(super) fn key() -> ExitCode {
    match writeln!(std::io::stdout(), "{}", random::token()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &format!("the key cannot be written: {error}")),
    }
}
