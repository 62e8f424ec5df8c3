//! `[issuer.NAME]`: an issuer whose tokens count, and where nobody signs in.

use url::Url;

use super::problem::Reason;
use super::provider;
use super::read::Table;
use super::settings::Issuer;
use super::values::seconds;
use crate::http::origin::Origin;

const ALGORITHMS: [&str; 9] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

pub(super) fn issuer(name: String, table: Table<'_>) -> Issuer {
    let insecure = table.boolean("insecure", false);
    let jwks_url = jwks_url(&table, &name, insecure);
    let issuer = Issuer {
        issuer: if table.lacks("jwks_url") {
            provider::issuer(&table, "issuer", &name, insecure)
        } else {
            any_issuer(&table)
        },
        audience: audience(&table),
        algorithms: algorithms(&table),
        clock_skew: provider::clock_skew(&table),
        timeout: table.timeout("timeout", seconds(10)),
        ca: table.path("ca"),
        claims: provider::claims(table.section("claims"), "sub"),
        jwks_url,
        insecure,
        name,
    };
    table.close();
    issuer
}

/// Where the keys are named, the issuer is a name and no address: clusters call themselves what they like.
fn any_issuer(table: &Table<'_>) -> String {
    if table.lacks("issuer") {
        table.missing("issuer", "Write what the tokens say in `iss`, byte for byte.");
    }
    table.text("issuer").unwrap_or_default()
}

fn jwks_url(table: &Table<'_>, name: &str, insecure: bool) -> Option<Url> {
    let hint = "Write the address of the key set, such as \"https://id.example.com/jwks\"; leave it out for discovery.";
    let url = table.parse("jwks_url", |text| {
        let url = Url::parse(text).map_err(|_| Reason::new("is not a URL", hint))?;
        let origin = Origin::of(&url).map_err(|what| Reason::new(what, hint))?;
        // SECURITY: GX-09: whoever is on the way could put keys of its own there.
        if !origin.is_confidential() && !insecure {
            return Err(Reason::new(
                "is plain http to another machine",
                "Write https://; or, in a network that you trust with every token, insecure = true beside it.",
            ));
        }
        Ok((url, origin.is_confidential()))
    });
    if url.as_ref().is_some_and(|(_, confidential)| !confidential) {
        table.reader().warn(format!(
            "issuer.{name}.jwks_url is plain http (insecure = true): whoever is on the way can issue tokens for anybody."
        ));
    }
    url.map(|(url, _)| url)
}

/// SECURITY: AT-01. An issuer that many trust, as that of a cluster or of a CI service, makes tokens for all of them.
fn audience(table: &Table<'_>) -> Vec<String> {
    let hint = "Write for whom tokens must be meant, such as [\"https://api.example.com\"]: without, any token that \
                the issuer made for somebody else would count here.";
    let audience = table.list("audience", audience_of);
    if table.lacks("audience") || audience.as_ref().is_some_and(Vec::is_empty) {
        table.missing("audience", hint);
    }
    audience.unwrap_or_default()
}

/// One `aud`: compared byte for byte, so nothing is a pattern.
pub(super) fn audience_of(text: &str) -> Result<String, Reason> {
    if text.is_empty() || text.contains('*') {
        return Err(Reason::new(
            "is no audience",
            "Write each in full, as the token's `aud` has it: there are no patterns.",
        ));
    }
    Ok(text.to_owned())
}

fn algorithms(table: &Table<'_>) -> Vec<String> {
    let algorithms = table.list("algorithms", |text| {
        if ALGORITHMS.contains(&text) {
            return Ok(text.to_owned());
        }
        // SECURITY: J-01, JX-02. With a published key no symmetric algorithm can be meant.
        Err(Reason::new(
            "is not a signature algorithm that can be trusted here",
            format!("Write some of {}.", ALGORITHMS.join(", ")),
        ))
    });
    algorithms.unwrap_or_default()
}
