//! The application behind: a hundred bytes, 64 MiB at `/large`, a WebSocket for whoever wants one. It reads bodies to
//! their end.

use std::net::SocketAddr;

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const LARGE: usize = 64 << 20;

/// Runs until the process is ended.
pub(crate) fn run(listen: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            drop(stream.set_nodelay(true));
            tokio::spawn(answer(stream));
        }
    });
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let plain = format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}", "x".repeat(100));
    let mut buffer = Vec::with_capacity(8 * 1024);
    while stream.read_buf(&mut buffer).await? > 0 {
        while let Some(end) = memmem::find(&buffer, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            buffer.drain(..end + 4);
            if let Some(length) = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()) {
                let mut left = length.trim().parse::<usize>().unwrap_or(0).saturating_sub(buffer.len());
                buffer.clear();
                while left > 0 {
                    buffer.clear();
                    match stream.read_buf(&mut buffer).await? {
                        0 => return Ok(()),
                        read => left = left.saturating_sub(read),
                    }
                }
                buffer.clear();
            }
            if head.contains("upgrade: websocket") {
                stream
                    .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
                    .await?;
            } else if head.starts_with("get /large") {
                stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n").as_bytes()).await?;
                let piece = vec![b'x'; 64 * 1024];
                for _ in 0..LARGE / piece.len() {
                    stream.write_all(&piece).await?;
                }
            } else {
                stream.write_all(plain.as_bytes()).await?;
            }
        }
    }
    Ok(())
}
