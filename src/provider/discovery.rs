//! OpenID Connect Discovery 1.0: where a provider's endpoints are and what it can do. Read strictly: a document that
//! names another issuer, or an endpoint that must not be called, is not used at all.

use serde_json::{Map, Value};
use url::Url;

use crate::config::settings;
use crate::error::{Error, Kind, Result};
use crate::provider::http::{self, Http};

pub(crate) const ENDPOINT: &str = "discovery";

#[derive(Clone, Debug)]
pub struct Metadata {
    pub authorization_endpoint: Url,
    pub token_endpoint: Url,
    pub jwks_uri: Url,
    pub userinfo_endpoint: Option<Url>,
    pub end_session_endpoint: Option<Url>,
    pub revocation_endpoint: Option<Url>,
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
    pub(crate) async fn fetch(http: &Http, settings: &settings::Provider) -> Result<Self> {
        let issuer = settings.issuer.strip_suffix('/').unwrap_or(&settings.issuer);
        let url = Url::parse(&format!("{issuer}/.well-known/openid-configuration"))
            .map_err(|e| http::answer(ENDPOINT, "has an issuer that is no URL").because(e))?;
        let response = http.send(ENDPOINT, http::get(ENDPOINT, &url)?).await?;
        Self::parse(&http::object(ENDPOINT, &response)?, settings)
    }

    fn parse(document: &Map<String, Value>, settings: &settings::Provider) -> Result<Self> {
        // SECURITY: byte for byte; otherwise one issuer could speak for another (D-02, B-03).
        if document.get("issuer").and_then(Value::as_str) != Some(settings.issuer.as_str()) {
            return Err(Error::new(
                Kind::ProviderAnswer,
                format!("the discovery document is of another issuer than the configured {}", settings.issuer),
            ));
        }
        let optional = |name| endpoint(document, name, settings.insecure);
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
            token_endpoint: required("token_endpoint")?,
            jwks_uri: required("jwks_uri")?,
            userinfo_endpoint: optional("userinfo_endpoint")?,
            end_session_endpoint: optional("end_session_endpoint")?,
            revocation_endpoint: optional("revocation_endpoint")?,
            pushed_authorization_request_endpoint: optional("pushed_authorization_request_endpoint")?,
            require_pushed_authorization_requests: flag(document, "require_pushed_authorization_requests"),
            authorization_response_iss: flag(document, "authorization_response_iss_parameter_supported"),
            id_token_algs: strings(document, "id_token_signing_alg_values_supported")
                .unwrap_or_else(|| vec!["RS256".to_owned()]),
            token_auth_methods: strings(document, "token_endpoint_auth_methods_supported").unwrap_or_default(),
        })
    }
}

/// An absolute URL that may be called, None where the member is absent or null (D-04).
fn endpoint(document: &Map<String, Value>, name: &'static str, insecure: bool) -> Result<Option<Url>> {
    let value = match document.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let url = value.as_str().and_then(|text| Url::parse(text).ok());
    match url.filter(|url| http::may_call(url, insecure) && url.fragment().is_none()) {
        Some(url) => Ok(Some(url)),
        None => Err(Error::new(
            Kind::ProviderAnswer,
            format!("the discovery document's {name} is no https URL (http only on loopback, or with insecure = true)"),
        )),
    }
}

fn flag(document: &Map<String, Value>, name: &str) -> bool {
    document.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn strings(document: &Map<String, Value>, name: &str) -> Option<Vec<String>> {
    let all = document.get(name)?.as_array()?;
    Some(all.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}
