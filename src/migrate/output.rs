//! A configuration of Doorward as text: in the order of config.example.toml, each value with a word on where it is from.

use std::fmt::Write as _;

/// What stands behind a key.
#[derive(Clone, Debug)]
enum Value {
    /// TOML.
    Plain(String),
    /// A reference, and TOML of the same shape that is no secret: for checking the rest.
    Secret { reference: String, stand_in: String },
}

/// The keys of one table, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    entries: Vec<(&'static str, Value, String)>,
}

impl Section {
    /// `toml` is a value; `from` says where it comes from, or why it is there.
    pub(super) fn set(&mut self, key: &'static str, toml: impl Into<String>, from: impl Into<String>) {
        self.entries.push((key, Value::Plain(toml.into()), from.into()));
    }

    /// `reference`: `{ env = "…" }` or `{ file = "…" }`.
    pub(super) fn secret(&mut self, key: &'static str, reference: String, stand_in: String, from: impl Into<String>) {
        self.entries.push((key, Value::Secret { reference, stand_in }, from.into()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, ..)| *name == key)
    }
}

/// A route, with the tables below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    /// Lines above it.
    pub(super) comment: String,
    pub(super) keys: Section,
    pub(super) options: Section,
    pub(super) auth: Section,
    pub(super) machine: Section,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    /// Lines at the top.
    pub(super) head: String,
    pub(super) server: Section,
    pub(super) tls: Section,
    pub(super) admin: Section,
    pub(super) provider: Section,
    pub(super) claims: Section,
    /// Each with its name.
    pub(super) issuers: Vec<(String, Section)>,
    pub(super) session: Section,
    pub(super) redis: Section,
    pub(super) forward_auth: Section,
    pub(super) telemetry: Section,
    /// The rules of `[policy.people]`, each an inline table; empty = there is no such policy.
    pub(super) allow: Vec<String>,
    pub(super) allow_from: String,
    pub(super) routes: Vec<Route>,
}

impl Draft {
    pub(super) fn text(&self) -> String {
        self.write(false)
    }

    /// The same with stand-ins in place of secrets: whether the rest is valid does not depend on this machine's.
    pub(super) fn checkable(&self) -> String {
        self.write(true)
    }

    fn write(&self, checkable: bool) -> String {
        let mut out = comment(&self.head);
        let mut table = |name: &str, section: &Section| {
            if !section.is_empty() {
                let _ = write!(out, "\n[{name}]\n{}", lines(section, checkable));
            }
        };
        table("server", &self.server);
        table("server.tls", &self.tls);
        table("admin", &self.admin);
        table("provider.main", &self.provider);
        table("provider.main.claims", &self.claims);
        for (name, issuer) in &self.issuers {
            table(&format!("issuer.{name}"), issuer);
        }
        table("session", &self.session);
        table("session.redis", &self.redis);
        table("forward_auth", &self.forward_auth);
        table("telemetry", &self.telemetry);
        if !self.allow.is_empty() {
            let _ = write!(out, "\n# From {}.\n[policy.people]\nallow = [\n", self.allow_from);
            for rule in &self.allow {
                let _ = writeln!(out, "  {rule},");
            }
            out.push_str("]\n");
        }
        for route in &self.routes {
            let _ = write!(out, "\n{}[[route]]\n{}", comment(&route.comment), lines(&route.keys, checkable));
            for (name, section) in
                [("upstream_options", &route.options), ("upstream_auth", &route.auth), ("machine", &route.machine)]
            {
                if !section.is_empty() {
                    let _ = write!(out, "[route.{name}]\n{}", lines(section, checkable));
                }
            }
        }
        out
    }
}

fn comment(text: &str) -> String {
    text.lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect()
}

fn lines(section: &Section, checkable: bool) -> String {
    let mut out = String::new();
    for (key, value, from) in &section.entries {
        let toml = match value {
            Value::Plain(toml) => toml,
            Value::Secret { stand_in, .. } if checkable => stand_in,
            Value::Secret { reference, .. } => reference,
        };
        // A comment ends with its line, whatever a file's name has in it.
        let from: String = from.chars().filter(|c| !c.is_control()).collect();
        let _ = match from.as_str() {
            "" => writeln!(out, "{key} = {toml}"),
            from => writeln!(out, "{key} = {toml}  # {from}"),
        };
    }
    out
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A TOML list of strings.
pub(super) fn list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// A key of an inline table, in quotes where it has to be.
pub(super) fn bare(name: &str) -> String {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if plain { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    use figment::providers::{Format as _, Toml};
    use serde_json::Value;

    use super::*;

    #[test]
    fn whatever_a_text_holds_it_is_one_string() {
        for text in ["", "a\"b\\c", "line\nline", "\u{1}\u{7f}\t", "ü 💡", "x # y"] {
            let mut draft = Draft::default();
            draft.server.set("key", quoted(text), "a\nb = 1");
            draft.server.set("list", list(&[text, text]), "");
            let read: Value = Toml::from_str(&draft.text()).unwrap();
            assert_eq!(read["server"]["key"], text);
            assert_eq!(read["server"]["list"][1], text);
            assert_eq!(read["server"].as_object().unwrap().len(), 2);
        }
    }
}
