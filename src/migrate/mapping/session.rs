//! `[session]`: the cookie, its key, how long a sign-in lasts, and where sessions are kept.

use std::time::Duration;

use super::super::output::{list, quoted};
use super::{Context, redis, values};

/// Variables that begin with DOORWARD_ are keys of the configuration.
const KEY_VARIABLE: &str = "DOOR_SESSION_KEY";
const MOST: Duration = Duration::from_secs(400 * 24 * 3600);

pub(super) fn map(c: &mut Context) {
    let stand_in = list(&["stand-in-of-a-session-key-0123456789abcdef"]);
    let reference = format!("[{{ env = {} }}]", quoted(KEY_VARIABLE));
    c.draft.session.secret("keys", reference, stand_in, "a new key: `doorward key` makes one");
    for name in ["cookie_secret", "cookie_secret_file"] {
        if c.options.given(name).is_some() {
            let what = format!(
                "not carried over: Doorward has a key of its own, in the variable {KEY_VARIABLE} (`doorward key` makes one); \
                 sessions of oauth2-proxy do not count, everybody signs in once"
            );
            c.options.warn(name, what);
        }
    }
    for name in
        ["cookie_secret", "cookie_secret_file", "cookie_name", "cookie_samesite", "cookie_expire", "session_store_type"]
    {
        c.options.mark(name);
    }
    domain(c);
    name(c);
    match c.options.text("cookie_samesite").map(str::to_ascii_lowercase).as_deref() {
        Some("strict") => c.draft.session.set("same_site", quoted("strict"), c.options.origin("cookie_samesite")),
        Some("none") => c.options.warn("cookie_samesite", "not carried over: the cookie is SameSite=Lax, so pages of other sites cannot use the application in a frame"),
        _ => {}
    }
    lifetime(c);
    match c.options.text("session_store_type") {
        Some("redis") => redis::map(c),
        Some("cookie") | None => {}
        Some(_) => c.options.refuse("session_store_type", "is neither cookie nor redis"),
    }
}

/// The domain that `public_url` is in; the longest, as oauth2-proxy takes it.
fn domain(c: &mut Context) {
    let written = c.options.list("cookie_domains");
    let bare = |text: &String| text.trim_start_matches('.').split(':').next().unwrap_or_default().to_ascii_lowercase();
    let mut domains: Vec<String> = written.iter().map(bare).collect();
    domains.sort_by_key(|domain| std::cmp::Reverse(domain.len()));
    let is_within = |domain: &&String| {
        c.host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let found = domains.iter().find(is_within).cloned();
    if let Some(domain) = &found {
        c.draft.session.set("cookie_domain", quoted(domain), c.options.origin("cookie_domains"));
    }
    let others: Vec<&str> =
        domains.iter().filter(|domain| Some(*domain) != found.as_ref()).map(String::as_str).collect();
    if !others.is_empty() && !c.host.is_empty() {
        c.options.warn("cookie_domains", format!("not carried over: {}; the session is for the one domain that public_url is in (hosts of other domains: session.hand_over)", others.join(", ")));
    }
    c.cookie_domain = found;
}

fn name(c: &mut Context) {
    let Some(name) = c.options.text("cookie_name").filter(|name| *name != "_oauth2_proxy").map(str::to_owned) else {
        return;
    };
    let lower = name.to_ascii_lowercase();
    let is_token = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-^_`|~".contains(&b));
    let host_only = lower.starts_with("__host-");
    let fits = is_token
        && !(host_only && c.cookie_domain.is_some())
        && (c.is_https || !(host_only || lower.starts_with("__secure-")));
    if fits {
        c.draft.session.set("cookie", quoted(&name), c.options.origin("cookie_name"));
        if !host_only && c.is_https && c.cookie_domain.is_none() {
            c.options.warn("cookie_name", "without it Doorward's is __Host-doorward, which browsers protect from other hosts; and while both run on one host, each needs a name of its own");
        }
    } else {
        c.options.warn("cookie_name", "not carried over: browsers or Doorward do not take this name here (no dots; __Host- and __Secure- want https)");
    }
}

fn lifetime(c: &mut Context) {
    let written = c.options.text("cookie_expire").map(str::to_owned);
    let duration = written.as_deref().and_then(values::duration);
    let (lifetime, from) = match (&written, duration) {
        (None, _) => ("168h".to_owned(), "oauth2-proxy's default; counted from the sign-in".to_owned()),
        (Some(_), Some(zero)) if zero.is_zero() => {
            c.options.warn("cookie_expire", "0 ended a session with the browser; here it lasts 24 hours");
            ("24h".to_owned(), String::new())
        }
        (Some(_), Some(long)) if long > MOST => {
            c.options.warn("cookie_expire", "is more than 400 days, the longest that browsers keep a cookie: 400 days");
            (values::shown(MOST), c.options.origin("cookie_expire"))
        }
        (Some(_), Some(duration)) => (values::shown(duration), c.options.origin("cookie_expire")),
        (Some(_), None) => {
            c.options.warn("cookie_expire", "not carried over: it is no duration; 24 hours");
            ("24h".to_owned(), String::new())
        }
    };
    if written.is_some()
        && c.options.text("cookie_refresh").is_some_and(|text| values::duration(text) != Some(Duration::ZERO))
    {
        c.options.warn("cookie_expire", "counts from the sign-in: a refresh does not begin it anew");
    }
    c.draft.session.set("lifetime", quoted(&lifetime), from);
    c.draft.session.set("idle_timeout", quoted("0s"), "oauth2-proxy has none; Doorward's own default is 2h");
}
