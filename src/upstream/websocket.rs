//! Where the frames of a WebSocket begin and end (RFC 6455 §5.2), so that a close frame can be written between two of
//! them. It looks at headers only: it holds no payload, copies none, and never says what a message means.

const CLOSE: u8 = 0x8;
const LONGEST_CONTROL: u64 = 125;

/// One direction of a WebSocket, followed byte by byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    sender: Sender,
    at: At,
}

/// Who sends in this direction: a client masks every frame, a server none (§5.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sender {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// In a header; between two frames while it has no byte yet.
    Header(Header),
    /// In what follows it. The masking key counts as payload: it is as little our business.
    Payload { left: u64, close: bool },
    /// Behind a whole close frame, after which nothing may come (§5.5.1).
    Closed,
    /// These are no frames, or none that we know the length of. There is no way back.
    Unknown,
}

/// The first two bytes, and a length of up to eight.
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    first: u8,
    second: u8,
    length: u64,
    have: u8,
}

impl Frames {
    pub(super) fn new(sender: Sender) -> Self {
        Self { sender, at: At::Header(Header::default()) }
    }

    /// A stream that holds other things than frames.
    pub(super) fn unknown() -> Self {
        Self { sender: Sender::Server, at: At::Unknown }
    }

    /// Another frame may be written here.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.at, At::Header(header) if header.have == 0)
    }

    /// The sender has said its last: a close frame, whole.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.at, At::Closed)
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.at, At::Unknown)
    }

    /// These bytes passed.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        // PERF: a payload is one subtraction, however long it is.
        while !rest.is_empty() {
            let used = self.step(rest);
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// How many of these next bytes belong to the frame that is under way.
    pub(super) fn rest_of_frame(&self, bytes: &[u8]) -> usize {
        if self.is_between() {
            return 0;
        }
        let mut ahead = *self;
        ahead.step(bytes)
    }

    /// Follows `bytes` to the end of a frame, or to their own; at least one of them.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            match self.at {
                At::Header(header) => {
                    self.at = rest.first().map_or(self.at, |byte| header.with(*byte, self.sender));
                    used += 1;
                }
                At::Payload { left, close } => {
                    let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    self.at = At::behind_header(left - taken as u64, close);
                    used += taken;
                }
                At::Closed | At::Unknown => {
                    self.at = At::Unknown;
                    return bytes.len();
                }
            }
            if self.is_between() || self.is_closed() {
                break;
            }
        }
        used
    }
}

impl At {
    fn behind_header(left: u64, close: bool) -> Self {
        match left {
            0 if close => Self::Closed,
            0 => Self::Header(Header::default()),
            _ => Self::Payload { left, close },
        }
    }
}

impl Header {
    fn with(mut self, byte: u8, sender: Sender) -> At {
        match self.have {
            0 => self.first = byte,
            1 => self.second = byte,
            // The longest length has eight bytes, so nothing is shifted out.
            _ => self.length = self.length << 8 | u64::from(byte),
        }
        self.have += 1;
        let (short, wanted) = match self.second & 0x7f {
            126 => (0, 4),
            127 => (0, 10),
            short => (u64::from(short), 2),
        };
        if self.have < 2 || self.have < wanted {
            return At::Header(self);
        }
        let length = if wanted == 2 { short } else { self.length };
        let opcode = self.first & 0xf;
        let (last, control) = (self.first & 0x80 != 0, opcode & 0x8 != 0);
        let masked = self.second & 0x80 != 0;
        // The reserved bits are an extension's, such as compression; none that is in use moves the ends of frames.
        let known = matches!(opcode, 0x0..=0x2 | CLOSE..=0xa);
        let shortest = match wanted {
            2 => true,
            4 => length > 125,
            // The highest bit must be 0, which also leaves room to count the masking key.
            _ => length > 0xffff && length >> 63 == 0,
        };
        let fits = !control || (last && length <= LONGEST_CONTROL);
        if !known || !shortest || !fits || masked != (sender == Sender::Client) {
            return At::Unknown;
        }
        At::behind_header(length + if masked { 4 } else { 0 }, opcode == CLOSE)
    }
}

/// A close frame (§5.5.1). `reason` is one of ours and short.
pub(super) fn close_frame(sender: Sender, code: u16, reason: &'static str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    debug_assert!(payload.len() as u64 <= LONGEST_CONTROL);
    let mut frame = vec![0x80 | CLOSE, payload.len() as u8];
    if sender == Sender::Client {
        // The key need not be a secret: it keeps a script from choosing the bytes on the wire (§10.3), and chose none here.
        let key = fastrand::u32(..).to_be_bytes();
        frame = vec![0x80 | CLOSE, 0x80 | payload.len() as u8];
        frame.extend_from_slice(&key);
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    }
    frame.extend_from_slice(&payload);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame with `length` bytes of payload, as its sender must write it.
    fn frame(sender: Sender, first: u8, length: usize) -> Vec<u8> {
        let mask = if sender == Sender::Client { 0x80 } else { 0 };
        let mut out = match length {
            0..=125 => vec![first, mask | length as u8],
            126..=0xffff => [&[first, mask | 126][..], &(length as u16).to_be_bytes()].concat(),
            _ => [&[first, mask | 127][..], &(length as u64).to_be_bytes()].concat(),
        };
        // What the payload is must not matter: here it looks like headers of close frames.
        out.extend(std::iter::repeat_n(0x88, length + if mask == 0 { 0 } else { 4 }));
        out
    }

    fn after(sender: Sender, bytes: &[u8]) -> Frames {
        let mut frames = Frames::new(sender);
        frames.pass(bytes);
        frames
    }

    proptest! {
        #[test]
        fn every_end_of_a_frame_is_found_however_the_bytes_are_cut(
            masks in any::<bool>(),
            kinds in prop::collection::vec(
                prop_oneof![
                    (prop_oneof![Just(0x81_u8), Just(0x02), Just(0x00), Just(0xc2)],
                     prop_oneof![0..200_usize, 65_000..66_000_usize]),
                    (prop_oneof![Just(0x89_u8), Just(0x8a)], 0..=125_usize),
                ],
                1..8,
            ),
            closes in any::<bool>(),
            cuts in prop::collection::vec(1..5_000_usize, 1..50),
        ) {
            let sender = if masks { Sender::Client } else { Sender::Server };
            let (mut stream, mut ends) = (Vec::new(), vec![0]);
            for (first, length) in kinds {
                stream.extend(frame(sender, first, length));
                ends.push(stream.len());
            }
            let open = stream.len();
            if closes {
                stream.extend(frame(sender, 0x88, 15));
            }
            let (mut frames, mut at) = (Frames::new(sender), 0);
            for cut in cuts.iter().cycle() {
                prop_assert_eq!(frames.is_between(), ends.contains(&at), "at {} of {:?}", at, ends);
                prop_assert_eq!((frames.is_closed(), frames.is_unknown()), (closes && at == stream.len(), false));
                if at < open {
                    let next = ends.iter().find(|end| **end >= at).unwrap() - at;
                    prop_assert_eq!(frames.rest_of_frame(&stream[at..]), next);
                }
                if at == stream.len() {
                    break;
                }
                let until = stream.len().min(at + cut);
                frames.pass(&stream[at..until]);
                at = until;
            }
        }

        #[test]
        fn any_bytes_are_followed_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..200), masks in any::<bool>()) {
            let sender = if masks { Sender::Client } else { Sender::Server };
            let frames = after(sender, &bytes);
            prop_assert!(frames.rest_of_frame(&bytes) <= bytes.len());
        }
    }

    #[test]
    fn what_is_malformed_is_unknown_for_ever() {
        use Sender::{Client, Server};
        for (sender, bytes, what) in [
            (Client, &[0x81, 0x01][..], "a client that does not mask"),
            (Server, &[0x81, 0x80], "a server that masks"),
            (Server, &[0x83, 0x00], "a kind of frame that does not exist"),
            (Server, &[0x8b, 0x00], "a kind of control frame that does not exist"),
            (Server, &[0x09, 0x00], "a ping in pieces"),
            (Server, &[0x89, 126, 0, 126], "a ping that is too long"),
            (Server, &[0x82, 126, 0, 125], "a length in more bytes than it needs"),
            (Server, &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], "the same with eight"),
            (Server, &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], "a negative length"),
            (Server, &[0x88, 0x00, 0x81], "more behind a close frame"),
        ] {
            let mut frames = after(sender, bytes);
            assert!(frames.is_unknown(), "{what}");
            frames.pass(&frame(sender, 0x81, 3));
            assert!(frames.is_unknown() && !frames.is_between() && !frames.is_closed(), "{what}");
        }
        let longest = after(Client, &[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert!(!longest.is_unknown() && !longest.is_between());
        assert_eq!(longest.rest_of_frame(&[0; 9]), 9);
        assert!(!Frames::unknown().is_between());
    }

    #[test]
    fn a_close_frame_says_why_and_a_client_masks_it() {
        let plain = close_frame(Sender::Server, 1008, "session ended");
        assert_eq!(plain, [&[0x88, 15, 0x03, 0xf0][..], b"session ended"].concat());
        assert!(after(Sender::Server, &plain).is_closed());

        let masked = close_frame(Sender::Client, 1001, "shutting down");
        assert_eq!(masked[..2], [0x88, 0x80 | 15]);
        let payload: Vec<u8> =
            masked[6..].iter().zip(masked[2..6].iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        assert_eq!(payload, [&[0x03, 0xe9][..], b"shutting down"].concat());
        assert!(after(Sender::Client, &masked).is_closed());
    }
}
