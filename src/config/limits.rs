//! `[server.limits]`: what a client may take.

use super::problem::Reason;
use super::read::Table;
use super::settings::Limits;
use super::values::{self, seconds};

/// Below this hyper's own read buffer would not fit.
const LEAST_HEADER_BYTES: usize = 8192;

pub(super) fn limits(table: Table<'_>) -> Limits {
    let header_bytes = table.parse("header_bytes", |text| {
        let bytes = values::size(text)?;
        if bytes < LEAST_HEADER_BYTES {
            return Err(Reason::new("is less than 8KiB", "Write at least \"8KiB\"; cookies alone can take 16KiB."));
        }
        Ok(bytes)
    });
    let count = |name, least, most: u64, default| {
        usize::try_from(table.integer(name, least..=most, default)).unwrap_or(usize::MAX)
    };
    let a_minute = |name, default| u32::try_from(table.integer(name, 1..=u64::from(u32::MAX), default));
    let limits = Limits {
        header_timeout: table.timeout("header_timeout", seconds(10)),
        idle_timeout: table.timeout("idle_timeout", seconds(75)),
        body_timeout: table.timeout("body_timeout", seconds(60)),
        websocket_idle_timeout: table.duration("websocket_idle_timeout", seconds(3600)),
        handshake_timeout: table.timeout("handshake_timeout", seconds(10)),
        handshakes: count("handshakes", 1, 1_000_000, 1024),
        header_bytes: header_bytes.unwrap_or(64 * 1024),
        // More than these hyper takes by a slower way.
        headers: count("headers", 16, 100, 100),
        body_bytes: table.parse("body_bytes", values::size).map_or(0, |bytes| bytes as u64),
        connections: count("connections", 1, 10_000_000, 20_000),
        connections_per_address: count("connections_per_address", 0, 10_000_000, 0),
        streams: u32::try_from(table.integer("streams", 1..=10_000, 100)).unwrap_or(u32::MAX),
        control_frames: u32::try_from(table.integer("control_frames", 10..=100_000, 200)).unwrap_or(u32::MAX),
        requests: count("requests", 1, 10_000_000, 20_000),
        logins_per_minute: a_minute("logins_per_minute", 60).unwrap_or(u32::MAX),
        refused_tokens_per_minute: a_minute("refused_tokens_per_minute", 600).unwrap_or(u32::MAX),
    };
    table.close();
    limits
}
