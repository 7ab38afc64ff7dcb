//! Messages of devices that speak HTTP (device §8.1), from the back end's request to the outcome it reads.

use super::harness::{Answer, TestHub};
use ostler_hub::events::EventKind;

const BOUND: &str = "/devices/d/messages/deviceBound";
const MESSAGE: &[(&str, &str)] = &[
    ("iothub-messageid", "m-1"),
    ("iothub-contenttype", "text/plain"),
    ("iothub-ack", "full"),
    ("ostler-properties", "colour=red&Size=1%20m"),
];

async fn send(hub: &TestHub) {
    let answer = hub.call("service", "POST /ostler/v1/devices/d/messages", MESSAGE, "hello").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

async fn receive(hub: &TestHub) -> Answer {
    hub.call("device", &format!("GET {}", BOUND.to_lowercase()), &[], "").await
}

fn lock(answer: &Answer) -> &str {
    answer.header("etag").unwrap().strip_prefix('"').unwrap().strip_suffix('"').unwrap()
}

async fn outcome(hub: &TestHub) -> String {
    let batch = hub.call("service", "GET /messages/serviceBound/feedback", &[], "").await;
    let complete = format!("DELETE /messages/serviceBound/feedback/{}", lock(&batch));
    assert_eq!(hub.call("service", &complete, &[], "").await.status, 204);
    batch.body.split("\"statusCode\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_message_is_lent_given_back_and_taken() {
    let hub = TestHub::start().await;
    hub.register("d").await;
    assert_eq!(receive(&hub).await.status, 204);
    send(&hub).await;
    let lent = receive(&hub).await;
    assert_eq!((lent.status, lent.body.as_str()), (200, "hello"));
    for (name, value) in [
        ("iothub-messageid", "m-1"),
        ("iothub-deliverycount", "0"),
        ("iothub-to", "/devices/d/messages/devicebound"),
        ("iothub-ack", "full"),
        ("contenttype", "text/plain"),
        ("iothub-app-colour", "red"),
        ("ostler-properties", "colour=red&Size=1%20m"),
    ] {
        assert_eq!(lent.header(name), Some(value), "{name}");
    }
    assert_eq!(receive(&hub).await.status, 204, "it is lent");
    let abandon = format!("POST {BOUND}/{}/abandon", lock(&lent));
    assert_eq!(hub.call("device", &abandon, &[], "").await.status, 204);
    assert_eq!(hub.call("device", &abandon, &[], "").await.status, 412);
    let again = receive(&hub).await;
    assert_eq!(again.header("iothub-deliverycount"), Some("1"));
    let complete = |answer: &Answer| format!("DELETE {BOUND}/{}", lock(answer));
    assert_eq!(hub.call("device", &complete(&lent), &[], "").await.status, 412, "that lock has ended");
    assert_eq!(hub.call("device", &complete(&again), &[], "").await.status, 204);
    assert_eq!(outcome(&hub).await, "Success");
}

#[tokio::test]
async fn a_message_is_refused() {
    let hub = TestHub::strict().await;
    hub.register("d").await;
    let device = ostler_core::id::DeviceId::new("d").unwrap();
    let message = ostler_core::message::Message {
        feedback: ostler_core::message::Feedback::Negative,
        ..Default::default()
    };
    hub.running.app().hub.send_message(&device, message).await.unwrap();
    let lent = receive(&hub).await;
    let reject = format!("DELETE {BOUND}/{}?reject", lock(&lent));
    let reject = reject.replace("?reject", "?api-version=2021-04-12&reject");
    assert_eq!(hub.call("device", &reject, &[], "").await.status, 204);
    assert_eq!(outcome(&hub).await, "Rejected");
}

#[tokio::test]
async fn telemetry_is_shown_to_who_watches() {
    let hub = TestHub::start().await;
    hub.register("d").await;
    let mut events = hub.running.app().hub.events().subscribe();
    let headers = [("iothub-app-k", "v"), ("iothub-messageid", "m")];
    let one = hub.call("device", "POST /devices/d/messages/events", &headers, "hi").await;
    assert_eq!(one.status, 204, "{}", one.body);
    let batch = [("Content-Type", "application/vnd.microsoft.iothub.json")];
    let body =
        r#"[{"body":"aGk=","properties":{"iothub-app-k":"v"}},{"body":"plain","base64Encoded":false}]"#;
    assert_eq!(hub.call("device", "POST /devices/d/messages/events", &batch, body).await.status, 204);
    assert_eq!(hub.call("device", "POST /devices/d/messages/events", &batch, "{}").await.status, 400);
    let large = "x".repeat(256 * 1024 + 1);
    assert_eq!(hub.call("device", "POST /devices/d/messages/events", &[], &large).await.status, 413);
    let mut bodies = Vec::new();
    while bodies.len() < 3 {
        if let EventKind::Telemetry(telemetry) = &events.recv().await.unwrap().kind {
            bodies.push(String::from_utf8(telemetry.body.clone()).unwrap());
        }
    }
    assert_eq!(bodies, ["hi", "hi", "plain"]);
    assert_eq!(hub.call("service", "POST /devices/d/messages/events", &[], "x").await.status, 401);
}
