//! Another server's reading of what Doorward sends: nginx as the upstream must see the requests that Doorward saw, as many,
//! with the same targets and bodies. Row M-23.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::gateway::Extra;
use support::upstream::Seen;
use support::{Gateway, Provider, Upstream, eventually, free_port};

/// nginx that passes everything on to `upstream`.
struct Nginx {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Nginx {
    /// `None` where it is not installed; CI does not allow that.
    fn start(upstream: &Upstream) -> Option<Self> {
        let nginx = std::env::var_os("NGINX_BIN").unwrap_or_else(|| "nginx".into());
        if Command::new(&nginx).arg("-v").stderr(Stdio::null()).status().is_err() {
            assert!(std::env::var_os("CI").is_none(), "nginx is not installed");
            println!("skipped: nginx is not installed");
            return None;
        }
        let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
        let dir = directory.path().display();
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {dir}/{kind};\n"))
            .concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {dir}/pid;\nevents {{ }}\nhttp {{\n{temp}access_log off;\n\
             client_max_body_size 0;\nlarge_client_header_buffers 4 64k;\nignore_invalid_headers off;\n\
             merge_slashes off;\n\
             server {{\nlisten 127.0.0.1:{port};\nlocation / {{\nproxy_pass {};\nproxy_http_version 1.1;\n\
             proxy_set_header Connection \"\";\nproxy_set_header Host $http_host;\n}}\n}}\n}}\n",
            upstream.url()
        );
        let path = directory.path().join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let child = Command::new(&nginx).args(["-e", "stderr", "-c"]).arg(&path).stderr(Stdio::null()).spawn().unwrap();
        eventually("nginx", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Self { child, port, _directory: directory })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Requests that servers have read differently before, and ordinary ones between them.
fn corpus() -> Vec<String> {
    let get = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: HOST\r\n{fields}\r\n");
    let post = |fields: &str, body: &str| format!("POST /p HTTP/1.1\r\nHost: HOST\r\n{fields}\r\n{body}");
    let mut all = vec![
        get("/plain?a=1&b=%20", ""),
        get("/a/./b/../c//d", ""),
        get("/%61%2e%2E/x", ""),
        get("/a;b=c/d;e", ""),
        get("/q?x=/../y&z=//", ""),
        get("/with%20space", "X_Under: 1\r\n"),
        get("/folded", "X: a\r\n b\r\n"),
        get("/bare\nHost: other", ""),
        get("/get-with-body", "Content-Length: 5\r\n") + "hello",
        post("Content-Length: 5\r\n", "hello"),
        post("Content-Length: 0\r\n", ""),
        post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        post("Content-Length: 5, 5\r\n", "hello"),
        post("Content-Length: +5\r\n", "hello"),
        post("Content-Length: 05\r\n", "hello"),
        post("Content-Length: 5\r\n", "hello") + &get("/pipelined", ""),
        post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n", "5;ext=\"\r\n\"\r\nhello\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n", "5;a=b\r\nhello\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n", "00005\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n", "5\nhello\n0\n\n"),
        post("Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n") + &get("/after-chunks", ""),
        post("Transfer-Encoding: Chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        post("Transfer-Encoding : chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        post("Transfer-Encoding:\tchunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        post("Transfer-Encoding: identity, chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked, identity\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        post("Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n", "hello"),
        post(
            "Content-Length: 44\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n",
        ),
        post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "5c\r\nGET /smuggled HTTP/1.1\r\n\r\n0\r\n\r\n"),
        post("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello"),
        post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"),
        format!("GET http://HOST/absolute HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        format!("GET http://other.test/absolute HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        format!("HEAD /head HTTP/1.1\r\nHost: HOST\r\n\r\n{}", get("/after-head", "")),
        "GET /ten HTTP/1.0\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello".into(),
        "GET /nine\r\n".into(),
        "\r\n\r\nGET /leading HTTP/1.1\r\nHost: HOST\r\n\r\n".into(),
        "GET  /two-blanks HTTP/1.1\r\nHost: HOST\r\n\r\n".into(),
        "GET /lf HTTP/1.1\nHost: HOST\n\n".into(),
        "OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n".into(),
    ];
    all.push(get("/long", &format!("X-Long: {}\r\n", "x".repeat(30_000))));
    all
}

#[test]
fn m_23_nginx_behind_reads_the_requests_that_were_meant() {
    let (provider, direct, behind) = (Provider::start(), Upstream::start(), Upstream::start());
    let Some(nginx) = Nginx::start(&behind) else { return };
    let routes = format!(
        "[[route]]\nhost = \"direct.localhost\"\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"public\"\n\
         [[route]]\nhost = \"nginx.localhost\"\npath = \"/\"\nupstream = \"http://127.0.0.1:{}\"\naccess = \"public\"\n",
        nginx.port
    );
    // Short, so that what is not whole ends soon.
    let limit = |name: &str| (format!("DOORWARD_SERVER__LIMITS__{name}_TIMEOUT"), "1s".to_owned());
    let env = ["HEADER", "BODY", "IDLE"].map(limit).to_vec();
    let gateway = Gateway::with(provider.issuer(), &direct, Extra { routes: Some(routes), env, ..Extra::default() });
    let send = |host: &str, bytes: &str, number: usize| {
        let mut client = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // Each tells which it is, so that all can come at once.
        let bytes = bytes.replacen("Host: HOST\r\n", &format!("Host: HOST\r\nX-Item: {number}\r\n"), 1);
        client.write_all(bytes.replace("HOST", host).as_bytes()).unwrap();
        // However it ends: what was sent upstream is compared.
        let _ = client.read_to_end(&mut Vec::new());
    };
    let corpus = corpus();
    std::thread::scope(|scope| {
        for (number, bytes) in corpus.iter().enumerate() {
            let send = &send;
            for host in ["direct.localhost", "nginx.localhost"] {
                scope.spawn(move || send(host, bytes, number));
            }
        }
    });
    let read = |upstream: &Upstream| {
        let line = |seen: &Seen| {
            let item = seen.all("x-item").concat();
            format!("{item}: {} {} {:?}", seen.method, seen.target, String::from_utf8_lossy(&seen.body))
        };
        let mut all: Vec<_> = upstream.seen().iter().map(line).collect();
        all.sort();
        all
    };
    let meant = read(&direct);
    assert_eq!(read(&behind), meant);
    assert!(meant.len() > 15, "hardly anything passed: {meant:?}");
    assert!(!meant.iter().any(|line| line.contains(" /smuggled ")), "{meant:?}");
}
