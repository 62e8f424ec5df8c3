//! The forms that a configuration is written in, and how each is told from the others.

use super::*;

fn read_all(texts: &[&str]) -> Options {
    let inputs: Vec<Input> = texts
        .iter()
        .enumerate()
        .map(|(n, text)| Input { name: format!("file{n}"), text: (*text).to_owned() })
        .collect();
    read(&inputs).map_err(|note| note.text).unwrap()
}

fn variable<'a>(options: &'a Options, key: &str) -> Option<&'a str> {
    options.given(key).and_then(|given| given.variable.as_deref())
}

#[test]
fn the_form_is_seen_from_the_text() {
    for text in [
        "# a file\nclient_id = \"app\"\n",
        "CLIENT_ID=\"app\"",
        "--client-id=app\n",
        "OAUTH2_PROXY_CLIENT_ID=app\n",
        "export OAUTH2_PROXY_CLIENT_ID=\"app\"\n",
        "oauth2-proxy --client-id app",
        "providers:\n  - clientID: app\n",
        "services:\n  door:\n    image: quay.io/oauth2-proxy/oauth2-proxy:v7\n    command: --client-id=app\n",
        "services:\n  oauth2-proxy:\n    environment: [OAUTH2_PROXY_CLIENT_ID=app]\n",
        "services:\n  oauth2-proxy:\n    environment:\n      OAUTH2_PROXY_CLIENT_ID: app\n",
        "kind: Pod\nspec:\n  containers:\n  - name: oauth2-proxy\n    args: [--client-id=app]\n",
        "kind: Deployment\nspec:\n  template:\n    spec:\n      containers:\n      - image: x/oauth2-proxy\n        env:\n        - {name: OAUTH2_PROXY_CLIENT_ID, value: app}\n",
        "config:\n  configFile: |-\n    client_id = \"app\"\n",
        "extraArgs:\n  client-id: app\n",
        "extraArgs: [--client-id, app]\n",
    ] {
        let options = read_all(&[text]);
        assert_eq!(options.text("client_id"), Some("app"), "{text}");
    }
}

#[test]
fn lists_in_every_form() {
    for text in [
        "email_domains = [\"a.example\", \"b.example\"]",
        "email_domains = \"a.example,b.example\"",
        "--email-domain=a.example --email-domain=b.example",
        "OAUTH2_PROXY_EMAIL_DOMAINS=a.example,b.example",
    ] {
        assert_eq!(read_all(&[text]).list("email_domains"), ["a.example", "b.example"], "{text}");
    }
}

#[test]
fn flags_win_over_variables_and_these_over_the_file() {
    let file = "client_id = \"file\"\nscope = \"file\"\nprompt = \"file\"";
    let env = "OAUTH2_PROXY_CLIENT_ID=env\nOAUTH2_PROXY_SCOPE=env";
    for order in [[file, env, "--client-id=flag"], ["--client-id=flag", env, file]] {
        let options = read_all(&order);
        let got = ["client_id", "scope", "prompt"].map(|key| options.text(key));
        assert_eq!(got, [Some("flag"), Some("env"), Some("file")]);
    }
    assert_eq!(read_all(&["scope = \"one\"", "scope = \"two\""]).text("scope"), Some("two"));
}

#[test]
fn a_secret_reference_stays_one() {
    let manifest = "kind: Deployment\nspec:\n  template:\n    spec:\n      containers:\n      - name: oauth2-proxy\n        args: [\"--cookie-secret=$(COOKIE)\"]\n        env:\n        - name: OAUTH2_PROXY_CLIENT_SECRET\n          valueFrom: {secretKeyRef: {name: oidc, key: secret}}\n";
    let options = read_all(&[manifest]);
    assert_eq!(variable(&options, "client_secret"), Some("OAUTH2_PROXY_CLIENT_SECRET"));
    assert_eq!(variable(&options, "cookie_secret"), Some("COOKIE"));
    let options = read_all(&["providers:\n- clientSecret: ${CLIENT_SECRET}\n"]);
    assert_eq!(variable(&options, "client_secret"), Some("CLIENT_SECRET"));
}

#[test]
fn a_config_map_holds_the_file() {
    let manifest = "kind: Deployment\nspec:\n  template:\n    spec:\n      containers:\n      - name: oauth2-proxy\n        args: [--config=/etc/o/oauth2_proxy.cfg]\n---\nkind: ConfigMap\nmetadata: {name: conf}\ndata:\n  oauth2_proxy.cfg: |\n    client_id = \"app\"\n    nonsense = 1\n";
    let options = read_all(&[manifest]);
    assert_eq!(options.text("client_id"), Some("app"));
    let keys: Vec<_> = options.notes.iter().map(|note| note.key.as_str()).collect();
    assert_eq!(keys, ["nonsense"], "and the file that is named is not missed: {:?}", options.notes);
    let alone = read_all(&["--config=/etc/o/oauth2_proxy.cfg --provider=oidc"]);
    assert!(alone.notes.iter().any(|note| note.text.contains("oauth2_proxy.cfg")), "{:?}", alone.notes);
}

#[test]
fn the_structured_form() {
    let alpha = "server:\n  BindAddress: 0.0.0.0:4180\nproviders:\n- id: x\n  provider: oidc\n  clientID: ${ID}\n  oidcConfig:\n    issuerURL: https://${HOST}/realms/main\n    shiny: true\n  loginURLParameters:\n  - name: prompt\n    default: [login]\n- id: y\nupstreamConfig:\n  upstreams:\n  - {id: a, path: /, uri: 'http://app:8080', timeout: 5s}\ninjectRequestHeaders:\n- name: X-Forwarded-User\n  values: [{claimSource: {claim: user}}]\n- name: X-Old\n  values: [{claim: email, prefix: 'mail '}]\n- name: X-Fixed\n  values: [{secretSource: {value: c2VjcmV0}}]\n";
    let options = read_all(&[
        alpha,
        "kind: Pod\nspec:\n  containers:\n  - name: oauth2-proxy\n    env:\n    - {name: HOST, value: id.example}\n",
    ]);
    assert_eq!(options.text("http_address"), Some("0.0.0.0:4180"));
    assert_eq!(options.text("oidc_issuer_url"), Some("https://id.example/realms/main"));
    assert_eq!(variable(&options, "client_id"), Some("ID"));
    assert_eq!(options.parameters, [("prompt".to_owned(), "login".to_owned())]);
    assert_eq!(options.upstreams.as_ref().map(Vec::len), Some(1));
    let headers = options.request_headers.as_ref().unwrap();
    assert_eq!(
        headers.iter().map(|h| (h.name.as_str(), h.claim.as_str())).collect::<Vec<_>>(),
        [("X-Forwarded-User", "user"), ("X-Old", "email")]
    );
    let keys: Vec<_> = options.notes.iter().map(|note| note.key.as_str()).collect();
    assert_eq!(keys, ["injectRequestHeaders X-Fixed", "provider.oidcconfig.shiny", "providers"]);
}

#[test]
fn a_list_of_addresses_is_one() {
    let options = read_all(&["email_domains = \"*\"", "# staff\nann@example.com\nbob@example.com\n"]);
    assert_eq!(options.emails, ["ann@example.com", "bob@example.com"]);
}

#[test]
fn what_cannot_be_read_is_not_repeated() {
    for text in
        ["client_secret = \"hunter2\nx = 1", "client_secret = hunter2", "providers:\n  - clientSecret: \"hunter2\n"]
    {
        let inputs = [Input { name: "file".to_owned(), text: text.to_owned() }];
        let note = read(&inputs).err().unwrap();
        assert!(note.text.starts_with("file: is not valid") && !note.text.contains("hunter2"), "{}", note.text);
    }
    for text in ["", "# nothing\n", "a: b\n", "kind: Service\n"] {
        assert!(read(&[Input { name: "file".to_owned(), text: text.to_owned() }]).is_err(), "{text:?}");
    }
}

#[test]
fn every_structured_name_is_a_key() {
    for name in alpha::flat_names() {
        assert!(name.is_empty() || keys::named(name).is_some(), "{name}");
    }
}
