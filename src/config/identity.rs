//! `identity` of a route: which headers tell the upstream who it is.

use figment::value::Value;
use http::header::HeaderName;

use super::problem::Reason;
use super::read::{Entry, Table};
use super::settings::{CustomClaim, IdentityHeader, IdentityValue};
use super::values;

use IdentityValue::{Email, Groups, Name, PreferredUsername, User};

type Preset = (&'static str, &'static [(&'static str, IdentityValue)]);

const PRESETS: [Preset; 3] = [
    (
        "x-forwarded",
        &[
            ("x-forwarded-user", User),
            ("x-forwarded-email", Email),
            ("x-forwarded-groups", Groups),
            ("x-forwarded-preferred-username", PreferredUsername),
        ],
    ),
    (
        "x-auth-request",
        &[
            ("x-auth-request-user", User),
            ("x-auth-request-email", Email),
            ("x-auth-request-groups", Groups),
            ("x-auth-request-preferred-username", PreferredUsername),
        ],
    ),
    ("remote", &[("remote-user", User), ("remote-email", Email), ("remote-name", Name), ("remote-groups", Groups)]),
];

/// Presets of the contract that this version does not have.
const LATER: [&str; 9] = [
    "x-forwarded-access-token",
    "webauth",
    "jenkins",
    "sonarqube",
    "netbox",
    "opensearch",
    "authentik",
    "k8s-impersonate",
    "assertion",
];

/// Names that mean something else to the upstream or to HTTP itself.
const FORBIDDEN: [&str; 24] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-uri",
    "x-real-ip",
    "x-request-id",
];

/// None: not written. `claims` takes each custom claim once.
pub(super) fn identity(route: &Table<'_>, claims: &mut Vec<CustomClaim>) -> Option<Vec<IdentityHeader>> {
    let alone = |v: &Value| matches!(v, Value::String(..) | Value::Dict(..));
    let items =
        route.entry("identity").filter(|_| !route.lacks("identity"))?.items("a list of presets and headers", &alone)?;
    let mut headers: Vec<IdentityHeader> = Vec::new();
    for item in items {
        let (key, tag) = (item.key.clone(), item.value.tag());
        for header in one(item, claims) {
            if headers.iter().any(|h| h.name == header.name) {
                route.reader().problem(&key, tag, format!("sets {} a second time", header.name), "Remove one of them.");
            }
            headers.push(header);
        }
    }
    Some(headers)
}

pub(super) fn default() -> Vec<IdentityHeader> {
    preset("x-forwarded").unwrap_or_default()
}

fn one(item: Entry<'_>, claims: &mut Vec<CustomClaim>) -> Vec<IdentityHeader> {
    if matches!(item.value, Value::Dict(..)) {
        return item.table().and_then(|table| custom(table, claims)).into_iter().collect();
    }
    let headers = item.parse_nonempty(&|text: &str| {
        if LATER.contains(&text) {
            return Err(Reason::later());
        }
        preset(text).ok_or_else(|| {
            let names: Vec<String> = PRESETS.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            Reason::new(
                "is not a preset",
                format!("Write one of {}, or {{ header = \"X-Team\", claim = \"team\" }}.", names.join(", ")),
            )
        })
    });
    headers.unwrap_or_default()
}

fn preset(name: &str) -> Option<Vec<IdentityHeader>> {
    let (_, headers) = PRESETS.iter().find(|(preset, _)| *preset == name)?;
    let header = |(name, value): &(&'static str, IdentityValue)| IdentityHeader {
        name: HeaderName::from_static(name),
        value: value.clone(),
    };
    Some(headers.iter().map(header).collect())
}

fn custom(table: Table<'_>, claims: &mut Vec<CustomClaim>) -> Option<IdentityHeader> {
    let name = table.parse("header", header_name);
    let claim = table.parse("claim", values::claim);
    for (key, read) in [("header", name.is_some()), ("claim", claim.is_some())] {
        if !read && table.lacks(key) {
            table.missing(key, "Write { header = \"X-Team\", claim = \"team\" }.");
        }
    }
    let separator = table.parse("separator", |text| {
        if !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') || text.contains('%') {
            return Err(Reason::new("cannot stand in a header", "Write printable ASCII without %, such as \",\"."));
        }
        Ok(text.to_owned())
    });
    table.close(&[]);
    let wanted = CustomClaim { claim: claim?, separator: separator.unwrap_or_else(|| ",".to_owned()) };
    let index = claims.iter().position(|c| *c == wanted).unwrap_or_else(|| {
        claims.push(wanted);
        claims.len() - 1
    });
    Some(IdentityHeader { name: name?, value: IdentityValue::Custom(index) })
}

fn header_name(text: &str) -> Result<HeaderName, Reason> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| Reason::new("is not a header name", "Write a name such as \"X-Team\"."))?;
    // Upstreams read `_` and `.` as `-` (CGI's rule): X_Forwarded_For is as bad.
    let read_as: String = name.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    if FORBIDDEN.contains(&read_as.as_str()) {
        return Err(Reason::new(
            "has a meaning of its own and cannot carry an identity",
            "Write a name such as \"X-Team\".",
        ));
    }
    Ok(name)
}
