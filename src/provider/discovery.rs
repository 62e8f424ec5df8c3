//! OpenID Connect Discovery 1.0: where a provider's endpoints are and what it can do. Read strictly: a document that
//! names another issuer, or an endpoint that must not be called, is not used at all.

use serde_json::{Map, Value};
use url::Url;

use crate::config::settings::{self, Flow};
use crate::error::{Error, Kind, Result};
use crate::http::origin::is_loopback;
use crate::provider::http::{self, Http};

pub(crate) const ENDPOINT: &str = "discovery";

/// Endpoints that have another address for a client with a certificate (RFC 8705 §5, D-11): those that it calls itself.
const MTLS_ALIASES: [&str; 5] = [
    "introspection_endpoint",
    "pushed_authorization_request_endpoint",
    "revocation_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
];

#[derive(Clone, Debug)]
pub struct Metadata {
    pub authorization_endpoint: Url,
    /// Not there where only the implicit flow is served.
    pub token_endpoint: Option<Url>,
    /// Not there without OpenID.
    pub jwks_uri: Option<Url>,
    pub userinfo_endpoint: Option<Url>,
    pub end_session_endpoint: Option<Url>,
    pub revocation_endpoint: Option<Url>,
    pub introspection_endpoint: Option<Url>,
    pub pushed_authorization_request_endpoint: Option<Url>,
    pub require_pushed_authorization_requests: bool,
    /// RFC 9207: every authorization response says whose it is.
    pub authorization_response_iss: bool,
    /// `RS256` where the provider does not say (Discovery 1.0 §3 requires it to).
    pub id_token_algs: Vec<String>,
    /// Empty where the provider does not say, which means `client_secret_basic`.
    pub token_auth_methods: Vec<String>,
}

impl Metadata {
    /// Of a provider without OpenID: what the operator wrote, and nothing else.
    pub(crate) fn written(endpoints: &settings::OAuth2Endpoints) -> Self {
        Self {
            authorization_endpoint: endpoints.authorization_url.clone(),
            token_endpoint: Some(endpoints.token_url.clone()),
            jwks_uri: None,
            userinfo_endpoint: Some(endpoints.userinfo_url.clone()),
            end_session_endpoint: None,
            revocation_endpoint: None,
            introspection_endpoint: None,
            pushed_authorization_request_endpoint: None,
            require_pushed_authorization_requests: false,
            authorization_response_iss: false,
            id_token_algs: Vec::new(),
            token_auth_methods: Vec::new(),
        }
    }

    pub(crate) fn token_endpoint(&self) -> Result<&Url> {
        self.token_endpoint
            .as_ref()
            .ok_or_else(|| Error::new(Kind::ProviderAnswer, "the discovery document has no token_endpoint"))
    }

    pub(crate) async fn fetch(http: &Http, settings: &settings::Provider) -> Result<Self> {
        Self::parse(&document(http, &settings.issuer).await?, settings)
    }

    fn parse(document: &Map<String, Value>, settings: &settings::Provider) -> Result<Self> {
        let aliases = document.get("mtls_endpoint_aliases").and_then(Value::as_object);
        let aliases = aliases.filter(|_| settings.client_cert.is_some());
        let optional = |name| {
            let has = |aliases: &&Map<String, Value>| aliases.get(name).is_some_and(|alias| !alias.is_null());
            let place = aliases.filter(|_| MTLS_ALIASES.contains(&name)).filter(has).unwrap_or(document);
            endpoint(place, name, &settings.issuer, settings.insecure)
        };
        let required = |name| {
            optional(name)?
                .ok_or_else(|| Error::new(Kind::ProviderAnswer, format!("the discovery document has no {name}")))
        };
        if strings(document, "code_challenge_methods_supported").is_some_and(|all| !all.iter().any(|m| m == "S256")) {
            // P-04: PKCE is never left out; a provider that ignores it does no harm.
            tracing::warn!(target: "doorward::provider", provider = %settings.name, "the provider does not list PKCE with S256; it is sent all the same");
        }
        Ok(Self {
            authorization_endpoint: required("authorization_endpoint")?,
            token_endpoint: match settings.flow {
                Flow::Code => Some(required("token_endpoint")?),
                Flow::ImplicitFormPost => optional("token_endpoint")?,
            },
            jwks_uri: Some(required("jwks_uri")?),
            userinfo_endpoint: optional("userinfo_endpoint")?,
            end_session_endpoint: optional("end_session_endpoint")?,
            revocation_endpoint: optional("revocation_endpoint")?,
            introspection_endpoint: optional("introspection_endpoint")?,
            pushed_authorization_request_endpoint: optional("pushed_authorization_request_endpoint")?,
            require_pushed_authorization_requests: flag(document, "require_pushed_authorization_requests"),
            authorization_response_iss: flag(document, "authorization_response_iss_parameter_supported"),
            id_token_algs: strings(document, "id_token_signing_alg_values_supported")
                .unwrap_or_else(|| vec!["RS256".to_owned()]),
            token_auth_methods: strings(document, "token_endpoint_auth_methods_supported").unwrap_or_default(),
        })
    }
}

/// Where the keys of an issuer are that is nothing but an issuer, and need have no other endpoint.
pub(crate) async fn jwks_uri(http: &Http, issuer: &str, insecure: bool) -> Result<Url> {
    let found = endpoint(&document(http, issuer).await?, "jwks_uri", issuer, insecure)?;
    found.ok_or_else(|| Error::new(Kind::ProviderAnswer, "the discovery document has no jwks_uri"))
}

/// The document of this issuer and no other.
async fn document(http: &Http, issuer: &str) -> Result<Map<String, Value>> {
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    let url = Url::parse(&format!("{base}/.well-known/openid-configuration"))
        .map_err(|e| http::answer(ENDPOINT, "has an issuer that is no URL").because(e))?;
    let response = http.send(ENDPOINT, http::get(ENDPOINT, &url)?).await?;
    let document = http::object(ENDPOINT, &response)?;
    // SECURITY: byte for byte; otherwise one issuer could speak for another (D-02, B-03).
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err(Error::new(
            Kind::ProviderAnswer,
            format!("the discovery document is of another issuer than the configured {issuer}"),
        ));
    }
    Ok(document)
}

/// An absolute URL that may be called, None where the member is absent or null (D-04).
fn endpoint(document: &Map<String, Value>, name: &'static str, issuer: &str, insecure: bool) -> Result<Option<Url>> {
    let value = match document.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let url = value.as_str().and_then(|text| Url::parse(text).ok());
    let Some(url) = url.filter(|url| http::may_call(url, insecure) && url.fragment().is_none()) else {
        return Err(Error::new(
            Kind::ProviderAnswer,
            format!("the discovery document's {name} is no https URL (http only on loopback, or with insecure = true)"),
        ));
    };
    // SECURITY: GX-02. A provider elsewhere has no business with what listens on this machine only.
    if !insecure && is_local(&url) && !Url::parse(issuer).is_ok_and(|issuer| is_local(&issuer)) {
        return Err(Error::new(
            Kind::ProviderAnswer,
            format!("the discovery document's {name} is on this machine, and the issuer is not"),
        ));
    }
    Ok(Some(url))
}

fn is_local(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback)
}

fn flag(document: &Map<String, Value>, name: &str) -> bool {
    document.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn strings(document: &Map<String, Value>, name: &str) -> Option<Vec<String>> {
    let all = document.get(name)?.as_array()?;
    Some(all.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn d_04_gx_02_a_provider_elsewhere_names_nothing_on_this_machine() {
        let elsewhere = "https://id.example/realm";
        for (url, issuer, insecure, want) in [
            ("https://other.example/token", elsewhere, false, true),
            ("http://127.0.0.1:6379/", elsewhere, false, false),
            ("https://localhost/token", elsewhere, false, false),
            ("https://[::1]/token", elsewhere, false, false),
            ("http://127.0.0.1:1/token", "http://localhost:1", false, true),
            ("http://localhost:8080/token", "http://keycloak:8080", true, true),
        ] {
            let document = json!({ "token_endpoint": url });
            let read = endpoint(document.as_object().unwrap(), "token_endpoint", issuer, insecure);
            assert_eq!(read.is_ok(), want, "{url} of {issuer}");
        }
    }
}
