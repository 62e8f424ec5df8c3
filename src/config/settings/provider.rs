//! Whom people sign in at, and whose tokens count.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::secret::Secret;

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Provider {
    /// The section's name, `[provider.NAME]`.
    pub name: String,
    pub kind: ProviderKind,
    /// What pages call it.
    pub label: String,
    /// As written: OpenID Connect compares it byte for byte. Of a provider without OpenID: its `authorization_url`, a
    /// name that no ID token bears.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Option<Secret>,
    pub client_auth: ClientAuth,
    /// Signs client assertions (`private_key_jwt`).
    pub client_key: Option<ClientKey>,
    /// Shown to the provider in TLS (RFC 8705).
    pub client_cert: Option<ClientCert>,
    /// Sender-constrained tokens (RFC 9449), towards the token endpoint and userinfo.
    pub dpop: bool,
    pub flow: Flow,
    pub response_mode: ResponseMode,
    pub callback: Callback,
    pub scopes: Vec<String>,
    pub extra_params: Vec<(String, String)>,
    pub par: Par,
    /// Empty = what discovery lists, asymmetric only.
    pub id_token_algs: Vec<String>,
    pub timeout: Duration,
    /// None = `{origin}{prefix}/signed_out`.
    pub post_logout_redirect_uri: Option<String>,
    pub ca: Option<PathBuf>,
    pub clock_skew: Duration,
    /// `insecure = true`: plain http to hosts that are not loopback.
    pub insecure: bool,
    pub claims: Claims,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientAuth {
    /// By a secret: `client_secret_basic` unless discovery only lists `client_secret_post`. By a private key:
    /// `private_key_jwt`. By a certificate: `tls_client_auth`. With none of them: `none`.
    Auto,
    Basic,
    /// A JWT under the client secret (OpenID Connect Core §9).
    ClientSecretJwt,
    None,
    Post,
    /// A JWT under the client's own key (RFC 7523).
    PrivateKeyJwt,
    /// The certificate of the connection, of an authority or self-signed (RFC 8705 §2).
    TlsClientAuth,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProviderKind {
    /// OpenID Connect with discovery.
    Oidc,
    /// OAuth 2.0 without OpenID: no discovery, no ID token; who somebody is comes from `userinfo_url`.
    OAuth2(Box<OAuth2Endpoints>),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OAuth2Endpoints {
    pub authorization_url: Url,
    pub token_url: Url,
    pub userinfo_url: Url,
    /// A list of `{ email, primary, verified }`, as GitHub keeps it; None: userinfo says it all.
    pub emails_url: Option<Url>,
}

/// A private key in PEM, and how it signs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientKey {
    pub pem: Secret,
    /// RFC 7518 name; None = RS256, ES256, ES384 or EdDSA by the kind of key.
    pub alg: Option<String>,
    /// None = the key's RFC 7638 thumbprint.
    pub kid: Option<String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCert {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flow {
    Code,
    /// `response_type=id_token` by `form_post`, for providers without a token endpoint.
    ImplicitFormPost,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseMode {
    FormPost,
    Query,
}

impl Provider {
    pub fn is_openid(&self) -> bool {
        self.kind == ProviderKind::Oidc
    }

    /// Where the provider sends people back to, below an origin of ours.
    pub fn callback_path(&self, prefix: &str) -> String {
        match self.callback {
            Callback::Own => format!("{prefix}/callback/{}", self.name),
            Callback::Shared => format!("{prefix}/callback"),
        }
    }
}

/// Where the provider sends people back to (B-03).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Callback {
    /// `{prefix}/callback/NAME`: what comes there is of this provider. The rule where there are several.
    Own,
    /// `{prefix}/callback`. Beside other providers an answer must then name its issuer (RFC 9207).
    Shared,
}

/// `[issuer.NAME]`: whose tokens count, and nothing else: nobody signs in there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issuer {
    pub name: String,
    /// As written: compared byte for byte.
    pub issuer: String,
    /// None = from discovery.
    pub jwks_url: Option<Url>,
    /// At least one.
    pub audience: Vec<String>,
    /// Empty = RS, PS, ES256 and above, EdDSA.
    pub algorithms: Vec<String>,
    pub clock_skew: Duration,
    pub timeout: Duration,
    pub ca: Option<PathBuf>,
    pub insecure: bool,
    pub claims: Claims,
}

/// Parameters of the authorization request that Doorward sets itself, or that would replace all of them: no
/// `extra_params` can (L-23).
pub const OWN_PARAMETERS: [&str; 13] = [
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "dpop_jkt",
    "nonce",
    "redirect_uri",
    "request",
    "request_uri",
    "response_mode",
    "response_type",
    "scope",
    "state",
];

/// Pushed authorization requests (RFC 9126).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Par {
    Auto,
    Off,
    Required,
}

/// Dotted paths into the ID token's claims, then userinfo's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claims {
    pub user: String,
    pub email: String,
    pub name: String,
    pub groups: String,
}
