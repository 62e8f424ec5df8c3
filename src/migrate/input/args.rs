//! Flags and variables: `--flag=value`, `--flag value`, a flag alone, `OAUTH2_PROXY_NAME=value`.

use super::super::keys::{self, Key, Kind};
use super::super::options::{Given, Layer, Options};

const PREFIX: &str = "OAUTH2_PROXY_";

/// Flags that say where more is written, or what to do, and configure nothing.
const OTHERS: [&str; 5] = ["config", "alpha-config", "convert-config-to-alpha", "config-test", "version"];

/// The words of a command line, the program's own name among them or not. What they name as configuration files is
/// returned: base names.
pub(super) fn flags(words: &[String], file: &str, options: &mut Options) -> Vec<String> {
    let mut files = Vec::new();
    let mut words = words.iter().map(|word| word.trim()).peekable();
    while let Some(word) = words.next() {
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
            Some(key) => give(key, &value.unwrap_or_else(|| "true".to_owned()), Layer::Flag, file, options),
            None if OTHERS.contains(&name) => {
                let base = value.as_deref().and_then(|path| path.rsplit('/').next()).map(str::to_owned);
                files.extend(base.filter(|_| name.ends_with("config")));
            }
            None => options.warn(&format!("--{name}"), format!("not carried over: no flag of oauth2-proxy ({file})")),
        }
    }
    files
}

/// One variable. `value` is None where only the cluster knows it. Others than oauth2-proxy's are passed over.
pub(super) fn variable(name: &str, value: Option<&str>, file: &str, options: &mut Options) {
    let Some(rest) = name.strip_prefix(PREFIX) else { return };
    let Some(key) = keys::named(&rest.to_ascii_lowercase()) else {
        return options.warn(name, format!("not carried over: no variable of oauth2-proxy ({file})"));
    };
    let values = value.map(|value| split(key, value)).unwrap_or_default();
    let given = Given { values, layer: Layer::Variable, file: file.to_owned(), variable: Some(name.to_owned()) };
    options.give(key, given);
}

/// One key with one text. A value that is `$(NAME)` or `${NAME}` and nothing else is in that variable.
pub(super) fn give(key: &'static Key, value: &str, layer: Layer, file: &str, options: &mut Options) {
    let variable = reference(value);
    let values = if variable.is_some() { Vec::new() } else { split(key, value) };
    options.give(key, Given { values, layer, file: file.to_owned(), variable });
}

/// `$(NAME)`, as Kubernetes writes it, or `${NAME}`, as docker compose and the structured configuration do.
pub(super) fn reference(value: &str) -> Option<String> {
    let inside = value.trim().strip_prefix('$')?;
    let name = inside.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let name = name.or_else(|| inside.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')))?;
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_name.then(|| name.to_owned())
}

/// A list may have several values in one text.
fn split(key: &Key, value: &str) -> Vec<String> {
    match key.kind {
        Kind::List => value.split(',').map(|part| part.trim().trim_matches('"').to_owned()).collect(),
        Kind::Bool | Kind::Text => vec![value.to_owned()],
    }
}

/// The words of a line as a shell splits them, quotes taken off.
pub(super) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            None if matches!(c, '"' | '\'') => (quote, begun) = (Some(c), true),
            None if c.is_whitespace() || c == '\\' => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            _ => word.push(c),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    words
}

/// Plain text: one flag or variable a line, or a whole command line.
pub(super) fn lines(text: &str, file: &str, options: &mut Options) -> Vec<String> {
    let mut command = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let assignment = line.strip_prefix("export ").unwrap_or(line);
        match assignment.split_once('=') {
            Some((name, value)) if name.starts_with(PREFIX) => {
                let value = value.trim();
                let quoted =
                    [('"', '"'), ('\'', '\'')].iter().find_map(|(a, b)| value.strip_prefix(*a)?.strip_suffix(*b));
                variable(name.trim(), Some(quoted.unwrap_or(value)), file, options);
            }
            _ => command.extend(words(line)),
        }
    }
    flags(&command, file, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Options {
        let mut options = Options::default();
        lines(text, "args", &mut options);
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
        flags(&words("--client-id=two"), "args", &mut options);
        variable("OAUTH2_PROXY_CLIENT_ID", Some("three"), "env", &mut options);
        assert_eq!(options.text("client_id"), Some("two"));
    }

    #[test]
    fn a_reference_is_kept_as_one() {
        let options = read("--client-secret=$(OIDC_SECRET) --cookie-secret=${COOKIE}");
        let variable = |name| options.given(name).and_then(|given| given.variable.clone());
        assert_eq!(variable("client_secret").as_deref(), Some("OIDC_SECRET"));
        assert_eq!(variable("cookie_secret").as_deref(), Some("COOKIE"));
        assert_eq!(reference("pass$(word)"), None);
    }

    #[test]
    fn what_is_no_flag_is_named() {
        let options = read("--no-such-flag=1\nOAUTH2_PROXY_NO_SUCH=1\n--config=/etc/o2p.cfg");
        let keys: Vec<_> = options.notes.iter().map(|note| note.key.as_str()).collect();
        assert_eq!(keys, ["OAUTH2_PROXY_NO_SUCH", "--no-such-flag"]);
    }
}
