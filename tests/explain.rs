//! `doorward explain`: the decision of `serve`, told without a request.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

use std::net::TcpListener;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

struct Case {
    dir: TempDir,
    /// Where everything that the configuration names would be reached.
    network: TcpListener,
}

impl Case {
    fn new() -> Self {
        let (dir, network) = (TempDir::new().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        network.set_nonblocking(true).unwrap();
        let at = network.local_addr().unwrap();
        let config = format!(
            r#"
[server]
listen = ["{at}"]
public_url = "https://app.example.com"
[provider.main]
issuer = "http://{at}"
client_id = "c"
client_secret = "the-client-secret"
[provider.other]
issuer = "http://localhost:{port}"
client_id = "c"
client_secret = "the-client-secret"
[session]
keys = ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"]
store = "redis"
[session.redis]
url = "redis://:the-redis-password@{at}"
[policy.staff]
deny = [{{ email = "leaver@example.com" }}, {{ claim.left = true }}]
allow = [{{ network = "10.0.0.0/8", method = ["GET"] }}, {{ group = ["staff", "admins"] }}]
[[route]]
name = "docs"
path = "/docs"
upstream = "http://{at}/base"
access = "policy"
policy = "staff"
provider = "main"
strip_prefix = "/docs"
identity = ["x-forwarded", {{ header = "X-Team", claim = "team" }}]
[[route]]
name = "strong"
host = "*.example.com"
path = "=/strong"
methods = ["GET"]
upstream = "http://{at}"
access = "authenticated"
provider = "main"
require = {{ acr = ["urn:mfa"] }}
[[route]]
name = "watched"
path = "/watched"
upstream = "http://{at}"
access = "policy"
mode = "observe"
allow = [{{ group = "nobody" }}]
provider = "other"
[issuer.ci]
issuer = "http://{at}/ci"
audience = ["deploy"]
[[route]]
name = "api"
path = "/api"
upstream = "http://{at}"
access = "policy"
provider = "main"
identity = ["x-forwarded", "x-forwarded-access-token"]
allow = [{{ client = "robot", issuer = "main", scope = "write" }}, {{ issuer = "ci", claim.repository = "a/b" }}]
[route.machine]
issuers = ["main", "ci"]
audience = ["api", "deploy"]
[[route]]
name = "opaque"
path = "/opaque"
upstream = "http://{at}"
access = "policy"
provider = "main"
allow = [{{ client = "robot", provider = "main" }}]
[route.machine]
introspect = "main"
audience = ["api"]
[[route]]
name = "closed"
path = "/closed"
access = "deny"
[[route]]
name = "health"
path = "=/healthz"
upstream = "status:204"
access = "public"
"#,
            port = at.port(),
        );
        std::fs::write(dir.path().join("doorward.toml"), config).unwrap();
        Self { dir, network }
    }

    fn run(&self, args: &[&str], claims: Option<&Value>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        command.arg("explain").args(args).env_clear().current_dir(self.dir.path());
        if let Some(claims) = claims {
            std::fs::write(self.dir.path().join("claims.json"), claims.to_string()).unwrap();
            command.args(["--claims", "claims.json"]);
        }
        let output = command.output().unwrap();
        assert!(self.network.accept().is_err(), "{args:?}: something was connected to");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        for secret in ["the-client-secret", "the-redis-password", "AAECAwQF"] {
            assert!(!text.contains(secret), "{text}");
        }
        output
    }

    fn json(&self, args: &[&str], claims: Option<&Value>) -> Value {
        let output = self.run(&[args, &["--json"]].concat(), claims);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn alice() -> Value {
    json!({ "sub": "alice", "email": "alice@example.com", "email_verified": true, "groups": ["staff"], "team": "blue" })
}

#[test]
fn each_decision_is_told_and_nothing_is_sent() {
    let case = Case::new();
    let leaver = json!({ "sub": "bob", "email": "leaver@example.com", "groups": ["staff"] });
    let left = json!({ "sub": "cid", "groups": ["staff"], "left": true });
    let strong = json!({ "sub": "alice", "acr": "urn:mfa" });
    let stranger = json!({ "sub": "eve", "groups": ["guests"] });
    for (args, claims, decision, reason, page, program) in [
        (&["/docs/a"][..], None, "sign_in", None, Some(302), Some(401)),
        (&["/docs/a", "-X", "POST"], None, "sign_in", None, Some(401), Some(401)),
        (&["/docs/a", "--address", "10.1.2.3"], None, "allow", None, None, None),
        (&["/docs/a", "--address", "::ffff:10.1.2.3"], None, "allow", None, None, None),
        (&["/docs/a", "--address", "10.1.2.3", "-X", "PUT"], None, "sign_in", None, Some(401), Some(401)),
        (&["/docs/a"], Some(alice()), "allow", None, None, None),
        (&["https://anything.example.org/docs/"], Some(alice()), "allow", None, None, None),
        (&["/docs/a"], Some(leaver), "deny", Some("policy staff deny[1]"), Some(403), Some(403)),
        (&["/docs/a"], Some(left), "deny", Some("policy staff deny[2]"), Some(403), Some(403)),
        (&["/docs/a"], Some(stranger.clone()), "deny", Some("policy staff no allow matches"), Some(403), Some(403)),
        // Signed in elsewhere: nobody here.
        (&["/docs/a", "--provider", "other"], Some(alice()), "sign_in", None, Some(302), Some(401)),
        (&["https://www.example.com/strong"], Some(alice()), "step_up", Some("acr urn:mfa"), Some(302), Some(401)),
        (&["https://www.example.com/strong"], Some(strong), "allow", None, None, None),
        (&["https://www.example.com/strong", "-X", "PUT"], None, "method_not_allowed", Some(""), Some(405), Some(405)),
        (&["/watched"], Some(stranger), "observe", Some("no allow matches"), None, None),
        (&["/watched"], None, "sign_in", None, Some(302), Some(401)),
        (&["/closed"], Some(alice()), "deny", Some("access = \"deny\""), Some(403), Some(403)),
        (&["/healthz"], None, "allow", None, Some(204), Some(204)),
        (&["/nowhere"], None, "not_found", Some("no route matches"), Some(404), Some(404)),
        (&["/docs/%2e%2e/closed"], None, "deny", Some("access = \"deny\""), Some(403), Some(403)),
        (&["/docs/a%2fb"], None, "bad_request", Some(""), Some(400), Some(400)),
        (&["https://a..b/docs"], None, "bad_request", Some(""), Some(400), Some(400)),
        (&["/docs", "-X", "TRACE"], None, "bad_request", Some(""), Some(405), Some(405)),
        (&["/oauth2/sign_in"], None, "own", Some(""), None, None),
    ] {
        let explained = case.json(args, claims.as_ref());
        assert_eq!(explained["decision"], decision, "{args:?}: {explained:#}");
        match reason {
            // What is wrong is said, whatever the words.
            Some("") => assert!(explained["reason"].as_str().is_some_and(|r| !r.is_empty()), "{explained:#}"),
            reason => assert_eq!(explained["reason"].as_str(), reason, "{args:?}: {explained:#}"),
        }
        assert_eq!(explained["status"]["page"].as_u64(), page, "{args:?}: {explained:#}");
        assert_eq!(explained["status"]["program"].as_u64(), program, "{args:?}: {explained:#}");
        let passes = matches!(decision, "allow" | "observe") && page.is_none();
        assert_eq!(explained["upstream"].is_object(), passes, "{args:?}: {explained:#}");
    }
}

#[test]
fn rules_and_headers_are_told() {
    let case = Case::new();
    let explained = case.json(&["https://APP.example.com.:443/docs/x/../y?q=1#frag"], Some(&alice()));
    assert_eq!((&explained["host"], &explained["path"]), (&json!("app.example.com"), &json!("/docs/y")));
    assert_eq!(explained["caller"], json!({ "kind": "person", "name": "alice", "section": "main" }));
    assert_eq!(explained["route"]["why"], "any host, the prefix /docs, any method");
    assert_eq!(explained["route"]["policy"], "staff");
    let rules: Vec<String> = explained["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| {
            let text = |name: &str| r[name].as_str().unwrap_or_default().to_owned();
            format!("{}[{}] {}: {}", text("list"), r["number"], text("answer"), text("rule"))
        })
        .collect();
    assert_eq!(
        rules,
        [
            r#"deny[1] not matched: { email = "leaver@example.com" }"#,
            r#"deny[2] not matched: { "claim.left" = "true" }"#,
            r#"allow[1] not matched: { network = "10.0.0.0/8", method = "GET" }"#,
            r#"allow[2] matched: { group = ["staff", "admins"] }"#,
        ]
    );
    assert!(explained["upstream"]["to"].as_str().unwrap().ends_with("/base/y?q=1"), "{explained:#}");
    let headers = explained["upstream"]["headers"].as_array().unwrap();
    let value =
        |name: &str| headers.iter().find(|h| h["name"] == name).map(|h| h["value"].as_str().unwrap().to_owned());
    assert_eq!(value("x-forwarded-user").as_deref(), Some("alice"));
    assert_eq!(value("x-forwarded-groups").as_deref(), Some("staff"));
    assert_eq!(value("x-team").as_deref(), Some("blue"));
    assert_eq!(value("x-request-id").as_deref(), Some("(new)"));
    assert_eq!(value("x-forwarded-for").as_deref(), Some("127.0.0.1"));

    let nobody = case.json(
        &["/docs", "-H", "X-Forwarded-User: root", "-H", "Authorization: Basic c2VjcmV0", "--address", "10.0.0.1"],
        None,
    );
    assert_eq!(nobody["rules"][0]["answer"], "unknown");
    assert_eq!(nobody["caller"]["kind"], "anonymous");
    let headers = nobody["upstream"]["headers"].to_string();
    assert!(!headers.contains("root") && !headers.contains("c2VjcmV0"), "{headers}");

    let text = String::from_utf8(case.run(&["/docs/a"], Some(&alice())).stdout).unwrap();
    for part in
        ["route     docs: any host", "access    policy, policy staff", "deny[1]", "decision  allow", "x-team: blue"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn b_20_tokens_of_machines_are_explained_too() {
    let case = Case::new();
    let robot = |scope: &str, aud: &str| json!({ "sub": "robot", "client_id": "robot", "scope": scope, "aud": aud });
    let ci = json!({ "sub": "repo:a/b", "repository": "a/b", "aud": "deploy" });
    let main = ["/api/x", "--issuer", "main"];
    for (args, claims, decision) in [
        (&main[..], robot("read write", "api"), "allow"),
        (&main, robot("read", "api"), "deny"),
        (&main, robot("read write", "other"), "bad_token"),
        (&["/api/x", "--issuer", "ci"], robot("write", "deploy"), "deny"),
        (&["/api/x", "--issuer", "ci"], ci, "allow"),
        (&["/api/x", "--issuer", "ci"], json!({ "sub": "s", "repository": "a/b", "aud": "api" }), "bad_token"),
        (&["/api/x", "--issuer", "other"], robot("write", "api"), "bad_token"),
        // What is no issuer of the route, and no name, is told apart.
        (&["/api/x"], robot("write", "api"), "bad_token"),
        (&["/api/x", "--provider", "main"], alice(), "deny"),
        (&["/api/x", "-H", "Authorization: Bearer x"], alice(), "bad_token"),
        // Looked up: such an answer need not name its issuer.
        (&["/opaque"], robot("write", "api"), "allow"),
        (&["/opaque", "--issuer", "main"], robot("write", "api"), "allow"),
        (&["/opaque"], robot("write", "other"), "bad_token"),
        (&["/opaque", "--issuer", "ci"], robot("write", "api"), "bad_token"),
        // Not judged here: nobody.
        (&["/docs/a", "--issuer", "main"], robot("write", "api"), "sign_in"),
    ] {
        let explained = case.json(args, Some(&claims));
        assert_eq!(explained["decision"], decision, "{args:?} {claims}: {explained:#}");
    }
    let mut named = robot("write", "api");
    named["iss"] = json!(format!("http://{}", case.network.local_addr().unwrap()));
    let explained = case.json(&["/api/x"], Some(&named));
    assert_eq!(explained["caller"], json!({ "kind": "machine", "name": "robot", "section": "main" }), "{explained:#}");
    let headers = explained["upstream"]["headers"].as_array().unwrap();
    let value = |name: &str| headers.iter().find(|h| h["name"] == name).map(|h| h["value"].clone());
    assert_eq!(value("x-doorward-client"), Some(json!("robot")));
    assert_eq!(value("x-forwarded-access-token"), Some(json!("(access token)")));
    assert_eq!(value("x-forwarded-user"), None);
}

#[test]
fn what_cannot_be_explained_is_a_usage_error() {
    let case = Case::new();
    let several = json!({ "sub": "alice" });
    for (args, claims, message) in [
        (&["docs"][..], None, "is no address"),
        (&["/a b"], None, "percent-encode"),
        (&["/docs", "--claims", "absent.json"], None, "absent.json"),
        (&["/docs"], Some(json!([1])), "not a JSON object"),
        (&["/docs"], Some(json!({ "email": "a@b.c" })), "sub"),
        (&["/docs", "--provider", "none"], Some(several), "there is no [provider.none]"),
        (&["/docs", "--issuer", "none"], Some(alice()), "there is no [issuer.none]"),
        (&["/docs", "-H", "nonsense"], None, "Name: value"),
    ] {
        let output = case.run(args, claims.as_ref());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(message), "{args:?}: {text}");
        assert!(output.stdout.is_empty());
    }
    std::fs::write(case.dir.path().join("doorward.toml"), "[server]\n").unwrap();
    assert_eq!(case.run(&["/docs"], None).status.code(), Some(2));
}
