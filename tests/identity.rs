//! Who it is, as upstreams are told: every preset's headers, the signed assertion, and that neither is ever another
//! person's or the client's own. Rows B-14, HX-, O-11.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::fmt::Write as _;

use support::gateway::Extra;
use support::upstream::Seen;
use support::{Browser, Gateway, Provider, Upstream};

/// What an application documents, for alice, whose groups are `admins` and `staff`.
const DOCUMENTED: &[(&str, &[(&str, &str)])] = &[
    (
        "x-forwarded",
        &[
            ("X-Forwarded-User", "alice"),
            ("X-Forwarded-Email", "alice@example.test"),
            ("X-Forwarded-Groups", "admins,staff"),
            ("X-Forwarded-Preferred-Username", "alice"),
        ],
    ),
    (
        "x-auth-request",
        &[
            ("X-Auth-Request-User", "alice"),
            ("X-Auth-Request-Email", "alice@example.test"),
            ("X-Auth-Request-Groups", "admins,staff"),
            ("X-Auth-Request-Preferred-Username", "alice"),
        ],
    ),
    (
        "remote",
        &[
            ("Remote-User", "alice"),
            ("Remote-Email", "alice@example.test"),
            ("Remote-Name", "Alice Example"),
            ("Remote-Groups", "admins,staff"),
        ],
    ),
    // https://grafana.com/docs/grafana/latest/setup-grafana/configure-access/configure-authentication/auth-proxy/
    // (header_name, headers); Gitea, "Reverse Proxy": REVERSE_PROXY_AUTHENTICATION_FULL_NAME.
    (
        "webauth",
        &[
            ("X-WEBAUTH-USER", "alice"),
            ("X-WEBAUTH-EMAIL", "alice@example.test"),
            ("X-WEBAUTH-NAME", "Alice Example"),
            ("X-WEBAUTH-FULLNAME", "Alice Example"),
            ("X-WEBAUTH-GROUPS", "admins,staff"),
        ],
    ),
    // https://plugins.jenkins.io/reverse-proxy-auth-plugin/ ("The default values for the HTTP header fields are")
    (
        "jenkins",
        &[
            ("X-Forwarded-User", "alice"),
            ("X-Forwarded-Mail", "alice@example.test"),
            ("X-Forwarded-DisplayName", "Alice Example"),
            ("X-Forwarded-Groups", "admins|staff"),
        ],
    ),
    // https://docs.sonarsource.com/sonarqube-server/latest/instance-administration/authentication/http-header/
    (
        "sonarqube",
        &[
            ("X-Forwarded-Login", "alice"),
            ("X-Forwarded-Name", "Alice Example"),
            ("X-Forwarded-Email", "alice@example.test"),
            ("X-Forwarded-Groups", "admins,staff"),
        ],
    ),
    // https://netboxlabs.com/docs/netbox/configuration/remote-authentication/ (the defaults, as WSGI's HTTP_ variables)
    (
        "netbox",
        &[
            ("Remote-User", "alice"),
            ("Remote-User-Email", "alice@example.test"),
            ("Remote-User-First-Name", "Alice"),
            ("Remote-User-Last-Name", "Example"),
            ("Remote-User-Group", "admins|staff"),
        ],
    ),
    // https://docs.opensearch.org/latest/security/authentication-backends/proxy/
    ("opensearch", &[("x-proxy-user", "alice"), ("x-proxy-roles", "admins,staff")]),
    // https://docs.goauthentik.io/add-secure-apps/providers/proxy/ ("Headers")
    (
        "authentik",
        &[
            ("X-authentik-username", "alice"),
            ("X-authentik-groups", "admins|staff"),
            ("X-authentik-email", "alice@example.test"),
            ("X-authentik-name", "Alice Example"),
            ("X-authentik-uid", "alice"),
        ],
    ),
    // https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/
    (
        "k8s-impersonate",
        &[("Impersonate-User", "alice"), ("Impersonate-Group", "admins"), ("Impersonate-Group", "staff")],
    ),
];

/// One route for each preset, at `/PRESET`, and a public one beside.
fn world() -> (Provider, Upstream, Gateway) {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let mut routes = route("/", "identity = []");
    let others = ["assertion", "x-forwarded-access-token"];
    for preset in DOCUMENTED.iter().map(|(preset, _)| *preset).chain(others) {
        routes += &route(&format!("/{preset}"), &format!("identity = [\"{preset}\"]"));
    }
    routes +=
        &route("/alias", "identity = [\"assertion\", { header = \"X-Pomerium-Jwt-Assertion\", assertion = true }]");
    routes += "[[route]]\npath = \"/public\"\nupstream = \"UPSTREAM\"\naccess = \"public\"\n";
    let gateway = Gateway::with(provider.issuer(), &upstream, Extra { routes: Some(routes), ..Extra::default() });
    (provider, upstream, gateway)
}

fn route(path: &str, more: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\n{more}\n")
}

fn fetched(browser: &mut Browser, upstream: &Upstream, path: &str) -> Seen {
    let answer = browser.fetch(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    upstream.last()
}

/// What a header of the upstream's request says about somebody: not what says where the request came from.
fn about_somebody(seen: &Seen) -> Vec<(String, String)> {
    let route = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"];
    let says = |name: &str| {
        ["x-forwarded-", "x-auth-", "remote-", "x-webauth-", "x-proxy-", "impersonate-", "x-doorward-", "x-pomerium-"]
            .iter()
            .any(|start| name.starts_with(start))
            || name.starts_with("x-authentik-")
    };
    let mut found: Vec<(String, String)> = seen.headers.iter().map(|(n, v)| (n.to_lowercase(), v.clone())).collect();
    found.retain(|(name, _)| says(name) && !route.contains(&name.as_str()));
    found.sort();
    found
}

#[test]
fn b_14_hx_17_each_preset_sends_what_its_application_documents_and_nothing_else() {
    let (_provider, upstream, gateway) = world();
    let mut alice = gateway.signed_in();
    for (preset, documented) in DOCUMENTED {
        let seen = fetched(&mut alice, &upstream, &format!("/{preset}"));
        let mut expected: Vec<(String, String)> =
            documented.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned())).collect();
        expected.sort();
        assert_eq!(about_somebody(&seen), expected, "{preset}");
    }
}

#[test]
fn b_14_hx_02_hx_03_hx_20_no_client_says_who_it_is_on_any_route_in_any_spelling() {
    let (_provider, upstream, gateway) = world();
    let mut alice = gateway.signed_in();
    let forged: Vec<(String, &str)> = DOCUMENTED
        .iter()
        .flat_map(|(_, headers)| *headers)
        .flat_map(|(name, _)| [(*name).to_owned(), name.replace('-', "_")])
        .chain(["X-Doorward-Assertion", "X-Pomerium-Jwt-Assertion", "Cf-Access-Jwt-Assertion"].map(str::to_owned))
        .chain(["X-Goog-IAP-JWT-Assertion", "X-Amzn-Oidc-Data", "Impersonate-Extra-Scopes"].map(str::to_owned))
        .map(|name| (name, "forged"))
        .collect();
    let headers: Vec<(&str, &str)> = forged.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let paths = DOCUMENTED.iter().map(|(preset, _)| format!("/{preset}"));
    for path in paths.chain(["/public", "/", "/assertion", "/alias"].map(str::to_owned)) {
        assert_eq!(alice.send("GET", &path, &headers, b"").status, 200, "{path}");
        let seen = upstream.last();
        assert!(!seen.headers.iter().any(|(_, value)| value == "forged"), "{path}: {:?}", seen.headers);
    }
}

#[test]
fn o_11_the_access_token_goes_where_a_route_says_so_and_nowhere_else() {
    let (_provider, upstream, gateway) = world();
    let mut alice = gateway.signed_in();
    let token = fetched(&mut alice, &upstream, "/x-forwarded-access-token").all("x-forwarded-access-token").join("");
    assert!(token.len() > 20, "{token:?}");
    for (preset, _) in DOCUMENTED {
        let seen = fetched(&mut alice, &upstream, &format!("/{preset}"));
        let mut text = seen.target.clone();
        seen.headers.iter().for_each(|(name, value)| write!(text, "{name}: {value}").unwrap());
        assert!(!text.contains(&token), "{preset}");
    }
    for page in ["/oauth2/session", "/oauth2/userinfo", "/nothing-here"] {
        assert!(!alice.fetch(page).text().contains(&token), "{page}");
    }
    assert!(!gateway.log().contains(&token));
}

/// The claims of a JWT, unverified: the library's own tests and those with PyJWT verify.
fn claims(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn hx_23_two_people_in_turns_each_get_their_own_assertion_and_token() {
    let (provider, upstream, gateway) = world();
    let mut alice = gateway.signed_in();
    provider.demo.control().auto_login(Some("bob"));
    let mut bob = gateway.signed_in();
    let mut tokens = std::collections::BTreeMap::new();
    for round in 0..20 {
        for (name, browser) in [("alice", &mut alice), ("bob", &mut bob)] {
            let seen = fetched(browser, &upstream, "/alias");
            let assertion = seen.all("x-doorward-assertion").join("");
            assert_eq!(seen.all("x-pomerium-jwt-assertion").join(""), assertion);
            let claims = claims(&assertion);
            assert_eq!((&claims["sub"], &claims["aud"]), (&name.into(), &"127.0.0.1".into()), "round {round}");
            assert_eq!(claims["iss"], gateway.base.as_str());
            let seen = fetched(browser, &upstream, "/x-forwarded-access-token");
            let token = seen.all("x-forwarded-access-token").join("");
            assert_eq!(tokens.entry(name).or_insert_with(|| token.clone()), &token);
        }
    }
    assert_ne!(tokens["alice"], tokens["bob"]);
    assert!(!gateway.log().contains(&tokens["alice"]));
}

#[test]
fn hx_23_the_keys_of_assertions_are_for_everybody() {
    let (_provider, upstream, gateway) = world();
    let mut alice = gateway.signed_in();
    let token = fetched(&mut alice, &upstream, "/assertion").all("x-doorward-assertion").join("");
    let keys = gateway.browser().fetch("/oauth2/.well-known/jwks.json");
    assert_eq!(keys.status, 200);
    assert_eq!(keys.header("cache-control"), Some("public, max-age=3600"));
    assert_eq!(keys.header("access-control-allow-origin"), Some("*"));
    assert_eq!((keys.header("vary"), keys.header("set-cookie")), (None, None));
    let keys = keys.json();
    let keys = keys["keys"].as_array().unwrap();
    let header: serde_json::Value = {
        use base64::Engine as _;
        let part = token.split('.').next().unwrap();
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert!(keys.iter().any(|key| key["kid"] == header["kid"]));
    assert!(keys.iter().all(|key| key.get("d").is_none()));
    assert_eq!(gateway.browser().send("POST", "/oauth2/.well-known/jwks.json", &[], b"x").status, 405);
}

/// One route for each kind of `[route.upstream_auth]`, at `/KIND`; `/optional` and `/network` let nobody in particular in.
fn presenting() -> (Provider, Upstream, Gateway) {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let kind = |path: &str, access: &str, more: &str| {
        format!(
            "[[route]]\npath = \"{path}\"\nupstream = \"UPSTREAM\"\n{access}\nidentity = []\n[route.upstream_auth]\n{more}\n"
        )
    };
    let signed_in = "access = \"authenticated\"";
    let token = "scopes = [\"orders.read\"]\naudience = \"orders\"\n";
    let mut routes = String::new();
    for (path, access, more) in [
        ("/access_token", signed_in, "kind = \"access_token\"".to_owned()),
        ("/id_token", signed_in, "kind = \"id_token\"".to_owned()),
        ("/assertion", signed_in, "kind = \"assertion\"".to_owned()),
        ("/basic", signed_in, "kind = \"basic\"\nusername = \"door\"\npassword = \"pass:word\"".to_owned()),
        ("/own", signed_in, format!("kind = \"client_credentials\"\n{token}")),
        ("/own-again", signed_in, format!("kind = \"client_credentials\"\n{token}")),
        ("/exchange", signed_in, format!("kind = \"token_exchange\"\n{token}")),
        ("/optional", "access = \"optional\"", "kind = \"access_token\"".to_owned()),
        (
            "/network",
            "access = \"policy\"\nallow = [{ network = \"127.0.0.0/8\" }]",
            format!("kind = \"token_exchange\"\n{token}"),
        ),
    ] {
        routes += &kind(path, access, &more);
    }
    routes += "[[route]]\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\nidentity = []\n";
    let gateway = Gateway::with(provider.issuer(), &upstream, Extra { routes: Some(routes), ..Extra::default() });
    (provider, upstream, gateway)
}

/// The one `Authorization` that the upstream saw, for a client that sends one of its own and names it away.
fn presented(browser: &mut Browser, upstream: &Upstream, path: &str) -> String {
    let own = [
        ("Accept", "application/json"),
        ("Authorization", "Bearer of-the-client"),
        ("Connection", "close, authorization"),
    ];
    let answer = browser.send("GET", path, &own, b"");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    let seen = upstream.last();
    let found = seen.all("authorization");
    assert!(found.len() <= 1, "{path}: {found:?}");
    assert!(!found.iter().any(|value| value.contains("of-the-client")), "{path}: {found:?}");
    found.join("")
}

fn bearer(text: &str) -> serde_json::Value {
    claims(text.strip_prefix("Bearer ").unwrap_or_else(|| panic!("{text:?} is no bearer token")))
}

#[test]
fn o_11_a_route_presents_what_it_says_in_place_of_the_clients_own() {
    let (provider, upstream, gateway) = presenting();
    let mut alice = gateway.signed_in();
    let access = presented(&mut alice, &upstream, "/access_token");
    assert!(access.starts_with("Bearer ") && access.len() > 20, "{access}");
    let id = presented(&mut alice, &upstream, "/id_token");
    assert_eq!((&bearer(&id)["sub"], &bearer(&id)["iss"]), (&"alice".into(), &provider.issuer().into()));
    let assertion = presented(&mut alice, &upstream, "/assertion");
    assert_eq!(bearer(&assertion)["iss"], gateway.base.as_str());
    assert_eq!(presented(&mut alice, &upstream, "/basic"), "Basic ZG9vcjpwYXNzOndvcmQ=");
    for secret in [&access, &id, &assertion] {
        let token = secret.trim_start_matches("Bearer ");
        assert!(!gateway.log().contains(token));
        assert!(!alice.fetch("/oauth2/session").text().contains(token));
        assert!(upstream.seen().iter().all(|seen| !seen.target.contains(token)));
    }
    assert!(!gateway.log().contains("pass:word"));
}

#[test]
fn tx_01_doorwards_own_token_is_asked_for_once_for_all_routes_that_want_it() {
    let (provider, upstream, gateway) = presenting();
    let mut alice = gateway.signed_in();
    let first = presented(&mut alice, &upstream, "/own");
    let claims = bearer(&first);
    assert_eq!((&claims["aud"], &claims["scope"]), (&"orders".into(), &"orders.read".into()));
    assert_eq!(claims["sub"], "demo", "the client, not alice");
    for _ in 0..10 {
        assert_eq!(presented(&mut alice, &upstream, "/own"), first);
        assert_eq!(presented(&mut alice, &upstream, "/own-again"), first);
    }
    assert_eq!(provider.demo.stats().client_grants.ok, 1);
}

#[test]
fn tx_01_bx_06_two_people_in_turns_each_have_a_token_made_of_their_own() {
    let (provider, upstream, gateway) = presenting();
    let mut alice = gateway.signed_in();
    provider.demo.control().auto_login(Some("bob"));
    let mut bob = gateway.signed_in();
    for round in 0..10 {
        for (name, browser) in [("alice", &mut alice), ("bob", &mut bob)] {
            let claims = bearer(&presented(browser, &upstream, "/exchange"));
            assert_eq!((&claims["sub"], &claims["aud"]), (&name.into(), &"orders".into()), "round {round}");
            assert_eq!(bearer(&presented(browser, &upstream, "/id_token"))["sub"], name);
            assert_eq!(bearer(&presented(browser, &upstream, "/assertion"))["sub"], name);
        }
    }
    assert_eq!(provider.demo.stats().exchanges.ok, 2);
}

#[test]
fn tx_01_without_a_token_nothing_passes_and_nothing_is_told() {
    use doorward::demo::provider::{Endpoint, Fault};
    let (provider, upstream, gateway) = presenting();
    let mut alice = gateway.signed_in();
    upstream.clear();
    let control = provider.demo.control();
    let error = |code: &str| Fault::Json(400, format!(r#"{{"error":"{code}","error_description":"s3cret-detail"}}"#));
    for (path, fault, status) in [
        ("/own", error("invalid_client"), 502),
        ("/exchange", error("invalid_client"), 502),
        ("/own", Fault::Status(503), 503),
        ("/own", Fault::SetMember("token_type", "N_A".into()), 502),
        ("/exchange", Fault::DropMember("issued_token_type"), 502),
        ("/exchange", error("invalid_request"), 403),
        ("/exchange", error("invalid_target"), 403),
    ] {
        control.clear();
        control.fault(Endpoint::Token, fault.clone());
        // A failure is remembered for a moment.
        support::eventually(&format!("{path} with {fault:?}"), || {
            let answer = alice.send("GET", path, &[("Authorization", "Bearer of-the-client")], b"");
            assert!(!answer.text().contains("s3cret-detail"), "{}", answer.text());
            assert!(answer.status >= 400, "{path} passed");
            answer.status == status
        });
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    assert!(!gateway.log().contains("s3cret-detail"));
}

#[test]
fn tx_01_nobody_is_presented_as_nobody_and_never_as_the_client_says() {
    let (provider, upstream, gateway) = presenting();
    let mut nobody = gateway.browser();
    assert_eq!(presented(&mut nobody, &upstream, "/optional"), "");
    assert_eq!(presented(&mut nobody, &upstream, "/network"), "");
    let mut alice = gateway.signed_in();
    assert!(presented(&mut alice, &upstream, "/optional").starts_with("Bearer "));
    assert_eq!(bearer(&presented(&mut alice, &upstream, "/network"))["sub"], "alice");
    assert_eq!(provider.demo.stats().exchanges.ok, 1);
}

#[test]
fn b_14_nobody_impersonates_nobody_even_where_a_rule_lets_everybody_in() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let routes = "[[route]]\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"policy\"\nallow = [{ network = \"127.0.0.0/8\" }]\n\
                  identity = [\"k8s-impersonate\"]\nallow_preflight = true\n";
    let extra = Extra { routes: Some(routes.to_owned()), ..Extra::default() };
    let gateway = Gateway::with(provider.issuer(), &upstream, extra);
    assert_eq!(gateway.browser().fetch("/").status, 401);
    let preflight = [("Origin", "https://a.example"), ("Access-Control-Request-Method", "PUT")];
    assert_ne!(gateway.browser().send("OPTIONS", "/", &preflight, b"").status, 200);
    assert!(upstream.seen().is_empty());
    let mut alice = gateway.signed_in();
    assert_eq!(fetched(&mut alice, &upstream, "/").all("impersonate-user"), ["alice"]);
}

#[test]
fn j_10_an_assertion_is_no_access_token_and_no_logout_token() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let api = "[[route]]\npath = \"/api\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\n\
               [route.machine]\nissuers = [\"main\"]\naudience = [\"127.0.0.1\"]\n";
    let routes = route("/", "identity = [\"assertion\"]") + api;
    let gateway = Gateway::with(provider.issuer(), &upstream, Extra { routes: Some(routes), ..Extra::default() });
    let mut alice = gateway.signed_in();
    let assertion = fetched(&mut alice, &upstream, "/").all("x-doorward-assertion").join("");
    upstream.clear();
    let bearer = format!("Bearer {assertion}");
    assert_eq!(gateway.browser().send("GET", "/api", &[("Authorization", &bearer)], b"").status, 401);
    assert_eq!(gateway.backchannel_logout(&assertion).status, 400);
    assert!(upstream.seen().is_empty());
    assert_eq!(alice.fetch("/").status, 200, "nobody was signed out");
}

#[test]
fn jx_27_o_11_of_a_machine_its_own_token_is_presented_and_never_that_of_the_person_beside_it() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let routes: String = ["access_token", "id_token", "assertion"]
        .iter()
        .map(|kind| {
            format!(
                "[[route]]\npath = \"/{kind}\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\nidentity = []\n\
                 [route.machine]\nissuers = [\"main\"]\naudience = [\"demo-api\"]\n\
                 [route.upstream_auth]\nkind = \"{kind}\"\n"
            )
        })
        .collect();
    let routes = route("/", "identity = []") + &routes;
    let gateway = Gateway::with(provider.issuer(), &upstream, Extra { routes: Some(routes), ..Extra::default() });
    let mut alice = gateway.signed_in();
    let token = format!("Bearer {}", provider.demo.control().access_token("bob", None).unwrap());
    let mut ask = |path: &str, with: &[(&str, &str)]| alice.send("GET", path, with, b"").status;
    let bobs = [("Authorization", token.as_str())];
    assert_eq!(ask("/access_token", &bobs), 200);
    assert_eq!(upstream.last().all("authorization"), [token.as_str()]);
    assert_eq!(ask("/assertion", &bobs), 200);
    assert_eq!(bearer(upstream.last().all("authorization")[0])["sub"], "bob");
    upstream.clear();
    assert_eq!(ask("/id_token", &bobs), 403, "a machine has none, and alice's is not bob's");
    assert!(upstream.seen().is_empty());
    assert_eq!(ask("/id_token", &[("Accept", "application/json")]), 200);
    assert_eq!(bearer(upstream.last().all("authorization")[0])["sub"], "alice");
}
