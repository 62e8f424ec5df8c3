//! Cryptography: randomness, strict JSON for signed things, key sets, signatures of tokens.
//!
//! Primitives come from aws-lc-rs, signatures through jsonwebtoken; nothing here invents any. What a claim must say is
//! no business of this room.

pub mod json;
pub mod jwk;
pub mod jws;
pub mod random;
#[cfg(test)]
pub(crate) mod testing;
