//! Sockets: listening, the PROXY protocol, TLS, dialling. Bytes only; nothing here knows HTTP.

pub mod crowd;
pub mod dial;
pub mod files;
mod keepalive;
pub mod listen;
pub mod proxy_protocol;
pub mod tls;
