//! The fourteen MQTT 3.1.1 packets, as values that borrow from the buffer they were read from.
//!
//! One codec serves both directions; which packet may come when is decided in [`super::server`] and
//! [`super::client`].
//!
//! Invariant: whatever [`decode()`] accepts is well formed by the letter of the standard, and encoding it again
//! gives the same bytes. In particular a remaining length must be written in as few bytes as it needs.
//! Invariant: the cost of looking at an incomplete packet does not depend on its length.

mod decode;
pub(crate) mod encode;
mod text;

use std::fmt;
use std::num::NonZeroU16;

pub use decode::{decode, length, DecodeError};
pub(crate) use decode::{frame, kind, Frame};
pub(crate) use encode::publish;
pub use encode::{EncodeError, TopicName};

/// The largest total length of a packet that MQTT can express: one type byte, four length bytes, the
/// remaining length.
pub const MAX_LENGTH: usize = 5 + MAX_REMAINING;

/// The largest remaining length that four length bytes can express.
const MAX_REMAINING: usize = 268_435_455;

/// A packet identifier; 0 is not one.
pub type PacketId = NonZeroU16;

/// One control packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A client introduces itself.
    Connect(Connect<'a>),
    /// The server's answer to CONNECT.
    ConnAck(ConnAck),
    /// A message.
    Publish(Publish<'a>),
    /// Acknowledges a QoS 1 PUBLISH.
    PubAck(PacketId),
    /// First answer to a QoS 2 PUBLISH.
    PubRec(PacketId),
    /// Second step of a QoS 2 PUBLISH.
    PubRel(PacketId),
    /// Last step of a QoS 2 PUBLISH.
    PubComp(PacketId),
    /// Asks for messages.
    Subscribe(Subscribe<'a>),
    /// Answers SUBSCRIBE, one code for each filter.
    SubAck(SubAck<'a>),
    /// Asks for no more messages.
    Unsubscribe(Unsubscribe<'a>),
    /// Answers UNSUBSCRIBE.
    UnsubAck(PacketId),
    /// Shows that the client lives.
    PingReq,
    /// Answers PINGREQ.
    PingResp,
    /// An orderly goodbye.
    Disconnect,
}

impl Packet<'_> {
    /// Which of the fourteen packets this is.
    pub fn kind(&self) -> PacketType {
        match self {
            Packet::Connect(_) => PacketType::Connect,
            Packet::ConnAck(_) => PacketType::ConnAck,
            Packet::Publish(_) => PacketType::Publish,
            Packet::PubAck(_) => PacketType::PubAck,
            Packet::PubRec(_) => PacketType::PubRec,
            Packet::PubRel(_) => PacketType::PubRel,
            Packet::PubComp(_) => PacketType::PubComp,
            Packet::Subscribe(_) => PacketType::Subscribe,
            Packet::SubAck(_) => PacketType::SubAck,
            Packet::Unsubscribe(_) => PacketType::Unsubscribe,
            Packet::UnsubAck(_) => PacketType::UnsubAck,
            Packet::PingReq => PacketType::PingReq,
            Packet::PingResp => PacketType::PingResp,
            Packet::Disconnect => PacketType::Disconnect,
        }
    }
}

/// The upper half of a packet's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // The names are the standard's own.
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
}

impl PacketType {
    /// The low half of the first byte, which is fixed for every packet but PUBLISH.
    const fn flags(self) -> u8 {
        match self {
            PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// The first byte of such a packet (PUBLISH adds its own flags).
    const fn first_byte(self) -> u8 {
        (self as u8) << 4 | self.flags()
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PacketType::Connect => "CONNECT",
            PacketType::ConnAck => "CONNACK",
            PacketType::Publish => "PUBLISH",
            PacketType::PubAck => "PUBACK",
            PacketType::PubRec => "PUBREC",
            PacketType::PubRel => "PUBREL",
            PacketType::PubComp => "PUBCOMP",
            PacketType::Subscribe => "SUBSCRIBE",
            PacketType::SubAck => "SUBACK",
            PacketType::Unsubscribe => "UNSUBSCRIBE",
            PacketType::UnsubAck => "UNSUBACK",
            PacketType::PingReq => "PINGREQ",
            PacketType::PingResp => "PINGRESP",
            PacketType::Disconnect => "DISCONNECT",
        })
    }
}

/// A delivery promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum QoS {
    /// 0: may be lost.
    AtMostOnce = 0,
    /// 1: acknowledged, may be doubled.
    AtLeastOnce = 1,
    /// 2: four-way handshake. The hub does not offer it (device §2.8).
    ExactlyOnce = 2,
}

impl QoS {
    /// The promise with this number; 3 and above are none.
    pub const fn from_bits(bits: u8) -> Option<QoS> {
        match bits {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

/// How a client introduces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// May be empty as far as the codec is concerned.
    pub client_id: &'a str,
    /// The client wants no state from before, and none kept after.
    pub clean_session: bool,
    /// Seconds within which the client promises to send something; 0 = no promise.
    pub keep_alive_secs: u16,
    /// A message to send on the client's behalf if it leaves without DISCONNECT.
    pub will: Option<Will<'a>>,
    /// Who the client says it is.
    pub login: Option<Login<'a>>,
}

/// A username, perhaps with a password. A password without a username cannot be expressed, as the standard
/// demands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Login<'a> {
    /// The username.
    pub username: &'a str,
    /// Any bytes, at most 65,535.
    pub password: Option<&'a [u8]>,
}

/// A password is a key: it must not reach a log by way of a debug print.
impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .field("password", &self.password.map(|_| "(hidden)"))
            .finish()
    }
}

/// A message left with the server at CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// A topic name, without wildcards.
    pub topic: &'a str,
    /// At most 65,535 bytes.
    pub payload: &'a [u8],
    /// The promise the will is to be published with.
    pub qos: QoS,
    /// Whether it is to be published as retained.
    pub retain: bool,
}

/// The server's answer to CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnAck {
    /// Welcome.
    Accepted {
        /// The server has state of this client from before.
        session_present: bool,
    },
    /// The connection will be closed.
    Refused(Refusal),
}

/// Why a connection is refused. Clients react to each differently: see the table in device §2.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// 1: only level 4 (MQTT 3.1.1) is spoken here.
    ProtocolLevel = 1,
    /// 2: the client id is not allowed.
    ClientId = 2,
    /// 3: try again later.
    Unavailable = 3,
    /// 4: the username or password is malformed.
    BadLogin = 4,
    /// 5: the client is not allowed in.
    NotAuthorized = 5,
}

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// A topic name: not empty, no wildcards.
    pub topic: &'a str,
    /// Any bytes, perhaps none.
    pub payload: &'a [u8],
    /// The promise, with the id that its acknowledgement will name.
    pub delivery: Delivery,
    /// The sender wants the message kept for later subscribers.
    pub retain: bool,
}

/// The promise of a PUBLISH. Only promised messages have an id or can be repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// Named by the PUBACK.
        id: PacketId,
        /// Perhaps sent before.
        dup: bool,
    },
    /// QoS 2.
    ExactlyOnce {
        /// Named by PUBREC, PUBREL and PUBCOMP.
        id: PacketId,
        /// Perhaps sent before.
        dup: bool,
    },
}

/// A request for messages. The filters stay encoded until they are iterated over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Named by the SUBACK.
    pub id: PacketId,
    count: usize,
    /// Checked by `decode`: one or more of (length, filter, QoS).
    encoded: &'a [u8],
}

impl<'a> Subscribe<'a> {
    /// The filters with the promise asked for, in order; the SUBACK must hold one code for each.
    pub fn filters(&self) -> impl Iterator<Item = (&'a str, QoS)> + 'a {
        decode::subscriptions(self.encoded)
    }

    /// How many filters there are; at least 1.
    #[allow(clippy::len_without_is_empty)] // Never empty.
    pub fn len(&self) -> usize {
        self.count
    }
}

/// A request for no more messages. The filters stay encoded until they are iterated over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Named by the UNSUBACK.
    pub id: PacketId,
    count: usize,
    /// Checked by `decode`: one or more of (length, filter).
    encoded: &'a [u8],
}

impl<'a> Unsubscribe<'a> {
    /// The filters, in order.
    pub fn filters(&self) -> impl Iterator<Item = &'a str> + 'a {
        decode::filters(self.encoded)
    }

    /// How many filters there are; at least 1.
    #[allow(clippy::len_without_is_empty)] // Never empty.
    pub fn len(&self) -> usize {
        self.count
    }
}

/// The answer to a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The id of the SUBSCRIBE.
    pub id: PacketId,
    /// Checked by `decode`: each 0, 1, 2 or 0x80.
    encoded: &'a [u8],
}

impl<'a> SubAck<'a> {
    /// The outcome for each filter, in the order of the SUBSCRIBE.
    pub fn outcomes(&self) -> impl Iterator<Item = SubscribeOutcome> + 'a {
        self.encoded
            .iter()
            .map(|&code| QoS::from_bits(code).map_or(SubscribeOutcome::Refused, SubscribeOutcome::Granted))
    }
}

/// What became of one filter of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeOutcome {
    /// Messages will come with this promise at most.
    Granted(QoS),
    /// No messages will come.
    Refused,
}

impl SubscribeOutcome {
    const fn code(self) -> u8 {
        match self {
            SubscribeOutcome::Granted(qos) => qos as u8,
            SubscribeOutcome::Refused => 0x80,
        }
    }
}
