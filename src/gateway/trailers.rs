//! Trailers (RFC 9110 §6.5): passed on in both directions where the sender announced them and the receiver takes them.
//! `Trailer` and `TE` belong to one hop, so they are removed with the rest and said anew here. Names that only we may set
//! are never announced, and hyper sends no trailer that was not.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE, TRAILER};

use crate::http::headers::{Managed, is_no_trailer, strip_harmful};

/// What a message said of trailers, read before its hop-by-hop headers are stripped.
#[derive(Debug, Default)]
pub struct Said {
    /// Announced by the sender of this message.
    announced: Option<HeaderValue>,
    /// The sender of this request takes trailers in the answer.
    pub taken: bool,
}

impl Said {
    pub fn read(headers: &HeaderMap) -> Self {
        // PERF: most messages have neither; two look-ups are what they pay.
        Self {
            announced: headers.get(TRAILER).cloned(),
            taken: headers.get(TE).is_some_and(|te| te.to_str().is_ok_and(takes_trailers)),
        }
    }

    /// Says it anew in the request that goes upstream.
    pub fn ask(&self, headers: &mut HeaderMap, managed: &Managed) {
        self.announce(headers, managed);
        if self.taken {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.append(CONNECTION, HeaderValue::from_static("te"));
        }
    }

    /// Says it anew in a message whose body is passed on.
    pub fn announce(&self, headers: &mut HeaderMap, managed: &Managed) {
        let Some(announced) = self.announced.as_ref().and_then(|v| v.to_str().ok()) else { return };
        let names: Vec<&str> = announced
            .split(',')
            .map(str::trim)
            .filter(|name| {
                HeaderName::try_from(*name).is_ok_and(|name| !managed.contains(&name) && !is_no_trailer(name.as_str()))
            })
            .collect();
        if !names.is_empty()
            && let Ok(value) = HeaderValue::try_from(names.join(", "))
        {
            headers.insert(TRAILER, value);
        }
    }
}

/// For a protocol that sends every trailer, announced or not.
pub fn keep_harmless(trailers: &mut HeaderMap) {
    strip_harmful(trailers);
}

fn takes_trailers(te: &str) -> bool {
    te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_09_hx_11_only_harmless_trailers_are_announced() {
        let managed = Managed::new([]);
        let mut headers = HeaderMap::new();
        headers.insert(
            TRAILER,
            HeaderValue::from_static("X-Checksum, X_Forwarded_User, Content-Length, Remote-User, Expires"),
        );
        headers.insert(TE, HeaderValue::from_static("gzip, Trailers"));
        let said = Said::read(&headers);
        let mut out = HeaderMap::new();
        said.ask(&mut out, &managed);
        assert_eq!(out[TRAILER], "X-Checksum, Expires");
        assert_eq!(
            (&out[TE], &out[CONNECTION]),
            (&HeaderValue::from_static("trailers"), &HeaderValue::from_static("te"))
        );
    }

    #[test]
    fn m_10_what_http2_sends_unannounced_is_harmless_too() {
        let mut trailers = HeaderMap::new();
        for name in ["grpc-status", "x-checksum", "connection", "transfer-encoding", "content-length", "set-cookie"] {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("x-named"));
        }
        trailers.insert("x-named", HeaderValue::from_static("by connection"));
        keep_harmless(&mut trailers);
        let mut left: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-status", "x-checksum"]);
    }

    #[test]
    fn nothing_said_nothing_added() {
        let mut out = HeaderMap::new();
        Said::read(&HeaderMap::new()).ask(&mut out, &Managed::new([]));
        assert!(out.is_empty());
    }
}
