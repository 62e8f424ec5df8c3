//! Reads what oauth2-proxy is configured with, in any of the forms that it is written in, into `Options`. Which form a text
//! has is seen from the text. Nothing here knows a key of Doorward.

mod alpha;
mod args;
mod compose;
mod helm;
mod kubernetes;
mod legacy;
mod references;
mod yaml;

use serde_json::{Map, Value};

use self::references::{By, Source, Variables};
use super::keys;
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
    let forms = inputs.iter().map(|input| Ok((&*input.name, kind(input)?))).collect::<Result<Vec<_>, Note>>()?;
    // What others may name.
    let mut outside = Variables::new();
    for (_, form) in &forms {
        if let Form::Lines(text) = form {
            outside.extend(args::assignments(text));
        }
    }
    let mut variables = outside.clone();
    // The structured configuration last: it names variables that the others set.
    let mut structured = Vec::new();
    let mut wanted = Vec::new();
    for (file, form) in forms {
        let source = Source { file, by: By::Anybody, known: &[&outside] };
        match form {
            Form::Legacy(table) => legacy::read(&table, source, &mut options),
            Form::Emails(emails) => options.emails.extend(emails),
            Form::Lines(text) => wanted.extend(args::lines(text, source, &mut options)),
            Form::Documents(documents) => {
                let mut found = kubernetes::Found::default();
                for document in &documents {
                    match document {
                        Value::Object(map) if is_structured(map) => structured.push((map.clone(), file.to_owned())),
                        Value::Object(map) if map.contains_key("services") => {
                            wanted.extend(compose::read(map, file, &outside, &mut variables, &mut options));
                        }
                        Value::Object(map) if helm::is(map) => {
                            structured.extend(helm::read(map, file, &outside, &mut variables, &mut options)?);
                        }
                        Value::Object(map) => found.document(map),
                        _ => {}
                    }
                }
                wanted.extend(found.read(file, &outside, &mut variables, &mut structured, &mut options)?);
            }
        }
    }
    for (map, name) in structured {
        alpha::read(&map, Source { file: &name, by: By::Itself, known: &[&variables] }, &mut options);
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

enum Form<'a> {
    Legacy(Map<String, Value>),
    Documents(Vec<Value>),
    Emails(Vec<String>),
    Lines(&'a str),
}

fn kind(input: &Input) -> Result<Form<'_>, Note> {
    let text = unmarked(&input.text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let Some(first) = lines.clone().next() else {
        return Err(Note::new("", format!("{} is empty", input.name)));
    };
    let broken = |what: String| Note::new("", format!("{}: {what}", input.name));
    let program = first.split_whitespace().next().and_then(|word| word.rsplit('/').next());
    let is_flag = first.starts_with('-') && !first.starts_with("---") && !first.starts_with("- ");
    let is_variable = sets_variable(first, text);
    if is_flag || is_variable || matches!(program, Some("oauth2-proxy" | "oauth2_proxy")) {
        return Ok(Form::Lines(text));
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

/// Whether this line of `text` sets a variable, as an `.env` file does, and no key of TOML.
fn sets_variable(line: &str, text: &str) -> bool {
    let Some((name, _)) = line.strip_prefix("export ").unwrap_or(line).split_once('=') else { return false };
    let is_upper = references::is_name(name) && name == name.to_ascii_uppercase();
    // oauth2-proxy takes its keys in any case.
    let is_key = || keys::named(&name.to_ascii_lowercase()).is_some() && legacy::parse(text).is_ok();
    name.starts_with("OAUTH2_PROXY_") || is_upper && !is_key()
}

/// Without the byte order mark that some editors begin a file with.
fn unmarked(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

/// Those that are oauth2-proxy, of things with a name and perhaps an image: what an image says counts more than a name, which
/// its Redis may have too. Of several, each keeps out other people, and no result could keep out those of all.
fn ours<'a>(all: Vec<(&str, &'a Value)>, file: &str, options: &mut Options) -> Vec<&'a Value> {
    let says = |text: &str| text.contains("oauth2-proxy") || text.contains("oauth2_proxy");
    let of_image: Vec<&Value> =
        all.iter().filter(|(_, one)| text(one.get("image")).is_some_and(says)).map(|(_, one)| *one).collect();
    let found = match of_image.is_empty() {
        false => of_image,
        true => all.into_iter().filter(|(name, _)| says(name)).map(|(_, one)| one).collect(),
    };
    if found.len() > 1 {
        let why =
            format!("{} containers of oauth2-proxy are in {file}: give one at a time, each makes a file", found.len());
        options.refuse("", why);
    }
    found
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
