//! `[forward_auth]`: other proxies that ask for decisions.

use super::read::Table;
use super::server::listen;
use super::settings::{ForwardAuth, QuestionHeaders, Server};

/// `server` is read already: who may ask, and which addresses are taken.
pub(super) fn forward_auth(table: Table<'_>, server: &Server) -> ForwardAuth {
    let unset = ForwardAuth::default();
    let status = table.integer("success_status", 200..=299, u64::from(unset.success_status));
    let families = [
        ("any", QuestionHeaders::Any),
        ("x-forwarded", QuestionHeaders::Forwarded),
        ("x-original", QuestionHeaders::Original),
    ];
    let read = ForwardAuth {
        grpc_listen: table.parse("grpc_listen", listen),
        grpc_tls: table.boolean("grpc_tls", false),
        success_status: u16::try_from(status).unwrap_or(unset.success_status),
        headers: table.choice("headers", &families).unwrap_or(unset.headers),
    };
    if let Some(address) = &read.grpc_listen {
        if server.listeners().any(|taken| taken == address) {
            table.problem(
                "grpc_listen",
                format!("names {address}, which [server] listens on"),
                "Give it an address of its own, such as \"127.0.0.1:9191\".",
            );
        }
        // SECURITY: PX-20. Whoever asks says for whom: nobody may by default.
        if server.trusted_proxies.is_empty() {
            table.problem(
                "grpc_listen",
                "has nobody who may ask",
                "Name the proxies in server.trusted_proxies: all others are refused.",
            );
        }
    }
    if read.grpc_tls && server.tls.is_none() {
        table.problem(
            "grpc_tls",
            "wants a certificate, and there is no [server.tls]",
            "Add [server.tls] with cert and key, or remove grpc_tls.",
        );
    }
    table.close();
    read
}
