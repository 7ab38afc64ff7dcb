//! Cloud-to-device messages and their feedback (service §12.2, §12.3).
//!
//! Sending is Ostler's own route: Azure IoT Hub offers it over AMQP only. Feedback and purging are the service's.

use http::header::ETAG;
use http::Method;
use ostler_core::id::{DeviceId, EntityId};
use ostler_wire::topic::print_properties;

use super::{encode, entity_path};
use crate::error::Error;
use crate::model::{CloudMessage, FeedbackBatch, Purged, SentMessage};
use crate::retry::Safety;
use crate::transport::Call;
use crate::Client;

/// The route of feedback, as the service spells it.
const FEEDBACK: &str = "/messages/serviceBound/feedback";
/// The media type of a message's bytes on the way to the hub.
const BYTES: &str = "application/octet-stream";

/// Messages to devices, and what became of them; see [`Client::messages`].
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a>(&'a Client);

impl Client {
    /// Messages to devices, and what became of them.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use ostler_service_sdk::{Ack, CloudMessage, DeviceId};
    ///
    /// let mut message = CloudMessage::new("wake up");
    /// message.ack = Ack::Full;
    /// hub.messages().send(&DeviceId::new("pump-7")?, &message).await?;
    ///
    /// while let Some(batch) = hub.messages().feedback().await? {
    ///     for record in &batch.records {
    ///         println!("{}: {}", record.original_message_id, record.status_code);
    ///     }
    ///     hub.messages().complete_feedback(&batch.lock).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn messages(&self) -> Messages<'_> {
        Messages(self)
    }
}

impl Messages<'_> {
    /// Puts a message into a device's queue. When this returns the message is durable; the device gets it at once, or
    /// as soon as it is connected. Never sent twice once it may have reached the hub.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::CloudMessage;
    ///
    /// hub.messages().send(&"pump-7".parse()?, &CloudMessage::new("wake up")).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] for an unknown device; [`crate::ErrorCode::DeviceMaximumQueueDepthExceeded`] when
    /// 50 messages wait already; [`crate::ErrorCode::MessageTooLarge`]; [`crate::ErrorKind::Invalid`] for properties
    /// that cannot be sent. Azure IoT Hub and a strict hub have no such route and answer
    /// [`crate::ErrorKind::NotFound`] too.
    pub async fn send(&self, device: &DeviceId, message: &CloudMessage) -> Result<SentMessage, Error> {
        let mut call =
            Call::new(Method::POST, format!("/ostler/v1/devices/{}/messages", encode(device.as_str())));
        call.headers.push(("content-type", BYTES.into()));
        let system = [
            ("iothub-messageid", &message.message_id),
            ("iothub-correlationid", &message.correlation_id),
            ("iothub-userid", &message.user_id),
            ("iothub-contenttype", &message.content_type),
            ("iothub-contentencoding", &message.content_encoding),
            ("iothub-expiry", &message.expiry),
        ];
        for (name, value) in system {
            if let Some(value) = value {
                call.headers.push((name, value.clone()));
            }
        }
        call.headers.push(("iothub-ack", message.ack.as_str().into()));
        if !message.properties.is_empty() {
            // Names of headers lose their case and values their edges; a bag keeps both.
            let mut bag = String::new();
            let properties = message.properties.iter();
            print_properties(properties.map(|(name, value)| (name.as_str(), value.as_deref())), &mut bag);
            call.headers.push(("ostler-properties", bag));
        }
        call.body = Some(message.body.clone());
        self.0.transport.send(&call).await?.json()
    }

    /// Removes all messages from a device's queue; how many there were.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// println!("{} dropped", hub.messages().purge(&"pump-7".parse()?).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] for an unknown device.
    pub async fn purge(&self, device: &DeviceId) -> Result<u64, Error> {
        let path = format!("{}/commands", entity_path("devices", &EntityId::from(device)));
        let mut call = Call::new(Method::DELETE, path);
        // Repeated after it was executed, it would answer 0.
        call.safety = Safety::Once;
        let purged: Purged = self.0.transport.send(&call).await?.json()?;
        Ok(purged.total_messages_purged)
    }

    /// The oldest outcomes that nobody holds, now held by this caller for a minute; nothing when there are none.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// if let Some(batch) = hub.messages().feedback().await? {
    ///     for record in &batch.records {
    ///         println!("{}: {}", record.original_message_id, record.status_code);
    ///     }
    ///     hub.messages().complete_feedback(&batch.lock).await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn feedback(&self) -> Result<Option<FeedbackBatch>, Error> {
        let reply = self.0.transport.send(&Call::new(Method::GET, FEEDBACK)).await?;
        if reply.status == http::StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let lock = reply.headers.get(ETAG).and_then(|lock| lock.to_str().ok()).ok_or_else(|| {
            let reason = "the feedback comes without an ETag that names its lock".to_owned();
            Error::UnexpectedAnswer { status: reply.status.as_u16(), reason }
        })?;
        Ok(Some(FeedbackBatch { lock: lock.trim_matches('"').to_owned(), records: reply.json()? }))
    }

    /// The outcomes of a batch are dealt with: they do not come again.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// while let Some(batch) = hub.messages().feedback().await? {
    ///     hub.messages().complete_feedback(&batch.lock).await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::PreconditionFailed`] when the minute is over: they come again.
    pub async fn complete_feedback(&self, lock: &str) -> Result<(), Error> {
        self.0.delete(format!("{FEEDBACK}/{}", encode(lock)), None).await
    }

    /// Gives a batch back at once, for this receiver or another.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// if let Some(batch) = hub.messages().feedback().await? {
    ///     hub.messages().abandon_feedback(&batch.lock).await?; // somebody else will get it
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::PreconditionFailed`] when the minute is over.
    pub async fn abandon_feedback(&self, lock: &str) -> Result<(), Error> {
        let call = Call::new(Method::POST, format!("{FEEDBACK}/{}/abandon", encode(lock)));
        self.0.transport.send(&call).await.map(drop)
    }
}
