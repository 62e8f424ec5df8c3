//! `[provider.NAME]`: one OpenID provider.

use std::time::Duration;

use url::Url;

use super::client_auth;
use super::problem::Reason;
use super::read::Table;
use super::settings::{Claims, OWN_PARAMETERS, Par, Provider};
use super::sign_in;
use super::values::{self, seconds};
use crate::http::origin::Origin;
use crate::secret::Secret;

const ALGORITHMS: [&str; 12] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512"];

/// `several`: there are other providers beside it.
pub(super) fn provider(name: String, table: Table<'_>, several: bool) -> Provider {
    let insecure = table.boolean("insecure", false);
    let is_openid = sign_in::is_openid(&table);
    let kind = sign_in::kind(&table, is_openid, insecure);
    let issuer = match is_openid {
        true => issuer(&table, "provider", &name, insecure),
        false => sign_in::stand_in(&table, &name, insecure, &kind),
    };
    let client_id = client_id(&table);
    let client = client_auth::client(&table, is_openid);
    let (flow, response_mode) = sign_in::flow(&table, &name, is_openid);
    let provider = Provider {
        label: table.text("label").unwrap_or_else(|| name.clone()),
        client_auth: client.auth,
        client_key: client.key,
        client_cert: client.cert,
        dpop: client_auth::dpop(&table, flow),
        flow,
        response_mode,
        callback: sign_in::callback(&table, &name, several, is_openid),
        issuer,
        client_id,
        scopes: scopes(&table, is_openid),
        extra_params: table.table("extra_params").map(extra_params).unwrap_or_default(),
        par: table
            .choice("par", &[("auto", Par::Auto), ("required", Par::Required), ("off", Par::Off)])
            .unwrap_or(Par::Auto),
        id_token_algs: id_token_algs(&table, client.secret.as_ref()),
        timeout: table.timeout("timeout", seconds(10)),
        post_logout_redirect_uri: table.parse("post_logout_redirect_uri", post_logout_redirect_uri),
        ca: table.path("ca"),
        clock_skew: clock_skew(&table),
        insecure,
        claims: claims(table.section("claims"), if is_openid { "sub" } else { "id" }),
        client_secret: client.secret,
        kind,
        name,
    };
    table.close();
    provider
}

/// Of a `[provider.NAME]` or an `[issuer.NAME]`: `section` says which.
pub(super) fn issuer(table: &Table<'_>, section: &str, name: &str, insecure: bool) -> String {
    let hint = "Write the issuer exactly as its discovery document spells it, such as \
                \"https://id.example.com/realms/main\" (flag --issuer).";
    let Some(entry) = table.entry("issuer").filter(|_| !table.lacks("issuer")) else {
        table.missing("issuer", hint);
        return String::new();
    };
    let origin = entry.parse(|text| {
        let url = Url::parse(text).map_err(|_| Reason::new("is not a URL", hint))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Reason::new("has a query or a fragment, which no issuer has", hint));
        }
        if url.path().contains("/.well-known/") {
            return Err(Reason::new(
                "is the address of a document, not the issuer",
                "Leave out what begins with /.well-known/.",
            ));
        }
        let origin = Origin::of(&url).map_err(|what| Reason::new(what, hint))?;
        // SECURITY: GX-09: keys and tokens would travel in the clear, for anyone on the way to replace.
        if !origin.is_confidential() && !insecure {
            return Err(Reason::new(
                "is plain http to another machine",
                "Write https://; or, in a network that you trust with every sign-in, insecure = true beside it.",
            ));
        }
        Ok(origin)
    });
    if origin.is_some_and(|origin| !origin.is_confidential()) {
        table.reader().warn(format!(
            "{section}.{name}.issuer is plain http (insecure = true): whoever is on the way can sign in as anybody."
        ));
    }
    // Verbatim: `iss` is compared with it byte for byte (C-05).
    entry.value.into_string().unwrap_or_default()
}

/// J-16: one tolerance for every date, and a bounded one.
pub(super) fn clock_skew(table: &Table<'_>) -> Duration {
    let skew = table.parse("clock_skew", |text| match values::duration(text)? {
        skew if skew > seconds(300) => {
            Err(Reason::new("is more than 5 minutes", "Write at most \"5m\"; set the clocks right instead."))
        }
        skew => Ok(skew),
    });
    skew.unwrap_or(seconds(30))
}

fn client_id(table: &Table<'_>) -> String {
    let client_id = table.text("client_id");
    if table.lacks("client_id") {
        table.missing("client_id", "Write the id under which the provider knows Doorward (flag --client-id).");
    }
    client_id.unwrap_or_default()
}

fn scopes(table: &Table<'_>, is_openid: bool) -> Vec<String> {
    let scopes = table.list("scopes", |text| {
        // scope-token of RFC 6749 §3.3
        let fits = |b: u8| b == 0x21 || (0x23..=0x5b).contains(&b) || (0x5d..=0x7e).contains(&b);
        if text.is_empty() || !text.bytes().all(fits) {
            return Err(Reason::new("is not a scope", "Write one scope a string: [\"openid\", \"email\"]."));
        }
        Ok(text.to_owned())
    });
    let Some(scopes) = scopes else {
        let usual: &[&str] = if is_openid { &["openid", "profile", "email"] } else { &[] };
        return usual.iter().map(|scope| (*scope).to_owned()).collect();
    };
    if is_openid && !scopes.iter().any(|s| s == "openid") {
        table.problem("scopes", "lacks \"openid\"", "Add it: without it the provider sends no ID token.");
    }
    scopes
}

fn extra_params(table: Table<'_>) -> Vec<(String, String)> {
    let mut params = Vec::new();
    for (name, entry) in table.free() {
        if OWN_PARAMETERS.contains(&name.as_str()) {
            entry.problem("is a parameter that Doorward sets itself", "Remove it.");
        } else if let Some(value) = entry.value.as_str() {
            params.push((name, value.to_owned()));
        } else {
            entry.wrong_type("a string", "Write it in quotes.");
        }
    }
    params
}

fn id_token_algs(table: &Table<'_>, secret: Option<&Secret>) -> Vec<String> {
    let algorithms = table.list("id_token_algs", |text| {
        if !ALGORITHMS.contains(&text) {
            return Err(Reason::new(
                "is not a signature algorithm that can be trusted here",
                format!("Write some of {}.", ALGORITHMS.join(", ")),
            ));
        }
        // SECURITY: a shorter secret can be found from one token (RFC 7518 §3.2).
        let least = match text {
            "HS256" => 32,
            "HS384" => 48,
            "HS512" => 64,
            _ => 0,
        };
        if secret.map_or(0, |s| s.expose().len()) < least {
            return Err(Reason::new(
                format!("needs a client_secret of at least {least} bytes"),
                "Have the provider issue a longer secret, or sign with RS256 or ES256.",
            ));
        }
        Ok(text.to_owned())
    });
    algorithms.unwrap_or_default()
}

fn post_logout_redirect_uri(text: &str) -> Result<String, Reason> {
    let hint = "Write the URL that is registered at the provider, such as \"https://app.example.com/bye\".";
    let url = Url::parse(text).map_err(|_| Reason::new("is not a URL", hint))?;
    Origin::of(&url).map_err(|what| Reason::new(what, hint))?;
    if url.fragment().is_some() {
        return Err(Reason::new("has a fragment", hint));
    }
    Ok(text.to_owned())
}

/// `user`: the claim that names a person where none is written.
pub(super) fn claims(table: Table<'_>, user: &str) -> Claims {
    let claim = |name, default: &str| table.parse(name, values::claim).unwrap_or_else(|| default.to_owned());
    let claims = Claims {
        user: claim("user", user),
        email: claim("email", "email"),
        name: claim("name", "name"),
        groups: claim("groups", "groups"),
    };
    table.close();
    claims
}
