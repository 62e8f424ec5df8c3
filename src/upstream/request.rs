//! What changes on a request before it goes upstream: target and Host.

use http::header::{HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Request, Uri, Version};
use http_body::Body as _;

use super::body::RequestBody;
use crate::config::settings::{Target, UpstreamOptions};
use crate::error::{Error, Kind};
use crate::http::origin::Origin;

/// Compiled from the upstream's URL.
pub(super) struct Rewrite {
    /// The URL's path without the slash at its end; empty for none.
    prefix: String,
    authority: HeaderValue,
    pass_host: bool,
}

impl Rewrite {
    pub(super) fn new(target: &Target, options: &UpstreamOptions) -> Result<Self, Error> {
        let (authority, prefix) = match target {
            Target::Url(url) => {
                let origin = Origin::of(url).map_err(|why| Error::new(Kind::Internal, why))?;
                (origin.authority().to_owned(), url.path().trim_end_matches('/').to_owned())
            }
            Target::Status(_) | Target::Unix(_) => ("localhost".to_owned(), String::new()),
        };
        let authority = HeaderValue::try_from(authority)
            .map_err(|e| Error::new(Kind::Internal, "the upstream's host is no header value").because(e))?;
        Ok(Self { prefix, authority, pass_host: options.pass_host })
    }

    /// The Host of a request that brings none.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.authority
    }

    /// Origin form (RFC 9112 §3.2.1), the URL's path in front, HTTP/1.1, exactly one Host. Returns the target that was
    /// there where it is another now: what a second upstream is to begin with.
    pub(super) fn apply(&self, request: &mut Request<RequestBody>) -> Result<Option<Uri>, Error> {
        let uri = request.uri();
        let mut before = None;
        // PERF: without a prefix the target of nearly every request stays as it is.
        if !self.prefix.is_empty() || uri.scheme().is_some() || uri.authority().is_some() {
            let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
            let target = PathAndQuery::try_from([&self.prefix, target].concat())
                .map_err(|e| Error::new(Kind::BadRequest, "the path cannot be sent upstream").because(e))?;
            before = Some(std::mem::replace(request.uri_mut(), Uri::from(target)));
        }
        *request.version_mut() = Version::HTTP_11;
        let chunked = !request.body().is_empty() && request.body().size_hint().exact().is_none();
        let headers = request.headers_mut();
        if !self.pass_host || !headers.contains_key(HOST) {
            headers.insert(HOST, self.authority.clone());
        }
        if chunked {
            // SECURITY: M-05. hyper drops the body of a GET of unknown length unless told how it is framed.
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Ok(before)
    }
}
