//! Twins of devices and modules (service §8).

use http::Method;
use ostler_core::id::EntityId;

use super::{entity_path, json_body, IfMatch};
use crate::error::Error;
use crate::model::{Twin, TwinPatch};
use crate::retry::Safety;
use crate::transport::Call;
use crate::Client;

impl Client {
    /// The whole twin.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let twin = hub.twin(&"pump-7".parse()?).await?;
    /// println!("{:?}", twin.properties.reported.get("firmwareStatus"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such device or module.
    pub async fn twin(&self, id: &EntityId) -> Result<Twin, Error> {
        self.get(entity_path("twins", id)).await
    }

    /// Merges into tags and desired properties; `null` deletes. Returns the whole twin afterwards.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::{IfMatch, TwinPatch};
    /// use serde_json::json;
    ///
    /// let patch = TwinPatch { tags: Some(json!({ "site": "A" })), desired: Some(json!({ "interval": 30 })) };
    /// let twin = hub.patch_twin(&"pump-7".parse()?, &patch, IfMatch::Any).await?;
    /// println!("version {:?}", twin.version);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`], [`crate::ErrorKind::PreconditionFailed`] when the etag differs, or
    /// [`crate::ErrorKind::Invalid`] when the result would break a limit.
    pub async fn patch_twin(
        &self,
        id: &EntityId,
        patch: &TwinPatch,
        if_match: IfMatch,
    ) -> Result<Twin, Error> {
        self.write_twin(Method::PATCH, id, patch, if_match).await
    }

    /// Replaces tags and desired properties; a section left out becomes empty. Returns the whole twin afterwards.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::TwinPatch;
    /// use serde_json::json;
    ///
    /// let pump = "pump-7".parse()?;
    /// let twin = hub.twin(&pump).await?;
    /// let fresh = TwinPatch::desired(json!({ "interval": 60 }));
    /// hub.replace_twin(&pump, &fresh, twin.if_match()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Client::patch_twin`].
    pub async fn replace_twin(
        &self,
        id: &EntityId,
        twin: &TwinPatch,
        if_match: IfMatch,
    ) -> Result<Twin, Error> {
        self.write_twin(Method::PUT, id, twin, if_match).await
    }

    async fn write_twin(
        &self,
        method: Method,
        id: &EntityId,
        body: &TwinPatch,
        if_match: IfMatch,
    ) -> Result<Twin, Error> {
        let mut call = Call::new(method, entity_path("twins", id));
        // Merging or replacing twice leaves the same values; a spent etag does not match twice.
        call.safety = if if_match.is_repeatable() { Safety::Repeatable } else { Safety::Once };
        call.if_match = Some(if_match.header());
        call.body = json_body(body)?;
        self.transport.send(&call).await?.json()
    }
}
