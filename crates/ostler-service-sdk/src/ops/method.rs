//! Direct methods (service §9).

use std::time::Duration;

use http::Method;
use ostler_core::id::EntityId;

use super::{entity_path, json_body};
use crate::error::Error;
use crate::model::{MethodCall, MethodResult};
use crate::transport::Call;
use crate::Client;

/// What the hub gets on top of the device's time before the client gives up on it, as .NET grants it (service §1.4).
const MARGIN: Duration = Duration::from_secs(15);

impl Client {
    /// Calls a method and waits for the device's answer. Never sent twice once it may have reached the hub.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::{ErrorKind, MethodCall};
    /// use std::time::Duration;
    ///
    /// let call = MethodCall::new("rebootDevice").with_response_timeout(Duration::from_secs(60));
    /// match hub.invoke(&"pump-7".parse()?, &call).await {
    ///     Ok(answer) => println!("{}: {}", answer.status, answer.payload),
    ///     Err(error) if error.kind() == ErrorKind::DeviceOffline => println!("it is not there: {error}"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::DeviceOffline`], [`crate::ErrorKind::DeviceTimeout`], [`crate::ErrorKind::NotFound`]; after
    /// [`Error::Interrupted`] and [`Error::Timeout`] nobody knows whether the device acted.
    pub async fn invoke(&self, id: &EntityId, method: &MethodCall) -> Result<MethodResult, Error> {
        let mut call = Call::new(Method::POST, format!("{}/methods", entity_path("twins", id)));
        call.body = json_body(method)?;
        call.timeout = Some(method.response_timeout + method.connect_timeout + MARGIN);
        self.transport.send(&call).await?.json()
    }
}
