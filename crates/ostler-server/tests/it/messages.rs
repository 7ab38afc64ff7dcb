//! Telemetry and wills (device §2.7, §2.8, §3).

use ostler_hub::events::{EventKind, Telemetry};

use crate::support::{Client, Hello, Seen, TestHub};

fn telemetry(kind: EventKind) -> Telemetry {
    match kind {
        EventKind::Telemetry(telemetry) => telemetry,
        other => panic!("no telemetry but {other:?}"),
    }
}

#[tokio::test]
async fn a_message_is_acknowledged_and_shown_to_who_watches() {
    let hub = TestHub::start().await;
    let mut events = hub.hub().events().subscribe();
    let mut device = hub.device("pump-7").await;
    let topic = "devices/pump-7/messages/events/%24.mid=id%201&k%20e=v%26/";
    let id = device.publish(topic, b"body").await;
    assert_eq!(device.next().await, Seen::Acked(id.get()));
    let seen = telemetry(hub.event(&mut events, "telemetry").await);
    assert_eq!(seen.system, [("message-id".to_owned(), Some("id 1".to_owned()))]);
    assert_eq!(seen.application, [("k e".to_owned(), Some("v&".to_owned()))]);
    assert_eq!(seen.body, b"body");
    for topic in ["devices/pump-7/messages/events", "devices/pump-7/messages/events/?a=b"] {
        let id = device.publish(topic, b"").await;
        assert_eq!(device.next().await, Seen::Acked(id.get()), "{topic}");
    }
}

#[tokio::test]
async fn a_burst_is_acknowledged_in_order() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    let mut sent = Vec::new();
    for n in 0..200_u32 {
        sent.push(
            device.publish("devices/pump-7/messages/events/", &n.to_be_bytes().repeat(100)).await.get(),
        );
    }
    for id in sent {
        assert_eq!(device.next().await, Seen::Acked(id));
    }
}

#[tokio::test]
async fn the_largest_message_goes_through_and_a_larger_one_closes() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    let id = device.publish("devices/pump-7/messages/events/", &vec![0; 262_144]).await;
    assert_eq!(device.next().await, Seen::Acked(id.get()));
    device.publish("devices/pump-7/messages/events/", &vec![0; 262_145]).await;
    assert_eq!(device.next().await, Seen::Closed);
}

#[tokio::test]
async fn the_will_is_published_unless_the_device_said_goodbye() {
    let hub = TestHub::start().await;
    let mut events = hub.hub().events().subscribe();
    let hello = || Hello {
        will: Some(("devices/pump-7/messages/events/k=v".into(), b"gone".to_vec())),
        ..Hello::new("pump-7")
    };
    let device = Client::connect(hub.tcp().await, &hello()).await.unwrap();
    device.disconnect().await;
    let mut device = Client::connect(hub.tcp().await, &hello()).await.unwrap();
    device.publish("devices/pump-7/messages/events/", b"first").await;
    assert!(matches!(device.next().await, Seen::Acked(_)));
    device.drop_silently();
    assert_eq!(telemetry(hub.event(&mut events, "telemetry").await).body, b"first", "no will before it");
    let will = telemetry(hub.event(&mut events, "telemetry").await);
    assert_eq!(will.body, b"gone");
    let property =
        |name: &str| will.application.iter().find(|(key, _)| key == name).and_then(|(_, v)| v.as_deref());
    assert_eq!((property("k"), property("iothub-MessageType")), (Some("v"), Some("Will")));
}

#[tokio::test]
async fn a_client_that_sends_too_fast_is_slowed_not_closed() {
    let hub = TestHub::with(&[("mqtt-packet-rate", "50")]).await;
    let mut device = hub.device("pump-7").await;
    let start = std::time::Instant::now();
    for _ in 0..75 {
        device.publish("devices/pump-7/messages/events/", b"x").await;
    }
    for _ in 0..75 {
        assert!(matches!(device.next().await, Seen::Acked(_)));
    }
    assert!(start.elapsed() >= std::time::Duration::from_millis(300), "{:?}", start.elapsed());
    assert!(hub.running.app().doors().mqtt_throttled > 0);
}
