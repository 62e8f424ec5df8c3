//! What a connection becomes after `101 Switching Protocols`: bytes both ways. Nothing here looks into them, but for the
//! ends of WebSocket frames: where a WebSocket is ended from here, both peers are told by a close frame of their own.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::websocket::{Frames, Sender, close_frame};

/// What is read at a time in one direction.
const BUFFER: usize = 16 * 1024;
/// How often an idle tunnel is looked at in the time that it may be idle: it ends that part of it late, never early.
const LOOKS: u32 = 4;

/// How long a frame that is under way may take to end, and the close frame behind it to be written.
const FINISH: Duration = Duration::from_secs(1);
/// How long the peers may take to answer it. With `FINISH` it stays under the two seconds after which a session's
/// tunnels are gone, whatever the peers do.
const LINGER: Duration = Duration::from_millis(900);

/// Why a tunnel ends although neither peer wants it to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Neither peer has said anything for as long as it may.
    Idle,
    Session,
    Shutdown,
}

impl End {
    /// The close code (RFC 6455 §7.4.1) and what it means here.
    fn close_frame(self, sender: Sender) -> Vec<u8> {
        match self {
            Self::Idle => close_frame(sender, 1001, "idle for too long"),
            Self::Session => close_frame(sender, 1008, "session ended"),
            Self::Shutdown => close_frame(sender, 1001, "shutting down"),
        }
    }
}

/// Copies until both sides are done, one breaks, neither has said anything for `idle` (zero: for ever), or `ended`
/// resolves. One side that is done sending leaves the other free
/// to finish. Where it was a WebSocket that ended, its peers get close frames; both connections are closed within two
/// seconds of `ended` in any case. Returns the bytes that reached the upstream and those that reached the client.
pub async fn run(
    client: OnUpgrade,
    upstream: OnUpgrade,
    websocket: bool,
    idle: Duration,
    ended: impl Future<Output = End>,
) -> (u64, u64) {
    let mut ended = pin!(ended);
    let both = tokio::select! {
        biased;
        _ = &mut ended => return (0, 0),
        both = async { tokio::try_join!(client, upstream) } => both,
    };
    let Ok((client, upstream)) = both else { return (0, 0) };
    carry(TokioIo::new(client), TokioIo::new(upstream), websocket, idle, ended).await
}

async fn carry<C, U>(
    client: C,
    upstream: U,
    websocket: bool,
    idle: Duration,
    ended: impl Future<Output = End>,
) -> (u64, u64)
where
    C: AsyncRead + AsyncWrite,
    U: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let frames = |sender| if websocket { Frames::new(sender) } else { Frames::unknown() };
    let heard = AtomicBool::new(false);
    let (mut up, mut down) = (Pipe::new(frames(Sender::Client), &heard), Pipe::new(frames(Sender::Server), &heard));
    let end = tokio::select! {
        biased;
        end = ended => Some(end),
        () = silence(&heard, idle) => Some(End::Idle),
        // A broken tunnel is the ordinary end of one: there is nobody left to tell.
        _ = async { tokio::try_join!(up.copy(&mut from_client, &mut to_upstream), down.copy(&mut from_upstream, &mut to_client)) } => None,
    };
    if let Some(end) = end {
        // SECURITY: OX-02. Of what the client sends from now on, nothing is passed on; of what the upstream sends, the
        // rest of one frame, without which no close frame could be told from its payload. A frame that the client has
        // not sent whole stays in pieces, and the upstream is told by the end of the connection alone.
        let (client, upstream) = (end.close_frame(Sender::Server), end.close_frame(Sender::Client));
        let mut nothing = tokio::io::empty();
        let (client_told, upstream_told) = tokio::join!(
            in_time(FINISH, down.close(&mut from_upstream, &mut to_client, &client)),
            in_time(FINISH, up.close(&mut nothing, &mut to_upstream, &upstream)),
        );
        // Whoever was not told is not waited for either: no frame would reach it.
        tokio::join!(
            in_time(LINGER, up.hear_out(client_told, &mut from_client, &mut to_client)),
            in_time(LINGER, down.hear_out(upstream_told, &mut from_upstream, &mut to_upstream)),
        );
    }
    (up.carried, down.carried)
}

/// Neither side has said anything for `limit`. PERF: bytes cost it one store, however many and often they are.
async fn silence(heard: &AtomicBool, limit: Duration) {
    if limit.is_zero() {
        return pending().await;
    }
    let mut silent = 0;
    while silent < LOOKS {
        sleep(limit / LOOKS).await;
        silent = if heard.swap(false, Ordering::Relaxed) { 0 } else { silent + 1 };
    }
}

/// What breaks or takes too long is over: the connections are closed next.
async fn in_time(limit: Duration, work: impl Future<Output = io::Result<bool>>) -> bool {
    matches!(timeout(limit, work).await, Ok(Ok(true)))
}

/// One direction. What was read and what was written are kept here and not in the copying future, so that a copy that is
/// cut short leaves both known.
struct Pipe<'a> {
    /// What was read last. PERF: without room while there is nothing: most tunnels wait most of the time.
    buffer: Vec<u8>,
    /// What of it was written.
    from: usize,
    /// Set whenever something was read.
    heard: &'a AtomicBool,
    /// Of what was written.
    frames: Frames,
    carried: u64,
    /// The sender ended its stream, and the receiver was told.
    done: bool,
}

impl<'a> Pipe<'a> {
    fn new(frames: Frames, heard: &'a AtomicBool) -> Self {
        Self { buffer: Vec::new(), from: 0, heard, frames, carried: 0, done: false }
    }

    async fn copy(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        while self.fill(reader).await? {
            while !self.held().is_empty() {
                self.write(usize::MAX, writer).await?;
            }
            writer.flush().await?;
        }
        self.done = true;
        writer.shutdown().await
    }

    /// Lets the frame that is under way end, then writes `frame`, a close frame. Whether the receiver knows now that it
    /// is over.
    async fn close(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        frame: &[u8],
    ) -> io::Result<bool> {
        while !self.frames.is_between() {
            if self.done || self.frames.is_unknown() {
                return Ok(false);
            }
            if self.frames.is_closed() {
                return Ok(true);
            }
            if self.held().is_empty() && !self.fill(reader).await? {
                return Ok(false);
            }
            self.write(self.frames.rest_of_frame(self.held()), writer).await?;
        }
        if self.done {
            return Ok(false);
        }
        writer.write_all(frame).await?;
        writer.flush().await?;
        Ok(true)
    }

    /// Reads what the sender of this direction still says, and drops it, until it answers the close frame that it was
    /// `told`, then ends the connection. Bytes that nobody reads would make the kernel reset it, and a reset may
    /// overtake the close frame.
    async fn hear_out(
        &mut self,
        told: bool,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<bool> {
        let mut heard = self.frames;
        while told && !heard.is_closed() {
            heard.pass(self.held());
            self.from = self.buffer.len();
            if heard.is_closed() || !self.fill(reader).await? {
                break;
            }
        }
        writer.shutdown().await?;
        Ok(true)
    }

    /// What was read and is not written yet.
    fn held(&self) -> &[u8] {
        self.buffer.get(self.from..).unwrap_or_default()
    }

    /// False at the end of the stream. Nothing may be held.
    async fn fill(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        self.buffer.clear();
        self.from = 0;
        let read = poll_fn(|cx| {
            self.buffer.reserve_exact(BUFFER);
            let read = pin!(reader.read_buf(&mut self.buffer)).poll(cx);
            if read.is_pending() {
                self.buffer = Vec::new();
            }
            read
        });
        let read = read.await?;
        self.heard.store(true, Ordering::Relaxed);
        Ok(read > 0)
    }

    /// Some of what is held, `most` at the most.
    async fn write(&mut self, most: usize, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let bytes = self.buffer.get(self.from..).unwrap_or_default();
        let bytes = bytes.get(..most).unwrap_or(bytes);
        let written = writer.write(bytes).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.frames.pass(bytes.get(..written).unwrap_or_default());
        self.from += written;
        self.carried += written as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
