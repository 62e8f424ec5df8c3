//! `[session.redis]`: one URL out of the many keys that oauth2-proxy has.

use url::Url;

use super::super::output::quoted;
use super::Context;

const VARIABLE: &str = "REDIS_URL";

pub(super) fn map(c: &mut Context) {
    c.draft.session.set("store", quoted("redis"), c.options.origin("session_store_type"));
    let (sentinel, cluster) = (c.options.flag("redis_use_sentinel", false), c.options.flag("redis_use_cluster", false));
    let (name, kind) = match (sentinel, cluster) {
        (true, _) => ("redis_sentinel_connection_urls", "-sentinel"),
        (_, true) => ("redis_cluster_connection_urls", "-cluster"),
        _ => ("redis_connection_url", ""),
    };
    for used in ["redis_username", "redis_password"] {
        c.options.mark(used);
    }
    if sentinel {
        c.options.mark("redis_sentinel_master_name");
    }
    let given = c.options.given(name).cloned();
    let from = c.options.origin(name);
    if let Some((variable, [])) =
        given.as_ref().and_then(|given| Some((given.variable.clone()?, given.values.as_slice())))
    {
        // Only the variable knows it: one server's URL can stay there, the others are spelt differently.
        if kind.is_empty() && c.options.given("redis_password").is_none() {
            return reference(c, &variable, false, from);
        }
        return missing(c, kind);
    }
    // Before it is written: who knows the password may be told by a variable, not which server it is.
    let place_is_known = |url: &Url| !url.host_str().unwrap_or_default().contains('$');
    let urls: Vec<Url> = c.options.list(name).iter().filter_map(|text| Url::parse(text).ok()).collect();
    let Some(first) = urls.first() else {
        return c.options.refuse(name, "is missing, or no URL such as redis://redis.example.com:6379");
    };
    if !urls.iter().all(place_is_known) {
        return missing(c, kind);
    }
    if kind.is_empty() && first.scheme() == "unix" {
        return c.draft.redis.set("url", quoted(first.as_str()), from);
    }
    let tls = first.scheme() == "rediss";
    let place = |url: &Url| {
        let host = url.host_str().unwrap_or_default().to_owned();
        match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    };
    let places = urls.iter().map(place).collect::<Vec<_>>().join(",");
    let database = match kind {
        "-cluster" => String::new(),
        "-sentinel" => format!(
            "/{}{}",
            c.options.text("redis_sentinel_master_name").unwrap_or("mymaster"),
            first.path().trim_end_matches('/')
        ),
        _ => first.path().trim_end_matches('/').to_owned(),
    };
    let scheme = format!("redis{}{kind}", if tls { "s" } else { "" });
    let has_password = c.options.given("redis_password").is_some() || first.password().is_some();
    let user = c.options.text("redis_username").unwrap_or_else(|| first.username()).to_owned();
    if has_password || !user.is_empty() {
        let shape = format!("{scheme}://{user}:PASSWORD@{places}{database}");
        c.options.warn(
            "redis_password",
            format!("is not copied: put {shape} into the variable {VARIABLE}, with the password percent-encoded"),
        );
        reference(c, VARIABLE, tls, from);
    } else {
        c.draft.redis.set("url", quoted(&format!("{scheme}://{places}{database}")), from);
    }
    let ca = c.options.text("redis_ca_path").map(str::to_owned);
    match ca {
        Some(ca) if tls => c.draft.redis.set("ca", quoted(&ca), c.options.origin("redis_ca_path")),
        Some(_) => c.options.warn("redis_ca_path", "not carried over: the URL asks for no TLS (rediss://)"),
        None => {}
    }
    let is_here = |url: &Url| url.host_str().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]"));
    if !tls && !urls.iter().all(is_here) {
        c.options.warn(
            name,
            "INSECURE: no TLS: whoever is on the way reads the password and sees who is signed in; write rediss://",
        );
    }
}

fn reference(c: &mut Context, variable: &str, tls: bool, from: String) {
    let stand_in = if tls { "rediss://stand-in:6379" } else { "redis://127.0.0.1:6379" };
    c.draft.redis.secret("url", format!("{{ env = {} }}", quoted(variable)), quoted(stand_in), from);
}

fn missing(c: &mut Context, kind: &str) {
    c.options.warn("redis_connection_url", format!("is not in these files: put redis{kind}://:PASSWORD@HOST:6379 (rediss{kind}:// with TLS) into the variable {VARIABLE}"));
    reference(c, VARIABLE, false, String::new());
}
