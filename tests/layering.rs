//! The order of the rooms: a file may use only rooms below its own. Read from the sources, so that a new file cannot
//! forget it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Top to bottom. Rooms on one line may not use each other, unless listed in `EXCEPTIONS`.
const ROOMS: &[&[&str]] = &[
    &["main", "cli"],
    &["migrate"],
    &["reload"],
    &["app"],
    &["demo"],
    &["server"],
    &["gateway"],
    &["policy", "route"],
    &["machine"],
    &["session"],
    &["provider"],
    &["store"],
    &["upstream"],
    &["net"],
    &["http"],
    &["crypto"],
    &["config"],
    &["telemetry", "clock", "error", "secret"],
];

/// (from, to): a lower room that may name one thing of a higher one.
const EXCEPTIONS: &[(&str, &str)] = &[
    // `app::run` hands a SIGHUP to `reload`, which builds with `app::build`: two halves of one idea in two files.
    ("app", "reload"),
    // Settings hold origins; what an origin is belongs to HTTP.
    ("config", "http"),
    // Settings hold keys; whether one can sign is known to cryptography.
    ("config", "crypto"),
    // The log is set up by its own settings.
    ("telemetry", "config"),
];

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|rooms| rooms.contains(&room))
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The rooms that a file names as `crate::room`, with their lines; comments do not count.
fn uses(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for rest in code.split("crate::").skip(1) {
            let list = rest.strip_prefix('{').map(|inner| inner.split('}').next().unwrap_or_default());
            match list {
                Some(list) => {
                    for item in list.split(',') {
                        found.push((n + 1, item.trim().split(':').next().unwrap_or_default().to_owned()));
                    }
                }
                None => {
                    let room: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    found.push((n + 1, room));
                }
            }
        }
    }
    found
}

#[test]
fn rooms_are_used_only_downward() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 40, "the sources were not found");
    let mut wrong = Vec::new();
    for file in &files {
        let relative = file.strip_prefix(&src).unwrap();
        let room =
            relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if room == "lib" {
            continue;
        }
        let from = rank(&room).unwrap_or_else(|| panic!("{} is in no room: add it to ROOMS", relative.display()));
        for (line, to) in uses(&fs::read_to_string(file).unwrap()) {
            let Some(target) = rank(&to) else { continue };
            let allowed = to == room || target > from || EXCEPTIONS.contains(&(room.as_str(), to.as_str()));
            if !allowed {
                wrong.push(format!("{}:{line} uses `{to}` from `{room}`", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "upward or sideways uses:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_holds_two_ideas() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut long = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("\n#[cfg(test)]").next().unwrap_or_default();
        let lines = code.lines().count();
        let is_test = file.ends_with("tests.rs") || file.components().any(|c| c.as_os_str() == "tests");
        if lines > 500 && !is_test {
            long.push(format!("{}: {lines} lines", file.display()));
        }
    }
    assert!(long.is_empty(), "over 500 lines of code:\n{}", long.join("\n"));
}

#[test]
fn the_check_sees_what_it_should() {
    assert_eq!(
        uses("use crate::gateway::x;\n// crate::server\nuse crate::{app, net::tls};"),
        [(1, "gateway".to_owned()), (3, "app".to_owned()), (3, "net".to_owned()),]
    );
}
