//! Bearer tokens in place of a cookie: `[route.machine]` and `[issuer.NAME]`.

use url::Url;

use super::super::output::{Section, list, quoted};
use super::Context;
use crate::http::origin::Origin;

pub(super) fn map(c: &mut Context) {
    let extra = c.options.list("oidc_extra_audiences");
    if !c.options.flag("skip_jwt_bearer_tokens", false) {
        if !extra.is_empty() {
            c.options.warn(
                "oidc_extra_audiences",
                "not carried over: an ID token at a sign-in has to name Doorward's own client_id",
            );
        }
        if !c.options.list("extra_jwt_issuers").is_empty() {
            c.options.warn("extra_jwt_issuers", "not carried over: without skip_jwt_bearer_tokens no token counts");
        }
        return;
    }
    c.options.mark("oidc_extra_audiences");
    let mut audience: Vec<String> =
        c.options.text("client_id").map(str::to_owned).into_iter().chain(extra.clone()).collect();
    let mut names = if c.is_openid { vec!["main".to_owned()] } else { Vec::new() };
    for (n, pair) in c.options.list("extra_jwt_issuers").into_iter().enumerate() {
        let Some((issuer, wanted)) = pair.split_once('=') else {
            c.options.warn("extra_jwt_issuers", "not carried over: one is not of the form issuer=audience");
            continue;
        };
        let name = format!("extra{}", n + 1);
        let mut section = Section::default();
        let of_issuer: Vec<String> = std::iter::once(wanted.to_owned()).chain(extra.clone()).collect();
        section.set("issuer", quoted(issuer), c.options.origin("extra_jwt_issuers"));
        section.set("audience", list(&of_issuer), "");
        let plain = Url::parse(issuer)
            .ok()
            .and_then(|url| Origin::of(&url).ok())
            .is_some_and(|origin| !origin.is_confidential());
        if plain {
            section.set("insecure", "true", "plain http to another machine");
            c.options.warn(
                "extra_jwt_issuers",
                format!(
                    "INSECURE: {issuer} is reached by plain http: whoever is on the way can issue tokens for anybody"
                ),
            );
        }
        c.draft.issuers.push((name.clone(), section));
        if c.is_openid && !audience.iter().any(|there| there == wanted) {
            c.options.warn("extra_jwt_issuers", format!("a token of provider.main that is meant for {wanted} counts too: route.machine.audience is for all issuers of a route. Where other people get those, give {issuer} a route of its own"));
        }
        audience.extend(of_issuer);
        names.push(name);
    }
    audience.sort_unstable();
    audience.dedup();
    if names.is_empty() {
        return c
            .options
            .warn("skip_jwt_bearer_tokens", "not carried over: GitHub issues no tokens that could be verified");
    }
    let mut machine = Section::default();
    machine.set("issuers", list(&names), c.options.origin("skip_jwt_bearer_tokens"));
    machine.set("audience", list(&audience), "client_id and what is named beside it");
    c.machine = Some(machine);
    c.issuers = names.into_iter().filter(|name| name != "main").collect();
    c.options.warn("skip_jwt_bearer_tokens", "a request with Authorization is judged by its token alone: a bad one is 401, and the application does not get the header. A token whose subject is its client is no person to rules (docs/machines.md)");
}
