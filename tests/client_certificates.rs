//! Certificates at the door: what a client's lets it do, what the upstream is told of it, which tokens need it; and requests
//! for a host whose certificate the connection did not begin with. Rows BX-07, MT-02, HX-20, PX-17.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use doorward::demo::provider::Fault;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};
use rustls::ClientConfig;
use serde_json::json;

use support::gateway::Extra;
use support::http2::Client;
use support::pki::{Connection, Pki, client};
use support::{Answer, Gateway, Provider, Upstream, eventually};

const ROUTES: &str = r#"
[[route]]
path = "/"
upstream = "UPSTREAM"
access = "public"
identity = ["client-cert"]

[[route]]
path = "/machines"
upstream = "UPSTREAM"
access = "policy"
allow = [
  { certificate = ["dns:BUILD.example.com", "uri:spiffe://example.com/ci"] },
  { certificate = "subject: cn=reader, O=Example", method = "GET" },
  { certificate = "dns:desk.example.com", user = "alice" },
]
deny = [{ certificate = "email:fired@example.com" }]

[[route]]
path = "/api"
upstream = "UPSTREAM"
access = "authenticated"
[route.machine]
issuers = ["main"]
audience = ["demo-api"]
"#;

struct World {
    pki: Pki,
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

impl World {
    fn new(more: &str) -> Self {
        let (pki, provider, upstream) = (Pki::new(&["localhost", "127.0.0.1"]), Provider::start(), Upstream::start());
        pki.issue(&["other.test", "*.other.test"], "other.crt", "other.key");
        pki.issue(&["third.test", "localhost"], "third.crt", "third.key");
        let path = |name: &str| pki.path(name).display().to_string();
        let server = format!(
            "{more}\n[server.tls]\ncert = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\nclient_auth = \"optional\"\n\
             [[server.tls.sni]]\ncert = \"{}\"\nkey = \"{}\"\n[[server.tls.sni]]\ncert = \"{}\"\nkey = \"{}\"\n",
            path("cert.pem"),
            path("key.pem"),
            path("ca.pem"),
            path("other.crt"),
            path("other.key"),
            path("third.crt"),
            path("third.key"),
        );
        let extra = Extra { server, routes: Some(ROUTES.to_owned()), ..Extra::default() };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        Self { pki, provider, upstream, gateway }
    }

    fn connect(&self, config: &ClientConfig) -> Connection {
        Connection::open(config, "localhost", self.gateway.port).unwrap()
    }

    fn ask(&self, config: &ClientConfig, what: &str, more: &str) -> Answer {
        self.connect(config).ask(what, "localhost", more).unwrap()
    }

    fn nobody(&self) -> ClientConfig {
        client(&self.pki.path("ca.pem"))
    }

    fn shows(&self, common_name: &str, names: Vec<SanType>) -> ClientConfig {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names;
        self.pki.shows(params)
    }

    fn leaf(config: &ClientConfig) -> Vec<u8> {
        let schemes = [rustls::SignatureScheme::ECDSA_NISTP256_SHA256];
        config.client_auth_cert_resolver.resolve(&[], &schemes).unwrap().cert[0].to_vec()
    }
}

fn ia5(text: &str) -> Ia5String {
    Ia5String::try_from(text).unwrap()
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(ia5(name))
}

#[test]
fn bx_07_a_certificate_lets_in_whom_rules_name_without_a_sign_in() {
    let world = World::new("");
    let build = world.shows("x", vec![dns("Build.Example.com")]);
    let ci = world.shows("x", vec![SanType::URI(ia5("spiffe://example.com/ci"))]);
    let fired = vec![dns("build.example.com"), SanType::Rfc822Name(ia5("Fired@example.com"))];
    for (who, config, get, post) in [
        ("a name", &build, 200, 200),
        ("a URI", &ci, 200, 200),
        ("a subject, to read", &world.shows("reader", vec![]), 200, 401),
        ("a common name is no host", &world.shows("build.example.com", vec![]), 401, 401),
        ("another URI", &world.shows("x", vec![SanType::URI(ia5("spiffe://example.com/CI"))]), 401, 401),
        ("below it", &world.shows("x", vec![dns("a.build.example.com")]), 401, 401),
        ("one that is denied", &world.shows("x", fired), 403, 403),
        ("one that a person must have too", &world.shows("x", vec![dns("desk.example.com")]), 401, 401),
        ("none", &world.nobody(), 401, 401),
    ] {
        // Not a navigation: those are sent to sign in.
        let more = "Sec-Fetch-Mode: cors\r\nContent-Length: 0\r\n";
        assert_eq!(world.ask(config, "GET /machines", more).status, get, "{who}");
        assert_eq!(world.ask(config, "POST /machines", more).status, post, "{who}");
    }
    // Of another authority: the handshake fails, here or when the alert comes.
    let stranger = Pki::new(&["x"]);
    let mut forged = client(&world.pki.path("ca.pem"));
    forged.client_auth_cert_resolver =
        stranger.shows(CertificateParams::new(Vec::new()).unwrap()).client_auth_cert_resolver;
    let opened = Connection::open(&forged, "localhost", world.gateway.port);
    assert!(opened.and_then(|mut connection| connection.get("/machines")).is_err());
}

#[test]
fn bx_07_hx_20_the_upstream_is_told_what_the_client_has_shown_and_nothing_it_says() {
    let world = World::new("trusted_proxies = [\"127.0.0.1\"]");
    let lies = "Client-Cert: :bGll:\r\nclient_cert_chain: :bGll:\r\nX-Client-Cert-Subject: CN=root\r\n\
                X-Client-Cert-San: dns:root\r\nX-Forwarded-Client-Cert: By=x\r\nSSL_CLIENT_S_DN: CN=root\r\n\
                X-SSL-Client-Verify: SUCCESS\r\nX-Amzn-Mtls-Clientcert-Leaf: x\r\nX-ARR-ClientCert: x\r\n\
                X-Forwarded-Tls-Client-Cert-Info: x\r\nCf-Client-Cert-Sha256: x\r\nWL-Proxy-Client-Cert: x\r\n\
                Connection: X-Client-Cert-San\r\n";
    let names = vec![dns("build.example.com"), SanType::URI(ia5("spiffe://example.com/ci"))];
    let config = world.shows("Jörg", names);
    let told = |config: &ClientConfig, path: &str| {
        assert_eq!(world.ask(config, &format!("GET {path}"), lies).status, 200);
        let seen = world.upstream.last();
        let mut all: Vec<_> = seen.headers.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
        all.retain(|(name, _)| ["cert", "ssl", "mtls"].iter().any(|word| name.contains(word)));
        all.sort();
        all
    };
    let leaf = format!(":{}:", STANDARD.encode(World::leaf(&config)));
    let want = [
        ("client-cert", leaf.as_str()),
        ("x-client-cert-san", "dns:build.example.com,uri:spiffe://example.com/ci"),
        ("x-client-cert-subject", "CN=J%C3%B6rg,O=Example"),
    ];
    let want = want.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(told(&config, "/x"), want, "on a public route");
    assert_eq!(told(&config, "/machines"), [], "on a route that does not send it");
    assert_eq!(told(&world.nobody(), "/x"), [], "without a certificate");
}

#[test]
fn bx_07_a_certificate_counts_for_as_long_as_its_authority_does() {
    let world = World::new("");
    let build = world.shows("x", vec![dns("build.example.com")]);
    let (mut busy, mut resting) = (world.connect(&build), world.connect(&build));
    for connection in [&mut busy, &mut resting] {
        assert_eq!(connection.get("/machines").unwrap().status, 200);
    }
    // The same authority again is no change.
    world.gateway.signal("HUP");
    eventually("the reload", || world.gateway.reloads("ok") > 0.0);
    assert_eq!(busy.get("/machines").unwrap().status, 200);

    let another = Pki::new(&["x"]);
    std::fs::copy(another.path("ca.pem"), world.pki.path("ca.pem")).unwrap();
    world.gateway.signal("HUP");
    eventually("the second reload", || world.gateway.reloads("ok") > 1.0);
    eventually("the end of a connection that goes on asking", || busy.get("/machines").is_err());
    eventually("the end of one that did not", || resting.get("/machines").is_err());
}

#[test]
fn mt_02_a_token_bound_to_a_certificate_counts_over_its_connections_alone() {
    let world = World::new("");
    let (owner, thief) = (world.shows("owner", vec![]), world.shows("thief", vec![]));
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &World::leaf(&owner));
    let thumbprint = URL_SAFE_NO_PAD.encode(digest);
    let token = |cnf: serde_json::Value| {
        let bind = Fault::tamper(move |_, claims| drop(claims.insert("cnf".to_owned(), cnf.clone())));
        let token = world.provider.demo.control().access_token("alice", Some(&bind)).unwrap();
        format!("Authorization: Bearer {token}\r\n")
    };
    let bound = token(json!({"x5t#S256": thumbprint}));
    // In every order: what is remembered of the token is not whose connection it came over.
    for (who, config, status) in [
        ("nobody", &world.nobody(), 401),
        ("the owner", &owner, 200),
        ("a thief without a certificate", &world.nobody(), 401),
        ("a thief with another one", &thief, 401),
        ("the owner again", &owner, 200),
    ] {
        let answer = world.ask(config, "GET /api/x", &bound);
        assert_eq!(answer.status, status, "{who}");
        if status == 401 {
            assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""), "{who}");
        }
    }
    assert_eq!(world.upstream.seen().len(), 2);
    for cnf in [json!({"x5t#S256": thumbprint, "jkt": "x"}), json!({"jkt": thumbprint}), json!({})] {
        assert_eq!(world.ask(&owner, "GET /api/x", &token(cnf.clone())).status, 401, "DP-05: {cnf}");
    }
    let document = world.ask(&owner, "GET /.well-known/oauth-protected-resource/api", "").json();
    assert_eq!(document["tls_client_certificate_bound_access_tokens"], true);
}

#[test]
fn px_17_a_host_of_another_certificate_is_misdirected() {
    let world = World::new("");
    let config = world.nobody();
    let ask = |server_name: &str, hosts: &[(&str, u16)]| {
        let mut connection = Connection::open(&config, server_name, world.gateway.port).unwrap();
        for (host, status) in hosts {
            let answer = connection.ask("GET /x", host, "").unwrap();
            assert_eq!(answer.status, *status, "{host} over a connection for {server_name}");
        }
    };
    // One connection each: what is remembered of one host says nothing of the next.
    ask("localhost", &[("localhost", 200), ("other.test", 421), ("LOCALHOST.", 200), ("a.other.test:443", 421)]);
    // A certificate of both hosts joins them; what no certificate is for is judged as the first one's.
    ask("localhost", &[("unknown.test", 200), ("third.test", 200)]);
    ask("other.test", &[("other.test", 200), ("b.other.test", 200), ("localhost", 421), ("unknown.test", 421)]);
    ask("third.test", &[("third.test", 200), ("localhost", 200), ("other.test", 421)]);
    // No name, as browsers have it for an address: the first certificate.
    ask("127.0.0.1", &[("127.0.0.1", 200), ("other.test", 421)]);
    assert_eq!(world.upstream.seen().len(), 9, "what is misdirected goes nowhere");
}

#[test]
fn px_17_bx_07_over_http2_every_request_is_asked_for_its_host_and_has_the_connections_certificate() {
    let world = World::new("");
    let config = world.shows("x", vec![dns("build.example.com")]);
    let client = Client::over_tls(config, "localhost", world.gateway.port);
    let ask = |authority: &str, path: &str| {
        let request = http::Request::builder().uri(format!("https://{authority}{path}"));
        client.send(request, b"").status.as_u16()
    };
    for _ in 0..2 {
        assert_eq!(ask("localhost", "/machines"), 200);
        assert_eq!(ask("other.test", "/machines"), 421);
        assert_eq!(ask("a.other.test", "/x"), 421);
        assert_eq!(ask("LOCALHOST:443", "/x"), 200);
        assert!(world.upstream.last().all("client-cert")[0].starts_with(":"));
    }
    assert_eq!(world.upstream.seen().len(), 4);
}

#[test]
fn px_17_a_trusted_proxy_speaks_for_every_host() {
    let world = World::new("trusted_proxies = [\"127.0.0.1\"]");
    let answer = world.connect(&world.nobody()).ask("GET /x", "other.test", "X-Forwarded-Host: other.test\r\n");
    assert_eq!(answer.unwrap().status, 200);
}

#[test]
fn a_certificate_is_explained_as_it_would_be_judged() {
    let world = World::new("");
    let explain = |names: &[&str], path: &str| {
        let mut args = vec![path.to_owned(), "--json".to_owned()];
        args.extend(names.iter().flat_map(|name| ["--certificate".to_owned(), (*name).to_owned()]));
        world.gateway.explain(&args)
    };
    let allowed = explain(&["dns:Build.example.com"], "/machines");
    assert_eq!(allowed["decision"], "allow");
    assert_eq!(allowed["rules"][1]["answer"], "matched");
    let rule = "{ certificate = [\"dns:build.example.com\", \"uri:spiffe://example.com/ci\"] }";
    assert_eq!(allowed["rules"][1]["rule"], rule);
    assert_eq!(explain(&["dns:build.example.com", "email:fired@example.com"], "/machines")["reason"], "deny[1]");
    assert_eq!(explain(&[], "/machines")["decision"], "sign_in");
    let told = explain(&["dns:build.example.com", "subject:CN=x"], "/x")["upstream"]["headers"].clone();
    for header in [
        json!({"name": "client-cert", "value": "(certificate)"}),
        json!({"name": "x-client-cert-san", "value": "dns:build.example.com"}),
        json!({"name": "x-client-cert-subject", "value": "CN=x"}),
    ] {
        assert!(told.as_array().unwrap().contains(&header), "{header}: {told}");
    }
}
