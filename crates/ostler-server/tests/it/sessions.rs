//! Subscriptions, sessions that outlive a connection, takeover (device §2.3, §2.5, §2.9).

use ostler_wire::mqtt::packet::QoS;
use ostler_wire::mqtt::packet::SubscribeOutcome::{Granted, Refused};

use crate::support::{Client, Hello, Seen, TestHub};

const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";
const ONE: ostler_wire::mqtt::packet::SubscribeOutcome = Granted(QoS::AtLeastOnce);

#[tokio::test]
async fn filters_are_granted_or_refused_one_by_one() {
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    let filters = [
        "devices/pump-7/messages/devicebound/#",
        "$iothub/methods/POST/#",
        "$iothub/twin/res/#",
        DESIRED,
        "#",
        "devices/off/messages/devicebound/#",
        "devices/+/messages/devicebound/#",
        "devices/pump-7/modules/valve/#",
    ];
    assert_eq!(device.subscribe(&filters).await, [ONE, ONE, ONE, ONE, Refused, Refused, Refused, Refused]);
    let mut module = hub.device("pump-7/valve").await;
    let filters =
        ["devices/pump-7/modules/valve/#", "devices/pump-7/modules/valve/inputs/#", "$iothub/twin/res/#"];
    assert_eq!(module.subscribe(&filters).await, [ONE, ONE, ONE]);
}

#[tokio::test]
async fn a_kept_session_comes_back_with_its_subscriptions() {
    let hub = TestHub::start().await;
    let hub = &hub;
    let connect = |hello: Hello| async move { Client::connect(hub.tcp().await, &hello).await.unwrap() };
    let mut first = connect(Hello::persistent("pump-7")).await;
    assert!(!first.session_present);
    first.subscribe(&[DESIRED]).await;
    first.drop_silently();

    let mut second = connect(Hello::persistent("pump-7")).await;
    assert!(second.session_present);
    hub.patch_desired("pump-7", r#"{"a": 1}"#).await;
    assert!(second.next().await.message().0.starts_with("$iothub/twin/PATCH/properties/desired/"));
    second.unsubscribe(&[DESIRED]).await;
    second.disconnect().await;

    let mut third = connect(Hello::persistent("pump-7")).await;
    assert!(third.session_present, "a session without subscriptions is still one");
    hub.patch_desired("pump-7", r#"{"a": 2}"#).await;
    third.subscribe(&["$iothub/twin/res/#"]).await;
    third.disconnect().await;

    let fourth = connect(Hello::new("pump-7")).await;
    assert!(!fourth.session_present, "a clean session forgets");
    fourth.disconnect().await;
    assert!(!connect(Hello::persistent("pump-7")).await.session_present);
}

#[tokio::test]
async fn a_kept_session_outlives_the_hub() {
    let data = tempfile::tempdir().unwrap();
    let hub = TestHub::on(data.path()).await;
    let mut device = Client::connect(hub.tcp().await, &Hello::persistent("pump-7")).await.unwrap();
    device.subscribe(&[DESIRED]).await;
    hub.running.stop().await;
    assert_eq!(device.next().await, Seen::Closed);

    let hub = TestHub::on(data.path()).await;
    let mut device = Client::connect(hub.tcp().await, &Hello::persistent("pump-7")).await.unwrap();
    assert!(device.session_present);
    hub.patch_desired("pump-7", r#"{"a": 1}"#).await;
    assert_eq!(device.next().await.message().1, r#"{"a":1,"$version":2}"#);
    hub.running.stop().await;
}

#[tokio::test]
async fn the_newer_connection_wins() {
    let hub = TestHub::start().await;
    let mut old = hub.device("pump-7").await;
    let mut module = hub.device("pump-7/valve").await;
    let mut new = hub.device("pump-7").await;
    assert_eq!(old.next().await, Seen::Closed);
    let id = new.publish("devices/pump-7/messages/events/", b"x").await;
    assert_eq!(new.next().await, Seen::Acked(id.get()));
    let id = module.publish("devices/pump-7/modules/valve/messages/events/", b"x").await;
    assert_eq!(module.next().await, Seen::Acked(id.get()), "a module is another identity");
}

#[tokio::test]
async fn a_device_that_is_deleted_is_dropped() {
    use ostler_hub::registry::{Action, Operation};
    let hub = TestHub::start().await;
    let mut device = hub.device("pump-7").await;
    let mut module = hub.device("pump-7/valve").await;
    let operation = Operation {
        id: TestHub::id("pump-7"),
        action: Action::Delete(ostler_hub::IfMatch::Any),
        identity: Default::default(),
        twin: Default::default(),
    };
    hub.hub().apply(operation).await.unwrap();
    assert_eq!(device.next().await, Seen::Closed);
    assert_eq!(module.next().await, Seen::Closed);
}
