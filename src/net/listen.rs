//! Listening sockets, one set a worker: TCP with `SO_REUSEPORT`, so that the kernel spreads connections over the workers;
//! a unix socket is one socket that all workers accept from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::settings::Listen;

/// How many connections the kernel keeps for us to accept.
pub const BACKLOG: i32 = 1024;

/// A bound socket, not yet part of a runtime.
pub enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// A socket that accepts, in the runtime that made it.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What was accepted.
pub enum Accepted {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// Binds every address for every worker, before any of them starts: `[worker][address]`.
pub fn bind_all(addresses: &[Listen], workers: usize) -> io::Result<Vec<Vec<Bound>>> {
    let mut sets: Vec<Vec<Bound>> = (0..workers).map(|_| Vec::with_capacity(addresses.len())).collect();
    for address in addresses {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{address}: {e}"));
        match address {
            Listen::Tcp(addr) => {
                // `SO_REUSEPORT` would let a second instance share the port silently; without it the bind fails loudly.
                let probe = tcp(*addr, false).map_err(named)?;
                let addr = probe.local_addr().map_err(named)?;
                drop(probe);
                for set in &mut sets {
                    set.push(Bound::Tcp(tcp(addr, true).map_err(named)?));
                }
            }
            Listen::Fd(_) => return Err(named(io::Error::other("inherited sockets are not taken"))),
            Listen::Unix(path) => {
                remove_stale(path).map_err(named)?;
                let listener = std::os::unix::net::UnixListener::bind(path).map_err(named)?;
                listener.set_nonblocking(true).map_err(named)?;
                for set in &mut sets {
                    set.push(Bound::Unix(listener.try_clone().map_err(named)?));
                }
            }
        }
    }
    Ok(sets)
}

impl Bound {
    /// Makes it part of the current runtime.
    pub fn listen(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(socket) => Listener::Tcp(TcpListener::from_std(socket)?),
            Self::Unix(socket) => Listener::Unix(UnixListener::from_std(socket)?),
        })
    }
}

impl Listener {
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream, peer.ip().to_canonical()))
            }
            Self::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

/// A peer on a unix socket is on this machine.
pub const UNIX_PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn tcp(addr: SocketAddr, share: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Removes what a killed process left behind; never anything but a socket.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens here")),
            Err(_) => std::fs::remove_file(path),
        },
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "exists and is no socket")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_instance_on_the_same_port_fails_loudly() {
        let any = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let sets = bind_all(&[any], 2).unwrap();
        let Bound::Tcp(first) = &sets[0][0] else { panic!("a TCP socket was asked for") };
        let Bound::Tcp(second) = &sets[1][0] else { panic!("a TCP socket was asked for") };
        assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
        let again = Listen::Tcp(first.local_addr().unwrap());
        assert!(bind_all(&[again], 1).is_err());
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(bind_all(&[Listen::Unix(path.clone())], 1).unwrap());
        drop(bind_all(&[Listen::Unix(path.clone())], 2).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(bind_all(&[Listen::Unix(path.clone())], 1).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
