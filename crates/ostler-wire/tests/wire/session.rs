//! The two ends of a connection: who may say what when, acknowledgements, and time.

use std::num::NonZeroU16;

use ostler_wire::mqtt::client::{self, Answer, Connecting};
use ostler_wire::mqtt::packet::{
    Connect, DecodeError, PacketType, QoS, Refusal,
    SubscribeOutcome::{self, Granted},
    Will,
};
use ostler_wire::mqtt::server::{self, Event, Greeting, Limits, OwnedWill, ProtocolError, MAX_SILENCE_MS};
use ostler_wire::mqtt::{Attempt, SendError};
use proptest::prelude::*;

use crate::codec::hex;
use crate::pair::{accept, server_session, Pair, CONNECT};

/// Feeds one session and returns the first event or error, with what was answered.
fn feed(session: &mut server::Session, bytes: &[u8]) -> (Result<Option<String>, ProtocolError>, Vec<u8>) {
    let mut out = Vec::new();
    let event = session.next(&mut &bytes[..], 5_000, &mut out);
    (event.map(|event| event.as_ref().map(crate::pair::server_words)), out)
}

#[test]
fn a_session_is_small() {
    assert!(size_of::<server::Session>() <= 160, "{} bytes", size_of::<server::Session>());
}

#[test]
fn only_connect_may_come_first() {
    let greeting = Greeting::new(Limits::default(), 0);
    let mut out = Vec::new();
    for (packet, kind) in
        [("c0", PacketType::PingReq), ("32ffff", PacketType::Publish), ("20", PacketType::ConnAck)]
    {
        let bytes = hex(packet);
        let error = greeting.next(&mut bytes.as_slice(), &mut out).unwrap_err();
        assert_eq!(error, ProtocolError::NotConnect(kind));
    }
    // Not even all of an oversized CONNECT is waited for.
    let error = greeting.next(&mut [0x10, 0xff, 0xff, 0x7f].as_slice(), &mut out).unwrap_err();
    assert_eq!(error, ProtocolError::Decode(DecodeError::TooLarge { length: 2_097_155, max: 81_920 }));
    assert!(out.is_empty());
}

#[test]
fn another_version_is_answered_before_the_close() {
    let greeting = Greeting::new(Limits::default(), 0);
    for connect in ["100c00044d515454 0502003c0000", "100e00064d5149736470 0302003c0000"] {
        let mut out = Vec::new();
        let error = greeting.next(&mut hex(connect).as_slice(), &mut out).unwrap_err();
        assert!(matches!(error, ProtocolError::Decode(DecodeError::ProtocolLevel(5 | 3))), "{error}");
        assert_eq!(out, [0x20, 2, 0, 1]);
    }
}

#[test]
fn the_caller_is_answered_before_anything_else_is_read() {
    let mut bytes = Vec::new();
    CONNECT.encode(&mut bytes).unwrap();
    bytes.extend(hex("32060001 61 0007 78 c000"));
    let (mut input, mut out) = (bytes.as_slice(), Vec::new());
    let greeting = Greeting::new(Limits::default(), 0);
    let caller = greeting.next(&mut input, &mut out).unwrap().unwrap();
    assert_eq!((input.len(), out.len()), (10, 0));
    let mut session = caller.accept(true, 0, &mut out);
    let Some(Event::Publish(message)) = session.next(&mut input, 0, &mut out).unwrap() else {
        panic!("a message")
    };
    assert_eq!((message.topic, message.payload), ("a", &b"x"[..]));
    assert_eq!(session.next(&mut input, 0, &mut out), Ok(None));
    session.ack(message.ticket.unwrap(), &mut out);
    assert_eq!(out, hex("20020100 d000 40020007"));
}

#[test]
fn refusals_say_why() {
    for (refusal, code) in [(Refusal::Unavailable, 3), (Refusal::NotAuthorized, 5)] {
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        let connecting = Connecting::start(&CONNECT, client::Limits::default(), 0, &mut bytes).unwrap();
        let greeting = Greeting::new(Limits::default(), 0);
        greeting.next(&mut bytes.as_slice(), &mut out).unwrap().unwrap().refuse(refusal, &mut out);
        assert_eq!(out, [0x20, 2, 0, code]);
        let answer = connecting.next(&mut out.as_slice(), 1).unwrap();
        assert!(matches!(answer, Some(Answer::Refused(why)) if why == refusal));
    }
}

#[test]
fn a_client_must_not_say() {
    for (packet, error) in [
        ("100c00044d5154540402003c0000", ProtocolError::Unexpected(PacketType::Connect)),
        ("20020000", ProtocolError::Unexpected(PacketType::ConnAck)),
        ("9003000100", ProtocolError::Unexpected(PacketType::SubAck)),
        ("b0020001", ProtocolError::Unexpected(PacketType::UnsubAck)),
        ("d000", ProtocolError::Unexpected(PacketType::PingResp)),
        ("62020001", ProtocolError::Unexpected(PacketType::PubRel)),
        ("3405000161 0001", ProtocolError::ExactlyOnce),
        ("f000", ProtocolError::Decode(DecodeError::ReservedType(15))),
        ("30feffff7f", ProtocolError::Decode(DecodeError::TooLarge { length: 268_435_459, max: 327_680 })),
    ] {
        assert_eq!(feed(&mut server_session(), &hex(packet)).0, Err(error), "{packet}");
    }
}

#[test]
fn filters_are_counted() {
    let mut client = Pair::new(&CONNECT, Limits::default()).client;
    for (count, accepted) in [(server::MAX_FILTERS, true), (server::MAX_FILTERS + 1, false)] {
        for subscribe in [true, false] {
            let mut bytes = Vec::new();
            if subscribe {
                client.subscribe(&vec![("a", QoS::AtMostOnce); count], &mut bytes).unwrap();
            } else {
                client.unsubscribe(&vec!["a"; count], &mut bytes).unwrap();
            }
            let result = feed(&mut server_session(), &bytes).0;
            assert_eq!(result.is_ok(), accepted, "{count}");
        }
    }
}

#[test]
fn a_conversation() {
    let mut pair = Pair::new(&CONNECT, Limits::default());
    let filters = [("a/#", QoS::AtLeastOnce), ("b", QoS::ExactlyOnce), ("#", QoS::AtMostOnce)];
    pair.client.subscribe(&filters, &mut pair.to_server).unwrap();
    pair.client.publish("t", b"lost?", &mut pair.to_server).unwrap();
    pair.client_publish("t", b"sure");
    pair.settle();
    pair.server_ack(0);
    pair.server.publish("a/1", b"quick", &mut pair.to_client).unwrap();
    pair.server.publish_acked("a/2", b"again", Attempt::Again, &mut pair.to_client).unwrap();
    pair.client.unsubscribe(&["a/#", "b"], &mut pair.to_server).unwrap();
    pair.settle();
    assert_eq!((pair.server.in_flight(), pair.client.in_flight()), (0, 0));
    pair.to_server.extend(hex("e000"));
    pair.to_server.extend_from_slice(b"whatever follows");
    pair.run_server(usize::MAX).unwrap();
    assert_eq!(
        pair.server_heard,
        [
            "subscribe 1 a/# q1, b q2, # q0",
            "publish t \"lost?\"",
            "publish t \"sure\" q1",
            "unsubscribe 3 a/#, b",
            "acked 1",
            "disconnect",
        ]
    );
    assert_eq!(
        pair.client_heard,
        [
            "subscribed 1 [Granted(AtLeastOnce), Granted(AtLeastOnce), Refused]",
            "acked 2",
            "message a/1 \"quick\"",
            "message a/2 \"again\" dup",
            "unsubscribed 3",
        ]
    );
    assert!(pair.to_server.is_empty());
}

#[test]
fn too_many_unacknowledged_messages_stop_the_reading() {
    let limits = Limits { max_unacked: 3, ..Limits::default() };
    let mut pair = Pair::new(&CONNECT, limits);
    for n in 0..5 {
        pair.client_publish("t", &[b'0' + n]);
    }
    pair.run_server(usize::MAX).unwrap();
    assert_eq!(pair.server_heard.len(), 3);
    assert!(pair.server.is_paused());
    // The client may be silent for as long as nobody listens.
    assert_eq!(pair.server.deadline(), None);
    pair.now += 10_000_000;
    assert_eq!(pair.server.check_deadline(pair.now), Ok(()));
    // Completing a later one does not help: its PUBACK has to wait.
    pair.server_ack(2);
    assert!(pair.server.is_paused());
    pair.server_ack(0);
    assert!(!pair.server.is_paused());
    pair.run_server(usize::MAX).unwrap();
    assert_eq!(pair.server.deadline(), None);
    pair.server_ack(0);
    pair.run_server(usize::MAX).unwrap();
    assert_eq!(pair.server_heard.len(), 5);
    assert_eq!(pair.server.deadline(), Some(pair.now + 90_000));
}

#[test]
fn outgoing_messages_are_bounded() {
    let mut session = accept(&CONNECT, Limits { max_in_flight: 2, ..Limits::default() }, 0);
    let mut out = Vec::new();
    for _ in 0..2 {
        session.publish_acked("t", b"", Attempt::First, &mut out).unwrap();
    }
    let length = out.len();
    assert_eq!(session.publish_acked("t", b"", Attempt::First, &mut out), Err(SendError::TooManyInFlight(2)));
    assert_eq!(out.len(), length);
    assert_eq!(feed(&mut session, &hex("40020001")).0, Ok(Some("acked 1".into())));
    let id = session.publish_acked("t", b"", Attempt::First, &mut out).unwrap();
    assert_eq!(id, NonZeroU16::new(3).unwrap());
    // Acknowledgements of nothing are dropped.
    assert_eq!(feed(&mut session, &hex("40020001 4002ffff")).0, Ok(None));
    assert_eq!(session.in_flight(), 2);
}

#[test]
fn silence_is_tolerated_for_one_and_a_half_keep_alives() {
    for (secs, silence) in [
        (60, 90_000),
        (1, 1_500),
        (0, MAX_SILENCE_MS),
        (1177, 1_765_500),
        (1200, MAX_SILENCE_MS),
        (65_535, MAX_SILENCE_MS),
    ] {
        let session = accept(&Connect { keep_alive_secs: secs, ..CONNECT }, Limits::default(), 7);
        let deadline = 7 + u64::from(silence);
        assert_eq!(session.deadline(), Some(deadline), "{secs}");
        assert_eq!(session.check_deadline(deadline - 1), Ok(()));
        assert_eq!(session.check_deadline(deadline), Err(ProtocolError::KeepAlive(silence)));
    }
}

#[test]
fn any_packet_is_a_sign_of_life_but_half_a_packet_is_not() {
    let mut session = server_session();
    assert_eq!(feed(&mut session, &hex("4002")).0, Ok(None));
    assert_eq!(session.deadline(), Some(90_000));
    let (event, out) = feed(&mut session, &hex("c000"));
    assert_eq!((event, out), (Ok(None), hex("d000")));
    assert_eq!(session.deadline(), Some(95_000));
}

#[test]
fn connects_have_a_time_limit() {
    let greeting = Greeting::new(Limits::default(), 1_000);
    assert_eq!(greeting.deadline(), 61_000);
    assert_eq!(greeting.check_deadline(60_999), Ok(()));
    assert_eq!(greeting.check_deadline(61_000), Err(ProtocolError::ConnectTimeout(60_000)));
    let connecting = Connecting::start(&CONNECT, client::Limits::default(), 0, &mut Vec::new()).unwrap();
    assert_eq!(connecting.check_deadline(connecting.deadline() - 1), Ok(()));
    assert_eq!(
        connecting.check_deadline(connecting.deadline()),
        Err(client::ProtocolError::ConnectTimeout(30_000))
    );
}

#[test]
fn an_idle_pair_stays_alive_until_the_server_is_gone() {
    let mut pair = Pair::new(&CONNECT, Limits::default());
    for _ in 0..20 {
        pair.now = pair.client.deadline().unwrap();
        assert_eq!(pair.server.check_deadline(pair.now), Ok(()));
        pair.client.handle_timeout(pair.now, &mut pair.to_server).unwrap();
        pair.settle();
    }
    pair.client.handle_timeout(pair.client.deadline().unwrap(), &mut pair.to_server).unwrap();
    let due = pair.client.deadline().unwrap();
    assert_eq!(
        pair.client.handle_timeout(due, &mut pair.to_server),
        Err(client::ProtocolError::PingTimeout(30_000))
    );
}

#[test]
fn a_client_without_keep_alive_never_pings() {
    let pair = Pair::new(&Connect { keep_alive_secs: 0, ..CONNECT }, Limits::default());
    assert_eq!(pair.client.deadline(), None);
}

#[test]
fn a_will_is_for_those_who_leave_without_a_word() {
    let will = Will {
        topic: "devices/pump-7/messages/events/",
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: true,
    };
    let connect = Connect { will: Some(will), ..CONNECT };
    let mut session = accept(&connect, Limits::default(), 0);
    assert_eq!(session.take_will(), Some(OwnedWill::from(will)));
    assert_eq!(session.take_will(), None);

    let mut session = accept(&connect, Limits::default(), 0);
    assert_eq!(feed(&mut session, &hex("e000")).0, Ok(Some("disconnect".into())));
    assert_eq!(session.take_will(), None);

    let mut bytes = Vec::new();
    Connect { will: Some(Will { qos: QoS::ExactlyOnce, ..will }), ..CONNECT }.encode(&mut bytes).unwrap();
    let error = Greeting::new(Limits::default(), 0).next(&mut bytes.as_slice(), &mut Vec::new()).unwrap_err();
    assert_eq!(error, ProtocolError::ExactlyOnce);
}

#[test]
fn a_server_must_not_say() {
    for (packet, error) in [
        ("c000", client::ProtocolError::Unexpected(PacketType::PingReq)),
        ("20020000", client::ProtocolError::Unexpected(PacketType::ConnAck)),
        ("3405000161 0001", client::ProtocolError::ExactlyOnce),
        ("0000", client::ProtocolError::Decode(DecodeError::ReservedType(0))),
    ] {
        let mut client = Pair::new(&CONNECT, Limits::default()).client;
        assert_eq!(client.next(&mut hex(packet).as_slice()), Err(error), "{packet}");
    }
    let connecting = Connecting::start(&CONNECT, client::Limits::default(), 0, &mut Vec::new()).unwrap();
    let error = connecting.next(&mut hex("d000").as_slice(), 0).unwrap_err();
    assert_eq!(error, client::ProtocolError::Unexpected(PacketType::PingResp));
}

#[test]
fn a_client_takes_its_leave() {
    let mut out = Vec::new();
    Pair::new(&CONNECT, Limits::default()).client.disconnect(&mut out);
    assert_eq!(out, hex("e000"));
}

#[test]
fn outcomes_are_written_as_read() {
    let mut out = Vec::new();
    let outcomes = [Granted(QoS::AtMostOnce), Granted(QoS::AtLeastOnce), SubscribeOutcome::Refused];
    server_session().sub_ack(NonZeroU16::new(10).unwrap(), &outcomes, &mut out).unwrap();
    assert_eq!(out, hex("9005000a000180"));
}

#[derive(Clone, Debug)]
enum Step {
    ClientPublishes,
    ServerPublishes,
    ServerAcks(prop::sample::Index),
    ServerReads(usize),
    ClientReads(usize),
    Subscribe,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::ClientPublishes),
        3 => Just(Step::ServerPublishes),
        4 => any::<prop::sample::Index>().prop_map(Step::ServerAcks),
        4 => (1..60_usize).prop_map(Step::ServerReads),
        4 => (1..60_usize).prop_map(Step::ClientReads),
        1 => Just(Step::Subscribe),
        2 => (1..40_000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// However bytes are cut up and operations overtake each other: everything arrives once, in order, and is
    /// acknowledged in order; and nothing is left behind.
    #[test]
    fn a_connection_keeps_its_order(steps in prop::collection::vec(step(), 1..200)) {
        let limits = Limits { max_unacked: 6, max_in_flight: 5, ..Limits::default() };
        let mut pair = Pair::new(&CONNECT, limits);
        let (mut sent_up, mut sent_down) = (Vec::new(), Vec::new());
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::ClientPublishes => {
                    let id = pair.client_publish("up", n.to_string().as_bytes());
                    sent_up.push((n, id));
                }
                Step::ServerPublishes => {
                    let payload = n.to_string();
                    let sent = pair.server.publish_acked("down", payload.as_bytes(), Attempt::First, &mut pair.to_client);
                    match sent {
                        Ok(id) => sent_down.push((n, id)),
                        Err(error) => {
                            prop_assert_eq!(error, SendError::TooManyInFlight(5));
                            prop_assert_eq!(pair.server.in_flight(), 5);
                        }
                    }
                }
                Step::ServerAcks(index) if !pair.tickets.is_empty() => {
                    pair.server_ack(index.index(pair.tickets.len()));
                }
                Step::ServerAcks(_) => {}
                Step::ServerReads(bytes) => pair.run_server(bytes).unwrap(),
                Step::ClientReads(bytes) => pair.run_client(bytes).unwrap(),
                Step::Subscribe => drop(pair.client.subscribe(&[("a/#", QoS::AtLeastOnce)], &mut pair.to_server)),
                Step::Wait(ms) => pair.now += ms,
            }
        }
        while !pair.to_server.is_empty() || !pair.to_client.is_empty() || !pair.tickets.is_empty() {
            while !pair.tickets.is_empty() {
                pair.server_ack(pair.tickets.len() - 1);
            }
            pair.run_server(usize::MAX).unwrap();
            pair.run_client(usize::MAX).unwrap();
        }
        let of = |heard: &[String], word: &str| -> Vec<String> {
            heard.iter().filter(|line| line.starts_with(word)).cloned().collect()
        };
        let up: Vec<_> = sent_up.iter().map(|(n, _)| format!("publish up \"{n}\" q1")).collect();
        let down: Vec<_> = sent_down.iter().map(|(n, _)| format!("message down \"{n}\"")).collect();
        prop_assert_eq!(of(&pair.server_heard, "publish"), up);
        prop_assert_eq!(of(&pair.client_heard, "message"), down);
        let acked = |sent: &[(usize, NonZeroU16)]| sent.iter().map(|(_, id)| format!("acked {id}")).collect::<Vec<_>>();
        prop_assert_eq!(of(&pair.client_heard, "acked"), acked(&sent_up));
        prop_assert_eq!(of(&pair.server_heard, "acked"), acked(&sent_down));
        prop_assert_eq!((pair.server.in_flight(), pair.client.in_flight()), (0, 0));
    }
}
