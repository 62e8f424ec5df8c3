//! What was asked of oauth2-proxy, whichever way it was written: every key that is given, with its values and where they
//! come from; and what only the structured configuration can say.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::keys::{self, Fate, Key, Kind};

/// Later ones win.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Layer {
    File,
    Variable,
    Flag,
    Structured,
}

/// The values of one key.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) values: Vec<String>,
    pub(super) layer: Layer,
    /// The file it stands in.
    pub(super) file: String,
    /// The variable that holds the value where Doorward will run. `values` is empty where only it knows.
    pub(super) variable: Option<String>,
    /// A variable that is part of `values`, or one of them, and is in none of the files.
    pub(super) unknown: Option<String>,
    /// One that nobody has set, or to nothing, so that one of `values` is empty, or `*`.
    pub(super) open: Option<String>,
}

impl Given {
    /// Written out.
    pub(super) fn plain(values: Vec<String>, layer: Layer, file: &str) -> Self {
        Self { values, layer, file: file.to_owned(), variable: None, unknown: None, open: None }
    }

    /// The variable that the files would have to tell.
    pub(super) fn lacks(&self) -> Option<&String> {
        self.unknown.as_ref().or_else(|| self.variable.as_ref().filter(|_| self.is_elsewhere()))
    }

    /// Only a variable knows the value, and none of the files what that holds.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.variable.is_some() && self.values.is_empty()
    }
}

/// One upstream, as the structured configuration has them.
#[derive(Clone, Debug, Default)]
pub(super) struct Upstream {
    pub(super) id: String,
    pub(super) path: String,
    pub(super) rewrite: String,
    pub(super) uri: String,
    pub(super) is_static: bool,
    pub(super) pass_host: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) disable_keep_alives: bool,
}

/// A header to be set, from one claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) claim: String,
    pub(super) prefix: String,
}

/// A host that ingress-nginx protects by asking oauth2-proxy.
#[derive(Clone, Debug)]
pub(super) struct IngressHost {
    pub(super) ingress: String,
    pub(super) host: String,
}

/// Something to tell whoever migrates. `key` is empty where it is about the whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    pub key: String,
    pub text: String,
}

impl Note {
    pub fn new(key: &str, text: impl Into<String>) -> Self {
        Self { key: key.to_owned(), text: text.into() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Options {
    given: BTreeMap<&'static str, Given>,
    /// Those that have said something.
    used: RefCell<BTreeSet<String>>,
    /// The structured configuration speaks of these; its defaults then hold in place of the others'.
    pub(super) structured: bool,
    pub(super) upstreams: Option<Vec<Upstream>>,
    pub(super) request_headers: Option<Vec<Header>>,
    pub(super) response_headers: Option<Vec<Header>>,
    /// Parameters of the sign-in request.
    pub(super) parameters: Vec<(String, String)>,
    /// Addresses of a list that was given as a file of its own.
    pub(super) emails: Vec<String>,
    pub(super) ingress_hosts: Vec<IngressHost>,
    /// Where oauth2-proxy itself is reached: origins.
    pub(super) own_origins: Vec<String>,
    pub(super) notes: Vec<Note>,
    /// What makes the whole impossible.
    pub(super) refusals: Vec<Note>,
}

impl Options {
    /// A later layer replaces an earlier one, as does a later file of the same layer. Values of one file add up
    /// (`--upstream` twice) where the key is a list. What is no secret and in no file gives way to what somebody wrote down
    /// for it in another file of the same layer, and never to what a lower one says in its place.
    pub(super) fn give(&mut self, key: &'static Key, given: Given) {
        let is_open = |given: &Given| !key.is_secret() && given.lacks().is_some();
        match self.given.get_mut(key.name) {
            Some(there)
                if there.layer == Layer::Flag
                    && given.layer == Layer::Flag
                    && there.file == given.file
                    && key.kind == Kind::List =>
            {
                let lacks = there.lacks().or_else(|| given.lacks()).cloned();
                there.values.extend(given.values);
                (there.variable, there.unknown) = (None, lacks);
                there.open = there.open.take().or(given.open);
            }
            Some(there)
                if there.layer == given.layer && there.file != given.file && is_open(there) != is_open(&given) =>
            {
                if is_open(there) && given.values.iter().any(|value| !value.trim().is_empty()) {
                    *there = given;
                }
            }
            Some(there) if there.layer > given.layer => {}
            _ => drop(self.given.insert(key.name, given)),
        }
    }

    pub(super) fn warn(&mut self, key: &str, text: impl Into<String>) {
        let note = Note::new(key, text);
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    pub(super) fn refuse(&mut self, key: &str, text: impl Into<String>) {
        let note = Note::new(key, text);
        if !self.refusals.contains(&note) {
            self.refusals.push(note);
        }
    }

    pub(super) fn given(&self, name: &str) -> Option<&Given> {
        self.given.get(name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.given.is_empty() && !self.structured
    }

    /// What is written, unless it is empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.given.get(name)?.values.first().map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    /// What is given and only variables know, in whole or in part, with the names of these.
    pub(super) fn elsewhere(&self) -> Vec<(&'static Key, String)> {
        let of = |(name, given): (&&'static str, &Given)| Some((keys::named(name)?, given.lacks()?.clone()));
        self.given.iter().filter_map(of).collect()
    }

    /// The variable that left a key empty, or open to everybody.
    pub(super) fn open(&self, name: &str) -> Option<String> {
        self.given.get(name)?.open.clone()
    }

    /// Every value that is not empty.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let values = self.given.get(name).map(|given| given.values.as_slice()).unwrap_or_default();
        values.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> bool {
        self.mark(name);
        match self.text(name) {
            // As Go's strconv.ParseBool has them.
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
            Some(_) => false,
            None => default,
        }
    }

    /// It has said something, if only what is so anyway.
    pub(super) fn mark(&self, name: &str) {
        self.used.borrow_mut().insert(name.to_owned());
    }

    /// What a comment of the output calls the key; it counts as used.
    pub(super) fn origin(&self, name: &str) -> String {
        self.mark(name);
        match self.given.get(name) {
            Some(Given { layer: Layer::Variable, variable: Some(variable), .. }) => variable.clone(),
            Some(Given { layer: Layer::Flag, .. }) => {
                let flag = keys::named(name).map_or("", |key| key.flag);
                format!("--{}", if flag.is_empty() { name.replace('_', "-") } else { flag.to_owned() })
            }
            _ => name.to_owned(),
        }
    }

    /// What is given and not carried over, with the reasons: `Fate::Without` of each key; and what had nothing to say.
    pub(super) fn lost(&self) -> Vec<Note> {
        let lost = |(name, given): (&&'static str, &Given)| {
            let written = given.values.join(",");
            if given.variable.is_none() && written.is_empty() {
                return None;
            }
            let told = || self.notes.iter().chain(&self.refusals).any(|note| note.key == **name);
            match keys::named(name)?.fate {
                Fate::Without(same, _) if is_same(&written, same) => None,
                Fate::Without(_, why) => Some(Note::new(name, format!("not carried over: {why}"))),
                Fate::Becomes(_) if self.used.borrow().contains(*name) || told() => None,
                Fate::Becomes(_) => Some(Note::new(
                    name,
                    "not carried over: it says nothing beside the other keys, or with this provider",
                )),
            }
        };
        self.given.iter().filter_map(lost).collect()
    }

    /// Whether something of a file of this name was read, as part of another.
    pub(super) fn given_in(&self, base: &str) -> bool {
        self.given.values().any(|given| given.file.split(' ').next() == Some(base))
    }
}

fn is_same(written: &str, same: &str) -> bool {
    let truth = |text: &str| match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    };
    let trimmed = written.trim();
    trimmed.eq_ignore_ascii_case(same)
        || truth(trimmed).is_some_and(|is| Some(is) == truth(same))
        || same == "0" && matches!(trimmed, "0s" | "0h" | "0m")
}
