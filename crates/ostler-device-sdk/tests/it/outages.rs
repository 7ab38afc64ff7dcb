//! What streams, flushes and statuses do when the line goes.

use ostler_device_sdk::{Cause, ConnectionStatus, Protocol};

use crate::support::{soon, until, Line, TestHub};

#[tokio::test]
async fn every_change_of_the_status_is_told() {
    let hub = TestHub::start().await;
    let line = Line::to(hub.running.addresses().https).await;
    let client =
        hub.builder("pump-7").protocol(Protocol::MqttWebSocket).https_port(line.port()).build().unwrap();
    let mut changes = client.status_changes();
    soon(client.send("x")).await.unwrap();
    line.cut();
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(soon(changes.next()).await.unwrap());
    }
    assert!(
        matches!(
            seen.as_slice(),
            [
                ConnectionStatus::Connecting { attempt: 1 },
                ConnectionStatus::Connected,
                ConnectionStatus::Disconnected { cause: Cause::Closed, next_attempt: Some(_) },
                ConnectionStatus::Connecting { attempt: 2 },
                ConnectionStatus::Connected,
            ]
        ),
        "{seen:?}"
    );
}

#[tokio::test]
async fn another_client_with_the_same_id_is_told_apart_from_nothing() {
    let hub = TestHub::start().await;
    let first = hub.client("pump-7");
    soon(first.connect()).await.unwrap();
    let mut changes = first.status_changes();
    let second = hub.client("pump-7");
    soon(second.connect()).await.unwrap();
    let gone = until(&mut changes, |status| !status.is_connected()).await;
    assert!(matches!(gone, ConnectionStatus::Disconnected { cause: Cause::Closed, .. }), "{gone:?}");
}

#[tokio::test]
async fn a_device_that_is_disabled_comes_back_once_it_is_enabled() {
    let hub = TestHub::start().await;
    let client = hub.client("off");
    let mut changes = client.status_changes();
    let sending = client.send("at last");
    until(&mut changes, |status| {
        matches!(status, ConnectionStatus::Disconnected { cause: Cause::NotAuthorized, .. })
    })
    .await;
    hub.enable("off").await;
    soon(sending).await.unwrap();
}

#[test]
fn clients_and_their_streams_go_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<ostler_device_sdk::Client>();
    check::<ostler_device_sdk::StatusStream>();
    check::<ostler_device_sdk::DesiredStream>();
    check::<ostler_device_sdk::MessageStream>();
    check::<ostler_device_sdk::Delivery>();
    check::<ostler_device_sdk::Sending>();
}
