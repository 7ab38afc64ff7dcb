//! The packet codec: what it refuses, and that it gives back what it was given.

use ostler_wire::mqtt::packet::*;
use proptest::prelude::*;

const MAX: usize = 320 * 1024;

pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Packets in hexadecimal, with text in quotes: `30 05 0003 'a/b'`.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, part) in text.split('\'').enumerate() {
        if index % 2 == 0 {
            out.extend(hex(part));
        } else {
            out.extend(part.bytes());
        }
    }
    out
}

#[track_caller]
fn check_refused(text: &str, expected: DecodeError) {
    assert_eq!(decode(&bytes(text), MAX), Err(expected), "{text}");
}

/// Accepts the packet whole, waits for it while a byte is missing, and writes it as it was.
#[track_caller]
fn check_accepted(text: &str) {
    let bytes = bytes(text);
    let (packet, length) = decode(&bytes, MAX).unwrap().expect(text);
    assert_eq!(length, bytes.len(), "{text}");
    for end in 0..bytes.len() {
        assert_eq!(decode(&bytes[..end], MAX), Ok(None), "{text} up to {end}");
    }
    let mut again = vec![0xee];
    packet.encode(&mut again).unwrap();
    assert_eq!(again[1..], bytes, "{text}");
}

#[test]
fn well_formed_packets() {
    for text in [
        "10 0c 0004 'MQTT' 04 02 003c 0000",
        "10 12 0004 'MQTT' 04 c2 003c 0000 0001 'u' 0001 'p'",
        "10 11 0004 'MQTT' 04 c2 003c 0000 0001 'u' 0000",
        "10 12 0004 'MQTT' 04 2c 0000 0000 0001 't' 0001 'w'",
        "20 02 00 00",
        "20 02 01 00",
        "20 02 00 05",
        "30 03 0001 'a'",
        "31 05 0001 'a' 'xy'",
        "32 05 0001 'a' 0001",
        "3a 05 0001 'a' ffff",
        "34 05 0001 'a' 0001",
        "30 06 0004 f09f9880",
        "30 03 0001 01",
        "40 02 0001",
        "50 02 0001",
        "62 02 0001",
        "70 02 0001",
        "82 06 0001 0001 '#' 00",
        "82 0e 0001 0003 'a/+' 01 0003 '+/#' 02",
        "82 06 0001 0001 '/' 00",
        "90 06 0001 00 01 02 80",
        "a2 05 0001 0001 'a'",
        "b0 02 0001",
        "c0 00",
        "d0 00",
        "e0 00",
    ] {
        check_accepted(text);
    }
}

#[test]
fn malformed_packets() {
    use DecodeError::*;
    for (text, error) in [
        ("00 00", ReservedType(0)),
        ("f0 00", ReservedType(15)),
        ("11 00", ReservedFlags { kind: PacketType::Connect, flags: 1 }),
        ("42 02 0001", ReservedFlags { kind: PacketType::PubAck, flags: 2 }),
        ("60 02 0001", ReservedFlags { kind: PacketType::PubRel, flags: 0 }),
        ("80 06 0001 0001 'a' 00", ReservedFlags { kind: PacketType::Subscribe, flags: 0 }),
        ("a0 05 0001 0001 'a'", ReservedFlags { kind: PacketType::Unsubscribe, flags: 0 }),
        ("c1 00", ReservedFlags { kind: PacketType::PingReq, flags: 1 }),
        // The remaining length.
        ("30 ff ff ff ff", RemainingLength),
        ("30 80 80 80 80 01", RemainingLength),
        ("c0 80 00", RemainingLength),
        ("30 83 00 0001 'a'", RemainingLength),
        // Lengths of fields.
        ("30 01 00", Truncated),
        ("30 03 0002 'a'", Truncated),
        ("32 03 0001 'a'", Truncated),
        ("32 04 0001 'a' 00", Truncated),
        ("40 01 00", Truncated),
        ("40 00", Truncated),
        ("40 03 0001 00", TrailingBytes),
        ("c0 01 00", TrailingBytes),
        ("e0 01 00", TrailingBytes),
        ("20 03 00 00 00", TrailingBytes),
        ("82 05 0001 0001 'a'", Truncated),
        ("82 07 0001 0001 'a' 00 00", Truncated),
        // Packet ids.
        ("32 05 0001 'a' 0000", PacketIdZero),
        ("40 02 0000", PacketIdZero),
        ("82 06 0000 0001 'a' 00", PacketIdZero),
        // Text.
        ("30 04 0002 c328", NotUtf8),
        ("30 05 0003 eda080", NotUtf8),
        ("30 05 0003 'a' 00 'b'", NulCharacter),
        ("10 0d 0004 'MQTT' 04 02 003c 0001 00", NulCharacter),
        ("82 06 0001 0001 ff 00", NotUtf8),
        // Topics and filters.
        ("30 02 0000", EmptyTopic),
        ("30 05 0003 'a/#'", WildcardInTopic),
        ("30 05 0003 'a+b'", WildcardInTopic),
        ("30 15 0013 '0123456789abcdef/+/'", WildcardInTopic),
        ("82 05 0001 0000 00", EmptyTopic),
        ("82 07 0001 0002 'a#' 00", Filter),
        ("82 09 0001 0004 'a/b+' 00", Filter),
        ("82 08 0001 0003 '#/a' 00", Filter),
        ("82 07 0001 0002 '##' 00", Filter),
        ("a2 06 0001 0002 '+a'", Filter),
        // QoS.
        ("36 05 0001 'a' 0001", QoS),
        ("38 03 0001 'a'", DupAtQoS0),
        ("82 06 0001 0001 'a' 03", QoS),
        ("82 06 0001 0001 'a' 41", QoS),
        // Nothing in the list.
        ("82 02 0001", EmptyList),
        ("a2 02 0001", EmptyList),
        ("90 02 0001", EmptyList),
        // Codes.
        ("90 03 0001 03", ReturnCode(3)),
        ("90 03 0001 81", ReturnCode(0x81)),
        ("20 02 00 06", ReturnCode(6)),
        ("20 02 01 05", ReturnCode(5)),
        ("20 02 02 00", ReturnCode(0)),
    ] {
        check_refused(text, error);
    }
}

#[test]
fn malformed_connects() {
    use DecodeError::*;
    for (text, error) in [
        ("10 0c 0004 'MQTT' 04 03 003c 0000", ConnectFlags),
        ("10 0c 0004 'MQTT' 04 42 003c 0000", PasswordWithoutUsername),
        ("10 0c 0004 'MQTT' 04 0a 003c 0000", WillFlags),
        ("10 0c 0004 'MQTT' 04 22 003c 0000", WillFlags),
        ("10 0c 0004 'MQTT' 04 1e 003c 0000", QoS),
        ("10 0c 0004 'MQTT' 04 18 003c 0000", QoS),
        ("10 0c 0004 'MQTX' 04 02 003c 0000", ProtocolName),
        ("10 0c 0004 'mqtt' 04 02 003c 0000", ProtocolName),
        ("10 08 0000 04 02 003c 0000", ProtocolName),
        ("10 0a 0004 'MQTT' 04 02 003c", Truncated),
        ("10 0c 0004 'MQTT' 04 82 003c 0000", Truncated),
        ("10 0c 0004 'MQTT' 04 06 003c 0000", Truncated),
        ("10 10 0004 'MQTT' 04 06 003c 0000 0000 0000", EmptyTopic),
        ("10 11 0004 'MQTT' 04 06 003c 0000 0001 '#' 0000", WildcardInTopic),
        ("10 0d 0004 'MQTT' 04 02 003c 0000 00", TrailingBytes),
        // Other versions of MQTT are told apart, whatever follows: they are answered.
        ("10 0c 0004 'MQTT' 03 02 003c 0000", ProtocolLevel(3)),
        ("10 0d 0004 'MQTT' 05 02 003c 00 0000", ProtocolLevel(5)),
        ("10 0e 0006 'MQIsdp' 03 02 003c 0000", ProtocolLevel(3)),
        ("10 0e 0006 'MQIsdp' 04 02 003c 0000", ProtocolLevel(4)),
    ] {
        check_refused(text, error);
    }
}

#[test]
fn too_long_is_known_from_the_header() {
    // 1 + 2 + 300 bytes, of which only the header is there.
    let header = [0x30, 0xac, 0x02];
    assert_eq!(decode(&header, 303), Ok(None));
    assert_eq!(length(&header, 303), Ok(Some(303)));
    assert_eq!(decode(&header, 302), Err(DecodeError::TooLarge { length: 303, max: 302 }));
    assert_eq!(length(&header[..2], 302), Ok(None));
    let largest = [0x30, 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(length(&largest, MAX_LENGTH), Ok(Some(MAX_LENGTH)));
}

#[test]
fn a_login_does_not_print_its_password() {
    let login = Login { username: "hub/pump-7", password: Some(b"secret") };
    let text = format!("{login:?}");
    assert!(text.contains("pump-7") && !text.contains("secret") && !text.contains("115"), "{text}");
}

#[test]
fn what_mqtt_cannot_express_is_refused_and_leaves_no_trace() {
    let long = "x".repeat(65_536);
    let mut out = vec![7];
    let message = Publish { topic: &long, payload: b"", delivery: Delivery::AtMostOnce, retain: false };
    assert_eq!(message.encode(&mut out), Err(EncodeError::FieldTooLong(65_536)));
    let connect =
        Connect { client_id: &long, clean_session: true, keep_alive_secs: 0, will: None, login: None };
    assert_eq!(connect.encode(&mut out), Err(EncodeError::FieldTooLong(65_536)));
    let payload = vec![0; 268_435_455];
    let message = Publish { topic: "a", payload: &payload, delivery: Delivery::AtMostOnce, retain: false };
    assert_eq!(message.encode(&mut out), Err(EncodeError::PacketTooLong(268_435_458)));
    assert_eq!(out, [7]);
}

/// A topic whose guess about its own length is as wrong as can be.
struct Guess<'a>(&'a str, usize);

impl TopicName for Guess<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }

    fn size_hint(&self) -> usize {
        self.1
    }
}

prop_compose! {
    fn topic()(text in "[a-z$/é😀]{1,200}") -> String { text }
}

fn qos() -> impl Strategy<Value = QoS> {
    prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn delivery() -> impl Strategy<Value = Delivery> {
    (qos(), packet_id(), any::<bool>()).prop_map(|(qos, id, dup)| match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
        QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
    })
}

#[track_caller]
fn check_round_trip(packet: Packet<'_>) {
    let mut out = Vec::new();
    packet.encode(&mut out).unwrap();
    assert_eq!(length(&out, MAX), Ok(Some(out.len())));
    assert_eq!(decode(&out[..out.len() - 1], MAX), Ok(None));
    out.extend_from_slice(b"more");
    assert_eq!(decode(&out, MAX), Ok(Some((packet, out.len() - 4))));
}

/// Bytes that come close to being packets.
fn almost_packets() -> impl Strategy<Value = Vec<u8>> {
    let seeds = [
        "10 12 0004 'MQTT' 04 c2 003c 0000 0001 'u' 0001 'p' c0 00",
        "10 12 0004 'MQTT' 04 2c 0000 0000 0001 't' 0001 'w'",
        "3a 0f 0005 'a/b/c' ffff 'payload'",
        "82 0e 0001 0003 'a/+' 01 0003 '+/#' 02 90 06 0001 00 01 02 80",
        "a2 05 0001 0001 'a' b0 02 0001 20 02 01 00 e0 00",
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 0..4);
    (prop::sample::select(seeds.to_vec()), edits).prop_map(|(seed, edits)| {
        let mut bytes = bytes(seed);
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn publishes_round_trip(
        topic in topic(), payload in prop::collection::vec(any::<u8>(), 0..300), delivery in delivery(), retain: bool,
    ) {
        check_round_trip(Packet::Publish(Publish { topic: &topic, payload: &payload, delivery, retain }));
    }

    /// Wherever the topic has to be moved to, the packet is the same.
    #[test]
    fn a_wrong_hint_does_not_show(size in prop::sample::select(vec![0, 90, 120, 130, 16_300, 16_390]), hint in 0..20_000_usize) {
        let payload = vec![b'x'; size];
        let session = |hint| {
            let (mut server, mut out) = (crate::pair::server_session(), vec![1, 2, 3]);
            server.publish_acked(&Guess("a/topic/of/some/length", hint), &payload, ostler_wire::mqtt::Attempt::First, &mut out).unwrap();
            out
        };
        prop_assert_eq!(session(hint), session(22));
    }

    #[test]
    fn connects_round_trip(
        client_id in "[a-z/é]{0,40}", clean_session: bool, keep_alive_secs: u16,
        will in prop::option::of((topic(), prop::collection::vec(any::<u8>(), 0..50), qos(), any::<bool>())),
        login in prop::option::of(("[ -~]{0,80}", prop::option::of(prop::collection::vec(any::<u8>(), 0..50)))),
    ) {
        let will = will.as_ref().map(|(topic, payload, qos, retain)| Will { topic, payload, qos: *qos, retain: *retain });
        let login = login.as_ref().map(|(username, password)| Login { username, password: password.as_deref() });
        check_round_trip(Packet::Connect(Connect { client_id: &client_id, clean_session, keep_alive_secs, will, login }));
    }

    /// No bytes are worth a panic, and what is accepted is written as it was read.
    #[test]
    fn anything_goes_in(bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..64), almost_packets()], max in 0..80_usize) {
        let mut rest = bytes.as_slice();
        while let Ok(Some((packet, length))) = decode(rest, max) {
            prop_assert!(length <= max);
            let mut again = Vec::new();
            packet.encode(&mut again).unwrap();
            prop_assert_eq!(&again, &rest[..length]);
            match packet {
                Packet::Subscribe(request) => prop_assert_eq!(request.filters().count(), request.len()),
                Packet::Unsubscribe(request) => prop_assert_eq!(request.filters().count(), request.len()),
                _ => {}
            }
            rest = &rest[length..];
        }
    }
}
