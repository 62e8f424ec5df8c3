//! A small browser, to which every host is this machine: one jar an origin, and one a shared domain (so that the provider and the gateway on 127.0.0.1 stay apart), redirects followed,
//! requests sent as the bytes they are.

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Browser {
    pub base: String,
    /// origin → name → value
    pub jars: BTreeMap<String, BTreeMap<String, String>>,
    /// Its User-Agent, where it has one.
    pub agent: String,
}

#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub url: String,
}

/// What a browser sends when it goes somewhere.
pub const NAVIGATE: [(&str, &str); 3] =
    [("Accept", "text/html,*/*;q=0.8"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Site", "none")];

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    pub fn location(&self) -> &str {
        self.header("location").unwrap_or_default()
    }

    /// A parameter of Location's query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let url = url::Url::parse(self.location()).ok()?;
        url.query_pairs().find(|(n, _)| n == name).map(|(_, v)| v.into_owned())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

impl Browser {
    pub fn new(base: &str) -> Self {
        Self { base: base.to_owned(), jars: BTreeMap::new(), agent: String::new() }
    }

    /// The cookies of the gateway whose names begin so.
    pub fn cookies(&self, prefix: &str) -> Vec<(String, String)> {
        let jar = self.jars.get(&self.base);
        jar.into_iter().flatten().filter(|(n, _)| n.starts_with(prefix)).map(|(n, v)| (n.clone(), v.clone())).collect()
    }

    pub fn cookie_header(&self, origin: &str) -> String {
        let host = host(origin);
        let shared = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
        let fits = |name: &str| name == origin || name.strip_prefix("domain ").is_some_and(shared);
        let jars = self.jars.iter().filter(|(name, _)| fits(name));
        jars.flat_map(|(_, jar)| jar).map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ")
    }

    /// Goes to `path` of the gateway and follows every redirect.
    pub fn go(&mut self, path: &str) -> Answer {
        let start = self.navigate(path);
        self.follow(start, |_| false)
    }

    /// Follows redirects until one leads where `stop` says; that answer is returned, its Location not asked.
    pub fn follow(&mut self, mut answer: Answer, stop: impl Fn(&str) -> bool) -> Answer {
        for _ in 0..20 {
            if !(300..400).contains(&answer.status) || answer.header("location").is_none() {
                return answer;
            }
            let next = url::Url::parse(&answer.url).unwrap().join(answer.location()).unwrap().to_string();
            if stop(&next) {
                return answer;
            }
            answer = self.navigate(&next);
        }
        panic!("too many redirects, the last to {}", answer.location());
    }

    /// A sign-in up to the callback, which is not asked: its URL.
    pub fn reach_callback(&mut self, path: &str) -> String {
        let start = self.navigate(path);
        assert_eq!(start.status, 302, "no sign-in began: {}", start.text());
        let callback = format!("{}/oauth2/callback", self.base);
        let last = self.follow(start, |url| url.starts_with(&callback));
        assert!(last.location().starts_with(&callback), "the provider answered {} {}", last.status, last.text());
        last.location().to_owned()
    }

    pub fn navigate(&mut self, url: &str) -> Answer {
        self.send("GET", url, &NAVIGATE, b"")
    }

    pub fn fetch(&mut self, url: &str) -> Answer {
        self.send("GET", url, &[("Accept", "application/json"), ("Sec-Fetch-Mode", "cors")], b"")
    }

    /// One request with the jar's cookies, unless `headers` bring a Cookie of their own.
    pub fn send(&mut self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, url, headers, body).unwrap_or_else(|| panic!("no answer to {method} {url}"))
    }

    pub fn try_send(&mut self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
        let url = if url.starts_with("http") { url.to_owned() } else { format!("{}{url}", self.base) };
        let (origin, target) = split(&url);
        let mut request = format!("{method} {target} HTTP/1.1\r\n");
        let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !has("host") {
            request += &format!("Host: {}\r\n", origin.trim_start_matches("http://"));
        }
        let cookies = self.cookie_header(&origin);
        if !has("cookie") && !cookies.is_empty() {
            request += &format!("Cookie: {cookies}\r\n");
        }
        if !has("user-agent") && !self.agent.is_empty() {
            request += &format!("User-Agent: {}\r\n", self.agent);
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() && !has("content-length") {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        if !has("connection") {
            request += "Connection: close\r\n";
        }
        request += "\r\n";
        let mut stream = TcpStream::connect(("127.0.0.1", port(&origin)?)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.write_all(body));
        let mut answer = read(&mut BufReader::new(stream), method)?;
        answer.url = url;
        self.keep(&origin, &answer);
        Some(answer)
    }

    fn keep(&mut self, origin: &str, answer: &Answer) {
        for line in answer.all("set-cookie") {
            let cookie = cookie::Cookie::parse(line.to_owned()).unwrap();
            let jar = cookie.domain().map_or_else(|| origin.to_owned(), |domain| format!("domain {domain}"));
            let jar = self.jars.entry(jar).or_default();
            let gone = cookie.max_age().is_some_and(|a| a.is_zero()) || cookie.value().is_empty();
            if gone {
                jar.remove(cookie.name());
            } else {
                jar.insert(cookie.name().to_owned(), cookie.value().to_owned());
            }
        }
    }
}

/// Without the port.
fn host(origin: &str) -> &str {
    origin.trim_start_matches("http://").split(':').next().unwrap_or_default()
}

fn port(origin: &str) -> Option<u16> {
    origin.rsplit_once(':')?.1.parse().ok()
}

/// `http://host:port` and the rest.
fn split(url: &str) -> (String, String) {
    let at = url.get(7..).and_then(|rest| rest.find(['/', '?'])).map_or(url.len(), |i| i + 7);
    let (origin, rest) = url.split_at(at);
    let rest = rest.split('#').next().unwrap_or_default();
    (origin.to_owned(), if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") })
}

/// One final answer, whatever informational ones come before it.
pub fn read(stream: &mut impl std::io::BufRead, method: &str) -> Option<Answer> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let status: u16 = line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok()?;
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let mut answer = Answer { status, headers, ..Answer::default() };
        if method == "HEAD" || matches!(status, 101 | 204 | 304) {
            return Some(answer);
        }
        if answer.header("transfer-encoding").is_some() {
            loop {
                let mut size = String::new();
                stream.read_line(&mut size).ok()?;
                let size = usize::from_str_radix(size.trim(), 16).ok()?;
                let mut chunk = vec![0; size + 2];
                stream.read_exact(&mut chunk).ok()?;
                if size == 0 {
                    return Some(answer);
                }
                answer.body.extend_from_slice(&chunk[..size]);
            }
        }
        match answer.header("content-length") {
            Some(length) => {
                answer.body = vec![0; length.parse().ok()?];
                stream.read_exact(&mut answer.body).ok()?;
            }
            None => {
                stream.read_to_end(&mut answer.body).ok()?;
            }
        }
        return Some(answer);
    }
}
