//! Bytes into pieces of payload and control frames. Every call takes all that it is given; a header may arrive byte by byte.

use super::close::WebSocketError;
use super::frame::{Frame, Step};

/// Payload of a control frame, bytes (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// Who sends the frames that are decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// A client: every frame is masked.
    Client,
    /// A server: no frame is masked.
    Server,
}

/// What is allowed on the connections of a listener; shared, so that it costs a connection nothing.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Who sends.
    pub peer: Peer,
    /// Payload of one message, all its fragments together, bytes; each continuation counts 16 more. What announces more is
    /// refused with 1009 before any of it is awaited.
    pub message_bytes_max: u32,
    /// Ping and Pong frames from one [`Decoder::begin_interval`] to the next; one more is refused with 1008.
    pub controls_max: u8,
}

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'i> {
    /// The next bytes of the stream, unmasked in place.
    Payload(&'i mut [u8]),
    /// A Ping; answer it with a Pong of the same payload.
    Ping(ControlBody),
    /// A Pong; nothing needs to be done.
    Pong(ControlBody),
    /// A Close; answer it with a Close and end the connection. What follows it is dropped.
    Close {
        /// The peer's code, if it gave one.
        code: Option<u16>,
    },
}

/// The payload of a control frame.
#[derive(Clone, Copy)]
pub struct ControlBody {
    bytes: [u8; CONTROL_BYTES_MAX],
    length: u8,
}

impl ControlBody {
    const EMPTY: ControlBody = ControlBody { bytes: [0; CONTROL_BYTES_MAX], length: 0 };

    /// The payload, at most [`CONTROL_BYTES_MAX`].
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let at = usize::from(self.length);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len() as u8;
    }
}

impl PartialEq for ControlBody {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for ControlBody {}

impl std::fmt::Debug for ControlBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bytes().fmt(f)
    }
}

/// Where a connection stands in its peer's frames: 16 bytes. Only a control frame whose payload arrives in parts holds
/// more, and only until it is whole.
#[derive(Debug)]
pub struct Decoder(State);

#[derive(Debug)]
enum State {
    Frame(Frame),
    Control(Box<Held>),
}

/// A control frame of which a part has arrived.
#[derive(Debug)]
struct Held {
    frame: Frame,
    body: ControlBody,
}

const _: () = assert!(size_of::<Decoder>() == 16);

impl Default for Decoder {
    fn default() -> Self {
        Decoder(State::Frame(Frame::NEW))
    }
}

impl Decoder {
    /// The next event, taking its bytes off the front of `input`; `None` when `input` is used up.
    ///
    /// # Errors
    /// The peer broke the framing: as soon as the byte that does it is there, lengths before their payload. The connection
    /// cannot go on after it.
    pub fn next<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        rules: &Rules,
    ) -> Result<Option<Event<'i>>, WebSocketError> {
        loop {
            let frame = match &mut self.0 {
                State::Control(held) => {
                    if !held.fill(input) {
                        return Ok(None);
                    }
                    let Held { mut frame, body } = **held;
                    let event = frame.end_control(body);
                    self.0 = State::Frame(frame);
                    return event.map(Some);
                }
                State::Frame(frame) => frame,
            };
            match frame.step {
                Step::Closed => {
                    *input = &mut [];
                    return Ok(None);
                }
                Step::Payload if frame.is_control() => {
                    if frame.left > 0 && input.is_empty() {
                        return Ok(None);
                    }
                    // The boxed place is needed only if the payload is not here in one piece.
                    if input.len() < frame.left as usize {
                        self.0 = State::Control(Box::new(Held { frame: *frame, body: ControlBody::EMPTY }));
                        continue;
                    }
                    let mut body = ControlBody::EMPTY;
                    body.push(frame.take(input));
                    return frame.end_control(body).map(Some);
                }
                Step::Payload => {
                    if frame.left == 0 {
                        frame.end_data();
                        continue;
                    }
                    let piece = frame.take(input);
                    if frame.left == 0 {
                        frame.end_data();
                    }
                    return Ok((!piece.is_empty()).then_some(Event::Payload(piece)));
                }
                _ => {
                    if frame.take_short_head(input, rules) {
                        continue;
                    }
                    let Some(byte) = input.split_off_first_mut() else { return Ok(None) };
                    frame.read_head(*byte, rules)?;
                }
            }
        }
    }

    /// Begins the next interval of [`Rules::controls_max`].
    pub fn begin_interval(&mut self) {
        match &mut self.0 {
            State::Frame(frame) => frame.controls = 0,
            State::Control(held) => held.frame.controls = 0,
        }
    }

    /// No frame and no message of several frames is under way, so no deadline runs.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        match &self.0 {
            State::Frame(frame) => matches!(frame.step, Step::First | Step::Closed) && !frame.in_message(),
            State::Control(_) => false,
        }
    }

    /// The peer has sent its Close.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(&self.0, State::Frame(Frame { step: Step::Closed, .. }))
    }
}

impl Held {
    /// Takes what is there; whether the payload is whole now.
    fn fill(&mut self, input: &mut &mut [u8]) -> bool {
        self.body.push(self.frame.take(input));
        self.frame.left == 0
    }
}
