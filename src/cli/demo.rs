//! `doorward demo`: the whole journey on one machine, with nothing else installed.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::process::ExitCode;

use super::{FAILED, control, fail};
use crate::app;
use crate::config::{Flags, Sources};
use crate::crypto::random;
use crate::demo::provider::{DemoProvider, Options};
use crate::demo::sample;
use crate::net::listen::Inherited;
use crate::reload::Reload;
use crate::telemetry::log;

pub(super) fn demo(port: u16) -> ExitCode {
    control(async move {
        match run(port).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => fail(FAILED, &message),
        }
    })
}

async fn run(port: u16) -> Result<(), String> {
    let listen = |offset: u16| {
        let port = if port == 0 { 0 } else { port.checked_add(offset).ok_or("the port is too large")? };
        TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .map_err(|e| format!("port {port} of 127.0.0.1 cannot be used: {e}; choose others with --port"))
    };
    // Bound for a moment to learn that it is free, and which one it is.
    let gateway = {
        let probe = listen(0)?;
        probe.local_addr().map_err(|e| e.to_string())?.port()
    };
    let provider_socket = listen(1)?;
    let sample_socket = listen(2)?;
    let sample_port = sample_socket.local_addr().map_err(|e| e.to_string())?.port();
    // A sign-out at the provider ends the session here too, as with a real one.
    let backchannel_logout_uris = vec![format!("http://{gateway}/oauth2/backchannel-logout")];
    let provider = DemoProvider::start(provider_socket, Options { backchannel_logout_uris, ..Options::default() })
        .map_err(|e| format!("the demo provider cannot start: {e}"))?;
    let _sample = sample::start(sample_socket).map_err(|e| format!("the sample application cannot start: {e}"))?;

    // A name that nobody can have prepared, readable by nobody else: the file holds a session key.
    let dir = std::env::temp_dir().join(format!("doorward-demo-{}", random::token()));
    let file = dir.join("doorward.toml");
    let text = configuration(gateway, provider.issuer(), sample_port);
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .and_then(|()| std::fs::write(&file, text))
        .map_err(|e| format!("{}: {e}", file.display()))?;
    let sources = Sources { file: Some(file.clone()), env: Vec::new(), flags: Flags::default() };
    let (reload, settings) = Reload::begin(sources).map_err(|problems| problems.to_string())?;
    log::init(&settings.telemetry);

    let _ = std::io::stdout()
        .write_all(welcome(gateway, provider.issuer(), sample_port, &file.display().to_string()).as_bytes());
    let result = app::run(settings, reload, Inherited::default()).await.map_err(|failure| failure.to_string());
    let _ = std::fs::remove_dir_all(&dir);
    result
}

fn configuration(gateway: u16, issuer: &str, sample: u16) -> String {
    format!(
        r#"# Written by `doorward demo`; gone when it ends.
[server]
listen = ["127.0.0.1:{gateway}"]
public_url = "http://127.0.0.1:{gateway}"

[admin]
listen = ""

[provider.demo]
issuer = "{issuer}"
client_id = "demo"
client_secret = "demo-secret"
scopes = ["openid", "profile", "email"]

[session]
keys = ["{key}"]

[telemetry]
log = "warn,audit=info"
access_log = false

[[route]]
path = "/"
upstream = "http://127.0.0.1:{sample}"
access = "authenticated"
identity = ["x-forwarded"]
"#,
        key = random::token()
    )
}

fn welcome(gateway: u16, issuer: &str, sample: u16, file: &str) -> String {
    format!(
        "
Doorward demo: an OpenID provider, an application and the gateway between them, on this machine only.

  Open      http://127.0.0.1:{gateway}/

  Sign in   alice, password alice   (groups admins, staff)
            bob,   password bob     (groups staff)

  Then look at the headers that the application received, sign out, and open it again.

  provider       {issuer}
  application    http://127.0.0.1:{sample}/   (what Doorward protects; it has no sign-in of its own)
  configuration  {file}

  Ctrl-C ends it. Not for production: the provider's users and keys are made up.

"
    )
}
