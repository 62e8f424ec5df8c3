//! Where a value stands in the configuration: `route[2].upstream_options.ca`.

use std::fmt;

#[derive(Clone, Debug, Default)]
pub(super) struct Key {
    steps: Vec<Step>,
    /// The name of the route on the way, if it has one.
    pub(super) label: Option<String>,
}

#[derive(Clone, Debug)]
enum Step {
    /// A key of ours.
    Known(String),
    /// A name the operator chose: `[provider.NAME]`.
    Chosen(String),
    /// A member of a list, from 1.
    At(usize),
}

impl Key {
    pub(super) fn then(&self, name: &str) -> Self {
        self.with(Step::Known(name.to_owned()))
    }

    pub(super) fn chosen(&self, name: &str) -> Self {
        self.with(Step::Chosen(name.to_owned()))
    }

    pub(super) fn at(&self, position: usize) -> Self {
        self.with(Step::At(position))
    }

    /// The same for every provider and route: `provider.NAME.issuer`, `route.path`.
    pub(super) fn pattern(&self) -> String {
        let steps: Vec<&str> = self
            .steps
            .iter()
            .filter_map(|s| match s {
                Step::Known(name) => Some(name.as_str()),
                Step::Chosen(_) => Some("NAME"),
                Step::At(_) => None,
            })
            .collect();
        steps.join(".")
    }

    /// Each step as `locate` compares it.
    pub(super) fn plain(&self) -> Vec<String> {
        self.steps
            .iter()
            .map(|s| match s {
                Step::Known(name) | Step::Chosen(name) => name.clone(),
                Step::At(n) => n.to_string(),
            })
            .collect()
    }

    fn with(&self, step: Step) -> Self {
        let mut key = self.clone();
        key.steps.push(step);
        key
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.steps.iter().enumerate() {
            match step {
                Step::At(position) => write!(f, "[{position}]")?,
                Step::Known(name) | Step::Chosen(name) if n == 0 => f.write_str(name)?,
                Step::Known(name) | Step::Chosen(name) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}
