//! Which route? The one that the table has for host, path and method; for a CORS preflight the one of the method that it
//! asks about. Nothing here looks at who asks.

use http::Method;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HeaderMap, HeaderName, ORIGIN};

use super::Gateway;
use super::rules::Rules;
use super::site::Site;
use crate::http::uri::Path;
use crate::route::Selection;

pub enum Routed<'a> {
    To(&'a Rules),
    /// To a route that lets preflights pass: nobody is asked who they are.
    Preflight(&'a Rules),
    Nowhere(Nowhere),
}

#[derive(Clone, Copy)]
pub enum Nowhere {
    /// Two ways to read the path lead to two routes.
    Ambiguous,
    /// There are routes, none for this method.
    Method,
    NotFound,
}

pub const AMBIGUOUS: &str = "an encoded semicolon in the path, which may end a name or be part of it";

/// What a request is sent with, as far as it chooses a route.
pub struct Head<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    pub has_body: bool,
}

pub fn route<'a>(gateway: &'a Gateway, site: &Site, path: &Path<'_>, head: &Head<'_>) -> Routed<'a> {
    // Whether a preflight may pass is for the route of the request that it announces to say: there the answer holds. Where
    // that one does not say so, or there is none, it is an OPTIONS request like any other.
    if let Some(asked) = asked_about(head)
        && let Routed::To(rules) = select(gateway, site, path, asked)
        && rules.settings.allow_preflight
    {
        return Routed::Preflight(rules);
    }
    select(gateway, site, path, head.method.as_str())
}

/// The methods that this place has, for `Allow` (RFC 9110 §10.2.1).
pub fn allow(gateway: &Gateway, site: &Site, path: &Path<'_>) -> String {
    let methods: Vec<&str> = gateway.table.methods(&site.host, &path.matching).into_iter().collect();
    methods.join(", ")
}

fn select<'a>(gateway: &'a Gateway, site: &Site, path: &Path<'_>, method: &str) -> Routed<'a> {
    let selected = gateway.table.select(&site.host, &path.matching, method);
    // SECURITY: PX-05.
    if let Some(cut) = &path.cut
        && gateway.table.select(&site.host, cut, method) != selected
    {
        return Routed::Nowhere(Nowhere::Ambiguous);
    }
    match selected {
        Selection::Route(index) => gateway.rules.get(index).map_or(Routed::Nowhere(Nowhere::NotFound), Routed::To),
        Selection::MethodNotAllowed => Routed::Nowhere(Nowhere::Method),
        Selection::NotFound => Routed::Nowhere(Nowhere::NotFound),
    }
}

/// The method that a CORS preflight asks about (Fetch §3.3.2). A browser sends it without a body and without credentials:
/// what has them is none.
fn asked_about<'a>(head: &Head<'a>) -> Option<&'a str> {
    if *head.method != Method::OPTIONS || head.has_body || head.headers.contains_key(AUTHORIZATION) {
        return None;
    }
    single(head.headers, ORIGIN)?;
    single(head.headers, ACCESS_CONTROL_REQUEST_METHOD)
}

fn single(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok().filter(|text| !text.is_empty())?;
    values.next().is_none().then_some(value)
}
