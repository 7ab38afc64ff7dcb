//! Messages from the cloud: taken, shared, acknowledged late, and seen again after a cut.

use std::time::Duration;

use ostler_core::id::DeviceId;
use ostler_core::message::{Feedback, Message, Outcome};

use crate::support::{soon, until, Line, TestHub};

async fn send(hub: &TestHub, message: Message) {
    hub.hub().send_message(&DeviceId::new("pump-7").unwrap(), message).await.unwrap();
}

fn text(text: &str) -> Message {
    Message { body: text.as_bytes().into(), ..Message::default() }
}

/// Waits until the hub keeps this many.
async fn until_queued(hub: &TestHub, count: usize) {
    let reached = async {
        while hub.hub().queued_messages() != count {
            tokio::task::yield_now().await;
        }
    };
    soon(reached).await;
}

#[tokio::test]
async fn a_message_is_acknowledged_when_it_is_taken() {
    let hub = TestHub::start().await;
    let client = hub.client("pump-7");
    let mut messages = client.messages();
    let message = Message {
        message_id: Some("6f1c".into()),
        content_type: Some("text/plain".into()),
        feedback: Feedback::Full,
        properties: vec![("colour".into(), Some("röt &".into()))],
        ..text("paint")
    };
    send(&hub, message).await;
    let seen = soon(messages.next()).await.unwrap();
    assert_eq!((seen.text(), seen.property("colour")), (Ok("paint"), Some("röt &")));
    assert_eq!(
        (seen.message_id.as_deref(), seen.content_type.as_deref()),
        (Some("6f1c"), Some("text/plain"))
    );
    assert!(!seen.repeated);
    until_queued(&hub, 0).await;
    let told = hub.hub().take_feedback().unwrap().unwrap();
    assert_eq!((&*told.records[0].message_id, told.records[0].outcome), ("6f1c", Outcome::Success));
}

#[tokio::test]
async fn streams_share_what_comes_and_the_queue_drains_in_order() {
    let hub = TestHub::start().await;
    for n in 0..40 {
        send(&hub, text(&n.to_string())).await;
    }
    let client = hub.client("pump-7");
    let (mut one, mut other) = (client.messages(), client.messages());
    for n in 0..40 {
        let stream = if n % 2 == 0 { &mut one } else { &mut other };
        assert_eq!(soon(stream.next()).await.unwrap().text(), Ok(n.to_string().as_str()));
    }
    until_queued(&hub, 0).await;
    soon(client.close(Duration::from_secs(5))).await;
    assert_eq!(soon(one.next()).await, None);
}

#[tokio::test]
async fn what_is_not_completed_comes_again_after_a_cut() {
    let hub = TestHub::start().await;
    let line = Line::to(hub.running.addresses().mqtt).await;
    let client = hub.builder("pump-7").mqtt_port(line.port()).build().unwrap();
    let mut changes = client.status_changes();
    let mut deliveries = client.messages().manual();
    send(&hub, text("first")).await;
    send(&hub, text("second")).await;
    let first = soon(deliveries.next()).await.unwrap();
    let late = soon(deliveries.next()).await.unwrap();
    first.complete();
    until_queued(&hub, 1).await;
    line.cut();
    until(&mut changes, |status| !status.is_connected()).await;
    let again = soon(deliveries.next()).await.unwrap();
    assert_eq!((again.message.text(), again.message.repeated), (Ok("second"), true));
    late.complete();
    again.complete();
    until_queued(&hub, 0).await;
}
