//! Direct methods over MQTT (device §6).

use crate::support::{Client, Hello, Seen, TestHub};
use ostler_hub::Error;

const METHODS: &str = "$iothub/methods/POST/#";

fn request(seen: Seen) -> (String, String, String) {
    let (topic, payload) = seen.message();
    let rest = topic.strip_prefix("$iothub/methods/POST/").unwrap();
    let (name, rid) = rest.split_once("/?$rid=").unwrap();
    (name.to_owned(), rid.to_owned(), payload)
}

#[tokio::test]
async fn a_call_goes_out_and_its_answer_comes_back() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    device.subscribe(&[METHODS]).await;
    let call = hub.invoke("pump-7", "reboot", r#"{"delay":5}"#);
    let (name, rid, payload) = request(device.next().await);
    assert_eq!((name.as_str(), payload.as_str()), ("reboot", r#"{"delay":5}"#));
    let id = device.publish(&format!("$iothub/methods/res/202/?$rid={rid}"), br#"{"accepted": 1.0}"#).await;
    assert_eq!(device.next().await, Seen::Acked(id.get()));
    let answer = call.await.unwrap().unwrap();
    assert_eq!((answer.status, &*answer.payload), (202, &br#"{"accepted": 1.0}"#[..]));
}

#[tokio::test]
async fn hundreds_in_flight_are_told_apart() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    device.subscribe(&[METHODS]).await;
    let calls: Vec<_> = (0..300).map(|n| hub.invoke("pump-7", "echo", &n.to_string())).collect();
    let mut requests = Vec::new();
    for _ in 0..300 {
        requests.push(request(device.next().await));
    }
    for (_, rid, payload) in requests.iter().rev() {
        device.publish_once(&format!("$iothub/methods/res/200/?$rid={rid}"), payload.as_bytes()).await;
    }
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(&*call.await.unwrap().unwrap().payload, n.to_string().as_bytes());
    }
}

#[tokio::test]
async fn an_answer_may_come_on_the_next_connection() {
    let hub = TestHub::start().await;
    let mut device = Client::connect(hub.tcp().await, &Hello::persistent("pump-7")).await.unwrap();
    device.subscribe(&[METHODS]).await;
    let call = hub.invoke("pump-7", "reboot", "null");
    let (_, rid, _) = request(device.next().await);
    device.drop_silently();
    let mut device = Client::connect(hub.tcp().await, &Hello::persistent("pump-7")).await.unwrap();
    device.publish_once(&format!("$iothub/methods/res/200/?$rid={rid}"), b"").await;
    assert_eq!(&*call.await.unwrap().unwrap().payload, b"null");
}

#[tokio::test]
async fn strange_answers_are_dropped_and_acknowledged() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    for rid in ["1", "ffffffffffffffff", "nonsense"] {
        let id = device.publish(&format!("$iothub/methods/res/200/?$rid={rid}"), b"{}").await;
        assert_eq!(device.next().await, Seen::Acked(id.get()));
    }
    device.subscribe(&[METHODS]).await;
    let call = hub.invoke("pump-7", "x", "null");
    let (_, rid, _) = request(device.next().await);
    device.publish_once(&format!("$iothub/methods/res/200/?$rid={rid}"), b"not json").await;
    assert!(matches!(call.await.unwrap(), Err(Error::BadDeviceAnswer(_))));
    let id = device.publish("devices/pump-7/messages/events/", b"").await;
    assert_eq!(device.next().await, Seen::Acked(id.get()), "the connection stays");
}

#[tokio::test]
async fn nobody_listening_is_an_answer() {
    let hub = TestHub::start().await;
    let _device = hub.device("pump-7").await;
    let outcome = hub.invoke("pump-7", "x", "null").await.unwrap();
    assert!(matches!(outcome, Err(Error::DeviceNotOnline { .. })), "connected but not subscribed");
}
