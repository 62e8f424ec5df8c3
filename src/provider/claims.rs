//! Reading claims by dotted path. A claim of an unexpected type is a claim that is not there.

use serde_json::{Map, Value};

/// More groups than anyone is in; the rest is dropped (L-26).
const MAX_STRINGS: usize = 10_000;

/// A member of the whole name, dots and all, wins; else each segment names a member of the object before it. Arrays and
/// strings have no members, numbers are no indexes, an empty segment names nothing (L-28).
pub fn lookup<'a>(claims: &'a Map<String, Value>, dotted: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(dotted) {
        return Some(value);
    }
    let mut segments = dotted.split('.');
    let mut value = segments.next().filter(|name| !name.is_empty()).and_then(|name| claims.get(name))?;
    for name in segments {
        if name.is_empty() {
            return None;
        }
        value = value.as_object()?.get(name)?;
    }
    Some(value)
}

/// A string that is not empty.
pub fn string<'a>(claims: &'a Map<String, Value>, dotted: &str) -> Option<&'a str> {
    lookup(claims, dotted)?.as_str().filter(|text| !text.is_empty())
}

/// A string counts as a list of one; of an array only the strings count; empty strings never do.
pub fn strings(claims: &Map<String, Value>, dotted: &str) -> Vec<String> {
    let values = match lookup(claims, dotted) {
        Some(Value::Array(values)) => values.as_slice(),
        Some(one @ Value::String(_)) => std::slice::from_ref(one),
        _ => &[],
    };
    values
        .iter()
        .filter_map(Value::as_str)
        .filter(|text| !text.is_empty())
        .take(MAX_STRINGS)
        .map(str::to_owned)
        .collect()
}

/// As `strings`, and a boolean or a whole number counts by its JSON spelling.
pub fn texts(claims: &Map<String, Value>, dotted: &str) -> Vec<String> {
    let values = match lookup(claims, dotted) {
        Some(Value::Array(values)) => values.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    let text = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    };
    values.iter().filter_map(text).take(MAX_STRINGS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn l_28_paths_are_literal() {
        let all = claims(json!({
            "a": {"b": {"c": "deep"}, "list": ["x", {"y": 1}], "s": "text", "": "empty"},
            "a.b": "literal", "https://example.com/groups": ["g"], "0": "zero", "": "nothing",
        }));
        for (path, want) in [
            ("a.b.c", Some(json!("deep"))),
            ("a.b", Some(json!("literal"))),
            ("https://example.com/groups", Some(json!(["g"]))),
            ("0", Some(json!("zero"))),
            ("a.list.0", None),
            ("a.list.1.y", None),
            ("a.s.0", None),
            ("a.s.length", None),
            ("a.", None),
            (".a", None),
            ("a..b", None),
            ("__proto__", None),
            ("constructor.name", None),
            ("A.b.c", None),
        ] {
            assert_eq!(lookup(&all, path), want.as_ref(), "{path}");
        }
    }

    #[test]
    fn l_26_groups_are_strings_or_nothing() {
        for (value, want) in [
            (json!("one"), vec!["one"]),
            (json!(["a", "b"]), vec!["a", "b"]),
            (json!(["a", 7, null, ["b"], {"c": 1}, ""]), vec!["a"]),
            (json!(""), vec![]),
            (json!([""]), vec![]),
            (json!(7), vec![]),
            (json!(true), vec![]),
            (json!({"a": 1}), vec![]),
            (json!(null), vec![]),
        ] {
            assert_eq!(strings(&claims(json!({ "groups": value.clone() })), "groups"), want, "{value}");
        }
        assert!(strings(&Map::new(), "groups").is_empty());
        let many = claims(json!({"groups": vec!["g"; MAX_STRINGS + 7]}));
        assert_eq!(strings(&many, "groups").len(), MAX_STRINGS);
    }

    #[test]
    fn a_string_is_a_string() {
        let all = claims(json!({"a": "x", "b": "", "c": 7, "d": ["x"]}));
        assert_eq!(string(&all, "a"), Some("x"));
        for absent in ["b", "c", "d", "e"] {
            assert_eq!(string(&all, absent), None, "{absent}");
        }
    }
}
