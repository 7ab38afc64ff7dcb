//! Messages to devices, and what became of them.

use bytes::Bytes;
use ostler_service_sdk::{Ack, CloudMessage, ErrorCode, ErrorKind, FeedbackStatus};
use serde_json::json;

use crate::support::{answer, device_id, Hub, Reply};

#[tokio::test]
async fn a_message_goes_out_as_bytes_with_headers() {
    let sent = json!({ "deviceId": "d", "messageId": "m-1", "sequenceNumber": 5, "later": 1,
        "enqueuedTimeUtc": "2030-01-02T03:04:05.0000000Z", "expiryTimeUtc": "2030-01-02T04:04:05.0000000Z" });
    let hub = Hub::start([answer(200, sent)]).await;
    let mut message = CloudMessage::new(Bytes::from_static(&[0, 255]));
    message.message_id = Some("m-1".into());
    message.content_type = Some("image/png".into());
    message.ack = Ack::Negative;
    message.properties = vec![("Colour é".into(), Some(" red&".into())), ("flag".into(), None)];
    let sent = hub.client.messages().send(&device_id("a+b"), &message).await.unwrap();
    assert_eq!((sent.sequence_number, sent.message_id.as_deref()), (5, Some("m-1")));
    assert_eq!(sent.extra["later"], 1);
    let seen = hub.seen().remove(0);
    assert!(seen.line.starts_with("POST /ostler/v1/devices/a%2Bb/messages?"), "{}", seen.line);
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("iothub-messageid", "m-1"),
        ("iothub-contenttype", "image/png"),
        ("iothub-ack", "negative"),
        ("ostler-properties", "Colour%20%C3%A9=%20red%26&flag"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert_eq!(seen.header("iothub-expiry"), None);
    assert_eq!(seen.body, [0, 255]);
}

#[tokio::test]
async fn a_message_that_may_have_arrived_is_not_sent_again() {
    let hub = Hub::start([Reply::HangUp, answer(200, json!({}))]).await;
    let outcome = hub.client.messages().send(&device_id("d"), &CloudMessage::new("x")).await;
    assert!(outcome.is_err());
    assert_eq!(hub.lines().len(), 1);
}

#[tokio::test]
async fn feedback_is_taken_completed_and_given_back() {
    let record = json!({ "originalMessageId": "m", "description": "Expired", "deviceGenerationId": "1", "deviceId": "d",
        "enqueuedTimeUtc": "2030-01-02T03:04:05.0000000Z", "statusCode": "Expired" });
    let hub = Hub::start([
        Reply::Answer(200, "etag: \"0a1b\"\r\n", json!([record]).to_string()),
        Reply::Answer(204, "", String::new()),
        Reply::Answer(204, "", String::new()),
        Reply::Answer(204, "", String::new()),
        Reply::Answer(200, "", "[]".into()),
    ])
    .await;
    let messages = hub.client.messages();
    let batch = messages.feedback().await.unwrap().unwrap();
    assert_eq!((batch.lock.as_str(), &batch.records[0].status_code), ("0a1b", &FeedbackStatus::Expired));
    messages.complete_feedback(&batch.lock).await.unwrap();
    messages.abandon_feedback(&batch.lock).await.unwrap();
    assert_eq!(messages.feedback().await.unwrap(), None);
    assert!(messages.feedback().await.is_err(), "an answer without a lock is none");
    let api = "?api-version=2021-04-12";
    assert_eq!(
        hub.lines()[..3],
        [
            format!("GET /messages/serviceBound/feedback{api}"),
            format!("DELETE /messages/serviceBound/feedback/0a1b{api}"),
            format!("POST /messages/serviceBound/feedback/0a1b/abandon{api}"),
        ]
    );
}

#[tokio::test]
async fn a_purge_counts_and_a_full_queue_has_its_code() {
    let full = json!({ "Message": "ErrorCode:DeviceMaximumQueueDepthExceeded;50 messages wait", "ExceptionMessage": "" });
    let purged = json!({ "deviceId": "d", "totalMessagesPurged": 50 });
    let hub = Hub::start([answer(403, full), answer(200, purged)]).await;
    let error = hub.client.messages().send(&device_id("d"), &CloudMessage::new("x")).await.unwrap_err();
    assert_eq!(error.fault().unwrap().code, Some(ErrorCode::DeviceMaximumQueueDepthExceeded));
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(hub.client.messages().purge(&device_id("d")).await.unwrap(), 50);
    assert!(hub.lines()[1].starts_with("DELETE /devices/d/commands?"));
}
