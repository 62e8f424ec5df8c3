//! Secrets: where they are read from, what is too weak, and the session key that is generated where nobody wrote one.
//! No message of this file holds one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use figment::value::Value;

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
        Value::Dict(..) => elsewhere(&entry.table()?),
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
    match read_or_make(state_dir, &path) {
        Ok(text) => {
            let key = Secret::new(without_newline(&text));
            if weakness(&key).is_none() {
                if std::fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0) {
                    reader.warn(format!(
                        "The session key {} can be read by other users of this machine: chmod 600 it.",
                        path.display()
                    ));
                }
                return Some(key);
            }
            let message = format!("The session key kept in {} is too short", path.display());
            reader.problem(
                &reader.root().key.then("session").then("keys"),
                figment::value::Tag::Default,
                message,
                KEY_HINT,
            );
        }
        Err(e) => {
            let message = format!("no session key is written, and none can be kept in {}: {e}", path.display());
            let hint = "Make the directory writable, or name another in server.state_dir (DOORWARD_SERVER__STATE_DIR).";
            reader.problem(
                &reader.root().key.then("session").then("keys"),
                figment::value::Tag::Default,
                message,
                hint,
            );
        }
    }
    None
}

fn elsewhere(table: &Table<'_>) -> Option<Secret> {
    let file = table.text("file");
    let env = table.text("env");
    let (what, text) = match (&file, &env) {
        (Some(path), None) => match std::fs::read_to_string(path) {
            Ok(text) => ("the file", without_newline(&text).to_owned()),
            Err(e) => {
                let path = if path.starts_with('/') { path } else { "the file" };
                table.problem("file", format!("{path} cannot be read: {e}"), "Check the path and its permissions.");
                return None;
            }
        },
        (None, Some(name)) => match table.reader().layers.env.iter().find(|(n, _)| n == name) {
            Some((_, value)) => ("the variable", value.clone()),
            None => {
                // SECURITY: ZX-06: what does not look like a variable's name may be the secret itself.
                let is_name = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
                let name = if is_name { name } else { "it names" };
                table.problem("env", format!("the variable {name} is not set"), "Set it, or name another.");
                return None;
            }
        },
        _ => {
            table.reader().problem(
                &table.key,
                table.tag(),
                "must name either a file or a variable",
                "Write { file = \"/path\" } or { env = \"NAME\" }.",
            );
            return None;
        }
    };
    if text.is_empty() {
        table.reader().problem(
            &table.key,
            table.tag(),
            format!("is empty: {what} holds nothing"),
            "Put the secret there.",
        );
        return None;
    }
    Some(Secret::new(text))
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
