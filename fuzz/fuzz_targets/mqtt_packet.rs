//! The MQTT codec: no bytes are worth a panic, and whatever is accepted is written exactly as it was read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_wire::mqtt::packet::{decode, length, Packet};

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some((packet, size))) = decode(rest, 4096) {
        assert!(size <= 4096);
        assert_eq!(length(rest, 4096), Ok(Some(size)));
        assert_eq!(decode(&rest[..size - 1], 4096), Ok(None), "a byte short");
        let mut again = Vec::new();
        packet.encode(&mut again).expect("what fits in 4096 bytes can be expressed");
        assert_eq!(again, &rest[..size]);
        match packet {
            Packet::Subscribe(request) => assert_eq!(request.filters().count(), request.len()),
            Packet::Unsubscribe(request) => assert_eq!(request.filters().count(), request.len()),
            _ => {}
        }
        rest = &rest[size..];
    }
});
