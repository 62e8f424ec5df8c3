//! What the server's errors mean here: one sentence for the log, and whether the connection is still good.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// The longest part of a server's own words.
const WORDS: usize = 200;

pub(super) fn text(error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::Io => error.to_string(),
        _ => {
            let name = error.code().unwrap_or_else(|| error.category());
            match error.detail().filter(|detail| is_harmless(detail)) {
                Some(detail) => format!("{name}: {}", detail.chars().take(WORDS).collect::<String>()),
                None => name.to_owned(),
            }
        }
    }
}

// SECURITY: ZX-06: a server that does not know a command repeats its arguments, of AUTH too.
fn is_harmless(detail: &str) -> bool {
    !detail.contains("with args") && !detail.contains("arguments")
}

/// Whether another connection may do better. A slow answer is no reason: the heartbeat finds a connection that is dead.
pub(super) fn breaks(error: &RedisError) -> bool {
    match error.kind() {
        // A value of a wrong type says nothing about the connection.
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => false,
        ErrorKind::Io => !error.is_timeout(),
        // A master that has become a replica: it is no longer whom we want.
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => true,
        _ => error.is_unrecoverable_error() || error.code() == Some("NOAUTH"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zx_06_a_server_that_repeats_arguments_is_not_quoted() {
        let error = RedisError::from((
            ErrorKind::AuthenticationFailed,
            "refused",
            "unknown command 'AUTH', with args beginning with: 'hunter2'".to_owned(),
        ));
        assert_eq!(text(&error), "authentication failed");
        let error = RedisError::from((ErrorKind::Server(ServerErrorKind::ReadOnly), "x", "You can't write".to_owned()));
        assert!(text(&error).contains("You can't write"));
        assert!(breaks(&error));
    }
}
