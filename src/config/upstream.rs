//! `upstream` and `[route.upstream_options]`: where a route's requests go.

use std::path::PathBuf;

use figment::value::Value;
use url::Url;

use super::problem::Reason;
use super::read::Table;
use super::settings::{Target, UpstreamOptions};
use super::values::{self, seconds};

/// `optional` where no request ever gets there.
pub(super) fn target(route: &Table<'_>, optional: bool) -> Target {
    let stand_in = Target::Status(404);
    let entry = route.entry("upstream");
    if route.lacks("upstream") && !optional {
        route.missing("upstream", "Write where requests go: \"http://127.0.0.1:3000\" (flag --upstream).");
    }
    let Some(entry) = entry else { return stand_in };
    if matches!(entry.value, Value::Array(..)) {
        entry.problem(
            "is a list; several upstreams of one route are not available in this version",
            "Write one address, or put a load balancer there.",
        );
        return stand_in;
    }
    entry.parse(parse).unwrap_or(stand_in)
}

pub(super) fn options(table: Table<'_>) -> UpstreamOptions {
    let options = UpstreamOptions {
        connect_timeout: table.timeout("connect_timeout", seconds(5)),
        response_timeout: table.timeout("response_timeout", seconds(60)),
        idle_timeout: table.duration("idle_timeout", seconds(4)),
        ca: table.text("ca").map(PathBuf::from),
        pass_host: table.boolean("pass_host", true),
    };
    table.close(&["balance", "client_cert", "client_key", "health"]);
    options
}

fn parse(text: &str) -> Result<Target, Reason> {
    let hint =
        "Write \"http://127.0.0.1:3000\", \"https://app.internal/base\", \"unix:/run/app.sock\" or \"status:204\".";
    if text.starts_with("h2c://") {
        return Err(Reason::later());
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.starts_with('/') {
            Ok(Target::Unix(PathBuf::from(path)))
        } else {
            Err(Reason::new("names no absolute path", hint))
        };
    }
    if let Some(status) = text.strip_prefix("status:") {
        return match status.parse() {
            Ok(code @ 200..=599) => Ok(Target::Status(code)),
            _ => Err(Reason::new("is not a final status", "Write \"status:NNN\" with a number from 200 to 599.")),
        };
    }
    let url = Url::parse(text).map_err(|_| Reason::new("is not an upstream", hint))?;
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
    Ok(Target::Url(url))
}
