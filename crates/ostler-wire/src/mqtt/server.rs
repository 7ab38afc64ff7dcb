//! The server's end of one MQTT connection: bytes in, events out, without sockets or clocks.
//!
//! ```text
//!   Greeting ──CONNECT──▶ Caller ──accept──▶ Session ──DISCONNECT / error──▶ dropped
//!                            └─────refuse──▶ dropped
//! ```
//!
//! Each state is a type with only what it can do: nothing can be published before the CONNACK, and packets
//! that a client sends right behind its CONNECT stay in the caller's buffer until there is a [`Session`] to
//! read them (device §2.3).
//!
//! [`Greeting`] and [`Session`] work the same way: feed `next` with what was read until it returns `None`,
//! keep what it leaves of the input for the next time, and write out what was appended to `out`. Methods that
//! take `out` only append.
//!
//! Must not know topics, devices, or what is allowed: it judges form and order alone.
//!
//! Invariant: PUBACKs leave in the order in which the PUBLISHes came.
//! Invariant: an idle session owns no memory outside of its own struct (unless it was left a will).

use super::acks::{Acks, Ticket};
use super::in_flight::{InFlight, SendError};
use super::packet::{
    self, encode, ConnAck, Connect, DecodeError, Delivery, EncodeError, Frame, PacketId, PacketType, QoS,
    Refusal, Subscribe, SubscribeOutcome, TopicName, Unsubscribe, Will,
};
use super::{Attempt, Received};

/// The longest silence of a client that is ever tolerated, in ms, whatever keep-alive it asks for (device
/// §2.6).
pub const MAX_SILENCE_MS: u32 = 1_767_000;

/// How many filters one SUBSCRIBE or UNSUBSCRIBE may name. The known clients send at most five.
pub const MAX_FILTERS: usize = 128;

/// What one connection may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest CONNECT in bytes: what a stranger can make the server hold. Default 80 KiB, room for the
    /// largest will.
    pub max_connect: u32,
    /// Longest packet in bytes after that. Default 320 KiB: a message of 256 KiB and the longest topic
    /// (device §2.10).
    pub max_packet: u32,
    /// How many QoS 1 messages of the client may wait for their PUBACK before reading pauses. Default 256.
    pub max_unacked: u16,
    /// How many QoS 1 messages may be under way to the client. Default 64: a device's queue holds 50 (device
    /// §3.4).
    pub max_in_flight: u16,
    /// How long a client may take to send its CONNECT, in ms. Default 60,000 (device §2.3).
    pub connect_timeout_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connect: 80 * 1024,
            max_packet: 320 * 1024,
            max_unacked: 256,
            max_in_flight: 64,
            connect_timeout_ms: 60_000,
        }
    }
}

/// What the client did wrong. The connection must be closed; MQTT has no way to say why (device §2.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The bytes are not MQTT 3.1.1.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The client spoke before it introduced itself.
    #[error("the first packet is {0}, not CONNECT")]
    NotConnect(PacketType),
    /// A second CONNECT, or a packet that only servers send, or part of a QoS 2 handshake.
    #[error("a client must not send {0} now")]
    Unexpected(PacketType),
    /// A message or a will with QoS 2, which is not offered (device §2.7, §2.8).
    #[error("QoS 2 is not supported")]
    ExactlyOnce,
    /// See [`MAX_FILTERS`].
    #[error("{0} filters in one packet, at most {MAX_FILTERS} are accepted")]
    TooManyFilters(usize),
    /// No CONNECT came in time.
    #[error("no CONNECT within {0} ms")]
    ConnectTimeout(u32),
    /// The client was silent for longer than it had promised to be.
    #[error("no packet for {0} ms")]
    KeepAlive(u32),
}

/// A connection on which the client has not introduced itself yet.
#[derive(Debug)]
pub struct Greeting {
    limits: Limits,
    deadline: u64,
}

impl Greeting {
    /// A connection that was opened at `now`.
    pub fn new(limits: Limits, now: u64) -> Self {
        Greeting { limits, deadline: now + u64::from(limits.connect_timeout_ms) }
    }

    /// Reads the CONNECT from the front of `input`; `None` if it is not all there. The rest of the input
    /// belongs to the session, if there will be one. To be called until it returns a caller or an error.
    ///
    /// Nothing is remembered: who cannot keep the caller, which borrows from the input, while the credentials
    /// are judged, may keep the bytes and read the same CONNECT again afterwards.
    ///
    /// # Errors
    /// Anything but a CONNECT. A client of another MQTT version finds its CONNACK 1 in `out` (device
    /// §2.2).
    pub fn next<'a>(
        &self,
        input: &mut &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Caller<'a>>, ProtocolError> {
        // Refuse a stranger's packet before waiting for all of it.
        if let Some(kind) = input.first().and_then(|first| packet::kind(*first).ok()) {
            if kind != PacketType::Connect {
                return Err(ProtocolError::NotConnect(kind));
            }
        }
        let Some(frame) = packet::frame(input, self.limits.max_connect as usize)? else { return Ok(None) };
        let connect = frame.connect().inspect_err(|error| {
            if let DecodeError::ProtocolLevel(_) = error {
                ConnAck::Refused(Refusal::ProtocolLevel).encode(out);
            }
        })?;
        if connect.will.is_some_and(|will| will.qos == QoS::ExactlyOnce) {
            return Err(ProtocolError::ExactlyOnce);
        }
        *input = &input[frame.length..];
        Ok(Some(Caller { connect, limits: self.limits }))
    }

    /// When the client must have introduced itself.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// To be called when [`Greeting::deadline`] may have passed.
    ///
    /// # Errors
    /// If it has.
    pub fn check_deadline(&self, now: u64) -> Result<(), ProtocolError> {
        if now < self.deadline {
            Ok(())
        } else {
            Err(ProtocolError::ConnectTimeout(self.limits.connect_timeout_ms))
        }
    }
}

/// A client that has introduced itself and waits at the door.
#[derive(Debug)]
#[must_use = "the client waits for an answer"]
pub struct Caller<'a> {
    /// What the client said.
    pub connect: Connect<'a>,
    limits: Limits,
}

impl Caller<'_> {
    /// Lets the client in: appends CONNACK 0 and keeps the will and the keep-alive promise. `session_present`
    /// says whether subscriptions from before were restored (device §2.5).
    pub fn accept(self, session_present: bool, now: u64, out: &mut Vec<u8>) -> Session {
        ConnAck::Accepted { session_present }.encode(out);
        Session {
            last_heard: now,
            silence_ms: silence_ms(self.connect.keep_alive_secs),
            max_packet: self.limits.max_packet,
            // Without a single one, nothing would ever be read.
            max_unacked: self.limits.max_unacked.max(1),
            state: State::Open,
            acks: Acks::default(),
            in_flight: InFlight::new(self.limits.max_in_flight),
            will: self.connect.will.map(|will| Box::new(OwnedWill::from(will))),
        }
    }

    /// Turns the client away: appends the CONNACK, after which the connection must be closed.
    pub fn refuse(self, refusal: Refusal, out: &mut Vec<u8>) {
        ConnAck::Refused(refusal).encode(out);
    }
}

/// One and a half times what the client promised, never more than the cap; no promise means the cap (device
/// §2.6).
fn silence_ms(keep_alive_secs: u16) -> u32 {
    match u32::from(keep_alive_secs) * 1500 {
        0 => MAX_SILENCE_MS,
        silence => silence.min(MAX_SILENCE_MS),
    }
}

/// A will that outlives the CONNECT it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedWill {
    /// The topic name.
    pub topic: Box<str>,
    /// The message.
    pub payload: Box<[u8]>,
    /// At most once or at least once.
    pub qos: QoS,
    /// Whether the client asked for it to be retained.
    pub retain: bool,
}

impl From<Will<'_>> for OwnedWill {
    fn from(will: Will<'_>) -> Self {
        OwnedWill {
            topic: will.topic.into(),
            payload: will.payload.into(),
            qos: will.qos,
            retain: will.retain,
        }
    }
}

/// What the client wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message. If it has a ticket, [`Session::ack`] is due once it is safely accepted.
    Publish(Received<'a>),
    /// The client has received the message that [`Session::publish_acked`] sent with this id.
    Acked(PacketId),
    /// [`Session::sub_ack`] is due, then messages may flow.
    Subscribe(Subscribe<'a>),
    /// [`Session::unsub_ack`] is due.
    Unsubscribe(Unsubscribe<'a>),
    /// The client takes its leave. The will is gone, nothing that follows is read; close the connection.
    Disconnect,
}

/// A connection with a client that was let in.
#[derive(Debug)]
pub struct Session {
    /// When the last whole packet came.
    last_heard: u64,
    silence_ms: u32,
    max_packet: u32,
    max_unacked: u16,
    state: State,
    acks: Acks,
    in_flight: InFlight,
    will: Option<Box<OwnedWill>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Reading stopped because too many messages wait for their acknowledgement.
    Paused,
    /// DISCONNECT came.
    Left,
}

impl Session {
    /// Reads the next event from the front of `input`, which loses what was read. `None` if there is no whole
    /// packet left, or if [`Session::is_paused`]. Answers PINGREQ by itself.
    ///
    /// # Errors
    /// Whatever a client must not send. The session is then of no more use except for
    /// [`Session::take_will`].
    pub fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
        now: u64,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'a>>, ProtocolError> {
        loop {
            match self.state {
                State::Left => {
                    *input = &[];
                    return Ok(None);
                }
                State::Open | State::Paused if self.is_full() => {
                    self.state = State::Paused;
                    return Ok(None);
                }
                State::Paused => {
                    // The client's silence was ours.
                    self.state = State::Open;
                    self.last_heard = now;
                }
                State::Open => {}
            }
            let Some(frame) = packet::frame(input, self.max_packet as usize)? else { return Ok(None) };
            *input = &input[frame.length..];
            self.last_heard = now;
            if let Some(event) = self.handle(&frame, out)? {
                return Ok(Some(event));
            }
        }
    }

    #[inline]
    fn handle<'a>(
        &mut self,
        frame: &Frame<'a>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'a>>, ProtocolError> {
        match frame.kind {
            PacketType::Publish => {
                let message = frame.publish()?;
                let received = Received::new(message, &mut self.acks).ok_or(ProtocolError::ExactlyOnce)?;
                return Ok(Some(Event::Publish(received)));
            }
            PacketType::PubAck => {
                let id = frame.only_id()?;
                // An acknowledgement of nothing may belong to an earlier connection: it is dropped.
                return Ok(self.in_flight.acknowledge(id).then_some(Event::Acked(id)));
            }
            _ => {}
        }
        match frame.packet()? {
            packet::Packet::Subscribe(request) => match request.len() {
                0..=MAX_FILTERS => Ok(Some(Event::Subscribe(request))),
                count => Err(ProtocolError::TooManyFilters(count)),
            },
            packet::Packet::Unsubscribe(request) => match request.len() {
                0..=MAX_FILTERS => Ok(Some(Event::Unsubscribe(request))),
                count => Err(ProtocolError::TooManyFilters(count)),
            },
            packet::Packet::PingReq => {
                encode::empty(PacketType::PingResp, out);
                Ok(None)
            }
            packet::Packet::Disconnect => {
                self.will = None;
                self.state = State::Left;
                Ok(Some(Event::Disconnect))
            }
            other => Err(ProtocolError::Unexpected(other.kind())),
        }
    }

    /// The message of this ticket is safely accepted: appends its PUBACK, and those of later ones that waited
    /// for it; or nothing, if it has to wait for earlier ones itself. If the session was paused, go on with
    /// [`Session::next`].
    #[inline]
    pub fn ack(&mut self, ticket: Ticket, out: &mut Vec<u8>) {
        self.acks.settle(ticket, |id| encode::only_id(PacketType::PubAck, id, out));
    }

    /// Whether as many messages wait for their acknowledgement as [`Limits::max_unacked`] allows. Nothing
    /// more is read then, nor should be from the network: let the client feel it.
    pub fn is_paused(&self) -> bool {
        self.state == State::Paused && self.is_full()
    }

    fn is_full(&self) -> bool {
        self.acks.outstanding() >= u32::from(self.max_unacked)
    }

    /// Sends a message that may be lost.
    ///
    /// # Errors
    /// If it is longer than MQTT can express; nothing is appended then.
    #[inline]
    pub fn publish<T: TopicName + ?Sized>(
        &mut self,
        topic: &T,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        packet::publish(topic, payload, Delivery::AtMostOnce, false, out)
    }

    /// Sends a message whose receipt the client will acknowledge: [`Event::Acked`] will name the id returned
    /// here.
    ///
    /// # Errors
    /// If [`Limits::max_in_flight`] messages are under way, or if it is longer than MQTT can
    /// express; nothing is appended then.
    pub fn publish_acked<T: TopicName + ?Sized>(
        &mut self,
        topic: &T,
        payload: &[u8],
        attempt: Attempt,
        out: &mut Vec<u8>,
    ) -> Result<PacketId, SendError> {
        let dup = attempt == Attempt::Again;
        self.in_flight
            .send(&[], |id| packet::publish(topic, payload, Delivery::AtLeastOnce { id, dup }, false, out))
    }

    /// How many messages sent with [`Session::publish_acked`] wait for their acknowledgement.
    pub fn in_flight(&self) -> usize {
        self.in_flight.ids().len()
    }

    /// Answers a SUBSCRIBE, with one outcome for each of its filters, in order.
    ///
    /// # Errors
    /// If there are more outcomes than fit in a packet, far beyond [`MAX_FILTERS`].
    pub fn sub_ack(
        &mut self,
        id: PacketId,
        outcomes: &[SubscribeOutcome],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        encode::sub_ack(id, outcomes, out)
    }

    /// Answers an UNSUBSCRIBE.
    pub fn unsub_ack(&mut self, id: PacketId, out: &mut Vec<u8>) {
        encode::only_id(PacketType::UnsubAck, id, out);
    }

    /// When the connection must be closed unless a packet comes before; `None` while reading is paused.
    pub fn deadline(&self) -> Option<u64> {
        (!self.is_paused()).then(|| self.last_heard + u64::from(self.silence_ms))
    }

    /// To be called when [`Session::deadline`] may have passed.
    ///
    /// # Errors
    /// If it has.
    pub fn check_deadline(&self, now: u64) -> Result<(), ProtocolError> {
        match self.deadline() {
            Some(deadline) if deadline <= now => Err(ProtocolError::KeepAlive(self.silence_ms)),
            _ => Ok(()),
        }
    }

    /// The message to publish on the client's behalf now that the connection ends (device §2.7); `None` after
    /// a DISCONNECT, or if it left none.
    pub fn take_will(&mut self) -> Option<OwnedWill> {
        self.will.take().map(|will| *will)
    }
}
