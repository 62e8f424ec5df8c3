//! A docker compose file: command, environment and files of the service that is oauth2-proxy.

use serde_json::{Map, Value};

use super::super::options::Options;
use super::references::{By, Source, Variables};
use super::{args, ours, texts};

/// Returns the configuration files that its command names. `outside`: what compose fills references in with.
pub(super) fn read(
    document: &Map<String, Value>,
    file: &str,
    outside: &Variables,
    variables: &mut Variables,
    options: &mut Options,
) -> Vec<String> {
    let source = Source { file, by: By::Compose, known: &[outside] };
    let Some(services) = document.get("services").and_then(Value::as_object) else { return Vec::new() };
    let services = services.iter().map(|(name, service)| (name.as_str(), service)).collect();
    let mut wanted = Vec::new();
    for service in ours(services, file, options) {
        for (name, value) in environment(service.get("environment")) {
            // A name alone is passed on as it is.
            let value = value.or_else(|| outside.get(&name).map(|value| value.replace('$', "$$")));
            args::variable(&name, value.as_deref(), source, options);
            let filled = value.map(|value| source.fill(&value)).filter(|filled| filled.unknown.is_none());
            variables.extend(filled.and_then(|filled| filled.text).map(|text| (name, text)));
        }
        for listed in texts(service.get("env_file")) {
            let base = listed.rsplit('/').next().unwrap_or_default().to_owned();
            wanted.push(base);
        }
        for key in ["entrypoint", "command"] {
            let words = match service.get(key) {
                Some(Value::String(line)) => args::words(line),
                list => args::command(&texts(list)),
            };
            wanted.extend(args::flags(&words, source, options));
        }
    }
    wanted
}

/// A mapping, or a list of `NAME=value`; a name alone has its value elsewhere.
fn environment(value: Option<&Value>) -> Vec<(String, Option<String>)> {
    match value {
        Some(Value::Object(map)) => {
            map.iter().map(|(name, value)| (name.clone(), value.as_str().map(str::to_owned))).collect()
        }
        list => {
            let split = |line: String| match line.split_once('=') {
                Some((name, value)) => (name.trim().to_owned(), Some(value.to_owned())),
                None => (line, None),
            };
            texts(list).into_iter().map(split).collect()
        }
    }
}
