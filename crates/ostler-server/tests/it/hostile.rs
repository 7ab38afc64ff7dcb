//! Clients that break the rules lose their connection, and nobody else does (device §2.10).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::Client;
use crate::support::{Hello, Seen, TestHub, PATIENCE};

async fn closes(hub: &TestHub, name: &str, bytes: &[u8]) {
    let mut io = hub.tcp().await;
    let _ = io.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, io.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "{name}: stays open");
    assert!(answer.is_empty(), "{name}: {answer:?}");
}

#[tokio::test]
async fn strangers_are_closed_without_an_answer() {
    let hub = TestHub::start().await;
    closes(&hub, "HTTP", b"GET / HTTP/1.1\r\n\r\n").await;
    closes(&hub, "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc").await;
    closes(&hub, "PINGREQ first", &[0xc0, 0]).await;
    closes(&hub, "a huge CONNECT", &[0x10, 0xff, 0xff, 0xff, 0x7f]).await;
    closes(&hub, "an endless length", &[0x10, 0xff, 0xff, 0xff, 0xff, 0xff]).await;
    closes(&hub, "NUL in the client id", b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02a\x00").await;
    hub.device("pump-7").await.disconnect().await;
}

#[tokio::test]
async fn what_a_device_must_not_send() {
    let hub = TestHub::start().await;
    let qos2 = b"\x34\x07\x00\x03a/b\x00\x01";
    let connect_again = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a";
    for (name, bytes) in [
        ("QoS 2", &qos2[..]),
        ("a second CONNECT", connect_again),
        ("a reserved type", &[0xf0, 0]),
        ("CONNACK", &[0x20, 2, 0, 0]),
        ("a topic with a wildcard", b"\x30\x05\x00\x03a/#"),
        ("a packet over the limit", &[0x30, 0xff, 0xff, 0xff, 0x7f]),
        ("a filter that is no UTF-8", b"\x82\x06\x00\x01\x00\x01\xff\x00"),
    ] {
        let mut device = hub.device("pump-7").await;
        device.raw(bytes).await;
        assert_eq!(device.next().await, Seen::Closed, "{name}");
    }
    for topic in [
        "devices/off/messages/events/",
        "devices/pump-7/modules/valve/messages/events/",
        "$iothub/twin/GET/",
        "$iothub/twin/PATCH/properties/desired/?$rid=1",
        "$SYS/broker",
        "anything",
    ] {
        let mut device = hub.device("pump-7").await;
        device.publish_once(topic, b"x").await;
        assert_eq!(device.next().await, Seen::Closed, "{topic}");
    }
    assert!(hub.running.app().doors().mqtt_violations >= 13);
}

#[tokio::test]
async fn a_packet_may_come_byte_by_byte() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    let topic = b"devices/pump-7/messages/events/";
    let mut packet = vec![0x32, (2 + topic.len() + 2 + 1) as u8, 0, topic.len() as u8];
    packet.extend_from_slice(topic);
    packet.extend_from_slice(&[0, 7, b'x']);
    for byte in &packet {
        device.raw(std::slice::from_ref(byte)).await;
        tokio::task::yield_now().await;
    }
    device.raw(&[0xc0, 0]).await;
    // The client never issued packet id 7, so it drops the PUBACK; what counts is that the
    // connection is still good.
    let id = device.publish("devices/pump-7/messages/events/", b"x").await;
    assert_eq!(device.next().await, Seen::Acked(id.get()));
}

#[tokio::test]
async fn silent_strangers_do_not_keep_devices_out() {
    let hub = TestHub::with(&[("max-half-open-per-source", "50")]).await;
    let address = hub.running.addresses().mqtt;
    let mut strangers = Vec::new();
    for _ in 0..40 {
        strangers.push(TcpStream::connect(address).await.unwrap());
        strangers.push(hub.tcp().await);
    }
    // The source has its fill of half-open connections: further ones are closed at once.
    let mut answer = [0; 1];
    let mut last = strangers.pop().unwrap();
    assert_eq!(last.read(&mut answer).await.unwrap_or(0), 0);
    assert!(hub.running.app().doors().refused_source > 0);
    strangers.clear();
    while hub.running.app().doors().half_open > 0 {
        tokio::task::yield_now().await;
    }
    hub.device("pump-7").await.disconnect().await;
}

#[tokio::test]
async fn guessing_is_slowed_down_and_the_honest_get_in() {
    let hub = TestHub::with(&[("sign-in-failure-burst", "3"), ("sign-in-failure-rate", "0")]).await;
    let wrong = Hello { password: Some("x".into()), ..Hello::new("pump-7") };
    let start = std::time::Instant::now();
    for _ in 0..4 {
        assert!(Client::connect(hub.tcp().await, &wrong).await.is_err());
    }
    assert!(start.elapsed() >= std::time::Duration::from_secs(2), "the fourth waits");
    hub.device("pump-7").await.disconnect().await;
}

#[tokio::test]
async fn who_does_not_read_is_closed() {
    let hub = TestHub::with(&[("write-timeout", "1s"), ("mqtt-output-limit", "65536")]).await;
    let mut device = hub.device("pump-7").await;
    device.subscribe(&["$iothub/methods/POST/#"]).await;
    let payload = format!("\"{}\"", "x".repeat(100_000));
    let calls: Vec<_> = (0..200).map(|_| hub.invoke("pump-7", "big", &payload)).collect();
    while hub.running.app().doors().mqtt_write_timeouts == 0 {
        tokio::task::yield_now().await;
    }
    drop(device);
    drop(calls);
}
