//! What a session holds, and its form as bytes: compressed, since group lists and tokens repeat themselves, and with the
//! parts of JWTs unpacked from base64, since base64 hides the repetition. (Compression before encryption leaks length;
//! nothing in a session is both secret and beside text that an attacker can vary at will.)

use std::io::{Read as _, Write as _};
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};

use super::identity::Identity;
use crate::secret::Secret;

/// 128 random bits, new at each sign-in.
pub type Id = [u8; 16];

#[derive(Clone, Debug)]
pub struct Data {
    pub id: Id,
    /// The name of the provider's section.
    pub provider: String,
    /// Who vouched: a section that is pointed at another issuer knows none of the people from before.
    pub issuer: String,
    pub identity: Identity,
    pub created_ms: u64,
    /// Absolute; a refresh never moves it.
    pub expires_ms: u64,
    /// When it was last used, as far as its cookie knows.
    pub seen_ms: u64,
    pub tokens: Tokens,
    pub begun: Begun,
}

/// Where a sign-in came from, for its owner to recognise it by. Nothing is decided by it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Begun {
    /// "Firefox on Linux"; empty = unknown.
    #[serde(default, rename = "b", skip_serializing_if = "String::is_empty")]
    pub browser: String,
    /// The client's address.
    #[serde(default, rename = "a", skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

/// The provider's tokens, as far as they are still needed.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    pub access: Option<Secret>,
    pub refresh: Option<Secret>,
    /// Only while the provider has an `end_session_endpoint`, or a route presents it upstream.
    pub id: Option<Secret>,
    /// When the access token expires, Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// When it is time for a refresh.
    pub refresh_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    p: String,
    u: String,
    i: Identity,
    c: u64,
    e: u64,
    s: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r: Option<u64>,
    #[serde(default)]
    f: Begun,
}

/// Of the form itself; another version is discarded, not misread.
const FORMAT: u8 = 1;
/// What a session may unpack to: far above what fits a cookie, far below what hurts.
const MAX_UNPACKED: u64 = 1 << 20;

impl Data {
    pub fn encode(&self) -> Option<Vec<u8>> {
        let head = Head {
            p: self.provider.clone(),
            u: self.issuer.clone(),
            i: self.identity.clone(),
            c: self.created_ms,
            e: self.expires_ms,
            s: self.seen_ms,
            x: self.tokens.expires_ms,
            r: self.tokens.refresh_ms,
            f: self.begun.clone(),
        };
        let mut plain = Vec::with_capacity(2048);
        plain.extend_from_slice(&self.id);
        put(&mut plain, &serde_json::to_vec(&head).ok()?)?;
        for token in [&self.tokens.access, &self.tokens.refresh, &self.tokens.id] {
            put_token(&mut plain, token.as_ref().map(Secret::expose))?;
        }
        let mut out = DeflateEncoder::new(vec![FORMAT], Compression::best());
        out.write_all(&plain).ok()?;
        out.finish().ok()
    }

    /// `None` for anything that `encode` of this version did not write.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (format, packed) = bytes.split_first()?;
        if *format != FORMAT {
            return None;
        }
        let mut plain = Vec::with_capacity(packed.len() * 3);
        DeflateDecoder::new(packed).take(MAX_UNPACKED).read_to_end(&mut plain).ok()?;
        let (id, mut rest) = plain.split_first_chunk::<16>()?;
        let head: Head = serde_json::from_slice(take(&mut rest)?).ok()?;
        let access = take_token(&mut rest)?;
        let refresh = take_token(&mut rest)?;
        let id_token = take_token(&mut rest)?;
        if !rest.is_empty() {
            return None;
        }
        Some(Self {
            id: *id,
            provider: head.p,
            issuer: head.u,
            identity: head.i,
            created_ms: head.c,
            expires_ms: head.e,
            seen_ms: head.s,
            tokens: Tokens { access, refresh, id: id_token, expires_ms: head.x, refresh_ms: head.r },
            begun: head.f,
        })
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    out.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_be_bytes());
    out.extend_from_slice(bytes);
    Some(())
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, tail) = rest.split_first_chunk::<4>()?;
    let (bytes, tail) = tail.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    *rest = tail;
    Some(bytes)
}

/// 0 = none, 1 = as it is, 2 = a JWT's three parts.
fn put_token(out: &mut Vec<u8>, token: Option<&str>) -> Option<()> {
    let Some(token) = token else {
        out.push(0);
        return Some(());
    };
    if let Some(parts) = jwt_parts(token) {
        out.push(2);
        for part in &parts {
            put(out, part)?;
        }
        return Some(());
    }
    out.push(1);
    put(out, token.as_bytes())
}

#[expect(clippy::option_option, reason = "the outer None is a broken form, the inner one an absent token")]
fn take_token(rest: &mut &[u8]) -> Option<Option<Secret>> {
    let (tag, tail) = rest.split_first()?;
    *rest = tail;
    match tag {
        0 => Some(None),
        1 => Some(Some(Secret::new(String::from_utf8(take(rest)?.to_vec()).ok()?))),
        2 => {
            let parts = [take(rest)?, take(rest)?, take(rest)?].map(|p| URL_SAFE_NO_PAD.encode(p));
            Some(Some(Secret::new(parts.join("."))))
        }
        _ => None,
    }
}

/// Decoded parts, only where encoding them again gives the same text.
fn jwt_parts(token: &str) -> Option<[Vec<u8>; 3]> {
    let mut parts = token.split('.').map(|p| URL_SAFE_NO_PAD.decode(p).ok());
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(groups: usize) -> Data {
        let groups: Vec<String> = (0..groups).map(|i| format!("group-with-a-long-name-{i}")).collect();
        let payload = serde_json::json!({ "sub": "many", "groups": groups }).to_string();
        let jwt = [b"{\"alg\":\"RS256\"}".as_slice(), payload.as_bytes(), &[7; 256]].map(|p| URL_SAFE_NO_PAD.encode(p));
        Data {
            id: [9; 16],
            provider: "main".into(),
            issuer: "https://id.example.com".into(),
            identity: Identity { sub: "many".into(), user: "many".into(), groups, ..Identity::default() },
            created_ms: 1,
            expires_ms: 2,
            seen_ms: 3,
            tokens: Tokens {
                access: Some(Secret::new("opaque")),
                refresh: None,
                id: Some(Secret::new(jwt.join("."))),
                expires_ms: Some(4),
                refresh_ms: Some(3),
            },
            begun: Begun { browser: "Firefox on Linux".into(), address: Some([192, 0, 2, 7].into()) },
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let data = sample(3);
        let read = Data::decode(&data.encode().unwrap()).unwrap();
        assert_eq!((&read.identity, &read.begun), (&data.identity, &data.begun));
        assert_eq!((read.id, read.created_ms, read.expires_ms, read.seen_ms), (data.id, 1, 2, 3));
        assert_eq!(read.tokens.access, data.tokens.access);
        assert_eq!(read.tokens.refresh, None);
        assert_eq!(read.tokens.id, data.tokens.id);
        assert_eq!(read.tokens.expires_ms, Some(4));
    }

    #[test]
    fn k_03_two_hundred_groups_fit_two_cookies() {
        let bytes = sample(200).encode().unwrap();
        assert!(bytes.len() * 4 / 3 < 2 * crate::http::cookie::CHUNK_BYTES, "{} bytes", bytes.len());
    }

    #[test]
    fn s_02_other_bytes_are_no_session() {
        let bytes = sample(1).encode().unwrap();
        for n in 0..bytes.len() {
            assert!(Data::decode(&bytes[..n]).is_none(), "first {n}");
        }
        assert!(Data::decode(b"").is_none());
        assert!(Data::decode(&[&[2], &bytes[1..]].concat()).is_none(), "a later format");
    }

    #[test]
    fn m_13_a_bomb_unpacks_no_further_than_its_bound() {
        let mut out = DeflateEncoder::new(vec![FORMAT], Compression::best());
        out.write_all(&vec![0; 64 << 20]).unwrap();
        assert!(Data::decode(&out.finish().unwrap()).is_none());
    }
}
