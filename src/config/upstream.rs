//! `upstream` and `[route.upstream_options]`: where a route's requests go.

use std::path::PathBuf;

use url::Url;

use super::problem::Reason;
use super::read::Table;
use super::settings::{Balance, Health, Target, UpstreamOptions};
use super::values::{self, seconds};

/// What `upstream` says.
pub(super) struct Targets {
    /// Never empty.
    pub(super) all: Vec<Target>,
    /// Written with `h2c://`.
    pub(super) h2c: bool,
}

/// `optional` where no request ever gets there.
pub(super) fn targets(route: &Table<'_>, optional: bool) -> Targets {
    if route.lacks("upstream") && !optional {
        route.missing("upstream", "Write where requests go: \"http://127.0.0.1:3000\" (flag --upstream).");
    }
    let written = route.list("upstream", parse);
    if written.as_ref().is_some_and(Vec::is_empty) {
        route.problem("upstream", "is empty", "Write at least one address, such as \"http://127.0.0.1:3000\".");
    }
    let (all, h2c): (Vec<Target>, Vec<bool>) = written.unwrap_or_default().into_iter().unzip();
    if all.is_empty() {
        return Targets { all: vec![Target::Status(404)], h2c: false };
    }
    let hint = if all.len() > 1 && all.iter().any(|target| matches!(target, Target::Status(_))) {
        Some(("has a status: among others", "Write \"status:NNN\" alone: then no request goes anywhere."))
    } else if all.iter().enumerate().any(|(n, target)| all.iter().take(n).any(|before| before == target)) {
        Some(("names one address twice", "Write each address once."))
    } else if h2c.contains(&true) && h2c.contains(&false) {
        Some(("has h2c:// at some addresses only", "Write all of them with h2c://, or none."))
    } else {
        None
    };
    if let Some((message, hint)) = hint {
        route.problem("upstream", message, hint);
    }
    Targets { all, h2c: h2c.contains(&true) }
}

pub(super) fn options(table: Table<'_>, h2c: bool) -> UpstreamOptions {
    let default = UpstreamOptions::default();
    let cert = table.path("client_cert");
    let key = table.path("client_key");
    for (is, name, other) in
        [(cert.is_some(), "client_cert", key.is_some()), (key.is_some(), "client_key", cert.is_some())]
    {
        if is && !other {
            table.problem(name, "stands alone", "Write client_cert and client_key, the PEM files, together.");
        }
    }
    let balances = [("least-request", Balance::LeastRequest), ("round-robin", Balance::RoundRobin)];
    let number = |name, default: usize| {
        usize::try_from(table.integer(name, 1..=1_000_000, default as u64)).unwrap_or(usize::MAX)
    };
    let options = UpstreamOptions {
        connect_timeout: table.timeout("connect_timeout", default.connect_timeout),
        response_timeout: table.timeout("response_timeout", default.response_timeout),
        idle_timeout: table.duration("idle_timeout", default.idle_timeout),
        resolve_interval: table.timeout("resolve_interval", default.resolve_interval),
        ca: table.path("ca"),
        client_cert: cert.zip(key),
        server_name: table.parse("server_name", values::host),
        http2: table.boolean("http2", default.http2) || h2c,
        pass_host: table.boolean("pass_host", default.pass_host),
        balance: table.choice("balance", &balances).unwrap_or(default.balance),
        health: table.table("health").map(health),
        eject_after: u32::try_from(table.integer("eject_after", 0..=1_000_000, u64::from(default.eject_after)))
            .unwrap_or(u32::MAX),
        eject_time: table.timeout("eject_time", default.eject_time),
        requests: number("requests", default.requests),
        queue: usize::try_from(table.integer("queue", 0..=1_000_000, default.queue as u64)).unwrap_or(usize::MAX),
        queue_timeout: table.timeout("queue_timeout", default.queue_timeout),
    };
    table.close();
    options
}

fn health(table: Table<'_>) -> Health {
    if table.lacks("path") {
        table.missing("path", "Write what the upstream answers with a 2xx while it is well: \"/health\".");
    }
    let interval = table.timeout("interval", seconds(5));
    let health = Health {
        path: table.parse("path", values::path).unwrap_or_else(|| "/".to_owned()),
        interval,
        timeout: table.timeout("timeout", interval.min(seconds(5))),
    };
    table.close();
    health
}

/// The address, and whether it was written with `h2c://`.
fn parse(text: &str) -> Result<(Target, bool), Reason> {
    let hint = "Write \"http://127.0.0.1:3000\", \"https://app.internal/base\", \"h2c://127.0.0.1:50051\", \
                \"unix:/run/app.sock\" or \"status:204\".";
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.starts_with('/') {
            Ok((Target::Unix(PathBuf::from(path)), false))
        } else {
            Err(Reason::new("names no absolute path", hint))
        };
    }
    if let Some(status) = text.strip_prefix("status:") {
        return match status.parse() {
            Ok(code @ 200..=599) => Ok((Target::Status(code), false)),
            _ => Err(Reason::new("is not a final status", "Write \"status:NNN\" with a number from 200 to 599.")),
        };
    }
    // Its scheme alone differs from http, and the `url` crate knows hosts and ports of that one.
    let h2c = text.strip_prefix("h2c:").map(|rest| format!("http:{rest}"));
    let url = Url::parse(h2c.as_deref().unwrap_or(text)).map_err(|_| Reason::new("is not an upstream", hint))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(Reason::new("is not an upstream", hint));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Reason::new("holds a user name or password", "Leave them out; this version sends none upstream."));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Reason::new("has a query or a fragment", hint));
    }
    values::path(url.path())?;
    Ok((Target::Url(url), h2c.is_some()))
}
