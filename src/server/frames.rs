//! What a client of HTTP/2 sends, frame by frame (RFC 9113 §4.1): whether a request's head is under way, and how many
//! frames came that carry no part of a request. Such frames cost us an answer or a look, and the peer next to nothing.
//! It reads headers of frames only, holds nothing of them, and never says what is wrong with one: that is hyper's.

use std::time::Instant;

const PREFACE: u32 = 24;
/// What of the allowance of each second can be saved up, in seconds.
const SAVED: u32 = 10;
/// What of more than that can be saved up: by a client that is sent faster than it answers.
const MOST: u32 = 65_536;
/// Bytes written that stand for one more frame: clients open their windows for what they receive, some every 4 KiB, for
/// the stream and for the connection.
const BYTES_A_FRAME: usize = 1024;
/// Frames that come back for a piece of an answer however small it is: gRPC measures round trips by PINGs.
const A_PIECE: u32 = 4;
/// Further frames that come with a request: its priority, the window of its stream.
const A_REQUEST: u32 = 4;
/// SECURITY: FX-05. A request that is not wanted any more takes back what it brought: a client that asks and resets, as
/// fast as it can and whenever it likes, would make us ask the upstreams for nothing.
const A_RESET: u32 = A_REQUEST + 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

pub(super) struct Frames {
    at: At,
    /// A head whose last frame has not come.
    head: bool,
    /// Frames that may still come.
    left: u32,
    a_second: u32,
    /// Bytes that are too few for one more.
    written: usize,
    /// When `a_second` was last added.
    filled: Instant,
}

enum At {
    Preface(u32),
    Header { have: u8, bytes: [u8; 9] },
    Payload { left: u32, of_head: bool },
}

impl At {
    const BEGIN: Self = Self::Header { have: 0, bytes: [0; 9] };
}

impl Frames {
    /// `a_second`: how many frames that carry no part of a request are fine.
    pub(super) fn new(a_second: u32, now: Instant) -> Self {
        Self {
            at: At::Preface(PREFACE),
            head: false,
            left: a_second.saturating_mul(SAVED),
            a_second,
            written: 0,
            filled: now,
        }
    }

    /// The preface, or a head, is not complete.
    pub(super) fn is_within_head(&self) -> bool {
        self.head || matches!(self.at, At::Preface(_) | At::Payload { of_head: true, .. })
    }

    /// These bytes came. False: too many frames of no use.
    pub(super) fn read(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> bool {
        let (mut rest, mut fine) = (bytes, true);
        while let Some(next) = rest.first() {
            let used = match &mut self.at {
                At::Preface(left) | At::Payload { left, .. } => {
                    let taken = rest.len().min(*left as usize);
                    *left -= taken as u32;
                    if *left == 0 {
                        self.at = At::BEGIN;
                    }
                    taken
                }
                At::Header { have, bytes } => {
                    if let Some(byte) = bytes.get_mut(usize::from(*have)) {
                        *byte = *next;
                    }
                    *have += 1;
                    if usize::from(*have) == bytes.len() {
                        let [a, b, c, kind, flags, ..] = *bytes;
                        fine &= self.frame(u32::from_be_bytes([0, a, b, c]), kind, flags, &now);
                    }
                    1
                }
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        fine
    }

    /// So many bytes were taken by the peer.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        // PERF: most writes are smaller than one more frame is worth.
        if self.written >= BYTES_A_FRAME {
            self.earn(u32::try_from(self.written / BYTES_A_FRAME).unwrap_or(u32::MAX));
            self.written %= BYTES_A_FRAME;
        }
    }

    /// So many pieces of answers are on their way to the peer.
    pub(super) fn gave(&mut self, pieces: u32) {
        self.earn(pieces.saturating_mul(A_PIECE));
    }

    fn earn(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(MOST);
    }

    fn frame(&mut self, length: u32, kind: u8, flags: u8, now: impl Fn() -> Instant) -> bool {
        let of_head = kind == HEADERS || kind == CONTINUATION;
        if of_head {
            self.head = flags & END_HEADERS == 0;
        }
        self.at = if length == 0 { At::BEGIN } else { At::Payload { left: length, of_head } };
        match kind {
            HEADERS => {
                self.earn(A_REQUEST);
                true
            }
            DATA if length > 0 || flags & END_STREAM != 0 => true,
            RST_STREAM => self.spend(A_RESET, now),
            _ => self.spend(1, now),
        }
    }

    fn spend(&mut self, frames: u32, now: impl Fn() -> Instant) -> bool {
        if self.left < frames {
            // PERF: the clock is asked only when what was saved is used up.
            let now = now();
            let passed = now.saturating_duration_since(self.filled).as_secs_f64().min(f64::from(SAVED));
            self.filled = now;
            self.earn((passed * f64::from(self.a_second)) as u32);
        }
        let allowed = self.left >= frames;
        self.left = self.left.saturating_sub(frames);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    const EMPTY_DATA: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 1];
    const LAST_DATA: &[u8] = &[0, 0, 0, 0, 1, 0, 0, 0, 1];
    const DATA_OF_ONE: &[u8] = &[0, 0, 1, 0, 0, 0, 0, 0, 1, 9];
    const HEAD_BEGINS: &[u8] = &[0, 0, 2, 1, 0, 0, 0, 0, 1, 0, 0];
    const HEAD_GOES_ON: &[u8] = &[0, 0, 0, 9, 0, 0, 0, 0, 1];
    const HEAD_ENDS: &[u8] = &[0, 0, 1, 9, 4, 0, 0, 0, 1, 0];

    fn begun(a_second: u32, now: Instant) -> Frames {
        let mut frames = Frames::new(a_second, now);
        assert!(frames.is_within_head(), "the preface is one");
        assert!(frames.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", || now));
        assert!(!frames.is_within_head());
        frames
    }

    fn most(frames: &mut Frames, bytes: &[u8], now: Instant) -> usize {
        (0..100_000).take_while(|_| frames.read(bytes, || now)).count()
    }

    #[test]
    fn fx_09_frames_of_no_use_have_a_rate() {
        let now = Instant::now();
        for useless in [PING, EMPTY_DATA, HEAD_GOES_ON] {
            let mut frames = begun(10, now);
            assert_eq!(most(&mut frames, useless, now), 100, "ten seconds' worth");
            assert_eq!(most(&mut frames, useless, now + Duration::from_secs(1)), 10);
            assert_eq!(most(&mut frames, useless, now + Duration::from_secs(3600)), 100, "no more is saved up");
        }
        for useful in [LAST_DATA, DATA_OF_ONE] {
            assert_eq!(most(&mut begun(10, now), useful, now), 100_000);
        }
    }

    #[test]
    fn fx_05_requests_that_are_reset_have_a_rate_and_requests_have_none() {
        const ASKED: &[u8] = &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0];
        const RESET: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
        let now = Instant::now();
        let rapid = [ASKED, RESET].concat();
        let mut frames = begun(10, now);
        assert_eq!(most(&mut frames, &rapid, now), 100);
        assert_eq!(most(&mut frames, &rapid, now + Duration::from_secs(1)), 10);
        assert_eq!(most(&mut begun(10, now), ASKED, now), 100_000);
        // What was answered in part may be left.
        let mut frames = begun(10, now);
        for _ in 0..1000 {
            frames.gave(1);
            assert!(frames.read(&rapid, || now));
        }
    }

    #[test]
    fn fx_09_who_is_sent_much_may_say_much() {
        let now = Instant::now();
        let mut frames = begun(1, now);
        for _ in 0..1000 {
            frames.wrote(8 * 1024);
            assert!((0..4).all(|_| frames.read(PING, || now)), "two windows for every 4 KiB");
        }
        for _ in 0..1000 {
            frames.gave(1);
            assert!((0..3).all(|_| frames.read(PING, || now)), "a small piece of a stream, answered thrice");
        }
        frames.gave(u32::MAX);
        assert_eq!(most(&mut frames, PING, now), MOST as usize);
    }

    #[test]
    fn fx_12_a_head_is_followed_to_its_end() {
        let now = Instant::now();
        let whole = [HEAD_BEGINS, HEAD_GOES_ON, HEAD_ENDS, DATA_OF_ONE, PING].concat();
        let within = [HEAD_BEGINS, HEAD_GOES_ON].concat().len() + HEAD_ENDS.len() - 1;
        for size in [1, 2, 3, 7, 9, 10, 1000] {
            let (mut frames, mut at) = (begun(10, now), 0);
            for piece in whole.chunks(size) {
                assert!(frames.read(piece, || now));
                at += piece.len();
                // A header of a frame that is not whole says nothing yet.
                assert_eq!(frames.is_within_head(), (9..=within).contains(&at), "{size}: {at}");
            }
        }
    }
}
