//! Twin requests and notifications over MQTT (device §4).

use crate::support::{Seen, TestHub};

const RES: &str = "$iothub/twin/res/#";

#[tokio::test]
async fn get_and_patch_answer_on_the_exact_topics() {
    let hub = TestHub::start().await;
    hub.patch_desired("pump-7", r#"{"interval": 30.0}"#).await;
    let mut device = hub.device("pump-7").await;
    device.subscribe(&[RES]).await;
    device.publish_once("$iothub/twin/GET/?$rid=17", b" ").await;
    let (topic, body) = device.next().await.message();
    assert_eq!(topic, "$iothub/twin/res/200/?$rid=17");
    assert_eq!(body, r#"{"desired":{"interval":30.0,"$version":2},"reported":{"$version":1}}"#);

    let id = device
        .publish("$iothub/twin/PATCH/properties/reported/?$rid=18", br#"{"fw": "2.2", "x": null}"#)
        .await;
    assert_eq!(device.next().await, Seen::Acked(id.get()));
    let (topic, body) = device.next().await.message();
    assert_eq!((topic.as_str(), body.as_str()), ("$iothub/twin/res/204/?$rid=18&$version=2", ""));
    assert_eq!(hub.reported("pump-7").await, r#"{"fw":"2.2","$version":2}"#);
}

#[tokio::test]
async fn changes_apply_in_the_order_sent() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    device.subscribe(&[RES]).await;
    for n in 1..=50 {
        let topic = format!("$iothub/twin/PATCH/properties/reported/?$rid={n}");
        device.publish(&topic, format!(r#"{{"n": {n}}}"#).as_bytes()).await;
    }
    let (mut acked, mut answered) = (0, 0);
    while answered < 50 {
        match device.next().await {
            Seen::Acked(_) => acked += 1,
            seen => {
                answered += 1;
                let version = answered + 1;
                assert_eq!(
                    seen.message().0,
                    format!("$iothub/twin/res/204/?$rid={answered}&$version={version}")
                );
            }
        }
        assert!(acked >= answered);
    }
    assert_eq!(hub.reported("pump-7").await, r#"{"n":50,"$version":51}"#);
}

#[tokio::test]
async fn errors_carry_code_and_message_and_come_late() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    device.subscribe(&[RES]).await;
    let sent = std::time::Instant::now();
    let patch = "$iothub/twin/PATCH/properties/reported/?$rid=";
    device.publish_once(&format!("{patch}1"), b"{").await;
    device.publish_once(&format!("{patch}2"), br#"{"a b": 1}"#).await;
    device.publish_once(&format!("{patch}3&$version=9"), br#"{"a": 1}"#).await;
    for (rid, status, code) in [(1, 400, "400012"), (2, 400, "400004"), (3, 412, "412")] {
        let (topic, body) = device.next().await.message();
        assert_eq!(topic, format!("$iothub/twin/res/{status}/?$rid={rid}"));
        assert!(body.starts_with(&format!(r#"{{"errorCode":{code}"#)), "{body}");
        assert!(body.contains(r#""message":""#) && body.contains(r#""timestampUtc":""#), "{body}");
    }
    assert!(sent.elapsed() >= std::time::Duration::from_secs(1));
    assert_eq!(hub.reported("pump-7").await, r#"{"$version":1}"#);
}

#[tokio::test]
async fn without_a_subscription_a_change_is_made_and_not_answered() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    let id = device.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", br#"{"a": 1}"#).await;
    assert_eq!(device.next().await, Seen::Acked(id.get()));
    let id = device.publish("devices/pump-7/messages/events/", b"").await;
    assert_eq!(device.next().await, Seen::Acked(id.get()), "nothing came between");
    assert_eq!(hub.reported("pump-7").await, r#"{"a":1,"$version":2}"#);
}

#[tokio::test]
async fn desired_changes_are_told_with_their_version_in_the_body() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    device.subscribe(&["$iothub/twin/PATCH/properties/desired/#"]).await;
    hub.patch_desired("pump-7", r#"{"interval": null, "mode": {"eco": true}}"#).await;
    let (topic, body) = device.next().await.message();
    assert_eq!(topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
    assert_eq!(body, r#"{"interval":null,"mode":{"eco":true},"$version":2}"#);
}
