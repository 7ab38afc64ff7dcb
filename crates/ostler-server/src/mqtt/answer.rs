//! What goes to the device: twin answers, method calls, desired changes.
//!
//! Invariant: topics are exactly as the SDKs parse them (device §0, rules 6 to 8).

use std::borrow::Cow;

use ostler_core::id::EntityId;
use ostler_core::json::ObjectWriter;
use ostler_core::message::Feedback;
use ostler_core::time::Timestamp;
use ostler_core::twin::DesiredChange;
use ostler_hub::messages::CloudMessage;
use ostler_hub::session::{CallId, News};
use ostler_hub::Error;
use ostler_wire::mqtt::packet::PacketId;
use ostler_wire::mqtt::server::Session;
use ostler_wire::mqtt::{Attempt, SendError};
use ostler_wire::rest::error::TrackingId;
use ostler_wire::topic::{Bag, CloudToDevice, HubMessage};
use ring::rand::{SecureRandom, SystemRandom};

use crate::error_map;

/// The answer to a twin request that succeeded.
pub(super) enum TwinAnswer {
    /// To a GET: the twin as the device sees it.
    Twin(Vec<u8>),
    /// To a PATCH: the new version of the reported properties.
    Reported(u64),
}

/// Appends the answer to a twin request (device §4.2).
pub(super) fn twin(wire: &mut Session, id: &EntityId, rid: &str, answer: &TwinAnswer, out: &mut Vec<u8>) {
    let (status, version, body) = match answer {
        TwinAnswer::Twin(text) => (200, None, text.as_slice()),
        TwinAnswer::Reported(version) => (204, Some(*version), [].as_slice()),
    };
    publish(wire, id, HubMessage::TwinResponse { status, rid, version }, body, out);
}

/// Appends the answer to a twin request that failed (device §4.3).
pub(super) fn twin_error(
    wire: &mut Session,
    id: &EntityId,
    rid: &str,
    error: &Error,
    now: Timestamp,
    out: &mut Vec<u8>,
) {
    let (code, text) = error_map::public(error);
    let body = error_body(code.number(), &text, now);
    publish(wire, id, HubMessage::TwinResponse { status: code.status(), rid, version: None }, &body, out);
}

fn error_body(number: u32, text: &str, now: Timestamp) -> Vec<u8> {
    let mut random = [0; 16];
    // Without randomness the id is zero: it only helps to find the line in a log.
    let _ = SystemRandom::new().fill(&mut random);
    let tracking = TrackingId { id: u128::from_be_bytes(random), at: now };
    let mut body = Vec::with_capacity(256);
    let mut object = ObjectWriter::new(&mut body);
    object.count("errorCode", number.into());
    object.string("trackingId", &tracking.to_string());
    object.string("message", text);
    object.time("timestampUtc", now);
    object.end();
    body
}

/// Appends what the hub has to say.
pub(super) fn news(wire: &mut Session, id: &EntityId, news: &News, out: &mut Vec<u8>) {
    match news {
        News::Call { id: call, name, payload } => {
            let rid = request_id(*call);
            let message = HubMessage::MethodRequest { method: name.as_str(), rid: &rid };
            publish(wire, id, message, payload, out);
        }
        News::DesiredChanged(change) => {
            let body = desired_body(change);
            publish(wire, id, HubMessage::DesiredChanged { version: change.version }, &body, out);
        }
        // A message is sent where its acknowledgement is waited for.
        News::Message(_) => {}
    }
}

/// Appends a message, to be acknowledged; the id under which it will be (device §3.5).
pub(super) fn message(
    wire: &mut Session,
    id: &EntityId,
    message: &CloudMessage,
    out: &mut Vec<u8>,
) -> Result<PacketId, SendError> {
    let attempt = if message.deliveries > 0 { Attempt::Again } else { Attempt::First };
    let bag = bag(id, message);
    let topic = HubMessage::CloudToDevice { bag: Bag::from_encoded(&bag) }.of(id);
    wire.publish_acked(&topic, &message.content.body, attempt, out)
}

/// Appends a message that is not acknowledged.
pub(super) fn message_once(wire: &mut Session, id: &EntityId, message: &CloudMessage, out: &mut Vec<u8>) {
    let bag = bag(id, message);
    let topic = HubMessage::CloudToDevice { bag: Bag::from_encoded(&bag) };
    publish(wire, id, topic, &message.content.body, out);
}

fn bag(id: &EntityId, message: &CloudMessage) -> String {
    let content = &message.content;
    let application: Vec<_> =
        content.properties.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
    let properties = CloudToDevice {
        message_id: content.message_id.as_deref(),
        correlation_id: content.correlation_id.as_deref(),
        user_id: content.user_id.as_deref(),
        content_type: content.content_type.as_deref(),
        content_encoding: content.content_encoding.as_deref(),
        // The hub's own time limit is nothing that the sender said.
        expiry: content.expiry,
        feedback: (content.feedback != Feedback::None).then_some(content.feedback),
        application: &application,
    };
    let mut bag = String::with_capacity(64 + content.size() - content.body.len());
    properties.print(id, &mut bag);
    bag
}

/// Some clients read the version from the body alone (device §0, rule 7).
fn desired_body(change: &DesiredChange) -> Vec<u8> {
    let mut body = Vec::with_capacity(128);
    let mut object = ObjectWriter::new(&mut body);
    for (key, value) in change.patch.iter() {
        value.write_to(object.key(key));
    }
    object.count("$version", change.version);
    object.end();
    body
}

/// The `$rid` of a method call: lower-case hex (device §6).
pub(super) fn request_id(call: CallId) -> String {
    format!("{:x}", call.0)
}

/// The call that a device answers; `None` for a text that no call ever had.
pub(super) fn parse_request_id(rid: &str) -> Option<CallId> {
    let call = CallId(u64::from_str_radix(rid, 16).ok()?);
    (request_id(call) == rid).then_some(call)
}

fn publish(wire: &mut Session, id: &EntityId, message: HubMessage<'_>, body: &[u8], out: &mut Vec<u8>) {
    if let Err(error) = wire.publish(&message.of(id), body, out) {
        // Every topic and body here is bounded far below what MQTT can express.
        tracing::error!(device = %id, %error, "a message could not be encoded");
    }
}

/// What a violation of the protocol looks like in the log.
pub(super) fn shown(topic: &str) -> Cow<'_, str> {
    match topic.char_indices().nth(80) {
        None => topic.into(),
        Some((end, _)) => format!("{}…", &topic[..end]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_core::json::Object;

    #[test]
    fn request_ids_are_lower_hex_and_come_back() {
        assert_eq!(request_id(CallId(0x1f)), "1f");
        assert_eq!(parse_request_id("1f"), Some(CallId(0x1f)));
        for strange in ["1F", "+1f", "01f", "", "x", "10000000000000000"] {
            assert_eq!(parse_request_id(strange), None, "{strange}");
        }
    }

    #[test]
    fn a_desired_change_carries_its_version_in_the_body() {
        let patch = Object::parse(br#"{"interval":null,"mode":{"eco":true}}"#).unwrap();
        let body = desired_body(&DesiredChange { patch, version: 7 });
        assert_eq!(body, br#"{"interval":null,"mode":{"eco":true},"$version":7}"#);
    }

    #[test]
    fn an_error_body_names_code_and_message() {
        let body = error_body(400_004, "too deep", Timestamp::from_unix_secs(1_893_456_000));
        let text = String::from_utf8(body).unwrap();
        assert!(text.starts_with(r#"{"errorCode":400004,"trackingId":""#), "{text}");
        assert!(
            text.ends_with(r#""message":"too deep","timestampUtc":"2030-01-01T00:00:00.0000000Z"}"#),
            "{text}"
        );
    }
}
