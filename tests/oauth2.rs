//! Sign-in at a provider without OpenID, of GitHub's shape.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use support::gateway::Extra;
use support::oauth2::Plain;
use support::{Gateway, Provider, Upstream, eventually};

struct World {
    plain: Plain,
    upstream: Upstream,
    gateway: Gateway,
    /// Beside it, for routes of their own.
    _main: Provider,
}

const ROUTES: &str = r#"
[[route]]
path = "/"
upstream = "UPSTREAM"
access = "authenticated"
provider = "hub"
[[route]]
path = "/verified"
upstream = "UPSTREAM"
access = "policy"
allow = [{ email_domain = "example.test" }]
provider = "hub"
"#;

impl World {
    fn new(more: &str) -> Self {
        let (main, plain, upstream) = (Provider::start(), Plain::start(), Upstream::start());
        let provider = format!("\n{}", plain.section("hub", more));
        let extra = Extra { provider, routes: Some(ROUTES.to_owned()), ..Extra::default() };
        let gateway = Gateway::with(main.issuer(), &upstream, extra);
        Self { plain, upstream, gateway, _main: main }
    }

    fn with_emails(more: &str) -> Self {
        // The port is not known before: the address list stands beside the others.
        let (main, plain, upstream) = (Provider::start(), Plain::start(), Upstream::start());
        let emails = format!("emails_url = \"{}\"\n{more}", plain.url("/emails"));
        let provider = format!("\n{}", plain.section("hub", &emails));
        let extra = Extra { provider, routes: Some(ROUTES.to_owned()), ..Extra::default() };
        let gateway = Gateway::with(main.issuer(), &upstream, extra);
        Self { plain, upstream, gateway, _main: main }
    }
}

#[test]
fn p_01_b_05_a_whole_sign_in_without_openid() {
    let w = World::with_emails("scopes = [\"read:user\", \"user:email\"]");
    let mut browser = w.gateway.browser();
    let start = browser.navigate("/page");
    assert!(start.location().starts_with(&w.plain.url("/authorize?tenant=1&")), "{}", start.location());
    let is = |name: &str| start.parameter(name);
    assert_eq!(is("scope").as_deref(), Some("read:user user:email"));
    assert_eq!(is("redirect_uri"), Some(w.gateway.url("/oauth2/callback/hub")));
    assert_eq!(is("code_challenge_method").as_deref(), Some("S256"));
    assert_eq!((is("nonce"), is("response_mode")), (None, None));
    let last = browser.follow(start, |_| false);
    assert_eq!((last.status, last.url), (200, w.gateway.url("/page")), "{}", w.gateway.log());
    let seen = w.upstream.last();
    assert_eq!(seen.all("x-forwarded-user"), ["583231"]);
    assert_eq!(seen.all("x-forwarded-email"), ["octocat@example.test"]);
    assert_eq!(browser.go("/verified").status, 200, "the primary address is verified");

    let token = &w.plain.asked("/token")[0];
    assert_eq!(token.headers["accept"], "application/json");
    assert_eq!(token.headers["user-agent"], "doorward");
    assert_eq!(token.parameters["code"], "c0de");
    assert_eq!(token.parameters["code_verifier"].len(), 43);
    for path in ["/user", "/emails"] {
        let asked = &w.plain.asked(path)[0];
        assert_eq!(
            (asked.headers["authorization"].as_str(), asked.headers["user-agent"].as_str()),
            ("Bearer gho_1", "doorward")
        );
    }
    // Nothing to end there: the session ends here.
    let out = browser.send("POST", "/oauth2/sign_out", &[("Sec-Fetch-Site", "same-origin")], b"");
    assert_eq!((out.status, out.location()), (303, "/oauth2/signed_out"));
    assert_eq!(browser.fetch("/").status, 401);
    // Ready without a document or keys of its own.
    assert_eq!(w.gateway.admin("/readyz").status, 200);
}

#[test]
fn l_25_an_address_is_verified_by_the_list_or_by_userinfo_and_by_nothing_else() {
    for (what, user, emails, status) in [
        ("primary and verified", "{}", Some(r#"[{"email":"a@example.test","primary":true,"verified":true}]"#), 200),
        ("not verified", "{}", Some(r#"[{"email":"a@example.test","primary":true,"verified":false}]"#), 403),
        ("a text", "{}", Some(r#"[{"email":"a@example.test","primary":true,"verified":"true"}]"#), 403),
        ("not primary", "{}", Some(r#"[{"email":"a@example.test","primary":false,"verified":true}]"#), 403),
        ("none", r#"{"email":"a@example.test","email_verified":true}"#, Some("[]"), 403),
        (
            "userinfo vouches for no address of the list",
            r#"{"email":"b@example.test","email_verified":true}"#,
            Some(r#"[{"email":"a@example.test","primary":true}]"#),
            403,
        ),
        ("userinfo, verified", r#"{"email":"a@example.test","email_verified":true}"#, None, 200),
        ("userinfo, a text", r#"{"email":"a@example.test","email_verified":"true"}"#, None, 403),
        ("userinfo, not said", r#"{"email":"a@example.test"}"#, None, 403),
    ] {
        let w = if emails.is_some() { World::with_emails("") } else { World::new("") };
        let mut user: serde_json::Value = serde_json::from_str(user).unwrap();
        user["id"] = 7.into();
        w.plain.json("/user", &user.to_string());
        w.plain.json("/emails", emails.unwrap_or("[]"));
        assert_eq!(w.gateway.browser().go("/verified").status, status, "{what}");
    }
}

#[test]
fn o_11_what_goes_wrong_signs_nobody_in() {
    let w = World::with_emails("");
    let json = "application/json";
    for (what, path, status, kind, body, want) in [
        (
            "an error with 200",
            "/token",
            200,
            json,
            r#"{"error":"bad_verification_code","error_description":"no"}"#,
            400,
        ),
        ("an error as a form", "/token", 200, "application/x-www-form-urlencoded", "error=bad_verification_code", 400),
        ("our secret", "/token", 200, json, r#"{"error":"incorrect_client_credentials"}"#, 502),
        ("an error beside a token", "/token", 200, json, r#"{"error":"x","access_token":"t"}"#, 400),
        ("no token", "/token", 200, "application/x-www-form-urlencoded", "scope=", 502),
        ("a token twice", "/token", 200, "application/x-www-form-urlencoded", "access_token=a&access_token=b", 502),
        ("a page", "/token", 200, "text/html", "<html>", 502),
        ("nobody", "/user", 200, json, "{}", 502),
        ("a list", "/user", 200, json, r#"[{"id":1}]"#, 502),
        ("a truth for a person", "/user", 200, json, r#"{"id":true}"#, 502),
        ("refused", "/user", 401, json, r#"{"message":"Bad credentials"}"#, 502),
        ("away", "/user", 503, json, "{}", 503),
        ("no list of addresses", "/emails", 200, json, "{}", 502),
        ("addresses away", "/emails", 500, json, "[]", 503),
    ] {
        w.plain.form("/token", "access_token=gho_1&token_type=bearer");
        w.plain.json("/user", r#"{"id": 1}"#);
        w.plain.json("/emails", "[]");
        w.plain.answer(path, status, kind, body);
        let mut browser = w.gateway.browser();
        let last = browser.go("/");
        assert_eq!(last.status, want, "{what}: {}", last.text());
        assert_eq!(browser.fetch("/oauth2/userinfo").status, 401, "{what}");
    }
    assert!(w.upstream.seen().is_empty());
    assert!(!w.gateway.log().contains("gho_1"), "a token in the log");
}

#[test]
fn rf_05_c_19_a_refresh_asks_who_it_is_again() {
    let w = World::new("[provider.hub.claims]\nuser = \"login\"");
    w.plain.form("/token", "access_token=a1&token_type=bearer&expires_in=1&refresh_token=r1");
    let mut browser = w.gateway.browser();
    assert_eq!(browser.go("/").status, 200);
    assert_eq!(w.upstream.last().all("x-forwarded-user"), ["octocat"]);
    w.plain.form("/token", "access_token=a2&token_type=bearer&expires_in=1&refresh_token=r2");
    w.plain.json("/user", r#"{"id": 583231, "login": "renamed"}"#);
    eventually("the session has the new name", || {
        browser.fetch("/").status == 200 && w.upstream.last().all("x-forwarded-user") == ["renamed"]
    });
    assert!(
        w.plain.asked("/token").iter().any(|asked| asked.parameters.get("refresh_token").is_some_and(|t| t == "r1"))
    );
    // Somebody else's token ends it.
    w.plain.json("/user", r#"{"id": 1, "login": "renamed"}"#);
    eventually("the session is over", || browser.fetch("/").status == 401);
    // And so does a refusal, in GitHub's words.
    w.plain.json("/user", r#"{"id": 1, "login": "new"}"#);
    assert_eq!(browser.go("/").status, 200);
    w.plain.json("/token", r#"{"error":"bad_refresh_token"}"#);
    eventually("the refused session is over", || browser.fetch("/").status == 401);
}
