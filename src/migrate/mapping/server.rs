//! `[server]`, `[admin]`, `[telemetry]`: how Doorward is reached and whom it believes.

use url::Url;

use super::super::output::{list, quoted};
use super::Context;
use super::values;
use crate::http::origin::Origin;

const DEFAULT_PREFIX: &str = "/oauth2";

pub(super) fn map(c: &mut Context, public_url: Option<&str>) {
    for name in ["proxy_prefix", "redirect_url", "cookie_secure"] {
        c.options.mark(name);
    }
    prefix(c);
    self::public_url(c, public_url);
    listen(c);
    trusted_proxies(c);
    if c.prefix != DEFAULT_PREFIX {
        let from = c.options.origin("proxy_prefix");
        c.draft.server.set("prefix", quoted(&c.prefix), from);
    }
    admin(c);
    if c.options.given("request_logging").is_some() && !c.options.flag("request_logging", true) {
        c.draft.telemetry.set("access_log", "false", c.options.origin("request_logging"));
    }
}

fn prefix(c: &mut Context) {
    let written = c.options.text("proxy_prefix").unwrap_or(DEFAULT_PREFIX).trim_matches('/').to_owned();
    c.prefix = format!("/{written}");
    if written.is_empty() {
        c.prefix = DEFAULT_PREFIX.to_owned();
        c.options.warn(
            "proxy_prefix",
            format!("not carried over: Doorward's endpoints cannot be the whole site; they are below {DEFAULT_PREFIX}"),
        );
    }
}

fn public_url(c: &mut Context, given: Option<&str>) {
    let callback = format!("{}/callback", c.prefix);
    let redirect = c.options.text("redirect_url").and_then(|text| Url::parse(text).ok());
    let redirect_origin = redirect.as_ref().and_then(|url| Origin::of(url).ok());
    let mut own: Vec<String> = c.options.own_origins.clone();
    own.dedup();
    let (origin, from) = match (given, redirect_origin, own.as_slice()) {
        (Some(given), ..) => match Origin::parse(given) {
            Ok(origin) => (origin, "--public-url".to_owned()),
            Err(what) => return c.options.refuse("--public-url", what),
        },
        (None, Some(origin), _) => (origin, c.options.origin("redirect_url")),
        (None, None, [one]) => match Origin::parse(one) {
            Ok(origin) => (origin, "the Ingress of oauth2-proxy".to_owned()),
            Err(what) => {
                return c.options.refuse("redirect_url", format!("the host of the Ingress {what}; say --public-url"));
            }
        },
        _ => {
            let why = "oauth2-proxy takes each request's host where there is none; Doorward has to know what browsers type: \
                       say --public-url https://app.example.com";
            return c.options.refuse("redirect_url", why);
        }
    };
    let is_callback = redirect.as_ref().is_none_or(|url| matches!(url.path(), "" | "/") || url.path() == callback);
    if !is_callback {
        c.options
            .warn("redirect_url", format!("its path is not carried over: register {origin}{callback} at the provider"));
    } else if given.is_some() {
        c.options.warn("--public-url", format!("register {origin}{callback} at the provider"));
    }
    c.draft.server.set("public_url", quoted(origin.as_str()), from);
    let secure = c.options.text("cookie_secure").map(|_| c.options.flag("cookie_secure", true));
    match (origin.is_https(), secure) {
        (true, Some(false)) => {
            c.options.warn("cookie_secure", "not carried over: public_url is https, so the session cookie is Secure")
        }
        (false, Some(true)) => c.options.warn(
            "cookie_secure",
            "not carried over: public_url is plain http, where browsers drop a Secure cookie; write https",
        ),
        _ => {}
    }
    if !origin.is_confidential() {
        c.draft.server.set("insecure", "true", "public_url is plain http");
        c.options.warn("redirect_url", format!("INSECURE: {origin} is plain http: whoever is on the way can take every session. Write https, and remove server.insecure"));
    }
    c.host = origin.host().to_owned();
    c.is_https = origin.is_https();
}

fn listen(c: &mut Context) {
    let structured = c.options.structured;
    let mut address = |name: &str, default: &str| {
        let written = match c.options.text(name) {
            Some(text) => text.to_owned(),
            None if structured || c.options.given(name).is_some() => String::new(),
            None => default.to_owned(),
        };
        values::listen(&written).unwrap_or_else(|what| {
            c.options.refuse(name, format!("{what}; write an IP address and a port, unix:///path or fd:3"));
            None
        })
    };
    let (http, https) = (address("http_address", "127.0.0.1:4180"), address("https_address", ":443"));
    let (cert, key) = (c.options.text("tls_cert_file").map(quoted), c.options.text("tls_key_file").map(quoted));
    let written = c.options.text("http_address").is_some();
    let (listen, from, redirect) = match (&cert, &key) {
        (Some(_), Some(_)) => (https, "https_address", http.filter(|_| written)),
        (None, None) => (http, "http_address", None),
        _ => {
            return c
                .options
                .refuse("tls_cert_file", "certificate and key belong together: tls_cert_file and tls_key_file");
        }
    };
    let from =
        if c.options.given(from).is_some() { c.options.origin(from) } else { "oauth2-proxy's default".to_owned() };
    let listen = listen.unwrap_or_else(|| "127.0.0.1:4180".to_owned());
    c.draft.server.set("listen", list(&[listen]), from);
    let forced = c.options.flag("force_https", false);
    if let (Some(cert), Some(key)) = (cert, key) {
        c.draft.tls.set("cert", cert, c.options.origin("tls_cert_file"));
        c.draft.tls.set("key", key, c.options.origin("tls_key_file"));
        match c.options.text("tls_min_version").map(|text| text.trim_start_matches("TLS").to_owned()) {
            Some(version) if matches!(version.as_str(), "1.2" | "1.3") => {
                c.draft.tls.set("min_version", quoted(&version), c.options.origin("tls_min_version"));
            }
            Some(_) => c.options.warn("tls_min_version", "not carried over: TLS 1.2 is the oldest that is spoken"),
            None => {}
        }
        if let Some(redirect) = redirect.filter(|_| forced || structured) {
            c.draft.tls.set("redirect_listen", list(&[redirect]), c.options.origin("http_address"));
            if !forced {
                c.options
                    .warn("http_address", "only redirects to https: with a certificate nothing is served in the clear");
            }
        }
    } else if forced {
        c.options.warn(
            "force_https",
            "not carried over: Doorward has no certificate here; let the proxy in front redirect to https",
        );
    }
}

fn trusted_proxies(c: &mut Context) {
    let written = c.options.list("trusted_proxy_ips");
    if !c.options.flag("reverse_proxy", false) {
        if !written.is_empty() {
            c.options
                .warn("trusted_proxy_ips", "not carried over: without reverse_proxy nobody's X-Forwarded-* counts");
        }
        return;
    }
    if written.is_empty() {
        c.draft.server.set(
            "trusted_proxies",
            list(&["127.0.0.0/8", "::1/128"]),
            "reverse_proxy: name the proxies in front",
        );
        c.options.warn("reverse_proxy", "INSECURE in oauth2-proxy, which believes X-Forwarded-* of everybody; here only of this machine, until you name the networks of the proxies in front in server.trusted_proxies");
    } else {
        let from = c.options.origin("trusted_proxy_ips");
        c.draft.server.set("trusted_proxies", list(&written), from);
    }
}

fn admin(c: &mut Context) {
    let Some(written) = c.options.text("metrics_address").map(str::to_owned) else { return };
    let from = c.options.origin("metrics_address");
    let address = values::listen(&written).ok().flatten().and_then(|text| text.parse::<std::net::SocketAddr>().ok());
    let Some(address) = address else {
        c.options.warn(
            "metrics_address",
            "not carried over: write an IP address and a port in [admin] listen; metrics are on 127.0.0.1:9180",
        );
        return;
    };
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], address.port()));
    let is_local = address.ip().is_loopback();
    c.draft.admin.set("listen", quoted(&if is_local { address } else { local }.to_string()), from);
    if !is_local {
        c.options.warn("metrics_address", format!("on loopback only: Doorward's admin listener also lists and ends sessions and asks nobody who they are. Write {address} where only the monitoring can reach it"));
    }
    c.options.warn("metrics_address", "the names of the metrics differ (docs/operating.md)");
}
