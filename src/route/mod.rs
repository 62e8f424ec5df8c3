//! The table of routes: which one a request gets, by specificity and never by order. It knows hosts, paths and methods;
//! it never looks at who asks, and what it is given is canonical already (`http::uri`).
//!
//! Host before path before methods: an exact host, then a wildcard, then any; in each the exact path, then the longest
//! prefix by whole segments; in each a route with `methods`, then the one without. A route whose `methods` exclude the
//! request is no candidate, so the search goes on to less specific ones.

mod hash;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use crate::config::settings::{HostMatch, PathMatch, Route};
use hash::ByNames;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Selection {
    /// Index into `Settings::routes`.
    Route(usize),
    /// Routes match host and path, none the method (405).
    MethodNotAllowed,
    /// 404.
    NotFound,
}

/// Compiled once a configuration. Selecting allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Table {
    exact: HashMap<Box<str>, Paths, ByNames>,
    /// By what follows the first label.
    wildcard: HashMap<Box<str>, Paths, ByNames>,
    any: Paths,
    /// PERF: without a raw route no host is looked up for one.
    raw: bool,
}

impl Table {
    pub fn new(routes: &[Route]) -> Self {
        let mut table = Self::default();
        for (index, route) in routes.iter().enumerate() {
            let paths = match &route.host {
                HostMatch::Any => &mut table.any,
                HostMatch::Exact(host) => table.exact.entry(host.as_str().into()).or_default(),
                HostMatch::Wildcard(rest) => table.wildcard.entry(rest.as_str().into()).or_default(),
            };
            paths.insert(&route.path, Candidate { methods: route.methods.clone(), index });
            paths.raw |= route.raw_path;
            table.raw |= route.raw_path;
        }
        table
    }

    /// `host` is in lower case without port and trailing dot, `path` normalised and without segment parameters.
    pub fn select(&self, host: &str, path: &str, method: &str) -> Selection {
        let mut excluded = false;
        for paths in self.of(host) {
            match paths.select(path, method) {
                Selection::Route(index) => return Selection::Route(index),
                Selection::MethodNotAllowed => excluded = true,
                Selection::NotFound => {}
            }
        }
        if excluded { Selection::MethodNotAllowed } else { Selection::NotFound }
    }

    /// The methods for which `select` finds a route, for the `Allow` of a 405. Empty where some route takes all of them.
    pub fn methods<'a>(&'a self, host: &str, path: &'a str) -> BTreeSet<&'a str> {
        let candidates = self.of(host).flat_map(|paths| paths.candidates(path)).flatten();
        candidates.flat_map(|candidate| &candidate.methods).map(String::as_str).collect()
    }

    /// Whether every path of this host leads to one route, whatever the method.
    pub fn is_alone(&self, host: &str) -> bool {
        let mut of = self.of(host).filter(|paths| !paths.is_empty());
        of.next().is_some_and(Paths::is_one) && of.next().is_none()
    }

    /// Whether paths of this host go upstream as they came.
    ///
    /// SECURITY: PX-26: only where the raw route is all that the host can reach. Of a host that a more specific route
    /// names too, every path is canonical.
    pub fn takes_raw(&self, host: &str) -> bool {
        self.raw && self.of(host).next().is_some_and(|paths| paths.raw)
    }

    /// Whether some route names this host, by itself or by a wildcard: a place that a sign-in may return to.
    pub fn knows_host(&self, host: &str) -> bool {
        self.exact.contains_key(host) || self.wildcard_of(host).is_some()
    }

    /// Whether some route is for every host that no other names.
    pub fn takes_any_host(&self) -> bool {
        !self.any.is_empty()
    }

    /// Most specific first.
    fn of<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a Paths> {
        [self.exact.get(host), self.wildcard_of(host), Some(&self.any)].into_iter().flatten()
    }

    /// A wildcard stands for one label that is not empty.
    fn wildcard_of(&self, host: &str) -> Option<&Paths> {
        let (label, rest) = host.split_once('.')?;
        if label.is_empty() { None } else { self.wildcard.get(rest) }
    }
}

/// The routes of one host.
#[derive(Clone, Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, Vec<Candidate>, ByNames>,
    /// The whole site is the empty prefix.
    prefix: HashMap<Box<str>, Vec<Candidate>, ByNames>,
    longest: usize,
    /// The one route here is for every path and method, and takes paths as they came.
    raw: bool,
}

#[derive(Clone, Debug)]
struct Candidate {
    /// Empty = all.
    methods: Vec<String>,
    index: usize,
}

impl Paths {
    fn insert(&mut self, path: &PathMatch, candidate: Candidate) {
        let candidates = match path {
            PathMatch::Exact(path) => self.exact.entry(path.as_str().into()).or_default(),
            PathMatch::Prefix(path) => {
                let path = path.trim_end_matches('/');
                self.longest = self.longest.max(path.len());
                self.prefix.entry(path.into()).or_default()
            }
        };
        candidates.push(candidate);
        // With methods before without.
        candidates.sort_by_key(|c| c.methods.is_empty());
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefix.is_empty()
    }

    /// One route, for the whole site and every method.
    fn is_one(&self) -> bool {
        let whole = self.prefix.get("").map_or(&[][..], Vec::as_slice);
        self.exact.is_empty() && self.prefix.len() == 1 && matches!(whole, [one] if one.methods.is_empty())
    }

    fn select(&self, path: &str, method: &str) -> Selection {
        let mut excluded = false;
        for candidates in self.candidates(path) {
            match candidates.iter().find(|c| c.methods.is_empty() || c.methods.iter().any(|m| m == method)) {
                Some(candidate) => return Selection::Route(candidate.index),
                None => excluded = true,
            }
        }
        if excluded { Selection::MethodNotAllowed } else { Selection::NotFound }
    }

    /// Most specific first.
    fn candidates<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a [Candidate]> {
        self.exact.get(path).map(Vec::as_slice).into_iter().chain(self.prefixes(path))
    }

    /// Longest first. PX-11: cut at `/` only, so `/public` never matches `/publicx`.
    fn prefixes<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a [Candidate]> {
        // PERF: PX-26: nothing longer than the longest prefix is hashed, however long a path a client sends.
        let head = path.as_bytes().get(..self.longest + 1).unwrap_or(path.as_bytes());
        let ends = memchr::memrchr_iter(b'/', head);
        let whole = (path.starts_with('/') && path.len() <= self.longest).then_some(path.len());
        let prefix = |end: usize| self.prefix.get(path.get(..end)?).map(Vec::as_slice);
        whole.into_iter().chain(ends).filter_map(prefix)
    }
}
