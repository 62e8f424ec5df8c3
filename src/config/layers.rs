//! The layers of a configuration and who said what: defaults, the TOML file, the environment, flags; later wins.
//! It merges and attributes; it does not know what any key means.
//!
//! figment merges. Its own `Env` provider is not used: it parses values (`0123` becomes 123) and prints them in errors,
//! secrets included. Nor is serde: it stops at the first problem.

use std::path::PathBuf;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::problem::{Problem, Problems};
use super::{Sources, flags, locate};

/// Variables that begin like ours and are none.
const RESERVED: [&str; 1] = ["DOORWARD_CONFIG"];
const PREFIX: &str = "DOORWARD_";
const ENVIRONMENT: &str = "environment ";

pub(super) struct Layers {
    figment: Figment,
    pub(super) root: Dict,
    pub(super) env: Vec<(String, String)>,
    /// Path and text.
    file: Option<(PathBuf, String)>,
}

impl Layers {
    pub(super) fn merge(sources: &Sources) -> Result<Self, Problems> {
        let mut figment = Figment::new();
        let mut file = None;
        match &sources.file {
            Some(path) => {
                let name = format!("file {}", path.display());
                let text = std::fs::read_to_string(path).map_err(|e| Problem {
                    key: String::new(),
                    name: None,
                    source: name.clone(),
                    line: None,
                    message: format!("The file cannot be read: {e}"),
                    hint: "Check the path and its permissions.".to_owned(),
                })?;
                figment = figment.merge(Layer { data: parse(&text, &name)?, name });
                file = Some((path.clone(), text));
            }
            None => figment = figment.merge(Layer { name: "default".to_owned(), data: flags::defaults() }),
        }
        for (name, value) in variables(&sources.env) {
            figment = figment.merge(Layer { name: format!("{ENVIRONMENT}{name}"), data: nest(&name, value) });
        }
        for (flag, value) in flags::given(&sources.flags) {
            // Under its own name until it is known where it belongs.
            figment =
                figment.merge(Layer { name: format!("flag {flag}"), data: Dict::from([(flag.to_owned(), value)]) });
        }
        let root = figment.find_value("").ok().and_then(Value::into_dict).unwrap_or_default();
        let mut layers = Self { figment, root, env: sources.env.clone(), file };
        flags::place(&mut layers.root, &sources.flags)?;
        Ok(layers)
    }

    /// Who said it, and on which line.
    pub(super) fn source(&self, tag: Tag, path: &[String]) -> (String, Option<usize>) {
        match (self.figment.get_metadata(tag), &self.file) {
            (Some(layer), Some((_, text))) if layer.name.starts_with("file ") => {
                (layer.name.to_string(), locate::line_of(text, path))
            }
            (Some(layer), _) => (layer.name.to_string(), None),
            (None, Some((file, text))) => (format!("file {}", file.display()), locate::line_of(text, path)),
            (None, None) => ("the command line".to_owned(), None),
        }
    }

    /// Variables are text: numbers, booleans and lists are read out of them.
    pub(super) fn is_variable(&self, tag: Tag) -> bool {
        self.figment.get_metadata(tag).is_some_and(|layer| layer.name.starts_with(ENVIRONMENT))
    }

    pub(super) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// A variable of the environment that is not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// A text as if it were the whole of this file, with no environment.
    pub(super) fn of_file(path: PathBuf, text: &str) -> Result<Self, Problems> {
        let name = format!("file {}", path.display());
        let figment = Figment::new().merge(Layer { data: parse(text, &name)?, name });
        let root = figment.find_value("").ok().and_then(Value::into_dict).unwrap_or_default();
        Ok(Self { figment, root, env: Vec::new(), file: Some((path, text.to_owned())) })
    }

    /// For a text that is part of the program.
    pub(super) fn of_text(text: &str) -> Self {
        let name = "file".to_owned();
        let figment = Figment::new().merge(Layer { data: parse(text, &name).unwrap_or_default(), name });
        let root = figment.find_value("").ok().and_then(Value::into_dict).unwrap_or_default();
        Self { figment, root, env: Vec::new(), file: None }
    }
}

/// Reads a list written in a variable: TOML text in brackets, else parts between commas.
pub(super) fn list_in_variable(text: &str, tag: Tag) -> Option<Vec<Value>> {
    let mut list = if text.trim_start().starts_with('[') {
        Toml::from_str::<Dict>(&format!("list = {text}")).ok()?.remove("list")?
    } else {
        let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        Value::Array(tag, parts.map(|p| Value::String(tag, p.to_owned())).collect())
    };
    retag(&mut list, tag);
    match list {
        Value::Array(_, items) => Some(items),
        _ => None,
    }
}

struct Layer {
    name: String,
    data: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.data.clone()))
    }
}

fn parse(text: &str, source: &str) -> Result<Dict, Problems> {
    Toml::from_str::<Dict>(text).map_err(|e| {
        let line = e.span().and_then(|span| text.get(..span.start)).map(|above| above.matches('\n').count() + 1);
        // SECURITY: ZX-06: `message` alone; the error's Display quotes the line, which may hold a secret.
        let message = e.message().lines().collect::<Vec<_>>().join(", ");
        Problem {
            key: String::new(),
            name: None,
            source: source.to_owned(),
            line,
            message: format!("This is not TOML: {message}"),
            hint: "Correct the syntax on this line: strings stand in quotes, each key stands once in its section."
                .to_owned(),
        }
        .into()
    })
}

/// Ours, in the order of their names, so that messages do not depend on the environment's.
fn variables(env: &[(String, String)]) -> Vec<(String, &str)> {
    let mut ours: Vec<_> = env
        .iter()
        .filter(|(name, value)| {
            name.len() > PREFIX.len()
                && name.starts_with(PREFIX)
                && !RESERVED.contains(&name.as_str())
                && !is_service_link(name, value)
        })
        .map(|(name, value)| (name.clone(), value.as_str()))
        .collect();
    ours.sort_unstable();
    ours
}

/// Kubernetes gives every pod `DOORWARD_SERVICE_HOST`, `DOORWARD_PORT=tcp://…` and more as soon as a Service is called
/// `doorward`; a gateway that calls them unknown keys would not start there.
fn is_service_link(name: &str, value: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or_default();
    rest == "SERVICE_HOST"
        || rest == "SERVICE_PORT"
        || rest.starts_with("SERVICE_PORT_")
        || (rest == "PORT" && value.contains("://"))
        || rest.strip_prefix("PORT_").is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
}

/// `DOORWARD_SESSION__LIFETIME` is `session.lifetime`.
fn nest(name: &str, value: &str) -> Dict {
    let path = name.strip_prefix(PREFIX).unwrap_or_default().to_ascii_lowercase();
    let mut steps = path.rsplit("__");
    let last = steps.next().unwrap_or_default().to_owned();
    let leaf = Dict::from([(last, Value::from(value))]);
    steps.fold(leaf, |inner, step| Dict::from([(step.to_owned(), Value::from(inner))]))
}

fn retag(value: &mut Value, tag: Tag) {
    match value {
        Value::String(t, _) | Value::Char(t, _) | Value::Bool(t, _) | Value::Num(t, _) | Value::Empty(t, _) => *t = tag,
        Value::Dict(t, members) => {
            *t = tag;
            members.values_mut().for_each(|v| retag(v, tag));
        }
        Value::Array(t, items) => {
            *t = tag;
            items.iter_mut().for_each(|v| retag(v, tag));
        }
    }
}
