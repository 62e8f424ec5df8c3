//! The document by which a program learns where to get tokens for a route: OAuth 2.0 Protected Resource Metadata
//! (RFC 9728). It says nothing that is not meant for everybody.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue,
};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::Gateway;
use super::admit::Admitted;
use super::site::Site;
use crate::config::settings::{self, Access, PathMatch, Settings, TokenIssuer};
use crate::http::reply::{self, Reply};
use crate::route::Selection;

/// The path of the resource follows (RFC 9728 §3.1).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// What one route that takes tokens says of itself.
#[derive(Debug)]
pub struct Resource {
    /// Empty for the whole site.
    path: String,
    name: String,
    servers: Vec<String>,
    scopes: Vec<String>,
    /// Clients can show certificates, which tokens may be bound to.
    certificates: bool,
}

impl Resource {
    pub fn new(machine: &settings::Machine, route: &settings::Route, settings: &Settings) -> Self {
        let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = &route.path;
        let provider = |at: usize| settings.providers.get(at).map(|provider| provider.issuer.clone());
        let named = machine.issuers.iter().filter_map(|issuer| match issuer {
            TokenIssuer::Provider(at) => provider(*at),
            // Nobody can ask such an issuer for a token: it gives them to whom it knows.
            TokenIssuer::Issuer(_) => None,
        });
        let mut servers: Vec<String> = named.chain(machine.introspect.and_then(provider)).collect();
        let mut seen = Vec::new();
        servers.retain(|server| {
            let new = !seen.contains(server);
            seen.push(server.clone());
            new
        });
        Self {
            path: if path == "/" { String::new() } else { path.clone() },
            name: route.name.clone(),
            scopes: scopes(&route.access),
            certificates: settings.server.tls.as_ref().is_some_and(|tls| tls.client_certificates.is_some()),
            servers,
        }
    }

    pub fn metadata_url(&self, site: &Site) -> String {
        format!("{}{WELL_KNOWN}{}", site.origin, self.path)
    }

    fn document(&self, site: &Site) -> Reply {
        let mut document = Map::new();
        document.insert("resource".to_owned(), format!("{}{}", site.origin, self.path).into());
        document.insert("resource_name".to_owned(), self.name.as_str().into());
        document.insert("bearer_methods_supported".to_owned(), json!(["header"]));
        // RFC 9728 §2: a parameter without values is left out.
        for (name, values) in [("authorization_servers", &self.servers), ("scopes_supported", &self.scopes)] {
            if !values.is_empty() {
                document.insert(name.to_owned(), json!(values));
            }
        }
        if self.certificates {
            document.insert("tls_client_certificate_bound_access_tokens".to_owned(), true.into());
        }
        public(reply::json(StatusCode::OK, &Value::Object(document)))
    }
}

/// The scopes that `allow` rules name, each once.
pub fn scopes(access: &Access) -> Vec<String> {
    let Access::Policy(policy) = access else { return Vec::new() };
    let mut all: Vec<String> = Vec::new();
    for scope in policy.allow.iter().flat_map(|rule| &rule.scope) {
        if !all.contains(scope) {
            all.push(scope.clone());
        }
    }
    all
}

/// The answer, where the path is that of a document of ours. Anything else below the well-known path is the upstream's.
pub fn answer(gateway: &Gateway, admitted: &Admitted<'_>, method: &Method) -> Option<Reply> {
    let resource = find(gateway, &admitted.site, &admitted.path.matching)?;
    let reads = method == Method::GET || method == Method::HEAD;
    if reads {
        return Some(resource.document(&admitted.site));
    }
    // Browser-based clients ask first, since they send a header of their protocol with it.
    (method == Method::OPTIONS).then(|| {
        let reply = public(reply::empty(StatusCode::NO_CONTENT));
        let reply = reply::with(reply, ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET"));
        reply::with(reply, ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"))
    })
}

/// Whether this canonical path is that of a document of ours.
pub fn is_ours(gateway: &Gateway, site: &Site, path: &str) -> bool {
    find(gateway, site, path).is_some()
}

fn find<'a>(gateway: &'a Gateway, site: &Site, path: &str) -> Option<&'a Resource> {
    // PERF: where no route takes tokens, one look and no more.
    gateway.machines.as_ref()?;
    let rest = path.strip_prefix(WELL_KNOWN)?.trim_end_matches('/');
    let place = if rest.is_empty() { "/" } else { rest };
    let mut found = ["GET", "POST"].iter().filter_map(|method| match gateway.table.select(&site.host, place, method) {
        Selection::Route(index) => gateway.rules.get(index)?.machine.as_ref()?.resource.as_ref(),
        Selection::MethodNotAllowed | Selection::NotFound => None,
    });
    found.find(|resource| resource.path == rest)
}

/// SECURITY: for every origin, which is safe since no cookie changes what it says.
fn public(reply: Reply) -> Reply {
    reply::with(reply, ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))
}
