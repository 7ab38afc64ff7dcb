//! The live stream as lines of JSON: one object a line, a blank line now and then to show that the stream lives.
//!
//! Must not know what happened beyond how to print it.
//!
//! Invariant: a line is one JSON object without line breaks inside.
//! Invariant: a reader that falls behind is told how many events it missed; the hub never waits for it.

use super::files::blob_uri;
use base64::prelude::{Engine, BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{stream, Stream};
use ostler_core::id::EntityId;
use ostler_core::json::{ObjectWriter, Value};
use ostler_hub::events::{Event, EventKind, Telemetry};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{error::RecvError, Receiver};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A quiet stream says that it lives this often; also how soon a vanished reader is noticed.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Lines are gathered up to about this many bytes before they are sent.
const CHUNK_BYTES: usize = 16 * 1024;

/// What a reader may ask for: the groups of [`EventKind::group`].
const TYPES: [&str; 7] = ["connection", "twin", "registry", "method", "telemetry", "file", "auth"];

/// Which events a reader wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    types: HashSet<String>,
    device: Option<String>,
}

impl Filter {
    /// From the query's `types`, comma-separated, and `deviceId`; what is not given does not filter.
    ///
    /// # Errors
    /// Names the type that does not exist: who waits for it would wait for ever.
    pub(crate) fn new(types: Option<&str>, device: Option<&str>) -> Result<Filter, String> {
        let words = types.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty());
        let types: HashSet<String> = words.map(str::to_ascii_lowercase).collect();
        match types.iter().find(|word| !TYPES.contains(&word.as_str())) {
            Some(word) => Err(format!("'{word}' is not a type of event; types are {}", TYPES.join(", "))),
            None => Ok(Filter { types, device: device.map(str::to_owned) }),
        }
    }

    fn wants(&self, event: &Event) -> bool {
        let device = event.id.split('/').next().unwrap_or_default();
        (self.types.is_empty() || self.types.contains(event.kind.group()))
            && self.device.as_deref().is_none_or(|wanted| wanted == device)
    }
}

/// Lines for one reader, until the hub stops.
pub(crate) fn lines(
    events: Receiver<Arc<Event>>,
    filter: Filter,
    stop: CancellationToken,
) -> impl Stream<Item = Bytes> + Send {
    let reader = Reader { events, filter, stop };
    stream::unfold(reader, |mut reader| async move { Some((reader.next_chunk().await?, reader)) })
}

struct Reader {
    events: Receiver<Arc<Event>>,
    filter: Filter,
    stop: CancellationToken,
}

impl Reader {
    async fn next_chunk(&mut self) -> Option<Bytes> {
        let mut chunk = Vec::new();
        while chunk.is_empty() {
            let received = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                received = timeout(KEEP_ALIVE, self.events.recv()) => received,
            };
            match received {
                Err(_) => chunk.push(b'\n'),
                Ok(Ok(event)) => self.add(&event, &mut chunk),
                Ok(Err(RecvError::Lagged(missed))) => add_lagged(missed, &mut chunk),
                Ok(Err(RecvError::Closed)) => return None,
            }
        }
        while chunk.len() < CHUNK_BYTES {
            let Ok(event) = self.events.try_recv() else { break };
            self.add(&event, &mut chunk);
        }
        Some(chunk.into())
    }

    fn add(&self, event: &Event, chunk: &mut Vec<u8>) {
        if self.filter.wants(event) {
            write_event(event, chunk);
            chunk.push(b'\n');
        }
    }
}

fn add_lagged(missed: u64, chunk: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(chunk);
    object.string("type", "lagged").count("missed", missed);
    object.end();
    chunk.push(b'\n');
}

fn write_event(event: &Event, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.string("type", event.kind.group()).time("time", event.at);
    // The name of a refused sign-in is free text; whatever is no id is shown as the device.
    let id = EntityId::parse(&event.id).ok();
    let device = id.as_ref().map_or(event.id.as_str(), EntityId::device);
    if !device.is_empty() {
        object.string("deviceId", device);
    }
    if let Some(module) = id.as_ref().and_then(EntityId::module) {
        object.string("moduleId", module);
    }
    write_kind(device, &event.kind, &mut object);
    object.end();
}

fn write_kind(device: &str, kind: &EventKind, object: &mut ObjectWriter<'_>) {
    match kind {
        EventKind::Connected { peer, transport } => {
            object.string("operation", "connected").string("transport", transport);
            object.string_or_null("peer", peer.map(|peer| peer.to_string()).as_deref());
        }
        EventKind::Disconnected { reason } => {
            object.string("operation", "disconnected").string("reason", reason.name());
        }
        EventKind::TwinChanged { section, version, patch } => {
            object.string("section", section.name()).count("version", *version);
            patch.write_to(object.key("patch"));
        }
        EventKind::Registry { operation } => {
            object.string("operation", operation);
        }
        EventKind::Method { name, outcome, took } => {
            object.string("methodName", name);
            match outcome {
                Ok(status) => object.integer("status", (*status).into()),
                Err(error) => object.string("error", error),
            };
            object.count("durationMs", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        }
        EventKind::Telemetry(telemetry) => write_telemetry(telemetry, object),
        EventKind::FileUploaded { name, host, size, modified } => {
            // The members of a file notification (service §12.4).
            object.string("operation", "uploaded").string("blobName", &format!("{device}/{name}"));
            object.string("blobUri", &blob_uri(host, device, name)).count("blobSizeInBytes", *size);
            object.time("lastUpdatedTime", *modified);
        }
        EventKind::FileUploadFailed { name, status, description } => {
            object.string("operation", "failed").string("blobName", &format!("{device}/{name}"));
            match status {
                Some(status) => object.integer("statusCode", *status),
                None => object.null("statusCode"),
            };
            object.string_or_null("statusDescription", description.as_deref());
        }
        EventKind::SignInFailed { peer, cause } => {
            object.string_or_null("peer", peer.map(|peer| peer.to_string()).as_deref());
            object.string("cause", cause);
        }
    }
}

fn write_telemetry(telemetry: &Telemetry, object: &mut ObjectWriter<'_>) {
    for (name, properties) in
        [("systemProperties", &telemetry.system), ("properties", &telemetry.application)]
    {
        let mut inner = object.object(name);
        for (key, value) in properties {
            inner.string_or_null(key, value.as_deref());
        }
        inner.end();
    }
    // A JSON body is printed anew, because line breaks inside it would end the line.
    match (Value::parse(&telemetry.body), std::str::from_utf8(&telemetry.body)) {
        (Ok(json), _) => json.write_to(object.key("body")),
        (Err(_), Ok(text)) => {
            object.string("bodyText", text);
        }
        (Err(_), Err(_)) => {
            object.string("bodyBase64", &BASE64_STANDARD.encode(&telemetry.body));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use ostler_core::json::Object;
    use ostler_core::time::Timestamp;
    use ostler_core::twin::SectionKind;
    use ostler_hub::events::Events;
    use ostler_hub::session::EndReason;

    fn event(id: &str, kind: EventKind) -> Event {
        Event { at: Timestamp::from_unix_secs(1_714_557_600), id: id.into(), kind }
    }

    fn telemetry(body: &[u8]) -> EventKind {
        let properties = |key: &str, value: Option<&str>| vec![(key.to_owned(), value.map(str::to_owned))];
        EventKind::Telemetry(Telemetry {
            system: properties("message-id", Some("5")),
            application: properties("flag", None),
            body: body.to_vec(),
            scope: None,
        })
    }

    #[test]
    fn every_kind_of_event() {
        let peer = Some("10.0.0.7".parse().unwrap());
        let took = Duration::from_millis(1234);
        let kinds = [
            EventKind::Connected { peer, transport: "mqtt" },
            EventKind::Disconnected { reason: EndReason::TakenOver },
            EventKind::TwinChanged {
                section: SectionKind::Desired,
                version: 4,
                patch: Object::parse(br#"{"a":1.0,"b":null}"#).unwrap(),
            },
            EventKind::Registry { operation: "created" },
            EventKind::Method { name: "reboot".into(), outcome: Ok(200), took },
            EventKind::Method { name: "reboot".into(), outcome: Err("timeout".into()), took },
            telemetry(b"{\n\"t\": 21.50}"),
            telemetry(b"21 \xc2\xb0C"),
            telemetry(b"\xff\x00"),
            EventKind::SignInFailed { peer: None, cause: "wrong key".into() },
        ];
        let mut out = Vec::new();
        for kind in kinds {
            assert!(TYPES.contains(&kind.group()));
            write_event(&event("d/m", kind), &mut out);
            out.push(b'\n');
        }
        write_event(&event("not an id/", EventKind::Registry { operation: "x" }), &mut out);
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
            {"type":"connection","time":"2024-05-01T10:00:00.0000000Z","deviceId":"d","moduleId":"m","operation":"connected","transport":"mqtt","peer":"10.0.0.7"}
            {"type":"connection","time":"2024-05-01T10:00:00.0000000Z","deviceId":"d","moduleId":"m","operation":"disconnected","reason":"taken-over"}
            {"type":"twin","time":"2024-05-01T10:00:00.0000000Z","deviceId":"d","moduleId":"m","section":"properties.desired","version":4,"patch":{"a":1.0,"b":null}}
            {"type":"registry","time":"2024-05-01T10:00:00.0000000Z","deviceId":"d","moduleId":"m","operation":"created"}
            {"type":"method","time":"2024-05-01T10:00:00.0000000Z","deviceId":"d","moduleId":"m","methodName":"reboot","status":200,"durationMs":1234}
            {"type":"method","time":"2024-05-01T10:00:00.0000000Z","deviceId":"d","moduleId":"m","methodName":"reboot","error":"timeout","durationMs":1234}
            {"type":"telemetry","time":"2024-05-01T10:00:00.0000000Z","deviceId":"d","moduleId":"m","systemProperties":{"message-id":"5"},"properties":{"flag":null},"body":{"t":21.50}}
            {"type":"telemetry","time":"2024-05-01T10:00:00.0000000Z","deviceId":"d","moduleId":"m","systemProperties":{"message-id":"5"},"properties":{"flag":null},"bodyText":"21 °C"}
            {"type":"telemetry","time":"2024-05-01T10:00:00.0000000Z","deviceId":"d","moduleId":"m","systemProperties":{"message-id":"5"},"properties":{"flag":null},"bodyBase64":"/wA="}
            {"type":"auth","time":"2024-05-01T10:00:00.0000000Z","deviceId":"d","moduleId":"m","peer":null,"cause":"wrong key"}
            {"type":"registry","time":"2024-05-01T10:00:00.0000000Z","deviceId":"not an id/","operation":"x"}
            "#);
    }

    fn filtered(types: Option<&str>, device: Option<&str>) -> Vec<bool> {
        let filter = Filter::new(types, device).unwrap();
        let events = [
            event("d", EventKind::Registry { operation: "created" }),
            event("d/m", EventKind::Disconnected { reason: EndReason::Lost }),
            event("e", telemetry(b"")),
        ];
        events.iter().map(|event| filter.wants(event)).collect()
    }

    #[test]
    fn filters() {
        assert_eq!(filtered(None, None), [true; 3]);
        assert_eq!(filtered(Some(""), None), [true; 3]);
        assert_eq!(filtered(Some("Telemetry, connection"), None), [false, true, true]);
        assert_eq!(filtered(None, Some("d")), [true, true, false]);
        assert!(Filter::new(Some("auth,telemetri"), None)
            .unwrap_err()
            .starts_with("'telemetri' is not a type"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_lives_lags_and_stops() {
        let events = Events::default();
        let stop = CancellationToken::new();
        let filter = Filter::new(Some("registry"), None).unwrap();
        let mut stream = Box::pin(lines(events.subscribe(), filter, stop.clone()));
        assert_eq!(stream.next().await.unwrap(), "\n", "a sign of life while nothing happens");
        for _ in 0..5000 {
            events.emit(|| event("d", EventKind::Registry { operation: "created" }));
        }
        let chunk = stream.next().await.unwrap();
        assert!(chunk.starts_with(b"{\"type\":\"lagged\",\"missed\":904}\n{\"type\":\"registry\""));
        stop.cancel();
        assert_eq!(stream.next().await, None);
    }
}
