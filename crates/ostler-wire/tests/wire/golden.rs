//! What two official device SDKs really sent: Python `azure-iot-device` 2.14.0 and Node `azure-iot-device`
//! 1.18.4, each recorded packet by packet against a stub server.

use std::fmt::Write;

use ostler_core::id::EntityId;
use ostler_wire::mqtt::packet::decode;
use ostler_wire::mqtt::server::{Event, Greeting, Limits, Session};
use ostler_wire::topic::{parse_filter, DeviceRequest};
use ostler_wire::username;

use crate::codec::hex;
use crate::pair::server_words;

const PYTHON: &str = include_str!("golden/python.hex");
const NODE: &str = include_str!("golden/node.hex");

fn packets(recorded: &str) -> Vec<Vec<u8>> {
    recorded.lines().map(hex).collect()
}

/// What the recording means to a server that reads it in pieces of `piece` bytes.
fn replay(recorded: &str, piece: usize) -> String {
    let stream = packets(recorded).concat();
    let entity = EntityId::parse("pump-7").unwrap();
    let greeting = Greeting::new(Limits::default(), 0);
    let mut session: Option<Session> = None;
    let (mut heard, mut buffer, mut out) = (String::new(), Vec::new(), Vec::new());
    for part in stream.chunks(piece) {
        buffer.extend_from_slice(part);
        let mut input = buffer.as_slice();
        if session.is_none() {
            if let Some(caller) = greeting.next(&mut input, &mut out).unwrap() {
                let login = caller.connect.login.unwrap();
                let username = username::parse(login.username).unwrap();
                assert_eq!(username.entity, caller.connect.client_id);
                writeln!(heard, "keep-alive {}, {username:#?}", caller.connect.keep_alive_secs).unwrap();
                session = Some(caller.accept(false, 0, &mut out));
            }
        }
        if let Some(session) = &mut session {
            while let Some(event) = session.next(&mut input, 0, &mut out).unwrap() {
                writeln!(heard, "{}", server_words(&event)).unwrap();
                match event {
                    Event::Publish(message) => {
                        let request = DeviceRequest::parse(message.topic, &entity).unwrap();
                        writeln!(heard, "  {request:?}").unwrap();
                    }
                    Event::Subscribe(request) => {
                        for (filter, _) in request.filters() {
                            writeln!(heard, "  {:?}", parse_filter(filter, &entity).unwrap()).unwrap();
                        }
                    }
                    _ => {}
                }
            }
        }
        let read = buffer.len() - input.len();
        buffer.drain(..read);
    }
    assert!(buffer.is_empty());
    heard
}

#[test]
fn python() {
    insta::assert_snapshot!(replay(PYTHON, usize::MAX));
}

#[test]
fn node() {
    insta::assert_snapshot!(replay(NODE, usize::MAX));
}

#[test]
fn pieces_of_any_size_mean_the_same() {
    for recorded in [PYTHON, NODE] {
        let whole = replay(recorded, usize::MAX);
        for piece in [1, 2, 3, 7, 64, 500] {
            assert_eq!(replay(recorded, piece), whole, "in pieces of {piece}");
        }
    }
}

#[test]
fn our_encoder_writes_what_theirs_do() {
    for packet in [packets(PYTHON), packets(NODE)].concat() {
        let (decoded, length) = decode(&packet, packet.len()).unwrap().unwrap();
        let mut again = Vec::new();
        decoded.encode(&mut again).unwrap();
        assert_eq!((again, length), (packet.clone(), packet.len()));
    }
}
