//! Both ends of an MQTT connection against a peer that may say anything, in pieces of any size.
//!
//! The first two bytes choose the length of the pieces and how many messages wait for their acknowledgement;
//! the rest is what the peer sends after a proper introduction, or instead of one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_wire::mqtt::packet::{decode, Connect, Packet, SubscribeOutcome};
use ostler_wire::mqtt::{client, server, Attempt, Ticket};

const CONNECT: Connect<'static> =
    Connect { client_id: "pump-7", clean_session: false, keep_alive_secs: 60, will: None, login: None };

fuzz_target!(|data: &[u8]| {
    let &[piece, held, ref stream @ ..] = data else { return };
    let piece = usize::from(piece).max(1);
    // Introduced by itself, or already let in.
    let mut introduced = Vec::new();
    CONNECT.encode(&mut introduced).expect("a short packet");
    introduced.extend_from_slice(stream);
    for stream in [stream, &introduced] {
        let whole = serve(stream, usize::MAX, 0);
        assert_eq!(serve(stream, piece, 0), whole, "in pieces of {piece}");
        serve(stream, piece, usize::from(held % 8));
    }
    let mut accepted = vec![0x20, 2, 0, 0];
    accepted.extend_from_slice(stream);
    for stream in [stream, &accepted] {
        assert_eq!(call(stream, piece), call(stream, usize::MAX), "in pieces of {piece}");
    }
});

/// What a server makes of the stream: events in words, and its answers. It lets up to `held` messages wait
/// and then acknowledges the latest first.
fn serve(stream: &[u8], piece: usize, held: usize) -> (Vec<String>, Vec<u8>) {
    let limits =
        server::Limits { max_packet: 1024, max_unacked: 4, max_in_flight: 4, ..server::Limits::default() };
    let greeting = server::Greeting::new(limits, 0);
    let (mut heard, mut out, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
    let mut session: Option<server::Session> = None;
    let mut tickets = Vec::new();
    let mut published = Vec::new();
    for part in stream.chunks(piece) {
        buffer.extend_from_slice(part);
        let mut input = buffer.as_slice();
        if session.is_none() {
            match greeting.next(&mut input, &mut out) {
                Err(error) => {
                    heard.push(error.to_string());
                    return (heard, out);
                }
                Ok(None) => {}
                Ok(Some(caller)) => {
                    heard.push(format!("{:?}", caller.connect));
                    let mut accepted = caller.accept(true, 0, &mut out);
                    accepted.publish_acked("t", b"x", Attempt::First, &mut out).expect("nothing in flight");
                    session = Some(accepted);
                }
            }
        }
        if let Some(session) = &mut session {
            loop {
                match session.next(&mut input, 1, &mut out) {
                    Err(error) => {
                        heard.push(error.to_string());
                        return (heard, out);
                    }
                    Ok(None) if session.is_paused() => settle(session, &mut tickets, 0, &mut out),
                    Ok(None) => break,
                    Ok(Some(event)) => {
                        heard.push(format!("{event:?}").replace(|c: char| c.is_ascii_digit(), "0"));
                        handle(session, event, &mut tickets, &mut published, &mut out);
                        settle(session, &mut tickets, held, &mut out);
                    }
                }
            }
        }
        let read = buffer.len() - input.len();
        buffer.drain(..read);
    }
    if let Some(session) = &mut session {
        settle(session, &mut tickets, 0, &mut out);
        assert_eq!(acknowledged(&out), published, "in the order of the messages");
    }
    (heard, out)
}

fn handle(
    session: &mut server::Session,
    event: server::Event<'_>,
    tickets: &mut Vec<Ticket>,
    published: &mut Vec<String>,
    out: &mut Vec<u8>,
) {
    match event {
        server::Event::Publish(message) => {
            assert!(!message.topic.is_empty() && !message.topic.contains(['+', '#', '\0']));
            if let Some(ticket) = message.ticket {
                published.push(format!("{ticket:?}"));
                tickets.push(ticket);
            }
        }
        server::Event::Subscribe(request) => {
            let outcomes = vec![SubscribeOutcome::Refused; request.len()];
            session.sub_ack(request.id, &outcomes, out).expect("at most 128 codes");
        }
        server::Event::Unsubscribe(request) => session.unsub_ack(request.id, out),
        server::Event::Acked(_) | server::Event::Disconnect => {}
    }
}

fn settle(session: &mut server::Session, tickets: &mut Vec<Ticket>, held: usize, out: &mut Vec<u8>) {
    if tickets.len() > held {
        for ticket in tickets.drain(..).rev() {
            session.ack(ticket, out);
        }
    }
}

/// The tickets that the server's PUBACKs stand for, in words.
fn acknowledged(mut out: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((packet, length)) = decode(out, usize::MAX).expect("the server writes packets") {
        if let Packet::PubAck(id) = packet {
            found.push(format!("Ticket {{ number: {}, id: {id} }}", found.len()));
        }
        out = &out[length..];
    }
    assert!(out.is_empty());
    found
}

/// What a client makes of the stream.
fn call(stream: &[u8], piece: usize) -> (Vec<String>, Vec<u8>) {
    let limits = client::Limits { max_packet: 1024, ..client::Limits::default() };
    let connecting = client::Connecting::start(&CONNECT, limits, 0, &mut Vec::new()).expect("a short packet");
    let (mut heard, mut out, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
    let mut session: Option<client::Session> = None;
    for part in stream.chunks(piece) {
        buffer.extend_from_slice(part);
        let mut input = buffer.as_slice();
        if session.is_none() {
            match connecting.next(&mut input, 0) {
                Ok(None) => {}
                Ok(Some(client::Answer::Accepted { session: mut accepted, .. })) => {
                    accepted.publish_acked("t", b"x", Attempt::First, &mut out).expect("nothing in flight");
                    accepted
                        .subscribe(&[("a/#", ostler_wire::mqtt::packet::QoS::AtLeastOnce)], &mut out)
                        .expect("short");
                    session = Some(accepted);
                }
                other => {
                    heard.push(format!("{other:?}"));
                    return (heard, out);
                }
            }
        }
        if let Some(session) = &mut session {
            loop {
                match session.next(&mut input) {
                    Err(error) => {
                        heard.push(error.to_string());
                        return (heard, out);
                    }
                    Ok(None) => break,
                    Ok(Some(event)) => {
                        heard.push(format!("{event:?}"));
                        if let client::Event::Message(message) = event {
                            message.ticket.into_iter().for_each(|ticket| session.ack(ticket, &mut out));
                        }
                    }
                }
            }
        }
        let read = buffer.len() - input.len();
        buffer.drain(..read);
    }
    (heard, out)
}
