//! What is wrong with a configuration, for the person who wrote it. A problem never holds the value of a secret, of an
//! unknown key, or of a line that TOML could not read: any of them may be a password under a misspelt name.

use std::fmt;
use std::path::PathBuf;

use super::settings::Files;

/// One thing to correct.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// `session.lifetime`, `route[2].path` (routes count from 1), or a flag. Empty when it is the file as a whole.
    pub key: String,
    /// The `name` of the route that the key's number stands for.
    pub name: Option<String>,
    /// `file /etc/doorward/doorward.toml`, `environment DOORWARD_SESSION__LIFETIME`, `flag --issuer`, `default`.
    pub source: String,
    /// In the file, from 1. The nearest line above where the key is absent.
    pub line: Option<usize>,
    /// What is wrong, to be read after the key: `"24x" is not a duration`.
    pub message: String,
    /// What to write instead: a sentence.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            f.write_str(&self.key)?;
            if let Some(name) = &self.name {
                write!(f, " ({name})")?;
            }
            f.write_str(": ")?;
        }
        write!(f, "{}\n  in {}", self.message, self.source)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, "\n  {}", self.hint)
    }
}

/// Everything to correct, at least one; in the order of the sections.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problems {
    all: Vec<Problem>,
    files: Files,
}

impl Problems {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { all: problems, files: Files::default() }
    }

    pub(super) fn with_files(self, files: Files) -> Self {
        Self { files, ..self }
    }

    /// Those that were read, or should have been: a change of one of them may be the correction.
    pub fn files(&self) -> &[PathBuf] {
        &self.files.0
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.all.iter()
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self::new(vec![problem])
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One paragraph a problem.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.all.iter().enumerate() {
            if n > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Why one value cannot be used: `what` is read after the value, `hint` is a sentence.
#[derive(Debug)]
pub(super) struct Reason {
    pub(super) what: String,
    pub(super) hint: String,
}

impl Reason {
    pub(super) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}
