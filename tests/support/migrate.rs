//! The configurations of oauth2-proxy in tests/migrate, and what becomes of them.

use std::path::Path;

use doorward::migrate::{Input, Migration, oauth2_proxy};

/// The files that belong together.
pub const EXAMPLES: [&[&str]; 11] = [
    &["proxy.cfg"],
    &["nginx.cfg"],
    &["gitea.cfg"],
    &["alpha.cfg", "alpha.yaml"],
    &["compose.yaml"],
    &["kubernetes.yaml", "ingress.yaml"],
    &["helm-values.yaml"],
    &["entra-values.yaml"],
    &["dashboard.args", "people.txt"],
    &["login.env"],
    &["login.env", "proxy.cfg"],
];

pub fn file(name: &str) -> Input {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrate").join(name);
    Input { name: name.to_owned(), text: std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}")) }
}

pub fn migrated(names: &[&str]) -> Migration {
    let inputs: Vec<Input> = names.iter().map(|name| file(name)).collect();
    oauth2_proxy(&inputs, None).map_err(|note| note.text).unwrap()
}

pub fn config(migration: &Migration) -> &str {
    migration.config.as_deref().unwrap_or_else(|| panic!("refused: {:?}", migration.refusals))
}
