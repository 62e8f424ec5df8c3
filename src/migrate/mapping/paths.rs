//! Regular expressions that are paths in disguise. Doorward has none: what is a path, or the beginning of one, becomes a
//! route; everything else does not, and stays protected.

/// A path alone, or with everything below it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Place {
    Exact(String),
    Below(String),
}

impl Place {
    /// As a route has it.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Exact(path) => format!("={path}"),
            Self::Below(path) => path.clone(),
        }
    }

    /// Whether all of `other` is in it.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let (Self::Exact(path) | Self::Below(path)) = other;
        match self {
            Self::Exact(_) => self == other,
            Self::Below(top) if top == "/" => true,
            Self::Below(top) => {
                path.strip_prefix(top.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}

/// How many places one expression may stand for.
const MOST: usize = 32;

/// What may follow the path: nothing more of it, or anything.
const EXACT: [&str; 1] = ["$"];
const OPTIONAL_SLASH: [&str; 2] = ["/?$", "(/)?$"];
const ANYTHING: [&str; 14] = [
    "",
    ".*",
    ".*$",
    "(.*)",
    "(.*)$",
    "/?",
    "/?.*",
    "/?.*$",
    "(/.*)?",
    "(/.*)?$",
    "(?:/.*)?$",
    "(/|$)",
    "(?:/|$)",
    "($|/)",
];

/// The places that `pattern` stands for; never more than it matches, but for the slash at the end of a prefix.
pub(super) fn places(pattern: &str) -> Result<Vec<Place>, &'static str> {
    let mut places = Vec::new();
    for alternative in split(pattern)? {
        let rest = alternative.strip_prefix('^').unwrap_or(alternative);
        let mut found = vec![String::new()];
        let mut rest = rest;
        let tail = loop {
            if [&EXACT[..], &OPTIONAL_SLASH, &ANYTHING].iter().any(|tails| tails.contains(&rest)) {
                break rest;
            }
            let (texts, after) = unit(rest)?;
            found = found.iter().flat_map(|start| texts.iter().map(move |text| format!("{start}{text}"))).collect();
            if found.len() > MOST {
                return Err("stands for too many paths");
            }
            rest = after;
        };
        for path in found {
            places.extend(place(&path, tail)?);
        }
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

fn place(path: &str, tail: &str) -> Result<Vec<Place>, &'static str> {
    if EXACT.contains(&tail) {
        return canonical(path).map(|path| vec![Place::Exact(path)]);
    }
    if OPTIONAL_SLASH.contains(&tail) && !path.is_empty() {
        return Ok(vec![Place::Exact(canonical(path)?), Place::Exact(canonical(&format!("{path}/"))?)]);
    }
    let top = path.trim_end_matches('/');
    if top.is_empty() {
        return Err("is the whole site");
    }
    canonical(top).map(|path| vec![Place::Below(path)])
}

/// The parts between `|` that no parenthesis holds.
fn split(pattern: &str) -> Result<Vec<&str>, &'static str> {
    let (mut depth, mut start, mut escaped) = (0_usize, 0, false);
    let mut parts = Vec::new();
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1).ok_or("is no regular expression")?,
            '|' if depth == 0 => {
                parts.extend(pattern.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(pattern.get(start..));
    Ok(parts)
}

/// One character, or a group of texts; and what follows it.
fn unit(pattern: &str) -> Result<(Vec<String>, &str), &'static str> {
    const PATTERN: &str = "is a pattern, and Doorward has no regular expressions";
    let mut chars = pattern.chars();
    let (texts, rest) = match chars.next().ok_or(PATTERN)? {
        '(' => {
            let (inside, rest) = chars.as_str().split_once(')').ok_or(PATTERN)?;
            let inside = inside.strip_prefix("?:").unwrap_or(inside);
            let mut texts = Vec::new();
            for alternative in inside.split('|') {
                let (mut text, mut rest) = (String::new(), alternative);
                while !rest.is_empty() {
                    if rest.starts_with('(') {
                        return Err(PATTERN);
                    }
                    let (one, after) = unit(rest)?;
                    text.extend(one);
                    rest = after;
                }
                texts.push(text);
            }
            (texts, rest)
        }
        '\\' => match chars.next() {
            Some(c) if !c.is_alphanumeric() => (vec![c.to_string()], chars.as_str()),
            _ => return Err(PATTERN),
        },
        // Any character; the dot itself is one.
        '.' => (vec![".".to_owned()], chars.as_str()),
        '[' | ']' | '{' | '}' | '*' | '+' | '?' | '^' | '$' | '|' | ')' => return Err(PATTERN),
        c => (vec![c.to_string()], chars.as_str()),
    };
    if rest.starts_with(['*', '+', '?', '{']) { Err(PATTERN) } else { Ok((texts, rest)) }
}

/// A path that a route can have.
pub(super) fn canonical(path: &str) -> Result<String, &'static str> {
    let is_plain = |c: char| c.is_ascii_graphic() && !"*%?#\\;\"<>[]^`{|}".contains(c);
    if !path.starts_with('/') {
        Err("does not begin with a path's slash")
    } else if !path.chars().all(is_plain)
        || path.contains("//")
        || path.split('/').any(|segment| matches!(segment, "." | ".."))
    {
        Err("has what no path of a route can have")
    } else {
        Ok(path.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pattern: &str) -> Result<Vec<String>, &'static str> {
        places(pattern).map(|places| places.iter().map(Place::path).collect())
    }

    #[test]
    fn paths_in_disguise() {
        for (pattern, want) in [
            ("^/health$", &["=/health"][..]),
            ("^/health", &["/health"]),
            ("/health", &["/health"]),
            ("^/static/", &["/static"]),
            ("^/static/.*", &["/static"]),
            ("^/api(/.*)?$", &["/api"]),
            ("^/robots.txt$", &["=/robots.txt"]),
            ("^/robots\\.txt$", &["=/robots.txt"]),
            ("^/a/?$", &["=/a", "=/a/"]),
            ("^/(healthz|readyz)$", &["=/healthz", "=/readyz"]),
            ("^/(?:a|b)/c/", &["/a/c", "/b/c"]),
            ("^/a$|^/b", &["=/a", "/b"]),
            ("^/$", &["=/"]),
            ("^\\/x\\-y$", &["=/x-y"]),
        ] {
            assert_eq!(
                shown(pattern).as_deref(),
                Ok(want.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().as_slice()),
                "{pattern}"
            );
        }
    }

    /// Whatever is not a path stays protected: a route in its place could be wider than the pattern.
    #[test]
    fn patterns_become_no_route() {
        for pattern in [
            "",
            ".*",
            "^",
            "^/",
            "^/.*$",
            "/",
            "(.*)",
            "\\.js$",
            "^/a[0-9]",
            "^/a.*b$",
            "^/a+",
            "^/a?b",
            "^/(a|b)*",
            "^/(a(b))$",
            "^/\\d+$",
            "(?i)^/a$",
            "^/a.+",
            "^/a/../b$",
            "^/a//b$",
            "^/%2e$",
            "a",
            "^/a{2}$",
            "^/a)b",
            "^/a$|.*",
            "^[/]a",
        ] {
            assert!(places(pattern).is_err(), "{pattern}: {:?}", places(pattern));
        }
        assert!(places(&format!("^/{}", "(a|b)".repeat(6))).is_err());
    }

    #[test]
    fn what_covers_what() {
        let below = |path: &str| Place::Below(path.to_owned());
        let exact = |path: &str| Place::Exact(path.to_owned());
        assert!(
            below("/a").covers(&below("/a/b")) && below("/a").covers(&exact("/a")) && below("/").covers(&exact("/x"))
        );
        assert!(
            !below("/a").covers(&below("/ab"))
                && !exact("/a").covers(&below("/a"))
                && !below("/a/b").covers(&below("/a"))
        );
    }
}
