//! JSON as signed things need it: one meaning or none. Two members of one name, anything behind the value, a byte order
//! mark, text that is not Unicode and very deep nesting are refused, at any depth.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Not the JSON we take. It carries no text of the input, which may hold a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not well-formed JSON, or a member name occurs twice")
    }
}

impl std::error::Error for Malformed {}

// SECURITY: two readers that take different ones of two equal names see two different tokens (J-11, L-29). serde_json
// itself refuses the rest: lone surrogates and invalid UTF-8 (J-15), more than 128 levels (J-13), trailing bytes.
pub fn parse(bytes: &[u8]) -> Result<Value, Malformed> {
    serde_json::from_slice::<Strict>(bytes).map(|strict| strict.0).map_err(|_| Malformed)
}

/// The same, where only an object will do.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, Malformed> {
    match parse(bytes)? {
        Value::Object(map) => Ok(map),
        _ => Err(Malformed),
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            out.push(value);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some((name, Strict(value))) = map.next_entry::<String, Strict>()? {
            if out.insert(name, value).is_some() {
                return Err(A::Error::custom("a member name occurs twice"));
            }
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ordinary_json_is_read() {
        let text = r#" {"a":[1,-2,2.5,"x",null,true],"b":{"a":"\ud83d\ude00"}} "#;
        assert_eq!(parse(text.as_bytes()), Ok(json!({"a": [1, -2, 2.5, "x", null, true], "b": {"a": "😀"}})));
    }

    #[test]
    fn j_11_equal_names_are_refused_at_any_depth() {
        for bad in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"c":2,"a":3}}]"#, r#"{"a":1,"\u0061":2}"#] {
            assert_eq!(parse(bad.as_bytes()), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn j_13_deep_nesting_is_refused_without_recursion() {
        assert_eq!(parse("[".repeat(100_000).as_bytes()), Err(Malformed));
        let deep = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
        assert_eq!(parse(deep.as_bytes()), Err(Malformed));
    }

    #[test]
    fn j_15_text_is_strict_unicode() {
        let bads: [&[u8]; 7] = [
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            br#"{"a":"\ud800"}"#,
            br#"{"a":"\udc00\ud800"}"#,
            br#"{"\ud800":1}"#,
            b"{\"a\":\"\x00\"}",
            b"\xff\xfe{\x00}\x00",
        ];
        for bad in bads {
            assert_eq!(parse(bad), Err(Malformed), "{bad:?}");
        }
    }

    #[test]
    fn nothing_may_follow_and_an_object_is_an_object() {
        for bad in ["{} x", "{}{}", "", " ", "{}\0", "{'a':1}", "{\"a\":1,}", "{\"a\":1e999}", "NaN"] {
            assert_eq!(parse(bad.as_bytes()), Err(Malformed), "{bad}");
        }
        assert_eq!(object(b"[]"), Err(Malformed));
        assert_eq!(object(b"{}"), Ok(Map::new()));
    }
}
