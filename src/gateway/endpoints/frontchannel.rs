//! `frontchannel-logout`: the provider's sign-out page loads us in a frame (OpenID Connect Front-Channel Logout 1.0).
//! Anybody can write such a link, so it ends only what `iss` and `sid` together name, proves nothing, and tells nothing:
//! the answer is always the same. The frame's cookies are neither needed nor touched.

use http::StatusCode;

use super::Call;
use super::backchannel::{is_admitted, too_many};
use crate::audit;
use crate::error::Result;
use crate::http::parameter::only;
use crate::http::reply::{self, Reply};
use crate::session::ending::Whose;

/// What a provider calls a session is no longer than this.
const MAX_SID: usize = 255;

pub async fn frontchannel(call: &Call<'_>) -> Result<Reply> {
    if !is_admitted(call) {
        return Ok(too_many());
    }
    let gateway = call.gateway;
    if let Some((issuer, sid)) = named(call.query())
        && let Some(provider) = gateway.providers.iter().find(|p| p.issuer() == issuer)
    {
        // SECURITY: FL-02. Not proven, and nothing is revoked at the provider.
        let ended = gateway.sessions.end_all(Whose::Sid { issuer: &issuer, sid: &sid }, false).await?;
        if ended > 0 {
            audit!(
                event = "frontchannel_logout",
                provider = provider.name(),
                ended,
                client = %call.exchange.client,
                request_id = call.exchange.id(),
            );
        }
    }
    Ok(reply::frameable(StatusCode::OK))
}

/// FL-01. Both, each once; anything else names no session.
fn named(query: &str) -> Option<(String, String)> {
    let query = query.as_bytes();
    Some((only(query, "iss")?, only(query, "sid").filter(|sid| sid.chars().count() <= MAX_SID)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fl_01_both_parameters_once_or_nothing_at_all() {
        assert_eq!(named("iss=https%3A%2F%2Fid&sid=s&x=1").unwrap(), ("https://id".to_owned(), "s".to_owned()));
        let long = format!("iss=i&sid={}", "s".repeat(MAX_SID + 1));
        for query in ["", "iss=i", "sid=s", "iss=&sid=s", "iss=i&sid=", "iss=i&iss=i&sid=s", "iss=i&sid=s&sid=t", &long]
        {
            assert!(named(query).is_none(), "{query}");
        }
    }
}
