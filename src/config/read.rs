//! Reads typed values out of the merged tables and collects every problem on the way. A section's code asks for each key
//! it knows; what nobody asked for is unknown. What the code asks for is also the catalogue of known keys.
//!
//! A value that cannot be used is reported here and is then absent for the caller, who goes on with a stand-in: no
//! settings leave `config::load` once a problem is reported.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::value::{Dict, Tag, Value};

use super::key::Key;
use super::layers::{self, Layers};
use super::problem::{Problem, Reason};
use super::values;

pub(super) struct Reader {
    pub(super) layers: Layers,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<String>>,
    known: RefCell<BTreeSet<String>>,
    files: RefCell<Vec<PathBuf>>,
}

impl Reader {
    pub(super) fn new(layers: Layers) -> Self {
        Self {
            layers,
            problems: RefCell::default(),
            warnings: RefCell::default(),
            known: RefCell::default(),
            files: RefCell::default(),
        }
    }

    pub(super) fn root(&self) -> Table<'_> {
        Table::new(self, Key::default(), self.layers.root.clone(), Tag::Default)
    }

    pub(super) fn problem(&self, key: &Key, tag: Tag, message: impl Into<String>, hint: impl Into<String>) {
        let (source, line) = self.layers.source(tag, &key.plain());
        self.problems.borrow_mut().push(Problem {
            key: key.to_string(),
            name: key.label.clone(),
            source,
            line,
            message: message.into(),
            hint: hint.into(),
        });
    }

    pub(super) fn warn(&self, sentence: String) {
        self.warnings.borrow_mut().push(sentence);
    }

    pub(super) fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    pub(super) fn take_problems(&self) -> Vec<Problem> {
        self.problems.take()
    }

    pub(super) fn take_warnings(&self) -> Vec<String> {
        self.warnings.take()
    }

    /// Notes a file that is read by whoever uses what is configured: when it changes, so does the configuration.
    pub(super) fn names_file(&self, path: &Path) {
        let mut files = self.files.borrow_mut();
        if !files.iter().any(|known| known == path) {
            files.push(path.to_owned());
        }
    }

    pub(super) fn take_files(&self) -> Vec<PathBuf> {
        self.files.take()
    }

    pub(super) fn take_known(&self) -> BTreeSet<String> {
        self.known.take()
    }
}

/// A table, and which of its keys were asked for.
pub(super) struct Table<'r> {
    reader: &'r Reader,
    pub(super) key: Key,
    dict: Dict,
    tag: Tag,
    asked: RefCell<Vec<&'static str>>,
    /// Likewise, of keys in quotes that begin so.
    dotted: RefCell<Vec<&'static str>>,
}

impl<'r> Table<'r> {
    pub(super) fn new(reader: &'r Reader, key: Key, dict: Dict, tag: Tag) -> Self {
        Self { reader, key, dict, tag, asked: RefCell::default(), dotted: RefCell::default() }
    }

    pub(super) fn reader(&self) -> &'r Reader {
        self.reader
    }

    pub(super) fn tag(&self) -> Tag {
        self.tag
    }

    /// What is written under `name`, as it is.
    pub(super) fn entry(&self, name: &'static str) -> Option<Entry<'r>> {
        self.asked.borrow_mut().push(name);
        let key = self.key.then(name);
        self.reader.known.borrow_mut().insert(key.pattern());
        self.dict.get(name).map(|value| Entry { reader: self.reader, key, value: value.clone() })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.dict.contains_key(name)
    }

    /// Not written, or as an empty string, which says the same.
    pub(super) fn lacks(&self, name: &str) -> bool {
        self.dict.get(name).is_none_or(|value| value.as_str() == Some(""))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dict.is_empty()
    }

    /// A string that `parse` accepts. An empty one counts as absent.
    pub(super) fn parse<T>(&self, name: &'static str, parse: impl Fn(&str) -> Result<T, Reason>) -> Option<T> {
        self.entry(name)?.parse(parse)
    }

    pub(super) fn text(&self, name: &'static str) -> Option<String> {
        self.parse(name, |text| Ok(text.to_owned()))
    }

    /// A file that is read, here or by whoever uses it.
    pub(super) fn path(&self, name: &'static str) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(name)?);
        self.reader.names_file(&path);
        Some(path)
    }

    pub(super) fn duration(&self, name: &'static str, default: Duration) -> Duration {
        self.parse(name, values::duration).unwrap_or(default)
    }

    /// For timeouts: zero would fail every call.
    pub(super) fn timeout(&self, name: &'static str, default: Duration) -> Duration {
        self.parse(name, values::timeout).unwrap_or(default)
    }

    pub(super) fn boolean(&self, name: &'static str, default: bool) -> bool {
        let Some(entry) = self.entry(name) else { return default };
        match (&entry.value, entry.variable()) {
            (Value::Bool(_, value), _) => return *value,
            (_, Some("true")) => return true,
            (_, Some("false")) => return false,
            (_, Some("")) => return default,
            _ => entry.wrong_type("true or false", "Write true or false, without quotes."),
        }
        default
    }

    pub(super) fn integer(&self, name: &'static str, range: RangeInclusive<u64>, default: u64) -> u64 {
        let Some(entry) = self.entry(name) else { return default };
        let wanted = format!("Write a whole number from {} to {}, without quotes.", range.start(), range.end());
        let number = match (&entry.value, entry.variable()) {
            (_, Some("")) => return default,
            (Value::Num(_, n), _) => {
                n.to_u128().and_then(|n| n.try_into().ok()).or_else(|| n.to_i128().and_then(|n| n.try_into().ok()))
            }
            (_, Some(text)) => text.trim().parse().ok(),
            _ => {
                entry.wrong_type("a whole number", &wanted);
                return default;
            }
        };
        match number.filter(|n| range.contains(n)) {
            Some(number) => number,
            None => {
                entry.problem("is out of range", wanted);
                default
            }
        }
    }

    /// One of the named values.
    pub(super) fn choice<T: Copy>(&self, name: &'static str, named: &[(&str, T)]) -> Option<T> {
        self.parse(name, |text| {
            if let Some((_, value)) = named.iter().find(|(n, _)| *n == text) {
                return Ok(*value);
            }
            let all: Vec<String> = named.iter().map(|(n, _)| format!("\"{n}\"")).collect();
            Err(Reason::new("is not one of the values it can have", format!("Write one of {}.", all.join(", "))))
        })
    }

    /// A list of strings, or one string alone. None: not written, empty text, or a member was
    /// reported.
    pub(super) fn list<T>(&self, name: &'static str, parse: impl Fn(&str) -> Result<T, Reason>) -> Option<Vec<T>> {
        let items = self
            .entry(name)
            .filter(|_| !self.lacks(name))?
            .items("a string or a list of strings", &|v| matches!(v, Value::String(..)))?;
        // All are tried before the first that failed counts.
        let parsed: Vec<Option<T>> = items.iter().map(|item| item.parse_nonempty(&parse)).collect();
        parsed.into_iter().collect()
    }

    /// A table under `name`; None when it is not written.
    pub(super) fn table(&self, name: &'static str) -> Option<Self> {
        self.entry(name)?.table()
    }

    /// The same, read as an empty one where it is not written: for sections that are all defaults.
    pub(super) fn section(&self, name: &'static str) -> Self {
        self.table(name).unwrap_or_else(|| Self::new(self.reader, self.key.then(name), Dict::new(), self.tag))
    }

    /// The tables under names that the operator chose: `[provider.NAME]`.
    pub(super) fn chosen(&self, name: &'static str) -> Vec<(String, Self)> {
        let Some(all) = self.table(name) else { return Vec::new() };
        let key = all.key.clone();
        all.dict
            .iter()
            .filter_map(|(chosen, value)| {
                let entry = Entry { reader: self.reader, key: key.chosen(chosen), value: value.clone() };
                Some((chosen.clone(), entry.table()?))
            })
            .collect()
    }

    /// Every key with its value, for tables whose keys are the operator's own.
    pub(super) fn free(&self) -> Vec<(String, Entry<'r>)> {
        let entry = |name: &String, value: &Value| Entry {
            reader: self.reader,
            key: self.key.chosen(name),
            value: value.clone(),
        };
        self.dict.iter().map(|(name, value)| (name.clone(), entry(name, value))).collect()
    }

    /// The names under `name`, whoever reads what stands there.
    pub(super) fn names(&self, name: &str) -> Vec<String> {
        self.dict.get(name).and_then(Value::as_dict).map(|all| all.keys().cloned().collect()).unwrap_or_default()
    }

    /// The keys in quotes that begin with `name` and a dot, without these.
    pub(super) fn dotted(&self, name: &'static str) -> Vec<(String, Entry<'r>)> {
        self.dotted.borrow_mut().push(name);
        let rest = |key: &str| key.strip_prefix(name)?.strip_prefix('.').map(str::to_owned);
        let entry = |(key, value): (&String, &Value)| {
            let entry = Entry { reader: self.reader, key: self.key.chosen(key), value: value.clone() };
            Some((rest(key)?, entry))
        };
        self.dict.iter().filter_map(entry).collect()
    }

    /// The tables of `[[name]]`.
    pub(super) fn tables(&self, name: &'static str) -> Option<Vec<Self>> {
        let items = self.entry(name)?.items("a list of tables", &|v| matches!(v, Value::Dict(..)))?;
        Some(items.into_iter().filter_map(Entry::table).collect())
    }

    /// Reports that `name` must be written.
    pub(super) fn missing(&self, name: &str, hint: &str) {
        self.reader.problem(&self.key.then(name), self.tag, "is missing", hint);
    }

    pub(super) fn problem(&self, name: &str, message: impl Into<String>, hint: impl Into<String>) {
        let tag = self.dict.get(name).map_or(self.tag, Value::tag);
        self.reader.problem(&self.key.then(name), tag, message, hint);
    }

    /// Reports every key that nobody asked for.
    pub(super) fn close(self) {
        let (asked, dotted) = (self.asked.borrow(), self.dotted.borrow());
        let is_asked = |name: &str| {
            asked.contains(&name) || name.split_once('.').is_some_and(|(first, _)| dotted.contains(&first))
        };
        for (name, value) in self.dict.iter().filter(|(name, _)| !is_asked(name)) {
            let key = self.key.then(name);
            // SECURITY: ZX-06: never the value; it may be a secret under a misspelt name.
            self.reader.problem(&key, value.tag(), "is not a key that Doorward knows", nearest(name, &asked));
        }
    }
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Entry<'r> {
    reader: &'r Reader,
    pub(super) key: Key,
    pub(super) value: Value,
}

impl<'r> Entry<'r> {
    pub(super) fn problem(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.reader.problem(&self.key, self.value.tag(), message, hint);
    }

    pub(super) fn wrong_type(&self, wanted: &str, hint: &str) {
        self.problem(format!("is {}, where {wanted} belongs", kind(&self.value)), hint);
    }

    /// The text of a value that came from the environment.
    pub(super) fn variable(&self) -> Option<&str> {
        self.value.as_str().filter(|_| self.reader.layers.is_variable(self.value.tag()))
    }

    /// See [`Table::parse`].
    pub(super) fn parse<T>(&self, parse: impl Fn(&str) -> Result<T, Reason>) -> Option<T> {
        match self.value.as_str() {
            Some("") => None,
            _ => self.parse_nonempty(&parse),
        }
    }

    pub(super) fn table(self) -> Option<Table<'r>> {
        match self.value {
            Value::Dict(tag, dict) => Some(Table::new(self.reader, self.key, dict, tag)),
            _ => {
                self.wrong_type("a table", &format!("Write a section [{}], or {{ key = … }}.", self.key));
                None
            }
        }
    }

    /// The members of a list; what `alone` accepts counts as a list of one.
    pub(super) fn items(self, wanted: &str, alone: &dyn Fn(&Value) -> bool) -> Option<Vec<Self>> {
        let tag = self.value.tag();
        let values = match (&self.value, self.variable()) {
            (_, Some(text)) => {
                let Some(values) = layers::list_in_variable(text, tag) else {
                    self.problem("is not a list", "Write the members with commas between them, or a TOML list.");
                    return None;
                };
                values
            }
            (Value::Array(_, values), _) => values.clone(),
            (value, _) if alone(value) => vec![value.clone()],
            _ => {
                self.wrong_type(wanted, "Write a list in brackets: [ … ].");
                return None;
            }
        };
        let entry = |(n, value)| Entry { reader: self.reader, key: self.key.at(n + 1), value };
        Some(values.into_iter().enumerate().map(entry).collect())
    }

    /// For members of a list, where an empty string says nothing.
    pub(super) fn parse_nonempty<T>(&self, parse: &impl Fn(&str) -> Result<T, Reason>) -> Option<T> {
        let Some(text) = self.value.as_str() else {
            self.wrong_type("a string", "Write it in quotes.");
            return None;
        };
        let reason = match parse(text) {
            Ok(value) => return Some(value),
            Err(reason) => reason,
        };
        let shown = if text.is_empty() { "an empty string".to_owned() } else { values::shown(text) };
        self.problem(format!("{shown} {}", reason.what), reason.hint);
        None
    }
}

fn nearest(name: &str, known: &[&str]) -> String {
    let close = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(name, k), *k))
        .filter(|(distance, k)| *distance <= (k.len() / 2).min(3))
        .min();
    match close {
        Some((_, known)) => format!("Did you mean `{known}`?"),
        None if known.is_empty() => "Remove it.".to_owned(),
        None => {
            let mut all = known.to_vec();
            all.sort_unstable();
            all.dedup();
            format!("The keys here are {}.", all.join(", "))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "a string",
        Value::Bool(..) => "true or false",
        Value::Num(..) => "a number",
        Value::Empty(..) => "nothing",
        Value::Dict(..) => "a table",
        Value::Array(..) => "a list",
    }
}
