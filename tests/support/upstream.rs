//! An upstream that records every request as it came and answers 200 with nothing special.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

#[derive(Clone)]
pub struct Upstream {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Sent instead of the usual answer, whole.
    answer: Arc<Mutex<Option<Vec<u8>>>>,
}

#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }
}

impl Upstream {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream =
            Self { port: listener.local_addr().unwrap().port(), seen: Arc::default(), answer: Arc::default() };
        let this = upstream.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let this = this.clone();
                std::thread::spawn(move || this.serve(stream.try_clone().ok()?, stream));
            }
        });
        upstream
    }

    /// Listens on this socket too.
    pub fn also_at(&self, socket: &Path) {
        let (listener, this) = (UnixListener::bind(socket).unwrap(), self.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let this = this.clone();
                std::thread::spawn(move || this.serve(stream.try_clone().ok()?, stream));
            }
        });
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the upstream was asked")
    }

    pub fn clear(&self) {
        self.seen.lock().unwrap().clear();
        *self.answer.lock().unwrap() = None;
    }

    /// Every later answer is these bytes.
    pub fn answers(&self, bytes: &[u8]) {
        *self.answer.lock().unwrap() = Some(bytes.to_vec());
    }

    fn serve(&self, stream: impl Read, mut out: impl Write) -> Option<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let mut words = line.split_whitespace();
            let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
            let mut headers = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                let line = line.trim_end();
                if line.is_empty() {
                    break;
                }
                let (name, value) = line.split_once(':')?;
                headers.push((name.to_owned(), value.trim().to_owned()));
            }
            let mut seen = Seen { method, target, headers, body: Vec::new() };
            if let Some(length) = seen.all("content-length").first().and_then(|l| l.parse().ok()) {
                seen.body = vec![0; length];
                reader.read_exact(&mut seen.body).ok()?;
            } else if !seen.all("transfer-encoding").is_empty() {
                loop {
                    let mut size = String::new();
                    reader.read_line(&mut size).ok()?;
                    let size = usize::from_str_radix(size.trim(), 16).ok()?;
                    let mut chunk = vec![0; size + 2];
                    reader.read_exact(&mut chunk).ok()?;
                    if size == 0 {
                        break;
                    }
                    seen.body.extend_from_slice(&chunk[..size]);
                }
            }
            let head = seen.method == "HEAD";
            self.seen.lock().unwrap().push(seen);
            let special = self.answer.lock().unwrap().clone();
            match special {
                Some(bytes) => {
                    out.write_all(&bytes).ok()?;
                    return None;
                }
                None => {
                    let body = if head { "" } else { "hello\n" };
                    out.write_all(
                        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\n{body}")
                            .as_bytes(),
                    )
                    .ok()?;
                }
            }
        }
    }
}
