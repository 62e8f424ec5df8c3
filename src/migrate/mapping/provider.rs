//! `[provider.main]`: where people sign in.

use url::Url;

use super::super::options::Given;
use super::super::output::{bare, list, quoted};
use super::Context;
use crate::config::settings::OWN_PARAMETERS;
use crate::http::origin::Origin;

const MICROSOFT: &str = "https://login.microsoftonline.com";
/// oauth2-proxy's names of providers that speak OpenID,
const OPENID: [&str; 10] =
    ["adfs", "azure", "cidaas", "entra-id", "gitlab", "google", "keycloak", "keycloak-oidc", "login.gov", "oidc"];
/// and of those that do not, besides github.
const OTHERS: [&str; 6] = ["bitbucket", "digitalocean", "facebook", "linkedin", "nextcloud", "sourcehut"];
const NO_OPENID: &str = "signs people in without OpenID and in a shape of its own: use its OpenID issuer \
     (provider = \"oidc\") if it has one, or a provider between, such as Keycloak or Dex";
const ALGORITHMS: [&str; 12] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512"];

pub(super) fn map(c: &mut Context) {
    c.options.mark("provider");
    let kind = c.options.text("provider").unwrap_or("google").to_owned();
    c.is_openid = kind != "github";
    if c.options.given("provider_display_name").is_some() {
        set(c, "label", "provider_display_name");
    }
    match kind.as_str() {
        "github" => github(c),
        kind if OPENID.contains(&kind) => openid(c, kind),
        kind if OTHERS.contains(&kind) => c.options.refuse("provider", format!("\"{kind}\" {NO_OPENID}")),
        _ => c.options.refuse("provider", format!("\"{kind}\" is no provider of oauth2-proxy")),
    }
    client(c);
    scopes(c, &kind);
    parameters(c);
    answers(c);
    claims(c, &kind);
}

/// A key of one text, as it is.
fn set(c: &mut Context, key: &'static str, name: &str) {
    if let Some(text) = known(c, name) {
        let from = c.options.origin(name);
        c.draft.provider.set(key, quoted(&text), from);
    }
}

/// The text of a key that Doorward wants in its file. None: there is none, or only a variable knows it, which is refused.
pub(super) fn known(c: &mut Context, name: &str) -> Option<String> {
    let given = c.options.given(name)?;
    if given.is_elsewhere() {
        return None;
    }
    c.options.text(name).map(str::to_owned)
}

fn openid(c: &mut Context, kind: &str) {
    let Some(issuer) = issuer(c, kind) else { return };
    let from = match c.options.given("oidc_issuer_url") {
        Some(_) if kind != "google" => c.options.origin("oidc_issuer_url"),
        _ => format!("provider = \"{kind}\""),
    };
    c.draft.provider.set("issuer", quoted(&issuer), from);
    let is_confidential =
        Url::parse(&issuer).ok().and_then(|url| Origin::of(&url).ok()).is_none_or(|origin| origin.is_confidential());
    if !is_confidential {
        insecure(c, "oidc_issuer_url");
    }
    if kind == "google" && !(c.options.list("google_groups").is_empty() && c.options.list("google_group").is_empty()) {
        c.options.refuse("google_groups", "Doorward asks no Google API, so whoever is in none of these groups would get in: remove it and name people, or use a provider between that says the groups");
    }
    for name in ["login_url", "redeem_url", "validate_url"] {
        let is_needed = kind == "keycloak" && name == "login_url";
        if c.options.text(name).is_some() && !is_needed {
            c.options.warn(
                name,
                "not carried over: Doorward reads the provider's endpoints from the issuer's discovery document",
            );
        }
    }
}

fn issuer(c: &mut Context, kind: &str) -> Option<String> {
    let tenants = c.options.list("entra_id_allowed_tenants");
    let is_elsewhere = c.options.given("oidc_issuer_url").is_some_and(Given::is_elsewhere);
    let written = if is_elsewhere {
        Some(known(c, "oidc_issuer_url")?)
    } else {
        c.options.text("oidc_issuer_url").map(str::to_owned)
    };
    let tenant = c.options.text("azure_tenant").filter(|tenant| *tenant != "common").map(str::to_owned);
    let is_microsoft = matches!(kind, "azure" | "entra-id");
    let of_tenant = |tenant: &str| format!("{MICROSOFT}/{tenant}/v2.0");
    let is_shared = written
        .as_ref()
        .is_some_and(|issuer| ["/common", "/organizations", "/consumers"].iter().any(|part| issuer.contains(part)));
    let issuer = match (&written, kind) {
        // oauth2-proxy goes to Google, whatever issuer is written.
        (_, "google") => Some("https://accounts.google.com".to_owned()),
        (Some(issuer), _) if !is_shared => Some(issuer.clone()),
        (_, "azure" | "entra-id") if tenants.len() == 1 => tenants.first().map(|tenant| of_tenant(tenant)),
        (None, "azure" | "entra-id") if tenant.is_some() => {
            c.options.mark("azure_tenant");
            tenant.as_deref().map(of_tenant)
        }
        (None, "gitlab") => Some("https://gitlab.com".to_owned()),
        (None, "keycloak") => {
            let login = c.options.text("login_url").unwrap_or_default();
            login.strip_suffix("/protocol/openid-connect/auth").map(str::to_owned)
        }
        _ => None,
    };
    if is_microsoft {
        c.options.mark("entra_id_allowed_tenants");
    }
    match &issuer {
        None if is_microsoft || is_shared => c.options.refuse(
            "oidc_issuer_url",
            "tokens of several tenants have several issuers: write that of one tenant, https://login.microsoftonline.com/TENANT/v2.0; for more, add a [provider.NAME] section for each by hand",
        ),
        None => c.options.refuse("oidc_issuer_url", "is missing: write the issuer as the provider's discovery document spells it"),
        Some(issuer) if !tenants.is_empty() && !tenants.iter().any(|tenant| issuer.contains(tenant.as_str())) => {
            c.options.refuse("entra_id_allowed_tenants", "does not name the tenant of oidc_issuer_url");
        }
        Some(_) if tenants.len() > 1 => c.options.warn("entra_id_allowed_tenants", "only the tenant of oidc_issuer_url gets in: add a [provider.NAME] section for each other one"),
        Some(_) => {}
    }
    issuer
}

/// GitHub, and what speaks like it (Gitea).
fn github(c: &mut Context) {
    let users = c.options.list("github_users");
    for name in ["github_org", "github_team", "github_repo"] {
        if c.options.text(name).is_some() && users.is_empty() {
            c.options.refuse(name, "Doorward does not ask the GitHub API for memberships, so everybody with an account there would get in: remove it and name people (github_users), or put a provider between that says the groups, such as Dex");
        }
    }
    let login = c.options.text("login_url").unwrap_or("https://github.com/login/oauth/authorize").to_owned();
    let redeem = c.options.text("redeem_url").unwrap_or("https://github.com/login/oauth/access_token").to_owned();
    let validate = c.options.text("validate_url").unwrap_or("https://api.github.com/").to_owned();
    let Ok(mut api) = Url::parse(&validate) else {
        return c.options.refuse("validate_url", "is not a URL");
    };
    // As oauth2-proxy finds the API: /api/vN of a Gitea, else where it is.
    let segments: Vec<&str> = api.path().split('/').collect();
    let base = match segments.as_slice() {
        ["", "api", version, ..] if version.starts_with('v') => format!("/api/{version}"),
        _ => api.path().trim_end_matches('/').to_owned(),
    };
    let mut at = |path: &str| {
        api.set_path(&format!("{base}{path}"));
        api.to_string()
    };
    let (user, emails) = (at("/user"), at("/user/emails"));
    c.draft.provider.set("kind", quoted("oauth2"), "GitHub has no OpenID");
    for (key, url, name) in [
        ("authorization_url", &login, "login_url"),
        ("token_url", &redeem, "redeem_url"),
        ("userinfo_url", &user, "validate_url"),
        ("emails_url", &emails, "validate_url"),
    ] {
        let from = if c.options.text(name).is_some() { c.options.origin(name) } else { String::new() };
        c.draft.provider.set(key, quoted(url), from);
    }
    let is_plain = |url: &String| {
        Url::parse(url).ok().and_then(|url| Origin::of(&url).ok()).is_some_and(|origin| !origin.is_confidential())
    };
    if [&login, &redeem, &user].into_iter().any(is_plain) {
        insecure(c, "login_url");
    }
    c.options.warn("provider", "users are told apart by their GitHub login, as in oauth2-proxy; a login can be given up and taken by somebody else: claims.user = \"id\" is the safe one");
}

fn insecure(c: &mut Context, name: &str) {
    c.draft.provider.set("insecure", "true", "plain http to another machine");
    c.options.warn(name, "INSECURE: the provider is reached by plain http: whoever is on the way can sign in as anybody. Write https, and remove provider.main.insecure");
}

fn client(c: &mut Context) {
    if c.options.given("client_id").is_none() {
        c.options.refuse("client_id", "is missing: write the id under which the provider knows this application");
    }
    set(c, "client_id", "client_id");
    let has_secret = secret(c, "client_secret", "client_secret", "client_secret_file", "OIDC_CLIENT_SECRET");
    let has_key = secret(c, "private_key", "jwt_key", "jwt_key_file", "OIDC_PRIVATE_KEY");
    if !has_secret && !has_key && c.options.given("client_id").is_some() {
        c.options.warn("client_secret", "there is none: Doorward is a public client, which the provider has to allow");
    }
    let files = c.options.list("provider_ca_files");
    if let Some(first) = files.first() {
        let from = c.options.origin("provider_ca_files");
        c.draft.provider.set("ca", quoted(first), from);
    }
    if files.len() > 1 {
        c.options
            .warn("provider_ca_files", "only the first is carried over: put all certificates into that one PEM file");
    }
}

/// A secret that is in a variable or a file stays there; one that was written out is not copied. Whether there is one.
fn secret(c: &mut Context, key: &'static str, literal: &str, file: &str, variable: &str) -> bool {
    let stand_in = || quoted("stand-in-of-a-secret-that-is-long-enough-for-every-algorithm-there-is");
    if let Some(given) = c
        .options
        .given(literal)
        .cloned()
        .filter(|given| given.variable.is_some() || given.values.iter().any(|v| !v.is_empty()))
    {
        let name = given.variable.clone().unwrap_or_else(|| variable.to_owned());
        let from = c.options.origin(literal);
        c.draft.provider.secret(key, format!("{{ env = {} }}", quoted(&name)), stand_in(), from);
        if given.variable.is_none() {
            c.options.warn(literal, format!("is not copied: put its value into the variable {name}, or into a file and write {{ file = \"/path\" }}"));
        }
        return true;
    }
    let Some(path) = c.options.text(file).map(str::to_owned) else { return false };
    let from = c.options.origin(file);
    c.draft.provider.secret(key, format!("{{ file = {} }}", quoted(&path)), stand_in(), from);
    true
}

fn scopes(c: &mut Context, kind: &str) {
    let Some(scope) = c.options.text("scope").map(str::to_owned) else {
        let wants_groups = matches!(kind, "adfs" | "cidaas" | "keycloak-oidc" | "oidc")
            && !c.options.list("allowed_groups").is_empty();
        if wants_groups {
            c.draft.provider.set(
                "scopes",
                list(&["openid", "email", "profile", "groups"]),
                "oauth2-proxy's default with allowed_groups",
            );
        } else if kind == "github" {
            c.draft.provider.set("scopes", list(&["read:user", "user:email"]), "");
        }
        return;
    };
    let mut scopes: Vec<&str> = scope.split([' ', ',']).filter(|scope| !scope.is_empty()).collect();
    if c.is_openid && !scopes.contains(&"openid") {
        scopes.insert(0, "openid");
        c.options.warn("scope", "\"openid\" is added: without it the provider sends no ID token");
    }
    let from = c.options.origin("scope");
    c.draft.provider.set("scopes", list(&scopes), from);
}

fn parameters(c: &mut Context) {
    let mut all: Vec<(String, String)> = Vec::new();
    for name in ["prompt", "acr_values", "resource"] {
        c.options.mark(name);
        all.extend(c.options.text(name).map(|value| (name.to_owned(), value.to_owned())));
    }
    let more = std::mem::take(&mut c.options.parameters);
    // A habit of Google's old endpoint.
    all.extend(more.into_iter().filter(|(name, _)| name != "approval_prompt"));
    let own = all.iter().filter(|(name, _)| OWN_PARAMETERS.contains(&name.as_str())).map(|(name, _)| name.clone());
    for name in own.collect::<Vec<_>>() {
        c.options
            .warn(&format!("loginURLParameters {name}"), "not carried over: a parameter that Doorward sets itself");
    }
    all.retain(|(name, _)| !OWN_PARAMETERS.contains(&name.as_str()));
    if all.is_empty() {
        return;
    }
    if all.iter().any(|(name, _)| name == "acr_values") {
        c.options.warn(
            "acr_values",
            "is asked for, as before, and not enforced: require = { acr = […] } of a route does that",
        );
    }
    let items: Vec<String> = all.iter().map(|(name, value)| format!("{} = {}", bare(name), quoted(value))).collect();
    c.draft.provider.set("extra_params", format!("{{ {} }}", items.join(", ")), "");
}

fn answers(c: &mut Context) {
    match c.options.text("auth_request_response_mode").map(str::to_owned).as_deref() {
        None | Some("query") => c.options.mark("auth_request_response_mode"),
        Some("form_post") if c.is_https => {
            let from = c.options.origin("auth_request_response_mode");
            c.draft.provider.set("response_mode", quoted("form_post"), from);
        }
        Some(_) => c.options.warn(
            "auth_request_response_mode",
            "not carried over: answers come in the query, or with https by form_post",
        ),
    }
    let (known, unknown): (Vec<String>, Vec<String>) =
        c.options.list("oidc_enabled_signing_algs").into_iter().partition(|name| ALGORITHMS.contains(&name.as_str()));
    if !known.is_empty() {
        let from = c.options.origin("oidc_enabled_signing_algs");
        c.draft.provider.set("id_token_algs", list(&known), from);
    }
    if known.iter().any(|name| name.starts_with("HS")) {
        c.options.warn(
            "oidc_enabled_signing_algs",
            "HS256, HS384 and HS512 need a client secret of at least 32, 48 or 64 bytes",
        );
    }
    if !unknown.is_empty() {
        c.options.warn(
            "oidc_enabled_signing_algs",
            format!("not carried over: {} (Doorward knows {})", unknown.join(", "), ALGORITHMS.join(", ")),
        );
    }
}

fn claims(c: &mut Context, kind: &str) {
    if kind == "github" {
        c.draft.claims.set("user", quoted("login"), "as oauth2-proxy names users of GitHub");
    }
    for name in ["user_id_claim", "oidc_email_claim", "oidc_groups_claim"] {
        c.options.mark(name);
    }
    let user_id = c.options.text("user_id_claim").filter(|claim| *claim != "email").map(str::to_owned);
    let email = c.options.text("oidc_email_claim").filter(|claim| *claim != "email").map(str::to_owned);
    match (email, user_id) {
        (Some(email), other) => {
            let from = c.options.origin("oidc_email_claim");
            c.draft.claims.set("email", quoted(&email), from);
            if other.is_some() {
                c.options
                    .warn("user_id_claim", "not carried over: oauth2-proxy passes it over beside oidc_email_claim");
            }
        }
        (None, Some(user_id)) => {
            let from = c.options.origin("user_id_claim");
            c.draft.claims.set("email", quoted(&user_id), from);
            c.options.warn(
                "user_id_claim",
                "is the claim that oauth2-proxy takes for the e-mail address, and so does this; the user is `sub`",
            );
        }
        (None, None) => {}
    }
    if let Some(groups) = c.options.text("oidc_groups_claim").filter(|claim| *claim != "groups").map(str::to_owned) {
        let from = c.options.origin("oidc_groups_claim");
        c.draft.claims.set("groups", quoted(&groups), from);
    }
}
