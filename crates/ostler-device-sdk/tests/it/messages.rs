//! Telemetry: confirmation, order, bounds and deadlines; and closing.

use std::time::Duration;

use futures_util::future::join_all;
use ostler_device_sdk::{ConnectionStatus, Message, QueueLimits, SendError};

use crate::support::{soon, telemetry, until, Line, TestHub};

#[tokio::test]
async fn a_message_arrives_with_its_properties() {
    let hub = TestHub::start().await;
    let mut events = hub.events();
    let client = hub.client("pump-7");
    let message = Message::new("21.5").message_id("id 1").content_type("text/plain").property("k e", "v&");
    soon(client.send(message)).await.unwrap();
    let seen = telemetry(&mut events).await;
    let system = [("message-id", "id 1"), ("content-type", "text/plain")]
        .map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    assert_eq!(seen.system, system);
    assert_eq!(seen.application, [("k e".to_owned(), Some("v&".to_owned()))]);
    assert_eq!(seen.body, b"21.5");

    let module = hub.client("pump-7/valve");
    soon(module.send_to_output("alerts", "hot")).await.unwrap();
    let seen = telemetry(&mut events).await;
    assert_eq!(seen.system, [("iothub-outputname".to_owned(), Some("alerts".to_owned()))]);
}

#[tokio::test]
async fn many_arrive_in_order_and_are_confirmed_each() {
    let hub = TestHub::start().await;
    let mut events = hub.events();
    let client = hub.client("pump-7");
    let sent: Vec<_> = (0..500_u32).map(|n| client.send(n.to_string())).collect();
    assert_eq!(client.pending(), 500);
    for n in 0..500_u32 {
        assert_eq!(telemetry(&mut events).await.body, n.to_string().as_bytes());
    }
    assert!(soon(join_all(sent)).await.into_iter().all(|result| result.is_ok()));
    assert_eq!(client.pending(), 0);
}

#[tokio::test]
async fn what_is_sent_offline_arrives_when_the_hub_is_back_and_what_is_too_old_does_not() {
    let hub = TestHub::start().await;
    let mut events = hub.events();
    let line = Line::to(hub.running.addresses().mqtt).await;
    line.cut_for_good();
    let limits = QueueLimits { messages: 3, bytes: 1000 };
    let client = hub.builder("pump-7").mqtt_port(line.port()).queue(limits).build().unwrap();
    let first = client.send("first");
    let old = client.send(Message::new("old").timeout(Duration::from_millis(50)));
    let last = client.send("last");
    let full = soon(client.send("one too many")).await.unwrap_err();
    assert_eq!(full, SendError::QueueFull { messages: 3, bytes: 12 });
    assert_eq!(soon(old).await, Err(SendError::Expired));
    line.mend(hub.running.addresses().mqtt);
    soon(first).await.unwrap();
    soon(last).await.unwrap();
    assert_eq!(telemetry(&mut events).await.body, b"first");
    assert_eq!(telemetry(&mut events).await.body, b"last");
}

#[tokio::test]
async fn cuts_lose_nothing() {
    let hub = TestHub::start().await;
    let mut events = hub.events();
    let line = Line::to(hub.running.addresses().mqtt).await;
    let client = hub.builder("pump-7").mqtt_port(line.port()).build().unwrap();
    let mut changes = client.status_changes();
    soon(client.connect()).await.unwrap();
    let sent: Vec<_> = (0..300_u32).map(|n| client.send(n.to_string())).collect();
    let mut next = 0;
    while next < 300 {
        let body = telemetry(&mut events).await.body;
        let n: u32 = String::from_utf8(body).unwrap().parse().unwrap();
        assert!(n <= next, "{n} came before {next}");
        if n == next {
            next += 1;
            if next % 60 == 0 {
                line.cut();
                until(&mut changes, |status| matches!(status, ConnectionStatus::Disconnected { .. })).await;
                until(&mut changes, ConnectionStatus::is_connected).await;
            }
        }
    }
    assert!(soon(join_all(sent)).await.into_iter().all(|result| result.is_ok()));
}

#[tokio::test]
async fn closing_flushes_and_tells_what_it_could_not() {
    let hub = TestHub::start().await;
    let mut events = hub.events();
    let client = hub.client("pump-7");
    let sent: Vec<_> = (0..50_u32).map(|n| client.send(n.to_string())).collect();
    assert_eq!(soon(client.flush(Duration::from_secs(10))).await, 0);
    let last = client.send("last");
    let closed = soon(client.close(Duration::from_secs(10))).await;
    assert_eq!(closed.unsent, 0);
    assert!(soon(join_all(sent)).await.into_iter().all(|result| result.is_ok()));
    soon(last).await.unwrap();
    while telemetry(&mut events).await.body != b"last" {}
    assert_eq!(soon(client.send("x")).await, Err(SendError::Closed));
    assert_eq!(soon(client.status_changes().next()).await, None);

    let line = Line::to(hub.running.addresses().mqtt).await;
    line.cut_for_good();
    let client = hub.builder("pump-7").mqtt_port(line.port()).build().unwrap();
    let sent = [client.send("a"), client.send("b")];
    assert_eq!(soon(client.flush(Duration::from_millis(20))).await, 2);
    let closed = soon(client.close(Duration::from_millis(50))).await;
    assert_eq!(closed.unsent, 2);
    assert_eq!(soon(join_all(sent)).await, [Err(SendError::Closed), Err(SendError::Closed)]);
}

#[tokio::test]
async fn dropping_all_handles_sends_the_rest_and_takes_leave() {
    let hub = TestHub::start().await;
    let mut events = hub.events();
    let client = hub.client("pump-7");
    let mut changes = client.status_changes();
    let also = client.clone();
    drop(client.send("goodbye"));
    drop(client);
    drop(also);
    assert_eq!(telemetry(&mut events).await.body, b"goodbye");
    until(&mut changes, |status| status == ConnectionStatus::Closed).await;
    assert_eq!(soon(changes.next()).await, None);
}

#[tokio::test]
async fn a_client_nothing_was_asked_of_closes_at_once() {
    let hub = TestHub::start().await;
    let client = hub.client("pump-7");
    let closed = soon(client.close(Duration::from_secs(5))).await;
    assert_eq!((closed.unsent, client.status()), (0, ConnectionStatus::Closed));
}
