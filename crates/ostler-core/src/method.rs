//! Direct methods: what a call must look like (service §9).
//!
//! Invariant: a [`MethodName`] can stand in an MQTT topic level as it is.

use crate::limits::{
    METHOD_CONNECT_SECS, METHOD_NAME_CHARS, METHOD_PAYLOAD_BYTES, METHOD_RESPONSE_SECS,
    METHOD_RESPONSE_SECS_DEFAULT,
};
use std::sync::Arc;
use std::time::Duration;

/// Why a method call is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// No name.
    #[error("methodName is missing or empty")]
    NoName,
    /// A name that is too long.
    #[error("methodName has {0} characters, the limit is 100")]
    NameLength(usize),
    /// A name that cannot be a topic level.
    #[error("methodName contains {0:?}; '/', '+', '#', '?' and control characters are not allowed")]
    NameCharacter(char),
    /// A response timeout out of range.
    #[error("responseTimeoutInSeconds is {0}, allowed are 5 to 300")]
    ResponseTimeout(i64),
    /// A connect timeout out of range.
    #[error("connectTimeoutInSeconds is {0}, allowed are 0 to 300")]
    ConnectTimeout(i64),
    /// A payload that is too large.
    #[error("the payload has {0} bytes, the limit is {METHOD_PAYLOAD_BYTES}")]
    PayloadSize(usize),
}

/// The name of a method: 1 to 100 characters, case-sensitive, none of `/ + # ?` or control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MethodName(Arc<str>);

impl MethodName {
    /// Checks the rules.
    ///
    /// # Errors
    /// [`MethodError`] names the rule.
    pub fn new(text: &str) -> Result<MethodName, MethodError> {
        if text.is_empty() {
            return Err(MethodError::NoName);
        }
        let chars = text.chars().count();
        if chars > METHOD_NAME_CHARS {
            return Err(MethodError::NameLength(chars));
        }
        match text.chars().find(|c| matches!(c, '/' | '+' | '#' | '?') || c.is_control()) {
            Some(c) => Err(MethodError::NameCharacter(c)),
            None => Ok(MethodName(text.into())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A call of a method on a device or module.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodCall {
    /// Which method.
    pub name: MethodName,
    /// JSON text; `null` when the caller gave none. At most 128 KiB. Shared, because a job calls many
    /// devices with it.
    pub payload: Arc<[u8]>,
    /// How long to wait for the answer once the call is on its way.
    pub response_timeout: Duration,
    /// How long to wait for the device to be there.
    pub connect_timeout: Duration,
}

impl MethodCall {
    /// Checks ranges; a timeout not given has its default (30 s for the answer, none for connecting).
    ///
    /// # Errors
    /// [`MethodError`] names the rule.
    pub fn new(
        name: &str,
        payload: &[u8],
        response_timeout_secs: Option<i64>,
        connect_timeout_secs: Option<i64>,
    ) -> Result<MethodCall, MethodError> {
        let name = MethodName::new(name)?;
        if payload.len() > METHOD_PAYLOAD_BYTES {
            return Err(MethodError::PayloadSize(payload.len()));
        }
        let response = match response_timeout_secs {
            None => METHOD_RESPONSE_SECS_DEFAULT,
            Some(secs) => u64::try_from(secs)
                .ok()
                .filter(|secs| METHOD_RESPONSE_SECS.contains(secs))
                .ok_or(MethodError::ResponseTimeout(secs))?,
        };
        let connect = match connect_timeout_secs {
            None => 0,
            Some(secs) => u64::try_from(secs)
                .ok()
                .filter(|secs| *secs <= METHOD_CONNECT_SECS)
                .ok_or(MethodError::ConnectTimeout(secs))?,
        };
        Ok(MethodCall {
            name,
            payload: payload.into(),
            response_timeout: Duration::from_secs(response),
            connect_timeout: Duration::from_secs(connect),
        })
    }
}

/// A device's answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodAnswer {
    /// Whatever the device chose; it says nothing about the call's transport.
    pub status: i32,
    /// JSON text; `null` when the device gave none.
    pub payload: Box<[u8]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let call = |response, connect| MethodCall::new("reboot", b"null", response, connect);
        assert_eq!(call(None, None).unwrap().response_timeout, Duration::from_secs(30));
        assert_eq!(call(Some(300), Some(300)).unwrap().connect_timeout, Duration::from_secs(300));
        assert_eq!(call(Some(4), None), Err(MethodError::ResponseTimeout(4)));
        assert_eq!(call(Some(301), None), Err(MethodError::ResponseTimeout(301)));
        assert_eq!(call(None, Some(-1)), Err(MethodError::ConnectTimeout(-1)));
        assert_eq!(MethodCall::new("", b"", None, None), Err(MethodError::NoName));
        assert_eq!(MethodCall::new("a/b", b"", None, None), Err(MethodError::NameCharacter('/')));
        assert_eq!(MethodCall::new(&"é".repeat(101), b"", None, None), Err(MethodError::NameLength(101)));
        let big = vec![b'1'; METHOD_PAYLOAD_BYTES + 1];
        assert_eq!(MethodCall::new("a", &big, None, None), Err(MethodError::PayloadSize(big.len())));
    }
}
