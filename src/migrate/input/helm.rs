//! The values of oauth2-proxy's Helm chart, and what the chart makes of them.

use serde_json::{Map, Value};

use super::super::keys::{self, Key};
use super::super::options::{Given, Layer, Note, Options};
use super::references::{By, Source, Variables};
use super::{Structured, args, legacy, text, texts};

/// Whether these are values for the chart, also as the values of a sub-chart.
pub(super) fn is(map: &Map<String, Value>) -> bool {
    let has = |map: &Map<String, Value>| {
        let of_config = |config: &Value| {
            ["clientID", "configFile", "existingSecret", "cookieSecret", "emailDomains"]
                .iter()
                .any(|key| config.get(*key).is_some())
        };
        !map.contains_key("apiVersion")
            && (map.get("config").is_some_and(of_config)
                || map.contains_key("alphaConfig")
                || map.contains_key("extraArgs"))
    };
    has(map) || map.get("oauth2-proxy").and_then(Value::as_object).is_some_and(has)
}

/// Returns structured configurations that are in them.
pub(super) fn read(
    map: &Map<String, Value>,
    file: &str,
    outside: &Variables,
    variables: &mut Variables,
    options: &mut Options,
) -> Result<Vec<Structured>, Note> {
    let values = Value::Object(map.get("oauth2-proxy").and_then(Value::as_object).unwrap_or(map).clone());
    let at = |path: &str| values.pointer(path);
    let is_structured = text(at("/alphaConfig/enabled")) == Some("true");
    let give = |name: &str, values: Vec<String>, options: &mut Options| {
        if let Some(key) = keys::named(name) {
            options.give(key, Given::plain(values, Layer::File, file));
        }
    };
    if !is_structured {
        // What the chart's own command line says.
        give("http_address", vec!["0.0.0.0:4180".to_owned()], options);
    }
    let elsewhere = |path: &str| text(at(path)).filter(|name| !name.is_empty());
    for key in ["existingConfig", "existingSecret"] {
        if let Some(name) = elsewhere(&format!("/alphaConfig/{key}")).filter(|_| is_structured) {
            let why = format!("the structured configuration is in {name}: write it into alphaConfig.configData here");
            options.refuse(&format!("alphaConfig.{key}"), why);
        }
    }
    match (elsewhere("/config/existingConfig"), elsewhere("/config/configFile").filter(|body| !body.trim().is_empty()))
    {
        // The chart's defaults do not count beside it.
        (Some(name), _) => {
            let what = format!("the configuration file is in the ConfigMap {name}: give its oauth2_proxy.cfg too");
            options.warn("config.existingConfig", what);
        }
        (None, Some(body)) => {
            let name = format!("config.configFile in {file}");
            let table = legacy::parse(body).map_err(|what| Note::new("", format!("{name}: {what}")))?;
            legacy::read(&table, Source { file: &name, by: By::Anybody, known: &[outside] }, options);
        }
        (None, None) => {
            // The chart's defaults.
            let domains = at("/config/emailDomains").map_or_else(|| vec!["*".to_owned()], |list| texts(Some(list)));
            give("email_domains", domains, options);
            if !is_structured {
                let upstreams = at("/config/upstreams")
                    .map_or_else(|| vec!["file:///dev/null".to_owned()], |list| texts(Some(list)));
                give("upstreams", upstreams, options);
            }
        }
    }
    secrets(&values, file, options);
    redis(&values, file, variables, options);
    for variable in at("/extraEnv").and_then(Value::as_array).into_iter().flatten() {
        let Some(name) = text(variable.get("name")) else { continue };
        let source = Source { file, by: By::Kubernetes, known: &[&*variables, outside] };
        let value = text(variable.get("value"));
        args::variable(name, value, source, options);
        let filled = value.map(|value| source.fill(value)).filter(|filled| filled.unknown.is_none());
        variables.extend(filled.and_then(|filled| filled.text).map(|text| (name.to_owned(), text)));
    }
    let words = match at("/extraArgs") {
        Some(Value::Object(map)) => map.iter().map(|(flag, value)| word(flag, value)).collect(),
        list => texts(list),
    };
    args::flags(&words, Source { file, by: By::Kubernetes, known: &[&*variables, outside] }, options);
    google(&values, file, options);
    emails(&values, file, options);
    for host in texts(at("/ingress/hosts")) {
        let scheme = if at("/ingress/tls").is_some() { "https" } else { "http" };
        options.own_origins.push(format!("{scheme}://{host}"));
    }
    if text(at("/htpasswdFile/enabled")) == Some("true") {
        give("htpasswd_file", vec!["users.txt".to_owned()], options);
    }
    let structured = at("/alphaConfig/configData").and_then(Value::as_object).filter(|_| is_structured);
    Ok(structured.map(|map| (map.clone(), format!("alphaConfig in {file}"))).into_iter().collect())
}

/// What the chart writes into a Secret or a variable of its own: nobody fills anything in.
fn as_it_is(file: &str) -> Source<'_> {
    Source { file, by: By::Nobody, known: &[] }
}

fn word(flag: &str, value: &Value) -> String {
    match value {
        Value::Null => format!("--{flag}"),
        Value::Array(_) => format!("--{flag}={}", texts(Some(value)).join(",")),
        value => format!("--{flag}={}", value.as_str().unwrap_or_default()),
    }
}

/// The chart puts these into a Secret, and from there into variables.
fn secrets(values: &Value, file: &str, options: &mut Options) {
    let of_secret = [
        ("clientID", "OAUTH2_PROXY_CLIENT_ID"),
        ("clientSecret", "OAUTH2_PROXY_CLIENT_SECRET"),
        ("cookieSecret", "OAUTH2_PROXY_COOKIE_SECRET"),
    ];
    if text(values.get("proxyVarsAsSecrets")) == Some("false") {
        return;
    }
    let has_secret = text(values.pointer("/config/existingSecret")).is_some();
    for (key, variable) in of_secret {
        let value = text(values.pointer(&format!("/config/{key}"))).filter(|_| !has_secret);
        if value.is_some() || has_secret {
            args::variable(variable, value, as_it_is(file), options);
        }
    }
}

fn redis(values: &Value, file: &str, variables: &mut Variables, options: &mut Options) {
    let Some(storage) = values.get("sessionStorage") else { return };
    if text(storage.get("type")) != Some("redis") {
        return;
    }
    args::variable("OAUTH2_PROXY_SESSION_STORE_TYPE", Some("redis"), as_it_is(file), options);
    let at = |path: &str| storage.pointer(&format!("/redis/{path}"));
    let mut set = |name: &str, value: Option<&str>| {
        args::variable(name, value, as_it_is(file), options);
        variables.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    };
    if text(at("password")).is_some_and(|p| !p.is_empty()) || text(at("existingSecret")).is_some_and(|s| !s.is_empty())
    {
        set("OAUTH2_PROXY_REDIS_PASSWORD", None);
    }
    match text(at("clientType")).unwrap_or("standalone") {
        "cluster" => {
            set("OAUTH2_PROXY_REDIS_USE_CLUSTER", Some("true"));
            set("OAUTH2_PROXY_REDIS_CLUSTER_CONNECTION_URLS", Some(&texts(at("cluster/connectionUrls")).join(",")));
        }
        "sentinel" => {
            set("OAUTH2_PROXY_REDIS_USE_SENTINEL", Some("true"));
            set("OAUTH2_PROXY_REDIS_SENTINEL_MASTER_NAME", text(at("sentinel/masterName")));
            set("OAUTH2_PROXY_REDIS_SENTINEL_CONNECTION_URLS", Some(&texts(at("sentinel/connectionUrls")).join(",")));
            if text(at("sentinel/password")).is_some_and(|p| !p.is_empty()) {
                set("OAUTH2_PROXY_REDIS_SENTINEL_PASSWORD", None);
            }
        }
        // The chart works out the address of its own Redis where none is written.
        _ => {
            set("OAUTH2_PROXY_REDIS_CONNECTION_URL", text(at("standalone/connectionUrl")).filter(|url| !url.is_empty()))
        }
    }
}

fn google(values: &Value, file: &str, options: &mut Options) {
    let Some(google) = values.pointer("/config/google") else { return };
    for (name, key) in [
        ("adminEmail", "google_admin_email"),
        ("groups", "google_groups"),
        ("targetPrincipal", "google_target_principal"),
    ] {
        let key: Option<&'static Key> = keys::named(key);
        let values = texts(google.get(name));
        if let Some(key) = key.filter(|_| !values.is_empty()) {
            options.give(key, Given::plain(values, Layer::Flag, file));
        }
    }
}

/// The chart's own command line names the file.
fn emails(values: &Value, file: &str, options: &mut Options) {
    if text(values.pointer("/authenticatedEmailsFile/enabled")) != Some("true") {
        return;
    }
    if let Some(key) = keys::named("authenticated_emails_file") {
        args::give(key, "/etc/oauth2-proxy/authenticated-emails-list", Layer::Flag, as_it_is(file), options);
    }
    let list = text(values.pointer("/authenticatedEmailsFile/restricted_access")).unwrap_or_default();
    options.emails.extend(list.lines().map(str::trim).filter(|line| line.contains('@')).map(str::to_owned));
}
