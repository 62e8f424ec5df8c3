//! What a configuration of oauth2-proxy leaves to variables: filled in where a file has it, kept where it is a secret, and an
//! error where nobody would know who may pass.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

use doorward::migrate::{Input, Migration, Note, oauth2_proxy};

fn migrated(files: &[&str]) -> Migration {
    let input = |(n, text): (usize, &&str)| Input { name: format!("file{n}"), text: (*text).to_owned() };
    let inputs: Vec<Input> = files.iter().enumerate().map(input).collect();
    oauth2_proxy(&inputs, None).map_err(|note| note.text).unwrap()
}

fn written(files: &[&str]) -> String {
    let migration = migrated(files);
    migration.config.unwrap_or_else(|| panic!("{:?}", migration.refusals))
}

fn says(notes: &[Note], key: &str, part: &str) -> bool {
    notes.iter().any(|note| note.key == key && note.text.contains(part))
}

/// A container with these arguments beside what every one needs.
fn container(args: &str, env: &str) -> String {
    format!(
        "kind: Deployment\nspec:\n  template:\n    spec:\n      containers:\n      - name: oauth2-proxy\n        args: [--provider=oidc, --client-id=app, \
         --redirect-url=https://app.example.com/oauth2/callback, --upstream=http://app:80/, --email-domain=*, {args}]\n        env: [{env}]\n"
    )
}

const ISSUER: &str = "--oidc-issuer-url=https://id.example.com, --client-secret-file=/s";

#[test]
fn a_container_has_its_own_variables() {
    let config = written(&[&container(
        "--oidc-issuer-url=$(ISSUER), --client-secret=$(SECRET), \"--allowed-group=team-$(TEAM)\", --allowed-group=$(TEAM)",
        "{name: HOST, value: id.example.com}, {name: ISSUER, value: https://$(HOST)}, {name: TEAM, value: ops}, \
         {name: SECRET, value: hunter2}",
    )]);
    assert!(config.contains("issuer = \"https://id.example.com\""), "{config}");
    assert!(config.contains("group = [\"team-ops\", \"ops\"]"), "{config}");
    assert!(config.contains("client_secret = { env = \"SECRET\" }") && !config.contains("hunter2"), "{config}");
}

#[test]
fn what_no_file_has_is_an_error_and_a_text_file_gives_it() {
    let secret_ref = "{name: TEAM, valueFrom: {secretKeyRef: {name: s, key: k}}}";
    for args in
        ["--allowed-group=team-$(TEAM)", "--allowed-group=$(TEAM)", "--allowed-group=a, --allowed-group=$(TEAM)"]
    {
        let manifest = container(&format!("{ISSUER}, {args}"), secret_ref);
        let migration = migrated(&[&manifest]);
        assert!(migration.config.is_none(), "{args}: {:?}", migration.config);
        assert!(says(&migration.refusals, "allowed_groups", "the variable TEAM"), "{args}: {:?}", migration.refusals);
        for order in [[manifest.as_str(), "TEAM=ops\n"], ["TEAM=ops\n", manifest.as_str()]] {
            assert!(written(&order).contains("ops\"]"), "{args}");
        }
    }
    let variable = "{name: OAUTH2_PROXY_ALLOWED_GROUPS, valueFrom: {secretKeyRef: {name: s, key: k}}}";
    let manifest = container(ISSUER, variable);
    assert!(migrated(&[&manifest]).config.is_none());
    for order in
        [[manifest.as_str(), "OAUTH2_PROXY_ALLOWED_GROUPS=ops"], ["OAUTH2_PROXY_ALLOWED_GROUPS=ops", manifest.as_str()]]
    {
        assert!(written(&order).contains("group = [\"ops\"]"));
    }
}

#[test]
fn a_value_that_nobody_knows_is_not_that_of_a_lower_layer() {
    let manifest = container(&format!("{ISSUER}, --allowed-group=$(TEAM)"), "");
    for lower in ["allowed_groups = [\"everybody\"]", "OAUTH2_PROXY_ALLOWED_GROUPS=everybody"] {
        for order in [[manifest.as_str(), lower], [lower, manifest.as_str()]] {
            let migration = migrated(&order);
            assert!(migration.config.is_none(), "{lower}: {:?}", migration.config);
            assert!(says(&migration.refusals, "allowed_groups", "the variable TEAM"), "{:?}", migration.refusals);
        }
    }
}

#[test]
fn a_compose_file_has_defaults_and_an_env_file() {
    let compose = "services:\n  oauth2-proxy:\n    image: quay.io/oauth2-proxy/oauth2-proxy:v7\n    command: --upstream=http://app:80/ --email-domain=*\n    environment:\n      \
         OAUTH2_PROXY_PROVIDER: oidc\n      OAUTH2_PROXY_OIDC_ISSUER_URL: https://${HOST:?say it}/realms/main\n      OAUTH2_PROXY_CLIENT_ID: ${CLIENT_ID:-app}\n      \
         OAUTH2_PROXY_CLIENT_SECRET: ${CLIENT_SECRET}\n      OAUTH2_PROXY_REDIRECT_URL: https://app.example.com/oauth2/callback\n      \
         OAUTH2_PROXY_ALLOWED_GROUPS: ${GROUPS:-admins}\n      OAUTH2_PROXY_SKIP_AUTH_ROUTES: ^/public$$\n";
    let alone = migrated(&[compose]);
    assert!(alone.config.is_none() && says(&alone.refusals, "oidc_issuer_url", "the variable HOST"), "{alone:?}");
    let config = written(&[compose, "HOST=id.example.com\nCLIENT_SECRET=hunter2\n"]);
    for line in [
        "issuer = \"https://id.example.com/realms/main\"",
        "client_id = \"app\"",
        "group = [\"admins\"]",
        "client_secret = { env = \"OAUTH2_PROXY_CLIENT_SECRET\" }",
        "path = \"=/public\"",
    ] {
        assert!(config.contains(line), "{line}: {config}");
    }
    assert!(!["hunter2", "${", "$$"].iter().any(|it| config.contains(it)), "{config}");
    assert!(migrated(&[compose, "HOST=id.${DOMAIN}\n"]).config.is_none(), "one that names another");
    let other = written(&[compose, "# what differs\nGROUPS=\"staff\"\nCLIENT_ID=wiki\nHOST=id.example.com\n"]);
    assert!(other.contains("group = [\"staff\"]") && other.contains("client_id = \"wiki\""), "{other}");
}

#[test]
fn what_is_open_by_a_variable_is_an_error() {
    let compose = |groups: &str| {
        format!(
            "services:\n  oauth2-proxy:\n    command: --upstream=http://app:80/ --email-domain=*\n    environment:\n      OAUTH2_PROXY_PROVIDER: oidc\n      \
             OAUTH2_PROXY_OIDC_ISSUER_URL: https://id.example.com\n      OAUTH2_PROXY_CLIENT_ID: app\n      OAUTH2_PROXY_CLIENT_SECRET: ${{S}}\n      \
             OAUTH2_PROXY_REDIRECT_URL: https://app.example.com/oauth2/callback\n      OAUTH2_PROXY_ALLOWED_GROUPS: {groups}\n"
        )
    };
    for groups in ["${GROUPS:-}", "${GROUPS}"] {
        for more in ["X=1", "GROUPS="] {
            let migration = migrated(&[&compose(groups), more]);
            assert!(migration.config.is_none(), "{groups} {more}: {:?}", migration.config);
        }
        assert!(written(&[&compose(groups), "GROUPS=ops"]).contains("group = [\"ops\"]"));
    }
    // The later of two of a container counts, also where nobody knows it.
    let both = "{name: TEAM, value: everybody}, {name: TEAM, valueFrom: {secretKeyRef: {name: s, key: k}}}";
    assert!(migrated(&[&container(&format!("{ISSUER}, --allowed-group=$(TEAM)"), both)]).config.is_none());
    let name = "OAUTH2_PROXY_ALLOWED_GROUPS";
    let both = format!(
        "{{name: {name}, value: everybody}}, {{name: {name}, valueFrom: {{secretKeyRef: {{name: s, key: k}}}}}}"
    );
    let manifest = container(ISSUER, &both);
    assert!(migrated(&[&manifest]).config.is_none());
    assert!(migrated(&[&manifest, "OAUTH2_PROXY_ALLOWED_GROUPS="]).config.is_none());
}

#[test]
fn a_redis_server_is_never_a_reference() {
    let redis = |url: &str| {
        let args = format!("{ISSUER}, --session-store-type=redis, \"--redis-connection-url={url}\"");
        written(&[&container(&args, "{name: REDIS_PASSWORD, valueFrom: {secretKeyRef: {name: s, key: k}}}")])
    };
    for url in ["redis://:$(REDIS_PASSWORD)@redis:6379", "redis://$(REDIS_HOST):6379", "$(REDIS)"] {
        let config = redis(url);
        assert!(config.contains("url = { env = \"REDIS") && !config.contains('$'), "{url}: {config}");
    }
}

#[test]
fn hosts_without_their_ingress_are_warned_of() {
    let values = "config: {clientID: app, clientSecret: s}\nextraArgs: {provider: oidc, oidc-issuer-url: \"https://id.example.com\", email-domain: \"*\", \
         whitelist-domain: app1.example.com, upstream: \"static://202\"}\ningress: {hosts: [auth.example.com], tls: [{}]}\n";
    let migration = migrated(&[values]);
    assert!(migration.config.is_some(), "{migration:?}");
    assert!(says(&migration.warnings, "whitelist_domains", "[forward_auth] headers"), "{migration:?}");
    let ingress = "kind: Ingress\nmetadata:\n  name: app1\n  annotations:\n    nginx.ingress.kubernetes.io/auth-url: \"https://auth.example.com/oauth2/auth?allowed_groups=\"\n    \
         nginx.ingress.kubernetes.io/auth-signin: https://auth.example.com/oauth2/start\nspec:\n  rules:\n  - host: app1.example.com\n";
    let migration = migrated(&[values, ingress]);
    assert!(!says(&migration.warnings, "whitelist_domains", "[forward_auth] headers"), "{migration:?}");
    assert!(migration.config.as_ref().unwrap().contains("headers = \"x-original\""), "{migration:?}");
    // An empty list lets everybody pass there and nobody here.
    assert!(says(&migration.warnings, "auth-url of Ingress app1", "allowed_groups is empty"), "{migration:?}");
}
