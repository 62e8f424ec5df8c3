//! Sessions for unit tests.

use super::Session;
use super::data::{Begun, Data, Tokens};
use super::identity::Identity;

/// Of one person, whose mark they all have.
pub(super) fn session(id: u8, created_ms: u64) -> Session {
    let data = Data {
        id: [id; 16],
        provider: "main".into(),
        issuer: "https://id.example.com".into(),
        identity: Identity { sub: "alice".into(), user: "alice".into(), ..Identity::default() },
        created_ms,
        expires_ms: created_ms + 1_000_000,
        seen_ms: created_ms,
        tokens: Tokens::default(),
        begun: Begun::default(),
    };
    Session::new(data, None, Box::new([[7; 32]]), &[], 1)
}
