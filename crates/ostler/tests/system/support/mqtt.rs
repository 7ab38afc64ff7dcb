//! A blocking MQTT 3.1.1 device, just enough of one.

use super::http::{now, sas};
use super::hub::{Hub, PATIENCE};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// A packet as it came: type and flags, then what follows the length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub first: u8,
    pub body: Vec<u8>,
}

/// A connected device.
pub struct Device {
    stream: TcpStream,
    /// Read and not yet asked for.
    waiting: VecDeque<Packet>,
    pub session_present: bool,
    next_id: u16,
}

/// A device's sign-in, before it is sent.
pub struct Credentials {
    pub client: String,
    pub username: String,
    pub password: String,
}

impl Credentials {
    pub fn new(host: &str, device: &str, key: &str) -> Self {
        Self {
            client: device.into(),
            username: format!("{host}/{device}/?api-version=2021-04-12"),
            password: sas(&format!("{host}/devices/{device}"), key, None, now() + 3600),
        }
    }

    /// The CONNECT packet.
    pub fn connect(&self, clean: bool) -> Vec<u8> {
        let mut body = Vec::new();
        string(&mut body, "MQTT");
        body.extend_from_slice(&[4, if clean { 0xC2 } else { 0xC0 }, 0, 120]);
        for text in [&self.client, &self.username, &self.password] {
            string(&mut body, text);
        }
        packet(0x10, &body)
    }
}

impl Device {
    /// Signs in; a refusal is `PermissionDenied` with the CONNACK code.
    pub fn connect(hub: &Hub, device: &str, key: &str, clean: bool) -> io::Result<Self> {
        let credentials = Credentials::new(hub.hostname(), device, key);
        let stream = TcpStream::connect(hub.address("plainMqttPort"))?;
        Self::sign_in(stream, &credentials, clean)
    }

    /// The same on a connection that exists already.
    pub fn sign_in(mut stream: TcpStream, credentials: &Credentials, clean: bool) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&credentials.connect(clean))?;
        let answer = read(&mut stream)?;
        match (answer.first, answer.body.as_slice()) {
            (0x20, [flags, 0]) => {
                Ok(Self { stream, waiting: VecDeque::new(), session_present: flags & 1 == 1, next_id: 1 })
            }
            (0x20, [_, code]) => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("CONNACK {code}")))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Subscribes at QoS 0 and waits for the SUBACK.
    pub fn subscribe(&mut self, filter: &str) -> io::Result<()> {
        self.subscribe_at(filter, 0)
    }

    /// Subscribes at QoS 1 and waits for the SUBACK.
    pub fn subscribe_acked(&mut self, filter: &str) -> io::Result<()> {
        self.subscribe_at(filter, 1)
    }

    fn subscribe_at(&mut self, filter: &str, qos: u8) -> io::Result<()> {
        let mut body = self.take_id().to_be_bytes().to_vec();
        string(&mut body, filter);
        body.push(qos);
        self.stream.write_all(&packet(0x82, &body))?;
        let answer = self.until(|packet| packet.first == 0x90)?;
        if answer.body.last() == Some(&0x80) {
            Err(io::ErrorKind::PermissionDenied.into())
        } else {
            Ok(())
        }
    }

    /// Sends a reported patch at QoS 1 and waits until it is answered; the new `$version`.
    /// The caller has subscribed to `$iothub/twin/res/#`.
    pub fn report(&mut self, request: u64, patch: &str) -> io::Result<u64> {
        self.publish(&format!("$iothub/twin/PATCH/properties/reported/?$rid={request}"), patch.as_bytes())?;
        let prefix = format!("$iothub/twin/res/204/?$rid={request}&$version=");
        let topic = self.until_topic("$iothub/twin/res/")?.0;
        let version = topic.strip_prefix(&prefix).and_then(|text| text.parse().ok());
        version.ok_or_else(|| io::Error::other(format!("answered with {topic}")))
    }

    /// Publishes at QoS 1 without waiting for the PUBACK.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> io::Result<()> {
        let mut body = Vec::new();
        string(&mut body, topic);
        body.extend_from_slice(&self.take_id().to_be_bytes());
        body.extend_from_slice(payload);
        self.stream.write_all(&packet(0x32, &body))
    }

    /// The next PUBLISH whose topic starts so: its topic and payload.
    pub fn until_topic(&mut self, prefix: &str) -> io::Result<(String, Vec<u8>)> {
        let found = self.until(|packet| split(packet).is_some_and(|(topic, _)| topic.starts_with(prefix)))?;
        split(&found)
            .map(|(topic, payload)| (topic.to_owned(), payload.to_vec()))
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The next QoS 1 PUBLISH whose topic starts so, acknowledged: its topic and payload.
    pub fn until_message(&mut self, prefix: &str) -> io::Result<(String, Vec<u8>)> {
        let found = self.until(|packet| split(packet).is_some_and(|(topic, _)| topic.starts_with(prefix)))?;
        let (topic, payload) = split(&found).ok_or(io::ErrorKind::InvalidData)?;
        let id = found.body.get(2 + topic.len()..4 + topic.len()).ok_or(io::ErrorKind::InvalidData)?;
        self.stream.write_all(&packet(0x40, id))?;
        Ok((topic.to_owned(), payload.to_vec()))
    }

    /// The next packet of this kind; others are kept for later.
    pub fn until(&mut self, wanted: impl Fn(&Packet) -> bool) -> io::Result<Packet> {
        if let Some(at) = self.waiting.iter().position(&wanted) {
            return self.waiting.remove(at).ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
        loop {
            let packet = read(&mut self.stream)?;
            if wanted(&packet) {
                return Ok(packet);
            }
            // PUBACKs say nothing that the answers do not.
            if packet.first != 0x40 {
                self.waiting.push_back(packet);
            }
        }
    }

    fn take_id(&mut self) -> u16 {
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        id
    }
}

/// Topic and payload of a PUBLISH.
fn split(packet: &Packet) -> Option<(&str, &[u8])> {
    if packet.first >> 4 != 3 {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([*packet.body.first()?, *packet.body.get(1)?]));
    let payload_at = 2 + length + if packet.first & 0x06 == 0 { 0 } else { 2 };
    Some((std::str::from_utf8(packet.body.get(2..2 + length)?).ok()?, packet.body.get(payload_at..)?))
}

/// One packet off the stream.
pub fn read(stream: &mut impl Read) -> io::Result<Packet> {
    let mut first = [0];
    stream.read_exact(&mut first)?;
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7F) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Packet { first: first[0], body })
}

/// A packet of its first byte and what follows the length.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    loop {
        let more = if length > 0x7F { 0x80 } else { 0 };
        out.push((length & 0x7F) as u8 | more);
        length >>= 7;
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

/// A length-prefixed text, as MQTT writes them.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
