//! `[provider.NAME]`: what Doorward proves itself to the provider with. Each way needs something of its own, and what no
//! way needs is not left lying there.

use super::problem::Reason;
use super::read::Table;
use super::secrets;
use super::settings::{ClientAuth, ClientCert, ClientKey, Flow};
use crate::crypto::sign::{KeyFault, SigningKey};
use crate::secret::Secret;

/// What signs a client assertion by a private key (F-10, but for RS256, which many providers know alone).
const ALGORITHMS: [&str; 9] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

/// Bytes of a secret that signs with HS256 (RFC 7518 §3.2).
const LEAST_SECRET: usize = 32;

const KEY_HINT: &str = "Write { file = \"/path\" } of a key in PEM without a password: RSA of 2048 bits or more, P-256, \
                        P-384 or Ed25519, as `openssl genpkey` writes it.";
const SECRET_HINT: &str = "This client_auth needs one: write { file = \"/path\" } or { env = \"NAME\" }.";

pub(super) struct Client {
    pub(super) auth: ClientAuth,
    pub(super) secret: Option<Secret>,
    pub(super) key: Option<ClientKey>,
    pub(super) cert: Option<ClientCert>,
}

/// `is_openid`: the provider has an issuer, for which an assertion can be made.
pub(super) fn client(table: &Table<'_>, is_openid: bool) -> Client {
    let secret = table.entry("client_secret").and_then(secrets::secret);
    let named = [
        ("auto", ClientAuth::Auto),
        ("client_secret_basic", ClientAuth::Basic),
        ("client_secret_post", ClientAuth::Post),
        ("client_secret_jwt", ClientAuth::ClientSecretJwt),
        ("private_key_jwt", ClientAuth::PrivateKeyJwt),
        ("tls_client_auth", ClientAuth::TlsClientAuth),
        // The provider tells them apart; towards it they are the same.
        ("self_signed_tls_client_auth", ClientAuth::TlsClientAuth),
        ("none", ClientAuth::None),
    ];
    let auth = table.choice("client_auth", &named).unwrap_or(ClientAuth::Auto);
    let client = Client { auth, key: private_key(table), cert: certificate(table), secret };
    check(table, &client);
    let asserts = matches!(auth, ClientAuth::ClientSecretJwt | ClientAuth::PrivateKeyJwt);
    if !is_openid && (asserts || auth == ClientAuth::Auto && client.key.is_some()) {
        table.problem(
            if asserts { "client_auth" } else { "private_key" },
            "needs an issuer to make the assertion for, and kind = \"oauth2\" has none",
            "Use client_secret_basic, client_secret_post or tls_client_auth.",
        );
    }
    client
}

/// Whether tokens are to be bound to a key of ours.
pub(super) fn dpop(table: &Table<'_>, flow: Flow) -> bool {
    let dpop = table.boolean("dpop", false);
    if dpop && flow == Flow::ImplicitFormPost {
        table.problem("dpop", "has no effect with flow = \"implicit_form_post\", which has no tokens", "Remove it.");
    }
    dpop
}

fn check(table: &Table<'_>, client: &Client) {
    let (secret, key, cert) = (table.has("client_secret"), !table.lacks("private_key"), !table.lacks("client_cert"));
    match client.auth {
        ClientAuth::Basic | ClientAuth::Post | ClientAuth::ClientSecretJwt if !secret => {
            table.missing("client_secret", SECRET_HINT);
        }
        // SECURITY: a shorter one can be found from one assertion.
        ClientAuth::ClientSecretJwt if is_short(client) => {
            table.problem(
                "client_secret",
                format!("is shorter than the {LEAST_SECRET} bytes that client_secret_jwt needs"),
                "Have the provider issue a longer secret, or use private_key_jwt.",
            );
        }
        ClientAuth::PrivateKeyJwt if !key => table.missing("private_key", KEY_HINT),
        ClientAuth::TlsClientAuth if !cert => {
            table.missing("client_cert", "This client_auth needs one: write the path of a PEM file, and client_key.");
        }
        ClientAuth::Auto if usize::from(secret) + usize::from(key) + usize::from(cert) > 1 => {
            let message = "leaves open which of client_secret, private_key and client_cert proves who Doorward is";
            table.problem("client_auth", message, "Write the method that the provider has registered for this client.");
        }
        ClientAuth::None if secret || key => {
            table.problem(
                "client_auth",
                "is \"none\" beside a client_secret or a private_key",
                "Remove those, or write client_auth = \"auto\".",
            );
        }
        _ => {}
    }
    let signs = matches!(client.auth, ClientAuth::Auto | ClientAuth::None | ClientAuth::PrivateKeyJwt);
    if key && !signs {
        let hint = "Write client_auth = \"private_key_jwt\", or remove it.";
        table.problem("private_key", "is not used by this client_auth", hint);
    }
}

fn is_short(client: &Client) -> bool {
    client.secret.as_ref().is_some_and(|secret| secret.expose().len() < LEAST_SECRET)
}

fn private_key(table: &Table<'_>) -> Option<ClientKey> {
    let alg = table.parse("client_auth_signing_alg", |text| match ALGORITHMS.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(Reason::new(
            "is no algorithm that signs by a private key here",
            format!("Write one of {}.", ALGORITHMS.join(", ")),
        )),
    });
    let kid = table.text("key_id");
    let entry = table.entry("private_key").filter(|_| !table.lacks("private_key"));
    let Some(entry) = entry else {
        for name in ["client_auth_signing_alg", "key_id"].into_iter().filter(|name| !table.lacks(name)) {
            table.problem(name, "says something of a private_key, and there is none", "Remove it, or add private_key.");
        }
        return None;
    };
    let pem = secrets::secret(entry)?;
    match SigningKey::from_pem(&pem, alg.as_deref(), kid.as_deref()) {
        Ok(_) => return Some(ClientKey { pem, alg, kid }),
        Err(KeyFault::Algorithm) => table.problem(
            "client_auth_signing_alg",
            "is not what this private_key signs by",
            "RSA: RS256 to PS512; P-256: ES256; P-384: ES384; Ed25519: EdDSA. Or remove it.",
        ),
        // ZX-06: the fault alone, never the text.
        Err(fault) => table.problem("private_key", fault.to_string(), KEY_HINT),
    }
    None
}

fn certificate(table: &Table<'_>) -> Option<ClientCert> {
    let (cert, key) = (table.path("client_cert"), table.path("client_key"));
    let hint = "Write the paths of two PEM files: the certificate with its chain, and its key.";
    match (cert, key) {
        (Some(cert), Some(key)) => return Some(ClientCert { cert, key }),
        (Some(_), None) if table.lacks("client_key") => table.missing("client_key", hint),
        (None, Some(_)) if table.lacks("client_cert") => table.missing("client_cert", hint),
        _ => {}
    }
    None
}
