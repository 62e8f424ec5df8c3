//! Who calls the token, revocation and pushed-request endpoints: client authentication (RFC 6749 §2.3), and how a refusal
//! reads (§5.2).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::Options;
use crate::demo::web::{self, Page, Params};

/// An OAuth error response.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) code: &'static str,
    why: &'static str,
}

impl Refused {
    pub(super) fn new(code: &'static str, why: &'static str) -> Self {
        Self { code, why }
    }

    pub(super) fn page(&self) -> Page {
        let answer = json!({ "error": self.code, "error_description": self.why });
        if self.code != "invalid_client" {
            return web::json(StatusCode::BAD_REQUEST, &answer);
        }
        let mut page = web::json(StatusCode::UNAUTHORIZED, &answer);
        page.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"demo provider\""));
        page
    }
}

/// Takes `client_secret_basic` (form-decoded, RFC 6749 §2.3.1), `client_secret_post`, and `none` of a public client.
pub(super) fn authenticate(options: &Options, params: &Params, headers: &HeaderMap) -> Result<(), Refused> {
    if params.duplicate().is_some() {
        return Err(Refused::new("invalid_request", "a parameter came twice"));
    }
    let unknown = || Refused::new("invalid_client", "client authentication failed");
    let (id, secret) = match headers.get(AUTHORIZATION) {
        Some(_) if params.one("client_secret").is_some() => {
            return Err(Refused::new("invalid_request", "more than one way of client authentication"));
        }
        Some(value) => {
            let (id, secret) = value.to_str().ok().and_then(basic).ok_or_else(unknown)?;
            (id, Some(secret).filter(|secret| !secret.is_empty()))
        }
        None => {
            let id = params.one("client_id").ok_or_else(unknown)?;
            (id.to_owned(), params.one("client_secret").map(str::to_owned))
        }
    };
    let proven = match (&options.client_secret, &secret) {
        (Some(expected), Some(given)) => equal(expected.expose(), given),
        (None, None) => true,
        _ => false,
    };
    if id == options.client_id && proven { Ok(()) } else { Err(unknown()) }
}

/// In a time that tells nothing about where two secrets differ.
pub(super) fn equal(a: &str, b: &str) -> bool {
    verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}

fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form_decode(id)?, form_decode(secret)?))
}

fn form_decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(|text| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_form_decoded() {
        let header = format!("Basic {}", STANDARD.encode("a%3Ab:p+q%26%C3%A4"));
        assert_eq!(basic(&header), Some(("a:b".to_owned(), "p q&ä".to_owned())));
        for bad in ["Bearer x", "Basic", "Basic !", "Basic YQ=="] {
            assert_eq!(basic(bad), None, "{bad}");
        }
    }
}
