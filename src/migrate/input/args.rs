//! Flags and variables: `--flag=value`, `--flag value`, a flag alone, `OAUTH2_PROXY_NAME=value`.

use super::super::keys::{self, Key, Kind};
use super::super::options::{Given, Layer, Options};
use super::references::{Filled, Source, Variables, is_name};

const PREFIX: &str = "OAUTH2_PROXY_";

/// Flags that say where more is written, or what to do, and configure nothing.
const OTHERS: [&str; 5] = ["config", "alpha-config", "convert-config-to-alpha", "config-test", "version"];

/// The words of a command line, the program's own name among them or not. What they name as configuration files is
/// returned: base names.
pub(super) fn flags(words: &[String], source: Source<'_>, options: &mut Options) -> Vec<String> {
    let mut files = Vec::new();
    let mut words = words.iter().map(|word| word.trim()).peekable();
    while let Some(word) = words.next() {
        // Of a shell.
        if word == "-c" {
            continue;
        }
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
        let (name, mut value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let key = keys::flagged(name);
        if value.is_none() && key.is_none_or(|key| key.kind != Kind::Bool) {
            value = words.next_if(|next| !next.starts_with('-')).map(str::to_owned);
        }
        match key {
            Some(key) => give(key, &value.unwrap_or_else(|| "true".to_owned()), Layer::Flag, source, options),
            None if OTHERS.contains(&name) => {
                let base = value.as_deref().and_then(|path| path.rsplit('/').next()).map(str::to_owned);
                files.extend(base.filter(|_| name.ends_with("config")));
            }
            None => options
                .warn(&format!("--{name}"), format!("not carried over: no flag of oauth2-proxy ({})", source.file)),
        }
    }
    files
}

/// One variable. `value` is None where only the cluster knows it. Others than oauth2-proxy's are passed over.
pub(super) fn variable(name: &str, value: Option<&str>, source: Source<'_>, options: &mut Options) {
    let Some(rest) = name.strip_prefix(PREFIX) else { return };
    let Some(key) = keys::named(&rest.to_ascii_lowercase()) else {
        return options.warn(name, format!("not carried over: no variable of oauth2-proxy ({})", source.file));
    };
    let filled = value.map(|value| source.fill(value)).unwrap_or_default();
    let given = given(key, vec![filled], Layer::Variable, source.file);
    options.give(key, Given { variable: Some(name.to_owned()), ..given });
}

/// One key with one text.
pub(super) fn give(key: &'static Key, value: &str, layer: Layer, source: Source<'_>, options: &mut Options) {
    options.give(key, given(key, vec![source.fill(value)], layer, source.file));
}

/// The values of one key, which may be lists in one text.
pub(super) fn given(key: &Key, filled: Vec<Filled>, layer: Layer, file: &str) -> Given {
    let given = whole(filled, layer, file);
    Given { values: given.values.iter().flat_map(|text| split(key, text)).collect(), ..given }
}

/// The values of one key as they are, or the variable that holds it.
pub(super) fn whole(filled: Vec<Filled>, layer: Layer, file: &str) -> Given {
    let open = filled.iter().find_map(|one| one.open.clone());
    let (variable, unknown) = match &*filled {
        [one] => (one.variable.clone(), one.unknown.clone()),
        several => (None, several.iter().find_map(Filled::lacks).cloned()),
    };
    let values = filled.into_iter().filter_map(|one| one.text).collect();
    Given { values, layer, file: file.to_owned(), variable, unknown, open }
}

/// A list may have several values in one text.
fn split(key: &Key, value: &str) -> Vec<String> {
    match key.kind {
        Kind::List => value.split(',').map(|part| part.trim().trim_matches('"').to_owned()).collect(),
        Kind::Bool | Kind::Text => vec![value.to_owned()],
    }
}

/// The words of a line as a shell splits them, quotes taken off. A backslash stays with what it is before: in a file of flags
/// it is part of the value, and what a shell would make of it is a pattern too.
pub(super) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let continues = c == '\\' && chars.peek().is_none_or(|next| matches!(next, '\n' | '\r'));
        match quote {
            Some(q) if c == q => quote = None,
            None if matches!(c, '"' | '\'') => (quote, begun) = (Some(c), true),
            None if c.is_whitespace() || continues => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            None if c == '\\' => word.extend([Some(c), chars.next()].into_iter().flatten()),
            _ => word.push(c),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    words
}

/// The words of a container's command. A shell's `-c` has the whole line in one.
pub(super) fn command(listed: &[String]) -> Vec<String> {
    let is_line = |word: &str| word.split_whitespace().skip(1).any(|word| word.starts_with("--"));
    listed.iter().flat_map(|word| if is_line(word) { words(word) } else { vec![word.clone()] }).collect()
}

/// Plain text: one flag or variable a line, or a whole command line.
pub(super) fn lines(text: &str, source: Source<'_>, options: &mut Options) -> Vec<String> {
    let mut command = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match assignment(line) {
            Some((name, value)) => variable(name, Some(value), source, options),
            None => {
                for (name, value) in before(line) {
                    variable(&name, Some(&value), source, options);
                }
                command.extend(words(line));
            }
        }
    }
    flags(&command, source, options)
}

/// The variables that a text sets, whoever they are for.
pub(super) fn assignments(text: &str) -> Variables {
    let set = |line: &str| match assignment(line) {
        Some((name, value)) => vec![(name.to_owned(), value.to_owned())],
        None => before(line),
    };
    // One that names others is as good as unknown: who would fill it in is not said here.
    let is_plain = |(_, value): &(String, String)| !value.contains("${") && !value.contains("$(");
    text.lines().map(str::trim).flat_map(set).filter(is_plain).collect()
}

/// `NAME=value`, `export NAME='value'`; but no command line that begins with one.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    (is_name(name) && !is_command(line)).then(|| (name, quoted.unwrap_or(value)))
}

/// Whether a line runs something with flags.
fn is_command(line: &str) -> bool {
    let is_program = |word: &String| matches!(word.rsplit('/').next(), Some("oauth2-proxy" | "oauth2_proxy"));
    words(line).iter().skip(1).any(|word| is_program(word) || word.starts_with("--"))
}

/// A command line, and the variables that stand before it: `NAME=value oauth2-proxy --flag`.
fn before(line: &str) -> Vec<(String, String)> {
    let set = words(line).into_iter().skip_while(|word| matches!(&**word, "exec" | "export" | "env"));
    let set = set.map_while(|word| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
    set.take_while(|(name, _)| is_name(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::references::By;
    use super::*;

    const SOURCE: Source<'_> = Source { file: "args", by: By::Anybody, known: &[] };

    fn read(text: &str) -> Options {
        let mut options = Options::default();
        lines(text, SOURCE, &mut options);
        options
    }

    #[test]
    fn every_way_to_write_a_flag() {
        let options = read(
            "oauth2-proxy \\\n  --provider=oidc --client-id app \\\n --email-domain=a.example,b.example\n\
             --email-domain \"c.example\" -reverse-proxy --skip-provider-button=false --cookie-secure\n",
        );
        assert_eq!(options.text("provider"), Some("oidc"));
        assert_eq!(options.text("client_id"), Some("app"));
        assert_eq!(options.list("email_domains"), ["a.example", "b.example", "c.example"]);
        assert!(options.flag("reverse_proxy", false) && !options.flag("skip_provider_button", true));
        assert!(options.flag("cookie_secure", false));
        assert!(options.notes.is_empty(), "{:?}", options.notes);
    }

    #[test]
    fn variables_and_what_wins() {
        let mut options =
            read("# secrets\nexport OAUTH2_PROXY_CLIENT_ID='one'\nOAUTH2_PROXY_UPSTREAMS=http://a,http://b/x/\n");
        assert_eq!(options.list("upstreams"), ["http://a", "http://b/x/"]);
        flags(&words("--client-id=two"), SOURCE, &mut options);
        variable("OAUTH2_PROXY_CLIENT_ID", Some("three"), SOURCE, &mut options);
        assert_eq!(options.text("client_id"), Some("two"));
    }

    #[test]
    fn a_reference_is_kept_as_one() {
        let options = read("--client-secret=$(OIDC_SECRET) --cookie-secret=${COOKIE}");
        let variable = |name| options.given(name).and_then(|given| given.variable.clone());
        assert_eq!(variable("client_secret").as_deref(), Some("OIDC_SECRET"));
        assert_eq!(variable("cookie_secret").as_deref(), Some("COOKIE"));
    }

    #[test]
    fn variables_before_a_command_hide_no_flag() {
        let options = read(
            "OAUTH2_PROXY_SCOPE=openid email\nOAUTH2_PROXY_PROMPT=login HTTPS_PROXY=http://squid:3128 oauth2-proxy --allowed-group=ops",
        );
        assert_eq!((options.text("scope"), options.text("prompt")), (Some("openid email"), Some("login")));
        assert_eq!(options.list("allowed_groups"), ["ops"]);
    }

    #[test]
    fn a_backslash_is_no_space() {
        let options = read("--skip-auth-route=^/admin\\.css$ \\\n  --client-id=app");
        assert_eq!(options.list("skip_auth_routes"), ["^/admin\\.css$"]);
        assert_eq!(options.text("client_id"), Some("app"));
    }

    #[test]
    fn what_is_no_flag_is_named() {
        let options = read("--no-such-flag=1\nOAUTH2_PROXY_NO_SUCH=1\n--config=/etc/o2p.cfg");
        let keys: Vec<_> = options.notes.iter().map(|note| note.key.as_str()).collect();
        assert_eq!(keys, ["OAUTH2_PROXY_NO_SUCH", "--no-such-flag"]);
    }
}
