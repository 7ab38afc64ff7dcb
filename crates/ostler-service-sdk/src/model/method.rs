//! Direct method calls (service §9).

use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::JsonObject;

/// A call to a device. It is executed at most once and never queued.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MethodCall {
    /// What to run.
    pub method_name: String,
    /// Any JSON value; absent is different from null only to devices that look closely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// How long the device may take, 5 s to 300 s; whole seconds go out.
    #[serde(rename = "responseTimeoutInSeconds", serialize_with = "whole_seconds")]
    pub response_timeout: Duration,
    /// How long to wait for the device to connect, up to 300 s; zero fails at once.
    #[serde(rename = "connectTimeoutInSeconds", serialize_with = "whole_seconds")]
    pub connect_timeout: Duration,
}

impl MethodCall {
    /// A call without a payload, 30 s for the answer, none for the connection.
    pub fn new(method_name: impl Into<String>) -> Self {
        Self {
            method_name: method_name.into(),
            payload: None,
            response_timeout: Duration::from_secs(30),
            connect_timeout: Duration::ZERO,
        }
    }
}

fn whole_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

/// What the device answered. Its status is its own business: 500 here is no error of the call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodResult {
    /// Chosen by the device.
    pub status: i64,
    /// Any JSON value.
    #[serde(default)]
    pub payload: Value,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_as_the_service_expects_it() {
        let mut call = MethodCall::new("reboot");
        assert_eq!(
            serde_json::to_string(&call).unwrap(),
            r#"{"methodName":"reboot","responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0}"#
        );
        call.payload = Some(Value::Null);
        assert!(serde_json::to_string(&call).unwrap().contains(r#""payload":null"#));
    }
}
