//! Configuration: from files, environment and flags to `Settings`. Never used after start-up except through `Settings`.
//!
//! `layers` merges, `read` asks for keys and collects problems, one file a section says which keys there are, `checks`
//! says what must hold between sections. Nothing here opens a socket, and no message holds a secret.

pub mod certificate;
mod checks;
mod client_auth;
mod flags;
mod forward_auth;
mod identity;
mod issuer;
mod key;
mod layers;
mod limits;
mod locate;
mod machine;
mod problem;
mod provider;
mod read;
mod redis;
mod route;
mod rules;
mod secrets;
mod server;
mod session;
pub mod settings;
mod sign_in;
mod tls;
mod upstream;
mod upstream_auth;
mod values;

use std::path::PathBuf;

pub use flags::Flags;
use layers::Layers;
pub use problem::{Problem, Problems};
use read::Reader;
pub use secrets::new_session_key;
use settings::{Admin, Files, Settings};
pub use values::fold_case;

/// Where a configuration comes from. No `Debug`: the environment holds secrets.
#[derive(Clone, Default)]
pub struct Sources {
    /// None: flags and environment say everything.
    pub file: Option<PathBuf>,
    /// The whole environment: `DOORWARD_…` are keys, `{ env = "NAME" }` names any.
    pub env: Vec<(String, String)>,
    pub flags: Flags,
}

/// Reads, checks and completes the configuration; every problem at once. Where there is no file, a session key is made
/// in the state directory and kept there.
pub fn load(sources: &Sources) -> Result<Settings, Problems> {
    let own = || Files(sources.file.iter().cloned().collect());
    let reader = Reader::new(Layers::merge(sources).map_err(|problems| problems.with_files(own()))?);
    let mut settings = settings_of(&reader);
    if reader.is_clean() && settings.session.keys.is_empty() && !reader.layers.has_file() {
        settings.session.keys.extend(secrets::kept_session_key(&reader, &settings.server.state_dir));
    }
    settings.warnings = reader.take_warnings();
    settings.files = own();
    settings.files.0.extend(reader.take_files());
    let problems = reader.take_problems();
    if problems.is_empty() { Ok(settings) } else { Err(Problems::new(problems).with_files(settings.files)) }
}

/// Whether a text would be a valid file; every problem at once. It names no file and no variable that has to be there.
pub fn check_text(text: &str) -> Result<Settings, Problems> {
    let reader = Reader::new(Layers::of_file(PathBuf::from("the result"), text)?);
    let mut settings = settings_of(&reader);
    settings.warnings = reader.take_warnings();
    let problems = reader.take_problems();
    if problems.is_empty() { Ok(settings) } else { Err(Problems::new(problems)) }
}

/// The admin listener alone, whatever the rest says: a running instance goes on while what is written by now is not valid.
pub fn load_admin(sources: &Sources) -> Result<Option<Admin>, Problems> {
    let reader = Reader::new(Layers::merge(sources)?);
    let admin = server::admin(&reader.root(), std::iter::empty());
    let problems = reader.take_problems();
    if problems.is_empty() { Ok(admin) } else { Err(Problems::new(problems)) }
}

/// The file to read: the one given, else `DOORWARD_CONFIG`, else the first that is there. None: there is none.
pub fn find_file(explicit: Option<PathBuf>, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<PathBuf>, Problems> {
    let variable = || env("DOORWARD_CONFIG").filter(|v| !v.is_empty());
    let named = match explicit {
        Some(path) => Some((path, "flag --config")),
        None => variable().map(|path| (PathBuf::from(path), "environment DOORWARD_CONFIG")),
    };
    match named {
        None => {
            Ok(["doorward.toml", "/etc/doorward/doorward.toml"].map(PathBuf::from).into_iter().find(|p| p.exists()))
        }
        Some((path, _)) if path.exists() => Ok(Some(path)),
        Some((path, source)) => Err(Problem {
            key: String::new(),
            name: None,
            source: source.to_owned(),
            line: None,
            message: format!("There is no file {}", path.display()),
            hint: "Check the path, or start from config.example.toml.".to_owned(),
        }
        .into()),
    }
}

/// Every key of this version: `session.lifetime`, `provider.NAME.issuer`, `route.path`. Produced by the code that reads
/// them, from a text that has every section.
pub fn known_keys() -> Vec<String> {
    const EVERY_SECTION: &str = r#"
        [[server.tls.sni]]
        [server.limits]
        [admin]
        [provider.x.claims]
        [provider.x.extra_params]
        [issuer.x.claims]
        [policy.x]
        allow = [{ }]
        deny = [{ }]
        [[route]]
        identity = [{ }]
        require = { }
        allow = [{ }]
        deny = [{ }]
        machine = { }
        upstream_auth = { }
        upstream_options = { health = { } }
    "#;
    let reader = Reader::new(Layers::of_text(EVERY_SECTION));
    settings_of(&reader);
    reader.take_known().into_iter().collect()
}

/// Walks every section. Valid only while the reader is clean.
fn settings_of(reader: &Reader) -> Settings {
    let root = reader.root();
    let mut server = server::server(root.section("server"));
    server.server.forward_auth = forward_auth::forward_auth(root.section("forward_auth"), &server.server);
    let admin = server::admin(&root, server.server.listeners());
    let providers = root.chosen("provider");
    let several = providers.len() > 1;
    let providers: Vec<_> =
        providers.into_iter().map(|(name, table)| provider::provider(name, table, several)).collect();
    let sections = rules::Sections {
        providers: providers.iter().map(|p| p.name.clone()).collect(),
        issuers: root.names("issuer"),
        certificates: server.client_certificates,
    };
    let issuers: Vec<_> = root.chosen("issuer").into_iter().map(|(name, table)| issuer::issuer(name, table)).collect();
    checks::issuer_names(reader, &issuers, &sections.providers);
    let session = session::session(root.section("session"), server.public_url.as_ref());
    let telemetry = server::telemetry(root.section("telemetry"));
    let policies: Vec<_> = root
        .chosen("policy")
        .into_iter()
        .map(|(name, table)| {
            let policy = rules::named(&name, table, &sections);
            (name, policy)
        })
        .collect();
    let context = route::Context {
        providers: &providers,
        sections: &sections,
        issuers: &issuers,
        policies: &policies,
        prefix: &server.server.prefix,
    };
    let mut custom_claims = Vec::new();
    let routes: Vec<_> = root
        .tables("route")
        .unwrap_or_default()
        .into_iter()
        .map(|table| route::route(table, &context, &mut custom_claims))
        .collect();
    if routes.is_empty() {
        root.missing("route", "Add a [[route]] section with path, upstream and access.");
    }
    checks::routes(reader, &routes, &session);
    checks::plain_http(reader, &server, &routes);
    checks::form_post(reader, &server, &providers);
    checks::shared_names(reader, &routes, &providers);
    checks::bound_tokens(reader, &routes, &providers);
    root.close();
    Settings {
        server: server.server,
        admin,
        providers,
        issuers,
        session,
        telemetry,
        rule_claims: rules::claim_paths(&routes),
        routes,
        custom_claims,
        files: Files::default(),
        warnings: Vec::new(),
    }
}
