//! Who can sign somebody in: the providers of the route that a person wants to come to. One of them, or several to choose
//! from. It begins nothing.

use std::borrow::Cow;
use std::sync::Arc;

use super::Gateway;
use super::rules::Rules;
use super::site::Site;
use crate::error::{Error, Kind, Result};
use crate::http::uri::{canonical_host, canonical_path, raw_path};
use crate::provider::Provider;
use crate::route::Selection;
use crate::session::Session;

/// What was found for a place to come to.
pub enum Choice<'a> {
    /// Nobody has to be asked.
    One(&'a Arc<Provider>),
    Several,
}

impl Gateway {
    /// The route of a place that `returns` has checked or made.
    pub(super) fn route_of(&self, site: &Site, rd: &str) -> Option<&Rules> {
        let (host, rest) = match rd.split_once("://") {
            Some((_, rest)) if !rd.starts_with('/') => {
                let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                (canonical_host(authority).ok()?.name, path)
            }
            _ => (Cow::Borrowed(site.host.as_str()), rd),
        };
        let path = rest.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
        let path = if self.table.takes_raw(&host) { raw_path(path) } else { canonical_path(path) };
        match self.table.select(&host, &path.ok()?.matching, "GET") {
            Selection::Route(index) => self.rules.get(index),
            Selection::MethodNotAllowed | Selection::NotFound => None,
        }
    }

    /// A place where nobody is asked to sign in takes whoever can sign people in at all.
    pub(super) fn candidates<'a>(&'a self, rules: Option<&'a Rules>) -> &'a [Arc<Provider>] {
        rules.map(|rules| rules.providers.as_slice()).filter(|own| !own.is_empty()).unwrap_or(&self.providers)
    }

    /// `named`: the person's own choice. Who is `signed_in` already, and has to again, does so at the same provider.
    ///
    /// # Errors
    /// `BadRequest` for a choice that is none, or where there is no provider at all.
    pub(super) fn choose<'a>(
        &'a self,
        rules: Option<&'a Rules>,
        named: Option<&str>,
        signed_in: Option<&Session>,
    ) -> Result<Choice<'a>> {
        let candidates = self.candidates(rules);
        if let Some(named) = named {
            let one = candidates.iter().find(|provider| provider.name() == named);
            return one
                .map(Choice::One)
                .ok_or_else(|| Error::new(Kind::BadRequest, "no provider of this name signs people in here"));
        }
        if let Some(again) = signed_in.and_then(|session| rules?.provider_of(session)) {
            return Ok(Choice::One(again));
        }
        match candidates {
            [] => Err(Error::new(Kind::BadRequest, "no provider is configured, so nobody can sign in")),
            [one] => Ok(Choice::One(one)),
            _ => Ok(Choice::Several),
        }
    }
}
