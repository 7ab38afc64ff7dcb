//! Packets to bytes, appended to a buffer.
//!
//! Invariant: an encoder that fails leaves the buffer as it was.

use super::decode::ConnectFlags;
use super::{
    ConnAck, Connect, Delivery, Packet, PacketId, PacketType, Publish, QoS, SubAck, Subscribe,
    SubscribeOutcome, Unsubscribe, MAX_REMAINING,
};

/// Why a packet cannot be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Strings, client ids, passwords and will payloads have a 16-bit length.
    #[error("a field of {0} bytes, MQTT allows 65535")]
    FieldTooLong(usize),
    /// The remaining length has 28 bits.
    #[error("a packet body of {0} bytes, MQTT allows {MAX_REMAINING}")]
    PacketTooLong(usize),
}

/// Something that can spell itself as a topic name, straight into the outgoing buffer.
pub trait TopicName {
    /// Appends the topic: at least one character, UTF-8, no wildcards, no U+0000. Must only append.
    fn write(&self, out: &mut Vec<u8>);

    /// About how many bytes [`TopicName::write`] appends. A good guess saves moving the topic afterwards.
    fn size_hint(&self) -> usize {
        48
    }
}

impl TopicName for str {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn size_hint(&self) -> usize {
        self.len()
    }
}

impl Packet<'_> {
    /// Appends the packet to `out`.
    ///
    /// # Errors
    /// If a field or the whole packet is longer than MQTT can express; `out` is then unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Packet::Connect(connect) => return connect.encode(out),
            Packet::ConnAck(answer) => answer.encode(out),
            Packet::Publish(message) => return message.encode(out),
            Packet::PubAck(id) => only_id(PacketType::PubAck, *id, out),
            Packet::PubRec(id) => only_id(PacketType::PubRec, *id, out),
            Packet::PubRel(id) => only_id(PacketType::PubRel, *id, out),
            Packet::PubComp(id) => only_id(PacketType::PubComp, *id, out),
            Packet::Subscribe(Subscribe { id, encoded, .. }) => {
                return listed(PacketType::Subscribe, *id, encoded, out)
            }
            Packet::SubAck(SubAck { id, encoded }) => return listed(PacketType::SubAck, *id, encoded, out),
            Packet::Unsubscribe(Unsubscribe { id, encoded, .. }) => {
                return listed(PacketType::Unsubscribe, *id, encoded, out)
            }
            Packet::UnsubAck(id) => only_id(PacketType::UnsubAck, *id, out),
            Packet::PingReq => empty(PacketType::PingReq, out),
            Packet::PingResp => empty(PacketType::PingResp, out),
            Packet::Disconnect => empty(PacketType::Disconnect, out),
        }
        Ok(())
    }
}

impl Connect<'_> {
    /// Appends the CONNECT to `out`.
    ///
    /// # Errors
    /// If a field is longer than 65,535 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut flags = 0;
        let mut fields = [Some(self.client_id.as_bytes()), None, None, None, None];
        if self.clean_session {
            flags |= ConnectFlags::CLEAN_SESSION;
        }
        if let Some(will) = self.will {
            flags |= ConnectFlags::WILL | (will.qos as u8) << ConnectFlags::WILL_QOS_SHIFT;
            if will.retain {
                flags |= ConnectFlags::WILL_RETAIN;
            }
            fields[1] = Some(will.topic.as_bytes());
            fields[2] = Some(will.payload);
        }
        if let Some(login) = self.login {
            flags |= ConnectFlags::USERNAME;
            fields[3] = Some(login.username.as_bytes());
            if login.password.is_some() {
                flags |= ConnectFlags::PASSWORD;
            }
            fields[4] = login.password;
        }
        let fields = fields.into_iter().flatten();
        let mut remaining = 10;
        for field in fields.clone() {
            remaining += 2 + usize::from(field_length(field)?);
        }
        start(PacketType::Connect.first_byte(), remaining, out)?;
        out.extend_from_slice(b"\x00\x04MQTT\x04");
        out.push(flags);
        out.extend_from_slice(&self.keep_alive_secs.to_be_bytes());
        for field in fields {
            put_field(field, out)?;
        }
        Ok(())
    }
}

impl ConnAck {
    /// Appends the CONNACK to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (flags, code) = match *self {
            ConnAck::Accepted { session_present } => (u8::from(session_present), 0),
            ConnAck::Refused(refusal) => (0, refusal as u8),
        };
        out.extend_from_slice(&[PacketType::ConnAck.first_byte(), 2, flags, code]);
    }
}

impl Publish<'_> {
    /// Appends the PUBLISH to `out`.
    ///
    /// # Errors
    /// If the topic or the packet is longer than MQTT can express.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        publish(self.topic, self.payload, self.delivery, self.retain, out)
    }
}

/// Appends a PUBLISH whose topic spells itself.
///
/// The remaining length stands before the topic but can only be known after it, so room is left for as many
/// length bytes as the hint suggests; if that was wrong the topic is moved by the difference, before the
/// payload is copied.
#[inline]
pub(crate) fn publish<T: TopicName + ?Sized>(
    topic: &T,
    payload: &[u8],
    delivery: Delivery,
    retain: bool,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let (bits, id) = match delivery {
        Delivery::AtMostOnce => (0, None),
        Delivery::AtLeastOnce { id, dup } => (QoS::AtLeastOnce as u8 | u8::from(dup) << 2, Some(id)),
        Delivery::ExactlyOnce { id, dup } => (QoS::ExactlyOnce as u8 | u8::from(dup) << 2, Some(id)),
    };
    let first = PacketType::Publish.first_byte() | bits << 1 | u8::from(retain);
    let rest = payload.len() + if id.is_some() { 2 } else { 0 };

    let hint = topic.size_hint();
    out.reserve(7 + hint + rest);
    let begin = out.len();
    let guessed = length_bytes(2 + hint + rest);
    out.extend_from_slice(&[0; 7][..3 + guessed]);
    let topic_at = out.len();
    topic.write(out);
    let topic_length = out.len() - topic_at;

    let remaining = 2 + topic_length + rest;
    if topic_length > usize::from(u16::MAX) || remaining > MAX_REMAINING {
        out.truncate(begin);
        return Err(if topic_length > usize::from(u16::MAX) {
            EncodeError::FieldTooLong(topic_length)
        } else {
            EncodeError::PacketTooLong(remaining)
        });
    }
    let needed = length_bytes(remaining);
    if needed != guessed {
        move_topic(topic_at, begin + 3 + needed, topic_length, out);
    }
    let header = &mut out[begin..begin + 3 + needed];
    header[0] = first;
    put_length(remaining, &mut header[1..1 + needed]);
    header[1 + needed..].copy_from_slice(&(topic_length as u16).to_be_bytes());
    if let Some(id) = id {
        out.extend_from_slice(&id.get().to_be_bytes());
    }
    out.extend_from_slice(payload);
    Ok(())
}

#[cold]
fn move_topic(from: usize, to: usize, length: usize, out: &mut Vec<u8>) {
    out.resize(out.len().max(to + length), 0);
    out.copy_within(from..from + length, to);
    out.truncate(to + length);
}

/// Appends a packet that is only an id, for example a PUBACK.
#[inline]
pub(crate) fn only_id(kind: PacketType, id: PacketId, out: &mut Vec<u8>) {
    let [high, low] = id.get().to_be_bytes();
    out.extend_from_slice(&[kind.first_byte(), 2, high, low]);
}

/// Appends a packet without a body, for example a PINGRESP.
pub(crate) fn empty(kind: PacketType, out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind.first_byte(), 0]);
}

/// Appends a SUBACK.
pub(crate) fn sub_ack(
    id: PacketId,
    outcomes: &[SubscribeOutcome],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    start(PacketType::SubAck.first_byte(), 2 + outcomes.len(), out)?;
    out.extend_from_slice(&id.get().to_be_bytes());
    out.extend(outcomes.iter().map(|outcome| outcome.code()));
    Ok(())
}

/// Appends a SUBSCRIBE.
pub(crate) fn subscribe(id: PacketId, filters: &[(&str, QoS)], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut remaining = 2;
    for (filter, _) in filters {
        remaining += 3 + usize::from(field_length(filter.as_bytes())?);
    }
    start(PacketType::Subscribe.first_byte(), remaining, out)?;
    out.extend_from_slice(&id.get().to_be_bytes());
    for (filter, qos) in filters {
        put_field(filter.as_bytes(), out)?;
        out.push(*qos as u8);
    }
    Ok(())
}

/// Appends an UNSUBSCRIBE.
pub(crate) fn unsubscribe(id: PacketId, filters: &[&str], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut remaining = 2;
    for filter in filters {
        remaining += 2 + usize::from(field_length(filter.as_bytes())?);
    }
    start(PacketType::Unsubscribe.first_byte(), remaining, out)?;
    out.extend_from_slice(&id.get().to_be_bytes());
    for filter in filters {
        put_field(filter.as_bytes(), out)?;
    }
    Ok(())
}

fn listed(kind: PacketType, id: PacketId, encoded: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    start(kind.first_byte(), 2 + encoded.len(), out)?;
    out.extend_from_slice(&id.get().to_be_bytes());
    out.extend_from_slice(encoded);
    Ok(())
}

/// Appends a fixed header and makes room for the body.
fn start(first: u8, remaining: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if remaining > MAX_REMAINING {
        return Err(EncodeError::PacketTooLong(remaining));
    }
    let mut header = [first, 0, 0, 0, 0];
    let length = length_bytes(remaining);
    put_length(remaining, &mut header[1..=length]);
    out.reserve(1 + length + remaining);
    out.extend_from_slice(&header[..=length]);
    Ok(())
}

fn field_length(field: &[u8]) -> Result<u16, EncodeError> {
    u16::try_from(field.len()).map_err(|_| EncodeError::FieldTooLong(field.len()))
}

fn put_field(field: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.extend_from_slice(&field_length(field)?.to_be_bytes());
    out.extend_from_slice(field);
    Ok(())
}

/// How many bytes a remaining length takes.
#[inline]
const fn length_bytes(remaining: usize) -> usize {
    match remaining {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// Writes `remaining` into exactly the bytes of `at`, seven bits each, lowest first.
#[inline]
fn put_length(mut remaining: usize, at: &mut [u8]) {
    let last = at.len() - 1;
    for byte in &mut at[..last] {
        *byte = remaining as u8 | 0x80;
        remaining >>= 7;
    }
    at[last] = remaining as u8;
}
