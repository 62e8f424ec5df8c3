//! Origins (RFC 6454): scheme, host and port, in one canonical spelling, and what counts as loopback.

use std::fmt;
use std::net::IpAddr;

use url::Url;

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Scheme, host (lower case, no trailing dot, IPv6 in brackets) and port.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
    /// `https://app.example.com`, the port only where it is not the scheme's own.
    text: String,
}

impl Origin {
    pub fn new(scheme: Scheme, host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        let text = if port == scheme.default_port() {
            format!("{}://{host}", scheme.as_str())
        } else {
            format!("{}://{host}:{port}", scheme.as_str())
        };
        Self { scheme, host, port, text }
    }

    /// Reads `https://host[:port][/]`. Anything more (path, query, user) is refused: an origin has none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "is not a URL such as https://app.example.com")?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("has a path, query or fragment; only scheme, host and port are wanted");
        }
        Self::of(&url)
    }

    /// The origin of an http or https URL without user name.
    pub fn of(url: &Url) -> Result<Self, &'static str> {
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err("is neither http nor https"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a user name or password");
        }
        let host = url.host_str().ok_or("has no host")?;
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() {
            return Err("has no host");
        }
        Ok(Self::new(scheme, host.to_ascii_lowercase(), url.port().unwrap_or_else(|| scheme.default_port())))
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// `host`, or `host:port` where the port is not the scheme's own: a Host header.
    pub fn authority(&self) -> &str {
        self.text.get(self.scheme.as_str().len() + 3..).unwrap_or_default()
    }

    /// https, or plain http to this machine itself: what may carry credentials without `insecure`.
    pub fn is_confidential(&self) -> bool {
        self.is_https() || is_loopback(&self.host)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// 127.0.0.0/8, `::1`, `localhost` and `*.localhost` (RFC 6761 §6.3).
pub fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => bare.eq_ignore_ascii_case("localhost") || bare.to_ascii_lowercase().ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_an_origin() {
        for (given, want) in [
            ("https://App.Example.com/", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://app.example.com.:8080", "http://app.example.com:8080"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            assert_eq!(Origin::parse(given).map(|o| o.to_string()), Ok(want.to_owned()), "{given}");
        }
        for bad in ["app.example.com", "https://u@h", "https://h/x", "ftp://h", "https://h?x", "https://h#x"] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Origin::parse("http://a:81").map(|o| o.authority().to_owned()), Ok("a:81".to_owned()));
    }

    #[test]
    fn loopback_is_what_the_documentation_says() {
        for yes in ["127.0.0.1", "127.9.9.9", "[::1]", "::1", "localhost", "a.localhost", "LOCALHOST"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["128.0.0.1", "localhost.example", "xlocalhost", "0.0.0.0", ""] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
