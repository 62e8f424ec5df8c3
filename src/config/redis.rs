//! `[session.redis]`: the Redis or Valkey that sessions are kept in. No message of this file shows the URL: it holds a
//! password.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::problem::Reason;
use super::read::Table;
use super::secrets;
use super::settings::{Redis, RedisServers};
use super::values::{self, seconds};
use crate::secret::Secret;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
const FORMS: &str = "Write redis://HOST:PORT/DB, rediss:// for TLS, redis-sentinel://HOST,HOST/MASTER, \
                     redis-cluster://HOST,HOST or unix:///PATH.";

/// `is_used`: `session.store = "redis"`. None where it is not, or where something was reported.
pub(super) fn redis(table: Table<'_>, is_used: bool) -> Option<Redis> {
    let url = table.entry("url").and_then(secrets::secret);
    let address = url.and_then(|url| match address(url.expose()) {
        Ok(address) => Some(address),
        Err(reason) => {
            table.problem("url", reason.what, reason.hint);
            None
        }
    });
    let timeout = table.timeout("timeout", seconds(2));
    let key_prefix = table.parse("key_prefix", key_prefix).unwrap_or_else(|| "doorward:".to_owned());
    let ca = table.path("ca");
    if is_used && !table.has("url") {
        table.missing("url", FORMS);
    }
    if let (Some(address), Some(_)) = (&address, &ca)
        && !address.tls
    {
        table.problem("ca", "is for TLS, and the url asks for none", "Write a rediss:// url, or remove it.");
    }
    table.close();
    let Address { servers, tls, user, password, database } = address.filter(|_| is_used)?;
    Some(Redis { servers, tls, user, password, database, ca, timeout, key_prefix })
}

/// What passwords, and what it tells about sessions, cross in clear (tokens are sealed): for whom `check` prints it.
pub(super) fn warning(redis: &Redis) -> Option<String> {
    let in_clear = !redis.tls && !redis.servers.are_here();
    in_clear.then(|| {
        format!(
            "session.redis.url asks for no TLS and {} is another machine: whoever is on the way reads the password and \
             sees who is signed in. Write rediss://.",
            redis.servers
        )
    })
}

#[derive(Debug, Eq, PartialEq)]
struct Address {
    servers: RedisServers,
    tls: bool,
    user: Option<String>,
    password: Option<Secret>,
    database: u32,
}

fn address(url: &str) -> Result<Address, Reason> {
    let bad = || Reason::new("is not the URL of a Redis", FORMS);
    let (scheme, rest) = url.split_once(':').ok_or_else(bad)?;
    let (scheme, tls) = match scheme {
        "redis" | "redis-sentinel" | "redis-cluster" => (scheme, false),
        "rediss" => ("redis", true),
        "rediss-sentinel" => ("redis-sentinel", true),
        "rediss-cluster" => ("redis-cluster", true),
        "unix" | "redis+unix" => ("unix", false),
        _ => return Err(bad()),
    };
    if rest.contains(['?', '#']) {
        let hint = "Remove it; in a password write ? as %3F and # as %23.";
        return Err(Reason::new("has a query or a fragment, which say nothing here", hint));
    }
    // `unix:/path` is how sockets are written elsewhere in the file.
    let rest = match rest.strip_prefix("//") {
        Some(rest) => rest,
        None if scheme == "unix" => rest,
        None => return Err(bad()),
    };
    let (authority, path) = match rest.find('/').and_then(|at| rest.split_at_checked(at)) {
        Some(parts) => parts,
        None => (rest, ""),
    };
    let inside = path.strip_prefix('/').unwrap_or(path);
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };
    let (user, password) = credentials.map_or(Ok((None, None)), user_and_password)?;
    let mut database = 0;
    let servers = match scheme {
        "unix" if hosts.is_empty() && path.len() > 1 => RedisServers::Unix(PathBuf::from(path)),
        "unix" => return Err(Reason::new("has no absolute path", "Write unix:///run/redis.sock.")),
        "redis-cluster" => {
            if !matches!(path, "" | "/" | "/0") {
                return Err(Reason::new(
                    "names a database, and a cluster has one only",
                    "Remove what follows the hosts.",
                ));
            }
            RedisServers::Cluster(places(hosts, PORT)?)
        }
        "redis-sentinel" => {
            let (master, number) = inside.split_once('/').unwrap_or((inside, ""));
            database = database_number(number)?;
            if master.is_empty() || !master.bytes().all(|b| b.is_ascii_graphic()) {
                let hint =
                    "Write redis-sentinel://HOST:26379,HOST:26379/MASTER, with the name that the sentinels watch.";
                return Err(Reason::new("does not name the master", hint));
            }
            RedisServers::Sentinel { sentinels: places(hosts, SENTINEL_PORT)?, master: decoded(master)? }
        }
        _ => {
            database = database_number(inside)?;
            match <[_; 1]>::try_from(places(hosts, PORT)?) {
                Ok([(host, port)]) => RedisServers::One(host, port),
                Err(_) => {
                    let hint = "Write redis-cluster:// or redis-sentinel:// for several.";
                    return Err(Reason::new("names several servers", hint));
                }
            }
        }
    };
    Ok(Address { servers, tls, user, password, database })
}

fn user_and_password(text: &str) -> Result<(Option<String>, Option<Secret>), Reason> {
    let hint = "Write USER:PASSWORD@ or :PASSWORD@ before the host.";
    let (user, password) = text.split_once(':').ok_or_else(|| Reason::new("has a user without a password", hint))?;
    if password.is_empty() {
        return Err(Reason::new("has an empty password", hint));
    }
    let user = Some(decoded(user)?).filter(|user| !user.is_empty());
    Ok((user, Some(Secret::new(decoded(password)?))))
}

fn decoded(text: &str) -> Result<String, Reason> {
    let broken = text.split('%').skip(1).any(|after| {
        let digits = after.get(..2);
        digits.is_none_or(|digits| !digits.bytes().all(|b| b.is_ascii_hexdigit()))
    });
    let text = percent_decode_str(text).decode_utf8().map(String::from);
    match text {
        Ok(text) if !broken && !text.contains(['\0', '\r', '\n']) => Ok(text),
        _ => Err(Reason::new(
            "has a broken percent sign in it",
            "Percent-encode user and password; write % itself as %25.",
        )),
    }
}

fn database_number(text: &str) -> Result<u32, Reason> {
    match text {
        "" => Ok(0),
        number => {
            number.parse().map_err(|_| Reason::new("has a database that is not a number", "Write /0, or leave it out."))
        }
    }
}

fn places(hosts: &str, port: u16) -> Result<Vec<(String, u16)>, Reason> {
    hosts.split(',').map(|host| place(host, port)).collect()
}

fn place(text: &str, default: u16) -> Result<(String, u16), Reason> {
    let bad = || Reason::new("has a host or a port that is none", FORMS);
    // The colons of an IPv6 address are within brackets.
    let end = text.rfind(']').map_or(0, |at| at + 1);
    let at = text.get(end..).and_then(|rest| rest.find(':')).map(|at| end + at);
    let (host, port) = match at {
        Some(at) => (text.get(..at).ok_or_else(bad)?, text.get(at + 1..).ok_or_else(bad)?.parse().map_err(|_| bad())?),
        None => (text, default),
    };
    let host = values::host(host).map_err(|_| bad())?;
    if port == 0 {
        return Err(bad());
    }
    // Without brackets, as the resolver wants it.
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

fn key_prefix(text: &str) -> Result<String, Reason> {
    if text.contains(['{', '}']) {
        let hint = "Write letters, such as \"doorward:\".";
        return Err(Reason::new("contains a brace: a cluster would keep every key on one node", hint));
    }
    if text.len() > 100 || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Reason::new("is not a key prefix", "Write up to 100 visible ASCII characters."));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(host: &str, port: u16) -> RedisServers {
        RedisServers::One(host.to_owned(), port)
    }

    fn several(hosts: &[(&str, u16)]) -> Vec<(String, u16)> {
        hosts.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect()
    }

    fn of(servers: RedisServers) -> Address {
        Address { servers, tls: false, user: None, password: None, database: 0 }
    }

    #[test]
    fn every_form_of_the_url() {
        let sentinel = |sentinels| RedisServers::Sentinel { sentinels, master: "main".to_owned() };
        let unix = || of(RedisServers::Unix("/run/redis.sock".into()));
        let secret = |text: &str| Some(Secret::new(text));
        for (url, want) in [
            ("redis://h", of(one("h", 6379))),
            ("redis://h/", of(one("h", 6379))),
            ("redis://H.Example:7000/3", Address { database: 3, ..of(one("h.example", 7000)) }),
            ("redis://[::1]:7000", of(one("::1", 7000))),
            ("redis://[::1]", of(one("::1", 6379))),
            ("rediss://10.0.0.1", Address { tls: true, ..of(one("10.0.0.1", 6379)) }),
            ("redis://:p@h", Address { password: secret("p"), ..of(one("h", 6379)) }),
            (
                "redis://us%65r:p%40%2F%3Aä@h",
                Address { user: Some("user".to_owned()), password: secret("p@/:ä"), ..of(one("h", 6379)) },
            ),
            ("unix:/run/redis.sock", unix()),
            ("unix:///run/redis.sock", unix()),
            ("redis+unix://:p@/run/redis.sock", Address { password: secret("p"), ..unix() }),
            ("redis-cluster://a", of(RedisServers::Cluster(several(&[("a", 6379)])))),
            (
                "rediss-cluster://u:p@a:1,b:2/0",
                Address {
                    tls: true,
                    user: Some("u".to_owned()),
                    password: secret("p"),
                    ..of(RedisServers::Cluster(several(&[("a", 1), ("b", 2)])))
                },
            ),
            ("redis-sentinel://a,b:1/main", of(sentinel(several(&[("a", 26379), ("b", 1)])))),
            (
                "rediss-sentinel://:p@a/main/2",
                Address { tls: true, password: secret("p"), database: 2, ..of(sentinel(several(&[("a", 26379)]))) },
            ),
        ] {
            assert_eq!(address(url).map_err(|r| r.what), Ok(want), "{url}");
        }
    }

    #[test]
    fn zx_06_malformed_urls_are_named_and_not_shown() {
        for url in [
            "",
            "h:6379",
            "http://h",
            "redis:h",
            "redis://",
            "redis:///0",
            "redis://hunter2@h",
            "redis://user:@h",
            "redis://:hunter2%@h",
            "redis://:hunter2%0a@h",
            "redis://:hunter2%ff@h",
            "redis://:hunter2#@h",
            "redis://h:0",
            "redis://h:70000",
            "redis://h:x",
            "redis://a:1:2",
            "redis://::1",
            "redis://h/x",
            "redis://h/-1",
            "redis://h?db=1",
            "redis://a,b",
            "redis-cluster://",
            "redis-cluster://a,,b",
            "redis-cluster://a/1",
            "redis-sentinel://a",
            "redis-sentinel://a/",
            "redis-sentinel://a//1",
            "redis-sentinel://a/main/x",
            "redis-sentinel:///main",
            "unix:",
            "unix:///",
            "unix://h/run/redis.sock",
            "unix:relative",
        ] {
            let reason = address(url).expect_err(url);
            assert!(!reason.what.contains("hunter2") && !reason.hint.contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn only_other_machines_are_warned_about() {
        for (url, warned) in [
            ("redis://localhost", false),
            ("redis://127.0.0.9", false),
            ("redis://[::1]", false),
            ("unix:/run/redis.sock", false),
            ("rediss://h", false),
            ("redis://h", true),
            ("redis-cluster://localhost,h", true),
            ("redis-sentinel://localhost/main", false),
        ] {
            let Address { servers, tls, user, password, database } = address(url).map_err(|r| r.what).unwrap();
            let key_prefix = String::new();
            let redis = Redis { servers, tls, user, password, database, ca: None, timeout: seconds(1), key_prefix };
            assert_eq!(warning(&redis).is_some(), warned, "{url}");
        }
    }

    #[test]
    fn key_prefixes() {
        assert!(key_prefix("doorward:").is_ok());
        for bad in ["{doorward}:", "a b", "ä"] {
            assert!(key_prefix(bad).is_err(), "{bad}");
        }
    }
}
