//! Twins and method calls as JSON text, for callers who hand text through and may not touch it: what goes out is what
//! was given, and a twin comes back as the hub wrote it.
//!
//! Must not know: sockets; what the text says.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use ostler_core::id::EntityId;

use super::{entity_path, json_body, IfMatch};
use crate::error::Error;
use crate::model::MethodResult;
use crate::retry::Safety;
use crate::transport::{Call, Reply};
use crate::Client;

/// What a request gets on top of the device's time, for connecting and the way back (revival §7).
const MARGIN: Duration = Duration::from_secs(30);

impl Client {
    /// The whole twin, byte for byte as the hub answered.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let text = hub.twin_text(&"pump-7".parse()?).await?;
    /// println!("{}", text.contains(r#""firmwareStatus":"completed""#));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Client::twin`]; [`Error::UnexpectedAnswer`] if the answer is not UTF-8.
    pub async fn twin_text(&self, id: &EntityId) -> Result<String, Error> {
        let reply = self.transport.send(&Call::new(Method::GET, entity_path("twins", id))).await?;
        text(&reply)
    }

    /// Sends a patch as it is given and returns the whole twin, byte for byte as the hub answered.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::IfMatch;
    ///
    /// let patch = r#"{"properties":{"desired":{"interval":30}}}"#;
    /// hub.patch_twin_text(&"pump-7".parse()?, patch, IfMatch::Any).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Client::patch_twin`]; [`crate::ErrorKind::Invalid`] also when `patch` is not JSON.
    pub async fn patch_twin_text(
        &self,
        id: &EntityId,
        patch: &str,
        if_match: IfMatch,
    ) -> Result<String, Error> {
        let mut call = Call::new(Method::PATCH, entity_path("twins", id));
        call.safety = if if_match.is_repeatable() { Safety::Repeatable } else { Safety::Once };
        call.if_match = Some(if_match.header());
        call.body = Some(Bytes::copy_from_slice(patch.as_bytes()));
        text(&self.transport.send(&call).await?)
    }

    /// Calls a method with `payload` put into the request as it is: text that is not JSON makes a request that the hub
    /// refuses. The time for the answer, whole seconds, goes out under its name of today and that of 2017 (revival
    /// §3.4). Never sent twice once it may have reached the hub.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use std::time::Duration;
    ///
    /// let answer =
    ///     hub.invoke_text(&"pump-7".parse()?, "lockDoor", r#"{"delay":5}"#, Duration::from_secs(30)).await?;
    /// println!("{}", answer.status);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Client::invoke`].
    pub async fn invoke_text(
        &self,
        id: &EntityId,
        method_name: &str,
        payload: &str,
        response_timeout: Duration,
    ) -> Result<MethodResult, Error> {
        let mut body = b"{\"methodName\":".to_vec();
        body.extend_from_slice(&json_body(method_name)?.unwrap_or_default());
        let secs = response_timeout.as_secs();
        body.extend_from_slice(
            format!(",\"timeout\":{secs},\"responseTimeoutInSeconds\":{secs},\"payload\":").as_bytes(),
        );
        body.extend_from_slice(payload.as_bytes());
        body.push(b'}');
        let mut call = Call::new(Method::POST, format!("{}/methods", entity_path("twins", id)));
        call.body = Some(body.into());
        call.timeout = Some(response_timeout + MARGIN);
        self.transport.send(&call).await?.json()
    }
}

fn text(reply: &Reply) -> Result<String, Error> {
    String::from_utf8(reply.body.to_vec()).map_err(|error| Error::UnexpectedAnswer {
        status: reply.status.as_u16(),
        reason: format!("its body is not UTF-8: {error}"),
    })
}
