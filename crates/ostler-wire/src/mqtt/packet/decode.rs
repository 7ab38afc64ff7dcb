//! Bytes to packets.
//!
//! Reads in two steps: [`frame`] finds the packet's borders from the fixed header alone, then one function
//! per packet reads the body through [`Reader`], the only place that checks lengths.

use super::{
    text, ConnAck, Connect, Delivery, Login, Packet, PacketId, PacketType, Publish, QoS, Refusal, SubAck,
    Subscribe, Unsubscribe, Will,
};

/// Why bytes are not a packet. All of them end the connection; [`DecodeError::ProtocolLevel`] alone is
/// answered first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Packet types 0 and 15.
    #[error("packet type {0} is reserved")]
    ReservedType(u8),
    /// The low half of the first byte is fixed for every packet but PUBLISH.
    #[error("{kind} with flag bits {flags:#06b}")]
    ReservedFlags {
        /// The packet type.
        kind: PacketType,
        /// What was found.
        flags: u8,
    },
    /// More than four bytes, or more than needed.
    #[error("the remaining length is not written in the fewest bytes, or in more than four")]
    RemainingLength,
    /// The packet announces more than the receiver is willing to hold.
    #[error("a packet of {length} bytes, at most {max} are accepted")]
    TooLarge {
        /// Announced total length in bytes.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A field reaches beyond the end of the packet.
    #[error("the packet ends inside a field")]
    Truncated,
    /// Bytes are left after the last field.
    #[error("the packet goes on after its last field")]
    TrailingBytes,
    /// Packet ids start at 1.
    #[error("packet id 0")]
    PacketIdZero,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A string contains U+0000.
    #[error("a string contains U+0000")]
    NulCharacter,
    /// Topic names and filters have at least one character.
    #[error("an empty topic")]
    EmptyTopic,
    /// `+` or `#` in a topic name.
    #[error("a wildcard in a topic name")]
    WildcardInTopic,
    /// `+` or `#` where a filter may not have them.
    #[error("a misplaced wildcard in a topic filter")]
    Filter,
    /// There is no QoS 3.
    #[error("QoS 3, or reserved bits beside a QoS")]
    QoS,
    /// Nothing sent with QoS 0 can be a repeat.
    #[error("DUP on a QoS 0 message")]
    DupAtQoS0,
    /// The lowest bit of the CONNECT flags is not 0.
    #[error("a reserved CONNECT flag is set")]
    ConnectFlags,
    /// Will QoS or will retain without a will.
    #[error("will QoS or will retain without a will")]
    WillFlags,
    /// CONNECT flags say password, but not username.
    #[error("a password without a username")]
    PasswordWithoutUsername,
    /// Neither `MQTT` nor `MQIsdp`: not MQTT at all.
    #[error("the protocol name is not MQTT")]
    ProtocolName,
    /// MQTT, but another version of it. To be answered with CONNACK 1 (device §2.2).
    #[error("MQTT protocol level {0}, only 4 is supported")]
    ProtocolLevel(u8),
    /// SUBSCRIBE, UNSUBSCRIBE or SUBACK about nothing.
    #[error("a list of filters or codes is empty")]
    EmptyList,
    /// A code in CONNACK or SUBACK that does not exist, or CONNACK flags that contradict it.
    #[error("return code {0:#04x} is not valid here")]
    ReturnCode(u8),
}

/// Reads the first packet of `buf` and returns it with its length in bytes; `None` if `buf` ends before the
/// packet. A packet longer than `max` bytes in all is refused as soon as its fixed header is there.
///
/// # Errors
/// See [`DecodeError`]. Nothing useful can follow a malformed packet: the connection must be closed.
#[inline]
pub fn decode(buf: &[u8], max: usize) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    match frame(buf, max)? {
        Some(frame) => Ok(Some((frame.packet()?, frame.length))),
        None => Ok(None),
    }
}

/// The total length in bytes of the packet that `buf` starts with, known before all of it is there: what a
/// reader should make room for. `None` as long as the fixed header is incomplete.
///
/// # Errors
/// As [`decode`], as far as the fixed header shows.
pub fn length(buf: &[u8], max: usize) -> Result<Option<usize>, DecodeError> {
    Ok(header(buf, max)?.map(|header| header.start + header.remaining))
}

/// One whole packet, not looked into yet.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub kind: PacketType,
    flags: u8,
    body: &'a [u8],
    /// Total length in bytes, the fixed header included.
    pub length: usize,
}

struct Header {
    kind: PacketType,
    flags: u8,
    /// Bytes before the body.
    start: usize,
    /// Bytes of the body.
    remaining: usize,
}

/// Finds the borders of the first packet in `buf`; `None` if it is incomplete.
#[inline]
pub(crate) fn frame(buf: &[u8], max: usize) -> Result<Option<Frame<'_>>, DecodeError> {
    let Some(Header { kind, flags, start, remaining }) = header(buf, max)? else { return Ok(None) };
    let length = start + remaining;
    Ok(buf.get(start..length).map(|body| Frame { kind, flags, body, length }))
}

#[inline]
fn header(buf: &[u8], max: usize) -> Result<Option<Header>, DecodeError> {
    let Some(&first) = buf.first() else { return Ok(None) };
    let (kind, flags) = packet_type(first)?;
    let Some((start, remaining)) = remaining_length(buf)? else { return Ok(None) };
    let length = start + remaining;
    if length > max {
        return Err(DecodeError::TooLarge { length, max });
    }
    Ok(Some(Header { kind, flags, start, remaining }))
}

/// Where the body starts and how long it is: behind the first byte, seven bits in each byte, lowest first.
#[inline]
fn remaining_length(buf: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    let mut remaining = 0;
    for (index, &byte) in buf.iter().enumerate().skip(1).take(4) {
        remaining |= usize::from(byte & 0x7f) << (7 * (index - 1));
        if byte < 0x80 {
            // A last byte of 0 adds nothing: it could have been left out.
            let minimal = byte > 0 || index == 1;
            return if minimal {
                Ok(Some((index + 1, remaining)))
            } else {
                Err(DecodeError::RemainingLength)
            };
        }
    }
    if buf.len() < 5 {
        Ok(None)
    } else {
        Err(DecodeError::RemainingLength)
    }
}

/// The type that a packet's first byte announces.
pub(crate) fn kind(first: u8) -> Result<PacketType, DecodeError> {
    packet_type(first).map(|(kind, _)| kind)
}

#[inline]
fn packet_type(first: u8) -> Result<(PacketType, u8), DecodeError> {
    let flags = first & 0x0f;
    let kind = match first >> 4 {
        3 => return Ok((PacketType::Publish, flags)),
        1 => PacketType::Connect,
        2 => PacketType::ConnAck,
        4 => PacketType::PubAck,
        5 => PacketType::PubRec,
        6 => PacketType::PubRel,
        7 => PacketType::PubComp,
        8 => PacketType::Subscribe,
        9 => PacketType::SubAck,
        10 => PacketType::Unsubscribe,
        11 => PacketType::UnsubAck,
        12 => PacketType::PingReq,
        13 => PacketType::PingResp,
        14 => PacketType::Disconnect,
        reserved => return Err(DecodeError::ReservedType(reserved)),
    };
    if flags != kind.flags() {
        return Err(DecodeError::ReservedFlags { kind, flags });
    }
    Ok((kind, flags))
}

impl<'a> Frame<'a> {
    /// Reads the body, whatever it is.
    #[inline]
    pub fn packet(&self) -> Result<Packet<'a>, DecodeError> {
        Ok(match self.kind {
            PacketType::Connect => Packet::Connect(self.connect()?),
            PacketType::ConnAck => Packet::ConnAck(self.conn_ack()?),
            PacketType::Publish => Packet::Publish(self.publish()?),
            PacketType::PubAck => Packet::PubAck(self.only_id()?),
            PacketType::PubRec => Packet::PubRec(self.only_id()?),
            PacketType::PubRel => Packet::PubRel(self.only_id()?),
            PacketType::PubComp => Packet::PubComp(self.only_id()?),
            PacketType::Subscribe => Packet::Subscribe(self.subscribe()?),
            PacketType::SubAck => Packet::SubAck(self.sub_ack()?),
            PacketType::Unsubscribe => Packet::Unsubscribe(self.unsubscribe()?),
            PacketType::UnsubAck => Packet::UnsubAck(self.only_id()?),
            PacketType::PingReq => self.empty(Packet::PingReq)?,
            PacketType::PingResp => self.empty(Packet::PingResp)?,
            PacketType::Disconnect => self.empty(Packet::Disconnect)?,
        })
    }

    /// Reads the body of a PUBLISH.
    #[inline]
    pub fn publish(&self) -> Result<Publish<'a>, DecodeError> {
        let mut body = Reader(self.body);
        let topic = text::topic(body.binary()?)?;
        let dup = self.flags & 0b1000 != 0;
        let delivery = match self.flags >> 1 & 0b11 {
            0 if dup => return Err(DecodeError::DupAtQoS0),
            0 => Delivery::AtMostOnce,
            1 => Delivery::AtLeastOnce { id: body.id()?, dup },
            2 => Delivery::ExactlyOnce { id: body.id()?, dup },
            _ => return Err(DecodeError::QoS),
        };
        Ok(Publish { topic, payload: body.0, delivery, retain: self.flags & 1 != 0 })
    }

    /// Reads the body of a packet that is only an id.
    #[inline]
    pub fn only_id(&self) -> Result<PacketId, DecodeError> {
        let mut body = Reader(self.body);
        let id = body.id()?;
        body.finish(id)
    }

    fn empty(&self, packet: Packet<'a>) -> Result<Packet<'a>, DecodeError> {
        Reader(self.body).finish(packet)
    }

    /// Reads the body of a CONNECT.
    pub fn connect(&self) -> Result<Connect<'a>, DecodeError> {
        let mut body = Reader(self.body);
        let name = body.binary()?;
        // Level 3 was called MQIsdp. What follows the level has another layout in other versions: look no
        // further.
        if name != b"MQTT" && name != b"MQIsdp" {
            return Err(DecodeError::ProtocolName);
        }
        let level = body.u8()?;
        if level != 4 || name != b"MQTT" {
            return Err(DecodeError::ProtocolLevel(level));
        }
        let flags = ConnectFlags(body.u8()?);
        flags.check()?;
        let keep_alive_secs = body.u16()?;
        let client_id = body.string()?;
        let will = match flags.will()? {
            Some((qos, retain)) => {
                let topic = text::topic(body.binary()?)?;
                Some(Will { topic, payload: body.binary()?, qos, retain })
            }
            None => None,
        };
        let login = if flags.has(ConnectFlags::USERNAME) {
            let username = body.string()?;
            let password = if flags.has(ConnectFlags::PASSWORD) { Some(body.binary()?) } else { None };
            Some(Login { username, password })
        } else {
            None
        };
        let clean_session = flags.has(ConnectFlags::CLEAN_SESSION);
        body.finish(Connect { client_id, clean_session, keep_alive_secs, will, login })
    }

    fn conn_ack(&self) -> Result<ConnAck, DecodeError> {
        let mut body = Reader(self.body);
        let (flags, code) = (body.u8()?, body.u8()?);
        let answer = match (flags, code) {
            (0 | 1, 0) => ConnAck::Accepted { session_present: flags == 1 },
            (0, 1) => ConnAck::Refused(Refusal::ProtocolLevel),
            (0, 2) => ConnAck::Refused(Refusal::ClientId),
            (0, 3) => ConnAck::Refused(Refusal::Unavailable),
            (0, 4) => ConnAck::Refused(Refusal::BadLogin),
            (0, 5) => ConnAck::Refused(Refusal::NotAuthorized),
            _ => return Err(DecodeError::ReturnCode(code)),
        };
        body.finish(answer)
    }

    fn subscribe(&self) -> Result<Subscribe<'a>, DecodeError> {
        let mut body = Reader(self.body);
        let id = body.id()?;
        let encoded = body.0;
        let mut count = 0;
        while !body.0.is_empty() {
            text::filter(body.binary()?)?;
            QoS::from_bits(body.u8()?).ok_or(DecodeError::QoS)?;
            count += 1;
        }
        if count == 0 {
            return Err(DecodeError::EmptyList);
        }
        Ok(Subscribe { id, count, encoded })
    }

    fn sub_ack(&self) -> Result<SubAck<'a>, DecodeError> {
        let mut body = Reader(self.body);
        let id = body.id()?;
        let encoded = body.0;
        if encoded.is_empty() {
            return Err(DecodeError::EmptyList);
        }
        match encoded.iter().find(|&&code| code > 2 && code != 0x80) {
            Some(&code) => Err(DecodeError::ReturnCode(code)),
            None => Ok(SubAck { id, encoded }),
        }
    }

    fn unsubscribe(&self) -> Result<Unsubscribe<'a>, DecodeError> {
        let mut body = Reader(self.body);
        let id = body.id()?;
        let encoded = body.0;
        let mut count = 0;
        while !body.0.is_empty() {
            text::filter(body.binary()?)?;
            count += 1;
        }
        if count == 0 {
            return Err(DecodeError::EmptyList);
        }
        Ok(Unsubscribe { id, count, encoded })
    }
}

/// The (filter, QoS) pairs of a SUBSCRIBE body that [`Frame::subscribe`] has checked; a fault would end the
/// list.
pub(super) fn subscriptions(encoded: &[u8]) -> impl Iterator<Item = (&str, QoS)> {
    let mut body = Reader(encoded);
    std::iter::from_fn(move || {
        let filter = body.string().ok()?;
        Some((filter, QoS::from_bits(body.u8().ok()?)?))
    })
}

/// The filters of an UNSUBSCRIBE body that [`Frame::unsubscribe`] has checked; a fault would end the list.
pub(super) fn filters(encoded: &[u8]) -> impl Iterator<Item = &str> {
    let mut body = Reader(encoded);
    std::iter::from_fn(move || body.string().ok())
}

/// The seventh byte of a CONNECT body.
pub(super) struct ConnectFlags(pub u8);

impl ConnectFlags {
    pub const CLEAN_SESSION: u8 = 0b0000_0010;
    pub const WILL: u8 = 0b0000_0100;
    pub const WILL_QOS_SHIFT: u32 = 3;
    pub const WILL_RETAIN: u8 = 0b0010_0000;
    pub const PASSWORD: u8 = 0b0100_0000;
    pub const USERNAME: u8 = 0b1000_0000;

    fn has(&self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    fn check(&self) -> Result<(), DecodeError> {
        if self.has(1) {
            return Err(DecodeError::ConnectFlags);
        }
        if self.has(Self::PASSWORD) && !self.has(Self::USERNAME) {
            return Err(DecodeError::PasswordWithoutUsername);
        }
        Ok(())
    }

    fn will(&self) -> Result<Option<(QoS, bool)>, DecodeError> {
        let qos = QoS::from_bits(self.0 >> Self::WILL_QOS_SHIFT & 0b11).ok_or(DecodeError::QoS)?;
        let retain = self.has(Self::WILL_RETAIN);
        match (self.has(Self::WILL), qos, retain) {
            (true, qos, retain) => Ok(Some((qos, retain))),
            (false, QoS::AtMostOnce, false) => Ok(None),
            (false, _, _) => Err(DecodeError::WillFlags),
        }
    }
}

/// What is left of a packet's body.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    fn u8(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.0.split_first().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(first)
    }

    #[inline]
    fn u16(&mut self) -> Result<u16, DecodeError> {
        let (first, rest) = self.0.split_first_chunk::<2>().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*first))
    }

    #[inline]
    fn id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::PacketIdZero)
    }

    /// Bytes with their length in front.
    #[inline]
    fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::from(self.u16()?);
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn string(&mut self) -> Result<&'a str, DecodeError> {
        text::string(self.binary()?)
    }

    /// `value`, provided that nothing is left.
    #[inline]
    fn finish<T>(self, value: T) -> Result<T, DecodeError> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(DecodeError::TrailingBytes)
        }
    }
}
