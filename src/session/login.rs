//! Sign-ins in progress: one small sealed cookie each, at most five a browser, none kept by us. What the browser holds
//! is unreadable to it; what it brings back is compared, not trusted.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::HeaderValue;
use serde::{Deserialize, Serialize};

use super::Jar;
use crate::clock;
use crate::crypto::random;
use crate::crypto::seal::{Place, Purpose};
use crate::http::cookie::Found;
use crate::store::Key;

/// How long the provider's page may stay open.
pub const LIFETIME: Duration = Duration::from_secs(600);
/// How many sign-ins of one browser may be under way.
pub const MAX_AT_ONCE: usize = 5;
/// Beyond it a return path is forgotten rather than a cookie refused.
const MAX_RETURN: usize = 2_000;
/// `ID` in a cookie's name: milliseconds in ten characters that sort by age, then four random ones.
const STAMP: usize = 10;
const ID: usize = STAMP + 4;

/// What a sign-in has to remember until its callback.
#[derive(Clone, Serialize, Deserialize)]
pub struct Login {
    pub state: String,
    pub nonce: String,
    /// The PKCE code verifier (RFC 7636 §4.1).
    pub verifier: String,
    /// Where to go on to: a local path, or a URL of one of our hosts.
    pub rd: String,
    /// The name of the provider's section, and who that was then (B-03).
    pub provider: String,
    pub issuer: String,
    /// Of another host of ours, which hands its session over: no provider answers here.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hand_over: bool,
    /// Whether its answer comes as another site's form.
    #[serde(default, skip_serializing_if = "is_false")]
    pub form_post: bool,
    /// The session that the browser had, where the callback will not be shown it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Key>,
    pub started_ms: u64,
    /// Asked of the provider, so checked in the ID token (C-14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acr: Vec<String>,
}

/// What a sign-in was asked to be.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub rd: &'a str,
    pub provider: &'a str,
    pub issuer: &'a str,
    pub hand_over: bool,
    pub form_post: bool,
    pub replaces: Option<Key>,
    pub max_age: Option<u64>,
    pub acr: &'a [String],
}

impl<'a> Wanted<'a> {
    /// By the host where people sign in: who does it, and how, is decided there.
    pub fn hand_over(rd: &'a str) -> Self {
        Self {
            rd,
            provider: "",
            issuer: "",
            hand_over: true,
            form_post: false,
            replaces: None,
            max_age: None,
            acr: &[],
        }
    }
}

impl Login {
    pub fn new(wanted: &Wanted<'_>) -> Self {
        let started_ms = clock::unix_now_ms();
        let tail = random::token();
        let stamp = stamp(started_ms);
        // The id is the beginning of the state, so that the callback finds its cookie; 43 random characters follow.
        let state = format!("{stamp}{}{}", tail.get(..4).unwrap_or("aaaa"), random::token());
        let rd = if wanted.rd.len() <= MAX_RETURN { wanted.rd } else { "/" };
        Self {
            state,
            nonce: random::token(),
            verifier: random::token(),
            rd: rd.to_owned(),
            provider: wanted.provider.to_owned(),
            issuer: wanted.issuer.to_owned(),
            hand_over: wanted.hand_over,
            form_post: wanted.form_post,
            replaces: wanted.replaces,
            started_ms,
            max_age: wanted.max_age,
            acr: wanted.acr.to_vec(),
        }
    }

    /// The `Set-Cookie` values that begin this sign-in: its own, and the deletion of the oldest beyond the cap.
    pub fn cookies(&self, jar: &Jar<'_>, found: &Found<'_>) -> Option<Vec<HeaderValue>> {
        let name = jar.login_name(id_of(&self.state)?);
        let plain = serde_json::to_vec(self).ok()?;
        let sealed = jar.ring.seal(Purpose::Login, Place { name: &name, host: jar.host }, &plain)?;
        let set = match self.form_post {
            // SECURITY: C-24. Only where the answer comes by another site's form.
            true => jar.attributes.set_cross_site(&name, &sealed, LIFETIME)?,
            false => jar.attributes.set_lax(&name, &sealed, LIFETIME)?,
        };
        let mut out = vec![set];
        let mut others: Vec<&str> = found.logins.iter().map(|(id, _)| *id).collect();
        others.sort_unstable_by_key(|id| (is_id(id), *id));
        others.dedup();
        let spare = (others.len() + 1).saturating_sub(MAX_AT_ONCE);
        for id in others.into_iter().take(spare) {
            out.extend(jar.attributes.clear(&jar.login_name(id)));
        }
        Some(out)
    }
}

impl Jar<'_> {
    /// The sign-in that `state` belongs to, if this browser began it and it is not too old.
    pub fn login(&self, found: &Found<'_>, state: &str) -> Option<Login> {
        let id = id_of(state)?;
        let name = self.login_name(id);
        let place = Place { name: &name, host: self.host };
        // SECURITY: S-17. A sibling site may add junk of the same name: any that opens is the one.
        found.logins.iter().filter(|(i, _)| *i == id).find_map(|(_, value)| {
            let opened = self.ring.open(Purpose::Login, place, value)?;
            let login: Login = serde_json::from_slice(&opened.plain).ok()?;
            // SECURITY: C-02. The seal already binds name and state; equality is checked all the same.
            verify_slices_are_equal(login.state.as_bytes(), state.as_bytes()).ok()?;
            let age = clock::unix_now_ms().saturating_sub(login.started_ms);
            (u128::from(age) <= LIFETIME.as_millis()).then_some(login)
        })
    }

    /// The deletion of the cookie that `state` names.
    pub fn clear_login(&self, state: &str) -> Option<HeaderValue> {
        self.attributes.clear(&self.login_name(id_of(state)?))
    }

    fn login_name(&self, id: &str) -> String {
        format!("{}.login.{id}", self.session)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

fn id_of(state: &str) -> Option<&str> {
    state.get(..ID).filter(|id| is_id(id) && state.len() == ID + 43)
}

fn is_id(id: &str) -> bool {
    id.len() == ID && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Ten base-32 digits whose order is the order of time.
fn stamp(ms: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    (0..STAMP)
        .rev()
        .filter_map(|place| DIGITS.get(usize::try_from(ms >> (5 * place)).unwrap_or(0) & 31))
        .map(|b| char::from(*b))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::seal::KeyRing;
    use crate::http::cookie::Attributes;
    use crate::secret::Secret;
    use cookie::SameSite;
    use http::HeaderMap;
    use http::header::COOKIE;

    fn wanted(rd: &str) -> Login {
        Login::new(&Wanted {
            rd,
            provider: "main",
            issuer: "https://id",
            hand_over: false,
            form_post: false,
            replaces: None,
            max_age: None,
            acr: &[],
        })
    }

    fn with_jar<T>(f: impl FnOnce(&Jar<'_>) -> T) -> T {
        let ring = KeyRing::new(&[Secret::new("a key of at least thirty-two bytes..")]).unwrap();
        let attributes = Attributes { secure: false, domain: None, same_site: SameSite::Lax };
        f(&Jar { ring: &ring, attributes: &attributes, session: "d", host: "h" })
    }

    fn headers(cookies: &[(String, String)]) -> HeaderMap {
        let text = cookies.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ");
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&text).unwrap())])
    }

    fn pair(set: &HeaderValue) -> (String, String) {
        let (name, rest) = set.to_str().unwrap().split_once('=').unwrap();
        (name.to_owned(), rest.split(';').next().unwrap().to_owned())
    }

    #[test]
    fn c_02_c_03_p_02_values_are_long_and_never_the_same() {
        let logins: Vec<_> = (0..1000).map(|_| wanted("/")).collect();
        for pick in [|l: &Login| l.state.clone(), |l: &Login| l.nonce.clone(), |l: &Login| l.verifier.clone()] {
            let distinct: std::collections::HashSet<_> = logins.iter().map(pick).collect();
            assert_eq!(distinct.len(), 1000);
            assert!(distinct.iter().all(|v| v.len() >= 43));
        }
    }

    #[test]
    fn l_04_b_07_only_the_state_of_an_own_cookie_finds_its_login() {
        with_jar(|jar| {
            let login = wanted("/page");
            let cookies = [pair(&login.cookies(jar, &Found::default()).unwrap()[0])];
            let h = headers(&cookies);
            let found = Found::scan(&h, "d");
            assert_eq!(jar.login(&found, &login.state).unwrap().rd, "/page");
            for changed in [login.state.replace(&login.state[20..21], "!"), login.state[..56].into(), String::new()] {
                assert!(jar.login(&found, &changed).is_none(), "{changed}");
            }
            assert!(jar.login(&found, &wanted("/").state).is_none(), "a foreign state");
            let elsewhere = Jar { host: "other", ..*jar };
            assert!(elsewhere.login(&found, &login.state).is_none(), "another host");
        });
    }

    #[test]
    fn l_08_at_most_five_the_oldest_go_first() {
        with_jar(|jar| {
            let mut held: Vec<(String, String)> = Vec::new();
            for n in 0..20 {
                let h = headers(&held);
                let mut login = wanted("/");
                login.started_ms += n;
                login.state.replace_range(..STAMP, &stamp(login.started_ms));
                for set in login.cookies(jar, &Found::scan(&h, "d")).unwrap() {
                    let (name, value) = pair(&set);
                    held.retain(|(n, _)| *n != name);
                    if !value.is_empty() {
                        held.push((name, value));
                    }
                }
                assert!(held.len() <= MAX_AT_ONCE);
                let h = headers(&held);
                assert!(jar.login(&Found::scan(&h, "d"), &login.state).is_some(), "the newest stays");
            }
        });
    }

    #[test]
    fn s_17_junk_under_the_same_name_does_not_stop_a_sign_in() {
        with_jar(|jar| {
            let login = wanted("/");
            let (name, value) = pair(&login.cookies(jar, &Found::default()).unwrap()[0]);
            let h = headers(&[(name.clone(), "junk".into()), ("d.login.zz".into(), "junk".into()), (name, value)]);
            assert!(jar.login(&Found::scan(&h, "d"), &login.state).is_some());
        });
    }

    #[test]
    fn stamps_sort_by_time() {
        let mut last = String::new();
        for ms in [0, 1, 31, 32, 1_000_000, 1_790_000_000_000, 1_790_000_000_001] {
            let now = stamp(ms);
            assert!(now > last && now.len() == STAMP);
            last = now;
        }
    }
}
