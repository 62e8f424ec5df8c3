//! Sockets: listening, TLS, dialling. Bytes only; nothing here knows HTTP.

pub mod dial;
pub mod listen;
pub mod tls;
