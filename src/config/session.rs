//! `[session]`: the session cookie and how long a sign-in lasts.

use super::problem::Reason;
use super::read::Table;
use super::settings::{SameSite, Session, Store};
use super::values::{self, hours, seconds};
use super::{redis, secrets};
use crate::http::origin::Origin;

/// Browsers keep no cookie longer (RFC 6265bis §5.5).
const MOST_DAYS: u64 = 400;

/// `public_url` is None when it was reported. `keys` stays empty where there is no file and none
/// are written: the caller makes one.
pub(super) fn session(table: Table<'_>, public_url: Option<&Origin>) -> Session {
    let cookie_domain = table.parse("cookie_domain", |text| cookie_domain(text, public_url));
    let https = public_url.is_none_or(Origin::is_https);
    let host_prefix = https && cookie_domain.is_none();
    let cookie = table.parse("cookie", |text| cookie(text, https, cookie_domain.is_some()));
    let same_sites = [("lax", SameSite::Lax), ("strict", SameSite::Strict)];
    let stores = [("cookie", Store::Cookie), ("memory", Store::Memory), ("redis", Store::Redis)];
    let store = table.choice("store", &stores).unwrap_or(Store::Cookie);
    let redis = redis::redis(table.section("redis"), store == Store::Redis);
    if let Some(warning) = redis.as_ref().and_then(redis::warning) {
        table.reader().warn(warning);
    }
    let session = Session {
        keys: secrets::session_keys(&table).unwrap_or_default(),
        cookie: cookie.unwrap_or_else(|| if host_prefix { "__Host-doorward" } else { "doorward" }.to_owned()),
        cookie_domain,
        same_site: table.choice("same_site", &same_sites).unwrap_or(SameSite::Lax),
        lifetime: table
            .parse("lifetime", |text| match values::timeout(text)? {
                long if long > hours(24 * MOST_DAYS) => Err(Reason::new(
                    "is more than 400 days, the longest that browsers keep a cookie",
                    "Write less, such as \"24h\".",
                )),
                lifetime => Ok(lifetime),
            })
            .unwrap_or(hours(24)),
        idle_timeout: table.duration("idle_timeout", hours(2)),
        refresh_before: table.duration("refresh_before", seconds(60)),
        refresh_grace: table.duration("refresh_grace", seconds(60)),
        store,
        hand_over: hand_over(&table, store),
        redis,
    };
    if !table.has("keys") && table.reader().layers.has_file() {
        table.missing(
            "keys",
            "Make one with `doorward key` and write keys = [{ file = \"/run/secrets/session-key\" }] \
             or [{ env = \"NAME\" }].",
        );
    }
    table.close();
    session
}

fn hand_over(table: &Table<'_>, store: Store) -> bool {
    let hand_over = table.boolean("hand_over", false);
    if hand_over && store == Store::Cookie {
        table.problem(
            "hand_over",
            "needs sessions in a store: two cookies would hold one refresh token, and the first to use it would end the other",
            "Write store = \"redis\", or \"memory\" for a single instance.",
        );
    }
    if hand_over && !table.lacks("cookie_domain") {
        table.problem(
            "hand_over",
            "stands beside cookie_domain, which shares sign-ins already",
            "Keep cookie_domain where every host is below it, else hand_over.",
        );
    }
    hand_over
}

fn cookie(text: &str, https: bool, has_domain: bool) -> Result<String, Reason> {
    if !values::is_token(text) || text.contains('.') {
        return Err(Reason::new(
            "is not a cookie name",
            "Write letters, digits, - and _: the dot is kept for the parts of a large session.",
        ));
    }
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("__host-") && has_domain {
        return Err(Reason::new(
            "cannot be shared by a cookie_domain: browsers refuse it",
            "Write another name, such as \"doorward\", or remove cookie_domain.",
        ));
    }
    if (lower.starts_with("__host-") || lower.starts_with("__secure-")) && !https {
        return Err(Reason::new(
            "is only accepted by browsers over https",
            "Write an https public_url, or another name, such as \"doorward\".",
        ));
    }
    Ok(text.to_owned())
}

fn cookie_domain(text: &str, public_url: Option<&Origin>) -> Result<String, Reason> {
    let domain = values::host(text.strip_prefix('.').unwrap_or(text))?;
    if domain.starts_with('[') || domain.parse::<std::net::IpAddr>().is_ok() {
        return Err(Reason::new("is an address; cookies are shared by names", "Remove it, or write a domain name."));
    }
    match public_url {
        Some(origin) if !is_within(origin.host(), &domain) => Err(Reason::new(
            format!("is not a domain of public_url's host {}", origin.host()),
            "Write a name that the host ends with, such as \"example.com\" for app.example.com.",
        )),
        _ => Ok(domain),
    }
}

/// Whether `host` is `domain` or below it.
pub(super) fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
