//! From what was asked of oauth2-proxy to a configuration of Doorward: one file a topic. What changes meaning is a warning;
//! what would let in somebody who was kept out, or could not work, is a refusal.

mod headers;
mod paths;
mod people;
mod provider;
mod redis;
mod routes;
mod server;
mod session;
mod tokens;
mod upstreams;
mod values;

use super::keys::Fate;
use super::options::{Note, Options};
use super::output::{Draft, Section};

/// What becomes of it.
pub(super) struct Outcome {
    pub(super) draft: Draft,
    pub(super) warnings: Vec<Note>,
    pub(super) refusals: Vec<Note>,
}

/// What one topic leaves to the next.
struct Context {
    options: Options,
    draft: Draft,
    /// The host of `public_url`.
    host: String,
    prefix: String,
    is_https: bool,
    is_openid: bool,
    cookie_domain: Option<String>,
    /// `[route.machine]` of every protected route.
    machine: Option<Section>,
    /// The names of `[issuer.NAME]` sections.
    issuers: Vec<String>,
}

pub(super) fn map(options: Options, public_url: Option<&str>) -> Outcome {
    let mut c = Context {
        options,
        draft: Draft::default(),
        host: String::new(),
        prefix: String::new(),
        is_https: true,
        is_openid: true,
        cookie_domain: None,
        machine: None,
        issuers: Vec::new(),
    };
    elsewhere(&mut c);
    server::map(&mut c, public_url);
    provider::map(&mut c);
    session::map(&mut c);
    tokens::map(&mut c);
    people::map(&mut c);
    routes::map(&mut c);
    // Where a refusal says more about a key, that is enough.
    let lost = c.options.lost();
    let mut warnings = std::mem::take(&mut c.options.notes);
    warnings.extend(lost.into_iter().filter(|note| c.options.refusals.iter().all(|refusal| refusal.key != note.key)));
    Outcome { draft: c.draft, warnings, refusals: c.options.refusals }
}

/// What keeps people out and has no place here.
const KEEP_OUT: [&str; 6] =
    ["github_org", "github_repo", "github_team", "gitlab_projects", "google_group", "google_groups"];

/// What says who may pass.
const WHO: [&str; 5] =
    ["allowed_groups", "allowed_roles", "authenticated_emails_file", "email_domains", "entra_id_allowed_tenants"];

/// SECURITY: without its value, a key that says who may pass would say nothing.
fn elsewhere(c: &mut Context) {
    for key in WHO.into_iter().chain(KEEP_OUT) {
        if let Some(variable) = c.options.open(key) {
            let why = format!(
                "is empty or * by the variable {variable}, which nobody has set or to nothing: give a text file with the line {variable}=…, or write here who may pass"
            );
            c.options.refuse(key, why);
        }
    }
    for (key, variable) in c.options.elsewhere() {
        let matters = matches!(key.fate, Fate::Becomes(_)) || KEEP_OUT.contains(&key.name);
        if matters && !key.is_secret() {
            let why = format!(
                "needs the variable {variable}, whose value is in none of these files, and is no secret: give a text file with the line {variable}=… too"
            );
            c.options.refuse(key.name, why);
        }
    }
}
