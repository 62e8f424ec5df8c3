//! Parameters of a form-encoded text: a query or a form.

/// The first value of `name`.
pub fn first(encoded: &[u8], name: &str) -> Option<String> {
    values(encoded, name).next()
}

/// The value of `name` where it stands there once and is not empty: said twice, nobody knows which was meant.
pub fn only(encoded: &[u8], name: &str) -> Option<String> {
    let mut all = values(encoded, name);
    let value = all.next()?;
    (all.next().is_none() && !value.is_empty()).then_some(value)
}

/// Every value of `name`.
pub fn values<'a>(encoded: &'a [u8], name: &'a str) -> impl Iterator<Item = String> + 'a {
    url::form_urlencoded::parse(encoded).filter(move |(n, _)| n == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn said_twice_or_not_at_all_is_no_value() {
        assert_eq!(only(b"user=a%20b&x=1&x=2", "user").as_deref(), Some("a b"));
        assert_eq!(first(b"x=1&x=2", "x").as_deref(), Some("1"));
        for none in ["", "user=", "User=a", "user=a&user=a", "user=&user=a", "user=a&user="] {
            assert_eq!(only(none.as_bytes(), "user"), None, "{none}");
        }
    }
}
