//! `[server]`, `[admin]` and `[telemetry]`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::problem::Reason;
use super::read::{Reader, Table};
use super::settings::{Admin, ForwardAuth, Listen, LogFormat, Server, Telemetry};
use super::values::{self, seconds};
use super::{limits, tls};
use crate::http::origin::{Origin, Scheme};

const DEFAULT_PREFIX: &str = "/oauth2";

/// The section, and whether plain http may leave the machine.
pub(super) struct Read {
    pub(super) server: Server,
    /// None: reported. `server` then holds a stand-in.
    pub(super) public_url: Option<Origin>,
    pub(super) insecure: bool,
    /// Clients are asked for certificates.
    pub(super) client_certificates: bool,
}

pub(super) fn server(table: Table<'_>) -> Read {
    let listen = match table.list("listen", listen) {
        Some(list) if list.is_empty() => {
            table.problem("listen", "is empty", "Write at least one address, such as \"0.0.0.0:4180\".");
            list
        }
        Some(list) => list,
        None => vec![Listen::Tcp(SocketAddr::from(([0, 0, 0, 0], 4180)))],
    };
    let public_url = public_url(&table, &listen);
    let tls = table.table("tls");
    let client_certificates = tls.as_ref().is_some_and(|tls| !tls.lacks("client_ca"));
    let server = Server {
        public_url: public_url.clone().unwrap_or_else(|| Origin::new(Scheme::Https, "unset.invalid", 443)),
        prefix: table.parse("prefix", values::prefix_below_root).unwrap_or_else(|| DEFAULT_PREFIX.to_owned()),
        trusted_proxies: trusted_proxies(&table),
        proxy_protocol: table.boolean("proxy_protocol", false),
        drain_timeout: table.duration("drain_timeout", seconds(30)),
        drain_delay: table.duration("drain_delay", seconds(0)),
        reload_interval: table.duration("reload_interval", seconds(10)),
        state_dir: table.text("state_dir").map_or_else(|| state_dir(table.reader()), PathBuf::from),
        workers: usize::try_from(table.integer("workers", 0..=1024, 0)).unwrap_or(0),
        tls: tls.and_then(tls::tls),
        limits: limits::limits(table.section("limits")),
        show_rule: table.boolean("show_rule", false),
        forward_auth: ForwardAuth::default(),
        listen,
    };
    let insecure = table.boolean("insecure", false);
    // Whoever connects to a unix socket is on this machine, and an inherited socket may be one.
    let anybody = server.listen.iter().any(|l| !matches!(l, Listen::Tcp(_)));
    if server.proxy_protocol && server.trusted_proxies.is_empty() && !anybody {
        table.problem(
            "proxy_protocol",
            "has nobody to read it from",
            "Name the load balancers in trusted_proxies: only they may say who a connection is from.",
        );
    }
    each_address_once(&table, &server);
    redirects_lead_to_https(&table, &server, public_url.as_ref());
    table.close();
    Read { server, public_url, insecure, client_certificates }
}

/// None: no admin listener. `public` are the listeners that it may not share.
pub(super) fn admin<'l>(root: &Table<'_>, mut public: impl Iterator<Item = &'l Listen>) -> Option<Admin> {
    let table = root.table("admin");
    let default = Admin { listen: SocketAddr::from(([127, 0, 0, 1], 9180)) };
    let Some(table) = table else {
        return root.reader().layers.has_file().then_some(default);
    };
    let off = table.entry("listen").is_some_and(|entry| entry.value.as_str() == Some(""));
    let listen = table.parse("listen", |text| {
        text.parse::<SocketAddr>().map_err(|_| {
            Reason::new("is not an address and port", "Write \"127.0.0.1:9180\", or \"\" for no admin listener.")
        })
    });
    let admin = Admin { listen: listen.unwrap_or(default.listen) };
    // SECURITY: GX-11: metrics and sessions are never on the listener that browsers reach.
    if !off && public.any(|listen| *listen == Listen::Tcp(admin.listen)) {
        table.problem("listen", "is also an address of [server]", "Give the admin listener a port of its own.");
    }
    table.close();
    (!off).then_some(admin)
}

pub(super) fn telemetry(table: Table<'_>) -> Telemetry {
    let log = table.parse("log", |text| {
        tracing_subscriber::EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|_| {
            Reason::new(
                "is not a log filter",
                "Write a level (error, warn, info, debug, trace) or parts such as \"info,doorward=debug\".",
            )
        })
    });
    let formats = [("auto", LogFormat::Auto), ("json", LogFormat::Json), ("text", LogFormat::Text)];
    let telemetry = Telemetry {
        log: log.unwrap_or_else(|| "info".to_owned()),
        format: table.choice("format", &formats).unwrap_or(LogFormat::Auto),
        access_log: table.boolean("access_log", true),
    };
    table.close();
    telemetry
}

pub(super) fn listen(text: &str) -> Result<Listen, Reason> {
    if let Some(number) = text.strip_prefix("fd:") {
        return match number.parse() {
            Ok(number @ 3..) => Ok(Listen::Fd(number)),
            _ => Err(Reason::new("is no inherited socket", "Write \"fd:3\": systemd's first socket is number 3.")),
        };
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.starts_with('/') {
            Ok(Listen::Unix(PathBuf::from(path)))
        } else {
            Err(Reason::new("names no absolute path", "Write \"unix:/run/doorward.sock\"."))
        };
    }
    text.parse().map(Listen::Tcp).map_err(|_| {
        Reason::new(
            "is not an address to listen on",
            "Write an IP address and a port, such as \"0.0.0.0:4180\" or \"[::]:4180\", \"unix:/path\" or \"fd:3\".",
        )
    })
}

fn each_address_once(table: &Table<'_>, server: &Server) {
    for (n, listen) in server.listeners().enumerate() {
        // Each `:0` is a port of its own.
        let is_any = matches!(listen, Listen::Tcp(address) if address.port() == 0);
        if is_any || server.listeners().take(n).all(|before| before != listen) {
            continue;
        }
        let message = format!("names {listen} twice");
        let hint = "Write each address once: a listener either serves or redirects.";
        if n < server.listen.len() {
            table.problem("listen", message, hint);
        } else {
            table.section("tls").problem("redirect_listen", message, hint);
        }
    }
}

fn redirects_lead_to_https(table: &Table<'_>, server: &Server, public_url: Option<&Origin>) {
    if !server.redirect_listen().is_empty() && public_url.is_some_and(|origin| !origin.is_https()) {
        let hint = "Write https:// in public_url: with server.tls that is what Doorward speaks.";
        table.section("tls").problem("redirect_listen", "redirects to public_url, which is plain http", hint);
    }
}

fn public_url(table: &Table<'_>, listen: &[Listen]) -> Option<Origin> {
    if let Some(entry) = table.entry("public_url").filter(|_| !table.lacks("public_url")) {
        return entry.parse(|text| {
            Origin::parse(text).map_err(|what| {
                Reason::new(what, "Write scheme and host as browsers type them, such as \"https://app.example.com\".")
            })
        });
    }
    if table.reader().layers.has_file() {
        table.missing(
            "public_url",
            "Write what browsers type, such as public_url = \"https://app.example.com\": \
             the provider sends them back there.",
        );
        return None;
    }
    // Tried out on one machine: what was listened on is what the browser types.
    let port = listen.iter().find_map(|l| match l {
        Listen::Tcp(address) => Some(address.port()),
        Listen::Fd(_) | Listen::Unix(_) => None,
    });
    if port.is_none() {
        table.missing("public_url", "Write what browsers type: --public-url https://app.example.com.");
    }
    port.map(|port| Origin::new(Scheme::Http, "127.0.0.1", port))
}

fn trusted_proxies(table: &Table<'_>) -> Vec<IpNet> {
    let nets = table.list("trusted_proxies", |text| {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        address.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
            Reason::new("is neither a network nor an address", "Write CIDRs, such as \"10.0.0.0/8\" or \"fd00::/8\".")
        })
    });
    let nets = nets.unwrap_or_default();
    // SECURITY: GX-09: then every client may say who it is and where it comes from.
    if nets.iter().any(|net| net.prefix_len() == 0) {
        table.reader().warn(
            "server.trusted_proxies trusts every address: any client can then forge X-Forwarded-For, -Proto and -Host. \
             Name the networks of your proxies."
                .to_owned(),
        );
    }
    nets
}

/// `$STATE_DIRECTORY` (systemd), else the XDG directory, else where a service keeps its state.
fn state_dir(reader: &Reader) -> PathBuf {
    if let Some(directory) = reader.layers.variable("STATE_DIRECTORY").and_then(|all| all.split(':').next()) {
        return PathBuf::from(directory);
    }
    if let Some(state) = reader.layers.variable("XDG_STATE_HOME") {
        return PathBuf::from(state).join("doorward");
    }
    match reader.layers.variable("HOME") {
        Some(home) => PathBuf::from(home).join(".local/state/doorward"),
        None => PathBuf::from("/var/lib/doorward"),
    }
}
