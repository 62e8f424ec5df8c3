//! What `doorward migrate oauth2-proxy` writes, started: with every example of tests/migrate people sign in, and whoever was
//! kept out stays out.

#![cfg(feature = "demo")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use doorward::demo::provider::{Endpoint, Fault, Options, SigningAlg, User};
use doorward::migrate::{Input, oauth2_proxy};
use support::gateway::{KEY, serve};
use support::migrate::{EXAMPLES, config, file};
use support::oauth2::Plain;
use support::pki::{Connection, Pki, client};
use support::{Answer, Browser, Gateway, Provider, Upstream, free_port, redis};

/// An example, and what has to be this machine's in it.
struct Site {
    files: &'static [&'static str],
    /// Of `redirect_url`.
    host: &'static str,
    /// What else is replaced. ISSUER and UPSTREAM stand for those of the test.
    here: &'static [(&'static str, &'static str)],
    /// Another proxy serves this host, and asks. None: Doorward serves `host` itself.
    asked: Option<&'static str>,
    /// What the application is told of ann, each with how it begins.
    told: &'static [(&'static str, &'static str)],
    /// Not everybody who signs in gets in.
    is_choosy: bool,
}

const SITES: [Site; 9] = [
    Site {
        files: &["proxy.cfg"],
        host: "wiki.localhost",
        here: &[("http://wiki.internal:8080", "UPSTREAM"), ("http://search.internal:9200", "UPSTREAM")],
        asked: None,
        told: &[("x-forwarded-email", "ann@example.com"), ("x-forwarded-access-token", "")],
        is_choosy: true,
    },
    Site {
        files: &["nginx.cfg"],
        host: "door.intra.localhost",
        here: &[("\".intra.example.com\"", "\".intra.localhost\"")],
        asked: Some("app.intra.localhost"),
        told: &[("x-auth-request-email", "ann@example.com")],
        is_choosy: true,
    },
    Site {
        files: &["alpha.cfg", "alpha.yaml"],
        host: "apps.localhost",
        here: &[
            ("https://id.example.com/realms/shop", "ISSUER"),
            ("http://shop.internal:3000", "UPSTREAM"),
            ("http://stock.internal:3001", "UPSTREAM"),
            ("0.0.0.0:4180", LISTEN),
            ("127.0.0.1:44180", ADMIN),
            ("clientID: shop", "clientID: demo"),
            // The page for it is nobody's here.
            ("default: [login]", "default: [select_account]"),
        ],
        asked: None,
        told: &[("x-forwarded-user", "ann"), ("x-forwarded-email", "ann@example.com")],
        is_choosy: true,
    },
    Site {
        files: &["compose.yaml"],
        host: "auth.office.localhost",
        here: &[(" .office.example.com", " .office.localhost"), ("172.20.0.0/16", "127.0.0.1/32")],
        asked: Some("app.office.localhost"),
        told: &[("x-auth-request-email", "ann@example.com"), ("x-auth-request-access-token", "")],
        is_choosy: true,
    },
    Site {
        files: &["kubernetes.yaml", "ingress.yaml"],
        host: "auth.apps.localhost",
        here: &[("apps.example.com", "apps.localhost")],
        asked: Some("grafana.apps.localhost"),
        told: &[("x-auth-request-user", "ann"), ("x-auth-request-email", "ann@example.com")],
        is_choosy: true,
    },
    Site {
        files: &["helm-values.yaml"],
        host: "reports.localhost",
        here: &[("http://reports.default.svc.cluster.local:8080", "UPSTREAM")],
        asked: None,
        told: &[("x-forwarded-email", "ann@example.com"), ("x-forwarded-groups", "staff,reports/readers")],
        is_choosy: true,
    },
    Site {
        files: &["entra-values.yaml"],
        host: "auth.corp.localhost",
        here: &[
            ("https://login.microsoftonline.com/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee/v2.0", "ISSUER"),
            ("\".corp.example.com\"", "\".corp.localhost\""),
            ("    server:\n", "    metricsServer: {BindAddress: \"127.0.0.1:40002\"}\n    server:\n"),
            ("0.0.0.0:4180", LISTEN),
            ("11111111-2222-3333-4444-555555555555", "demo"),
        ],
        asked: Some("app.corp.localhost"),
        told: &[("x-auth-request-email", "ann@example.com"), ("authorization", "Bearer ey")],
        is_choosy: true,
    },
    Site {
        files: &["login.env"],
        host: "site.localhost",
        here: &[("http://127.0.0.1:3000", "UPSTREAM")],
        asked: None,
        told: &[("x-forwarded-email", "ann@upn.example.com"), ("authorization", "Bearer ey")],
        is_choosy: false,
    },
    Site {
        files: &["login.env", "proxy.cfg"],
        host: "site.localhost",
        here: &[("http://127.0.0.1:3000", "UPSTREAM")],
        asked: None,
        told: &[("x-forwarded-email", "ann@upn.example.com"), ("x-forwarded-access-token", "")],
        is_choosy: true,
    },
];

/// Ports of an input, which become those of the gateway that the test starts.
const LISTEN: &str = "127.0.0.1:40001";
const ADMIN: &str = "127.0.0.1:40002";

/// Ann is whom the examples let in, eve is nobody to them. Ann is signed in first.
fn provider() -> Provider {
    let user = |name: &str, address: &str, groups: &[&str]| User {
        email: address.to_owned(),
        ..User::new(name, "Some Body", groups)
    };
    let groups = ["staff", "reports/readers", "9f0c6a4e-0000-4000-8000-000000000001"];
    let users = vec![user("ann", "ann@example.com", &groups), user("eve", "eve@elsewhere.test", &[])];
    let provider = Provider::with(Options { alg: SigningAlg::Es256, users, ..Options::default() });
    let more = Fault::tamper(|_, claims| {
        let name = claims["sub"].as_str().unwrap().to_owned();
        claims.insert("upn".to_owned(), format!("{name}@upn.example.com").into());
        if name == "ann" {
            claims.insert("realm_access".to_owned(), serde_json::json!({ "roles": ["editor"] }));
        }
    });
    provider.demo.control().fault(Endpoint::Token, more);
    provider.demo.control().auto_login(Some("ann"));
    provider
}

/// The files with these texts replaced and these flags beside them, migrated and started. None: they need a Redis, and
/// none is installed.
fn start(files: &[&str], here: &[(&str, &str)], flags: &str, issuer: &str) -> Option<Gateway> {
    let mut inputs: Vec<Input> = files.iter().map(|name| file(name)).collect();
    for (from, to) in here {
        assert!(inputs.iter().any(|input| input.text.contains(from)), "{files:?} have no {from}");
        for input in &mut inputs {
            input.text = input.text.replace(from, to);
        }
    }
    inputs.push(Input { name: "here.args".to_owned(), text: flags.to_owned() });
    let migration = oauth2_proxy(&inputs, None).map_err(|note| note.text).unwrap();
    let text = config(&migration).replace(":40001", ":PORT").replace(":40002", ":ADMIN");
    // With provider = "google" no input says another one.
    let text = text.replace("https://accounts.google.com", issuer);
    let redis = if text.contains("REDIS_URL") { Some(redis::start()?) } else { None };
    Some(Gateway::custom_by(&text, |path| {
        let mut command = serve(path);
        command.stdout(std::fs::File::create(path.with_file_name("stdout.log")).unwrap());
        for name in ["CLIENT_SECRET", "OAUTH2_PROXY_CLIENT_SECRET", "OIDC_CLIENT_SECRET", "SHOP_CLIENT_SECRET"] {
            command.env(name, "demo-secret");
        }
        command.env("DOOR_SESSION_KEY", KEY).envs(redis.map(|url| ("REDIS_URL", url)));
        command
    }))
}

struct World {
    site: &'static Site,
    gateway: Gateway,
    provider: Provider,
    upstream: Upstream,
}

impl World {
    fn new(files: &[&str]) -> Option<Self> {
        let site = SITES.iter().find(|site| site.files == files).unwrap();
        let (provider, upstream) = (provider(), Upstream::start());
        let url = upstream.url();
        let value = |to: &'static str| match to {
            "ISSUER" => provider.issuer(),
            "UPSTREAM" => &url,
            other => other,
        };
        let here: Vec<(&str, &str)> = site.here.iter().map(|(from, to)| (*from, value(to))).collect();
        let mut flags = format!("--redirect-url=http://{}:40001/oauth2/callback\n", site.host);
        // The structured configuration has these itself.
        if !here.iter().any(|(_, to)| *to == LISTEN) {
            flags += &format!("--http-address={LISTEN}\n--metrics-address={ADMIN}\n--client-id=demo\n");
            flags += &format!("--oidc-issuer-url={}\n", provider.issuer());
        }
        let gateway = start(site.files, &here, &flags, provider.issuer())?;
        Some(Self { site, gateway, provider, upstream })
    }

    fn anonymous(&self) -> Browser {
        Browser::new(&format!("http://{}:{}", self.site.host, self.gateway.port))
    }

    /// The page that people want to see.
    fn page(&self) -> String {
        format!("http://{}:{}/page?x=1", self.site.asked.unwrap_or(self.site.host), self.gateway.port)
    }

    /// A browser that has been through the sign-in.
    fn signed_in(&self, user: &str) -> Browser {
        self.provider.demo.control().auto_login(Some(user));
        let mut browser = self.anonymous();
        browser.go(&format!("/oauth2/start?rd={}", self.page()));
        browser
    }

    /// What becomes of a program's request for the page, whoever serves it.
    fn fetch(&self, browser: &mut Browser) -> Answer {
        match self.site.asked {
            None => browser.fetch(&self.page()),
            Some(_) => {
                let page = self.page();
                // By the name that the proxy has for Doorward.
                let headers = [("Host", "doorward:4180"), ("X-Original-URL", &*page), ("X-Original-Method", "GET")];
                browser.send("GET", "/oauth2/auth", &headers, b"")
            }
        }
    }

    fn check(&self) {
        let files = self.site.files;
        assert_eq!(self.fetch(&mut self.anonymous()).status, 401, "{files:?}");
        if self.site.asked.is_none() {
            assert_eq!(self.anonymous().navigate(&self.page()).status, 302, "{files:?}");
        }
        assert!(self.upstream.seen().is_empty(), "{files:?}");
        let mut ann = self.signed_in("ann");
        let answer = self.fetch(&mut ann);
        let expected = if self.site.asked.is_some() { 202 } else { 200 };
        assert_eq!(answer.status, expected, "{files:?}: {} {}", answer.text(), self.gateway.log());
        for (name, start) in self.site.told {
            let told = match self.site.asked {
                Some(_) => answer.header(name).map(str::to_owned),
                None => self.upstream.last().all(name).first().map(|value| (*value).to_owned()),
            };
            let told = told.unwrap_or_default();
            assert!(!told.is_empty() && told.starts_with(start), "{files:?}: {name} is {told}");
        }
        if self.site.asked.is_some() {
            assert_eq!(ann.navigate(&self.page()).status, 404, "{files:?}: nothing is served here");
        }
        self.upstream.clear();
        let expected = if self.site.is_choosy { 403 } else { expected };
        assert_eq!(self.fetch(&mut self.signed_in("eve")).status, expected, "{files:?}");
        assert_eq!(self.upstream.seen().is_empty(), self.site.is_choosy || self.site.asked.is_some(), "{files:?}");
    }
}

#[test]
fn people_sign_in_with_every_example() {
    let own_tests: [&[&str]; 2] = [&["gitea.cfg"], &["dashboard.args", "people.txt"]];
    for files in EXAMPLES.into_iter().filter(|files| !own_tests.contains(files)) {
        if let Some(world) = World::new(files) {
            world.check();
        }
    }
}

#[test]
fn what_is_open_is_open_and_nothing_else() {
    let w = World::new(&["proxy.cfg"]).unwrap();
    assert_eq!(w.anonymous().navigate("/robots.txt").status, 200);
    assert_eq!(w.anonymous().navigate("/assets/x.css").status, 200);
    assert_eq!(w.upstream.seen().len(), 2);
    assert_eq!(w.anonymous().send("POST", "/robots.txt", &[], b"x").status, 401);
    assert_eq!(w.anonymous().navigate("/feeds/a.xml").status, 302, "a pattern is not open");
    assert_eq!(w.anonymous().navigate("/api/x").status, 401);
    assert_eq!(w.upstream.seen().len(), 2);
}

#[test]
fn a_rewritten_path_and_a_cookie_of_another_name() {
    let w = World::new(&["alpha.cfg", "alpha.yaml"]).unwrap();
    let mut ann = w.signed_in("ann");
    assert_eq!(ann.navigate("/stock/a/b").status, 200);
    assert_eq!(w.upstream.last().target, "/v2/a/b");
    assert_eq!(ann.cookies("_apps").len(), 1);
}

#[test]
fn people_sign_in_at_what_speaks_like_github() {
    let (plain, upstream) = (Plain::start(), Upstream::start());
    plain.json("/api/v1/user/emails", r#"[{"email": "ann@example.com", "primary": true, "verified": true}]"#);
    let flags = format!("--http-address={LISTEN} --metrics-address={ADMIN}");
    let (authorize, token) = (plain.url("/authorize"), plain.url("/token"));
    let here = [
        ("https://builds.example.com", "http://127.0.0.1:40001"),
        ("https://git.example.com/login/oauth/authorize", &authorize),
        ("https://git.example.com/login/oauth/access_token", &token),
        ("https://git.example.com", &plain.url("")),
        ("http://127.0.0.1:8000", &upstream.url()),
    ];
    let gateway = start(&["gitea.cfg"], &here, &flags, "").unwrap();
    assert_eq!(gateway.browser().fetch("/").status, 401);
    plain.json("/api/v1/user", r#"{"id": 1, "login": "ann"}"#);
    gateway.signed_in();
    let seen = upstream.last();
    assert_eq!(seen.all("x-forwarded-user"), ["ann"]);
    assert_eq!(seen.all("x-forwarded-email"), ["ann@example.com"]);
    plain.json("/api/v1/user", r#"{"id": 2, "login": "eve"}"#);
    assert_eq!(gateway.browser().go("/").status, 403);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn people_of_a_list_sign_in_over_tls() {
    let (provider, upstream, pki) = (provider(), Upstream::start(), Pki::new(&["localhost"]));
    upstream.also_at(&pki.path("http.sock"));
    std::fs::write(pki.path("secret"), "demo-secret").unwrap();
    let at = |name: &str| pki.path(name).display().to_string();
    let here = [
        ("https://dashboard.example.com", "https://localhost:40001"),
        ("--https-address=:8443", "--https-address=127.0.0.1:40001"),
        ("--http-address=:8080", &format!("--http-address=127.0.0.1:{}", free_port())),
        ("/etc/tls/tls.crt", &at("cert.pem")),
        ("/etc/tls/tls.key", &at("key.pem")),
        ("/run/secrets/google", &at("secret")),
        ("/run/dashboard/http.sock", &at("http.sock")),
    ];
    let flags = format!("--metrics-address={ADMIN} --client-id=demo");
    let gateway = start(&["dashboard.args", "people.txt"], &here, &flags, provider.issuer()).unwrap();
    let get = |path: &str, cookies: &str| {
        let mut connection = Connection::open(&client(&pki.path("ca.pem")), "localhost", gateway.port).unwrap();
        let cookie = if cookies.is_empty() { String::new() } else { format!("Cookie: {cookies}\r\n") };
        connection.ask(&format!("GET {path}"), &format!("localhost:{}", gateway.port), &cookie).unwrap()
    };
    let cookies = |answer: &Answer| {
        let set = answer.all("set-cookie").into_iter().filter_map(|line| line.split(';').next());
        set.filter(|pair| !pair.ends_with('=')).map(str::to_owned).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(get("/alive", "").status, 200);
    assert!(upstream.seen().is_empty());
    for (user, status) in [("ann", 200), ("eve", 403)] {
        provider.demo.control().auto_login(Some(user));
        let start = get("/", "");
        assert_eq!(start.status, 302, "{}", start.text());
        let base = format!("https://localhost:{}", gateway.port);
        let mut browser = Browser::new(provider.issuer());
        let asked = browser.navigate(start.location());
        let last = browser.follow(asked, |url| url.starts_with(&base));
        let callback = get(last.location().strip_prefix(&base).unwrap(), &cookies(&start));
        assert_eq!((callback.status, callback.location()), (302, "/"), "{}", callback.text());
        assert_eq!(get("/", &cookies(&callback)).status, status, "{user}");
    }
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(upstream.last().all("x-forwarded-email"), ["ann@example.com"]);
}
