//! The thread that writes the access log to stdout. Whoever reads stdout may stop reading; a proxy must not stop with
//! them. So workers hand their lines over and go on; what does not fit the queue is dropped and counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Buffers that may wait, each about 16 KiB.
const QUEUE: usize = 64;
/// At the end, a stdout that nobody reads is waited for no longer than this.
const LAST: Duration = Duration::from_secs(2);

enum Message {
    Lines(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

#[derive(Clone)]
pub struct Writer {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Writer {
    pub fn start() -> io::Result<Self> {
        Self::over(io::stdout())
    }

    fn over(out: impl io::Write + Send + 'static) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write(out, &messages, &counted))?;
        Ok(Self { queue, lost })
    }

    /// Takes whole lines; never waits.
    pub fn send(&self, lines: Vec<u8>) {
        if let Err(error) = self.queue.try_send(Message::Lines(lines)) {
            let (std::sync::mpsc::TrySendError::Full(message) | std::sync::mpsc::TrySendError::Disconnected(message)) =
                error;
            if let Message::Lines(lines) = message {
                lose(&self.lost, &lines);
            }
        }
    }

    /// Waits until everything handed over is written, within reason.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(LAST);
        }
    }

    /// Lines that were dropped.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

fn write(mut out: impl io::Write, messages: &Receiver<Message>, lost: &AtomicU64) {
    for message in messages {
        match message {
            Message::Lines(lines) => {
                if out.write_all(&lines).and_then(|()| out.flush()).is_err() {
                    lose(lost, &lines);
                }
            }
            Message::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

fn lose(lost: &AtomicU64, lines: &[u8]) {
    let n = memchr::memchr_iter(b'\n', lines).count();
    lost.fetch_add(u64::try_from(n).unwrap_or(0), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_order_and_a_flush_waits_for_them() {
        let kept = Kept::default();
        let writer = Writer::over(kept.clone()).unwrap();
        writer.send(b"one\n".to_vec());
        writer.send(b"two\n".to_vec());
        writer.flush();
        assert_eq!(*kept.0.lock().unwrap(), b"one\ntwo\n");
        assert_eq!(writer.lost(), 0);
    }

    #[test]
    fn a_reader_that_stops_costs_lines_and_nothing_else() {
        struct Stuck(Receiver<()>);
        impl io::Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                // Until the test is over.
                let _ = self.0.recv();
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (_open, closed) = sync_channel(0);
        let writer = Writer::over(Stuck(closed)).unwrap();
        for _ in 0..QUEUE * 2 {
            writer.send(b"line\nline\n".to_vec());
        }
        assert!(writer.lost() >= (QUEUE as u64 - 1) * 2, "{}", writer.lost());
    }
}
