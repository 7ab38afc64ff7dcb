//! The bytes of the conversation: what we say, held fast, and what hubs say, in every possible split.
//!
//! What hubs say is written out here byte by byte, in the shapes that the official clients are known to be served with;
//! the wire crate's own encoder has no part in it.

use ostler_wire::mqtt::packet;
use ostler_wire::mqtt::server::{Event as Asked, Greeting, Limits, Session};
use ostler_wire::mqtt::Received;
use ostler_wire::topic::{parse_filter, DeviceRequest};
use ostler_wire::username;
use proptest::prelude::*;

use super::*;
use crate::message::Message;

const USERNAME: &str = "hub1.example.net/pump-7/?api-version=2021-04-12&DeviceClientType=ostler%2F0.1";
const PASSWORD: &[u8] =
    b"SharedAccessSignature sr=hub1.example.net%2Fdevices%2Fpump-7&sig=abc%3D&se=1893456000";

/// Packets as lines: printable characters as they are, all others as `\xNN`.
fn print(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    while !bytes.is_empty() {
        let length = packet::length(bytes, packet::MAX_LENGTH).unwrap().expect("whole packets");
        text.push_str(&bytes[..length].escape_ascii().to_string());
        text.push('\n');
        bytes = &bytes[length..];
    }
    text
}

/// A PUBLISH with quality of service 0, or 1 if there is an id; at most 16,383 bytes long.
fn publish(first: u8, id: Option<u16>, topic: &str, payload: &[u8]) -> Vec<u8> {
    let id: Vec<u8> = id.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default();
    let length = 2 + topic.len() + id.len() + payload.len();
    let mut bytes = vec![first];
    if length < 128 {
        bytes.push(length as u8);
    } else {
        bytes.extend([(length % 128) as u8 | 0x80, (length / 128) as u8]);
    }
    bytes.extend((topic.len() as u16).to_be_bytes());
    bytes.extend(topic.as_bytes());
    bytes.extend(id);
    bytes.extend(payload);
    bytes
}

fn settings() -> Settings {
    Settings::new(entity())
}

/// Dials and sends the CONNECT.
fn connect(engine: &mut Engine) -> Vec<u8> {
    engine.start(0);
    assert_eq!(engine.next(0), Next::Dial);
    engine.handle_connected_transport(0, USERNAME, Some(PASSWORD));
    take(engine, 0)
}

fn take(engine: &mut Engine, now: u64) -> Vec<u8> {
    let _ = engine.next(now);
    std::mem::take(engine.output())
}

fn events(engine: &mut Engine) -> Vec<String> {
    std::iter::from_fn(|| engine.poll_event()).map(|event| format!("{event:?}")).collect()
}

const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
const CONNACK_PRESENT: [u8; 4] = [0x20, 2, 1, 0];

#[test]
fn connect_is_what_current_clients_send() {
    let bytes = connect(&mut Engine::new(settings()));
    insta::assert_snapshot!(print(&bytes));
    let mut out = Vec::new();
    let mut input = bytes.as_slice();
    let caller = Greeting::new(Limits::default(), 0).next(&mut input, &mut out).unwrap().unwrap();
    assert!(input.is_empty() && out.is_empty());
    assert_eq!((caller.connect.client_id, caller.connect.clean_session), ("pump-7", false));
    assert_eq!((caller.connect.keep_alive_secs, caller.connect.will), (240, None));
    let login = caller.connect.login.unwrap();
    assert_eq!(login.password, Some(PASSWORD));
    let username = username::parse(login.username).unwrap();
    assert_eq!((username.host, username.entity), ("hub1.example.net", "pump-7"));

    // With a certificate there is no password, and the flag is not set (device §1.5).
    let mut engine = Engine::new(Settings { clean_session: true, keep_alive_secs: 30, ..settings() });
    engine.start(0);
    assert_eq!(engine.next(0), Next::Dial);
    engine.handle_connected_transport(0, USERNAME, None);
    insta::assert_snapshot!(print(&take(&mut engine, 0)));
}

/// A whole conversation; returns what the client said in it, connection by connection.
fn conversation() -> [Vec<u8>; 2] {
    let mut engine = Engine::new(settings());
    for interest in [Interest::Methods, Interest::Desired, Interest::Messages] {
        engine.listen(interest, 0);
    }
    let mut first = connect(&mut engine);
    engine.handle_input(&CONNACK, 1);
    first.extend(take(&mut engine, 1));
    engine.handle_input(&[0x90, 6, 0, 1, 1, 1, 1, 1], 2);
    first.extend(take(&mut engine, 2));
    // The catch-up; then what the application wants.
    engine.handle_input(&publish(0x30, None, "$iothub/twin/res/200/?$rid=e220a83a", TWIN), 3);
    engine.report(Token(1), Bytes::from_static(br#"{"fw":"2.2","oldKey":null}"#), None, 3);
    engine.get_twin(Token(2), None, 3);
    engine.send(Token(3), telemetry(), None, 3);
    engine.send(Token(4), Message::new("plain").prepare().unwrap(), None, 3);
    engine.handle_input(&publish(0x30, None, "$iothub/methods/POST/reboot/?$rid=1f", br#"{"delay":5}"#), 3);
    engine.answer("1f", 202, Bytes::from_static(br#"{"accepted":true}"#), 3).unwrap();
    first.extend(take(&mut engine, 3));
    let bag = "devices/pump-7/messages/devicebound/%24.to=x";
    engine.handle_input(&publish(0x32, Some(9), bag, b"hi"), 4);
    while let Some(event) = engine.poll_event() {
        if let Event::Message { ticket: Some(ticket), .. } = event {
            engine.ack(ticket);
        }
    }
    first.extend(take(&mut engine, 120_001));
    engine.handle_input(&[0xd0, 0], 120_002);
    // One message is confirmed, and the connection breaks.
    engine.handle_input(&[0x40, 2, 0, 3], 120_002);
    engine.handle_lost(Lost::Reset, 120_002);
    assert_eq!(engine.next(125_000), Next::Dial);
    engine.handle_connected_transport(125_000, USERNAME, Some(PASSWORD));
    engine.send(Token(5), Message::new("later").prepare().unwrap(), None, 125_000);
    let mut second = take(&mut engine, 125_000);
    engine.handle_input(&CONNACK_PRESENT, 125_000);
    second.extend(take(&mut engine, 125_000));
    engine.handle_input(&[0x90, 6, 0, 3, 1, 1, 1, 1], 125_001);
    second.extend(take(&mut engine, 125_001));
    for topic in ["$iothub/twin/res/204/?$rid=e220a83b&$version=15", "$iothub/twin/res/200/?$rid=e220a83c"] {
        engine.handle_input(&publish(0x30, None, topic, b""), 125_002);
        second.extend(take(&mut engine, 125_002));
    }
    for id in 1..=5 {
        engine.handle_input(&[0x40, 2, 0, id], 125_002);
    }
    engine.stop(200_000, 125_002);
    assert_eq!(engine.pending(), 0);
    assert_eq!(engine.next(125_002), Next::Close);
    second.append(engine.output());
    [first, second]
}

const TWIN: &[u8] = br#"{"desired":{"interval":30,"$version":6},"reported":{"fw":"2.1","$version":14}}"#;

/// The message of device §3.2, by whose topic two official clients are known.
fn telemetry() -> Prepared {
    let message = Message::new("body")
        .message_id("id 1+/")
        .content_type("application/json")
        .content_encoding("utf-8")
        .property("k e", "v&=/+$~'");
    message.prepare().unwrap()
}

#[test]
fn the_conversation_is_held_fast() {
    let [first, second] = conversation();
    insta::assert_snapshot!(format!("{}-- reconnect --\n{}", print(&first), print(&second)));
}

#[test]
fn a_strict_server_takes_every_byte_of_it() {
    let mut seen = Vec::new();
    for (bytes, leaves) in conversation().into_iter().zip([false, true]) {
        let mut out = Vec::new();
        let mut input = bytes.as_slice();
        let caller = Greeting::new(Limits::default(), 0).next(&mut input, &mut out).unwrap().unwrap();
        let mut session: Session = caller.accept(false, 0, &mut out);
        let mut left = false;
        while let Some(event) = session.next(&mut input, 0, &mut out).unwrap() {
            match event {
                Asked::Publish(Received { topic, ticket, dup, .. }) => {
                    let request = DeviceRequest::parse(topic, &entity()).unwrap();
                    seen.push(format!("{request:?}{}", if dup { " again" } else { "" }));
                    ticket.into_iter().for_each(|ticket| session.ack(ticket, &mut out));
                }
                Asked::Subscribe(request) => {
                    assert!(request.filters().all(|(filter, _)| parse_filter(filter, &entity()).is_some()));
                }
                Asked::Disconnect => left = true,
                Asked::Acked(_) | Asked::Unsubscribe(_) => {}
            }
        }
        assert!(input.is_empty());
        assert_eq!(left, leaves);
    }
    insta::assert_snapshot!(seen.join("\n"));
}

/// What the hub says after the twin was asked for: the examples of device §4.2, §4.4, §3.5 and §6, at both qualities of
/// service.
fn hub_speaks() -> Vec<u8> {
    let message = "devices/pump-7/messages/devicebound/%24.mid=6f1c&%24.to=%2Fdevices%2Fpump-7%2Fmessages%2Fdevicebound\
                   &%24.ct=text%2Fplain&%24.ce=utf-8&iothub-ack=full&colour=red&empty";
    let desired = "$iothub/twin/PATCH/properties/desired/?$version=7";
    [
        publish(0x30, None, "$iothub/twin/res/200/?$rid=e220a83b", TWIN),
        publish(0x30, None, desired, br#"{"interval":null,"mode":{"eco":true},"$version":7}"#),
        publish(0x3a, Some(2), desired, br#"{"interval":null,"mode":{"eco":true},"$version":7}"#),
        publish(0x32, Some(3), message, b"go"),
        publish(0x3a, Some(4), message, b""),
        publish(0x30, None, "$iothub/methods/POST/reboot/?$rid=1f", br#"{"delay":5}"#),
        publish(0x32, Some(5), "$iothub/methods/POST/lockDoor/?$rid=20", b""),
        publish(0x3a, Some(6), "$iothub/methods/POST/lockDoor/?$rid=20", b""),
        publish(0x30, None, "$iothub/twin/res/204/?$rid=e220a83a&$version=15", b""),
        publish(0x30, None, "$iothub/unheard/of", b"?"),
        vec![0xd0, 0],
    ]
    .concat()
}

/// Feeds the pieces to a client that listens to everything, and returns what it told and what it said.
fn hear<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, welcome: &[&[u8]]) -> (Vec<String>, Vec<u8>) {
    let mut engine = Engine::new(settings());
    for interest in [Interest::Methods, Interest::Desired, Interest::Messages] {
        engine.listen(interest, 0);
    }
    engine.report(Token(1), Bytes::from_static(b"{}"), None, 0);
    connect(&mut engine);
    let mut said = Vec::new();
    for piece in welcome {
        engine.handle_input(piece, 1);
        said.extend(take(&mut engine, 1));
    }
    for piece in pieces {
        engine.handle_input(piece, 2);
        said.extend(take(&mut engine, 2));
    }
    let told = events(&mut engine);
    assert!(engine.rest.is_empty());
    (told, said)
}

#[test]
fn what_hubs_say_is_understood_in_every_split() {
    const SUBACK: [u8; 8] = [0x90, 6, 0, 1, 1, 1, 1, 1];
    let speech = hub_speaks();
    let whole = hear([speech.as_slice()], &[&CONNACK, &SUBACK]);
    insta::assert_snapshot!(format!("{}\n-- said --\n{}", whole.0.join("\n"), print(&whole.1)));
    for at in 1..speech.len() {
        let (one, two) = speech.split_at(at);
        assert_eq!(hear([one, two], &[&CONNACK, &SUBACK]), whole, "split at {at}");
    }
    for at in 1..4 {
        assert_eq!(hear([speech.as_slice()], &[&CONNACK[..at], &CONNACK[at..], &SUBACK]), whole);
    }
    for at in 1..8 {
        assert_eq!(hear([speech.as_slice()], &[&CONNACK, &SUBACK[..at], &SUBACK[at..]]), whole);
    }
    assert_eq!(hear(speech.chunks(1), &[&CONNACK, &SUBACK]), whole);
}

#[test]
fn garbage_ends_the_connection_and_is_retried_later() {
    let garbage: [&[u8]; 9] = [
        &[0x00, 0x00],
        &[0xf0, 0x00],
        &[0x30, 0xff, 0xff, 0xff, 0x7f],
        &[0x30, 0xff, 0xff, 0xff, 0xff, 0xff],
        &CONNACK,
        &[0xc0, 0],
        &[0x34, 5, 0, 1, b'a', 0, 1],
        &[0x30, 4, 0, 9, b'a', b'b'],
        // An answer to more filters than were asked for.
        &[0x90, 4, 0, 1, 1, 1],
    ];
    for bytes in garbage {
        let mut engine = Engine::new(settings());
        engine.listen(Interest::Methods, 0);
        connect(&mut engine);
        engine.handle_input(&CONNACK, 1);
        take(&mut engine, 1);
        events(&mut engine);
        engine.handle_input(bytes, 2);
        assert_eq!(engine.next(2), Next::Close, "{bytes:?}");
        engine.handle_input(bytes, 2);
        engine.handle_closed(3);
        assert!(matches!(engine.next(3), Next::Idle { until: Some(4..) }));
        let told = events(&mut engine).join("\n");
        assert!(told.starts_with("Status(Disconnected { cause: Protocol, next_attempt: Some("), "{told}");
    }
    // Before the CONNACK as well: the other side may be a web server.
    let mut engine = Engine::new(settings());
    connect(&mut engine);
    engine.handle_input(b"HTTP/1.1 400 Bad Request\r\n", 1);
    assert_eq!(engine.next(1), Next::Close);
}

proptest! {
    /// Whatever a hub says, the client lives: it goes on, or leaves and comes back later.
    #[test]
    fn a_mad_hub_does_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        noise in prop::collection::vec(any::<u8>(), 0..40),
        piece in 1usize..300,
        before_connack: bool,
    ) {
        let mut engine = Engine::new(settings());
        for interest in [Interest::Methods, Interest::Desired, Interest::Messages] {
            engine.listen(interest, 0);
        }
        engine.send(Token(1), telemetry(), None, 0);
        engine.report(Token(2), Bytes::from_static(b"{}"), None, 0);
        connect(&mut engine);
        if !before_connack {
            engine.handle_input(&CONNACK, 1);
            take(&mut engine, 1);
            engine.handle_input(&[0x90, 6, 0, 1, 1, 1, 1, 1], 1);
            take(&mut engine, 1);
        }
        let mut speech = [hub_speaks(), noise].concat();
        for (place, byte) in changes {
            let place = place.index(speech.len());
            speech[place] = byte;
        }
        for bytes in speech.chunks(piece) {
            engine.handle_input(bytes, 2);
            match engine.next(2) {
                Next::Close => engine.handle_closed(2),
                Next::Idle { until } => prop_assert!(until.is_some_and(|until| until > 2)),
                next => prop_assert!(false, "{next:?}"),
            }
            engine.output().clear();
        }
        let said_goodbye = matches!(engine.life, Life::Waiting { .. });
        let told = events(&mut engine).join("\n");
        prop_assert_eq!(said_goodbye, told.contains("cause: Protocol"), "{}", told);
        prop_assert!(!said_goodbye || engine.rest.is_empty() && engine.deadline().is_some());
    }
}

#[test]
fn leaving_finishes_what_is_half_written() {
    let mut engine = Engine::new(settings());
    connect(&mut engine);
    engine.handle_input(&CONNACK, 1);
    engine.send(Token(1), Message::new("whole").prepare().unwrap(), None, 1);
    let _ = engine.next(1);
    let mut said: Vec<u8> = engine.output().drain(..7).collect();
    engine.stop(2, 1);
    let _ = engine.next(1);
    assert_eq!(engine.next(2), Next::Close);
    said.append(engine.output());
    let lines = print(&said);
    assert!(lines.ends_with("whole\n\\xe0\\x00\n"), "{lines}");
    engine.handle_closed(3);
    assert_eq!(engine.next(3), Next::Done);
    let told = events(&mut engine).join("\n");
    assert!(told.ends_with("Sent { token: Token(1), result: Err(Closed) }\nStatus(Closed)"), "{told}");
}

#[test]
fn modules_speak_on_their_own_topics() {
    let mut engine = Engine::new(Settings::new(EntityId::parse("pump-7/valve").unwrap()));
    engine.listen(Interest::Inputs, 0);
    engine.listen(Interest::Messages, 0);
    let mut said = connect(&mut engine);
    engine.handle_input(&[&CONNACK[..], &[0x90, 3, 0, 1, 1]].concat(), 1);
    engine.send(Token(1), Message::new("x").output("alarms").prepare().unwrap(), None, 1);
    said.extend(take(&mut engine, 1));
    engine.handle_input(&[0x90, 3, 0, 1, 1], 1);
    let topic = "devices/pump-7/modules/valve/inputs/in1/%24.cdid=pump-7&%24.cmid=filter&%24.on=out&k=v";
    engine.handle_input(&publish(0x30, None, topic, b"y"), 2);
    insta::assert_snapshot!(format!("{}{}", print(&said), events(&mut engine).join("\n")));
}
