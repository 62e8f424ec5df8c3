//! The flags of `serve` that stand for keys: the whole configuration where there is no file, overrides beside one.

use std::path::PathBuf;

use figment::value::{Dict, Tag, Value};

use super::problem::{Problem, Problems};

/// As given on the command line.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub issuer: Option<String>,
    pub client_id: Option<String>,
    pub client_secret_file: Option<PathBuf>,
    pub upstream: Option<String>,
    pub listen: Option<String>,
    pub public_url: Option<String>,
}

/// Where there is no file: one provider, one route; flags and environment say the rest.
pub(super) fn defaults() -> Dict {
    let route = Dict::from([
        ("path".to_owned(), Value::from("/")),
        ("access".to_owned(), Value::from("authenticated")),
        ("identity".to_owned(), Value::from(vec!["x-forwarded"])),
    ]);
    Dict::from([
        ("server".to_owned(), Value::from(Dict::from([("listen".to_owned(), Value::from("127.0.0.1:4180"))]))),
        ("provider".to_owned(), Value::from(Dict::from([("main".to_owned(), Value::from(Dict::new()))]))),
        ("route".to_owned(), Value::from(vec![route])),
    ])
}

pub(super) fn given(flags: &Flags) -> Vec<(&'static str, Value)> {
    let text = |value: &Option<String>| value.as_deref().map(Value::from);
    let secret = flags.client_secret_file.as_ref().map(|path| {
        let path = path.to_string_lossy().into_owned();
        Value::from(Dict::from([("file".to_owned(), Value::from(path))]))
    });
    [
        ("--issuer", text(&flags.issuer)),
        ("--client-id", text(&flags.client_id)),
        ("--client-secret-file", secret),
        ("--upstream", text(&flags.upstream)),
        ("--listen", text(&flags.listen)),
        ("--public-url", text(&flags.public_url)),
    ]
    .into_iter()
    .filter_map(|(flag, value)| Some((flag, value?)))
    .collect()
}

/// Moves each flag, merged under its own name, to the key that it stands for.
pub(super) fn place(root: &mut Dict, flags: &Flags) -> Result<(), Problems> {
    let mut problems = Vec::new();
    for (flag, _) in given(flags) {
        let Some(value) = root.remove(flag) else { continue };
        let placed = match flag {
            "--issuer" => in_provider(root, "issuer", value),
            "--client-id" => in_provider(root, "client_id", value),
            "--client-secret-file" => in_provider(root, "client_secret", value),
            "--upstream" => in_route(root, value),
            "--listen" => in_table(root, "server", "listen", value),
            _ => in_table(root, "server", "public_url", value),
        };
        if let Err((message, hint)) = placed {
            problems.push(Problem {
                key: flag.to_owned(),
                name: None,
                source: format!("flag {flag}"),
                line: None,
                message: message.to_owned(),
                hint: hint.to_owned(),
            });
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems::new(problems)) }
}

type Placed = Result<(), (&'static str, &'static str)>;

fn in_provider(root: &mut Dict, key: &str, value: Value) -> Placed {
    let providers = root.entry("provider".to_owned()).or_insert_with(|| Value::Dict(value.tag(), Dict::new()));
    // What is no table is reported by whoever reads it.
    let Value::Dict(_, providers) = providers else { return Ok(()) };
    if providers.len() > 1 {
        return Err(("several providers are configured", "Set it in its [provider.NAME] section instead."));
    }
    let name = providers.keys().next().map_or_else(|| "main".to_owned(), Clone::clone);
    in_table(providers, &name, key, value)
}

fn in_route(root: &mut Dict, value: Value) -> Placed {
    match root.get_mut("route") {
        Some(Value::Array(_, routes)) => match routes.as_mut_slice() {
            [Value::Dict(_, route)] => {
                route.insert("upstream".to_owned(), value);
                Ok(())
            }
            _ => Err(("there is not exactly one route", "Set `upstream` in its [[route]] section instead.")),
        },
        _ => Err(("there is no route whose upstream this could be", "Add a [[route]] section.")),
    }
}

fn in_table(root: &mut Dict, table: &str, key: &str, value: Value) -> Placed {
    let tag: Tag = value.tag();
    if let Value::Dict(_, members) = root.entry(table.to_owned()).or_insert_with(|| Value::Dict(tag, Dict::new())) {
        members.insert(key.to_owned(), value);
    }
    Ok(())
}
