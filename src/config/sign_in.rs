//! `[provider.NAME]`, the keys that say how people are sent there and come back: `kind` with its endpoints, `flow`,
//! `response_mode`, `callback`.

use url::Url;

use super::problem::Reason;
use super::read::Table;
use super::settings::{Callback, Flow, OAuth2Endpoints, ProviderKind, ResponseMode};
use crate::http::origin::Origin;

/// What a provider without OpenID has no use for.
const OPENID_ONLY: [&str; 4] = ["id_token_algs", "issuer", "par", "post_logout_redirect_uri"];

pub(super) fn is_openid(table: &Table<'_>) -> bool {
    table.choice("kind", &[("oidc", true), ("oauth2", false)]).unwrap_or(true)
}

pub(super) fn kind(table: &Table<'_>, is_openid: bool, insecure: bool) -> ProviderKind {
    // Asked for in any case, so that a misspelt key is compared with them too.
    let read = |name| table.parse(name, |text| endpoint(text, insecure));
    let authorization_url = read("authorization_url");
    let token_url = read("token_url");
    let userinfo_url = read("userinfo_url");
    let emails_url = read("emails_url");
    if is_openid {
        for key in ["authorization_url", "token_url", "userinfo_url", "emails_url"] {
            if !table.lacks(key) {
                table.problem(
                    key,
                    "has no effect: an OpenID provider names its endpoints itself",
                    "Remove it; or write kind = \"oauth2\" for a provider without OpenID.",
                );
            }
        }
        return ProviderKind::Oidc;
    }
    for key in OPENID_ONLY {
        if table.entry(key).is_some() && !table.lacks(key) {
            table.problem(key, "has no effect with kind = \"oauth2\"", "Remove it.");
        }
    }
    for (key, example) in [
        ("authorization_url", "https://github.com/login/oauth/authorize"),
        ("token_url", "https://github.com/login/oauth/access_token"),
        ("userinfo_url", "https://api.github.com/user"),
    ] {
        if table.lacks(key) {
            table.missing(key, &format!("A provider without OpenID needs it: write the URL, such as \"{example}\"."));
        }
    }
    // Where one of them was reported, nobody will call the stand-in.
    match (authorization_url, token_url, userinfo_url) {
        (Some(authorization_url), Some(token_url), Some(userinfo_url)) => {
            ProviderKind::OAuth2(Box::new(OAuth2Endpoints { authorization_url, token_url, userinfo_url, emails_url }))
        }
        _ => ProviderKind::Oidc,
    }
}

/// The code flow by a query, unless something else is written.
pub(super) fn flow(table: &Table<'_>, name: &str, is_openid: bool) -> (Flow, ResponseMode) {
    let flows = [("code", Flow::Code), ("implicit_form_post", Flow::ImplicitFormPost)];
    let flow = table.choice("flow", &flows).unwrap_or(Flow::Code);
    let modes = [("query", ResponseMode::Query), ("form_post", ResponseMode::FormPost)];
    let mode = table.choice("response_mode", &modes);
    if flow == Flow::Code {
        return (flow, mode.unwrap_or(ResponseMode::Query));
    }
    if !is_openid {
        table.problem(
            "flow",
            "is not there without OpenID: an access token alone does not say whom it was issued for",
            "Remove it: kind = \"oauth2\" uses the code flow.",
        );
    }
    if mode == Some(ResponseMode::Query) {
        table.problem(
            "response_mode",
            "would put ID tokens into URLs",
            "Remove it: flow = \"implicit_form_post\" comes back by form_post.",
        );
    }
    table.reader().warn(format!(
        "provider.{name}.flow is implicit_form_post: RFC 9700 §2.1.2 advises against it. \
         Use the code flow as soon as the provider has a token endpoint."
    ));
    (flow, ResponseMode::FormPost)
}

/// SECURITY: B-03. Where there are several, each comes back to a place of its own unless its answers name their issuer.
pub(super) fn callback(table: &Table<'_>, name: &str, several: bool, is_openid: bool) -> Callback {
    let callbacks = [("own", Callback::Own), ("shared", Callback::Shared)];
    let callback = table.choice("callback", &callbacks);
    let callback = callback.unwrap_or(if several { Callback::Own } else { Callback::Shared });
    if callback == Callback::Shared && several && !is_openid {
        table.problem(
            "callback",
            "is \"shared\" beside other providers, and answers of this one do not say where they come from",
            "Remove it, and register {public_url}{prefix}/callback/NAME at the provider.",
        );
    }
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if callback == Callback::Own && !name.bytes().all(is_plain) {
        table.reader().problem(
            &table.key,
            table.tag(),
            "has a name that cannot stand in its callback's URL",
            "Name it with letters, digits, - and _: [provider.github].",
        );
    }
    callback
}

/// What stands for the issuer of a provider without OpenID.
pub(super) fn stand_in(table: &Table<'_>, name: &str, insecure: bool, kind: &ProviderKind) -> String {
    let ProviderKind::OAuth2(endpoints) = kind else { return String::new() };
    let all = [&endpoints.authorization_url, &endpoints.token_url, &endpoints.userinfo_url];
    if insecure && all.iter().any(|url| !is_confidential(url)) {
        table.reader().warn(format!(
            "provider.{name} is reached by plain http (insecure = true): whoever is on the way can sign in as anybody."
        ));
    }
    endpoints.authorization_url.to_string()
}

fn endpoint(text: &str, insecure: bool) -> Result<Url, Reason> {
    let hint = "Write it in full, as the provider documents it: \"https://…\".";
    let url = Url::parse(text).map_err(|_| Reason::new("is not a URL", hint))?;
    Origin::of(&url).map_err(|what| Reason::new(what, hint))?;
    if url.fragment().is_some() {
        return Err(Reason::new("has a fragment", hint));
    }
    // SECURITY: GX-09: codes and tokens would travel in the clear.
    if !is_confidential(&url) && !insecure {
        return Err(Reason::new(
            "is plain http to another machine",
            "Write https://; or, in a network that you trust with every sign-in, insecure = true beside it.",
        ));
    }
    Ok(url)
}

fn is_confidential(url: &Url) -> bool {
    Origin::of(url).is_ok_and(|origin| origin.is_confidential())
}
