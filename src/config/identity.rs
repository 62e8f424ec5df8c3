//! `identity` of a route: which headers tell the upstream who it is.

use figment::value::Value;
use http::header::HeaderName;

use super::problem::Reason;
use super::read::{Entry, Table};
use super::settings::{CustomClaim, Form, IdentityHeader, IdentityValue, Source};
use super::values;

type Preset = (&'static str, &'static [(&'static str, Part)]);

/// What a header of a preset says.
#[derive(Clone, Copy)]
enum Part {
    AccessToken,
    Assertion,
    /// Of the connection, whoever has signed in: the gateway knows which header says what.
    Certificate,
    /// A claim of one value, by its name in OpenID Connect Core §5.1.
    Claim(&'static str),
    Email,
    /// Joined with a comma.
    Groups,
    /// Joined with `|`.
    GroupsByBar,
    ImpersonatedGroups,
    ImpersonatedUser,
    Name,
    PreferredUsername,
    Sub,
    User,
}

use Part::{
    AccessToken, Assertion, Certificate, Claim, Email, Groups, GroupsByBar, ImpersonatedGroups, ImpersonatedUser, Name,
    PreferredUsername, Sub, User,
};

/// The names and separators that each application documents as its own defaults, or shows in its documentation.
const PRESETS: [Preset; 13] = [
    (
        "x-forwarded",
        &[
            ("x-forwarded-user", User),
            ("x-forwarded-email", Email),
            ("x-forwarded-groups", Groups),
            ("x-forwarded-preferred-username", PreferredUsername),
        ],
    ),
    ("x-forwarded-access-token", &[("x-forwarded-access-token", AccessToken)]),
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
    // Grafana: [auth.proxy]. Gitea and Forgejo read the full name where Grafana's documentation has NAME.
    (
        "webauth",
        &[
            ("x-webauth-user", User),
            ("x-webauth-email", Email),
            ("x-webauth-name", Name),
            ("x-webauth-fullname", Name),
            ("x-webauth-groups", Groups),
        ],
    ),
    // The reverse-proxy-auth plugin's defaults.
    (
        "jenkins",
        &[
            ("x-forwarded-user", User),
            ("x-forwarded-mail", Email),
            ("x-forwarded-displayname", Name),
            ("x-forwarded-groups", GroupsByBar),
        ],
    ),
    // sonar.web.sso.*Header.
    (
        "sonarqube",
        &[
            ("x-forwarded-login", User),
            ("x-forwarded-name", Name),
            ("x-forwarded-email", Email),
            ("x-forwarded-groups", Groups),
        ],
    ),
    // REMOTE_AUTH_HEADER and its kin, which are written HTTP_REMOTE_USER there.
    (
        "netbox",
        &[
            ("remote-user", User),
            ("remote-user-email", Email),
            ("remote-user-first-name", Claim("given_name")),
            ("remote-user-last-name", Claim("family_name")),
            ("remote-user-group", GroupsByBar),
        ],
    ),
    // The security plugin's proxy authentication.
    ("opensearch", &[("x-proxy-user", User), ("x-proxy-roles", Groups)]),
    // What its own outpost sends.
    (
        "authentik",
        &[
            ("x-authentik-username", User),
            ("x-authentik-groups", GroupsByBar),
            ("x-authentik-email", Email),
            ("x-authentik-name", Name),
            ("x-authentik-uid", Sub),
        ],
    ),
    // Kubernetes: user impersonation.
    ("k8s-impersonate", &[("impersonate-user", ImpersonatedUser), ("impersonate-group", ImpersonatedGroups)]),
    ("assertion", &[("x-doorward-assertion", Assertion)]),
    // RFC 9440, and what is in it in words.
    (
        CLIENT_CERT,
        &[
            ("client-cert", Certificate),
            ("client-cert-chain", Certificate),
            ("x-client-cert-subject", Certificate),
            ("x-client-cert-san", Certificate),
        ],
    ),
];

const CLIENT_CERT: &str = "client-cert";

/// Kubernetes' own users and groups: no provider may name one (user impersonation, RBAC: "Referring to subjects").
const KUBERNETES_OWN: &str = "system:";

/// Names that mean something else to the upstream or to HTTP itself.
const FORBIDDEN: [&str; 29] = [
    "authorization",
    "client-cert",
    "client-cert-chain",
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
    "x-client-cert-san",
    "x-client-cert-subject",
    // B-20: the client of a token, and nothing that a person's claim says.
    "x-doorward-client",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-uri",
    "x-real-ip",
    "x-request-id",
];

/// What a route's upstream is told.
#[derive(Default)]
pub(super) struct Told {
    pub(super) headers: Vec<IdentityHeader>,
    /// Of the connection: on a route where nobody is asked who they are, too.
    pub(super) client_cert: bool,
}

/// None: not written. `claims` takes each custom claim once.
pub(super) fn identity(route: &Table<'_>, claims: &mut Vec<CustomClaim>) -> Option<Told> {
    let alone = |v: &Value| matches!(v, Value::String(..) | Value::Dict(..));
    let items =
        route.entry("identity").filter(|_| !route.lacks("identity"))?.items("a list of presets and headers", &alone)?;
    let mut headers: Vec<IdentityHeader> = Vec::new();
    let mut client_cert = false;
    for item in items {
        client_cert |= item.value.as_str() == Some(CLIENT_CERT);
        let (key, tag) = (item.key.clone(), item.value.tag());
        for header in one(item, claims) {
            if headers.iter().any(|h| h.name == header.name) {
                route.reader().problem(&key, tag, format!("sets {} a second time", header.name), "Remove one of them.");
            }
            headers.push(header);
        }
    }
    Some(Told { headers, client_cert })
}

pub(super) fn default(claims: &mut Vec<CustomClaim>) -> Vec<IdentityHeader> {
    preset("x-forwarded", claims).unwrap_or_default()
}

/// Whether a request must not go upstream without them.
pub(super) fn needs_somebody(headers: &[IdentityHeader]) -> bool {
    headers.iter().any(|header| header.required)
}

fn one(item: Entry<'_>, claims: &mut Vec<CustomClaim>) -> Vec<IdentityHeader> {
    if matches!(item.value, Value::Dict(..)) {
        return item.table().and_then(|table| custom(table, claims)).into_iter().collect();
    }
    let name = item.parse_nonempty(&|text: &str| {
        let known = PRESETS.iter().find(|(name, _)| *name == text);
        known.map(|(name, _)| *name).ok_or_else(|| {
            let names: Vec<String> = PRESETS.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            Reason::new(
                "is not a preset",
                format!("Write one of {}, or {{ header = \"X-Team\", claim = \"team\" }}.", names.join(", ")),
            )
        })
    });
    name.and_then(|name| preset(name, claims)).unwrap_or_default()
}

fn preset(name: &str, claims: &mut Vec<CustomClaim>) -> Option<Vec<IdentityHeader>> {
    let (_, headers) = PRESETS.iter().find(|(preset, _)| *preset == name)?;
    let header = |(name, part): &(&'static str, Part)| {
        let (name, required) = (HeaderName::from_static(name), matches!(part, ImpersonatedUser));
        part.value(claims).map(|value| IdentityHeader { name, value, required })
    };
    Some(headers.iter().filter_map(header).collect())
}

impl Part {
    /// None: nothing that is known of somebody.
    fn value(self, claims: &mut Vec<CustomClaim>) -> Option<IdentityValue> {
        let by_bar = || Form::Joined("|".to_owned());
        let (source, form, without) = match self {
            AccessToken => return Some(IdentityValue::AccessToken),
            Assertion => return Some(IdentityValue::Assertion),
            Certificate => return None,
            Email => return Some(IdentityValue::Email),
            Groups => return Some(IdentityValue::Groups),
            Name => return Some(IdentityValue::Name),
            PreferredUsername => return Some(IdentityValue::PreferredUsername),
            Sub => return Some(IdentityValue::Sub),
            User => return Some(IdentityValue::User),
            Claim(claim) => (Source::Claim(claim.to_owned()), Form::Single, None),
            GroupsByBar => (Source::Groups, by_bar(), None),
            ImpersonatedGroups => (Source::Groups, Form::Each, Some(KUBERNETES_OWN)),
            ImpersonatedUser => (Source::User, Form::Single, Some(KUBERNETES_OWN)),
        };
        Some(kept(CustomClaim { source, form, without }, claims))
    }
}

/// Each is worked out once, however many headers say it.
fn kept(wanted: CustomClaim, claims: &mut Vec<CustomClaim>) -> IdentityValue {
    IdentityValue::Custom(claims.iter().position(|c| *c == wanted).unwrap_or_else(|| {
        claims.push(wanted);
        claims.len() - 1
    }))
}

fn custom(table: Table<'_>, claims: &mut Vec<CustomClaim>) -> Option<IdentityHeader> {
    let name = table.parse("header", header_name);
    let claim = table.parse("claim", values::claim);
    let separator = table.parse("separator", |text| {
        if !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') || text.contains('%') {
            return Err(Reason::new("cannot stand in a header", "Write printable ASCII without %, such as \",\"."));
        }
        Ok(text.to_owned())
    });
    let assertion = table.boolean("assertion", false);
    if name.is_none() && table.lacks("header") {
        table.missing("header", "Write { header = \"X-Team\", claim = \"team\" }.");
    }
    if assertion {
        for key in ["claim", "separator"].into_iter().filter(|key| !table.lacks(key)) {
            table.problem(
                key,
                "stands beside assertion = true",
                "Keep one: a claim, or the assertion under another name.",
            );
        }
    } else if claim.is_none() && table.lacks("claim") {
        table.missing("claim", "Write { header = \"X-Team\", claim = \"team\" }, or assertion = true.");
    }
    table.close();
    let value = if assertion {
        IdentityValue::Assertion
    } else {
        let form = Form::Joined(separator.unwrap_or_else(|| ",".to_owned()));
        kept(CustomClaim { source: Source::Claim(claim?), form, without: None }, claims)
    };
    Some(IdentityHeader { name: name?, value, required: false })
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

#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, HeaderValue};

    use super::*;
    use crate::http::headers::Managed;

    #[test]
    fn b_20_no_claim_is_sent_as_the_client_of_a_token() {
        for name in ["X-Doorward-Client", "x_doorward.client"] {
            assert!(header_name(name).is_err(), "{name}");
        }
    }

    /// Also what no route of this configuration sets.
    #[test]
    fn hx_05_hx_20_b_14_no_client_can_send_what_any_preset_sets() {
        let managed = Managed::new([]);
        let names = PRESETS.iter().flat_map(|(_, headers)| *headers).map(|(name, _)| *name);
        for name in names {
            for dash in ['-', '_', '.', '~'] {
                let spelt: String = name.chars().map(|c| if c == '-' { dash } else { c }).collect();
                for spelt in [spelt.to_ascii_uppercase(), spelt] {
                    let mut headers = HeaderMap::new();
                    headers.append(HeaderName::try_from(&spelt).unwrap(), HeaderValue::from_static("admin"));
                    for trusted in [true, false] {
                        let mut headers = headers.clone();
                        managed.strip_request(&mut headers, trusted);
                        assert!(headers.is_empty(), "{spelt} passes");
                    }
                    managed.strip_trailers(&mut headers);
                    assert!(headers.is_empty(), "{spelt} passes as a trailer");
                }
            }
        }
    }
}
