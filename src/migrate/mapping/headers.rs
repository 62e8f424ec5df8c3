//! `identity` and `[route.upstream_auth]`: what the application is told.

use super::super::options::Header;
use super::super::output::quoted;
use super::Context;

/// Of every protected route.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// TOML, one each: presets and headers.
    pub(super) identity: Vec<String>,
    /// The kind of `upstream_auth`.
    pub(super) auth: Option<&'static str>,
}

pub(super) fn told(c: &mut Context) -> Told {
    let mut told = if c.options.structured { structured(c) } else { flat(c) };
    if told.auth == Some("id_token") && !c.is_openid {
        told.auth = None;
        c.options.warn("pass_authorization_header", "not carried over: GitHub issues no ID token");
    }
    told
}

fn flat(c: &mut Context) -> Told {
    let mut told = Told::default();
    let (basic, user) = (c.options.flag("pass_basic_auth", true), c.options.flag("pass_user_headers", true));
    if basic || user {
        if c.options.flag("prefer_email_to_user", false) {
            for (name, claim) in [
                ("X-Forwarded-User", "email"),
                ("X-Forwarded-Groups", "groups"),
                ("X-Forwarded-Preferred-Username", "preferred_username"),
            ] {
                told.identity.push(custom(c, name, claim));
            }
        } else {
            told.identity.push(quoted("x-forwarded"));
        }
    }
    if c.options.flag("set_xauthrequest", false) {
        told.identity.push(quoted("x-auth-request"));
    }
    if c.options.flag("pass_access_token", false) {
        told.identity.push(quoted("x-forwarded-access-token"));
    }
    let passes =
        ["pass_authorization_header", "set_authorization_header"].iter().any(|name| c.options.flag(name, false));
    told.auth = passes.then_some("id_token");
    told
}

fn structured(c: &mut Context) -> Told {
    let mut told = Told::default();
    let request = c.options.request_headers.take().unwrap_or_default();
    let response = c.options.response_headers.take().unwrap_or_default();
    let mut headers: Vec<Header> = Vec::new();
    for header in request.into_iter().chain(response) {
        if !headers.iter().any(|there| there.name.eq_ignore_ascii_case(&header.name)) {
            headers.push(header);
        }
    }
    for (preset, start) in [("x-forwarded", "X-Forwarded"), ("x-auth-request", "X-Auth-Request")] {
        let wanted =
            [("User", "user"), ("Email", "email"), ("Groups", "groups"), ("Preferred-Username", "preferred_username")];
        let is_one = |header: &Header| {
            wanted.iter().any(|(name, claim)| {
                header.name.eq_ignore_ascii_case(&format!("{start}-{name}"))
                    && header.claim == *claim
                    && header.prefix.is_empty()
            })
        };
        let count = headers.iter().filter(|header| is_one(header)).count();
        if count == wanted.len() {
            headers.retain(|header| !is_one(header));
            told.identity.push(quoted(preset));
        }
    }
    for header in headers {
        one(c, &header, &mut told);
    }
    told
}

fn one(c: &mut Context, header: &Header, told: &mut Told) {
    let lower = header.name.to_ascii_lowercase();
    let kind = match header.claim.as_str() {
        "id_token" => Some("id_token"),
        "access_token" => Some("access_token"),
        _ => None,
    };
    let mut lost = |why: &str| c.options.warn(&format!("header {}", header.name), format!("not carried over: {why}"));
    match (lower.as_str(), kind, header.prefix.as_str()) {
        ("authorization", Some(kind), "Bearer ") => told.auth = Some(kind),
        ("authorization", ..) => lost("Authorization is what [route.upstream_auth] says"),
        ("x-forwarded-access-token" | "x-auth-request-access-token", Some("access_token"), "") => {
            let preset = quoted("x-forwarded-access-token");
            if !told.identity.contains(&preset) {
                told.identity.push(preset);
            }
        }
        (_, Some(_), _) => lost(
            "tokens go upstream as X-Forwarded-Access-Token (identity \"x-forwarded-access-token\") or in Authorization ([route.upstream_auth])",
        ),
        _ if matches!(header.claim.as_str(), "refresh_token" | "created_at" | "expires_on") => {
            lost("that is no claim of the person")
        }
        (_, None, "") => {
            let item = custom(c, &header.name, &header.claim);
            told.identity.push(item);
        }
        _ => lost("a header says the claim alone, with no text before it"),
    }
}

fn custom(c: &Context, name: &str, claim: &str) -> String {
    // What oauth2-proxy calls these is where it found them.
    let of_key = |key: &str, default: &str| c.options.text(key).filter(|claim| *claim != default).map(str::to_owned);
    let claim = match claim {
        "user" if c.is_openid => "sub".to_owned(),
        "user" => "login".to_owned(),
        "email" => of_key("oidc_email_claim", "email")
            .or_else(|| of_key("user_id_claim", "email"))
            .unwrap_or_else(|| "email".to_owned()),
        "groups" => of_key("oidc_groups_claim", "groups").unwrap_or_else(|| "groups".to_owned()),
        other => other.to_owned(),
    };
    format!("{{ header = {}, claim = {} }}", quoted(name), quoted(&claim))
}
