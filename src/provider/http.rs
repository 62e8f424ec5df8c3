//! The wire to a provider: one request, one whole answer, in bounded time and memory.
//!
//! It follows no redirect, asks no proxy of the environment, decodes no content coding and speaks plain http only to
//! this machine itself (or where the operator wrote `insecure`). It knows nothing of OAuth but the shape of an error.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};
use url::Url;

use crate::config::settings::{self, ClientCert};
use crate::crypto::json;
use crate::error::{Error, Kind, Result};
use crate::http::origin::Origin;
use crate::net;
use crate::provider::Observer;

/// Bytes of one answer (D-05).
const MAX_BODY: usize = 1024 * 1024;

/// Below the 5 s after which Node closes idle connections: a code is good for one request, so that request must not
/// meet a connection that is just being closed.
const POOL_IDLE: Duration = Duration::from_secs(4);

const USER_AGENT: HeaderValue = HeaderValue::from_static("doorward");

pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
    insecure: bool,
    observer: Observer,
}

impl Http {
    pub(crate) fn new(settings: &settings::Provider, observer: Observer) -> Result<Self> {
        let what = format!("provider {}", settings.name);
        let mut tls = tls(&what, &settings.issuer, settings.ca.as_deref())?;
        if let Some(ClientCert { cert, key }) = &settings.client_cert {
            let shown = net::tls::client_certificate(cert, key)
                .map_err(|e| Error::new(Kind::Internal, format!("{what}: client_cert, client_key: {e}")))?;
            // Shown to whichever of the provider's servers asks for one (RFC 8705).
            tls.client_auth_cert_resolver = Arc::new(shown);
        }
        Ok(Self::with(tls, settings.timeout, settings.insecure, observer))
    }

    /// Towards an issuer that is asked for its keys and for nothing else.
    pub(crate) fn of_issuer(settings: &settings::Issuer, observer: Observer) -> Result<Self> {
        let what = format!("issuer {}", settings.name);
        let tls = tls(&what, &settings.issuer, settings.ca.as_deref())?;
        Ok(Self::with(tls, settings.timeout, settings.insecure, observer))
    }

    fn with(tls: ClientConfig, timeout: Duration, insecure: bool, observer: Observer) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .build(connector);
        Self { client, timeout, insecure, observer }
    }

    /// Sends and reads the whole answer. `endpoint` is the metric label and the word for errors. An answer that comes
    /// back has a 2xx or 4xx status (429 excepted).
    ///
    /// # Errors
    /// `ProviderUnavailable` for what may be better later (connection, time, 5xx, 429); `ProviderAnswer` for the rest.
    pub(crate) async fn send(
        &self,
        endpoint: &'static str,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>> {
        // GitHub answers nobody who does not say who asks.
        request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
        let scheme_and_host = Url::parse(&request.uri().to_string()).ok();
        if !scheme_and_host.is_some_and(|url| may_call(&url, self.insecure)) {
            return Err(answer(endpoint, "is neither https nor on this machine"));
        }
        let began = Instant::now();
        // SECURITY: one deadline for all of it: a byte a second is no way to stay below it (RF-07).
        let outcome = timeout(self.timeout, self.exchange(endpoint, request)).await;
        (self.observer)(endpoint, began.elapsed());
        outcome.unwrap_or_else(|_| {
            Err(Error::new(
                Kind::ProviderUnavailable,
                format!("the provider's {endpoint} endpoint did not answer in time"),
            ))
        })
    }

    async fn exchange(&self, endpoint: &'static str, request: Request<Full<Bytes>>) -> Result<Response<Bytes>> {
        let unavailable =
            |what: &str| Error::new(Kind::ProviderUnavailable, format!("the provider's {endpoint} endpoint {what}"));
        let response = self.client.request(request).await.map_err(|e| unavailable("cannot be reached").because(e))?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(unavailable(&format!("answers {}", status.as_u16())));
        }
        // SECURITY: a redirect would carry credentials or trust to where the operator never pointed (D-05, B-13).
        if !status.is_success() && !status.is_client_error() {
            return Err(answer(endpoint, &format!("answers {}", status.as_u16())));
        }
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|e| {
            if e.is::<LengthLimitError>() {
                answer(endpoint, "answers with more than 1 MiB")
            } else {
                unavailable("broke off its answer").because(e)
            }
        })?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }
}

/// https, or http where no network lies between (or the operator said so) (D-04).
pub(crate) fn may_call(url: &Url, insecure: bool) -> bool {
    Origin::of(url).is_ok_and(|origin| origin.is_confidential() || insecure)
}

pub(crate) fn get(endpoint: &'static str, url: &Url) -> Result<Request<Full<Bytes>>> {
    Request::get(url.as_str())
        .header(header::ACCEPT, "application/json")
        .body(Full::default())
        .map_err(|e| answer(endpoint, "is no address that can be called").because(e))
}

/// Without its parameters; empty where the answer names none.
pub(crate) fn media_type(response: &Response<Bytes>) -> &str {
    let value = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// The JSON object of a 200 answer, strictly read.
pub(crate) fn object(endpoint: &'static str, response: &Response<Bytes>) -> Result<Map<String, Value>> {
    if response.status() != StatusCode::OK {
        return Err(answer(endpoint, &format!("answers {}", response.status().as_u16())));
    }
    json::object(response.body()).map_err(|e| answer(endpoint, "answers no JSON object").because(e))
}

/// What an answer that is no success says: an OAuth error response (RFC 6749 §5.2), or nothing that we know.
pub(crate) fn refusal(endpoint: &'static str, response: &Response<Bytes>) -> Error {
    let body = json::object(response.body()).unwrap_or_default();
    // SECURITY: the code only, and only as the RFC spells one: the description may quote what we sent (O-11, ZX-01).
    match body.get("error").and_then(Value::as_str) {
        Some(code)
            if (1..=64).contains(&code.len())
                && code.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b)) =>
        {
            Error::new(Kind::ProviderRefused, format!("the provider's {endpoint} endpoint refuses with {code}"))
                .oauth(code)
        }
        _ => answer(endpoint, &format!("answers {}", response.status().as_u16())),
    }
}

pub(crate) fn answer(endpoint: &'static str, what: &str) -> Error {
    Error::new(Kind::ProviderAnswer, format!("the provider's {endpoint} endpoint {what}"))
}

/// `whose` names the section in errors.
fn tls(whose: &str, issuer: &str, ca: Option<&Path>) -> Result<ClientConfig> {
    let broken = |what: String| Error::new(Kind::Internal, format!("{whose}: {what}"));
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|e| broken(format!("cannot read {}: {e}", path.display())))?;
            roots.add_parsable_certificates(certificates);
            if roots.is_empty() {
                return Err(broken(format!("{} holds no usable certificate", path.display())));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() && issuer.starts_with("https:") {
                return Err(broken(
                    "this machine has no trusted certificates: install ca-certificates, or set ca".into(),
                ));
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| broken(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
