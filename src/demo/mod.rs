//! What `doorward demo` needs besides the gateway: an OpenID provider and an application to protect, both on loopback
//! and in memory. Behaviour tests use the same provider and make it misbehave.
//!
//! It never listens beyond this machine, never speaks TLS, keeps nothing on disk, and the gateway never depends on it.

pub mod provider;
pub mod sample;
mod web;
