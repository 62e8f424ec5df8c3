//! References to variables within values: `$(NAME)` of Kubernetes, `${NAME}` of docker compose and of shells.

use std::collections::BTreeMap;

pub(super) type Variables = BTreeMap<String, String>;

/// Who fills references in, before oauth2-proxy sees the value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum By {
    /// `${NAME}`, `${NAME:-default}`, `$NAME`; `$$` is a `$`.
    Compose,
    /// `$(NAME)`; `$$(NAME)` is `$(NAME)`. `${NAME}` is for the shell that a container may begin with.
    Kubernetes,
    /// Whoever was to run a command line, or to fill in a template, that stands alone: `$(NAME)` and `${NAME}`.
    Anybody,
    /// oauth2-proxy itself, in its structured configuration: `${NAME}`.
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
    let (mut text, mut unknown, mut rest) = (String::with_capacity(value.len()), None, value);
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
        match known.iter().find_map(|variables| variables.get(reference.name)).map(String::as_str) {
            Some(found) if !(found.is_empty() && reference.or_empty) => text.push_str(found),
            _ => match reference.default {
                Some(default) => text.push_str(default),
                None => {
                    text.push_str(from.strip_suffix(after).unwrap_or(from));
                    unknown = Some(reference.name.to_owned());
                }
            },
        }
        rest = after;
    }
    text.push_str(rest);
    let variable = alone(value, by);
    match (&variable, unknown) {
        (Some(_), Some(_)) => Filled { text: None, variable, unknown: None },
        (_, unknown) => Filled { text: Some(text), variable, unknown },
    }
}

/// The variable that a value is, and nothing else.
fn alone(value: &str, by: By) -> Option<String> {
    let value = value.trim();
    let (reference, after) = reference(value, by).filter(|_| escaped(value, by).is_none())?;
    (after.is_empty() && reference.default.is_none()).then(|| reference.name.to_owned())
}

struct Reference<'a> {
    name: &'a str,
    default: Option<&'a str>,
    /// The default also stands for what is empty.
    or_empty: bool,
}

/// What `from` begins with, and what is behind it.
fn reference(from: &str, by: By) -> Option<(Reference<'_>, &str)> {
    let inside = from.strip_prefix('$')?;
    let plain = |name| Reference { name, default: None, or_empty: false };
    if let Some(round) = inside.strip_prefix('(').filter(|_| matches!(by, By::Kubernetes | By::Anybody)) {
        let (name, after) = round.split_once(')')?;
        return is_name(name).then(|| (plain(name), after));
    }
    if let Some(curly) = inside.strip_prefix('{') {
        let (inside, after) = curly.split_once('}')?;
        let (name, more) = inside.split_at_checked(name_bytes(inside))?;
        let (or_empty, more) = more.strip_prefix(':').map_or((false, more), |more| (true, more));
        let default = more.strip_prefix('-');
        // `?` is a message for whoever forgot it, `+` a text in its place.
        let is_one = default.is_some() || more.starts_with(['?', '+']) || (more.is_empty() && !or_empty);
        return (is_name(name) && is_one).then_some((Reference { name, default, or_empty }, after));
    }
    let (name, after) = inside.split_at_checked(name_bytes(inside)).filter(|_| by == By::Compose)?;
    is_name(name).then(|| (plain(name), after))
}

/// What is no reference although it looks like one, as it is meant.
fn escaped(from: &str, by: By) -> Option<(&'static str, &str)> {
    match by {
        By::Compose => from.strip_prefix("$$").map(|after| ("$", after)),
        By::Kubernetes => from.strip_prefix("$$(").map(|after| ("$(", after)),
        By::Anybody | By::Itself | By::Nobody => None,
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
            ("$$(TEAM) $(TEAM", By::Kubernetes, "$(TEAM) $(TEAM"),
            ("^/a$|$TEAM", By::Kubernetes, "^/a$|$TEAM"),
            ("${TEAM}-$TEAM-$$TEAM-$(TEAM)", By::Compose, "ops-ops-$TEAM-$(TEAM)"),
            ("${GROUPS:-admins},${GROUPS-b}", By::Compose, "admins,b"),
            ("${NONE:-admins}${NONE-b}${TEAM:?say it}", By::Compose, "adminsops"),
            ("^/a$|^/b$$", By::Compose, "^/a$|^/b$"),
            ("$(TEAM)${TEAM}$TEAM", By::Anybody, "opsops$TEAM"),
        ] {
            assert_eq!(filled(value, by).text.as_deref(), Some(text), "{value}");
            assert_eq!(filled(value, by).unknown, None, "{value}");
        }
    }

    #[test]
    fn what_they_do_not_tell_is_named() {
        for (value, by, variable, unknown) in [
            ("$(WHO)", By::Kubernetes, Some("WHO"), None),
            (" ${WHO} ", By::Compose, Some("WHO"), None),
            ("$WHO", By::Compose, Some("WHO"), None),
            ("${WHO:?say it}", By::Compose, Some("WHO"), None),
            ("team-$(WHO)", By::Kubernetes, None, Some("WHO")),
            ("${TEAM},${WHO}", By::Compose, None, Some("WHO")),
            ("${WHO:+x}", By::Compose, Some("WHO"), None),
        ] {
            let filled = filled(value, by);
            assert_eq!((filled.variable.as_deref(), filled.unknown.as_deref()), (variable, unknown), "{value}");
            assert_eq!(filled.text.is_none(), variable.is_some(), "{value}");
        }
        let known = filled("$(TEAM)", By::Kubernetes);
        assert_eq!((known.variable.as_deref(), known.text.as_deref()), (Some("TEAM"), Some("ops")));
    }
}
