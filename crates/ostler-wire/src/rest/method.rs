//! Direct methods as JSON for services (service §9).
//!
//! Must not know whether anybody answers.
//!
//! Invariant: payloads are handed through as the text they came in, both ways.

use super::error::ErrorCode;
use super::fields::{Fields, InvalidBody};
use ostler_core::json::{ObjectWriter, Raw};
use ostler_core::method::{MethodAnswer, MethodCall, MethodError};

/// Reads the body of a call. A payload that is absent is `null`; an empty string, which one client sends for none, stays
/// an empty string. `timeoutInSeconds` and `timeout` are old spellings of `responseTimeoutInSeconds` (revival §3.4).
///
/// # Errors
/// [`InvalidBody`] names the member and the rule.
pub fn read_call(body: &[u8]) -> Result<MethodCall, InvalidBody> {
    read_call_fields(&Fields::of_body(body)?)
}

/// Reads the members of a call, alone or within a job.
pub(super) fn read_call_fields(fields: &Fields<'_>) -> Result<MethodCall, InvalidBody> {
    let name = fields.text("methodName")?.ok_or_else(|| InvalidBody::missing("methodName"))?;
    let payload = fields.get("payload").unwrap_or(Raw::NULL);
    let mut response_timeout = None;
    for spelling in ["responseTimeoutInSeconds", "timeoutInSeconds", "timeout"] {
        if response_timeout.is_none() {
            response_timeout = fields.integer(spelling)?;
        }
    }
    let connect_timeout = fields.integer("connectTimeoutInSeconds")?;
    MethodCall::new(&name, payload.text(), response_timeout, connect_timeout).map_err(refused)
}

fn refused(error: MethodError) -> InvalidBody {
    let text = error.to_string();
    match error {
        MethodError::PayloadSize(_) => InvalidBody { code: ErrorCode::MessageTooLarge, text },
        _ => InvalidBody::argument(text),
    }
}

/// Appends the answer to a call.
pub fn write_answer(answer: &MethodAnswer, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.integer("status", answer.status.into()).raw("payload", &answer.payload);
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_core::limits::METHOD_PAYLOAD_BYTES;
    use std::time::Duration;

    #[test]
    fn calls() {
        let call = |body: &str| read_call(body.as_bytes()).unwrap();
        let full = call(
            r#"{"methodName":"reboot","payload": {"delay": 1.0} ,"responseTimeoutInSeconds":60,"connectTimeoutInSeconds":5}"#,
        );
        assert_eq!(full.name.as_str(), "reboot");
        assert_eq!(&*full.payload, br#"{"delay": 1.0}"#);
        assert_eq!(
            (full.response_timeout, full.connect_timeout),
            (Duration::from_secs(60), Duration::from_secs(5))
        );
        let bare = call(r#"{"methodName":"m"}"#);
        assert_eq!((&*bare.payload, bare.response_timeout), (&b"null"[..], Duration::from_secs(30)));
        assert_eq!(&*call(r#"{"methodName":"m","payload":""}"#).payload, b"\"\"");
        for old in [
            r#"{"methodName":"m","timeoutInSeconds":7}"#,
            r#"{"methodName":"m","timeout":7,"payload":1}"#,
            r#"{"methodName":"m","timeout":9,"responseTimeoutInSeconds":7}"#,
        ] {
            assert_eq!(call(old).response_timeout, Duration::from_secs(7), "{old}");
        }
    }

    #[test]
    fn refused_calls() {
        for (body, code, text) in [
            ("{}", ErrorCode::ArgumentNull, "methodName is missing"),
            (r#"{"methodName":""}"#, ErrorCode::ArgumentNull, "methodName is missing"),
            (r#"{"methodName":5}"#, ErrorCode::DeserializationError, "methodName must be a string"),
            (
                r#"{"methodName":"m","responseTimeoutInSeconds":4}"#,
                ErrorCode::ArgumentInvalid,
                "responseTimeoutInSeconds is 4, allowed are 5 to 300",
            ),
            (
                r#"{"methodName":"m","connectTimeoutInSeconds":1.5}"#,
                ErrorCode::DeserializationError,
                "connectTimeoutInSeconds must be an integer",
            ),
        ] {
            let error = read_call(body.as_bytes()).unwrap_err();
            assert_eq!((error.code, error.text.as_str()), (code, text), "{body}");
        }
    }

    #[test]
    fn a_payload_has_a_limit_of_its_own() {
        let body = format!(r#"{{"methodName":"m","payload":"{}"}}"#, "x".repeat(METHOD_PAYLOAD_BYTES));
        assert_eq!(read_call(body.as_bytes()).unwrap_err().code, ErrorCode::MessageTooLarge);
    }

    #[test]
    fn answers() {
        let mut out = Vec::new();
        write_answer(&MethodAnswer { status: -1, payload: br#"{"a": 1.0}"#.as_slice().into() }, &mut out);
        assert_eq!(out, br#"{"status":-1,"payload":{"a": 1.0}}"#);
    }
}
