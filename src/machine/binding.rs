//! Tokens that are bound to their holder (`cnf`, RFC 7800): to a client's certificate (RFC 8705 §3), which the connection
//! shows or does not. What else a token can be bound to is not checked here, and such a token is refused.

use serde_json::{Map, Value};

use super::Machine;
use crate::error::{Error, Kind, Result};
use crate::provider::checks::Fault;

/// Of a SHA-256 in base64url.
const LENGTH: usize = 43;

/// The thumbprint of the certificate that the token is bound to. None: whoever has it may use it.
///
/// SECURITY: DP-05, MT-02. A binding that is not checked is none, so there must be nothing in it but this one.
pub(super) fn certificate(claims: &Map<String, Value>) -> std::result::Result<Option<&str>, Fault> {
    let Some(cnf) = claims.get("cnf") else { return Ok(None) };
    let only = cnf.as_object().filter(|cnf| cnf.len() == 1).and_then(|cnf| cnf.get("x5t#S256")).and_then(Value::as_str);
    let thumbprint = only.filter(|text| text.len() == LENGTH);
    thumbprint.map(Some).ok_or(Fault::Claim("cnf: the token is bound to a key, and no proof of it is checked"))
}

impl Machine {
    /// Whether the token may come over a connection that has shown this certificate.
    ///
    /// SECURITY: MT-02. To be asked for each request: what is remembered of a token says nothing of who brings it.
    ///
    /// # Errors
    /// `Token`.
    pub fn holds_over(&self, thumbprint: Option<&str>) -> Result<()> {
        match (&self.certificate, thumbprint) {
            (None, _) => Ok(()),
            (Some(bound), Some(shown)) if **bound == *shown => Ok(()),
            (Some(_), Some(_)) => Err(Error::new(Kind::Token, "the token is bound to another certificate")),
            (Some(_), None) => Err(Error::new(Kind::Token, "the token is bound to a certificate, and none was shown")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mt_02_dp_05_a_binding_is_to_one_certificate_or_refused() {
        let thumbprint = "A".repeat(LENGTH);
        let of = |cnf: Value| {
            let claims = json!({ "cnf": cnf });
            certificate(claims.as_object().unwrap()).map(|found| found.map(str::to_owned))
        };
        assert_eq!(certificate(&Map::new()).unwrap(), None);
        assert_eq!(of(json!({"x5t#S256": thumbprint})).unwrap(), Some(thumbprint.clone()));
        for cnf in [
            json!({}),
            json!(null),
            json!("x"),
            json!([]),
            json!({"jkt": thumbprint}),
            json!({"x5t#S256": thumbprint, "jkt": thumbprint}),
            json!({"x5t#S256": [thumbprint]}),
            json!({"x5t#S256": ""}),
            json!({"x5t#S256": null}),
            json!({"x5t": thumbprint}),
            json!({"X5T#S256": thumbprint}),
        ] {
            assert!(of(cnf.clone()).is_err(), "{cnf}");
        }
    }
}
