//! The line of a key in a TOML text. A best effort for messages only: it knows headers and `key =` lines, and takes a
//! line inside a multi-line string for what it looks like.

use std::collections::HashMap;

/// The line (from 1) of the deepest key that leads to `wanted` or is it; lists count from 1, as decimal steps.
pub(super) fn line_of(text: &str, wanted: &[String]) -> Option<usize> {
    let mut counts: HashMap<Vec<String>, usize> = HashMap::new();
    let mut section: Vec<String> = Vec::new();
    let mut best: Option<(usize, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let path = if let Some(header) = line.strip_prefix("[[") {
            section = resolve(&split(header.split("]]").next().unwrap_or_default()), &counts, true);
            let count = counts.entry(section.clone()).or_insert(0);
            *count += 1;
            section.push(count.to_string());
            section.clone()
        } else if let Some(header) = line.strip_prefix('[') {
            section = resolve(&split(header.split(']').next().unwrap_or_default()), &counts, false);
            section.clone()
        } else if let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            section.iter().cloned().chain(split(name)).collect()
        } else {
            continue;
        };
        if wanted.starts_with(&path) && best.is_none_or(|(depth, _)| path.len() > depth) {
            best = Some((path.len(), number + 1));
        }
    }
    best.map(|(_, line)| line)
}

/// `[route.machine]` belongs to the last `[[route]]`: puts the number of the list's last member behind its name.
fn resolve(names: &[String], counts: &HashMap<Vec<String>, usize>, header_of_list: bool) -> Vec<String> {
    let mut path = Vec::new();
    for (n, name) in names.iter().enumerate() {
        path.push(name.clone());
        let last = n + 1 == names.len();
        if let Some(count) = counts.get(&path).filter(|_| !(last && header_of_list)) {
            path.push(count.to_string());
        }
    }
    path
}

/// `provider."my idp".issuer` as its three names.
fn split(dotted: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut quote = None;
    for c in dotted.trim().chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, '.') => names.push(String::new()),
            (None, _) if c.is_whitespace() => {}
            _ => {
                if let Some(name) = names.last_mut() {
                    name.push(c);
                }
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_deepest_line() {
        let text = "[server]\nlisten = \"x\"\n\n[[route]]\npath = \"/\"\n[route.machine]\nissuers = []\n\n[[route]]\n\
                    # path = \"/no\"\nidentity = [{ header = \"a\" }]\n[provider.\"a b\"]\nclaims.user = \"sub\"\n";
        for (wanted, line) in [
            ("server/listen", Some(2)),
            ("server/tls/cert", Some(1)),
            ("route/1/path", Some(5)),
            ("route/1/machine/issuers", Some(7)),
            ("route/2/path", Some(9)),
            ("route/2/identity/1/header", Some(11)),
            ("provider/a b/claims/user", Some(13)),
            ("admin/listen", None),
        ] {
            let wanted_steps: Vec<String> = wanted.split('/').map(str::to_owned).collect();
            assert_eq!(line_of(text, &wanted_steps), line, "{wanted}");
        }
    }
}
