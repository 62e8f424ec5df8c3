//! Doorward: OpenID Connect sign-in in front of any web application.
//!
//! The rooms, top to bottom; a file may use only rooms below its own (`tests/layering.rs`).

pub mod cli;

pub mod migrate;

pub mod app;
pub mod reload;

#[cfg(feature = "demo")]
pub mod demo;

pub mod server;

pub mod gateway;

pub mod policy;
pub mod route;

pub mod machine;
pub mod session;

pub mod provider;

pub mod store;

pub mod upstream;

pub mod net;

pub mod http;

pub mod crypto;

pub mod config;

pub mod telemetry;

pub mod clock;
pub mod error;
pub mod secret;
