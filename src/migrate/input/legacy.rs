//! The configuration file of oauth2-proxy: TOML, one key a line.

use figment::providers::{Format as _, Toml};
use serde_json::{Map, Value};

use super::super::keys;
use super::super::options::{Layer, Options};
use super::args;
use super::references::Source;

/// The text as a table.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, String> {
    Toml::from_str::<Map<String, Value>>(text).map_err(|e| {
        let line = e.span().and_then(|span| text.get(..span.start)).map_or(0, |above| above.matches('\n').count() + 1);
        // SECURITY: ZX-06: `message` alone; the error's Display quotes the line, which may hold a secret.
        format!("is not valid TOML (line {line}): {}", e.message().lines().next().unwrap_or_default())
    })
}

pub(super) fn read(table: &Map<String, Value>, source: Source<'_>, options: &mut Options) {
    let file = source.file;
    for (name, value) in table {
        // As oauth2-proxy reads them: in any case.
        let Some(key) = keys::named(&name.to_ascii_lowercase()) else {
            options.warn(name, format!("not carried over: no key of oauth2-proxy ({file})"));
            continue;
        };
        match value {
            Value::Array(items) => {
                let filled = items.iter().filter_map(scalar).map(|text| source.fill(&text)).collect();
                options.give(key, args::whole(filled, Layer::File, file));
            }
            value => match scalar(value) {
                Some(text) => args::give(key, &text, Layer::File, source, options),
                None => {
                    options.warn(name, format!("not carried over: a table, where oauth2-proxy has a value ({file})"))
                }
            },
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
