//! Cloud-to-device messages over MQTT (device §3.4, §3.5).

use ostler_core::id::DeviceId;
use ostler_core::message::{Feedback, Message, Outcome};
use ostler_core::time::Timestamp;
use ostler_wire::mqtt::packet::QoS;

use crate::support::{Client, Hello, Seen, TestHub};

const FILTER: &str = "devices/pump-7/messages/devicebound/#";
const TOPIC: &str = "devices/pump-7/messages/devicebound/%24.to=%2Fdevices%2Fpump-7%2Fmessages%2Fdevicebound";

async fn send(hub: &TestHub, message: Message) {
    hub.hub().send_message(&DeviceId::new("pump-7").unwrap(), message).await.unwrap();
}

fn text(text: &str) -> Message {
    Message { body: text.as_bytes().into(), ..Message::default() }
}

async fn until_queued(hub: &TestHub, count: usize) {
    while hub.hub().queued_messages() != count {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_message_arrives_as_devices_can_read_it() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    device.subscribe(&[FILTER]).await;
    let expiry = Timestamp::from_unix_secs(hub.hub().now().unix_secs() + 60);
    let message = Message {
        message_id: Some("6f1c".into()),
        correlation_id: Some("c".into()),
        user_id: Some("u".into()),
        content_type: Some("text/plain".into()),
        content_encoding: Some("utf-8".into()),
        expiry: Some(expiry),
        feedback: Feedback::Full,
        properties: vec![("colour".into(), Some("röt &".into())), ("flag".into(), None)],
        ..text("paint")
    };
    send(&hub, message).await;
    let expected = format!(
        "devices/pump-7/messages/devicebound/%24.mid=6f1c&%24.cid=c&%24.uid=u&{}&%24.ct=text%2Fplain&%24.ce=utf-8&%24.exp={}&iothub-ack=full&colour=r%C3%B6t%20%26&flag",
        &TOPIC["devices/pump-7/messages/devicebound/".len()..],
        expiry.to_string().replace(':', "%3A"),
    );
    assert_eq!(device.next().await.message(), (expected, "paint".to_owned()));
    until_queued(&hub, 0).await;
    let told = hub.hub().take_feedback().unwrap().unwrap();
    assert_eq!((&*told.records[0].message_id, told.records[0].outcome), ("6f1c", Outcome::Success));
}

#[tokio::test]
async fn what_waits_comes_right_after_the_connack_of_a_stored_session() {
    let hub = TestHub::start().await;
    let mut device = Client::connect(hub.tcp().await, &Hello::persistent("pump-7")).await.unwrap();
    device.subscribe(&[FILTER]).await;
    device.disconnect().await;
    for n in 0..50 {
        send(&hub, text(&n.to_string())).await;
    }
    let mut device = Client::connect(hub.tcp().await, &Hello::persistent("pump-7")).await.unwrap();
    assert!(device.session_present);
    for n in 0..50 {
        assert_eq!(device.next().await.message(), (TOPIC.to_owned(), n.to_string()));
    }
    until_queued(&hub, 0).await;
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_as_a_duplicate() {
    let hub = TestHub::start().await;
    for n in 0..10 {
        send(&hub, text(&n.to_string())).await;
    }
    let mut device = hub.device("pump-7").await;
    device.mute = true;
    device.subscribe(&[FILTER]).await;
    for n in 0..8 {
        assert_eq!(device.next().await.message().1, n.to_string());
    }
    // Eight are under way: a ninth would come before this answer.
    device.subscribe(&["$iothub/twin/res/#"]).await;
    assert_eq!(device.dups, [false; 8]);
    device.drop_silently();
    let mut device = hub.device("pump-7").await;
    device.subscribe(&[FILTER]).await;
    for n in 0..10 {
        assert_eq!(device.next().await.message().1, n.to_string());
    }
    assert_eq!(device.dups, [vec![true; 8], vec![false; 2]].concat());
    until_queued(&hub, 0).await;
}

#[tokio::test]
async fn without_acknowledgements_sent_is_done() {
    let hub = TestHub::start().await;
    for n in 0..20 {
        send(&hub, Message { feedback: Feedback::Positive, ..text(&n.to_string()) }).await;
    }
    let mut device = hub.device("pump-7").await;
    device.subscribe_with(&[(FILTER, QoS::AtMostOnce)]).await;
    for n in 0..20 {
        assert_eq!(device.next().await.message().1, n.to_string());
    }
    until_queued(&hub, 0).await;
    assert_eq!(hub.hub().take_feedback().unwrap().unwrap().records.len(), 20);
}

#[tokio::test]
async fn a_device_that_unsubscribed_gets_nothing_until_it_subscribes_again() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    device.subscribe(&[FILTER]).await;
    device.unsubscribe(&[FILTER]).await;
    send(&hub, text("late")).await;
    // A message would come before this answer.
    device.subscribe(&["$iothub/twin/res/#"]).await;
    device.subscribe(&[FILTER]).await;
    assert_eq!(device.next().await.message().1, "late");
}

#[tokio::test]
async fn the_largest_message_goes_through() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    device.subscribe(&[FILTER]).await;
    // Every byte of these properties becomes three in the topic.
    let value = "ü".repeat((16 * 1024 - 1) / 2);
    let properties = vec![("k".into(), Some(value.as_str().into()))];
    let body = vec![b'x'; 64 * 1024 - 1 - value.len()];
    send(&hub, Message { properties, body: body.into(), ..Message::default() }).await;
    let Seen::Message { topic, payload } = device.next().await else { panic!("no message") };
    assert_eq!(
        (topic.len(), payload.len()),
        (TOPIC.len() + 3 + value.len() * 3, 64 * 1024 - 1 - value.len())
    );
    until_queued(&hub, 0).await;
}
