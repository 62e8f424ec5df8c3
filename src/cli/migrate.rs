//! `doorward migrate`

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{FAILED, MISUSED, fail};
use crate::migrate::{Input, Note, oauth2_proxy};

/// No configuration is larger.
const FILE_BYTES: u64 = 1 << 20;

#[derive(Subcommand)]
pub(super) enum From {
    /// From oauth2-proxy: a configuration on stdout, what changes meaning or is insecure as warnings on stderr
    ///
    /// Exit status: 0 a valid configuration was written, 1 something cannot be carried over and nothing was written, 2 a
    /// usage error or a file that cannot be read. Secrets are never copied: the result names a variable or a file for each.
    #[command(name = "oauth2-proxy", verbatim_doc_comment)]
    OAuth2Proxy(MigrateArgs),
}

#[derive(Args)]
pub(super) struct MigrateArgs {
    /// Its configuration, in any mix: the configuration file (TOML), the structured ("alpha") one (YAML), Kubernetes
    /// manifests, Ingresses of ingress-nginx, a docker compose file, values of the Helm chart, OAUTH2_PROXY_ variables or
    /// flags as text, the list of authenticated e-mail addresses. Later files win; flags win over variables, these over files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What browsers type, where no redirect_url says it
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

pub(super) fn run(from: &From) -> ExitCode {
    let From::OAuth2Proxy(args) = from;
    let mut inputs = Vec::new();
    for path in &args.files {
        match read(path) {
            Ok(text) => inputs.push(Input { name: name(path), text }),
            Err(why) => return fail(MISUSED, &format!("{}: {why}", path.display())),
        }
    }
    let migration = match oauth2_proxy(&inputs, args.public_url.as_deref()) {
        Ok(migration) => migration,
        Err(note) => return fail(MISUSED, &format!("{}; see docs/migrate.md for what can be read", note.text)),
    };
    let mut stderr = std::io::stderr();
    let mut tell = |kind: &str, notes: &[Note]| {
        for note in notes {
            let key = if note.key.is_empty() { String::new() } else { format!("{}: ", note.key) };
            // What a file says must not move a terminal's cursor.
            let line = format!("{kind}: {key}{}", note.text).replace(char::is_control, " ");
            let _ = writeln!(stderr, "{line}");
        }
    };
    tell("warning", &migration.warnings);
    tell("error", &migration.refusals);
    let Some(config) = migration.config else {
        return fail(
            FAILED,
            "no configuration was written: correct what the errors name in the input, or remove it and add it by hand",
        );
    };
    match std::io::stdout().write_all(config.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &format!("the configuration cannot be written: {error}")),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut text = String::new();
    // One byte more, to see that there is more.
    file.take(FILE_BYTES + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.len() as u64 > FILE_BYTES { Err("is larger than 1 MiB".to_owned()) } else { Ok(text) }
}

/// The base name: what manifests call it.
fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
