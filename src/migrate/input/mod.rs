//! Reads what oauth2-proxy is configured with, in any of the forms that it is written in, into `Options`. Which form a text
//! has is seen from the text. Nothing here knows a key of Doorward.

mod alpha;
mod args;
mod compose;
mod helm;
mod kubernetes;
mod legacy;
mod yaml;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::options::{Note, Options};

/// One file. `name` is what messages call it.
#[derive(Clone, Debug)]
pub struct Input {
    pub name: String,
    pub text: String,
}

/// What all files together say; the later file wins, as oauth2-proxy has it: flags over variables over its file.
pub(super) fn read(inputs: &[Input]) -> Result<Options, Note> {
    let mut options = Options::default();
    let mut variables = BTreeMap::new();
    // The structured configuration last: it names variables that the others set.
    let mut structured = Vec::new();
    let mut wanted = Vec::new();
    for input in inputs {
        match kind(input)? {
            Form::Legacy(table) => legacy::read(&table, &input.name, &mut options),
            Form::Emails(emails) => options.emails.extend(emails),
            Form::Lines => wanted.extend(args::lines(&input.text, &input.name, &mut options)),
            Form::Documents(documents) => {
                let mut found = kubernetes::Found::default();
                for document in &documents {
                    match document {
                        Value::Object(map) if is_structured(map) => structured.push((map.clone(), input.name.clone())),
                        Value::Object(map) if map.contains_key("services") => {
                            wanted.extend(compose::read(map, &input.name, &mut variables, &mut options));
                        }
                        Value::Object(map) if helm::is(map) => {
                            structured.extend(helm::read(map, &input.name, &mut variables, &mut options)?);
                        }
                        Value::Object(map) => found.document(map),
                        _ => {}
                    }
                }
                wanted.extend(found.read(&input.name, &mut variables, &mut structured, &mut options)?);
            }
        }
    }
    for (map, name) in structured {
        alpha::read(&map, &name, &variables, &mut options);
    }
    // Of configuration files that are named, one of this name may have come as a file of its own.
    let is_there = |base: &String| inputs.iter().any(|input| input.name.rsplit('/').next() == Some(base));
    for base in wanted.iter().filter(|base| !is_there(base)) {
        if options.given_in(base) {
            continue;
        }
        options.warn(
            "",
            format!("a command line names the configuration file {base}: give that file too, if it is none of these"),
        );
    }
    if options.is_empty() {
        return Err(Note::new("", "nothing in these files is a configuration of oauth2-proxy"));
    }
    Ok(options)
}

/// A structured configuration, and what messages call it.
type Structured = (Map<String, Value>, String);

enum Form {
    Legacy(Map<String, Value>),
    Documents(Vec<Value>),
    Emails(Vec<String>),
    Lines,
}

fn kind(input: &Input) -> Result<Form, Note> {
    let text = input.text.trim_start_matches('\u{feff}');
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let Some(first) = lines.clone().next() else {
        return Err(Note::new("", format!("{} is empty", input.name)));
    };
    let broken = |what: String| Note::new("", format!("{}: {what}", input.name));
    let program = first.split_whitespace().next().and_then(|word| word.rsplit('/').next());
    let is_flag = first.starts_with('-') && !first.starts_with("---") && !first.starts_with("- ");
    let is_variable = first.trim_start_matches("export ").starts_with("OAUTH2_PROXY_");
    if is_flag || is_variable || matches!(program, Some("oauth2-proxy" | "oauth2_proxy")) {
        return Ok(Form::Lines);
    }
    let is_email = |line: &str| line.matches('@').count() == 1 && !line.contains([' ', '=', ':', '"', '{', '/']);
    if lines.clone().all(is_email) {
        return Ok(Form::Emails(lines.map(str::to_owned).collect()));
    }
    // A line `name = value` begins TOML, a line `name:` or `- …` YAML.
    let name: usize =
        first.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '"')).map(char::len_utf8).sum();
    let after = first.get(name..).unwrap_or_default().trim_start();
    if after.starts_with('=') && name > 0 {
        return legacy::parse(text).map(Form::Legacy).map_err(broken);
    }
    yaml::documents(text).map(Form::Documents).map_err(broken)
}

/// The structured ("alpha") configuration.
fn is_structured(map: &Map<String, Value>) -> bool {
    let roots = ["upstreamConfig", "injectRequestHeaders", "injectResponseHeaders", "providers"];
    !map.contains_key("apiVersion") && roots.iter().any(|root| map.contains_key(*root))
}

/// A scalar.
fn text(value: Option<&Value>) -> Option<&str> {
    value?.as_str()
}

/// A list of scalars, or one.
fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
