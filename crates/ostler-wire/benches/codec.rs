//! What every message costs: codec, session and topic grammar, without sockets.

#![allow(missing_docs, clippy::unwrap_used)]

use divan::{black_box, Bencher};
use ostler_core::id::EntityId;
use ostler_wire::mqtt::packet::{decode, Connect, Delivery, Packet, PacketId, Publish};
use ostler_wire::mqtt::server::{Event, Greeting, Limits, Session};
use ostler_wire::topic::{parse_filter, Bag, DeviceRequest, HubMessage};

const SIZES: [usize; 3] = [10, 256, 4096];
const MAX: usize = 320 * 1024;
const TOPIC: &str = "devices/pump-7/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8";

fn main() {
    divan::main();
}

/// A PUBLISH of `size` bytes in all (or as short as it gets), QoS 1.
fn message(size: usize) -> Vec<u8> {
    let topic = &TOPIC[..TOPIC.len().min(size.saturating_sub(6)).max(1)];
    let mut out = Vec::new();
    let empty = Publish {
        topic,
        payload: &[],
        delivery: Delivery::AtLeastOnce { id: PacketId::MIN, dup: false },
        retain: false,
    };
    empty.encode(&mut out).unwrap();
    let payload = vec![b'x'; size.saturating_sub(out.len())];
    out.clear();
    Publish { payload: &payload, ..empty }.encode(&mut out).unwrap();
    out
}

fn session() -> Session {
    let mut out = Vec::new();
    let connect =
        Connect { client_id: "pump-7", clean_session: false, keep_alive_secs: 60, will: None, login: None };
    connect.encode(&mut out).unwrap();
    let greeting = Greeting::new(Limits::default(), 0);
    let caller = greeting.next(&mut out.as_slice(), &mut Vec::new()).unwrap().unwrap();
    caller.accept(false, 0, &mut Vec::new())
}

mod publish {
    use super::*;

    #[divan::bench(args = SIZES, sample_size = 1000)]
    fn decode_one(bencher: Bencher, size: usize) {
        let bytes = message(size);
        bencher.bench_local(|| match decode(black_box(&bytes), MAX) {
            Ok(Some((Packet::Publish(message), length))) => black_box((message, length)).1,
            _ => unreachable!("a whole PUBLISH"),
        });
    }

    #[divan::bench(args = SIZES, sample_size = 1000)]
    fn encode_one(bencher: Bencher, size: usize) {
        let bytes = message(size);
        let Ok(Some((Packet::Publish(message), _))) = decode(&bytes, MAX) else {
            unreachable!("a whole PUBLISH")
        };
        let mut out = Vec::with_capacity(2 * size + 64);
        bencher.bench_local(|| {
            out.clear();
            black_box(&message).encode(&mut out).unwrap();
            black_box(out.len())
        });
    }

    /// A reader asks again with every piece that comes: that must not cost more the longer the packet is.
    #[divan::bench(sample_size = 1000)]
    fn look_at_incomplete(bencher: Bencher) {
        let bytes = message(300_000);
        let part = &bytes[..bytes.len() - 1];
        bencher.bench_local(|| decode(black_box(part), MAX).unwrap().is_none());
    }

    /// In: packet to request. Out: its PUBACK.
    #[divan::bench(args = SIZES, sample_size = 1000)]
    fn receive_and_ack(bencher: Bencher, size: usize) {
        let bytes = message(size);
        let mut session = session();
        let mut out = Vec::with_capacity(64);
        bencher.bench_local(|| {
            out.clear();
            let mut input = black_box(bytes.as_slice());
            let Ok(Some(Event::Publish(message))) = session.next(&mut input, 1, &mut out) else {
                unreachable!("a whole PUBLISH")
            };
            session.ack(message.ticket.unwrap(), &mut out);
            black_box(out.len())
        });
    }
}

mod topics {
    use super::*;

    const REQUESTS: [&str; 4] = [
        TOPIC,
        "$iothub/twin/GET/?$rid=b3ee2f06-3bd4-4b6b-a89c-6e1d7ef9ffc4",
        "$iothub/twin/PATCH/properties/reported/?$rid=17",
        "$iothub/methods/res/200/?$rid=1f",
    ];

    #[divan::bench(args = REQUESTS, sample_size = 1000)]
    fn parse(bencher: Bencher, topic: &str) {
        let entity = EntityId::parse("pump-7").unwrap();
        bencher.bench_local(|| DeviceRequest::parse(black_box(topic), &entity).unwrap());
    }

    #[divan::bench(sample_size = 1000)]
    fn method_request(bencher: Bencher) {
        let (entity, mut session) = (EntityId::parse("pump-7").unwrap(), session());
        let mut out = Vec::with_capacity(512);
        let payload = [b'x'; 64];
        bencher.bench_local(|| {
            out.clear();
            let message = black_box(HubMessage::MethodRequest { method: "reboot", rid: "1f" });
            session.publish(&message.of(&entity), &payload, &mut out).unwrap();
            black_box(out.len())
        });
    }

    #[divan::bench(sample_size = 1000)]
    fn twin_response(bencher: Bencher) {
        let (entity, mut session) = (EntityId::parse("pump-7").unwrap(), session());
        let mut out = Vec::with_capacity(2048);
        let payload = [b'x'; 900];
        bencher.bench_local(|| {
            out.clear();
            let message = black_box(HubMessage::TwinResponse { status: 204, rid: "17", version: Some(23) });
            session.publish(&message.of(&entity), &payload, &mut out).unwrap();
            black_box(out.len())
        });
    }

    #[divan::bench(sample_size = 1000)]
    fn properties(bencher: Bencher) {
        let bag =
            Bag::from_encoded("%24.mid=id%201&%24.ct=application%2Fjson&%24.ce=utf-8&colour=red&k%20e=v");
        bencher.bench_local(|| black_box(bag).iter().count());
    }

    #[divan::bench(sample_size = 1000)]
    fn subscription(bencher: Bencher) {
        let entity = EntityId::parse("pump-7").unwrap();
        bencher.bench_local(|| parse_filter(black_box("devices/pump-7/messages/devicebound/#"), &entity));
    }
}
