//! How Doorward proves to the provider that it is the client: a secret in a header or in the body, never in a URL
//! (RFC 6749 §2.3.1), an assertion signed for this one request (RFC 7523), the certificate of the connection (RFC 8705),
//! or nothing at all.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::Full;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value, json};
use url::{Url, form_urlencoded};

use crate::clock;
use crate::config::settings::{self, ClientAuth};
use crate::crypto::sign::{self, SigningKey};
use crate::crypto::{jws, random};
use crate::error::{Error, Kind, Result};
use crate::provider::discovery::Metadata;
use crate::provider::http::answer;
use crate::secret::Secret;

/// Seconds for which an assertion is good: it is made for one request (PK-01).
const ASSERTION_LIFETIME: u64 = 60;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Who Doorward is to one provider, and the proof of it.
pub(crate) struct Client {
    id: String,
    /// The provider's name, for whom assertions are.
    issuer: String,
    proof: Proof,
}

enum Proof {
    Hmac(Secret),
    /// Says who it is, no more: a public client, or one that its certificate proves.
    Id,
    Key(Box<SigningKey>),
    Secret(Secret, Place),
}

/// Where the secret goes.
enum Place {
    /// The header, unless discovery only lists the body.
    AsListed,
    Body,
    Header,
}

/// The pairs of a request's body, encoded. It holds codes and tokens: no `Debug`.
pub(crate) struct Form {
    body: String,
    has_client_id: bool,
}

impl Form {
    pub(crate) fn new(pairs: &[(&str, &str)]) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        Self { body, has_client_id: pairs.iter().any(|(name, _)| *name == "client_id") }
    }
}

impl Client {
    /// # Errors
    /// `Internal`: something that this `client_auth` needs is not there, or too weak.
    pub(crate) fn new(settings: &settings::Provider) -> Result<Self> {
        let broken = |what: String| Error::new(Kind::Internal, format!("provider {}: {what}", settings.name));
        let secret = || {
            settings.client_secret.clone().ok_or_else(|| broken("this client_auth needs a client_secret".to_owned()))
        };
        let signing_key = || {
            let key = settings.client_key.as_ref();
            let key = key.ok_or_else(|| broken("this client_auth needs a private_key".to_owned()))?;
            let read = SigningKey::from_pem(&key.pem, key.alg.as_deref(), key.kid.as_deref());
            read.map(|key| Proof::Key(Box::new(key))).map_err(|fault| broken(format!("private_key {fault}")))
        };
        let proof = match settings.client_auth {
            ClientAuth::Auto if settings.client_secret.is_some() => Proof::Secret(secret()?, Place::AsListed),
            ClientAuth::Auto if settings.client_key.is_some() => signing_key()?,
            ClientAuth::Auto | ClientAuth::None => Proof::Id,
            ClientAuth::Basic => Proof::Secret(secret()?, Place::Header),
            ClientAuth::ClientSecretJwt => {
                // SECURITY: a shorter secret can be found from one assertion (RFC 7518 §3.2, F-10).
                let long = |secret: &Secret| Some(secret.expose().len()) >= jws::hmac_length(Algorithm::HS256);
                let secret = Some(secret()?).filter(long);
                Proof::Hmac(secret.ok_or_else(|| broken("the client_secret is too short for HS256".to_owned()))?)
            }
            ClientAuth::Post => Proof::Secret(secret()?, Place::Body),
            ClientAuth::PrivateKeyJwt => signing_key()?,
            ClientAuth::TlsClientAuth if settings.client_cert.is_none() => {
                return Err(broken("this client_auth needs a client_cert".to_owned()));
            }
            ClientAuth::TlsClientAuth => Proof::Id,
        };
        Ok(Self { id: settings.client_id.clone(), issuer: settings.issuer.clone(), proof })
    }

    /// A POST of `form` by this client, good for one sending: an assertion is never used twice (DP-02). `client_id` is in
    /// the body unless the header carries it, or `form` does.
    pub(crate) fn post(
        &self,
        endpoint: &'static str,
        url: &Url,
        form: &Form,
        metadata: &Metadata,
    ) -> Result<Request<Full<Bytes>>> {
        let mut body = form_urlencoded::Serializer::new(form.body.clone());
        let mut request = Request::post(url.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        match &self.proof {
            Proof::Secret(secret, place) if place.is_header(metadata) => {
                request = request.header(header::AUTHORIZATION, self.basic(secret));
            }
            proof => {
                if !form.has_client_id {
                    body.append_pair("client_id", &self.id);
                }
                match proof {
                    Proof::Id => {}
                    Proof::Secret(secret, _) => {
                        body.append_pair("client_secret", secret.expose());
                    }
                    Proof::Hmac(_) | Proof::Key(_) => {
                        let assertion = self.assertion();
                        let failed = || Error::new(Kind::Internal, "a client assertion cannot be signed");
                        body.append_pair("client_assertion_type", ASSERTION_TYPE);
                        body.append_pair("client_assertion", &assertion.ok_or_else(failed)?);
                    }
                }
            }
        }
        request
            .body(Full::from(body.finish()))
            .map_err(|e| answer(endpoint, "is no address that can be called").because(e))
    }

    /// Id and secret are form-urlencoded each before they are joined (O-01): otherwise a colon in the id, or anything
    /// beyond ASCII, would mean something else to the provider.
    fn basic(&self, secret: &Secret) -> HeaderValue {
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encode(&self.id), encode(secret.expose()));
        // Base64 is always a header value; were it not, an empty one is refused by the provider.
        let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
            .unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }

    fn assertion(&self) -> Option<String> {
        let now = clock::unix_now();
        let claims = object([
            ("iss", json!(self.id)),
            ("sub", json!(self.id)),
            // SECURITY: PK-01: the configured issuer, one string. An endpoint out of metadata would let whoever writes
            // those pick for whom the assertion is good.
            ("aud", json!(self.issuer)),
            ("jti", json!(random::token())),
            ("iat", json!(now)),
            ("exp", json!(now + ASSERTION_LIFETIME)),
        ]);
        let typ = ("typ", json!("JWT"));
        match &self.proof {
            Proof::Hmac(secret) => sign::hs256(secret, object([typ]), &claims),
            Proof::Key(key) => key.sign(object([typ, ("kid", json!(key.kid()))]), &claims),
            Proof::Id | Proof::Secret(..) => None,
        }
    }
}

impl Place {
    fn is_header(&self, metadata: &Metadata) -> bool {
        let lists = |name: &str| metadata.token_auth_methods.iter().any(|method| method == name);
        match self {
            Self::AsListed => lists("client_secret_basic") || !lists("client_secret_post"),
            Self::Body => false,
            Self::Header => true,
        }
    }
}

pub(crate) fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
