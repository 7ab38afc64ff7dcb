//! Direct methods: a back end asks, a connected device answers (service §9, device §6).

use crate::bus::{AskError, Bus, LocalBus};
use crate::error::Error;
use crate::events::{about, Event, EventKind, Events, Telemetry};
use crate::hub::Hub;
use crate::session::{CallId, SessionState};
use crate::stats::Stats;
use ostler_core::id::EntityId;
use ostler_core::json::Raw;
use ostler_core::limits::METHOD_PAYLOAD_BYTES;
use ostler_core::method::{MethodAnswer, MethodCall};
use ostler_core::time::Timestamp;
use tokio::time::Instant;

impl Hub {
    /// Calls a method and waits for the device's answer. Dropping the future gives the call up; what
    /// the device answers then is ignored.
    ///
    /// # Errors
    /// Not found at once for unknown names; [`Error::DeviceNotOnline`] when nobody takes the call
    /// within the connect timeout; [`Error::MethodTimeout`]; [`Error::BadDeviceAnswer`];
    /// [`Error::TooManyCalls`].
    pub async fn invoke(&self, id: &EntityId, call: MethodCall) -> Result<MethodAnswer, Error> {
        // Whoever is connected is registered; only the absent need a look into the store.
        if !self.bus.is_connected(id) {
            self.load_of_device(id).await?;
        }
        let now = || self.now();
        ask(&self.bus, self.stats(), self.events(), now, id, call).await
    }

    /// Takes a device's answer. Late, repeated and unasked ones are ignored and counted; one that is
    /// not JSON or too large fails the caller (device §6). `payload` may be empty.
    pub fn answer(&self, session: &SessionState, call: CallId, status: i32, payload: &[u8]) {
        let answer = check_payload(payload).map(|payload| MethodAnswer { status, payload: payload.into() });
        if self.bus.answer(session.id(), call, answer) {
            self.stats().method_answers.add(1);
        } else {
            self.stats().method_late_answers.add(1);
        }
    }

    /// Takes a device's message: counts it and shows it to watchers. `make` runs only when there are
    /// some. Nothing is stored yet.
    pub fn telemetry(&self, session: &SessionState, bytes: usize, make: impl FnOnce() -> Telemetry) {
        self.stats().telemetry_messages.add(1);
        self.stats().telemetry_bytes.add(bytes as u64);
        let now = self.now();
        session.note_activity(now);
        self.events().emit(|| {
            let message = Telemetry { scope: Some(session.grant().scope), ..make() };
            Event { at: now, id: session.id().to_string(), kind: EventKind::Telemetry(message) }
        });
    }
}

impl Hub {
    /// As [`Hub::telemetry`], of a device or module that has no connection and was signed in for one request.
    pub fn telemetry_over_request(&self, id: &EntityId, bytes: usize, make: impl FnOnce() -> Telemetry) {
        self.stats().telemetry_messages.add(1);
        self.stats().telemetry_bytes.add(bytes as u64);
        self.note_request(id);
        self.events().emit(|| about(id, self.now(), EventKind::Telemetry(make())));
    }
}

/// Calls a method on whoever is connected, counts it and shows it to watchers.
pub(crate) async fn ask(
    bus: &LocalBus,
    stats: &Stats,
    events: &Events,
    now: impl Fn() -> Timestamp,
    id: &EntityId,
    call: MethodCall,
) -> Result<MethodAnswer, Error> {
    stats.method_calls.add(1);
    let watched = events.is_watched().then(|| (call.name.as_str().to_owned(), Instant::now()));
    let timeout = call.response_timeout;
    let answer = bus.ask(id, call).await.map_err(|error| match error {
        AskError::NotOnline { waited } => {
            stats.method_offline.add(1);
            Error::DeviceNotOnline { waited }
        }
        AskError::NoAnswer => {
            stats.method_timeouts.add(1);
            Error::MethodTimeout { waited: timeout }
        }
        AskError::BadAnswer(reason) => Error::BadDeviceAnswer(reason),
        AskError::TooMany(limit) => Error::TooManyCalls(limit),
    });
    if let Some((name, begun)) = watched {
        let outcome = answer.as_ref().map(|answer| answer.status).map_err(ToString::to_string);
        let took = begun.elapsed();
        events.emit(|| about(id, now(), EventKind::Method { name, outcome, took }));
    }
    answer
}

fn check_payload(payload: &[u8]) -> Result<&[u8], String> {
    if payload.len() > METHOD_PAYLOAD_BYTES {
        return Err(format!("{} bytes, the limit is {METHOD_PAYLOAD_BYTES}", payload.len()));
    }
    if payload.iter().all(u8::is_ascii_whitespace) {
        return Ok(Raw::NULL.text());
    }
    Raw::parse(payload).map(Raw::text).map_err(|error| format!("not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads() {
        assert_eq!(check_payload(b""), Ok(&b"null"[..]));
        assert_eq!(check_payload(b" "), Ok(&b"null"[..]));
        assert_eq!(check_payload(b" {\"a\": 1} "), Ok(&b"{\"a\": 1}"[..]));
        assert!(check_payload(b"nope").is_err());
        assert!(check_payload(&vec![b'1'; METHOD_PAYLOAD_BYTES + 1]).is_err());
    }
}
