//! Configuration as an operator meets it: files, variables and flags in; settings, or every problem at once, out.

// Helpers of tests count as production code for these lints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorward::config::settings::{
    Access, Callback, ClientAuth, CustomClaim, Flow, Form, HostMatch, IdentityValue, Listen, Par, PathMatch,
    RedisServers, ResponseMode, SameSite, Settings, Source, Store, Target, TokenIssuer, TokenRequest, UpstreamAuth,
};
use doorward::config::{Flags, Problem, Problems, Sources, find_file, known_keys, load};
use rcgen::{KeyPair, PKCS_ED25519};
use tempfile::TempDir;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// The least that loads; tests add to it.
const LEAST: &str = r#"
[server]
public_url = "https://app.example.com"
[provider.main]
issuer = "https://id.example.com"
client_id = "doorward"
client_secret = "s3cret-of-the-client"
[session]
keys = ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"]
[[route]]
path = "/"
upstream = "http://127.0.0.1:3000"
access = "authenticated"
"#;

struct Case {
    directory: TempDir,
    sources: Sources,
}

impl Case {
    fn of(text: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("doorward.toml");
        std::fs::write(&file, text).unwrap();
        Self { directory, sources: Sources { file: Some(file), ..Sources::default() } }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn settings(&self) -> Settings {
        load(&self.sources).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn problems(&self) -> Problems {
        load(&self.sources).expect_err("problems")
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// The one problem of `text`.
fn only_problem(text: &str) -> Problem {
    let problems = Case::of(text).problems();
    assert_eq!(problems.count(), 1, "{problems}");
    problems.iter().next().unwrap().clone()
}

/// `LEAST` with one line of a section replaced or added.
fn with(section: &str, line: &str) -> String {
    let key = line.split('=').next().unwrap_or_default().trim();
    let header = format!("{section}\n");
    let (before, after) = LEAST.split_once(&header).map_or((LEAST, None), |(b, a)| (b, Some(a)));
    let Some(after) = after else { return format!("{before}\n{section}\n{line}\n") };
    let mut inside = true;
    let kept: Vec<&str> = after
        .lines()
        .filter(|l| {
            inside &= !l.starts_with('[');
            !(inside && l.split('=').next().unwrap_or_default().trim() == key)
        })
        .collect();
    format!("{before}{header}{line}\n{}\n", kept.join("\n"))
}

fn flags() -> Flags {
    Flags {
        issuer: Some("https://id.example.com".to_owned()),
        client_id: Some("doorward".to_owned()),
        upstream: Some("http://127.0.0.1:3000".to_owned()),
        ..Flags::default()
    }
}

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let settings = Case::of(LEAST).settings();
    assert_eq!(settings.server.listen, [Listen::Tcp("0.0.0.0:4180".parse().unwrap())]);
    assert_eq!(settings.server.prefix, "/oauth2");
    assert_eq!(settings.server.limits.header_bytes, 65_536);
    assert_eq!(settings.admin.unwrap().listen, "127.0.0.1:9180".parse().unwrap());
    assert_eq!(settings.session.cookie, "__Host-doorward");
    assert_eq!(settings.session.lifetime, Duration::from_secs(86_400));
    assert_eq!((settings.session.same_site, settings.session.store), (SameSite::Lax, Store::Cookie));
    let provider = &settings.providers[0];
    assert_eq!((provider.name.as_str(), provider.client_auth, provider.par), ("main", ClientAuth::Auto, Par::Auto));
    assert_eq!(provider.scopes, ["openid", "profile", "email"]);
    let route = &settings.routes[0];
    assert_eq!((route.name.as_str(), &route.host), ("/", &HostMatch::Any));
    assert_eq!(route.path, PathMatch::Prefix("/".to_owned()));
    assert_eq!(route.providers, [0]);
    assert_eq!(route.identity.len(), 4);
    assert_eq!(route.upstream.options.idle_timeout, Duration::from_secs(4));
    assert!(route.upstream.options.pass_host);
    assert!(settings.warnings.is_empty());
}

fn example() -> Case {
    let case = Case::of(include_str!("../config.example.toml"));
    case.env("OIDC_CLIENT_SECRET", "from-the-environment").env("DOOR_SESSION_KEY", KEY)
}

#[test]
fn the_example_loads_as_it_is() {
    let settings = example().settings();
    assert_eq!(settings.routes.len(), 2);
    assert_eq!(settings.routes[1].upstream.targets, [Target::Status(204)]);
    assert_eq!(settings.custom_claims.len(), 1);
    assert!(settings.identity_names().contains(&"x-team".parse().unwrap()));
    assert_eq!(settings.providers[0].client_secret.as_ref().unwrap().expose(), "from-the-environment");
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
}

/// Sections of the example by header, comment signs removed.
fn sections() -> Vec<(String, String)> {
    let mut sections = vec![(String::new(), String::new())];
    for line in include_str!("../config.example.toml").lines() {
        let line = line.trim_start_matches("# ").trim();
        let header = line.strip_suffix(']').and_then(|l| l.strip_prefix('['));
        match header.filter(|h| !h.is_empty() && !h.contains(['"', ' ', '='])) {
            Some(header) => {
                let header = header.trim_matches(['[', ']']);
                let header = header.replace("provider.main", "provider.NAME").replace("policy.staff", "policy.NAME");
                let header = header.replace("issuer.ci", "issuer.NAME");
                sections.push((header, String::new()));
            }
            None => {
                let text = &mut sections.last_mut().unwrap().1;
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    sections
}

/// `key =` at the beginning of a line or inside an inline table.
fn is_written(text: &str, key: &str) -> bool {
    text.match_indices(key).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + key.len()..].trim_start_matches(' ');
        matches!(before, None | Some('\n' | ' ' | '{')) && after.starts_with('=')
    })
}

#[test]
fn the_example_misses_no_key() {
    let sections = sections();
    let keys = known_keys();
    assert!(keys.len() > 80, "{}", keys.len());
    let missing: Vec<&String> = keys
        .iter()
        .filter(|key| {
            // The rules of a route are those of a policy.
            let key = &key.replace("route.allow.", "policy.NAME.allow.").replace("route.deny.", "policy.NAME.deny.");
            let steps: Vec<&str> = key.split('.').collect();
            let is_header = sections.iter().any(|(header, _)| header == key || header.starts_with(&format!("{key}.")));
            let is_key = (1..steps.len()).any(|n| {
                let header = steps[..n].join(".");
                sections.iter().any(|(h, text)| *h == header && steps[n..].iter().all(|key| is_written(text, key)))
            });
            !is_header && !is_key
        })
        .collect();
    assert!(missing.is_empty(), "not in config.example.toml: {missing:?}");
}

#[test]
fn the_defaults_that_the_example_shows_are_the_defaults() {
    let absent = format!("{:?}", Case::of(LEAST).settings());
    let mut compared = 0;
    const HEALTH: &str = "[route.upstream_options.health]";
    let mut header = "";
    for line in include_str!("../config.example.toml").lines() {
        let bare = line.trim_start_matches("# ");
        if bare.starts_with('[') {
            header = bare;
        }
        // Examples of what has no default.
        let examples = [
            "state_dir",
            "extra_params",
            "label",
            "authorization_url",
            "token_url",
            "userinfo_url",
            "emails_url",
            "post_logout",
            "server_name",
            "ca ",
            "cert",
            "grpc_listen",
            "grpc_tls",
            "key ",
            "host",
            "methods",
            "allow",
            "deny",
        ];
        let more = ["require", "origins", "issuers", "audience", "private_key", "client_auth_signing", "key_id"];
        let more = more.iter().chain(&["client_cert", "client_key"]);
        let is_example = examples.iter().chain(more).any(|key| bare.starts_with(key));
        let is_key =
            bare.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        // Sections that say nothing without what has no default.
        let is_optional =
            ["[server.tls]", "[[server.tls.sni]]", "[issuer.ci]", "[issuer.ci.claims]", "[route.machine]", HEALTH]
                .contains(&header)
                || (header == "[route.upstream_auth]" && bare != "kind = \"none\"");
        if line.starts_with("# ") && is_key && !is_example && !is_optional {
            let written = format!("{:?}", Case::of(&with(header, bare)).settings());
            assert_eq!(written, absent, "{header} {bare}");
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
}

#[test]
fn gx_08_every_problem_comes_at_once() {
    let problems = Case::of(
        r#"
        [server]
        public_url = "app.example.com"
        prefx = "/x"
        workers = "many"
        [server.limits]
        header_bytes = "1KiB"
        [provider.main]
        issuer = "https://id.example.com?x=1"
        scopes = ["profile"]
        client_auth = "basic"
        [session]
        keys = ["short"]
        lifetime = "24x"
        [[route]]
        name = "one"
        path = "/a/../b"
        upstream = "ftp://x"
        [[route]]
        path = "/"
        access = "policy"
        upstream = "status:100"
        allow = []
        [telemtry]
        log = "info"
        "#,
    )
    .problems();
    let keys: Vec<&str> = problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "server.public_url",
            "server.workers",
            "server.limits.header_bytes",
            "server.prefx",
            "provider.main.issuer",
            "provider.main.client_id",
            "provider.main.client_auth",
            "provider.main.scopes",
            "session.keys[1]",
            "session.lifetime",
            "route[1].path",
            "route[1].access",
            "route[1].upstream[1]",
            "route[2].allow",
            "route[2].upstream[1]",
            "telemtry",
        ],
        "{problems}"
    );
    for problem in &problems {
        assert!(problem.source.starts_with("file /"), "{problem}");
        assert!(problem.line.is_some(), "{problem}");
        assert!(problem.hint.ends_with('.') || problem.hint.ends_with('?'), "{problem}");
    }
    let text = problems.to_string();
    assert_eq!(text.split("\n\n").count(), 16);
    assert!(text.contains("route[1].path (one): \"/a/../b\" contains a dot segment"), "{text}");
}

#[test]
fn gx_08_unknown_keys_suggest_the_nearest_and_say_where() {
    let problem = only_problem(&with("[session]", "lifetme = \"8h\""));
    assert_eq!((problem.key.as_str(), problem.hint.as_str()), ("session.lifetme", "Did you mean `lifetime`?"));
    assert!(problem.source.ends_with("doorward.toml"), "{problem}");
    assert_eq!(problem.line, Some(9));

    let problem = only_problem(&with("[telemetry]", "colour = true"));
    assert_eq!(problem.hint, "The keys here are access_log, format, log.");

    let problems = Case::of(LEAST).env("DOORWARD_SESSION__LIFETME", "8h").problems();
    let problem = problems.iter().next().unwrap();
    assert_eq!((problem.source.as_str(), problem.line), ("environment DOORWARD_SESSION__LIFETME", None));
    let problems = Case::of(LEAST).env("DOORWARD_LOG", "info").problems();
    assert_eq!(problems.iter().next().unwrap().key, "log");
}

#[test]
fn gx_08_duplicate_keys_and_bad_syntax_name_the_line() {
    let problem = only_problem("[server]\nlisten = \"a\"\nlisten = \"b\"\n");
    assert_eq!(problem.line, Some(3), "{problem}");
    let problem = only_problem("[provider.main]\nclient_secret = hunter2\n");
    assert_eq!(problem.line, Some(2), "{problem}");
}

#[test]
fn gx_08_wrong_types_are_named() {
    for (section, line, message) in [
        ("[session]", "lifetime = 8", "is a number, where a string belongs"),
        ("[server]", "workers = true", "is true or false, where a whole number belongs"),
        ("[telemetry]", "access_log = \"yes\"", "is a string, where true or false belongs"),
        ("[server]", "listen = 4180", "is a number, where a string or a list of strings belongs"),
        ("[provider.main]", "claims = \"sub\"", "is a string, where a table belongs"),
        ("[provider.main]", "client_secret = 5", "is a number, where a secret belongs"),
        ("[server.limits]", "connections = 0", "is out of range"),
        ("[[route]]", "identity = [\"\"]", "an empty string is not a preset"),
    ] {
        assert_eq!(only_problem(&with(section, line)).message, message, "{line}");
    }
}

#[test]
fn redis_is_read_with_its_defaults() {
    let redis = |lines: &str| with("[session]", "store = \"redis\"") + "[session.redis]\n" + lines;
    let settings =
        Case::of(&redis("url = { env = \"REDIS\" }")).env("REDIS", "rediss://:hunter2@r.example/1").settings();
    assert_eq!(settings.session.store, Store::Redis);
    assert!(settings.warnings.is_empty());
    // ZX-06: no secret in what is printed.
    assert!(!format!("{settings:?}").contains("hunter2"));
    let found = settings.session.redis.unwrap();
    assert_eq!(found.servers, RedisServers::One("r.example".to_owned(), 6379));
    assert_eq!((found.tls, found.database, found.timeout), (true, 1, Duration::from_secs(2)));
    assert_eq!((found.password.unwrap().expose(), found.key_prefix.as_str()), ("hunter2", "doorward:"));

    let settings = Case::of(&redis("url = \"redis://r.example\"")).settings();
    assert_eq!(settings.warnings.len(), 1, "{:?}", settings.warnings);
    for (lines, key) in [
        ("", "session.redis.url"),
        ("url = \"\"", "session.redis.url"),
        ("url = \"http://u:hunter2@h\"", "session.redis.url"),
        ("url = \"redis://localhost\"\nkey_prefix = \"{a}\"", "session.redis.key_prefix"),
        ("url = \"redis://localhost\"\nca = \"/ca.pem\"", "session.redis.ca"),
        ("url = \"redis://localhost\"\ntimeout = \"0s\"", "session.redis.timeout"),
        ("url = \"redis://localhost\"\ndatabase = 1", "session.redis.database"),
    ] {
        let problem = only_problem(&redis(lines));
        assert_eq!(problem.key, key, "{lines}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
    assert_eq!(only_problem(&with("[session]", "store = \"redis\"")).key, "session.redis.url");
    // Left there while another store is tried: checked, and not used.
    assert_eq!(Case::of(&with("[session.redis]", "url = \"redis://localhost\"")).settings().session.redis, None);
    assert_eq!(only_problem(&with("[session.redis]", "url = \"redis://\"")).key, "session.redis.url");
}

#[test]
fn b_03_a_name_that_several_providers_can_give_is_a_warning() {
    let second = "[provider.second]\nissuer = \"https://two.example.com\"\nclient_id = \"d\"\n";
    let warnings = |line: &str| Case::of(&format!("{}{second}", with("[[route]]", line))).settings().warnings;
    let all = warnings("unauthenticated = \"auto\"");
    assert!(all.len() == 1 && all[0].contains("main, second"), "{all:?}");
    for line in ["provider = \"second\"", "identity = []", "identity = [\"x-forwarded\", \"assertion\"]"] {
        assert!(warnings(line).is_empty(), "{line}");
    }
}

#[test]
fn dp_03_a_bound_token_that_goes_upstream_is_a_warning() {
    let header = "access = \"authenticated\"\nidentity = [\"x-forwarded-access-token\"]";
    let text = client("").replace("access = \"authenticated\"", header);
    assert!(Case::of(&text).settings().warnings.is_empty());
    let bound = text.replace("[provider.main]\n", "[provider.main]\ndpop = true\n");
    let warnings = Case::of(&bound).settings().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("route / "), "{warnings:?}");
    assert!(Case::of(&client("dpop = true")).settings().warnings.is_empty(), "no token goes upstream");
}

/// `LEAST` with these lines instead of the secret.
fn client(lines: &str) -> String {
    let text = LEAST.replace("client_secret = \"s3cret-of-the-client\"\n", "");
    text.replace("[provider.main]\n", &format!("[provider.main]\n{lines}\n"))
}

#[test]
fn how_the_client_proves_itself() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("{{ file = {path:?} }}")
    };
    let ec = file("ec.pem", &KeyPair::generate().unwrap().serialize_pem());
    let ed = file("ed.pem", &KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem());
    let junk = file("junk.pem", "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n");
    let cert = "client_cert = \"/c.pem\"\nclient_key = \"/k.pem\"";
    let secret = "client_secret = \"hunter2-hunter2-hunter2-hunter2-\"";

    for (lines, want) in [
        (format!("private_key = {ec}"), ClientAuth::Auto),
        (format!("private_key = {ed}\nclient_auth = \"private_key_jwt\""), ClientAuth::PrivateKeyJwt),
        (format!("{secret}\nclient_auth = \"client_secret_jwt\""), ClientAuth::ClientSecretJwt),
        (format!("{cert}\nclient_auth = \"tls_client_auth\""), ClientAuth::TlsClientAuth),
        (format!("{cert}\nclient_auth = \"self_signed_tls_client_auth\""), ClientAuth::TlsClientAuth),
        (format!("{cert}\nclient_auth = \"none\"\nprivate_key = \"\""), ClientAuth::None),
        // The secret may be there for HS256.
        (
            format!("{secret}\nprivate_key = {ec}\nclient_auth = \"private_key_jwt\"\ndpop = true"),
            ClientAuth::PrivateKeyJwt,
        ),
        (format!("{cert}\n{secret}\nclient_auth = \"client_secret_post\""), ClientAuth::Post),
    ] {
        let provider = Case::of(&client(&lines)).settings().providers.remove(0);
        assert_eq!(provider.client_auth, want, "{lines}");
        assert_eq!(provider.client_key.is_some(), lines.contains("private_key = {"), "{lines}");
        assert_eq!(provider.client_cert.is_some(), lines.contains("client_cert"), "{lines}");
        assert_eq!(provider.dpop, lines.contains("dpop"), "{lines}");
    }
    let lines = format!("private_key = {ec}\nkey_id = \"2026\"\nclient_auth_signing_alg = \"ES256\"");
    let key = Case::of(&client(&lines)).settings().providers.remove(0).client_key.unwrap();
    assert_eq!((key.kid.as_deref(), key.alg.as_deref()), (Some("2026"), Some("ES256")));

    for (lines, key) in [
        ("client_auth = \"client_secret_basic\"".to_owned(), "client_secret"),
        ("client_auth = \"client_secret_jwt\"".to_owned(), "client_secret"),
        ("client_secret = \"hunter2\"\nclient_auth = \"client_secret_jwt\"".to_owned(), "client_secret"),
        ("client_auth = \"private_key_jwt\"".to_owned(), "private_key"),
        (format!("{secret}\nclient_auth = \"private_key_jwt\""), "private_key"),
        ("client_auth = \"tls_client_auth\"".to_owned(), "client_cert"),
        ("client_cert = \"/c.pem\"".to_owned(), "client_key"),
        ("client_key = \"/k.pem\"".to_owned(), "client_cert"),
        (format!("{secret}\nprivate_key = {ec}"), "client_auth"),
        (format!("{secret}\n{cert}"), "client_auth"),
        (format!("{cert}\nprivate_key = {ec}\nclient_auth = \"auto\""), "client_auth"),
        (format!("private_key = {ec}\nclient_auth = \"none\""), "client_auth"),
        (format!("{secret}\nprivate_key = {ec}\nclient_auth = \"client_secret_post\""), "private_key"),
        (format!("private_key = {junk}"), "private_key"),
        ("private_key = \"hunter2\"".to_owned(), "private_key"),
        ("private_key = { file = \"/nonexistent\" }".to_owned(), "private_key.file"),
        (format!("private_key = {ec}\nclient_auth_signing_alg = \"ES384\""), "client_auth_signing_alg"),
        (format!("private_key = {ec}\nclient_auth_signing_alg = \"RS256\""), "client_auth_signing_alg"),
        (format!("private_key = {ec}\nclient_auth_signing_alg = \"none\""), "client_auth_signing_alg"),
        (format!("private_key = {ed}\nclient_auth_signing_alg = \"HS256\""), "client_auth_signing_alg"),
        ("client_auth_signing_alg = \"ES256\"".to_owned(), "client_auth_signing_alg"),
        ("key_id = \"2026\"".to_owned(), "key_id"),
        ("client_auth = \"client_secret\"".to_owned(), "client_auth"),
        ("dpop = \"always\"".to_owned(), "dpop"),
        ("dpop = true\nflow = \"implicit_form_post\"".to_owned(), "dpop"),
    ] {
        let problem = only_problem(&client(&lines));
        assert_eq!(problem.key, format!("provider.main.{key}"), "{lines}");
        assert!(!problem.to_string().contains("hunter2") && !problem.hint.is_empty(), "ZX-06: {problem}");
    }
}

#[test]
fn pk_01_without_an_issuer_there_is_no_assertion() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("key.pem");
    std::fs::write(&path, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let key = format!("private_key = {{ file = {path:?} }}");
    let secret = "client_secret = \"a-client-secret-of-32-characters\"";
    let plain = |lines: &str| {
        let urls = ["authorization_url", "token_url", "userinfo_url"]
            .map(|key| format!("{key} = \"https://x.example/{key}\""));
        client(&format!("kind = \"oauth2\"\n{}\n{lines}", urls.join("\n")))
            .replace("issuer = \"https://id.example.com\"\n", "")
    };
    assert!(Case::of(&plain(secret)).settings().warnings.is_empty());
    assert_eq!(only_problem(&plain(&key)).key, "provider.main.private_key");
    let named = format!("{key}\nclient_auth = \"private_key_jwt\"");
    assert_eq!(only_problem(&plain(&named)).key, "provider.main.client_auth");
    let named = format!("{secret}\nclient_auth = \"client_secret_jwt\"");
    assert_eq!(only_problem(&plain(&named)).key, "provider.main.client_auth");
}

#[test]
fn px_20_what_envoy_asks_on_has_an_address_and_askers_of_its_own() {
    for (lines, trusted, key) in [
        ("grpc_listen = \"127.0.0.1:9191\"", "", "forward_auth.grpc_listen"),
        ("grpc_listen = \"0.0.0.0:4180\"", "trusted_proxies = [\"10.0.0.0/8\"]", "forward_auth.grpc_listen"),
        ("grpc_listen = \"nowhere\"", "trusted_proxies = [\"10.0.0.0/8\"]", "forward_auth.grpc_listen"),
        ("grpc_tls = true", "trusted_proxies = [\"10.0.0.0/8\"]", "forward_auth.grpc_tls"),
        ("success_status = 302", "", "forward_auth.success_status"),
    ] {
        let text = format!("{LEAST}\n[forward_auth]\n{lines}\n").replace("[server]", &format!("[server]\n{trusted}"));
        let problem = only_problem(&text);
        assert_eq!(problem.key.to_string(), key, "{lines}: {}", problem.message);
    }
    let text = format!("{LEAST}\n[forward_auth]\ngrpc_listen = \"127.0.0.1:9191\"\nsuccess_status = 200\n");
    let settings = Case::of(&text.replace("[server]", "[server]\ntrusted_proxies = [\"10.0.0.0/8\"]")).settings();
    assert_eq!(settings.server.forward_auth.success_status, 200);
    assert_eq!(settings.server.listeners().last().unwrap().to_string(), "127.0.0.1:9191");
    assert!(!settings.server.forward_auth.grpc_tls);
}

#[test]
fn gx_09_insecure_values_are_refused() {
    for (section, line, key) in [
        ("[provider.main]", "issuer = \"http://id.example.com\"", "provider.main.issuer"),
        ("[server]", "public_url = \"http://app.example.com\"", "server.public_url"),
        ("[provider.main]", "id_token_algs = [\"none\"]", "provider.main.id_token_algs[1]"),
        ("[provider.main]", "id_token_algs = [\"HS256\"]", "provider.main.id_token_algs[1]"),
        ("[provider.main]", "clock_skew = \"6m\"", "provider.main.clock_skew"),
        ("[provider.main]", "extra_params = { state = \"x\" }", "provider.main.extra_params.state"),
        ("[session]", "keys = [\"0123456789abcdef0123456789abcde\"]", "session.keys[1]"),
        ("[session]", "keys = [\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]", "session.keys[1]"),
        ("[session]", "keys = []", "session.keys"),
        ("[session]", "lifetime = \"401d\"", "session.lifetime"),
        ("[session]", "lifetime = \"0s\"", "session.lifetime"),
        ("[session]", "same_site = \"none\"", "session.same_site"),
        ("[session]", "cookie = \"a.b\"", "session.cookie"),
        ("[session]", "cookie_domain = \"ample.com\"", "session.cookie_domain"),
        ("[[route]]", "origins = [\"*\"]", "route[1].origins[1]"),
        ("[[route]]", "identity = [{ header = \"X_Forwarded-For\", claim = \"a\" }]", "route[1].identity[1].header"),
        ("[[route]]", "identity = [{ header = \"Authorization\", claim = \"a\" }]", "route[1].identity[1].header"),
        ("[admin]", "listen = \"0.0.0.0:4180\"", "admin.listen"),
    ] {
        assert_eq!(only_problem(&with(section, line)).key, key, "{line}");
    }
}

#[test]
fn gx_09_what_insecure_allows_is_a_warning() {
    let text = with("[provider.main]", "issuer = \"http://id.example.com\"\ninsecure = true");
    assert_eq!(Case::of(&text).settings().warnings.len(), 1);
    let text = with("[server]", "public_url = \"http://app.example.com\"\ninsecure = true");
    let settings = Case::of(&text).settings();
    assert_eq!(settings.warnings.len(), 1);
    assert_eq!(settings.session.cookie, "doorward");
    let settings = Case::of(&with("[server]", "trusted_proxies = [\"0.0.0.0/0\"]")).settings();
    assert_eq!(settings.warnings.len(), 1);
    for host in ["localhost:4180", "127.0.0.1:4180", "[::1]:4180", "a.localhost"] {
        let text = with("[server]", &format!("public_url = \"http://{host}\""));
        assert!(Case::of(&text).settings().warnings.is_empty(), "{host}");
    }
}

#[test]
fn rules_of_routes() {
    let route = |lines: &str| {
        format!("{LEAST}\n[[route]]\nname = \"second\"\n{lines}\n[policy.p]\nallow = [{{ user = \"a\" }}]\n")
    };
    for (lines, key) in [
        ("path = \"/x\"\nupstream = \"status:204\"", "route[2].access"),
        ("path = \"/x\"\naccess = \"public\"", "route[2].upstream"),
        ("upstream = \"status:204\"\naccess = \"public\"", "route[2].path"),
        ("path = \"/\"\nupstream = \"status:204\"\naccess = \"public\"", "route[2].path"),
        ("path = \"/oauth2/x\"\nupstream = \"status:204\"\naccess = \"public\"", "route[2].path"),
        ("path = \"/x\"\nupstream = \"status:204\"\naccess = \"public\"\nidentity = []", "route[2].identity"),
        (
            "path = \"/x\"\nupstream = \"status:204\"\naccess = \"optional\"\nidentity = [\"k8s-impersonate\"]",
            "route[2].identity",
        ),
        (
            "path = \"/x\"\nupstream = \"status:204\"\naccess = \"optional\"\nidentity = [\"remote\", \"netbox\"]",
            "route[2].identity[2]",
        ),
        (
            "path = \"/x\"\nupstream = \"status:204\"\naccess = \"optional\"\nidentity = [{ header = \"X-A\" }]",
            "route[2].identity[1].claim",
        ),
        (
            "path = \"/x\"\nupstream = \"status:204\"\naccess = \"optional\"\nidentity = [{ header = \"X-A\", claim = \"a\", assertion = true }]",
            "route[2].identity[1].claim",
        ),
        ("path = \"/x\"\nupstream = \"status:204\"\naccess = \"public\"\npolicy = \"p\"", "route[2].policy"),
        ("path = \"/x\"\nupstream = \"status:204\"\naccess = \"public\"\nallow = [{ user = \"a\" }]", "route[2].allow"),
        ("path = \"/x\"\nupstream = \"status:204\"\naccess = \"policy\"", "route[2].allow"),
        ("path = \"/x\"\nupstream = \"status:204\"\naccess = \"policy\"\npolicy = \"q\"", "route[2].policy"),
        ("path = \"/x\"\nupstream = \"status:204\"\naccess = \"policy\"\nallow = [{}]", "route[2].allow[1]"),
        (
            "path = \"/x\"\nupstream = \"status:204\"\naccess = \"policy\"\nallow = [{ user = [] }]",
            "route[2].allow[1].user",
        ),
        (
            "path = \"/x\"\nupstream = \"status:204\"\naccess = \"policy\"\nallow = [{ usr = \"a\" }]",
            "route[2].allow[1].usr",
        ),
        (
            "path = \"/x\"\nupstream = \"status:204\"\naccess = \"policy\"\ndeny = [{ email = \"a@b@c\" }]",
            "route[2].deny[1].email[1]",
        ),
        (
            "path = \"/x\"\nupstream = \"status:204\"\naccess = \"policy\"\nallow = [{ email_domain = \"*.b\" }]",
            "route[2].allow[1].email_domain[1]",
        ),
        (
            "path = \"/x\"\nupstream = \"status:204\"\naccess = \"policy\"\npolicy = \"p\"\nallow = [{ user = \"a\" }]",
            "route[2].policy",
        ),
        (
            "path = \"/x\"\nupstream = \"status:204\"\naccess = \"authenticated\"\nprovider = \"q\"",
            "route[2].provider[1]",
        ),
        ("path = \"/x\"\nhost = \"a.*.b\"\nupstream = \"status:204\"\naccess = \"public\"", "route[2].host"),
        ("path = \"/x\"\nhost = \"a:80\"\nupstream = \"status:204\"\naccess = \"public\"", "route[2].host"),
        ("path = \"/x\"\nhost = \"*.*.b\"\nupstream = \"status:204\"\naccess = \"public\"", "route[2].host"),
        ("path = \"/x\"\nhost = \"a..b\"\nupstream = \"status:204\"\naccess = \"public\"", "route[2].host"),
        ("path = \"/x/*\"\nupstream = \"status:204\"\naccess = \"public\"", "route[2].path"),
        ("path = \"/x/{id}\"\nupstream = \"status:204\"\naccess = \"public\"", "route[2].path"),
        ("path = \"=/ping\"\nupstream = \"status:204\"\naccess = \"public\"", "route[2].path"),
        ("path = \"/x\"\nmethods = [\"TRACE\"]\nupstream = \"status:204\"\naccess = \"public\"", "route[2].methods[1]"),
        (
            "path = \"/x\"\nallow_preflight = \"yes\"\nupstream = \"status:204\"\naccess = \"public\"",
            "route[2].allow_preflight",
        ),
        ("path = \"/x\"\nmethods = [\"get\"]\nupstream = \"status:204\"\naccess = \"public\"", "route[2].methods[1]"),
        (
            "path = \"/x\"\nstrip_prefix = \"/y\"\nupstream = \"status:204\"\naccess = \"public\"",
            "route[2].strip_prefix",
        ),
    ] {
        let problem = only_problem(&route(lines));
        assert_eq!((problem.key.as_str(), problem.name.as_deref()), (key, Some("second")), "{lines}: {problem}");
    }
    let same = only_problem(&route("path = \"/\"\nupstream = \"status:204\"\naccess = \"public\""));
    assert!(same.message.contains("as route 1 (/)"), "{same}");
    let by_method = route("path = \"/\"\nmethods = [\"GET\"]\nupstream = \"status:204\"\naccess = \"public\"");
    assert_eq!(Case::of(&by_method).settings().routes.len(), 2);
}

#[test]
fn px_26_equally_specific_routes_are_a_problem_whatever_their_spelling() {
    let two = |first: &str, second: &str| {
        let rest = "upstream = \"status:204\"\naccess = \"public\"";
        format!("{LEAST}\n[[route]]\nname = \"a\"\n{first}\n{rest}\n[[route]]\nname = \"b\"\n{second}\n{rest}\n")
    };
    for (first, second) in [
        ("path = \"/x\"", "path = \"/x/\""),
        ("path = \"=/x\"", "path = \"=/x\""),
        ("path = \"/x\"\nhost = \"A.example.\"", "path = \"/x\"\nhost = \"a.example\""),
        ("path = \"/x\"\nhost = \"bücher.example\"", "path = \"/x\"\nhost = \"xn--bcher-kva.example\""),
        ("path = \"/x\"\nhost = \"*.A.example\"", "path = \"/x\"\nhost = \"*.a.example\""),
        ("path = \"/x\"\nmethods = [\"GET\", \"PUT\"]", "path = \"/x\"\nmethods = [\"POST\", \"PUT\"]"),
    ] {
        let problem = only_problem(&two(first, second));
        assert_eq!(problem.key, "route[3].path", "{first} {second}");
        assert!(
            problem.message.contains("as route 2 (a)") && problem.hint.contains("order never decides"),
            "{problem}"
        );
    }
    for (first, second) in [
        ("path = \"/x\"", "path = \"=/x\""),
        ("path = \"=/x\"", "path = \"=/x/\""),
        ("path = \"/x\"", "path = \"/X\""),
        ("path = \"/x\"\nhost = \"a.example\"", "path = \"/x\"\nhost = \"*.example\""),
        ("path = \"/x\"\nmethods = [\"GET\"]", "path = \"/x\"\nmethods = [\"POST\"]"),
        ("path = \"/x\"\nmethods = [\"GET\"]", "path = \"/x\""),
    ] {
        assert_eq!(Case::of(&two(first, second)).settings().routes.len(), 3, "{first} {second}");
    }
}

#[test]
fn px_26_a_raw_path_is_for_the_one_route_of_its_host() {
    let route = |lines: &str| {
        format!(
            "{LEAST}\n[[route]]\nname = \"raw\"\nhost = \"raw.example\"\naccess = \"public\"\nraw_path = true\n{lines}\n"
        )
    };
    let upstream = "upstream = \"http://h\"";
    for (lines, why) in [
        (format!("path = \"/x\"\n{upstream}"), "a route with path"),
        (format!("path = \"=/\"\n{upstream}"), "a route with path"),
        (format!("path = \"/\"\nmethods = [\"GET\"]\n{upstream}"), "without methods"),
        ("path = \"/\"\nupstream = \"http://h/base\"".to_owned(), "an upstream with a path"),
        (
            format!(
                "path = \"/\"\n{upstream}\n[[route]]\nhost = \"Raw.example\"\npath = \"=/x\"\nupstream = \"status:204\"\naccess = \"public\""
            ),
            "route 3 (raw.example=/x)",
        ),
        (
            format!(
                "path = \"/\"\n{upstream}\n[[route]]\nhost = \"raw.example\"\npath = \"/\"\nmethods = [\"GET\"]\nupstream = \"status:204\"\naccess = \"public\""
            ),
            "route 3 (raw.example/ GET)",
        ),
    ] {
        let problems = Case::of(&route(&lines)).problems();
        let problem = problems.iter().find(|p| p.key == "route[2].raw_path");
        assert!(problem.is_some_and(|p| p.message.contains(why)), "{lines}: {problems}");
    }
    let fine = "path = \"/\"\nallow_preflight = true\nupstream = \"http://h\"\n[[route]]\nhost = \"*.example\"\npath = \"/x\"\nupstream = \"status:204\"\naccess = \"public\"";
    let settings = Case::of(&route(fine)).settings();
    assert!(settings.routes[1].raw_path && settings.routes[1].allow_preflight && !settings.routes[2].raw_path);
}

#[test]
fn a_route_in_full() {
    let text = format!(
        r#"{LEAST}
        [[route]]
        host = "*.Example.com."
        path = "/app/"
        methods = ["GET", "POST"]
        upstream = "https://app.internal/base"
        access = "policy"
        deny = [{{ email = "Leaver@Example.com", group = ["A", "b"] }}]
        unauthenticated = "401"
        identity = ["remote", {{ header = "X-Team", claim = "a.b", separator = ";" }}]
        require = {{ acr = "mfa", max_age = "15m" }}
        origins = ["https://other.example.com"]
        strip_prefix = "/app"
        upstream_options = {{ pass_host = false, connect_timeout = "1s" }}
        machine = {{ issuers = ["main"], audience = ["api"] }}
        "#
    );
    let settings = Case::of(&text).settings();
    let route = &settings.routes[1];
    assert_eq!(route.name, "*.example.com/app GET,POST");
    assert_eq!(route.host, HostMatch::Wildcard("example.com".to_owned()));
    assert_eq!(route.path, PathMatch::Prefix("/app".to_owned()));
    let Access::Policy(policy) = &route.access else { panic!("{:?}", route.access) };
    assert!(policy.allow.is_empty());
    assert_eq!((policy.deny[0].email[0].as_str(), policy.deny[0].group.len()), ("leaver@example.com", 2));
    assert_eq!(route.identity.last().map(|h| (h.name.as_str(), &h.value)), Some(("x-team", &IdentityValue::Custom(0))));
    let form = Form::Joined(";".to_owned());
    assert_eq!(settings.custom_claims, [CustomClaim { source: Source::Claim("a.b".to_owned()), form, without: None }]);
    assert_eq!(route.require.max_age, Some(Duration::from_secs(900)));
    assert_eq!(route.strip_prefix.as_deref(), Some("/app"));
    assert!(route.machine.is_some() && !route.upstream.options.pass_host);
}

#[test]
fn b_03_several_providers_are_chosen_from_and_each_has_a_callback_of_its_own() {
    let second = "[provider.second]\nissuer = \"https://two.example.com\"\nclient_id = \"d\"\nlabel = \"Second\"\n";
    let of = |line: &str| Case::of(&format!("{}{second}", with("[[route]]", line))).settings();
    let settings = of("provider = \"\"");
    assert_eq!(settings.routes[0].providers, [0, 1]);
    assert_eq!(settings.providers[1].label, "Second");
    let paths: Vec<_> = settings.providers.iter().map(|p| p.callback_path("/oauth2")).collect();
    assert_eq!(paths, ["/oauth2/callback/main", "/oauth2/callback/second"]);
    assert_eq!(of("provider = \"second\"").routes[0].providers, [1]);
    assert_eq!(of("provider = [\"second\", \"main\", \"second\"]").routes[0].providers, [1, 0]);
    assert_eq!(Case::of(LEAST).settings().providers[0].callback_path("/oauth2"), "/oauth2/callback");
    let shared = format!("{}{second}", with("[provider.main]", "callback = \"shared\""));
    assert_eq!(Case::of(&shared).settings().providers[0].callback, Callback::Shared);

    for (text, key) in [
        (format!("{}{second}", with("[[route]]", "provider = []")), "route[1].provider"),
        (format!("{}{second}", with("[[route]]", "provider = [\"other\"]")), "route[1].provider[1]"),
        (
            format!("{LEAST}[provider.\"a b\"]\nissuer = \"https://two.example.com\"\nclient_id = \"d\"\n"),
            "provider.a b",
        ),
    ] {
        assert_eq!(only_problem(&text).key, key, "{text}");
    }
}

const GITHUB: &str = r#"
[provider.github]
kind = "oauth2"
authorization_url = "https://github.com/login/oauth/authorize"
token_url = "https://github.com/login/oauth/access_token"
userinfo_url = "https://api.github.com/user"
client_id = "d"
client_secret = "s3cret-of-the-client"
"#;

#[test]
fn a_provider_without_openid_is_written_out() {
    let text = format!("{LEAST}{GITHUB}emails_url = \"https://api.github.com/user/emails\"\n");
    let settings = Case::of(&text).settings();
    let github = &settings.providers[0];
    assert!(!github.is_openid() && github.scopes.is_empty());
    assert_eq!(
        (github.claims.user.as_str(), github.issuer.as_str()),
        ("id", "https://github.com/login/oauth/authorize")
    );
    for (line, key) in [
        ("issuer = \"https://github.com\"", "provider.github.issuer"),
        ("id_token_algs = [\"ES256\"]", "provider.github.id_token_algs"),
        ("callback = \"shared\"", "provider.github.callback"),
        ("flow = \"implicit_form_post\"", "provider.github.flow"),
        ("emails_url = \"http://api.github.com/emails\"", "provider.github.emails_url"),
    ] {
        assert_eq!(only_problem(&format!("{LEAST}{GITHUB}{line}\n")).key, key, "{line}");
    }
    let without = GITHUB.replace("userinfo_url = \"https://api.github.com/user\"", "");
    assert_eq!(only_problem(&format!("{LEAST}{without}")).key, "provider.github.userinfo_url");
    assert_eq!(
        only_problem(&with("[provider.main]", "token_url = \"https://x.example\"")).key,
        "provider.main.token_url"
    );
    let required = format!("{}{GITHUB}", with("[[route]]", "require = { max_age = \"5m\" }"));
    assert_eq!(only_problem(&required).key, "route[1].require");
}

#[test]
fn c_24_form_post_and_the_implicit_flow_are_asked_for_by_name() {
    let main = |line: &str| Case::of(&with("[provider.main]", line)).settings();
    let settings = main("response_mode = \"form_post\"");
    assert_eq!((settings.providers[0].flow, settings.providers[0].response_mode), (Flow::Code, ResponseMode::FormPost));
    assert!(settings.warnings.is_empty());
    let settings = main("flow = \"implicit_form_post\"");
    assert_eq!(settings.providers[0].response_mode, ResponseMode::FormPost);
    assert!(settings.warnings[0].contains("RFC 9700 §2.1.2"), "{:?}", settings.warnings);
    let query = with("[provider.main]", "flow = \"implicit_form_post\"\nresponse_mode = \"query\"");
    assert_eq!(only_problem(&query).key, "provider.main.response_mode");
    let plain = with("[provider.main]", "response_mode = \"form_post\"")
        .replace("https://app.example.com", "http://localhost:1");
    assert!(Case::of(&plain).settings().warnings[0].contains("plain http"));
}

#[test]
fn a_hand_over_needs_a_store_and_no_shared_cookie() {
    let session = |lines: &str| with("[session]", lines);
    assert!(Case::of(&session("hand_over = true\nstore = \"memory\"")).settings().session.hand_over);
    for lines in ["hand_over = true", "hand_over = true\nstore = \"memory\"\ncookie_domain = \"example.com\""] {
        assert_eq!(only_problem(&session(lines)).key, "session.hand_over", "{lines}");
    }
}

#[test]
fn what_a_route_presents_upstream() {
    let auth = |lines: &str| format!("{LEAST}[route.upstream_auth]\n{lines}\n");
    let read = |lines: &str| Case::of(&auth(lines)).settings().routes[0].upstream_auth.clone();
    assert_eq!(read(""), UpstreamAuth::None);
    assert_eq!(read("kind = \"none\""), UpstreamAuth::None);
    assert_eq!(read("kind = \"access_token\""), UpstreamAuth::AccessToken);
    assert_eq!(read("kind = \"id_token\""), UpstreamAuth::IdToken);
    assert_eq!(read("kind = \"assertion\""), UpstreamAuth::Assertion);
    let password = "hunter2".to_owned().into();
    let basic = UpstreamAuth::Basic { username: "door".to_owned(), password };
    assert_eq!(read("kind = \"basic\"\nusername = \"door\"\npassword = \"hunter2\""), basic);
    let request = TokenRequest {
        provider: 0,
        scopes: vec!["a".to_owned(), "b".to_owned()],
        audience: Some("api".to_owned()),
        resource: Some("https://api.example.com".to_owned()),
    };
    let more = "scopes = [\"a\", \"b\"]\naudience = \"api\"\nresource = \"https://api.example.com\"";
    let wanted = read(&format!("kind = \"client_credentials\"\n{more}"));
    assert_eq!(wanted, UpstreamAuth::ClientCredentials(request.clone()));
    let wanted = read(&format!("kind = \"token_exchange\"\nprovider = \"main\"\n{more}"));
    assert_eq!(wanted, UpstreamAuth::TokenExchange(request));

    for (lines, key) in [
        ("kind = \"bearer\"", "kind"),
        ("provider = \"main\"", "provider"),
        ("kind = \"access_token\"\nscopes = [\"a\"]", "scopes"),
        ("kind = \"assertion\"\naudience = \"a\"", "audience"),
        ("kind = \"client_credentials\"\npassword = \"hunter2\"", "password"),
        ("kind = \"client_credentials\"\nprovider = \"other\"", "provider"),
        ("kind = \"client_credentials\"\nscopes = [\"a b\"]", "scopes[1]"),
        ("kind = \"token_exchange\"\nresource = \"api\"", "resource"),
        ("kind = \"token_exchange\"\nresource = \"https://a/#b\"", "resource"),
        ("kind = \"basic\"\nusername = \"a\"", "password"),
        ("kind = \"basic\"\npassword = \"hunter2\"", "username"),
        ("kind = \"basic\"\nusername = \"a:b\"\npassword = \"hunter2\"", "username"),
        ("kind = \"none\"\nusernam = \"a\"", "usernam"),
    ] {
        let problem = only_problem(&auth(lines));
        assert_eq!(problem.key, format!("route[1].upstream_auth.{key}"), "{lines}: {problem}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
    for kind in ["access_token", "id_token", "assertion", "token_exchange"] {
        let text = with("[[route]]", "access = \"public\"") + &format!("[route.upstream_auth]\nkind = \"{kind}\"\n");
        assert_eq!(only_problem(&text).key, "route[1].upstream_auth.kind", "{kind}");
    }
    let without_openid = with("[[route]]", "provider = \"github\"") + GITHUB;
    let problem = only_problem(&format!("{without_openid}[route.upstream_auth]\nkind = \"id_token\"\n"));
    assert!(problem.message.contains("provider github"), "{problem}");
    let implicit = with("[provider.main]", "flow = \"implicit_form_post\"");
    for (kind, fits) in [("access_token", false), ("token_exchange", false), ("id_token", true), ("assertion", true)] {
        let case = Case::of(&format!("{implicit}[route.upstream_auth]\nkind = \"{kind}\"\n"));
        let found = load(&case.sources).err().map(|p| p.iter().next().unwrap().key.clone());
        assert_eq!(found.as_deref(), (!fits).then_some("route[1].upstream_auth.kind"), "{kind}");
    }
    let public = with("[provider.main]", "client_secret = \"\"").replace("client_secret = \"\"\n", "");
    let problem = only_problem(&format!("{public}[route.upstream_auth]\nkind = \"client_credentials\"\n"));
    assert!(problem.message.contains("no secret"), "{problem}");
}

#[test]
fn gx_09_a_credential_for_the_upstream_does_not_travel_in_the_clear() {
    let plain = with("[[route]]", "upstream = \"http://app.internal:3000\"");
    let auth = |more: &str| format!("{plain}[route.upstream_auth]\nkind = \"access_token\"\n{more}\n");
    assert_eq!(only_problem(&auth("")).key, "route[1].upstream_auth.kind");
    assert_eq!(Case::of(&auth("insecure = true")).settings().warnings.len(), 1);
    for upstream in ["https://app.internal", "unix:/run/app.sock", "http://127.0.0.1:3000", "http://localhost:3000"] {
        let text = with("[[route]]", &format!("upstream = \"{upstream}\""));
        let text = format!("{text}[route.upstream_auth]\nkind = \"access_token\"\n");
        assert!(Case::of(&text).settings().warnings.is_empty(), "{upstream}");
    }
}

#[test]
fn later_layers_win() {
    let mut case = Case::of(&with("[session]", "lifetime = \"10h\""))
        .env("DOORWARD_SESSION__LIFETIME", "8h")
        .env("DOORWARD_SERVER__WORKERS", "3")
        .env("DOORWARD_TELEMETRY__ACCESS_LOG", "false")
        .env("DOORWARD_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8")
        .env("DOORWARD_PROVIDER__MAIN__CLIENT_ID", "0123")
        .env("DOORWARD_PROVIDER__MAIN__SCOPES", "[\"openid\", \"groups\"]")
        .env("DOORWARD_CONFIG", "/elsewhere")
        .env("DOORWARD_", "x")
        .env("DOORWARD_SERVICE_HOST", "10.0.0.1")
        .env("DOORWARD_PORT", "tcp://10.0.0.1:4180")
        .env("DOORWARD_PORT_4180_TCP_ADDR", "10.0.0.1");
    case.sources.flags.issuer = Some("https://flag.example.com".to_owned());
    case.sources.flags.upstream = Some("unix:/run/app.sock".to_owned());
    let settings = case.settings();
    assert_eq!(settings.session.lifetime, Duration::from_secs(8 * 3600));
    assert_eq!(settings.server.workers, 3);
    assert!(!settings.telemetry.access_log);
    assert_eq!(settings.server.trusted_proxies.len(), 2);
    assert_eq!(settings.providers[0].client_id, "0123");
    assert_eq!(settings.providers[0].scopes, ["openid", "groups"]);
    assert_eq!(settings.providers[0].issuer, "https://flag.example.com");
    assert_eq!(settings.routes[0].upstream.targets, [Target::Unix("/run/app.sock".into())]);
}

#[test]
fn problems_name_the_layer() {
    let mut case = Case::of(LEAST).env("DOORWARD_SESSION__LIFETIME", "soon");
    case.sources.flags.issuer = Some("id.example.com".to_owned());
    let problems = case.problems();
    let sources: Vec<&str> = problems.iter().map(|p| p.source.as_str()).collect();
    assert_eq!(sources, ["flag --issuer", "environment DOORWARD_SESSION__LIFETIME"]);

    let text = format!("{LEAST}[[route]]\npath = \"/b\"\nupstream = \"status:204\"\naccess = \"public\"\n");
    let mut case = Case::of(&text);
    case.sources.flags.upstream = Some("http://h".to_owned());
    assert_eq!(case.problems().iter().next().unwrap().key, "--upstream");
}

#[test]
fn secrets_come_from_files_and_variables() {
    let case = Case::of("");
    let secret = case.path().join("secret");
    let write = |value: &str| {
        let line = format!("client_secret = {value}");
        std::fs::write(case.sources.file.as_ref().unwrap(), with("[provider.main]", &line)).unwrap();
    };
    let read = |case: &Case| case.settings().providers[0].client_secret.clone().unwrap();

    std::fs::write(&secret, "  from file \n").unwrap();
    write(&format!("{{ file = {:?} }}", secret.display().to_string()));
    assert_eq!(read(&case).expose(), "  from file ");
    std::fs::write(&secret, "\n").unwrap();
    assert!(case.problems().to_string().contains("is empty"));
    std::fs::remove_file(&secret).unwrap();
    assert_eq!(case.problems().iter().next().unwrap().key, "provider.main.client_secret.file");

    write("{ env = \"THE_SECRET\" }");
    assert!(case.problems().to_string().contains("THE_SECRET is not set"));
    let case = case.env("THE_SECRET", "from env");
    assert_eq!(read(&case).expose(), "from env");
    let write = |value: &str| {
        let line = format!("client_secret = {value}");
        std::fs::write(case.sources.file.as_ref().unwrap(), with("[provider.main]", &line)).unwrap();
    };
    write("{ env = \"THE_SECRET\", file = \"/x\" }");
    assert!(case.problems().to_string().contains("either a file or a variable"));
    write("\"\"");
    assert!(case.problems().to_string().contains("is empty"));
}

#[test]
fn zx_06_no_message_and_no_debug_holds_a_secret() {
    const SECRET: &str = "hunter2-hunter2";
    for text in [
        format!("{LEAST}\nclient_secert = \"{SECRET}\"\n"),
        with("[provider.main]", &format!("client_secert = \"{SECRET}\"")),
        with("[provider.main]", &format!("client_secret = [\"{SECRET}\"]")),
        with("[provider.main]", &format!("client_secret = {SECRET}")),
        with("[provider.main]", &format!("client_secret = \"{SECRET}")),
        with("[provider.main]", &format!("client_secret = {{ env = \"{SECRET}\" }}")),
        with("[provider.main]", &format!("client_secret = {{ file = \"{SECRET}\" }}")),
        with("[provider.main]", &format!("client_secret = {{ value = \"{SECRET}\" }}")),
        with("[session]", &format!("keys = [\"{SECRET}\"]")),
        with("[[route]]", &format!("upstream = \"http://u:{SECRET}@h/\"")),
    ] {
        let problems = Case::of(&text).problems();
        assert!(!problems.to_string().contains("hunter2"), "{problems}");
        assert!(!format!("{problems:?}").contains("hunter2"), "{problems}");
    }
    let case = Case::of(LEAST).env("DOORWARD_PROVIDER__MAIN__CLIENT_SECERT", SECRET);
    assert!(!case.problems().to_string().contains("hunter2"));

    let settings = format!("{:#?}", Case::of(LEAST).settings());
    assert!(!settings.contains("s3cret") && !settings.contains("AAECAw"), "{settings}");
}

#[test]
fn without_a_file_flags_are_enough() {
    let state = TempDir::new().unwrap();
    let directory = state.path().join("doorward");
    let mut sources = Sources { flags: flags(), ..Sources::default() };
    sources.env.push(("XDG_STATE_HOME".to_owned(), state.path().display().to_string()));
    let settings = load(&sources).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(settings.server.public_url.as_str(), "http://127.0.0.1:4180");
    assert_eq!(settings.server.listen, [Listen::Tcp("127.0.0.1:4180".parse().unwrap())]);
    assert!(settings.admin.is_none());
    assert_eq!(settings.session.cookie, "doorward");
    assert!(matches!(settings.routes[0].access, Access::Authenticated));

    let file = directory.join("session-key");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    let names: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["session-key"]);
    let again = load(&sources).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(settings.session.keys, again.session.keys);

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(load(&sources).unwrap_or_else(|p| panic!("{p}")).warnings.len(), 1);
    sources.flags.listen = Some("127.0.0.1:8080".to_owned());
    assert_eq!(load(&sources).unwrap().server.public_url.as_str(), "http://127.0.0.1:8080");
    std::fs::write(&file, "short\n").unwrap();
    assert_eq!(load(&sources).expect_err("short").iter().next().unwrap().key, "session.keys");
}

#[test]
fn without_a_file_what_is_missing_names_its_flag_and_no_key_is_made() {
    let state = TempDir::new().unwrap();
    let mut sources = Sources::default();
    sources.env.push(("STATE_DIRECTORY".to_owned(), state.path().display().to_string()));
    let problems = load(&sources).expect_err("nothing is given");
    let text = problems.to_string();
    for flag in ["--issuer", "--client-id", "--upstream"] {
        assert!(text.contains(flag), "{text}");
    }
    assert_eq!(problems.count(), 3, "{text}");
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
}

#[test]
fn two_that_start_at_once_keep_one_key() {
    let state = TempDir::new().unwrap();
    let mut sources = Sources { flags: flags(), ..Sources::default() };
    sources.env.push(("STATE_DIRECTORY".to_owned(), state.path().display().to_string()));
    let keys: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| load(&sources).unwrap().session.keys)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|k| k == &keys[0]));
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("x.toml");
    let nothing = |_: &str| None;
    let variable = |name: &str| (name == "DOORWARD_CONFIG").then(|| file.display().to_string());
    assert_eq!(
        find_file(Some(file.clone()), &nothing).expect_err("none").iter().next().unwrap().source,
        "flag --config"
    );
    assert!(find_file(None, &variable).is_err());
    std::fs::write(&file, LEAST).unwrap();
    assert_eq!(find_file(None, &variable), Ok(Some(file.clone())));
    let sources = Sources { file: Some(PathBuf::from("/nowhere/x.toml")), ..Sources::default() };
    assert!(load(&sources).expect_err("none").to_string().contains("cannot be read"));
}

#[test]
fn an_empty_variable_is_no_variable() {
    let names =
        ["SERVER__LISTEN", "SERVER__WORKERS", "SESSION__LIFETIME", "TELEMETRY__ACCESS_LOG", "SESSION__COOKIE_DOMAIN"];
    let case = names.iter().fold(Case::of(LEAST), |case, name| case.env(&format!("DOORWARD_{name}"), ""));
    assert_eq!(format!("{:?}", case.settings()), format!("{:?}", Case::of(LEAST).settings()));
    assert!(Case::of(LEAST).env("DOORWARD_ADMIN__LISTEN", "").settings().admin.is_none());
}

/// `LEAST` with a second route whose rules are `lines`.
fn ruled(lines: &str) -> String {
    format!(
        "{LEAST}\n[[route]]\nname = \"second\"\npath = \"/x\"\nupstream = \"status:204\"\naccess = \"policy\"\n{lines}\n"
    )
}

fn rules_of(lines: &str) -> doorward::config::settings::Policy {
    let settings = Case::of(&ruled(lines)).settings();
    let Access::Policy(policy) = &settings.routes[1].access else { panic!("{:?}", settings.routes[1].access) };
    policy.clone()
}

#[test]
fn every_key_of_a_rule_is_read() {
    let policy = rules_of(
        r#"allow = [{ user = "u", email = "A@b.c", email_domain = ["B.c"], group = "g", claim.department = "sales", scope = ["read", "write"], provider = "main", issuer = ["main"], client = "robot", network = ["10.0.0.7/8", "fd00::1"], method = ["GET", "POST"] }]"#,
    );
    let rule = &policy.allow[0];
    assert_eq!((rule.user.as_slice(), rule.email.as_slice()), (&["u".to_owned()][..], &["a@b.c".to_owned()][..]));
    assert_eq!((rule.email_domain[0].as_str(), rule.group[0].as_str()), ("b.c", "g"));
    assert_eq!(rule.claims, [("department".to_owned(), vec!["sales".to_owned()])]);
    assert_eq!((rule.scope.len(), rule.provider[0].as_str(), rule.issuer[0].as_str()), (2, "main", "main"));
    assert_eq!((rule.client[0].as_str(), rule.method.len()), ("robot", 2));
    let networks: Vec<String> = rule.network.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "fd00::1/128"]);
    assert_eq!(policy.name, None);
}

#[test]
fn claims_are_named_by_tables_or_by_quoted_keys() {
    let policy = rules_of(
        r#"
        allow = [
          { claim.department = ["a", "b"], claim.realm_access.level = 7 },
          { "claim.department" = "a", "claim.realm_access.level" = [7, true] },
          { claim = { "https://example.com/team" = false } },
        ]
        deny = [{ claim.left = true }]"#,
    );
    let claims = |n: usize| {
        let claims = policy.allow[n].claims.iter().map(|(path, texts)| format!("{path}={}", texts.join(",")));
        claims.collect::<Vec<_>>()
    };
    assert_eq!(claims(0), ["department=a,b", "realm_access.level=7"]);
    assert_eq!(claims(1), ["department=a", "realm_access.level=7,true"]);
    assert_eq!(claims(2), ["https://example.com/team=false"]);
    assert_eq!(policy.deny[0].claims, [("left".to_owned(), vec!["true".to_owned()])]);
    let text = format!(
        "{}[policy.unused]\nallow = [{{ claim.never = 1 }}]",
        ruled("allow = [{ claim.b.c = 1, claim.a = 1 }]")
    );
    let settings = Case::of(&text).settings();
    assert_eq!(settings.rule_claims, ["a", "b.c"]);
    assert_eq!(settings.kept_claims(), ["a", "b.c"]);
}

#[test]
fn rules_that_say_nothing_or_name_nothing_are_refused() {
    let deep = format!("{{ claim.{} = 1 }}", vec!["a"; 30].join("."));
    for (rule, key) in [
        ("{ }", "route[2].allow[1]"),
        ("{ claim = \"x\" }", "route[2].allow[1].claim"),
        ("{ claim = { } }", "route[2].allow[1].claim"),
        ("{ claim.a = { } }", "route[2].allow[1].claim.a"),
        ("{ claim.a = [] }", "route[2].allow[1].claim.a"),
        ("{ claim.a = \"\" }", "route[2].allow[1].claim.a[1]"),
        ("{ claim.a = 1.5 }", "route[2].allow[1].claim.a"),
        ("{ claim.a = [1, 1.5] }", "route[2].allow[1].claim.a[2]"),
        ("{ claim.a = [[1]] }", "route[2].allow[1].claim.a[1]"),
        ("{ \"claim.\" = 1 }", "route[2].allow[1].claim."),
        ("{ \"claim.a..b\" = 1 }", "route[2].allow[1].claim.a..b"),
        ("{ claim.a = 1, \"claim.a\" = 2 }", "route[2].allow[1].claim.a"),
        ("{ \"claims.a\" = 1, user = \"u\" }", "route[2].allow[1].claims.a"),
        (deep.as_str(), "route[2].allow[1].claim.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"),
        ("{ scope = \"read write\" }", "route[2].allow[1].scope[1]"),
        ("{ scope = [] }", "route[2].allow[1].scope"),
        ("{ provider = \"other\" }", "route[2].allow[1].provider[1]"),
        ("{ issuer = \"https://id.example.com\" }", "route[2].allow[1].issuer[1]"),
        ("{ client = [\"\"] }", "route[2].allow[1].client[1]"),
        ("{ network = \"10.0.0\" }", "route[2].allow[1].network[1]"),
        ("{ network = \"::ffff:10.0.0.0/104\" }", "route[2].allow[1].network[1]"),
        ("{ network = [] }", "route[2].allow[1].network"),
        ("{ method = \"get\" }", "route[2].allow[1].method[1]"),
    ] {
        let problem = only_problem(&ruled(&format!("allow = [{rule}]")));
        assert_eq!(problem.key, key, "{rule}: {problem}");
        assert!(problem.hint.ends_with('.') || problem.hint.ends_with('?'), "{problem}");
    }
}

#[test]
fn rules_and_headers_name_certificates_only_where_clients_are_asked_for_them() {
    let tls = "[server.tls]\ncert = \"c\"\nkey = \"k\"\nclient_ca = \"ca\"\n";
    let rule = |names: &str| ruled(&format!("deny = [{{ certificate = {names} }}]"));
    let all =
        r#"["dns:Build.example.com.", "ip:::ffff:192.0.2.1", "email:CI@example.com", "uri:x:Y", "subject:cn=a, O=b"]"#;
    let settings = Case::of(&format!("{}{tls}", rule(all))).settings();
    let Access::Policy(policy) = &settings.routes[1].access else { panic!("{:?}", settings.routes[1].access) };
    let want = ["dns:build.example.com", "ip:192.0.2.1", "email:ci@example.com", "uri:x:Y", "subject:CN=a,O=b"];
    assert_eq!(policy.deny[0].certificate, want);
    for names in ["\"build.example.com\"", "\"dns:*.example.com\"", "\"subject:CN\"", "\"cn:a\""] {
        let problem = only_problem(&format!("{}{tls}", rule(names)));
        assert_eq!(problem.key, "route[2].deny[1].certificate[1]", "{problem}");
    }
    let problem = only_problem(&rule("\"dns:build.example.com\""));
    assert_eq!(problem.key, "route[2].deny[1].certificate[1]");
    assert!(problem.hint.contains("client_ca"), "{problem}");

    let told = |identity: &str| {
        let route = "[[route]]\npath = \"/x\"\nupstream = \"status:204\"\naccess = \"public\"";
        format!("{LEAST}\n{route}\nidentity = {identity}\n")
    };
    let settings = Case::of(&format!("{}{tls}", told("[\"client-cert\"]"))).settings();
    assert!(settings.routes[1].client_cert && settings.routes[1].identity.is_empty());
    assert!(!settings.routes[0].client_cert);
    let problem = only_problem(&told("[\"client-cert\"]"));
    assert!(problem.key == "route[2].identity" && problem.hint.contains("client_ca"), "{problem}");
    let problem = only_problem(&format!("{}{tls}", told("[\"client-cert\", \"remote\"]")));
    assert!(problem.key == "route[2].identity" && problem.message.contains("public"), "{problem}");
}

#[test]
fn the_proxy_protocol_needs_somebody_to_speak_it() {
    let with = |lines: &str| with("[server]", &format!("proxy_protocol = true\n{lines}"));
    assert_eq!(only_problem(&with("")).key, "server.proxy_protocol");
    for lines in ["trusted_proxies = [\"10.0.0.1\"]", "listen = [\"unix:/run/doorward.sock\"]", "listen = [\"fd:3\"]"] {
        assert!(Case::of(&with(lines)).settings().server.proxy_protocol, "{lines}");
    }
}

#[test]
fn a_route_that_only_observes_is_a_warning() {
    let settings = Case::of(&ruled("mode = \"observe\"\nallow = [{ user = \"u\" }]")).settings();
    assert_eq!(settings.routes[1].mode, doorward::config::settings::Mode::Observe);
    assert_eq!(settings.warnings.len(), 1);
    assert!(settings.warnings[0].starts_with("route[2] (second): mode"), "{:?}", settings.warnings);
    assert!(Case::of(&ruled("mode = \"enforce\"\nallow = [{ user = \"u\" }]")).settings().warnings.is_empty());
    assert_eq!(only_problem(&with("[[route]]", "mode = \"observe\"")).key, "route[1].mode");
    assert_eq!(only_problem(&with("[[route]]", "mode = \"watch\"")).key, "route[1].mode");
}

#[test]
fn what_a_step_up_requires_fits_into_a_challenge() {
    for acr in ["a b", "a\\\"b", "é", ""] {
        let problem = only_problem(&with("[[route]]", &format!("require = {{ acr = [\"{acr}\"] }}")));
        assert_eq!(problem.key, "route[1].require.acr[1]", "{acr}");
    }
}

/// `LEAST` with an `[issuer.ci]` and a second route that takes tokens.
fn with_tokens(issuer: &str, machine: &str) -> String {
    format!(
        "{LEAST}\n[[route]]\npath = \"/api\"\nupstream = \"status:204\"\naccess = \"authenticated\"\n\
         [route.machine]\n{machine}\n[issuer.ci]\n{issuer}\n"
    )
}

const CI: &str = "issuer = \"https://ci.example.com\"\naudience = \"deploy\"";

#[test]
fn an_issuer_of_machine_tokens_in_full() {
    let issuer = r#"
        issuer = "kubernetes/serviceaccount"
        jwks_url = "https://kubernetes.default.svc/openid/v1/jwks"
        audience = ["deploy", "api"]
        algorithms = ["RS256", "EdDSA"]
        clock_skew = "1m"
        timeout = "3s"
        ca = "/ca.crt"
        claims = { user = "a.b" }
    "#;
    let settings =
        Case::of(&with_tokens(issuer, "issuers = [\"ci\", \"main\"]\naudience = \"api\"\nrfc9068 = true")).settings();
    let ci = &settings.issuers[0];
    assert_eq!(
        (ci.name.as_str(), ci.issuer.as_str(), ci.claims.user.as_str()),
        ("ci", "kubernetes/serviceaccount", "a.b")
    );
    assert_eq!((ci.audience.len(), ci.algorithms.len(), ci.timeout), (2, 2, Duration::from_secs(3)));
    let machine = settings.routes[1].machine.as_ref().unwrap();
    assert_eq!(machine.issuers, [TokenIssuer::Issuer(0), TokenIssuer::Provider(0)]);
    assert!(machine.rfc9068 && machine.resource_metadata && settings.routes[0].machine.is_none());
    let alone = Case::of(&with_tokens(CI, "issuers = \"ci\"")).settings();
    assert!(alone.routes[1].machine.as_ref().unwrap().audience.is_empty(), "the section's own audience is enough");
}

#[test]
fn at_01_j_01_j_16_what_would_let_in_too_many_tokens_is_a_problem() {
    let audience = "audience = \"deploy\"";
    for (issuer, machine, key) in [
        ("issuer = \"https://ci.example.com\"", "issuers = \"ci\"", "issuer.ci.audience"),
        ("issuer = \"https://ci.example.com\"\naudience = []", "issuers = \"ci\"", "issuer.ci.audience"),
        ("issuer = \"https://ci.example.com\"\naudience = [\"a*\"]", "issuers = \"ci\"", "issuer.ci.audience[1]"),
        (audience, "issuers = \"ci\"", "issuer.ci.issuer"),
        (&format!("{audience}\njwks_url = \"https://h/k\""), "issuers = \"ci\"", "issuer.ci.issuer"),
        (&format!("{audience}\nissuer = \"http://ci.example.com\""), "issuers = \"ci\"", "issuer.ci.issuer"),
        (&format!("{CI}\njwks_url = \"http://ci.example.com/k\""), "issuers = \"ci\"", "issuer.ci.jwks_url"),
        (&format!("{CI}\nalgorithms = [\"HS256\"]"), "issuers = \"ci\"", "issuer.ci.algorithms[1]"),
        (&format!("{CI}\nalgorithms = [\"none\"]"), "issuers = \"ci\"", "issuer.ci.algorithms[1]"),
        (&format!("{CI}\nclock_skew = \"6m\""), "issuers = \"ci\"", "issuer.ci.clock_skew"),
        (&format!("{CI}\njwks_uri = \"https://h/k\""), "issuers = \"ci\"", "issuer.ci.jwks_uri"),
        (CI, "issuers = \"main\"", "route[2].machine.audience"),
        (CI, "issuers = \"main\"\naudience = []", "route[2].machine.audience"),
        (CI, "issuers = \"main\"\naudience = \"*\"", "route[2].machine.audience[1]"),
        (CI, "issuers = \"other\"", "route[2].machine.issuers[1]"),
        (CI, "issuers = []", "route[2].machine.issuers"),
        (CI, "audience = \"api\"", "route[2].machine.issuers"),
        (CI, "basic = \"off\"", "route[2].machine.issuers"),
        (CI, "issuers = [\"ci\", \"ci\"]", "route[2].machine.issuers"),
        (CI, "issuers = \"ci\"\nrfc9086 = true", "route[2].machine.rfc9086"),
        (CI, "introspect = \"main\"", "route[2].machine.audience"),
        (CI, "introspect = \"ci\"\naudience = \"a\"", "route[2].machine.introspect"),
        (CI, "issuers = \"ci\"\nbasic = \"on\"", "route[2].machine.basic"),
        (CI, "issuers = \"ci\"\nbasic_provider = \"main\"", "route[2].machine.basic_provider"),
    ] {
        let problem = only_problem(&with_tokens(issuer, machine));
        assert_eq!(problem.key, key, "{issuer} {machine}: {problem}");
    }
    let same_name = with_tokens(CI, "issuers = \"ci\"").replace("[issuer.ci]", "[issuer.main]");
    assert!(Case::of(&same_name).problems().iter().any(|p| p.key == "issuer.main"));
    let public =
        with_tokens(CI, "issuers = \"ci\"").replace("204\"\naccess = \"authenticated\"", "204\"\naccess = \"public\"");
    assert_eq!(only_problem(&public).key, "route[2].machine");
    let insecure = format!("{CI}\njwks_url = \"http://ci.example.com/k\"\ninsecure = true");
    assert_eq!(Case::of(&with_tokens(&insecure, "issuers = \"ci\"")).settings().warnings.len(), 1);
}

#[test]
fn o_12_the_password_grant_is_off_and_warns() {
    let machine = |lines: &str| {
        let settings = Case::of(&with_tokens(CI, lines)).settings();
        (settings.routes[1].machine.clone().unwrap(), settings.warnings.len())
    };
    let (off, warnings) = machine("issuers = \"ci\"\nintrospect = \"main\"\naudience = \"api\"");
    assert_eq!((off.basic, off.introspect, warnings), (None, Some(0), 0));
    let (on, warnings) = machine("basic = \"password_grant\"");
    assert_eq!((on.basic, on.issuers.len(), warnings), (Some(0), 0, 1));
    let second = "\n[provider.second]\nissuer = \"https://two.example.com\"\nclient_id = \"d\"\n";
    let several = |lines: &str| {
        format!("{}{second}", with_tokens(CI, lines)).replace("path = \"/", "provider = \"main\"\npath = \"/")
    };
    assert_eq!(only_problem(&several("basic = \"password_grant\"")).key, "route[2].machine.basic_provider");
    let named = several("basic = \"password_grant\"\nbasic_provider = \"second\"");
    assert_eq!(Case::of(&named).settings().routes[1].machine.as_ref().unwrap().basic, Some(1));
}

/// Whatever is watched for changes: the file itself, and every file that it names, read here or later.
#[test]
fn every_file_that_a_configuration_names_is_known() {
    let place = TempDir::new().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    std::fs::write(at("secret"), "s3cret-of-the-client").unwrap();
    std::fs::write(at("session"), KEY).unwrap();
    let text = format!(
        r#"
[server]
public_url = "https://app.example.com"
[server.tls]
cert = "{cert}"
key = "{key}"
ocsp = "{ocsp}"
client_ca = "{client_ca}"
[[server.tls.sni]]
cert = "{sni_cert}"
key = "{sni_key}"
[provider.main]
issuer = "https://id.example.com"
client_id = "doorward"
client_secret = {{ file = "{secret}" }}
ca = "{provider_ca}"
[issuer.ci]
issuer = "https://ci.example.com"
audience = ["a"]
ca = "{issuer_ca}"
[session]
keys = [{{ file = "{session}" }}]
[[route]]
path = "/"
upstream = "https://127.0.0.1:3000"
access = "authenticated"
upstream_options = {{ ca = "{up_ca}", client_cert = "{up_cert}", client_key = "{up_key}" }}
"#,
        cert = at("1"),
        key = at("2"),
        ocsp = at("3"),
        client_ca = at("4"),
        sni_cert = at("5"),
        sni_key = at("6"),
        secret = at("secret"),
        provider_ca = at("7"),
        issuer_ca = at("8"),
        session = at("session"),
        up_ca = at("9"),
        up_cert = at("10"),
        up_key = at("11"),
    );
    let case = Case::of(&text);
    let mut known: Vec<PathBuf> = case.settings().files.0;
    known.sort();
    let named = (1..=11).map(|n| n.to_string()).chain(["secret".to_owned(), "session".to_owned()]);
    let mut wanted: Vec<PathBuf> = named.map(|name| at(&name).into()).chain(case.sources.file.clone()).collect();
    wanted.sort();
    assert_eq!(known, wanted);

    // One that is not there is what may be the correction when it comes.
    std::fs::remove_file(at("secret")).unwrap();
    assert!(case.problems().files().contains(&at("secret").into()));
    std::fs::write(case.sources.file.as_ref().unwrap(), "not TOML").unwrap();
    assert_eq!(case.problems().files(), [case.sources.file.unwrap()]);
}

#[test]
fn an_address_is_listened_on_once_and_redirects_lead_to_https() {
    let tls = "[server.tls]\ncert = \"/c\"\nkey = \"/k\"\n";
    let twice = with("[server]", "listen = [\"127.0.0.1:1\", \"unix:/s\", \"127.0.0.1:1\"]");
    assert_eq!(only_problem(&twice).message, "names 127.0.0.1:1 twice");
    let any = with("[server]", "listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]");
    assert_eq!(Case::of(&any).settings().server.listen.len(), 2);
    let both = format!("{LEAST}{tls}redirect_listen = [\"0.0.0.0:4180\"]\n");
    assert_eq!(only_problem(&both).key, "server.tls.redirect_listen");
    let admin = format!("{LEAST}{tls}redirect_listen = [\"127.0.0.1:9180\"]\n[admin]\nlisten = \"127.0.0.1:9180\"\n");
    assert_eq!(only_problem(&admin).key, "admin.listen");
    let plain = both.replace("0.0.0.0:4180", "0.0.0.0:80").replace("https://app.example.com", "http://localhost");
    let problem = only_problem(&plain);
    assert_eq!((problem.key.as_str(), problem.source.contains("doorward.toml")), ("server.tls.redirect_listen", true));
}
