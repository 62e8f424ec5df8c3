//! The yardstick: a reverse proxy with Doorward's runtime model (one current-thread runtime a core, SO_REUSEPORT, a
//! keep-alive pool a worker, TCP_NODELAY) and nothing else: no sign-in, no header work, no timeouts, no log.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// Runs until SIGTERM.
pub(crate) fn run(listen: SocketAddr, upstream: SocketAddr) {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let sockets: Vec<_> = (0..workers).map(|_| bind(listen)).collect();
    for socket in sockets {
        thread::spawn(move || {
            let runtime = runtime();
            LocalSet::new().block_on(&runtime, work(socket, upstream));
        });
    }
    runtime().block_on(async {
        let terminate = tokio::signal::unix::SignalKind::terminate();
        tokio::signal::unix::signal(terminate).unwrap().recv().await;
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn bind(listen: SocketAddr) -> std::net::TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&listen.into()).unwrap();
    socket.listen(1024).unwrap();
    socket.into()
}

type Pool = Rc<RefCell<Vec<SendRequest<Incoming>>>>;

async fn work(listener: std::net::TcpListener, upstream: SocketAddr) {
    let listener = TcpListener::from_std(listener).unwrap();
    let pool = Pool::default();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true).unwrap();
        let pool = Rc::clone(&pool);
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| forward(Rc::clone(&pool), upstream, request));
            let server = hyper::server::conn::http1::Builder::new();
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn forward(pool: Pool, upstream: SocketAddr, request: Request<Incoming>) -> hyper::Result<Response<Pooled>> {
    let idle = take(&pool);
    let mut sender = match idle {
        Some(sender) => sender,
        None => {
            let stream = TcpStream::connect(upstream).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::task::spawn_local(connection);
            sender
        }
    };
    let response = sender.send_request(request).await?;
    Ok(response.map(|incoming| Pooled { incoming, home: Some((sender, pool)) }))
}

fn take(pool: &Pool) -> Option<SendRequest<Incoming>> {
    let mut pool = pool.borrow_mut();
    let at = pool.iter().rposition(SendRequest::is_ready)?;
    Some(pool.remove(at))
}

/// A body that gives its connection back at its end.
struct Pooled {
    incoming: Incoming,
    home: Option<(SendRequest<Incoming>, Pool)>,
}

impl Body for Pooled {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        let done = matches!(polled, Poll::Ready(None)) || (polled.is_ready() && self.incoming.is_end_stream());
        if done && let Some((sender, pool)) = self.home.take() {
            pool.borrow_mut().push(sender);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
