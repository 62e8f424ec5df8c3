//! Cryptography: randomness, sealing, strict JSON for signed things, key sets, signatures of tokens.
//!
//! Primitives come from aws-lc-rs, signatures through jsonwebtoken; nothing here invents any. What a claim must say, and
//! who may pass, is no business of this room.

pub mod json;
pub mod jwk;
pub mod jws;
pub mod random;
pub mod seal;
pub mod sign;
#[cfg(test)]
pub(crate) mod testing;
