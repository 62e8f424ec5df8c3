//! The client's certificate: shown at the endpoints that are for clients with one.

use std::path::Path;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::client_auth::everything;
use super::*;
use crate::config::settings::ClientCert;

/// An authority, a server's pair for localhost and a client's, in `dir`.
fn write_pairs(dir: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    for name in ["localhost", "client"] {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), cert.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// The same provider once more, over TLS and only for who shows a certificate; its address.
async fn serve_mtls(op: &Arc<Op>, dir: &Path) -> String {
    let crypto = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto.clone()).build().unwrap();
    let chain = vec![CertificateDer::from_pem_file(dir.join("localhost.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(dir.join("localhost.key")).unwrap();
    let config = ServerConfig::builder_with_provider(crypto).with_safe_default_protocol_versions().unwrap();
    let config = config.with_client_cert_verifier(clients).with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let op = op.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(tls) = acceptor.accept(stream).await else { continue };
            let shown = tls.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
            let op = op.clone();
            let service = service_fn(move |request| op.clone().serve(request, shown.clone()));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tls), service));
        }
    });
    address
}

#[tokio::test]
async fn mt_01_d_11_the_certificate_is_shown_at_the_endpoints_that_are_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_pairs(dir);
    let op = Op::new().await;
    let secure = serve_mtls(&op, dir).await;
    let at = |base: &str, path: &str| format!("{base}/{path}");
    op.discovery(json!({
        "introspection_endpoint": at(&op.issuer, "plain"),
        "token_endpoint": at(&op.issuer, "plain"),
        "revocation_endpoint": at(&op.issuer, "plain"),
        "userinfo_endpoint": at(&op.issuer, "plain"),
        "mtls_endpoint_aliases": {
            "authorization_endpoint": at(&secure, "authorize"),
            "introspection_endpoint": at(&secure, "introspect"),
            "pushed_authorization_request_endpoint": at(&secure, "par"),
            "revocation_endpoint": at(&secure, "revoke"),
            "token_endpoint": at(&secure, "token"),
            "userinfo_endpoint": at(&secure, "userinfo"),
        },
    }));
    op.put("/userinfo", Answer::json(200, json!({"sub": "alice", "groups": ["staff"]})));
    let with_certificate = |settings: &mut settings::Provider| {
        settings.client_secret = None;
        settings.ca = Some(dir.join("ca.pem"));
        settings.client_cert = Some(ClientCert { cert: dir.join("client.pem"), key: dir.join("client.key") });
    };
    let client = CertificateDer::from_pem_file(dir.join("client.pem")).unwrap();
    for auth in [ClientAuth::TlsClientAuth, ClientAuth::Auto] {
        let provider = op.provider(|settings| {
            with_certificate(settings);
            settings.client_auth = auth;
        });
        for seen in everything(&op, &provider).await {
            assert_eq!(seen.certificate.as_deref(), Some(client.as_ref()), "{}", seen.path);
            assert_eq!(seen.form["client_id"], "doorward", "{}", seen.path);
            assert!(!seen.form.contains_key("client_assertion") && !seen.headers.contains_key("authorization"));
        }
        let url = provider.authorization_url(&request()).await.unwrap();
        assert!(url.starts_with(&op.issuer), "browsers have no certificate: {url}");
    }
    assert!(op.seen("/userinfo").iter().all(|seen| seen.certificate.is_some()));
    assert!(op.seen("/jwks").iter().all(|seen| seen.certificate.is_none()));
    assert!(op.seen("/plain").is_empty(), "no endpoint for others was called");

    let metadata = op.provider(|_| {}).metadata().await.unwrap();
    assert_eq!(
        metadata.token_endpoint.as_ref().unwrap().as_str(),
        at(&op.issuer, "plain"),
        "without a certificate nothing changes"
    );
    assert_eq!(metadata.pushed_authorization_request_endpoint, None);
}

#[tokio::test]
async fn mt_01_a_certificate_and_a_key_that_do_not_belong_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_pairs(dir);
    let op = Op::new().await;
    for (cert, key, fine) in [
        ("client.pem", "client.key", true),
        ("client.pem", "localhost.key", false),
        ("client.pem", "none.key", false),
        ("none.pem", "client.key", false),
        ("client.key", "client.key", false),
    ] {
        let mut settings = op.settings();
        settings.client_cert = Some(ClientCert { cert: dir.join(cert), key: dir.join(key) });
        assert_eq!(Provider::check(&settings).is_ok(), fine, "{cert} {key}");
    }
}
