//! Cloud-to-device messages and feedback as headers and JSON (device §8.1, service §12.3).
//!
//! Must not know what becomes of a message; rules beyond spelling are core's.
//!
//! Invariant: header names are compared in lower case, as HTTP hands them over.

use super::fields::{json, Fields, InvalidBody};
use super::identity::write_list;
use crate::topic::Bag;
use base64::prelude::{Engine, BASE64_STANDARD};
use ostler_core::json::ObjectWriter;
use ostler_core::limits::MESSAGE_PROPERTIES;
use ostler_core::message::{Feedback, Message, Outcome};
use ostler_core::time::Timestamp;

/// Before the name of a sender's own property. HTTP does not keep the case of what follows.
pub const PROPERTY_PREFIX: &str = "iothub-app-";
/// The sender's own properties as a bag (device §3.2): keeps case, order, spaces at the edges and absent values, which
/// headers of their own do not.
pub const PROPERTIES_HEADER: &str = "ostler-properties";

/// The media type of several telemetry messages in one body (device §8.1).
pub const BATCH_MEDIA_TYPE: &str = "application/vnd.microsoft.iothub.json";

/// A telemetry message that came over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// System properties by the names they have everywhere else (device §3.3).
    pub system: Vec<(String, Option<String>)>,
    /// The sender's own.
    pub application: Vec<(String, Option<String>)>,
    /// Any bytes.
    pub body: Vec<u8>,
}

/// Headers and what they mean (device §8.1).
const EVENT_HEADERS: [(&str, &str); 13] = [
    ("iothub-messageid", "message-id"),
    ("iothub-correlationid", "correlation-id"),
    ("iothub-userid", "user-id"),
    ("iothub-to", "to"),
    ("iothub-expiry", "absolute-expiry-time"),
    ("iothub-ack", "iothub-ack"),
    ("iothub-contenttype", "content-type"),
    ("iothub-contentencoding", "content-encoding"),
    ("iothub-interface-id", "iothub-interface-id"),
    ("iothub-messageschema", "iothub-message-schema"),
    ("iothub-creationtimeutc", "iothub-creation-time-utc"),
    ("iothub-operation", "iothub-operation"),
    ("dt-subject", "dt-subject"),
];

impl Event {
    /// What it counts towards the limit of a message (device §3.7).
    pub fn size(&self) -> usize {
        let value = |value: &Option<String>| value.as_ref().map_or(0, String::len);
        let system: usize = self.system.iter().map(|(_, text)| value(text)).sum();
        let own: usize = self.application.iter().map(|(name, text)| name.len() + value(text)).sum();
        self.body.len() + system + own
    }

    fn set(&mut self, name: &str, value: &str) {
        let lower = name.to_ascii_lowercase();
        match EVENT_HEADERS.iter().find(|(header, _)| *header == lower) {
            Some((_, meaning)) => self.system.push(((*meaning).to_owned(), Some(value.to_owned()))),
            None => {
                let own =
                    if lower.starts_with(PROPERTY_PREFIX) { &name[PROPERTY_PREFIX.len()..] } else { name };
                self.application.push((own.to_owned(), Some(value.to_owned())));
            }
        }
    }
}

/// Makes a telemetry message of a request's headers, names in lower case, and its body.
///
/// # Errors
/// [`InvalidBody`] names the header.
pub fn read_event<'h>(
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    body: &[u8],
) -> Result<Event, InvalidBody> {
    let mut event = Event { body: body.to_vec(), ..Event::default() };
    for (name, value) in headers {
        if name.starts_with(PROPERTY_PREFIX) || EVENT_HEADERS.iter().any(|(header, _)| *header == name) {
            let text = std::str::from_utf8(value)
                .map_err(|_| InvalidBody::argument(format!("{name} is not UTF-8 text")))?;
            event.set(name, text);
        }
    }
    Ok(event)
}

/// Reads a batch of telemetry messages (device §8.1).
///
/// # Errors
/// [`InvalidBody`] says which message is wrong.
pub fn read_events(body: &[u8]) -> Result<Vec<Event>, InvalidBody> {
    let shape = |n: usize| InvalidBody::shape(format!("message {n} must be an object with a body"));
    let list = json(body)?;
    let items = list.elements().ok_or_else(|| InvalidBody::shape("the body must be a list of messages"))?;
    let mut events = Vec::with_capacity(items.len());
    for (n, item) in items.into_iter().enumerate() {
        let fields = Fields::of(item).ok_or_else(|| shape(n))?;
        let text = fields.string("body")?.ok_or_else(|| shape(n))?;
        let body = if fields.boolean("base64Encoded")? == Some(false) {
            text.as_bytes().to_vec()
        } else {
            BASE64_STANDARD
                .decode(text.as_bytes())
                .map_err(|_| InvalidBody::argument(format!("the body of message {n} is not base64")))?
        };
        let mut event = Event { body, ..Event::default() };
        if let Some(properties) = fields.given("properties").and_then(|value| value.members()) {
            for (name, value) in properties {
                let value = value.as_string().ok_or_else(|| {
                    InvalidBody::argument(format!("a property of message {n} is not a text"))
                })?;
                event.set(&name, &value);
            }
        }
        events.push(event);
    }
    Ok(events)
}

/// What became of one message, as it is told.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The id of the message.
    pub message_id: &'a str,
    /// To whom it was sent.
    pub device: &'a str,
    /// Which registration of that name was meant.
    pub generation_id: u64,
    /// When it became so.
    pub at: Timestamp,
    /// What became of it.
    pub outcome: Outcome,
}

/// Makes a message of a request's headers, names in lower case, and its body. Headers that mean nothing here are
/// ignored. Of a property that is given twice the last counts.
///
/// # Errors
/// [`InvalidBody`] names the header.
pub fn read_message<'h>(
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    body: &[u8],
) -> Result<Message, InvalidBody> {
    let mut message = Message { body: body.into(), ..Message::default() };
    for (name, value) in headers {
        let text = || {
            std::str::from_utf8(value).map_err(|_| InvalidBody::argument(format!("{name} is not UTF-8 text")))
        };
        let place = match name {
            "iothub-messageid" => &mut message.message_id,
            "iothub-correlationid" => &mut message.correlation_id,
            "iothub-userid" => &mut message.user_id,
            "iothub-contenttype" => &mut message.content_type,
            "iothub-contentencoding" => &mut message.content_encoding,
            "iothub-expiry" => {
                message.expiry = read_expiry(text()?)?;
                continue;
            }
            "iothub-ack" => {
                message.feedback = read_feedback(text()?)?;
                continue;
            }
            PROPERTIES_HEADER => {
                for property in Bag::from_encoded(text()?).iter() {
                    set(&mut message, &property.key, property.value.as_deref());
                }
                continue;
            }
            _ => {
                if let Some(name) = name.strip_prefix(PROPERTY_PREFIX) {
                    set(&mut message, name, Some(text()?));
                }
                continue;
            }
        };
        *place = Some(text()?).filter(|text| !text.is_empty()).map(Into::into);
    }
    Ok(message)
}

fn set(message: &mut Message, name: &str, value: Option<&str>) {
    let value = value.map(Into::into);
    // One too many is enough to be refused for it.
    let full = message.properties.len() > MESSAGE_PROPERTIES;
    match message.properties.iter_mut().find(|(other, _)| **other == *name) {
        Some((_, place)) => *place = value,
        None if full => {}
        None => message.properties.push((name.into(), value)),
    }
}

fn read_expiry(text: &str) -> Result<Option<Timestamp>, InvalidBody> {
    if text.is_empty() {
        return Ok(None);
    }
    Timestamp::parse(text).map(Some).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        InvalidBody::argument(format!(
            "iothub-expiry is '{shown}', expected a time such as 2030-01-02T03:04:05Z"
        ))
    })
}

fn read_feedback(text: &str) -> Result<Feedback, InvalidBody> {
    if text.is_empty() {
        return Ok(Feedback::None);
    }
    Feedback::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        InvalidBody::argument(format!("iothub-ack is '{shown}', expected none, positive, negative or full"))
    })
}

/// Appends what a sender learns of a message that was accepted.
pub fn write_accepted(
    device: &str,
    message_id: Option<&str>,
    sequence: u64,
    enqueued: Timestamp,
    expires: Timestamp,
    out: &mut Vec<u8>,
) {
    let mut object = ObjectWriter::new(out);
    object.string("deviceId", device).string_or_null("messageId", message_id);
    object.count("sequenceNumber", sequence);
    object.time("enqueuedTimeUtc", enqueued).time("expiryTimeUtc", expires);
    object.end();
}

/// Appends a batch of feedback (service §12.3).
pub fn write_feedback(batch: &[Told<'_>], out: &mut Vec<u8>) {
    write_list(batch, out, |told, out| {
        let mut object = ObjectWriter::new(out);
        object.string("originalMessageId", told.message_id);
        object.string("description", told.outcome.name());
        object.string("deviceGenerationId", &told.generation_id.to_string());
        object.string("deviceId", told.device);
        object.time("enqueuedTimeUtc", told.at);
        object.string("statusCode", told.outcome.name());
        object.end();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)]) -> Result<Message, InvalidBody> {
        read_message(headers.iter().map(|(name, value)| (*name, value.as_bytes())), b"hi")
    }

    #[test]
    fn headers() {
        let message = read(&[
            ("host", "localhost"),
            ("iothub-messageid", "m-1"),
            ("iothub-correlationid", "c"),
            ("iothub-userid", ""),
            ("iothub-contenttype", "text/plain"),
            ("iothub-contentencoding", "utf-8"),
            ("iothub-expiry", "2030-01-02T03:04:05Z"),
            ("iothub-ack", "Full"),
            ("iothub-app-colour", "rot é"),
            ("iothub-app-a", "1"),
            ("ostler-properties", "Colour=red%20%26%0A&flag&a=2&empty="),
            ("iothub-to", "ignored"),
        ])
        .unwrap();
        let texts = [&message.message_id, &message.correlation_id, &message.user_id];
        assert_eq!(texts.map(|text| text.as_deref()), [Some("m-1"), Some("c"), None]);
        assert_eq!(message.content_type.as_deref(), Some("text/plain"));
        assert_eq!(message.expiry.unwrap().to_string(), "2030-01-02T03:04:05.0000000Z");
        assert_eq!(message.feedback, Feedback::Full);
        let properties: Vec<_> =
            message.properties.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
        let expected = [
            ("colour", Some("rot é")),
            ("a", Some("2")),
            ("Colour", Some("red &\n")),
            ("flag", None),
            ("empty", Some("")),
        ];
        assert_eq!(properties, expected);
        assert_eq!(&*message.body, b"hi");
    }

    /// Finding a name among those that are there takes as long as there are many.
    #[test]
    fn no_more_properties_are_kept_than_it_takes_to_refuse_them() {
        let bag: Vec<String> = (0..10 * MESSAGE_PROPERTIES).map(|n| format!("p{n}=")).collect();
        let message = read(&[("ostler-properties", &bag.join("&"))]).unwrap();
        assert_eq!(message.properties.len(), MESSAGE_PROPERTIES + 1);
    }

    #[test]
    fn refused_headers_are_named() {
        let text = |headers: &[(&str, &str)]| read(headers).unwrap_err().text;
        assert!(text(&[("iothub-ack", "maybe")]).starts_with("iothub-ack is 'maybe'"));
        assert!(text(&[("iothub-expiry", "tomorrow")]).starts_with("iothub-expiry is 'tomorrow'"));
        let headers = [("iothub-app-x", &b"\xff"[..])];
        let error = read_message(headers.into_iter(), b"").unwrap_err();
        assert_eq!(error.text, "iothub-app-x is not UTF-8 text");
    }

    #[test]
    fn telemetry() {
        let headers =
            [("iothub-app-k", &b"v"[..]), ("iothub-messageid", b"m"), ("host", b"h"), ("dt-subject", b"s")];
        let event = read_event(headers.into_iter(), b"hi").unwrap();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(event.application, [("k".to_owned(), some("v"))]);
        assert_eq!(
            event.system,
            [("message-id".to_owned(), some("m")), ("dt-subject".to_owned(), some("s"))]
        );
        assert_eq!(event.size(), 2 + 1 + 1 + 1 + 1);
        let batch = br#"[{"body":"aGk=","properties":{"iothub-app-K":"v","bare":"w","iothub-messageid":"m"}},
            {"body":"plain","base64Encoded":false}]"#;
        let events = read_events(batch).unwrap();
        assert_eq!((events[0].body.as_slice(), events[1].body.as_slice()), (&b"hi"[..], &b"plain"[..]));
        assert_eq!(events[0].application, [("K".to_owned(), some("v")), ("bare".to_owned(), some("w"))]);
        assert_eq!(events[0].system, [("message-id".to_owned(), some("m"))]);
        for bad in ["{}", "[1]", "[{}]", r#"[{"body":"?"}]"#, r#"[{"body":"","properties":{"a":1}}]"#] {
            assert!(read_events(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers() {
        let at = Timestamp::from_unix_secs(1_893_456_000);
        let mut out = Vec::new();
        write_accepted("d", None, 7, at, at.plus_secs(60), &mut out);
        let told = Told { message_id: "m", device: "d", generation_id: 5, at, outcome: Outcome::Purged };
        write_feedback(&[told], &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"deviceId":"d","messageId":null,"sequenceNumber":7,"enqueuedTimeUtc":"2030-01-01T00:00:00.0000000Z","expiryTimeUtc":"2030-01-01T00:01:00.0000000Z"}"#,
                r#"[{"originalMessageId":"m","description":"Purged","deviceGenerationId":"5","deviceId":"d","enqueuedTimeUtc":"2030-01-01T00:00:00.0000000Z","statusCode":"Purged"}]"#
            )
        );
    }
}
