//! Messages of devices that speak HTTP: telemetry they send, and messages they ask for (device §8.1). Each handler has
//! three moves: take the request apart, call the hub, write down what comes back.
//!
//! Invariant: the caller is the device that the path names; that was judged before.

use super::answer::{content, empty, Answer, Failure};
use super::service::Context;
use bytes::Bytes;
use http::{header, HeaderMap, HeaderName, HeaderValue, StatusCode};
use ostler_core::id::{DeviceId, EntityId};
use ostler_core::limits::TELEMETRY_BYTES;
use ostler_core::message::Outcome;
use ostler_hub::events::Telemetry;
use ostler_hub::messages::{CloudMessage, MessageLock};
use ostler_hub::Error;
use ostler_wire::rest::error::ErrorCode;
use ostler_wire::rest::message::{
    read_event, read_events, Event, BATCH_MEDIA_TYPE, PROPERTIES_HEADER, PROPERTY_PREFIX,
};
use ostler_wire::topic::print_properties;

const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// One message, or a batch of them, which is taken whole or not at all.
pub(super) fn send(context: &Context<'_>, id: &EntityId, body: &[u8]) -> Result<Answer, Failure> {
    let media_type = context.header(header::CONTENT_TYPE.as_str())?.unwrap_or_default();
    let is_batch =
        media_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(BATCH_MEDIA_TYPE));
    let events = if is_batch {
        read_events(body)?
    } else {
        let headers = context.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        vec![read_event(headers, body)?]
    };
    if events.iter().map(Event::size).sum::<usize>() > TELEMETRY_BYTES {
        let text = format!("the message has more than {TELEMETRY_BYTES} bytes with its properties");
        return Err(Failure::new(ErrorCode::MessageTooLarge, text));
    }
    for event in events {
        context.app.hub.telemetry_over_request(id, event.body.len(), || Telemetry {
            system: event.system,
            application: event.application,
            body: event.body,
            scope: None,
        });
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn receive(context: &Context<'_>, id: &DeviceId) -> Result<Answer, Failure> {
    let Some((lock, message)) = context.app.hub.lend_message(id).await? else {
        return Ok(empty(StatusCode::NO_CONTENT));
    };
    let mut answer = content(StatusCode::OK, BYTES, Bytes::copy_from_slice(&message.content.body));
    write_headers(id, lock, &message, answer.headers_mut());
    Ok(answer)
}

fn write_headers(id: &DeviceId, lock: MessageLock, message: &CloudMessage, headers: &mut HeaderMap) {
    let mut put = |name: HeaderName, value: &str| {
        // What was accepted holds no control characters; what HTTP still cannot say is in the bag.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(name, value);
        }
    };
    let content = &message.content;
    put(header::ETAG, &format!("\"{:032x}\"", lock.0));
    put(header::CACHE_CONTROL, "no-store");
    let text = |text: String| Some(text);
    let system = [
        ("iothub-sequencenumber", text(message.sequence.to_string())),
        ("iothub-enqueuedtime", text(message.enqueued.to_string())),
        ("iothub-deliverycount", text(message.deliveries.to_string())),
        ("iothub-to", text(format!("/devices/{id}/messages/devicebound"))),
        ("iothub-ack", text(content.feedback.as_str().to_owned())),
        ("iothub-messageid", content.message_id.as_deref().map(str::to_owned)),
        ("iothub-correlationid", content.correlation_id.as_deref().map(str::to_owned)),
        ("iothub-userid", content.user_id.as_deref().map(str::to_owned)),
        ("iothub-expiry", content.expiry.map(|expiry| expiry.to_string())),
        ("iothub-contenttype", content.content_type.as_deref().map(str::to_owned)),
        ("iothub-contentencoding", content.content_encoding.as_deref().map(str::to_owned)),
        // One client looks for these two (device §8.1).
        ("contenttype", content.content_type.as_deref().map(str::to_owned)),
        ("contentencoding", content.content_encoding.as_deref().map(str::to_owned)),
    ];
    for (name, value) in system {
        if let Some(value) = value {
            put(HeaderName::from_static(name), &value);
        }
    }
    for (name, value) in &content.properties {
        if let Ok(name) = HeaderName::from_bytes(format!("{PROPERTY_PREFIX}{name}").as_bytes()) {
            put(name, value.as_deref().unwrap_or_default());
        }
    }
    if !content.properties.is_empty() {
        let mut bag = String::new();
        let properties = content.properties.iter();
        print_properties(properties.map(|(name, value)| (&**name, value.as_deref())), &mut bag);
        put(HeaderName::from_static(PROPERTIES_HEADER), &bag);
    }
}

/// The device has it; with `reject` in the query it refuses it.
pub(super) async fn complete(context: &Context<'_>, id: &DeviceId, lock: &str) -> Result<Answer, Failure> {
    let outcome = match context.query.value("reject") {
        Some(_) => Outcome::Rejected,
        None => Outcome::Success,
    };
    settle(context, id, lock, Some(outcome)).await
}

pub(super) async fn abandon(context: &Context<'_>, id: &DeviceId, lock: &str) -> Result<Answer, Failure> {
    settle(context, id, lock, None).await
}

async fn settle(
    context: &Context<'_>,
    id: &DeviceId,
    lock: &str,
    outcome: Option<Outcome>,
) -> Result<Answer, Failure> {
    let lock = u128::from_str_radix(lock.trim_matches('"'), 16).map_err(|_| Error::LockLost)?;
    context.app.hub.settle_lent_message(id, MessageLock(lock), outcome).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
