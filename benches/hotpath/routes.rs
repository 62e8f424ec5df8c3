//! The routes of the Doorward under measurement: one, or so many that looking each of them up would show.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// How many routes there are, and how many rules the route of the measured request has.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) routes: usize,
    /// 0 = everybody who is signed in.
    pub(crate) rules: usize,
}

impl Size {
    pub(crate) const ONE_ROUTE: Self = Self { routes: 1, rules: 0 };

    /// The `[[route]]` sections. `/app/dashboard` gets the last route that can be thought of: of any host, below others, and
    /// by the last of its rules.
    pub(crate) fn routes(self, upstream: SocketAddr) -> String {
        let mut text = String::new();
        let path = if self.routes > 1 { "/app/dashboard" } else { "/" };
        route(&mut text, "", path, upstream, &access(self.rules));
        if self.routes > 1 {
            // Where the sign-in begins.
            route(&mut text, "", "/", upstream, "access = \"authenticated\"");
        }
        for n in 2..self.routes {
            let (host, path) = match n % 4 {
                0 => (format!("host{n}.example.com"), "/".to_owned()),
                1 => (format!("*.host{n}.example.com"), "/app".to_owned()),
                2 => (String::new(), format!("/app/dashboard/{n}/deeper")),
                _ => (String::new(), format!("=/app/dashboard{n}")),
            };
            route(&mut text, &host, &path, upstream, "access = \"authenticated\"");
        }
        text
    }
}

fn route(text: &mut String, host: &str, path: &str, upstream: SocketAddr, access: &str) {
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "[[route]]\nhost = \"{host}\"\npath = \"{path}\"\nupstream = \"http://{upstream}\"\n{access}\n\
         identity = [\"x-forwarded\"]\n"
    );
}

/// Of these rules alice meets the last one only.
fn access(rules: usize) -> String {
    if rules == 0 {
        return "access = \"authenticated\"".to_owned();
    }
    let mut all: Vec<String> = (1..rules)
        .map(|n| match n % 4 {
            0 => format!("{{ group = [\"group{n}\", \"more{n}\"] }}"),
            1 => format!("{{ email_domain = \"domain{n}.example.com\" }}"),
            2 => format!("{{ user = \"user{n}\", method = \"GET\" }}"),
            _ => format!("{{ email = \"person{n}@example.com\", provider = \"main\" }}"),
        })
        .collect();
    all.push("{ group = \"staff\" }".to_owned());
    format!("access = \"policy\"\nallow = [{}]", all.join(", "))
}
