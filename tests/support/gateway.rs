//! `doorward serve` as a process of its own.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Browser, Provider, Upstream, eventually, free_port};

pub struct Gateway {
    pub base: String,
    pub port: u16,
    pub admin: u16,
    dir: tempfile::TempDir,
    child: Child,
}

/// The common configuration, with room for more of each section.
#[derive(Clone, Default)]
pub struct Extra {
    pub server: String,
    pub provider: String,
    pub session: String,
    /// In place of the one route `/`.
    pub routes: Option<String>,
    pub env: Vec<(String, String)>,
    /// The host of `public_url`; empty = 127.0.0.1. Names below `localhost` lead here too.
    pub host: String,
    /// Do not wait until sign-in works.
    pub unready: bool,
    /// The most files that it may have open.
    pub files: Option<u32>,
}

impl Extra {
    fn host(&self) -> &str {
        if self.host.is_empty() { "127.0.0.1" } else { &self.host }
    }
}

pub const KEY: &str = "a-session-key-of-the-tests-that-is-long-enough";

impl Gateway {
    pub fn start(provider: &Provider, upstream: &Upstream) -> Self {
        Self::with(provider.issuer(), upstream, Extra::default())
    }

    pub fn with(issuer: &str, upstream: &Upstream, extra: Extra) -> Self {
        let (port, admin) = (free_port(), free_port());
        let dir = tempfile::tempdir().unwrap();
        let host = extra.host();
        let config = configuration(port, admin, issuer, &upstream.url(), &extra);
        std::fs::write(dir.path().join("doorward.toml"), config).unwrap();
        let child = spawn(&dir.path().join("doorward.toml"), &extra.env, extra.files);
        let mut gateway = Self { base: format!("http://{host}:{port}"), port, admin, dir, child };
        gateway.wait(if extra.unready { "/livez" } else { "/readyz" });
        gateway
    }

    /// With a configuration of the test's own, in which PORT, ADMIN and DIR stand for those of this gateway. It must have an
    /// admin listener.
    pub fn custom(text: &str) -> Self {
        Self::custom_by(text, |config| {
            let mut command = serve(config);
            command.stdout(log_file(config.parent().unwrap(), "stdout.log"));
            command
        })
    }

    /// The same, started by another command: given the configuration's path. Its stdout is its own matter.
    pub fn custom_by(text: &str, command: impl FnOnce(&Path) -> Command) -> Self {
        let (port, admin, dir) = (free_port(), free_port(), tempfile::tempdir().unwrap());
        let file = dir.path().join("doorward.toml");
        std::fs::write(&file, filled_in(text, port, admin, dir.path())).unwrap();
        let child = command(&file).stderr(log_file(dir.path(), "stderr.log")).spawn().unwrap();
        let mut gateway = Self { base: format!("http://127.0.0.1:{port}"), port, admin, dir, child };
        gateway.wait("/livez");
        gateway
    }

    /// Writes another one over it, and leaves it to be noticed.
    pub fn configure(&self, text: &str) {
        let text = filled_in(text, self.port, self.admin, self.dir());
        std::fs::write(self.dir().join("doorward.toml"), text).unwrap();
    }

    /// Where its configuration is, and room for more.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn reloads(&self, outcome: &str) -> f64 {
        self.metric(&format!("doorward_reloads_total{{outcome=\"{outcome}\"}}"))
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn browser(&self) -> Browser {
        Browser::new(&self.base)
    }

    /// A browser that has signed in (as whoever the provider signs in by itself).
    pub fn signed_in(&self) -> Browser {
        let mut browser = self.browser();
        let last = browser.go("/");
        assert_eq!(last.status, 200, "the sign-in ended at {} {}", last.url, last.text());
        browser
    }

    pub fn admin(&self, path: &str) -> super::Answer {
        self.admin_send("GET", path, &[])
    }

    pub fn admin_send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> super::Answer {
        Browser::new(&format!("http://127.0.0.1:{}", self.admin)).send(method, path, headers, b"")
    }

    /// A provider's logout token, as a provider posts it.
    pub fn backchannel_logout(&self, token: &str) -> super::Answer {
        let kind = ("Content-Type", "application/x-www-form-urlencoded");
        let body = format!("logout_token={token}");
        self.browser().send("POST", "/oauth2/backchannel-logout", &[kind], body.as_bytes())
    }

    pub fn wait(&mut self, path: &str) {
        let url = format!("http://127.0.0.1:{}", self.admin);
        eventually(path, || {
            assert!(self.child.try_wait().unwrap().is_none(), "the gateway ended: {}", self.log());
            Browser::new(&url).try_send("GET", path, &[], b"").is_some_and(|a| a.status == 200)
        });
    }

    /// Writes another configuration over the first and asks for a reload.
    pub fn reload(&self, issuer: &str, upstream: &Upstream, extra: &Extra) {
        let config = configuration(self.port, self.admin, issuer, &upstream.url(), extra);
        std::fs::write(self.dir.path().join("doorward.toml"), config).unwrap();
        self.signal("HUP");
    }

    /// Ends the process in order and starts it again, with the same configuration.
    pub fn restart(&mut self) {
        self.signal("TERM");
        self.ended();
        self.child = spawn(&self.dir.path().join("doorward.toml"), &[], None);
        self.wait("/readyz");
    }

    /// What `doorward explain` says with this gateway's configuration.
    pub fn explain(&self, args: &[String]) -> serde_json::Value {
        let config = self.dir.path().join("doorward.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        command.arg("explain").args(args).arg("--config").arg(config).env_clear();
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end by itself.
    pub fn ended(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        format!("{}{}", read("stdout.log"), read("stderr.log"))
    }

    pub fn metric(&self, line_start: &str) -> f64 {
        let text = self.admin("/metrics").text();
        text.lines()
            .filter(|l| l.starts_with(line_start))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        assert!(
            std::thread::panicking() || !self.log().contains("panicked at"),
            "the gateway panicked:\n{}",
            self.log()
        );
    }
}

fn spawn(config: &Path, env: &[(String, String)], files: Option<u32>) -> Child {
    let mut command = match files {
        None => serve(config),
        Some(files) => limited(config, files),
    };
    let dir = config.parent().unwrap();
    command.envs(env.iter().cloned()).stdin(Stdio::null());
    command.stdout(log_file(dir, "stdout.log")).stderr(log_file(dir, "stderr.log")).spawn().unwrap()
}

/// `doorward serve`, in an empty environment.
pub fn serve(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.args(["serve", "--config"]).arg(config).env_clear();
    command
}

/// The same, with so many open files.
fn limited(config: &Path, files: u32) -> Command {
    let mut shell = Command::new("/bin/sh");
    let line = format!("ulimit -n {files}; exec \"$0\" serve --config \"$1\"");
    shell.args(["-c", &line, env!("CARGO_BIN_EXE_doorward")]).arg(config).env_clear();
    shell
}

fn log_file(dir: &Path, name: &str) -> std::fs::File {
    std::fs::File::create(dir.join(name)).unwrap()
}

fn filled_in(text: &str, port: u16, admin: u16, dir: &Path) -> String {
    let text = text.replace("PORT", &port.to_string()).replace("ADMIN", &admin.to_string());
    text.replace("DIR", &dir.display().to_string())
}

fn configuration(port: u16, admin: u16, issuer: &str, upstream: &str, extra: &Extra) -> String {
    let mut out = Vec::new();
    let keys = if extra.session.contains("keys") { String::new() } else { format!("keys = [\"{KEY}\"]") };
    write!(
        out,
        r#"
[server]
listen = ["127.0.0.1:{port}"]
public_url = "http://{host}:{port}"
workers = 2
{server}

[server.limits]
logins_per_minute = 100000

[admin]
listen = "127.0.0.1:{admin}"

[provider.main]
issuer = "{issuer}"
client_id = "demo"
client_secret = "demo-secret"
par = "off"
{provider}

[session]
{keys}
{session}
"#,
        host = extra.host(),
        server = extra.server,
        provider = extra.provider,
        session = extra.session,
    )
    .unwrap();
    let one = format!(
        "[[route]]\npath = \"/\"\nupstream = \"{upstream}\"\naccess = \"authenticated\"\nidentity = [\"x-forwarded\"]\n"
    );
    out.extend_from_slice(extra.routes.as_ref().map_or(one, |r| r.replace("UPSTREAM", upstream)).as_bytes());
    String::from_utf8(out).unwrap()
}
