//! How what a client's certificate says is spelt, for rules and wherever it is compared with them: `dns:`, `email:`, `ip:`
//! and `uri:` for its subjectAltName, `subject:` for its distinguished name in the form of RFC 4514. One spelling each.

use std::net::IpAddr;

use super::values::fold_case;

/// Attribute types by name: those of RFC 4514 §3, then others as OpenSSL writes them.
const TYPES: [(&str, &str); 16] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.97", "organizationIdentifier"),
];

/// A value of an attribute.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Text(&'a str),
    /// What is no text that everybody reads alike: its whole DER.
    Der(&'a [u8]),
}

pub fn dns(name: &str) -> String {
    format!("dns:{}", name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
}

pub fn email(address: &str) -> String {
    format!("email:{}", fold_case(address))
}

pub fn ip(address: IpAddr) -> String {
    format!("ip:{}", address.to_canonical())
}

pub fn uri(uri: &str) -> String {
    format!("uri:{uri}")
}

/// An attribute of a distinguished name; `oid` in dotted form.
pub fn attribute(oid: &str, value: Value<'_>) -> String {
    let known = TYPES.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name);
    let mut out = format!("{}=", known.unwrap_or(oid));
    match value {
        // RFC 4514 §2.4: of a type without a name, too.
        Value::Der(der) => hex(der, &mut out),
        Value::Text(text) => escape(text, &mut out),
    }
    out
}

/// A distinguished name of its parts in the order of the certificate, each of the attributes that belong together.
pub fn distinguished(parts: Vec<Vec<String>>) -> String {
    let part = |mut attributes: Vec<String>| {
        // They are a set.
        attributes.sort_unstable();
        attributes.join("+")
    };
    parts.into_iter().rev().map(part).collect::<Vec<_>>().join(",")
}

/// How a name is written, for messages.
pub(super) const HINT: &str = "Write \"dns:build.example.com\", \"uri:spiffe://example.com/build\", \"email:…\", \"ip:…\", or \
     \"subject:CN=build,O=Example\" as openssl x509 -subject -nameopt RFC2253 shows it.";

/// One name as it is compared.
///
/// # Errors
/// What is wrong with it, to be read after the name.
pub fn name(text: &str) -> Result<String, &'static str> {
    let wrong = Err;
    let Some((kind, name)) = text.split_once(':').filter(|(_, name)| !name.is_empty()) else {
        return wrong("does not say what kind of name it is");
    };
    match kind {
        "dns" if name.contains(['*', '/', ':', '@', ' ']) || name.starts_with('.') || name.contains("..") => {
            wrong("is no host name")
        }
        "dns" => Ok(dns(name)),
        "email" if name.split('@').filter(|part| !part.is_empty()).count() != 2 => wrong("is no e-mail address"),
        "email" => Ok(email(name)),
        "ip" => name.parse().map_or_else(|_| wrong("is no address"), |address| Ok(ip(address))),
        "uri" if !name.contains(':') => wrong("is no URI"),
        "uri" => Ok(uri(name)),
        "subject" => parse(name).map(|subject| format!("subject:{subject}")),
        _ => wrong("is of a kind that certificates do not have"),
    }
}

/// A distinguished name as anybody may write it (RFC 4514 §3, blanks around its separators allowed), spelt as here.
fn parse(text: &str) -> Result<String, &'static str> {
    let mut parts = vec![Vec::new()];
    let mut rest = text;
    loop {
        let (kind, value) = rest.split_once('=').ok_or("has an attribute without =")?;
        let kind = kind.trim();
        let named = TYPES.iter().find(|(oid, name)| *oid == kind || name.eq_ignore_ascii_case(kind));
        let oid = named.map_or(kind, |(oid, _)| *oid);
        let is_oid = !oid.is_empty() && oid.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if !is_oid {
            return Err("has an attribute of a type without a name: write its number");
        }
        let (value, end, after) = value_of(value)?;
        let attribute = match &value {
            Parsed::Text(text) => attribute(oid, Value::Text(text)),
            Parsed::Der(der) => attribute(oid, Value::Der(der)),
        };
        parts.last_mut().ok_or("is empty")?.push(attribute);
        match end {
            None => break,
            Some('+') => {}
            Some(_) => parts.push(Vec::new()),
        }
        rest = after;
    }
    // Written last part first, as `distinguished` writes it.
    parts.reverse();
    Ok(distinguished(parts))
}

enum Parsed {
    Text(String),
    Der(Vec<u8>),
}

/// Up to the `,` or `+` that ends it, and what follows that.
fn value_of(text: &str) -> Result<(Parsed, Option<char>, &str), &'static str> {
    let text = text.trim_start_matches(' ');
    let (mut bytes, mut kept) = (Vec::new(), 0);
    let mut chars = text.char_indices();
    let mut end = None;
    let mut after = "";
    while let Some((at, c)) = chars.next() {
        match c {
            ',' | '+' => {
                end = Some(c);
                after = text.get(at + 1..).unwrap_or_default();
                break;
            }
            '"' | ';' | '<' | '>' => return Err("has a character that must be escaped by a backslash"),
            '\\' => {
                let (_, next) = chars.next().ok_or("ends with a backslash")?;
                match next.to_digit(16) {
                    Some(high) => {
                        let low = chars.next().and_then(|(_, c)| c.to_digit(16));
                        let low = low.ok_or("has a backslash before half a byte")?;
                        bytes.push(u8::try_from(high << 4 | low).unwrap_or_default());
                    }
                    None if next.is_ascii() => bytes.push(u8::try_from(next).unwrap_or_default()),
                    None => return Err("has a backslash before a character that needs none"),
                }
                // An escaped blank at the end is part of it.
                kept = bytes.len();
            }
            c => {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                if c != ' ' {
                    kept = bytes.len();
                }
            }
        }
    }
    bytes.truncate(kept);
    let text_of = String::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
    let parsed = match text_of.strip_prefix('#').filter(|_| text.starts_with('#')) {
        None => Parsed::Text(text_of),
        Some(digits) => {
            let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let pairs = digits.as_bytes().chunks(2).map(|pair| match pair {
                [high, low] => Some(digit(high)? << 4 | digit(low)?),
                _ => None,
            });
            Parsed::Der(pairs.collect::<Option<_>>().ok_or("has a # before what are no bytes")?)
        }
    };
    Ok((parsed, end, after))
}

/// RFC 4514 §2.4; control characters too, which no line should hold.
fn escape(text: &str, out: &mut String) {
    let last = text.chars().count().saturating_sub(1);
    for (n, c) in text.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', c]),
            ' ' if n == 0 || n == last => out.push_str("\\ "),
            '#' if n == 0 => out.push_str("\\#"),
            c if c.is_ascii_control() => {
                out.push('\\');
                push_byte(u8::try_from(c).unwrap_or_default(), out);
            }
            c => out.push(c),
        }
    }
}

fn hex(bytes: &[u8], out: &mut String) {
    out.push('#');
    bytes.iter().for_each(|byte| push_byte(*byte, out));
}

fn push_byte(byte: u8, out: &mut String) {
    for half in [byte >> 4, byte & 0xf] {
        out.push(char::from_digit(u32::from(half), 16).unwrap_or('0').to_ascii_uppercase());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is(text: &str, want: &str) {
        assert_eq!(name(text).ok().as_deref(), Some(want), "{text}");
    }

    #[test]
    fn each_kind_has_one_spelling() {
        is("dns:Build.Example.COM.", "dns:build.example.com");
        is("email:Ann@Example.com", "email:ann@example.com");
        is("ip:::ffff:192.0.2.1", "ip:192.0.2.1");
        is("ip:2001:DB8:0::1", "ip:2001:db8::1");
        is("uri:spiffe://example.com/Build", "uri:spiffe://example.com/Build");
        is("subject:CN=a,O=Example", "subject:CN=a,O=Example");
        is("subject: cn = a b , 2.5.4.10 = Example ", "subject:CN=a b,O=Example");
        is("subject:OU=x+CN=a,O=E", "subject:CN=a+OU=x,O=E");
        is("subject:CN=\\4a\\C3\\B6rg\\, Dr.\\ ", "subject:CN=Jörg\\, Dr.\\ ");
        is("subject:CN=Jörg,1.2.3=#0C0161", "subject:CN=Jörg,1.2.3=#0C0161");
        is("subject:CN=#0c0161", "subject:CN=#0C0161");
        is("subject:CN=\\#0c,O=\\00", "subject:CN=\\#0c,O=\\00");
        is("subject:CN=", "subject:CN=");
        for wrong in [
            "build.example.com",
            "dns:",
            "dns:*.example.com",
            "dns:.",
            "dns:a..",
            "dns:a b",
            "ip:1.2.3",
            "email:ann",
            "email:a@b@c",
            "uri:x",
            "subject:",
            "subject:CN",
            "subject:CN=a,",
            "subject:XX=a",
            "subject:CN=a;O=b",
            "subject:CN=\"a\"",
            "subject:CN=a\\",
            "subject:CN=\\4",
            "subject:CN=\\FF",
            "subject:CN=#0",
            "subject:CN=#zz",
            "subject:1..2=a",
            "cn:a",
            "DNS:a",
        ] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// What a certificate can say can be written in a rule, and two different names are never spelt alike.
        #[test]
        fn what_is_written_reads_as_itself(
            parts in prop::collection::vec(prop::collection::vec((0..TYPES.len(), "[ -~é\u{0}\n#]{0,8}"), 1..3), 1..4),
        ) {
            let attributes = |part: &Vec<(usize, String)>| {
                part.iter().map(|(at, text)| attribute(TYPES[*at].0, Value::Text(text))).collect::<Vec<_>>()
            };
            let written = distinguished(parts.iter().map(attributes).collect());
            let read = parse(&written);
            prop_assert_eq!(read.as_deref(), Ok(written.as_str()));
        }

        #[test]
        fn any_text_is_a_name_or_none(text in "(dns|ip|uri|email|subject):[ -~é]{0,20}") {
            if let Ok(canonical) = name(&text) {
                prop_assert_eq!(name(&canonical).ok(), Some(canonical), "spelt once and for all");
            }
        }
    }
}
