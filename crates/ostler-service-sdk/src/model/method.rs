//! Direct method calls (service §9).

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::JsonObject;

/// A call to a device. It is executed at most once and never queued.
///
/// ```
/// use ostler_service_sdk::MethodCall;
/// use std::time::Duration;
///
/// let call = MethodCall::new("rebootDevice")
///     .with_payload(serde_json::json!({ "delaySecs": 5 }))
///     .with_response_timeout(Duration::from_secs(60));
/// assert_eq!(call.method_name, "rebootDevice");
/// ```
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
    ///
    /// ```
    /// let call = ostler_service_sdk::MethodCall::new("reboot");
    /// assert_eq!(call.response_timeout.as_secs(), 30);
    /// ```
    pub fn new(method_name: impl Into<String>) -> Self {
        Self {
            method_name: method_name.into(),
            payload: None,
            response_timeout: Duration::from_secs(30),
            connect_timeout: Duration::ZERO,
        }
    }

    /// The same call with this payload; `serde_json::to_value` makes one of anything that serde can write.
    ///
    /// ```
    /// let call = ostler_service_sdk::MethodCall::new("setFan").with_payload(2);
    /// assert_eq!(call.payload, Some(2.into()));
    /// ```
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Value>) -> Self {
        self.payload = Some(payload.into());
        self
    }

    /// The same call with this much time for the device, 5 s to 300 s.
    ///
    /// ```
    /// use ostler_service_sdk::MethodCall;
    /// use std::time::Duration;
    ///
    /// let patient = MethodCall::new("reboot").with_response_timeout(Duration::from_secs(60));
    /// # assert_eq!(patient.response_timeout.as_secs(), 60);
    /// ```
    #[must_use]
    pub fn with_response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// The same call, to a device that may take this long to connect, up to 300 s.
    ///
    /// ```
    /// use ostler_service_sdk::MethodCall;
    /// use std::time::Duration;
    ///
    /// let sleeper = MethodCall::new("reboot").with_connect_timeout(Duration::from_secs(120));
    /// # assert_eq!(sleeper.connect_timeout.as_secs(), 120);
    /// ```
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
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

impl MethodResult {
    /// The payload as a type of the caller's.
    ///
    /// ```
    /// # fn example(answer: ostler_service_sdk::MethodResult) -> Result<(), serde_json::Error> {
    /// #[derive(serde::Deserialize)]
    /// struct Started {
    ///     at: String,
    /// }
    /// println!("rebooting since {}", answer.payload_as::<Started>()?.at);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the payload is not of the type.
    pub fn payload_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.payload)
    }
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
