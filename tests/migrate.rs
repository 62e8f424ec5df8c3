//! `doorward migrate oauth2-proxy`: configurations as they are in use, in every form, become valid ones that keep out whoever
//! was kept out. `migrate_sign_in.rs` starts them.

#![cfg(feature = "demo")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use doorward::config::settings::{Access, HostMatch, Policy, QuestionHeaders, Route, Settings, Store, Target};
use doorward::config::{self, Flags, Sources};
use doorward::migrate::keys::{Fate, KEYS, Kind};
use doorward::migrate::{Input, Migration, Note, oauth2_proxy};
use support::gateway::KEY;
use support::migrate::{EXAMPLES, config, file, migrated};

/// What is secret in them.
const SECRETS: [&str; 7] = [
    "a-secret-of",
    "MDEyMzQ1Njc4OWFiY2Rl",
    "gto_not_a_real_one",
    "a-password-of-redis",
    "bm90IGEgcmVhbCBvbmU",
    "hunter2",
    "not a real one",
];

/// The smallest that is whole.
const BASE: &str = "provider = \"oidc\"\noidc_issuer_url = \"https://id.example.com\"\nclient_id = \"app\"\n\
                    client_secret_file = \"/run/secrets/client\"\nredirect_url = \"https://app.example.com/oauth2/callback\"\n\
                    email_domains = [\"*\"]\nupstreams = [\"http://127.0.0.1:3000\"]\n";

fn of_text(text: &str) -> Migration {
    let input = Input { name: "oauth2-proxy.cfg".to_owned(), text: text.to_owned() };
    oauth2_proxy(&[input], None).map_err(|note| note.text).unwrap()
}

/// `BASE` with these lines in place of its own, or beside them.
fn with(lines: &str) -> Migration {
    let name = |line: &str| line.split(" =").next().unwrap().to_owned();
    let replaced: Vec<String> = lines.lines().map(name).collect();
    let kept: String =
        BASE.lines().filter(|line| !replaced.contains(&name(line))).map(|line| format!("{line}\n")).collect();
    of_text(&format!("{kept}{lines}\n"))
}

fn says(notes: &[Note], key: &str, part: &str) -> bool {
    notes.iter().any(|note| note.key == key && note.text.contains(part))
}

/// What `doorward check` and a start make of it, with every variable and file that it names.
fn load(text: &str) -> Settings {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "a-secret-that-is-long-enough-0123456789").unwrap();
    let mut env = Vec::new();
    for after in text.split("{ env = \"").skip(1) {
        let name = after.split('"').next().unwrap().to_owned();
        let value = if name.contains("REDIS") { "rediss://:p@redis.example.com:6379" } else { KEY };
        env.push((name, value.to_owned()));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{ file = \"") {
        out += &format!("{before}{{ file = \"{}", secret.display());
        rest = &after[after.find('"').unwrap()..];
    }
    let path = dir.path().join("doorward.toml");
    std::fs::write(&path, out + rest).unwrap();
    let sources = Sources { file: Some(path), env, flags: Flags::default() };
    config::load(&sources).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

fn route<'a>(settings: &'a Settings, name: &str) -> &'a Route {
    let names: Vec<_> = settings.routes.iter().map(|route| route.name.as_str()).collect();
    settings.routes.iter().find(|route| route.name == name).unwrap_or_else(|| panic!("no {name} among {names:?}"))
}

fn policy(route: &Route) -> &Policy {
    match &route.access {
        Access::Policy(policy) => policy,
        other => panic!("{}: {other:?}", route.name),
    }
}

#[test]
fn every_example_becomes_a_valid_configuration() {
    for names in EXAMPLES {
        let migration = migrated(names);
        let settings = load(config(&migration));
        assert!(!settings.routes.is_empty(), "{names:?}");
        // The sign-in keeps what oauth2-proxy's own defaults are.
        assert!(settings.session.idle_timeout.is_zero(), "{names:?}");
    }
}

#[test]
fn no_secret_is_copied_or_told() {
    for names in EXAMPLES {
        let migration = migrated(names);
        let told: Vec<String> =
            migration.warnings.iter().chain(&migration.refusals).map(|note| format!("{note:?}")).collect();
        for secret in SECRETS {
            assert!(!config(&migration).contains(secret), "{names:?}: {secret}");
            assert!(!told.iter().any(|note| note.contains(secret)), "{names:?}: {secret}");
        }
    }
    let migration = with(
        "redis_connection_url = \"redis://:hunter2@redis.example.com:6379/0\"\nsession_store_type = \"redis\"\nupstreams = [\"http://me:hunter2@app:80\"]\nbasic_auth_password = \"hunter2\"\nsignature_key = \"sha1:hunter2\"\nextra_jwt_issuers = [\"hunter2\"]\nskip_jwt_bearer_tokens = true\njwt_key = \"hunter2\"",
    );
    assert!(migration.config.is_none());
    assert!(!format!("{migration:?}").contains("hunter2"), "{migration:?}");
}

#[test]
fn a_proxy_with_its_upstreams() {
    let migration = migrated(&["proxy.cfg"]);
    let settings = load(config(&migration));
    assert_eq!(settings.server.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0:4180"]);
    assert_eq!(settings.server.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.20.0.0/16"]);
    assert_eq!(settings.session.lifetime.as_secs(), 12 * 3600);
    assert!(!settings.telemetry.access_log);
    let names: Vec<_> = settings.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["/", "/search", "/api", "=/robots.txt GET", "/assets"]);
    let main = route(&settings, "/");
    assert_eq!(policy(main).allow.len(), 1, "address and group in one rule");
    assert_eq!(policy(main).allow[0].email_domain, ["example.com"]);
    assert_eq!(policy(main).allow[0].group, ["staff", "guests"]);
    assert_eq!(main.upstream.options.response_timeout.as_secs(), 90);
    assert!(matches!(route(&settings, "/assets").access, Access::Public));
    for (key, part) in [
        ("skip_auth_routes", "^/feeds/[a-z]+\\.xml$ is a pattern"),
        ("cookie_refresh", "not carried over"),
        ("cookie_secret", "doorward key"),
        ("client_secret", "OIDC_CLIENT_SECRET"),
        ("silence_ping_logging", "not carried over"),
    ] {
        assert!(says(&migration.warnings, key, part), "{key}: {:#?}", migration.warnings);
    }
    assert!(!migration.warnings.iter().any(|note| note.key == "skip_provider_button"), "nothing is lost by it");
}

#[test]
fn what_another_proxy_asks_about() {
    let migration = migrated(&["nginx.cfg"]);
    let settings = load(config(&migration));
    assert_eq!(settings.session.cookie_domain.as_deref(), Some("intra.example.com"));
    assert!(
        matches!(&route(&settings, "*.intra.example.com/").host, HostMatch::Wildcard(rest) if rest == "intra.example.com")
    );
    assert!(settings.routes.iter().all(|route| route.upstream.targets == [Target::Status(404)]));
    assert!(says(&migration.warnings, "reverse_proxy", "INSECURE"), "nobody is named");
    assert!(
        says(&migration.warnings, "redirect_url", "INSECURE")
            && says(&migration.warnings, "oidc_issuer_url", "INSECURE")
    );
    assert!(says(&migration.warnings, "upstreams", "/oauth2/forward"));
}

#[test]
fn kubernetes_manifests_with_their_ingresses() {
    let migration = migrated(&["kubernetes.yaml", "ingress.yaml"]);
    let text = config(&migration);
    let settings = load(text);
    assert_eq!(settings.server.public_url.as_str(), "https://auth.apps.example.com", "from the Ingress");
    assert!(text.contains("client_secret = { env = \"OAUTH2_PROXY_CLIENT_SECRET\" }"), "{text}");
    assert_eq!(settings.session.store, Store::Redis);
    assert_eq!(settings.server.forward_auth.headers, QuestionHeaders::Original);
    assert!(says(&migration.warnings, "redis_password", "rediss://:PASSWORD@redis.cache.svc.cluster.local:6379/1"));
    assert!(matches!(route(&settings, "grafana.apps.example.com/").access, Access::Policy(_)));
    assert!(matches!(route(&settings, "=/healthz").access, Access::Public));
    assert!(matches!(route(&settings, "grafana.apps.example.com=/healthz").access, Access::Public));
    assert_eq!(settings.admin.as_ref().unwrap().listen.to_string(), "127.0.0.1:44180", "it also ends sessions");
    for (key, part) in [
        ("auth-url of Ingress grafana", "/oauth2/auth?allowed_groups=ops"),
        ("auth-response-headers of Ingress grafana", "Authorization"),
        ("configuration-snippet of Ingress grafana", "another name"),
        ("metrics_address", "loopback"),
    ] {
        assert!(says(&migration.warnings, key, part), "{key}: {:#?}", migration.warnings);
    }
}

#[test]
fn the_structured_configuration() {
    let migration = migrated(&["alpha.cfg", "alpha.yaml"]);
    let text = config(&migration);
    let settings = load(text);
    assert!(text.contains("client_secret = { env = \"SHOP_CLIENT_SECRET\" }"));
    let stock = route(&settings, "/stock");
    assert_eq!(stock.strip_prefix.as_deref(), Some("/stock"));
    assert!(stock.upstream.targets[0].to_string().ends_with("stock.internal:3001/v2"), "{}", stock.upstream.targets[0]);
    assert_eq!(settings.providers[0].extra_params, [("prompt".to_owned(), "login".to_owned())]);
    assert_eq!(settings.session.cookie, "_apps");
    let headers: Vec<_> = route(&settings, "/").identity.iter().map(|header| header.name.as_str()).collect();
    assert_eq!(headers, ["x-forwarded-user", "x-forwarded-email", "x-auth-request-groups"]);
    assert!(says(&migration.warnings, "injectRequestHeaders X-Shop-Key", "not carried over"));
    assert!(!migration.warnings.iter().any(|note| note.key == "insecure_oidc_skip_nonce"));
}

#[test]
fn keycloak_roles_are_claims() {
    let migration = migrated(&["compose.yaml"]);
    let settings = load(config(&migration));
    let claims: Vec<_> = policy(&settings.routes[0]).allow.iter().map(|rule| rule.claims.clone()).collect();
    let realm = ("realm_access.roles".to_owned(), vec!["editor".to_owned(), "office:admin".to_owned()]);
    let client = ("resource_access.office.roles".to_owned(), vec!["admin".to_owned()]);
    assert_eq!(claims, [vec![realm], vec![client]]);
    let machine = settings.routes[0].machine.as_ref().unwrap();
    assert_eq!(machine.audience, ["account", "office"]);
    assert!(says(&migration.warnings, "allowed_roles", "Add to ID token"));
}

#[test]
fn people_of_a_list_and_networks() {
    let migration = migrated(&["dashboard.args", "people.txt"]);
    let settings = load(config(&migration));
    let allow = &policy(route(&settings, "/")).allow;
    assert_eq!(allow[0].email, ["ann@example.com", "bob@example.org"]);
    assert_eq!(allow[1].network.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.0.0/16", "192.168.7.9/32"]);
    let tls = settings.server.tls.as_ref().unwrap();
    assert_eq!(tls.redirect_listen.len(), 1);
    assert_eq!(settings.server.listen.len(), 1);
    assert_eq!(route(&settings, "=/alive").upstream.targets, [Target::Status(200)]);
    for key in ["htpasswd_file", "custom_templates_dir"] {
        assert!(says(&migration.warnings, key, "not carried over"), "{key}");
    }
    assert!(says(&migration.warnings, "trusted_ips", "INSECURE"));
    let alone = oauth2_proxy(&[file("dashboard.args")], None).unwrap();
    assert!(alone.config.is_none() && says(&alone.refusals, "email_domains", "/etc/oauth2-proxy/people"));
}

#[test]
fn everybody_and_a_network_needs_a_rule_for_everybody() {
    let settings = load(config(&with("trusted_ips = [\"10.0.0.0/8\"]")));
    let allow = &policy(&settings.routes[0]).allow;
    assert_eq!(allow[0].provider, ["main"]);
    assert_eq!(allow[1].network.len(), 1);
}

#[test]
fn what_would_let_more_people_in_is_refused() {
    for (lines, key) in [
        ("provider = \"github\"\ngithub_org = \"acme\"", "github_org"),
        ("provider = \"github\"\ngithub_team = \"core\"", "github_team"),
        ("provider = \"github\"\ngithub_repo = \"acme/x\"", "github_repo"),
        ("provider = \"google\"\ngoogle_groups = [\"staff@example.com\"]", "google_groups"),
        ("provider = \"gitlab\"\ngitlab_projects = [\"a/b\"]", "gitlab_projects"),
        ("provider = \"keycloak-oidc\"\nallowed_roles = [\"my.app:admin\"]\nallowed_groups = []", ""),
        (
            "provider = \"entra-id\"\noidc_issuer_url = \"https://login.microsoftonline.com/common/v2.0\"",
            "oidc_issuer_url",
        ),
        ("email_domains = []", "email_domains"),
        ("email_domains = [\".example.com\"]", "email_domains"),
        ("email_domains = []\nhtpasswd_file = \"/x\"", "email_domains"),
        ("provider = \"bitbucket\"", "provider"),
        ("provider = \"other\"", "provider"),
        ("redirect_url = \"\"", "redirect_url"),
        ("oidc_issuer_url = \"\"", "oidc_issuer_url"),
        ("http_address = \"example.com:80\"", "http_address"),
        ("tls_cert_file = \"/x\"", "tls_cert_file"),
        ("session_store_type = \"other\"", "session_store_type"),
    ] {
        let migration = with(lines);
        match key {
            // A role that no rule reaches is only the realm's.
            "" => assert_eq!(policy(&load(config(&migration)).routes[0]).allow.len(), 1, "{lines}"),
            key => assert!(migration.config.is_none() && says(&migration.refusals, key, ""), "{lines}: {migration:?}"),
        }
    }
}

/// One container of a Deployment, with these arguments and variables.
fn deployment(name: &str, args: &str, env: &str) -> String {
    format!(
        "kind: Deployment\nspec:\n  template:\n    spec:\n      containers:\n      - name: {name}\n        args: [--provider=oidc, --oidc-issuer-url=https://id.example.com, \
         --client-id=app, --client-secret-file=/s, --redirect-url=https://app.example.com/oauth2/callback, --upstream=http://app:80/, {args}]\n        env: [{env}]\n---\n"
    )
}

#[test]
fn who_may_pass_is_never_only_in_a_variable() {
    for (key, args) in [
        ("allowed_groups", "--email-domain=example.com"),
        ("allowed_groups", "--email-domain=*"),
        ("google_groups", "--email-domain=example.com, --provider=google"),
        ("github_org", "--email-domain=example.com, --provider=github"),
        ("oidc_groups_claim", "--email-domain=*, --allowed-group=staff"),
        ("authenticated_emails_file", "--email-domain=example.com"),
    ] {
        let name = format!("OAUTH2_PROXY_{}", key.to_ascii_uppercase());
        let manifest = deployment(
            "oauth2-proxy",
            args,
            &format!("{{name: {name}, valueFrom: {{secretKeyRef: {{name: s, key: k}}}}}}"),
        );
        let migration = of_text(&manifest);
        assert!(migration.config.is_none() && says(&migration.refusals, key, &name), "{key}: {migration:?}");
        // A reference in an argument is the same.
        let referred =
            of_text(&deployment("oauth2-proxy", &format!("{args}, \"--{}=$(WHO)\"", key.replace('_', "-")), ""));
        assert!(referred.config.is_none() && says(&referred.refusals, key, "WHO"), "{key}: {referred:?}");
    }
}

#[test]
fn a_prefix_of_variables_is_part_of_their_names() {
    let map = "kind: ConfigMap\nmetadata: {name: door}\ndata: {ALLOWED_GROUPS: admins}\n---\n";
    let manifest = deployment("oauth2-proxy", "--email-domain=*", "")
        .replace("        env: []", "        envFrom: [{prefix: OAUTH2_PROXY_, configMapRef: {name: door}}]");
    let settings = load(config(&of_text(&(map.to_owned() + &manifest))));
    assert_eq!(policy(&settings.routes[0]).allow[0].group, ["admins"]);
}

#[test]
fn what_a_chart_keeps_elsewhere_is_not_everybody() {
    let values = |more: &str| {
        format!(
            "config: {{clientID: app, clientSecret: s{more}\nextraArgs: {{provider: oidc, oidc-issuer-url: \"https://id.example.com\", redirect-url: \"https://app.example.com/oauth2/callback\"}}\n"
        )
    };
    let migration = of_text(&values(", existingConfig: door}"));
    assert!(migration.config.is_none() && says(&migration.refusals, "email_domains", ""), "{migration:?}");
    assert!(says(&migration.warnings, "config.existingConfig", "ConfigMap door"));
    let structured = of_text(&values("}\nalphaConfig: {enabled: true, existingSecret: door}"));
    assert!(
        structured.config.is_none() && says(&structured.refusals, "alphaConfig.existingSecret", "door"),
        "{structured:?}"
    );
}

#[test]
fn two_proxies_are_not_made_one() {
    let (staff, admins) = ("--email-domain=*, --allowed-group=staff", "--email-domain=*, --allowed-group=admins");
    let both = of_text(&(deployment("oauth2-proxy-wiki", staff, "") + &deployment("oauth2-proxy-admin", admins, "")));
    assert!(both.config.is_none() && says(&both.refusals, "", "one at a time"), "{both:?}");
    let compose = "services:\n  a:\n    image: x/oauth2-proxy\n    command: --allowed-group=staff\n  b:\n    image: x/oauth2-proxy\n    command: --allowed-group=admins\n";
    assert!(says(&of_text(compose).refusals, "", "one at a time"));
    // Its Redis is another thing, whatever its name.
    let redis = "services:\n  oauth2-proxy-redis:\n    image: redis\n    command: --appendonly yes\n  oauth2-proxy:\n    image: x/oauth2-proxy\n    command: --client-id=app\n";
    let migration = of_text(redis);
    assert!(!says(&migration.refusals, "", "") && !says(&migration.warnings, "--appendonly", ""), "{migration:?}");
}

#[test]
fn a_byte_order_mark_hides_nothing() {
    let env = "\u{feff}OAUTH2_PROXY_ALLOWED_GROUPS=admins\r\nOAUTH2_PROXY_CLIENT_ID=app\r\n";
    for first in [env, "\u{feff}--allowed-group=admins"] {
        let inputs = [("base", BASE), ("more", first)]
            .map(|(name, text)| Input { name: name.to_owned(), text: text.to_owned() });
        let settings = load(config(&oauth2_proxy(&inputs, None).unwrap()));
        assert_eq!(policy(&settings.routes[0]).allow[0].group, ["admins"]);
    }
}

#[test]
fn only_the_list_that_was_read_lets_people_in() {
    let map =
        |key: &str| format!("kind: ConfigMap\nmetadata: {{name: other}}\ndata:\n  {key}: |\n    eve@evil.example\n");
    let args = "--email-domain=example.com";
    let unread = of_text(&(deployment("oauth2-proxy", args, "") + &map("contact-email")));
    assert!(!config(&unread).contains("eve@"), "{unread:?}");
    let read = of_text(
        &(deployment("oauth2-proxy", &format!("{args}, --authenticated-emails-file=/etc/o/people"), "")
            + &map("people")),
    );
    assert_eq!(policy(&load(config(&read)).routes[0]).allow[1].email, ["eve@evil.example"]);
    let inputs = [("base", BASE), ("people", "eve@evil.example\n")]
        .map(|(name, text)| Input { name: name.to_owned(), text: text.to_owned().replace("\"*\"", "\"example.com\"") });
    let given = oauth2_proxy(&inputs, None).unwrap();
    assert!(!config(&given).contains("eve@") && says(&given.warnings, "authenticated_emails_file", "not carried over"));
    let chart = "config:\n  emailDomains: []\n  clientID: app\n  clientSecret: s\nauthenticatedEmailsFile:\n  enabled: true\n  restricted_access: ann@example.com\nextraArgs: {provider: oidc, oidc-issuer-url: \"https://id.example.com\", redirect-url: \"https://app.example.com/oauth2/callback\"}\n";
    assert_eq!(policy(&load(config(&of_text(chart))).routes[0]).allow[0].email, ["ann@example.com"]);
}

#[test]
fn an_audience_of_another_issuer_is_named() {
    let migration = with(
        "skip_jwt_bearer_tokens = true\nextra_jwt_issuers = [\"https://ci.example.com=other\", \"https://cd.example.com=app\"]",
    );
    assert!(says(&migration.warnings, "extra_jwt_issuers", "meant for other counts"), "{migration:?}");
    assert!(!says(&migration.warnings, "extra_jwt_issuers", "meant for app"));
}

#[test]
fn a_pattern_stays_protected() {
    let migration = with(
        "skip_auth_regex = [\"\\\\.css$\", \"^/\", \"/open\"]\nskip_auth_routes = [\"GET!=^/admin\", \"POST=^/hook$\", \"^/oauth2/x\", \"^/ping$\"]",
    );
    let settings = load(config(&migration));
    let names: Vec<_> = settings.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["/", "/open", "=/hook POST"]);
    assert!(matches!(route(&settings, "/").access, Access::Authenticated));
    for part in ["\\.css$", "^/ is the whole site"] {
        assert!(says(&migration.warnings, "skip_auth_regex", part), "{part}: {:#?}", migration.warnings);
    }
    assert!(says(&migration.warnings, "skip_auth_routes", "GET!=^/admin"));
}

/// What is open above an upstream of its own is open there too; a method is open by itself.
#[test]
fn what_is_open_reaches_below() {
    let settings = load(config(&with(
        "upstreams = [\"http://a:1/\", \"http://b:1/pub/b/\", \"http://c:1/one\"]\nskip_auth_routes = [\"^/pub/\", \"GET=^/one$\"]",
    )));
    for (name, is_public) in [("/", false), ("/pub", true), ("/pub/b", true), ("=/one", false), ("=/one GET", true)] {
        assert_eq!(matches!(route(&settings, name).access, Access::Public), is_public, "{name}");
    }
    assert!(route(&settings, "/pub").upstream.targets[0].to_string().contains("//a:1"));
}

/// No key of oauth2-proxy is passed over in silence: it changes the result, or is named, or says what is so anyway.
#[test]
fn every_key_of_oauth2_proxy_is_mapped_or_named() {
    const CONTEXT: &[(&str, &str, &str)] = &[
        ("allowed_roles", "r", "provider = \"keycloak-oidc\""),
        ("auth_request_response_mode", "form_post", ""),
        ("azure_tenant", "t", "provider = \"entra-id\"\noidc_issuer_url = \"\""),
        ("cookie_domains", "example.com", ""),
        ("cookie_samesite", "strict", ""),
        ("cookie_secure", "false", ""),
        ("email_domains", "example.com", ""),
        ("extra_jwt_issuers", "https://a.example=x", "skip_jwt_bearer_tokens = true"),
        ("force_https", "true", ""),
        ("github_users", "ann", "provider = \"github\""),
        ("gitlab_groups", "g", "provider = \"gitlab\""),
        ("http_address", "127.0.0.1:9999", ""),
        ("https_address", "127.0.0.1:9999", "tls_cert_file = \"/c\"\ntls_key_file = \"/k\""),
        ("keycloak_groups", "g", "provider = \"keycloak\""),
        ("login_url", "https://git.example.com/a", "provider = \"github\""),
        ("metrics_address", "127.0.0.1:9999", ""),
        ("oidc_enabled_signing_algs", "ES256", ""),
        ("oidc_issuer_url", "https://other.example.com", ""),
        ("ping_path", "/alive", ""),
        ("prefer_email_to_user", "true", ""),
        ("provider", "google", ""),
        ("redeem_url", "https://git.example.com/t", "provider = \"github\""),
        ("redirect_url", "https://other.example.com/oauth2/callback", ""),
        ("redis_ca_path", "/ca", "session_store_type = \"redis\"\nredis_connection_url = \"rediss://r\""),
        (
            "redis_cluster_connection_urls",
            "redis://a,redis://b",
            "session_store_type = \"redis\"\nredis_use_cluster = true",
        ),
        ("redis_connection_url", "redis://r", "session_store_type = \"redis\""),
        ("redis_password", "hunter2", "session_store_type = \"redis\"\nredis_connection_url = \"redis://r\""),
        (
            "redis_sentinel_connection_urls",
            "redis://a,redis://b",
            "session_store_type = \"redis\"\nredis_use_sentinel = true\nredis_sentinel_master_name = \"m\"",
        ),
        (
            "redis_sentinel_master_name",
            "m",
            "session_store_type = \"redis\"\nredis_use_sentinel = true\nredis_sentinel_connection_urls = \"redis://a\"",
        ),
        ("redis_use_cluster", "true", "session_store_type = \"redis\"\nredis_cluster_connection_urls = \"redis://a\""),
        (
            "redis_use_sentinel",
            "true",
            "session_store_type = \"redis\"\nredis_sentinel_connection_urls = \"redis://a\"\nredis_sentinel_master_name = \"m\"",
        ),
        ("redis_username", "u", "session_store_type = \"redis\"\nredis_connection_url = \"redis://r\""),
        ("session_store_type", "redis", "redis_connection_url = \"redis://r\""),
        ("skip_auth_regex", "^/open$", ""),
        ("skip_auth_routes", "^/open$", ""),
        ("tls_cert_file", "/c", "tls_key_file = \"/k\""),
        ("tls_key_file", "/k", "tls_cert_file = \"/c\""),
        ("tls_min_version", "TLS1.3", "tls_cert_file = \"/c\"\ntls_key_file = \"/k\""),
        ("trusted_ips", "10.0.0.0/8", ""),
        ("trusted_proxy_ips", "10.0.0.0/8", "reverse_proxy = true"),
        ("upstream_timeout", "9s", ""),
        ("upstreams", "http://127.0.0.1:9999", ""),
        ("validate_url", "https://git.example.com/api/v1", "provider = \"github\""),
    ];
    let changes = |name: &str, value: &str, context: &str| {
        let without = with(context);
        let given = with(&format!("{context}\n{name} = \"{value}\""));
        let named = given.warnings.iter().chain(&given.refusals).any(|note| note.key == name);
        (named, given.config != without.config || named)
    };
    let mut wrong: Vec<String> = Vec::new();
    for key in KEYS {
        let found = CONTEXT.iter().find(|(name, ..)| *name == key.name);
        let usual = match key.kind {
            Kind::Bool => "true",
            Kind::List | Kind::Text => "9x",
        };
        let (value, context) = found.map_or((usual, ""), |(_, value, context)| (value, context));
        match key.fate {
            Fate::Becomes(_) => {
                let (_, changes) = if key.kind == Kind::Bool && found.is_none() {
                    // One of the two is not the default.
                    let (yes, no) = (changes(key.name, "true", context), changes(key.name, "false", context));
                    (yes.0 || no.0, yes.1 || no.1)
                } else {
                    changes(key.name, value, context)
                };
                let both = ["pass_basic_auth", "pass_user_headers"].contains(&key.name);
                if !changes && !both {
                    wrong.push(format!("{} says nothing and is not named", key.name));
                }
            }
            Fate::Without(same, _) => {
                let (value, same) =
                    if key.kind == Kind::Bool && same == "true" { ("false", "true") } else { (value, same) };
                if !changes(key.name, value, "").0 {
                    wrong.push(format!("{} is not named", key.name));
                }
                if !same.contains('\0') && changes(key.name, same, "").0 {
                    wrong.push(format!("{} = {same} loses nothing", key.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let none = with("pass_basic_auth = false\npass_user_headers = false");
    assert!(load(config(&none)).routes[0].identity.is_empty());
}

/// docs/migrate.md shows the table of the code.
#[test]
fn the_document_has_every_key() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migrate.md")).unwrap();
    let rows = KEYS.iter().map(|key| match key.fate {
        Fate::Becomes(what) => format!("| `{}` | `{what}` |", key.name),
        Fate::Without(_, why) => format!("| `{}` | {why} |", key.name),
    });
    let missing: Vec<String> = rows.filter(|row| !page.lines().any(|line| line == row)).collect();
    assert!(missing.is_empty(), "docs/migrate.md lacks:\n{}", missing.join("\n"));
}

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.args(["migrate", "oauth2-proxy"]).args(args).env_clear();
    command.output().unwrap()
}

#[test]
fn the_command_and_its_exit_status() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = run(&[&path("good.cfg", BASE.as_bytes())]);
    assert_eq!(good.status.code(), Some(0));
    load(&String::from_utf8(good.stdout).unwrap());
    let stderr = String::from_utf8(good.stderr).unwrap();
    assert!(
        stderr.lines().all(|line| line.starts_with("warning: ")) && stderr.contains("warning: email_domains: "),
        "{stderr}"
    );

    let wider = path(
        "wider.cfg",
        BASE.replace("\"oidc\"", "\"github\"")
            .as_bytes()
            .iter()
            .chain(b"github_org = \"acme\"\n")
            .copied()
            .collect::<Vec<u8>>()
            .as_slice(),
    );
    let refused = run(&[&wider]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty(), "nothing that could be used by mistake");
    assert!(String::from_utf8(refused.stderr).unwrap().contains("error: github_org: "));

    let nowhere = BASE.replace("redirect_url", "#");
    assert_eq!(run(&[&path("nowhere.cfg", nowhere.as_bytes())]).status.code(), Some(1));
    let told = run(&["--public-url", "https://x.example.com", &path("nowhere.cfg", nowhere.as_bytes())]);
    assert_eq!(load(&String::from_utf8(told.stdout).unwrap()).server.public_url.as_str(), "https://x.example.com");

    let mut large = BASE.as_bytes().to_vec();
    large.resize((1 << 20) + 1, b'#');
    for args in [
        vec![path("absent.cfg", b"") + ".not"],
        vec![path("empty.cfg", b"")],
        vec![path("binary.cfg", b"\xff\xfe\x00")],
        vec![path("large.cfg", &large)],
        vec![path("other.yaml", b"kind: Service\n")],
        vec![],
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = run(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}
