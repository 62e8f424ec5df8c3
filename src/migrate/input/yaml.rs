//! YAML documents as trees of text, built from the events of saphyr-parser: every scalar keeps its spelling. Bounded: nothing
//! nests deeper than `DEEPEST`, and all nodes together, those that aliases repeat included, are at most `NODES`.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

const DEEPEST: usize = 64;
const NODES: usize = 100_000;

/// All documents of a stream, empty ones left out. Plain `null`, `~` and nothing are `Null`, all other scalars strings.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        // SECURITY: ZX-06: the parser's own message may repeat what it could not read, a secret perhaps.
        let (event, span) = event.map_err(|e| format!("is not valid YAML (line {})", e.marker().line()))?;
        builder.take(event).map_err(|what| format!("{what} (line {})", span.start.line()))?;
    }
    Ok(builder.documents)
}

/// A collection that is not closed yet.
enum Open {
    Sequence(Vec<Value>),
    Mapping(Mapping),
}

#[derive(Default)]
struct Mapping {
    entries: Map<String, Value>,
    /// What `<<` names: for the end, since what is written beside it wins, whichever comes first.
    merged: Vec<Value>,
    /// Read, and its value not yet.
    key: Option<String>,
}

impl Mapping {
    fn add(&mut self, value: Value) -> Result<(), &'static str> {
        match self.key.take() {
            None => self.key = Some(if let Value::String(text) = value { text } else { String::new() }),
            Some(name) if name == "<<" => self.merged.push(value),
            Some(name) => {
                // YAML 1.2 §3.2.1.1 has no second one, and which of them counts is every reader's own.
                if self.entries.insert(name, value).is_some() {
                    return Err("has a key that is there twice");
                }
            }
        }
        Ok(())
    }

    fn end(mut self) -> Map<String, Value> {
        for value in self.merged {
            merge(&mut self.entries, value);
        }
        self.entries
    }
}

#[derive(Default)]
struct Builder {
    documents: Vec<Value>,
    /// With the anchor of each.
    open: Vec<(Open, usize)>,
    anchors: HashMap<usize, (Value, usize)>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), &'static str> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let is_null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if is_null { Value::Null } else { Value::String(text.into_owned()) };
                self.add(value, 1, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(Open::Sequence(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => self.begin(Open::Mapping(Mapping::default()), anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some((open, anchor)) = self.open.pop() else { return Ok(()) };
                let value = match open {
                    Open::Sequence(items) => Value::Array(items),
                    Open::Mapping(mapping) => Value::Object(mapping.end()),
                };
                self.add(value, 1, anchor)
            }
            Event::Alias(id) => {
                let (value, size) = self.anchors.get(&id).cloned().ok_or("names an anchor that is not complete")?;
                self.add(value, size, 0)
            }
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => Ok(()),
        }
    }

    fn begin(&mut self, open: Open, anchor: usize) -> Result<(), &'static str> {
        if self.open.len() >= DEEPEST {
            return Err("is nested too deeply");
        }
        self.open.push((open, anchor));
        Ok(())
    }

    /// `size`: how many nodes it is worth.
    fn add(&mut self, value: Value, size: usize, anchor: usize) -> Result<(), &'static str> {
        self.nodes = self.nodes.saturating_add(size);
        if self.nodes > NODES {
            return Err("has too many nodes, those that its aliases repeat included");
        }
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), count(&value)));
        }
        match self.open.last_mut() {
            None if value.is_null() => {}
            None => self.documents.push(value),
            Some((Open::Sequence(items), _)) => items.push(value),
            Some((Open::Mapping(mapping), _)) => mapping.add(value)?,
        }
        Ok(())
    }
}

/// What is there already wins.
fn merge(map: &mut Map<String, Value>, value: Value) {
    match value {
        Value::Object(other) => {
            for (name, value) in other {
                map.entry(name).or_insert(value);
            }
        }
        Value::Array(items) => items.into_iter().for_each(|item| merge(map, item)),
        _ => {}
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_keep_their_spelling() {
        let text = "a: 0.10\nb: true\nc:\nd: ~\ne: \"\"\nf: |-\n  x\n  y\n---\n- 1\n---\n";
        let want = [json!({"a": "0.10", "b": "true", "c": null, "d": null, "e": "", "f": "x\ny"}), json!(["1"])];
        assert_eq!(documents(text).unwrap(), want);
    }

    #[test]
    fn anchors_and_merges() {
        let text = "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz: [*x]\n";
        let want = json!({"x": {"a": "1", "b": "2"}, "y": {"a": "1", "b": "3"}, "z": [{"a": "1", "b": "2"}]});
        assert_eq!(documents(text).unwrap(), [want]);
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused() {
        let error = documents("a:\n  b: 1\n  c: 2\n  b: 3\n").unwrap_err();
        assert_eq!(error, "has a key that is there twice (line 4)");
        assert!(documents("x: &x {a: 1}\ny:\n  a: 2\n  <<: *x\n").is_ok(), "a merged one is another's");
    }

    #[test]
    fn what_explodes_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..8 {
            let before = format!("*a{}, ", n - 1).repeat(10);
            bomb += &format!("a{n}: &a{n} [{before}]\n");
        }
        assert!(documents(&bomb).unwrap_err().contains("too many nodes"));
        assert!(documents(&"[".repeat(100_000)).is_err());
        assert!(documents(&format!("{}x", "- ".repeat(200))).is_err());
    }

    #[test]
    fn a_broken_document_is_not_repeated() {
        let error = documents("a: \"hunter2\nb: c: d\n").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
