//! How Doorward proves to the provider that it is the client: the secret in a header or in the body, never in a URL
//! (RFC 6749 §2.3.1), or no secret at all.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::Full;
use url::{Url, form_urlencoded};

use crate::config::settings::{self, ClientAuth};
use crate::error::Result;
use crate::provider::discovery::Metadata;
use crate::provider::http::answer;
use crate::secret::Secret;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Method<'a> {
    Basic(&'a Secret),
    None,
    Post(&'a Secret),
}

impl<'a> Method<'a> {
    pub(crate) fn choose(settings: &'a settings::Provider, metadata: &Metadata) -> Self {
        let Some(secret) = &settings.client_secret else { return Self::None };
        let lists = |name: &str| metadata.token_auth_methods.iter().any(|method| method == name);
        match settings.client_auth {
            ClientAuth::None | ClientAuth::ClientSecretJwt | ClientAuth::PrivateKeyJwt | ClientAuth::TlsClientAuth => {
                Self::None
            }
            ClientAuth::Basic => Self::Basic(secret),
            ClientAuth::Post => Self::Post(secret),
            ClientAuth::Auto if lists("client_secret_post") && !lists("client_secret_basic") => Self::Post(secret),
            ClientAuth::Auto => Self::Basic(secret),
        }
    }
}

/// A form POST with client authentication. `client_id` is in the body unless the header carries it, or `form` does.
pub(crate) fn post(
    endpoint: &'static str,
    url: &Url,
    client_id: &str,
    method: Method<'_>,
    form: &[(&str, &str)],
) -> Result<Request<Full<Bytes>>> {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    let mut request = Request::post(url.as_str())
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if !matches!(method, Method::Basic(_)) && !form.iter().any(|(name, _)| *name == "client_id") {
        body.append_pair("client_id", client_id);
    }
    match method {
        Method::Basic(secret) => request = request.header(header::AUTHORIZATION, basic(client_id, secret)),
        Method::None => {}
        Method::Post(secret) => {
            body.append_pair("client_secret", secret.expose());
        }
    }
    request.body(Full::from(body.finish())).map_err(|e| answer(endpoint, "is no address that can be called").because(e))
}

/// Id and secret are form-urlencoded each before they are joined (O-01): otherwise a colon in the id, or anything beyond
/// ASCII, would mean something else to the provider.
fn basic(client_id: &str, secret: &Secret) -> HeaderValue {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(client_id), encode(secret.expose()));
    // Base64 is always a header value; were it not, an empty one is refused by the provider.
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
        .unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
