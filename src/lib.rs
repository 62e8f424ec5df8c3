//! Doorward: OpenID Connect sign-in in front of any web application.
//!
//! The rooms, top to bottom, as `tests/layering.rs` enforces them: a file may use only rooms below its own.

pub mod clock;
pub mod config;
pub mod crypto;
#[cfg(feature = "demo")]
pub mod demo;
pub mod error;
pub mod http;
pub mod net;
pub mod policy;
pub mod provider;
pub mod route;
pub mod secret;
pub mod upstream;
