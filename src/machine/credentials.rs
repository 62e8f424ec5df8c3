//! The `Authorization` field of a request that a machine sends (RFC 9110 §11.6.2, RFC 6750 §2.1). A token is taken from
//! there and from nowhere else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap};
use url::form_urlencoded;

use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// Bytes of a token, looked at before anything else of it (J-13). Far more than any issuer makes, and less than the request
/// head that it has to fit in.
pub const MAX_TOKEN: usize = 16 * 1024;

/// Bytes of a user name, and of a password.
const MAX_BASIC: usize = 1024;

/// One way to say who it is.
#[derive(Debug)]
pub enum Credentials<'a> {
    /// RFC 7617.
    Basic(Basic),
    /// RFC 6750. Nothing of it is proven.
    Bearer(&'a str),
}

#[derive(Debug)]
pub struct Basic {
    pub user: String,
    pub password: Secret,
}

impl<'a> Credentials<'a> {
    /// `basic`: whether user names and passwords count here. `None` = the request has no `Authorization` at all.
    ///
    /// # Errors
    /// `BadRequest` where there are two of whatever may be there once; `Token` where it is nothing that can be judged.
    pub fn read(headers: &'a HeaderMap, query: Option<&str>, basic: bool) -> Result<Option<Self>> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let Some(field) = fields.next() else { return Ok(None) };
        // SECURITY: O-10. Whoever is asked next might read the other one.
        if fields.next().is_some() {
            return Err(Error::new(Kind::BadRequest, "more than one Authorization field"));
        }
        // SECURITY: O-08. Two methods at once (RFC 6750 §2).
        if query.is_some_and(has_token) {
            return Err(Error::new(Kind::BadRequest, "a token in Authorization and another one in the query"));
        }
        let bad = |what| Error::new(Kind::Token, what);
        let text = field.to_str().map_err(|_| bad("Authorization holds what no credentials hold"))?;
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("bearer") {
            // SECURITY: J-13, JX-23. By its letters: a list, a parameter or JSON is no token.
            if rest.len() > MAX_TOKEN || !is_token(rest) {
                return Err(bad("not one token of a sensible size"));
            }
            return Ok(Some(Self::Bearer(rest)));
        }
        if scheme.eq_ignore_ascii_case("basic") && basic {
            return decode(rest)
                .map(|basic| Some(Self::Basic(basic)))
                .ok_or_else(|| bad("not a user name and password"));
        }
        // SECURITY: DP-05, BX-03. Of a proof of possession none is checked here, so its scheme is as unknown as any other.
        Err(bad("a scheme that is not taken here"))
    }
}

/// b64token of RFC 6750 §2.1.
fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

fn has_token(query: &str) -> bool {
    // PERF: few queries could have it, spelt out or percent-encoded; only such a one is taken apart.
    (memchr::memchr(b'%', query.as_bytes()).is_some() || memchr::memmem::find(query.as_bytes(), b"token").is_some())
        && form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "access_token")
}

fn decode(text: &str) -> Option<Basic> {
    let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok())?;
    let (user, password) = decoded.split_once(':')?;
    let fits = |text: &str| (1..=MAX_BASIC).contains(&text.len()) && !text.chars().any(char::is_control);
    (fits(user) && fits(password)).then(|| Basic { user: user.to_owned(), password: Secret::new(password) })
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    fn read(fields: &[&str], query: Option<&str>) -> Result<Option<String>, Kind> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(AUTHORIZATION, HeaderValue::from_str(field).unwrap());
        }
        let shown = |credentials: Credentials<'_>| match credentials {
            Credentials::Basic(basic) => format!("{}:{}", basic.user, basic.password.expose()),
            Credentials::Bearer(token) => token.to_owned(),
        };
        Credentials::read(&headers, query, true).map(|read| read.map(shown)).map_err(|e| e.kind())
    }

    #[test]
    fn o_10_one_field_whose_scheme_is_spelt_in_any_case() {
        for field in ["Bearer a.b", "bearer a.b", "BEARER a.b", "bEaReR   a.b"] {
            assert_eq!(read(&[field], None), Ok(Some("a.b".to_owned())), "{field}");
        }
        assert_eq!(read(&[], None), Ok(None));
        assert_eq!(read(&["Bearer a", "Bearer b"], None), Err(Kind::BadRequest));
        assert_eq!(read(&["Bearer a", "Bearer a"], None), Err(Kind::BadRequest));
        for field in
            ["Bearer a, Bearer b", "Bearer a b", "Bearer", "Bearer ", "", "Bearera", "Bearer =", "Bearer {\"a\":1}"]
        {
            assert_eq!(read(&[field], None), Err(Kind::Token), "{field}");
        }
    }

    #[test]
    fn o_08_f_03_a_token_in_the_query_counts_nowhere_and_two_methods_are_refused() {
        assert_eq!(read(&[], Some("access_token=a")), Ok(None));
        assert_eq!(read(&["Bearer a"], Some("x=1&access_token=a")), Err(Kind::BadRequest));
        assert_eq!(read(&["Bearer a"], Some("access%5Ftoken=a")), Err(Kind::BadRequest));
        assert_eq!(read(&["Bearer a"], Some("x&access_%74oken=a")), Err(Kind::BadRequest));
        assert_eq!(read(&["Bearer a"], Some("page_token=a&q=access_token")), Ok(Some("a".to_owned())));
    }

    #[test]
    fn j_13_a_token_has_a_largest_size() {
        assert!(read(&[&format!("Bearer {}", "a".repeat(MAX_TOKEN))], None).is_ok());
        assert_eq!(read(&[&format!("Bearer {}", "a".repeat(MAX_TOKEN + 1))], None), Err(Kind::Token));
    }

    #[test]
    fn bx_03_dp_05_other_schemes_are_refused_and_basic_only_where_configured() {
        assert_eq!(read(&["Basic YWxpY2U6cHc6eA=="], None), Ok(Some("alice:pw:x".to_owned())));
        for field in [
            "Basic",
            "Basic !",
            "Basic YWxpY2U=",
            "Basic OnB3",
            "Basic YWxpY2U6",
            "DPoP a",
            "Digest a",
            "ApiKey a",
            "Negotiate a",
        ] {
            assert_eq!(read(&[field], None), Err(Kind::Token), "{field}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic YWxpY2U6cHc="));
        assert!(Credentials::read(&headers, None, false).is_err());
    }
}
