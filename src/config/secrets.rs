//! Secrets: where they are read from, what is too weak, and the session key that is generated where nobody wrote one.
//! No message of this file holds one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use figment::value::{Tag, Value};

use super::key::Key;
use super::read::{Entry, Reader, Table};
use crate::secret::Secret;

const KEY_HINT: &str = "Write what `doorward key` prints: 32 random bytes in base64url.";
const KEY_FILE: &str = "session-key";
const KEY_BYTES: usize = 32;

/// A new session key, as `doorward key` prints it: 32 random bytes in base64url.
pub fn new_session_key() -> io::Result<String> {
    let mut bytes = [0; KEY_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("the system has no randomness"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// `"…"`, `{ file = "/path" }` or `{ env = "NAME" }`.
pub(super) fn secret(entry: Entry<'_>) -> Option<Secret> {
    match &entry.value {
        Value::String(_, text) if text.is_empty() => {
            entry.problem("is empty", "Write the secret, { file = \"/path\" } or { env = \"NAME\" }.");
            None
        }
        Value::String(_, text) => Some(Secret::new(text.as_str())),
        Value::Dict(..) => elsewhere(entry.table()?),
        _ => {
            entry.wrong_type("a secret", "Write a string, { file = \"/path\" } or { env = \"NAME\" }.");
            None
        }
    }
}

/// `[session] keys`: one or more. None = not written, or reported.
pub(super) fn session_keys(table: &Table<'_>) -> Option<Vec<Secret>> {
    let alone = |v: &Value| matches!(v, Value::String(..) | Value::Dict(..));
    let entries = table.entry("keys")?.items("a list of secrets", &alone)?;
    if entries.is_empty() {
        table.problem("keys", "is empty", KEY_HINT);
    }
    let mut keys = Vec::new();
    for entry in entries {
        let position = entry.key.clone();
        let tag = entry.value.tag();
        let Some(key) = secret(entry) else { continue };
        match weakness(&key) {
            Some(weakness) => table.reader().problem(&position, tag, weakness, KEY_HINT),
            None => keys.push(key),
        }
    }
    Some(keys)
}

/// The session key kept in `state_dir`; made there, readable by its owner alone, when there is none.
pub(super) fn kept_session_key(reader: &Reader, state_dir: &Path) -> Option<Secret> {
    let path = state_dir.join(KEY_FILE);
    let refused = match read_or_make(state_dir, &path) {
        Ok(text) => {
            let key = Secret::new(without_newline(&text));
            match weakness(&key) {
                None => {
                    warn_if_open(reader, &path);
                    return Some(key);
                }
                Some(weakness) => format!("the session key kept in {} {weakness}", path.display()),
            }
        }
        Err(e) => format!("no session key is written, and none can be kept in {}: {e}", path.display()),
    };
    reader.problem(
        &Key::default().then("session").then("keys"),
        Tag::Default,
        refused,
        "Remove what is there or make the directory writable, or name another with DOORWARD_SERVER__STATE_DIR.",
    );
    None
}

fn warn_if_open(reader: &Reader, path: &Path) {
    if std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0) {
        let path = path.display();
        reader.warn(format!("The session key {path} can be read by other users of this machine: chmod 600 it."));
    }
}

fn elsewhere(table: Table<'_>) -> Option<Secret> {
    let file = table.path("file");
    let env = table.text("env");
    let text = match (file, env) {
        (Some(path), None) => in_file(&table, &path),
        (None, Some(name)) => in_variable(&table, &name),
        _ => {
            let hint = "Write { file = \"/path\" } or { env = \"NAME\" }.";
            table.reader().problem(&table.key, table.tag(), "must name either a file or a variable", hint);
            None
        }
    };
    if text.as_ref().is_some_and(String::is_empty) {
        let message = "is empty: there is nothing where it points to";
        table.reader().problem(&table.key, table.tag(), message, "Put the secret there.");
    }
    table.close();
    text.filter(|text| !text.is_empty()).map(Secret::new)
}

fn in_file(table: &Table<'_>, path: &Path) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Some(without_newline(&text).to_owned()),
        Err(e) => {
            // SECURITY: ZX-06: what does not look like a path may be the secret itself.
            let path = if path.is_absolute() { path } else { Path::new("the file") };
            table.problem(
                "file",
                format!("{} cannot be read: {e}", path.display()),
                "Check the path and its permissions.",
            );
            None
        }
    }
}

fn in_variable(table: &Table<'_>, name: &str) -> Option<String> {
    let value = table.reader().layers.env.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    if value.is_none() {
        // SECURITY: ZX-06: likewise.
        let is_name = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let name = if is_name { name } else { "it names" };
        table.problem("env", format!("the variable {name} is not set"), "Set it, or name another.");
    }
    value
}

/// A text file ends with a newline that is no part of the secret; any other space is.
fn without_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

// SECURITY: GX-09: a short key, or one character repeated, would seal nothing.
fn weakness(key: &Secret) -> Option<&'static str> {
    let bytes = key.expose().as_bytes();
    let mut distinct = bytes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    if bytes.len() < KEY_BYTES {
        Some("is shorter than 32 bytes")
    } else if distinct.len() < 8 {
        Some("repeats a few characters and can be guessed")
    } else {
        None
    }
}

fn read_or_make(state_dir: &Path, path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    // Written aside and linked into place: no one reads half a key, and of two that start at once one wins.
    let aside = state_dir.join(format!("{KEY_FILE}.{}.{:x}", std::process::id(), fastrand::u64(..)));
    let made = write_new(&aside, &new_session_key()?).and_then(|()| match std::fs::hard_link(&aside, path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    // What is left aside on an error is a key that nobody uses.
    let _ = std::fs::remove_file(&aside);
    made?;
    std::fs::read_to_string(path)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}
