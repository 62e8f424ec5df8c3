//! A reload: what changes, what stays, and what happens to connections meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use support::pki::Pki;
use support::{Gateway, ask, connect, eventually, free_port};

/// LISTEN, STATUS and MORE are filled in by each test.
const CONFIG: &str = r#"
[server]
public_url = "https://localhost:PORT"
listen = [LISTEN]
workers = 2
MORE
[admin]
listen = "127.0.0.1:ADMIN"
[session]
keys = ["a-session-key-of-the-tests-that-is-long-enough"]
[[route]]
path = "/"
upstream = "status:STATUS"
access = "public"
"#;

fn config(listen: &str, status: u16, more: &str) -> String {
    CONFIG.replace("LISTEN", listen).replace("STATUS", &status.to_string()).replace("MORE", more)
}

fn reload(gateway: &Gateway, text: &str) {
    let before = gateway.reloads("ok");
    gateway.configure(text);
    gateway.signal("HUP");
    eventually("the reload", || gateway.reloads("ok") > before);
}

fn status(port: u16) -> Option<u16> {
    Some(ask(&mut connect(port).ok()?, "localhost", "/")?.status)
}

#[test]
fn listeners_that_stay_keep_their_connections_and_those_that_go_serve_theirs_to_the_end() {
    let (first, second) = (free_port(), free_port());
    let listen = |ports: &[u16]| ports.iter().map(|p| format!("\"127.0.0.1:{p}\"")).collect::<Vec<_>>().join(", ");
    let gateway = Gateway::custom(&config(&listen(&[first]), 201, ""));
    let mut kept = connect(first).unwrap();
    assert_eq!(ask(&mut kept, "localhost", "/").unwrap().status, 201);

    reload(&gateway, &config(&listen(&[first, second]), 202, ""));
    assert_eq!(ask(&mut kept, "localhost", "/").unwrap().status, 202, "an open connection, the new routes");
    assert_eq!((status(first), status(second)), (Some(202), Some(202)));

    let mut moved = connect(second).unwrap();
    assert_eq!(ask(&mut moved, "localhost", "/").unwrap().status, 202);
    reload(&gateway, &config(&listen(&[first]), 203, ""));
    eventually("nobody listens there any more", || connect(second).is_err());
    assert_eq!(ask(&mut moved, "localhost", "/").unwrap().status, 203, "its connections live on");
    assert_eq!(ask(&mut kept, "localhost", "/").unwrap().status, 203);

    // The same port on all addresses, then on one: ours, and no other instance's.
    let all = config(&format!("\"0.0.0.0:{first}\""), 204, "");
    reload(&gateway, &all);
    assert_eq!(status(first), Some(204));
    assert_eq!(ask(&mut kept, "localhost", "/").unwrap().status, 204);
}

#[test]
fn a_listener_that_cannot_be_bound_refuses_the_whole_reload() {
    let (port, taken) = (free_port(), TcpListener::bind("127.0.0.1:0").unwrap());
    let taken = taken.local_addr().map(|address| (address.port(), taken)).unwrap();
    let gateway = Gateway::custom(&config(&format!("\"127.0.0.1:{port}\""), 201, ""));
    let unix = gateway.dir().join("s");
    let both = format!("\"unix:{}\", \"127.0.0.1:{}\"", unix.display(), taken.0);
    gateway.configure(&config(&both, 202, ""));
    gateway.signal("HUP");
    eventually("the refusal", || gateway.reloads("error") > 0.0);
    assert_eq!(status(port), Some(201));
    assert!(gateway.log().contains(&format!("cannot listen on 127.0.0.1:{}", taken.0)), "{}", gateway.log());
    assert!(std::os::unix::net::UnixStream::connect(&unix).is_err(), "what was bound for it is closed again");
    // And can be bound once the other has gone.
    drop(taken.1);
    reload(&gateway, &config(&both, 202, ""));
    assert_eq!(status(taken.0), Some(202));
}

#[test]
fn the_admin_listener_moves_and_a_listener_takes_tls_on_and_off() {
    let (authority, port, admin) = (Pki::new(&["localhost"]), free_port(), free_port());
    let listen = format!("\"127.0.0.1:{port}\"");
    let gateway = Gateway::custom(&config(&listen, 201, ""));
    authority.copy_to(gateway.dir());
    let tls = "[server.tls]\ncert = \"DIR/tls.crt\"\nkey = \"DIR/tls.key\"\n";
    let mut plain = connect(port).unwrap();
    assert_eq!(ask(&mut plain, "localhost", "/").unwrap().status, 201);

    reload(&gateway, &config(&listen, 202, tls));
    assert_eq!(ask(&mut plain, "localhost", "/").unwrap().status, 202, "it was plain when it began");
    let mut secure = authority.connect(port).unwrap();
    assert_eq!(ask(&mut secure, "localhost", "/").unwrap().status, 202);
    assert_ne!(status(port), Some(202), "new connections are over TLS");

    reload(&gateway, &config(&listen, 203, ""));
    assert_eq!(ask(&mut secure, "localhost", "/").unwrap().status, 203);
    assert_eq!(status(port), Some(203));

    gateway.configure(&config(&listen, 204, "").replace("ADMIN", &admin.to_string()));
    gateway.signal("HUP");
    eventually("the admin listener there", || {
        connect(admin).ok().and_then(|mut c| ask(&mut c, "localhost", "/livez")).is_some_and(|a| a.status == 200)
    });
    eventually("and no more here", || connect(gateway.admin).is_err());
    assert_eq!(status(port), Some(204));
}

#[test]
fn changed_files_are_noticed_and_what_is_broken_is_complained_of_once() {
    let port = free_port();
    let listen = format!("\"127.0.0.1:{port}\"");
    let often = "reload_interval = \"20ms\"\n";
    let gateway = Gateway::custom(&config(&listen, 201, often));
    gateway.configure(&config(&listen, 202, often));
    eventually("the change", || gateway.reloads("ok") > 0.0);
    assert_eq!(status(port), Some(202));

    let secret = "[server.tls]\ncert = \"DIR/tls.crt\"\nkey = \"DIR/tls.key\"\n";
    gateway.configure(&config(&listen, 203, &format!("{often}{secret}")));
    eventually("the refusal", || gateway.reloads("error") > 0.0);
    // The same again is no change: it is neither tried nor told of.
    gateway.configure(&config(&listen, 203, &format!("{often}{secret}")));
    gateway.configure("not TOML");
    eventually("the second refusal", || gateway.reloads("error") > 1.0);
    gateway.configure(&config(&listen, 203, &format!("{often}{secret}")));
    eventually("the third", || gateway.reloads("error") > 2.0);
    assert_eq!(status(port), Some(202));

    // The files that it named and that were not there are the correction.
    let authority = Pki::new(&["localhost"]);
    authority.copy_to(gateway.dir());
    eventually("the correction", || gateway.reloads("ok") > 1.0);
    let mut secure = authority.connect(port).unwrap();
    assert_eq!(ask(&mut secure, "localhost", "/").unwrap().status, 203);
    let complaints = gateway.log().matches("the new configuration is not valid").count();
    assert!((3..=4).contains(&complaints), "a half-written pair may be one more: {}", gateway.log());
}

/// As Kubernetes mounts a Secret: the files are links through `..data`, which is swapped for another directory.
fn mounted(dir: &Path, version: &str, authority: &Pki) {
    let at = |name: &str| dir.join(name);
    std::fs::create_dir(at(version)).unwrap();
    authority.copy_to(&at(version));
    symlink(version, at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
}

#[test]
fn yx_09_a_certificate_that_kubernetes_swaps_is_shown_to_the_next_and_drops_nobody() {
    let (old, new, port) = (Pki::new(&["localhost"]), Pki::new(&["localhost"]), free_port());
    let mount = tempfile::tempdir().unwrap();
    mounted(mount.path(), "..2026_1", &old);
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), mount.path().join(name)).unwrap();
    }
    let at = mount.path().display();
    let more = format!(
        "reload_interval = \"20ms\"\n[server.tls]\ncert = \"{at}/tls.crt\"\nkey = \"{at}/tls.key\"\n[server.limits]\nidle_timeout = \"60s\"\n"
    );
    let gateway = Gateway::custom(&config(&format!("\"127.0.0.1:{port}\""), 204, &more));
    let mut before = old.connect(port).unwrap();
    assert_eq!(ask(&mut before, "localhost", "/").unwrap().status, 204);
    assert!(new.connect(port).is_err());

    mounted(mount.path(), "..2026_2", &new);
    eventually("the new certificate", || new.connect(port).is_ok());
    assert_eq!(ask(&mut before, "localhost", "/").unwrap().status, 204);
    assert!(old.connect(port).is_err());
    assert_eq!((gateway.reloads("ok"), gateway.reloads("error")), (1.0, 0.0));
}

/// `check` says of a configuration what a reload would, and what a start would.
#[test]
fn check_predicts_a_reload() {
    let port = free_port();
    let listen = format!("\"127.0.0.1:{port}\"");
    let gateway = Gateway::custom(&config(&listen, 201, ""));
    let dir = gateway.dir();
    let (one, other) = (Pki::new(&["localhost"]), Pki::new(&["localhost"]));
    one.copy_to(dir);
    std::fs::rename(dir.join("tls.key"), dir.join("one.key")).unwrap();
    other.copy_to(dir);
    std::fs::write(dir.join("empty.pem"), "").unwrap();
    let upstream = |options: &str| {
        config(&listen, 203, "")
            .replace("\"status:203\"", &format!("\"https://localhost:1\"\nupstream_options = {{ {options} }}"))
    };
    let provider = |more: &str| {
        let section = format!("[provider.main]\nissuer = \"https://localhost:1\"\nclient_id = \"a\"\n{more}\n[admin]");
        config(&listen, 203, "").replace("[admin]", &section)
    };
    let issuer = "[issuer.ci]\nissuer = \"https://localhost:1\"\naudience = [\"a\"]\nca = \"DIR/empty.pem\"\n[admin]";
    let machine = config(&listen, 203, "").replace("[admin]", issuer);
    let redis = "store = \"redis\"\n[session.redis]\nurl = \"rediss://localhost:1\"\nca = \"DIR/empty.pem\"\n[[route]]";
    let bad = [
        (
            "a key of another certificate",
            config(&listen, 203, "[server.tls]\ncert = \"DIR/tls.crt\"\nkey = \"DIR/one.key\""),
        ),
        (
            "a certificate that is none",
            config(&listen, 203, "[server.tls]\ncert = \"DIR/empty.pem\"\nkey = \"DIR/tls.key\""),
        ),
        ("no certificate", config(&listen, 203, "[server.tls]\ncert = \"DIR/none.pem\"\nkey = \"DIR/tls.key\"")),
        ("an upstream's authority", upstream("ca = \"DIR/empty.pem\"")),
        ("an upstream's client certificate", upstream("client_cert = \"DIR/tls.crt\", client_key = \"DIR/one.key\"")),
        ("a provider's authority", provider("ca = \"DIR/empty.pem\"")),
        ("an issuer's authority", machine),
        ("Redis's authority", config(&listen, 203, "").replace("[[route]]", redis)),
    ];
    for (n, (what, text)) in bad.iter().enumerate() {
        gateway.configure(text);
        assert_eq!(check(dir), Some(2), "{what}");
        gateway.signal("HUP");
        eventually(what, || gateway.reloads("error") > n as f64);
        assert_eq!(status(port), Some(201), "{what}");
    }
    let good = [
        config(&listen, 202, ""),
        config(&listen, 202, "[server.tls]\ncert = \"DIR/tls.crt\"\nkey = \"DIR/tls.key\""),
        upstream("client_cert = \"DIR/tls.crt\", client_key = \"DIR/tls.key\", ca = \"DIR/tls.crt\""),
    ];
    for text in good {
        gateway.configure(&text);
        assert_eq!(check(dir), Some(0));
        reload(&gateway, &text);
    }
    assert_eq!(gateway.reloads("error"), bad.len() as f64);
}

/// The exit status.
fn check(dir: &Path) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.args(["check", "--config"]).arg(dir.join("doorward.toml")).env_clear().output().unwrap().status.code()
}
