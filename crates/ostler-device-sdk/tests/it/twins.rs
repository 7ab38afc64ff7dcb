//! Twins: reading, reporting, and what the back end desires, through cuts and restarts.

use std::time::Duration;

use ostler_device_sdk::{ConnectionStatus, DesiredUpdate, TwinError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{soon, until, Line, TestHub};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wishes {
    interval: Option<u32>,
}

#[tokio::test]
async fn a_twin_is_read_and_reported_to() {
    let hub = TestHub::start().await;
    hub.patch_desired("pump-7", r#"{"interval": 5}"#).await;
    let client = hub.client("pump-7");
    let first = soon(client.report(&json!({"fw": "2.1", "old": 1}))).await.unwrap();
    let second = soon(client.report_json(r#"{"old":null,"exact":1.50}"#)).await.unwrap();
    assert_eq!(second.version, first.version.map(|version| version + 1));
    assert_eq!(hub.reported("pump-7").await, r#"{"fw":"2.1","exact":1.50}"#);
    let twin = soon(client.twin()).await.unwrap();
    assert_eq!(twin.desired().to::<Wishes>().unwrap(), Wishes { interval: Some(5) });
    assert_eq!(twin.reported().version(), second.version.unwrap());
    let text = soon(client.twin_json()).await.unwrap();
    assert!(text.contains(r#""exact":1.50"#), "{text}");
    assert_eq!(text, twin.as_json());
}

#[tokio::test]
async fn what_the_hub_refuses_is_told_in_its_words() {
    let hub = TestHub::start().await;
    let client = hub.client("pump-7");
    let error = soon(client.report(&json!({"a.b": 1}))).await.unwrap_err();
    let TwinError::Refused { status: 400, message, .. } = &error else { panic!("{error:?}") };
    assert!(message.contains("a.b"), "{message}");
    for bad in ["", "[1]", "{"] {
        let error = soon(client.report_json(bad)).await.unwrap_err();
        assert!(matches!(error, TwinError::NotAnObject(_)), "{bad}: {error:?}");
    }
    let error = soon(client.report_json(format!(r#"{{"a":"{}"}}"#, "x".repeat(300_000)))).await.unwrap_err();
    assert!(matches!(error, TwinError::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn desired_properties_come_whole_and_then_as_changes() {
    let hub = TestHub::start().await;
    hub.patch_desired("pump-7", r#"{"interval": 5}"#).await;
    let client = hub.client("pump-7");
    let mut updates = client.desired();
    let whole = soon(updates.next()).await.unwrap();
    assert!(matches!(&whole, DesiredUpdate::Whole(_)));
    assert_eq!(whole.to::<Wishes>().unwrap(), Wishes { interval: Some(5) });
    hub.patch_desired("pump-7", r#"{"interval": 6}"#).await;
    let patch = soon(updates.next()).await.unwrap();
    assert_eq!(patch.version(), whole.version() + 1);
    let expected = format!(r#"{{"interval":6,"$version":{}}}"#, patch.version());
    assert_eq!(patch.as_json(), expected);
    assert_eq!(patch.to::<Wishes>().unwrap(), Wishes { interval: Some(6) });

    let mut late = client.desired();
    let whole = soon(late.next()).await.unwrap();
    assert!(matches!(&whole, DesiredUpdate::Whole(_)), "a later stream begins with all of it too");
    assert_eq!(whole.version(), patch.version());
    hub.patch_desired("pump-7", r#"{"interval": null}"#).await;
    assert_eq!(soon(updates.next()).await, soon(late.next()).await);
}

#[tokio::test]
async fn what_was_missed_during_a_cut_is_caught_up() {
    let hub = TestHub::start().await;
    let line = Line::to(hub.running.addresses().mqtt).await;
    let client = hub.builder("pump-7").mqtt_port(line.port()).build().unwrap();
    let (mut updates, mut changes) = (client.desired(), client.status_changes());
    let before = soon(updates.next()).await.unwrap().version();
    line.cut_for_good();
    until(&mut changes, |status| matches!(status, ConnectionStatus::Disconnected { .. })).await;
    hub.patch_desired("pump-7", r#"{"interval": 7}"#).await;
    hub.patch_desired("pump-7", r#"{"interval": 8}"#).await;
    line.mend(hub.running.addresses().mqtt);
    let whole = soon(updates.next()).await.unwrap();
    assert_eq!((whole.version(), matches!(whole, DesiredUpdate::Whole(_))), (before + 2, true));
    assert_eq!(whole.to::<Wishes>().unwrap(), Wishes { interval: Some(8) });

    line.cut();
    until(&mut changes, |status| matches!(status, ConnectionStatus::Disconnected { .. })).await;
    until(&mut changes, ConnectionStatus::is_connected).await;
    hub.patch_desired("pump-7", r#"{"interval": 9}"#).await;
    let next = soon(updates.next()).await.unwrap();
    assert_eq!(next.version(), before + 3, "nothing new, so nothing was repeated: {next:?}");
}

#[tokio::test]
async fn a_hub_that_starts_again_finds_its_devices_again() {
    let data = tempfile::tempdir().unwrap();
    let hub = TestHub::on(data.path()).await;
    let line = Line::to(hub.running.addresses().mqtt).await;
    let client = hub.builder("pump-7").mqtt_port(line.port()).build().unwrap();
    let mut updates = client.desired();
    let mut changes = client.status_changes();
    let before = soon(updates.next()).await.unwrap().version();
    line.cut_for_good();
    hub.running.stop().await;
    let waiting = client.report(&json!({"up": true}));
    let hub = TestHub::on(data.path()).await;
    hub.patch_desired("pump-7", r#"{"interval": 1}"#).await;
    line.mend(hub.running.addresses().mqtt);
    soon(waiting).await.unwrap();
    assert_eq!(hub.reported("pump-7").await, r#"{"up":true}"#);
    assert_eq!(soon(updates.next()).await.unwrap().version(), before + 1);
    until(&mut changes, ConnectionStatus::is_connected).await;
}

#[tokio::test]
async fn twin_operations_end_in_time_without_a_hub() {
    let hub = TestHub::start().await;
    let line = Line::to(hub.running.addresses().mqtt).await;
    line.cut_for_good();
    let builder = hub.builder("pump-7").mqtt_port(line.port());
    let client = builder.operation_timeout(Duration::from_millis(50)).build().unwrap();
    assert_eq!(soon(client.twin()).await, Err(TwinError::TimedOut));
    assert_eq!(soon(client.report(&json!({}))).await, Err(TwinError::TimedOut));
}

#[tokio::test]
async fn a_reader_that_falls_behind_gets_the_whole_twin() {
    let hub = TestHub::start().await;
    let client = hub.client("pump-7");
    let (mut slow, mut quick) = (client.desired(), client.desired());
    let mut version = soon(quick.next()).await.unwrap().version();
    for n in 0..600 {
        hub.patch_desired("pump-7", &format!(r#"{{"interval": {n}}}"#)).await;
        version += 1;
        // Until this one has come, so that the slow one had the time too.
        while soon(quick.next()).await.unwrap().version() < version {}
    }
    let (mut last, mut seen, mut wholes) = (0, 0, 0);
    while last < version {
        let update = soon(slow.next()).await.unwrap();
        assert!(update.version() >= last, "{} after {last}", update.version());
        match &update {
            DesiredUpdate::Whole(_) => wholes += 1,
            DesiredUpdate::Patch { version, .. } => {
                assert_eq!(*version, last + 1, "a gap without a whole twin")
            }
        }
        last = update.version();
        seen += 1;
    }
    assert!(seen < 600 && wholes >= 1, "{seen} updates, {wholes} whole");
}
