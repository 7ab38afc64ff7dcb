//! Direct methods: typed, raw, panicking, missing, many at once, and over a new connection.

use std::sync::Arc;
use std::time::Duration;

use ostler_device_sdk::{ConnectionStatus, MethodAnswer, MethodError};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::{soon, until, Line, TestHub};

#[derive(Deserialize)]
struct Lock {
    door: u8,
}

async fn check(hub: &TestHub, name: &str, payload: &str, status: i32, expected: &str) {
    let answer = soon(hub.invoke("pump-7", name, payload)).await.unwrap();
    assert_eq!(answer, (status, expected.to_owned()), "{name}({payload})");
}

#[tokio::test]
async fn handlers_are_found_by_name_and_speak_types() {
    let hub = TestHub::start().await;
    let client = hub.client("pump-7");
    client.on_method("lockDoor", |lock: Lock| async move {
        if lock.door > 2 {
            return Err(MethodError::new(404, "there is no such door"));
        }
        Ok(json!({"locked": lock.door}))
    });
    client.on_method("nothing", |(): ()| async move { Ok(()) });
    client.on_method("panics", |_: serde_json::Value| async move {
        if true {
            panic!("a mistake of the handler");
        }
        Ok(())
    });
    client.on_raw_method("raw", |call| async move {
        Some(MethodAnswer { status: 202, payload: format!("[{},\"{}\"]", call.payload, call.name) })
    });
    check(&hub, "lockDoor", r#"{"door":1}"#, 200, r#"{"locked":1}"#).await;
    check(&hub, "lockDoor", r#"{"door":3}"#, 404, r#"{"message":"there is no such door"}"#).await;
    check(&hub, "nothing", "null", 200, "null").await;
    check(&hub, "panics", "1", 500, r#"{"message":"the method `panics` failed on the device"}"#).await;
    check(&hub, "raw", "1.50", 202, r#"[1.50,"raw"]"#).await;
    check(&hub, "none", "1", 404, r#"{"message":"there is no method `none` on this device"}"#).await;
    let (status, text) = soon(hub.invoke("pump-7", "lockDoor", "7")).await.unwrap();
    assert!(status == 400 && text.contains("lockDoor"), "{text}");

    client.on_any_method(|call| async move { Some(MethodAnswer { status: 201, payload: call.payload }) });
    check(&hub, "none", "[1]", 201, "[1]").await;
    client.remove_any_method();
    client.remove_method("raw");
    check(&hub, "raw", "1", 404, r#"{"message":"there is no method `raw` on this device"}"#).await;
    check(&hub, "nothing", "null", 200, "null").await;
}

#[tokio::test]
async fn handlers_run_side_by_side() {
    let hub = Arc::new(TestHub::start().await);
    let client = hub.client("pump-7");
    let gate = Arc::new(Semaphore::new(0));
    let own = gate.clone();
    client.on_method("waits", move |n: u32| {
        let gate = own.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(n)
        }
    });
    client.on_method("quick", |(): ()| async move { Ok("done") });
    let calls: Vec<_> = (0..8)
        .map(|n| {
            let hub = hub.clone();
            tokio::spawn(async move { hub.invoke("pump-7", "waits", &n.to_string()).await.unwrap() })
        })
        .collect();
    check(&hub, "quick", "null", 200, r#""done""#).await;
    gate.add_permits(8);
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(soon(call).await.unwrap(), (200, n.to_string()));
    }
}

#[tokio::test]
async fn an_answer_may_go_over_the_next_connection() {
    let hub = Arc::new(TestHub::start().await);
    let line = Line::to(hub.running.addresses().mqtt).await;
    let client = hub.builder("pump-7").mqtt_port(line.port()).build().unwrap();
    let mut changes = client.status_changes();
    let (called, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (own_called, own_gate) = (called.clone(), gate.clone());
    client.on_method("slow", move |(): ()| {
        let (called, gate) = (own_called.clone(), own_gate.clone());
        async move {
            called.add_permits(1);
            gate.acquire().await.unwrap().forget();
            Ok("at last")
        }
    });
    let own = hub.clone();
    let call = tokio::spawn(async move { own.invoke("pump-7", "slow", "null").await.unwrap() });
    soon(called.acquire()).await.unwrap().forget();
    line.cut();
    until(&mut changes, |status| matches!(status, ConnectionStatus::Disconnected { .. })).await;
    gate.add_permits(1);
    assert_eq!(soon(call).await.unwrap(), (200, r#""at last""#.to_owned()));
}

#[tokio::test]
async fn a_handler_that_holds_its_client_does_not_keep_a_closed_one() {
    let hub = TestHub::start().await;
    let client = hub.client("pump-7");
    let held = Arc::new(());
    let (own, token) = (client.clone(), held.clone());
    client.on_method("m", move |(): ()| {
        let (_client, _token) = (own.clone(), token.clone());
        async move { Ok(()) }
    });
    check(&hub, "m", "null", 200, "null").await;
    soon(client.close(Duration::from_secs(5))).await;
    assert_eq!(Arc::strong_count(&held), 1);
}
