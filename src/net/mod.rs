//! Sockets: dialling out. Knows addresses and TLS, never HTTP.

pub mod dial;
