//! `doorward check --live`: what a container runtime asks with, where there is neither shell nor curl.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{FAILED, control, fail, sources};
use crate::config::{Flags, load_admin};

const LIMIT: Duration = Duration::from_secs(5);
const ALIVE: &[u8] = b"HTTP/1.1 200 ";

/// Every failure is 1, a wrong configuration too: Docker keeps 2 of a health check for itself.
pub(super) fn live(config: Option<PathBuf>) -> ExitCode {
    let listen = match sources(config, Flags::default()).and_then(|sources| load_admin(&sources)) {
        Ok(Some(admin)) => admin.listen,
        Ok(None) => return fail(FAILED, "there is no admin listener to ask; set [admin] listen = \"127.0.0.1:9180\""),
        Err(problems) => return fail(FAILED, &format!("the admin listener's address cannot be read\n\n{problems}")),
    };
    control(async {
        let asked = tokio::time::timeout(LIMIT, ask(&addresses(listen))).await;
        match asked.unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut, "no answer within 5 seconds"))) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(FAILED, &format!("http://{listen}/livez does not say that Doorward lives: {error}")),
        }
    })
}

/// Where to reach what listens there. A wildcard of IPv6 takes IPv4 too, and loopback may have only that.
fn addresses(listen: SocketAddr) -> Vec<SocketAddr> {
    let at = |ip: IpAddr| SocketAddr::new(ip, listen.port());
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![at(Ipv4Addr::LOCALHOST.into())],
        IpAddr::V6(ip) if ip.is_unspecified() => vec![at(Ipv6Addr::LOCALHOST.into()), at(Ipv4Addr::LOCALHOST.into())],
        _ => vec![listen],
    }
}

async fn ask(addresses: &[SocketAddr]) -> Result<()> {
    let mut stream = TcpStream::connect(addresses).await?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut status = [0; ALIVE.len()];
    stream.read_exact(&mut status).await?;
    if status == ALIVE { Ok(()) } else { Err(Error::other("the answer is not 200")) }
}
