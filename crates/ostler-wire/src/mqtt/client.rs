//! The client's end of one MQTT connection: bytes in, events out, without sockets or clocks.
//!
//! [`Connecting`] sends the CONNECT and waits for its answer; [`Session`] is the connection after that. Both
//! are fed like their counterparts in [`super::server`]: `next` until it returns `None`, then write out what
//! was appended to `out`.
//!
//! Must not know topics or devices, nor reconnect: a lost connection is a new [`Connecting`].
//!
//! Invariant: PUBACKs leave in the order in which the PUBLISHes came.

use super::acks::{Acks, Ticket};
use super::in_flight::{InFlight, SendError};
use super::packet::{
    self, encode, ConnAck, Connect, DecodeError, Delivery, EncodeError, Packet, PacketId, PacketType, QoS,
    Refusal, SubAck, TopicName,
};
use super::{Attempt, Received};

/// What one connection may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest packet from the server in bytes. Default 320 KiB.
    pub max_packet: u32,
    /// How many QoS 1 messages of the server may wait for their PUBACK before reading pauses. Default 256.
    pub max_unacked: u16,
    /// How many QoS 1 messages, and how many SUBSCRIBEs and UNSUBSCRIBEs, may be under way to the server.
    /// Default 256.
    pub max_in_flight: u16,
    /// How long the server may take to answer the CONNECT, in ms. Default 30,000.
    pub connect_timeout_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_packet: 320 * 1024, max_unacked: 256, max_in_flight: 256, connect_timeout_ms: 30_000 }
    }
}

/// What the server did wrong. The connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The bytes are not MQTT 3.1.1.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A packet that only clients send, or that cannot come in this state.
    #[error("the server must not send {0} now")]
    Unexpected(PacketType),
    /// A message with QoS 2, which was not asked for.
    #[error("QoS 2 is not supported")]
    ExactlyOnce,
    /// No CONNACK came in time.
    #[error("no CONNACK within {0} ms")]
    ConnectTimeout(u32),
    /// No PINGRESP came before the next PINGREQ was due.
    #[error("no PINGRESP within {0} ms")]
    PingTimeout(u32),
}

/// A connection whose CONNECT is not answered yet.
#[derive(Debug)]
pub struct Connecting {
    limits: Limits,
    keep_alive_secs: u16,
    deadline: u64,
}

/// The server's answer to CONNECT.
#[derive(Debug)]
pub enum Answer {
    /// The client is in.
    Accepted {
        /// The connection from here on.
        session: Session,
        /// The server has restored subscriptions from before.
        session_present: bool,
    },
    /// The client is not let in; the server closes the connection.
    Refused(Refusal),
}

impl Connecting {
    /// Appends the CONNECT to `out`.
    ///
    /// # Errors
    /// If a field is longer than MQTT can express.
    pub fn start(
        connect: &Connect<'_>,
        limits: Limits,
        now: u64,
        out: &mut Vec<u8>,
    ) -> Result<Self, EncodeError> {
        connect.encode(out)?;
        let deadline = now + u64::from(limits.connect_timeout_ms);
        Ok(Connecting { limits, keep_alive_secs: connect.keep_alive_secs, deadline })
    }

    /// Reads the answer from the front of `input`; `None` if it is not all there. To be called until it
    /// returns an answer or an error, and then no more.
    ///
    /// # Errors
    /// Anything but a CONNACK.
    pub fn next(&self, input: &mut &[u8], now: u64) -> Result<Option<Answer>, ProtocolError> {
        let Some((packet, length)) = packet::decode(input, self.limits.max_packet as usize)? else {
            return Ok(None);
        };
        *input = &input[length..];
        match packet {
            Packet::ConnAck(ConnAck::Accepted { session_present }) => {
                let session = Session::new(self.limits, self.keep_alive_secs, now);
                Ok(Some(Answer::Accepted { session, session_present }))
            }
            Packet::ConnAck(ConnAck::Refused(refusal)) => Ok(Some(Answer::Refused(refusal))),
            other => Err(ProtocolError::Unexpected(other.kind())),
        }
    }

    /// When the server must have answered.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// To be called when [`Connecting::deadline`] may have passed.
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

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message. If it has a ticket, [`Session::ack`] is due once it is taken care of.
    Message(Received<'a>),
    /// The server has accepted the message that [`Session::publish_acked`] sent with this id.
    Acked(PacketId),
    /// The answer to [`Session::subscribe`].
    Subscribed(SubAck<'a>),
    /// The answer to [`Session::unsubscribe`].
    Unsubscribed(PacketId),
}

/// A connection with a server that has let the client in.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    acks: Acks,
    messages: InFlight,
    /// SUBSCRIBEs and UNSUBSCRIBEs. Their ids differ from those of the messages, as the standard demands.
    requests: InFlight,
    pings: Option<Pings>,
}

/// When to show the server that the client lives.
#[derive(Debug)]
struct Pings {
    /// Half the keep-alive promise.
    interval_ms: u32,
    due: u64,
    unanswered: bool,
}

impl Session {
    fn new(limits: Limits, keep_alive_secs: u16, now: u64) -> Self {
        let pings = (keep_alive_secs > 0).then(|| {
            let interval_ms = u32::from(keep_alive_secs) * 500;
            Pings { interval_ms, due: now + u64::from(interval_ms), unanswered: false }
        });
        Session {
            limits,
            acks: Acks::default(),
            messages: InFlight::new(limits.max_in_flight),
            requests: InFlight::new(limits.max_in_flight),
            pings,
        }
    }

    /// Reads the next event from the front of `input`, which loses what was read. `None` if there is no whole
    /// packet left, or if [`Session::is_paused`].
    ///
    /// # Errors
    /// Whatever a server must not send. The session is then of no more use.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, ProtocolError> {
        while !self.is_paused() {
            let Some((packet, length)) = packet::decode(input, self.limits.max_packet as usize)? else {
                break;
            };
            *input = &input[length..];
            match packet {
                Packet::Publish(message) => {
                    let received =
                        Received::new(message, &mut self.acks).ok_or(ProtocolError::ExactlyOnce)?;
                    return Ok(Some(Event::Message(received)));
                }
                // An acknowledgement of nothing is dropped.
                Packet::PubAck(id) if self.messages.acknowledge(id) => return Ok(Some(Event::Acked(id))),
                Packet::SubAck(answer) if self.requests.acknowledge(answer.id) => {
                    return Ok(Some(Event::Subscribed(answer)))
                }
                Packet::UnsubAck(id) if self.requests.acknowledge(id) => {
                    return Ok(Some(Event::Unsubscribed(id)))
                }
                Packet::PubAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) => {}
                Packet::PingResp => {
                    if let Some(pings) = &mut self.pings {
                        pings.unanswered = false;
                    }
                }
                other => return Err(ProtocolError::Unexpected(other.kind())),
            }
        }
        Ok(None)
    }

    /// The message of this ticket is taken care of: appends its PUBACK, and those of later ones that waited
    /// for it; or nothing, if it has to wait for earlier ones itself. If the session was paused, go on with
    /// [`Session::next`].
    pub fn ack(&mut self, ticket: Ticket, out: &mut Vec<u8>) {
        self.acks.settle(ticket, |id| encode::only_id(PacketType::PubAck, id, out));
    }

    /// Whether as many messages wait for their acknowledgement as [`Limits::max_unacked`] allows.
    pub fn is_paused(&self) -> bool {
        self.acks.outstanding() >= u32::from(self.limits.max_unacked.max(1))
    }

    /// Sends a message that may be lost.
    ///
    /// # Errors
    /// If it is longer than MQTT can express; nothing is appended then.
    pub fn publish<T: TopicName + ?Sized>(
        &mut self,
        topic: &T,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        packet::publish(topic, payload, Delivery::AtMostOnce, false, out)
    }

    /// Sends a message whose receipt the server will acknowledge: [`Event::Acked`] will name the id returned
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
        self.messages.send(self.requests.ids(), |id| {
            packet::publish(topic, payload, Delivery::AtLeastOnce { id, dup }, false, out)
        })
    }

    /// Goes on with messages that were sent on an earlier connection and not acknowledged there, oldest first:
    /// their ids are kept for [`Session::publish_again`], as the standard demands of repeats. To be called
    /// before anything is sent.
    pub fn resume(&mut self, ids: impl IntoIterator<Item = PacketId>) {
        self.messages.resume(ids);
    }

    /// Sends a message with its old id once more, marked as a repeat.
    ///
    /// # Errors
    /// If it is longer than MQTT can express; nothing is appended then.
    pub fn publish_again<T: TopicName + ?Sized>(
        &mut self,
        id: PacketId,
        topic: &T,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.messages.resume([id]);
        packet::publish(topic, payload, Delivery::AtLeastOnce { id, dup: true }, false, out)
    }

    /// How many messages sent with [`Session::publish_acked`] wait for their acknowledgement.
    pub fn in_flight(&self) -> usize {
        self.messages.ids().len()
    }

    /// Asks for messages; [`Event::Subscribed`] will bring one outcome for each filter. There must be at
    /// least one.
    ///
    /// # Errors
    /// If too many requests are under way, or if a filter is longer than MQTT can express.
    pub fn subscribe(&mut self, filters: &[(&str, QoS)], out: &mut Vec<u8>) -> Result<PacketId, SendError> {
        self.requests.send(self.messages.ids(), |id| encode::subscribe(id, filters, out))
    }

    /// Asks for no more messages. There must be at least one filter.
    ///
    /// # Errors
    /// If too many requests are under way, or if a filter is longer than MQTT can express.
    pub fn unsubscribe(&mut self, filters: &[&str], out: &mut Vec<u8>) -> Result<PacketId, SendError> {
        self.requests.send(self.messages.ids(), |id| encode::unsubscribe(id, filters, out))
    }

    /// Takes leave; the server forgets the will.
    pub fn disconnect(self, out: &mut Vec<u8>) {
        encode::empty(PacketType::Disconnect, out);
    }

    /// When to call [`Session::handle_timeout`]; `None` if the client has promised no keep-alive.
    pub fn deadline(&self) -> Option<u64> {
        self.pings.as_ref().map(|pings| pings.due)
    }

    /// Appends a PINGREQ if one is due, whatever else was sent: its answer also shows that the server lives.
    ///
    /// # Errors
    /// If the last one was not answered.
    pub fn handle_timeout(&mut self, now: u64, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let Some(pings) = self.pings.as_mut().filter(|pings| pings.due <= now) else { return Ok(()) };
        if pings.unanswered {
            return Err(ProtocolError::PingTimeout(pings.interval_ms));
        }
        pings.unanswered = true;
        pings.due = now + u64::from(pings.interval_ms);
        encode::empty(PacketType::PingReq, out);
        Ok(())
    }
}
