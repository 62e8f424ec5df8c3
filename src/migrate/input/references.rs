//! References to variables within values: `$(NAME)` of Kubernetes, `${NAME}` of docker compose and of shells.

use std::collections::BTreeMap;

/// Bytes of a value that references are filled into: they may name what names others, many times.
const LARGEST: usize = 32 * 1024;

/// Bytes of a reference: what does not end within them is none.
const LONGEST: usize = 1024;

pub(super) type Variables = BTreeMap<String, String>;

/// Who fills references in, before oauth2-proxy sees the value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum By {
    /// `${NAME}`, `${NAME:-default}`, `$NAME`; `$$` is a `$`.
    Compose,
    /// `$(NAME)`; `$$` is a `$`. `${NAME}` is for the shell that a container may begin with, its default too.
    Kubernetes,
    /// Whoever was to run a command line, or to fill in a template, that stands alone: `$(NAME)` and `${NAME}`.
    Anybody,
    /// oauth2-proxy itself, in its structured configuration: as compose.
    Itself,
    /// They are text like any other.
    Nobody,
}

/// Where values stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// What messages call it.
    pub(super) file: &'a str,
    pub(super) by: By,
    /// The variables, those of the nearest place first.
    pub(super) known: &'a [&'a Variables],
}

impl Source<'_> {
    pub(super) fn fill(&self, value: &str) -> Filled {
        fill(value, self.by, self.known)
    }
}

/// A value, its references filled in as far as the files tell.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Filled {
    /// None: the whole is in `variable`, and what that holds is in no file. A reference within that is not known stays.
    pub(super) text: Option<String>,
    /// The value was this variable and nothing else.
    pub(super) variable: Option<String>,
    /// One within the text that is in no file.
    pub(super) unknown: Option<String>,
    /// One that nobody has set, or to nothing, so that the value says nothing or everything.
    pub(super) open: Option<String>,
}

impl Filled {
    /// As one of several values: the variable that has to be known before it is.
    pub(super) fn lacks(&self) -> Option<&String> {
        self.unknown.as_ref().or_else(|| self.variable.as_ref().filter(|_| self.text.is_none()))
    }
}

fn fill(value: &str, by: By, known: &[&Variables]) -> Filled {
    if by == By::Nobody {
        return Filled { text: Some(value.to_owned()), ..Filled::default() };
    }
    let (mut text, mut unknown, mut last, mut rest) = (String::with_capacity(value.len()), None, None, value);
    while let Some((before, from)) = rest.find('$').and_then(|at| rest.split_at_checked(at)) {
        text.push_str(before);
        if let Some((kept, after)) = escaped(from, by) {
            text.push_str(kept);
            rest = after;
            continue;
        }
        let Some((reference, after)) = reference(from, by) else {
            text.push('$');
            rest = from.get(1..).unwrap_or_default();
            continue;
        };
        let found = known.iter().find_map(|variables| variables.get(reference.name)).map(String::as_str);
        let filled = match (found, reference.more) {
            // Whichever of the two it would be, it names others.
            (_, More::Default(more) | More::Instead(more)) if more.contains('$') => None,
            // Nobody knows whether it is a shell that gets it.
            (_, More::Default(_) | More::Instead(_)) if by == By::Kubernetes => None,
            (_, More::Other) => None,
            (Some(""), More::Default(more)) if reference.or_empty => Some(more),
            (Some(""), More::Instead(_)) if reference.or_empty => Some(""),
            (Some(_), More::Instead(more)) | (None, More::Default(more)) => Some(more),
            (found, _) => found,
        };
        let filled = filled.filter(|filled| text.len() + filled.len() <= LARGEST);
        last = Some(reference.name);
        if filled.is_none() {
            unknown = last;
        }
        text.push_str(filled.or_else(|| from.strip_suffix(after)).unwrap_or(from));
        rest = after;
    }
    text.push_str(rest);
    let variable = alone(value, by);
    match (&variable, unknown) {
        (Some(_), Some(_)) => Filled { variable, ..Filled::default() },
        (_, unknown) => {
            let open = last.filter(|_| matches!(text.trim(), "" | "*")).map(str::to_owned);
            Filled { text: Some(text), variable, unknown: unknown.map(str::to_owned), open }
        }
    }
}

/// The variable that a value is, and nothing else.
fn alone(value: &str, by: By) -> Option<String> {
    let value = value.trim();
    let (reference, after) = reference(value, by).filter(|_| escaped(value, by).is_none())?;
    (after.is_empty() && reference.more == More::None).then(|| reference.name.to_owned())
}

struct Reference<'a> {
    name: &'a str,
    more: More<'a>,
    /// What is empty is as what is not there.
    or_empty: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum More<'a> {
    None,
    /// `-`: where there is none.
    Default(&'a str),
    /// `+`: where there is one.
    Instead(&'a str),
    /// What is made of it is the shell's affair.
    Other,
}

/// What `from` begins with, and what is behind it.
fn reference(from: &str, by: By) -> Option<(Reference<'_>, &str)> {
    let inside = from.strip_prefix('$')?;
    let plain = |name| Reference { name, more: More::None, or_empty: false };
    if let Some(round) = inside.strip_prefix('(').filter(|_| matches!(by, By::Kubernetes | By::Anybody)) {
        // Kubernetes takes other characters in names, too.
        let end = round.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')).count();
        let (name, after) = round.split_at_checked(end)?;
        return after.strip_prefix(')').filter(|_| !name.is_empty()).map(|after| (plain(name), after));
    }
    if let Some(curly) = inside.strip_prefix('{') {
        let (name, _) = curly.split_at_checked(name_bytes(curly)).filter(|(name, _)| is_name(name))?;
        let (inside, after) = closed(curly)?;
        let rest = inside.get(name.len()..)?;
        let (or_empty, rest) = rest.strip_prefix(':').map_or((false, rest), |rest| (true, rest));
        let more = match rest.split_at_checked(1) {
            Some(("-" | "=", default)) => More::Default(default),
            Some(("+", instead)) => More::Instead(instead),
            // A message for whoever forgot it.
            Some(("?", _)) => More::None,
            None if !or_empty => More::None,
            _ => More::Other,
        };
        return Some((Reference { name, more, or_empty }, after));
    }
    let (name, after) =
        inside.split_at_checked(name_bytes(inside)).filter(|_| matches!(by, By::Compose | By::Itself))?;
    is_name(name).then(|| (plain(name), after))
}

/// What is within a `{` that has been read, and what is behind the `}` that ends it.
fn closed(text: &str) -> Option<(&str, &str)> {
    let mut open = 1_usize;
    let end = text.bytes().take(LONGEST).position(|b| {
        open = open + usize::from(b == b'{') - usize::from(b == b'}');
        open == 0
    })?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

/// What is no reference although it looks like one, as it is meant.
fn escaped(from: &str, by: By) -> Option<(&'static str, &str)> {
    match by {
        By::Compose | By::Itself | By::Kubernetes => from.strip_prefix("$$").map(|after| ("$", after)),
        By::Anybody | By::Nobody => None,
    }
}

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name_bytes(name) == name.len() && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn name_bytes(text: &str) -> usize {
    text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(value: &str, by: By) -> Filled {
        let variables = [("TEAM", "ops"), ("NONE", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        fill(value, by, &[&Variables::from(variables)])
    }

    #[test]
    fn what_the_files_tell_is_filled_in() {
        for (value, by, text) in [
            ("team-$(TEAM)", By::Kubernetes, "team-ops"),
            ("$(TEAM)", By::Kubernetes, "ops"),
            ("$$(TEAM) $(TEAM a$$b $$$(TEAM)", By::Kubernetes, "$(TEAM) $(TEAM a$b $ops"),
            ("^/a$|$TEAM", By::Kubernetes, "^/a$|$TEAM"),
            ("${TEAM}-$TEAM-$$TEAM-$(TEAM)", By::Compose, "ops-ops-$TEAM-$(TEAM)"),
            ("${GROUPS:-admins},${GROUPS-b}", By::Compose, "admins,b"),
            ("${NONE:-admins}${NONE-b}${TEAM:?say it}", By::Compose, "adminsops"),
            ("${TEAM:+a}${NONE:+b}${NONE+c}", By::Compose, "ac"),
            ("${GROUPS:-{a}}}", By::Compose, "{a}}"),
            ("^/a$|^/b$$", By::Compose, "^/a$|^/b$"),
            ("$(TEAM)${TEAM}$TEAM", By::Anybody, "opsops$TEAM"),
        ] {
            assert_eq!(filled(value, by).text.as_deref(), Some(text), "{value}");
            assert_eq!(filled(value, by).unknown, None, "{value}");
        }
    }

    #[test]
    fn what_explodes_is_not_filled_in() {
        let many = filled(&"$(TEAM)".repeat(100_000), By::Kubernetes);
        assert_eq!(many.unknown.as_deref(), Some("TEAM"));
        assert!(many.text.unwrap().len() < 1_000_000);
        for open in ["${", "$(", "${A", "${A:-"] {
            assert_eq!(filled(&open.repeat(20_000), By::Compose).unknown, None, "{open}");
        }
    }

    #[test]
    fn what_says_nothing_or_everything_is_told() {
        for value in ["${WHO:-}", "${WHO:-*}", "${NONE}", "${NONE:-*}"] {
            assert!(filled(value, By::Compose).open.is_some(), "{value}");
        }
        assert_eq!(filled("*", By::Compose).open, None, "it is written so");
    }

    #[test]
    fn what_they_do_not_tell_is_named() {
        for (value, by, variable, unknown) in [
            ("$(WHO)", By::Kubernetes, Some("WHO"), None),
            (" ${WHO} ", By::Compose, Some("WHO"), None),
            ("$WHO", By::Compose, Some("WHO"), None),
            ("${WHO:?say it}", By::Compose, Some("WHO"), None),
            ("team-$(WHO)", By::Kubernetes, None, Some("WHO")),
            ("${WHO},${TEAM}", By::Compose, None, Some("WHO")),
            ("${WHO:+x}", By::Compose, None, Some("WHO")),
            ("${TEAM%x}", By::Compose, None, Some("TEAM")),
            ("a$(oidc.groups)", By::Kubernetes, None, Some("oidc.groups")),
            ("a${WHO:-b}", By::Kubernetes, None, Some("WHO")),
            ("${WHO:-${TEAM}}", By::Compose, None, Some("WHO")),
            ("${TEAM:-$WHO}", By::Compose, None, Some("TEAM")),
        ] {
            let filled = filled(value, by);
            assert_eq!((filled.variable.as_deref(), filled.unknown.as_deref()), (variable, unknown), "{value}");
            assert_eq!(filled.text.is_none(), variable.is_some(), "{value}");
        }
        assert_eq!(filled("${WHO},${TEAM}", By::Compose).text.as_deref(), Some("${WHO},ops"), "it stays as it is");
        let known = filled("$(TEAM)", By::Kubernetes);
        assert_eq!((known.variable.as_deref(), known.text.as_deref()), (Some("TEAM"), Some("ops")));
    }
}
