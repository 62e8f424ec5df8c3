//! Listening sockets, one a worker: TCP with `SO_REUSEPORT`, so that the kernel spreads connections over the workers; a
//! unix socket, or one that was inherited, is one socket that all workers accept from. Never closes what it has inherited.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::keepalive::keep_alive;
use crate::config::settings::Listen;

/// How many connections the kernel keeps for us to accept.
pub const BACKLOG: i32 = 1024;
/// `SD_LISTEN_FDS_START` of sd_listen_fds(3).
const FIRST_INHERITED: RawFd = 3;

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

/// The sockets that whoever started the process has opened for it (systemd socket activation). They are kept for as long
/// as the process runs: a reload may name one again.
#[derive(Default)]
pub struct Inherited(Vec<io::Result<Bound>>);

impl Inherited {
    /// Takes them over. To be called before there is a second thread: it takes `LISTEN_FDS` and `LISTEN_PID`, which are
    /// for this process alone, out of the environment.
    pub fn take() -> Self {
        let mut passed = ListenFd::from_env();
        Self((0..passed.len()).map(|index| take_one(&mut passed, index)).collect())
    }

    /// None: nobody has opened one of this number.
    fn socket(&self, number: RawFd) -> io::Result<&Bound> {
        let index = usize::try_from(number - FIRST_INHERITED).unwrap_or(usize::MAX);
        match self.0.get(index) {
            Some(Ok(socket)) => Ok(socket),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error.to_string())),
            None => {
                let why = "no socket of this number was passed on: start Doorward by a systemd socket unit, or listen elsewhere";
                Err(io::Error::new(io::ErrorKind::NotFound, why))
            }
        }
    }
}

/// Binds an address once a worker, before anybody accepts. `held`: the addresses that this process has bound already; a
/// new one that overlaps them (a port on all addresses, then on one) is no other instance's.
pub fn bind(address: &Listen, workers: usize, inherited: &Inherited, held: &[Listen]) -> io::Result<Vec<Bound>> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{address}: {e}"));
    let bound = match address {
        Listen::Tcp(address) => bind_tcp(*address, workers, held),
        Listen::Fd(number) => inherited.socket(*number).and_then(|socket| socket.shared(workers)),
        Listen::Unix(path) => remove_stale(path).and_then(|()| {
            let listener = std::os::unix::net::UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            Bound::Unix(listener).shared(workers)
        }),
    };
    bound.map_err(named)
}

impl Bound {
    /// One socket that all workers accept from.
    fn shared(&self, workers: usize) -> io::Result<Vec<Self>> {
        let copy = || {
            Ok(match self {
                Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
                Self::Unix(socket) => Self::Unix(socket.try_clone()?),
            })
        };
        (0..workers).map(|_| copy()).collect()
    }

    /// Makes it part of the current runtime.
    pub fn listen(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(socket) => Listener::Tcp(TcpListener::from_std(socket)?),
            Self::Unix(socket) => Listener::Unix(UnixListener::from_std(socket)?),
        })
    }

    /// One connection that has been waiting; `WouldBlock` when there is none.
    pub fn accept_waiting(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                stream.set_nonblocking(true)?;
                accepted(TcpStream::from_std(stream)?, peer)
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Accepted::Unix(UnixStream::from_std(stream)?))
            }
        }
    }
}

impl Listener {
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                accepted(stream, peer)
            }
            Self::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }

    /// Part of no runtime any more: to take what is in its queue, without waiting for more.
    pub fn leave(self) -> io::Result<Bound> {
        Ok(match self {
            Self::Tcp(listener) => Bound::Tcp(listener.into_std()?),
            Self::Unix(listener) => Bound::Unix(listener.into_std()?),
        })
    }
}

/// A peer on a unix socket is on this machine.
pub const UNIX_PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn accepted(stream: TcpStream, peer: SocketAddr) -> io::Result<Accepted> {
    stream.set_nodelay(true)?;
    Ok(Accepted::Tcp(stream, peer.ip().to_canonical()))
}

fn take_one(passed: &mut ListenFd, index: usize) -> io::Result<Bound> {
    let is_none = || io::Error::new(io::ErrorKind::InvalidInput, "was passed on and is no socket that listens");
    let socket = match passed.take_tcp_listener(index) {
        Ok(Some(socket)) => Bound::Tcp(socket),
        // Then it is of the other kind.
        _ => Bound::Unix(passed.take_unix_listener(index).ok().flatten().ok_or_else(is_none)?),
    };
    let listens = match &socket {
        Bound::Tcp(socket) => {
            socket.set_nonblocking(true)?;
            keep_alive(&SockRef::from(socket))?;
            SockRef::from(socket).is_listener()?
        }
        Bound::Unix(socket) => {
            socket.set_nonblocking(true)?;
            SockRef::from(socket).is_listener()?
        }
    };
    listens.then_some(socket).ok_or_else(is_none)
}

fn bind_tcp(address: SocketAddr, workers: usize, held: &[Listen]) -> io::Result<Vec<Bound>> {
    let overlaps = |ours: &SocketAddr| ours.ip().is_unspecified() || address.ip().is_unspecified();
    let is_ours =
        |listen: &Listen| matches!(listen, Listen::Tcp(ours) if ours.port() == address.port() && overlaps(ours));
    let address = if held.iter().any(is_ours) {
        address
    } else {
        // `SO_REUSEPORT` would let a second instance share the port silently; without it the bind fails loudly.
        tcp(address, false)?.local_addr()?
    };
    (0..workers).map(|_| tcp(address, true).map(Bound::Tcp)).collect()
}

fn tcp(addr: SocketAddr, share: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    // PERF: what it accepts has this from it.
    keep_alive(&SockRef::from(&socket))?;
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

    fn bind_alone(address: &Listen, workers: usize) -> io::Result<Vec<Bound>> {
        bind(address, workers, &Inherited::default(), &[])
    }

    #[test]
    fn a_second_instance_on_the_same_port_fails_loudly() {
        let any = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let sockets = bind_alone(&any, 2).unwrap();
        let Bound::Tcp(first) = &sockets[0] else { panic!("a TCP socket was asked for") };
        let Bound::Tcp(second) = &sockets[1] else { panic!("a TCP socket was asked for") };
        assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
        let again = Listen::Tcp(first.local_addr().unwrap());
        assert!(bind_alone(&again, 1).is_err());
    }

    #[test]
    fn an_address_that_overlaps_one_of_ours_is_no_other_instance() {
        let all = Listen::Tcp(SocketAddr::from(([0, 0, 0, 0], 0)));
        let sockets = bind_alone(&all, 1).unwrap();
        let Bound::Tcp(first) = &sockets[0] else { panic!("a TCP socket was asked for") };
        let port = first.local_addr().unwrap().port();
        let held = Listen::Tcp(SocketAddr::from(([0, 0, 0, 0], port)));
        let one = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
        assert!(bind_alone(&one, 1).is_err());
        assert!(bind(&one, 2, &Inherited::default(), &[held]).is_ok());
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(bind_alone(&Listen::Unix(path.clone()), 1).unwrap());
        drop(bind_alone(&Listen::Unix(path.clone()), 2).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(bind_alone(&Listen::Unix(path.clone()), 1).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_socket_that_nobody_has_passed_on_is_an_error_that_says_so() {
        let error = bind_alone(&Listen::Fd(3), 1).map(drop).unwrap_err().to_string();
        assert!(error.starts_with("fd:3: no socket of this number was passed on"), "{error}");
    }
}
