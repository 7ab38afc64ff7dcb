//! Cloud-to-device messages and what became of them (device §3.4–3.7, service §12).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{words, JsonObject};

words! {
    /// Which outcomes the sender of a message wants to hear of (device §3.6).
    #[derive(Default)]
    Ack {
        /// None of them.
        #[default]
        None = "none",
        /// That the device took it.
        Positive = "positive",
        /// That it did not reach the device.
        Negative = "negative",
        /// Either.
        Full = "full",
    }
}

words! {
    /// What became of a message (device §3.6).
    FeedbackStatus {
        /// The device took it.
        Success = "Success",
        /// Its time was over before the device took it.
        Expired = "Expired",
        /// It was handed out as often as a message may be, and never confirmed.
        DeliveryCountExceeded = "DeliveryCountExceeded",
        /// The device refused it.
        Rejected = "Rejected",
        /// Its queue was emptied, or its device deleted.
        Purged = "Purged",
    }
}

/// A message to a device. It waits in the device's queue until the device takes it or its time is over.
///
/// ```
/// use ostler_service_sdk::{Ack, CloudMessage};
///
/// let mut message = CloudMessage::new(r#"{"colour":"red"}"#);
/// message.message_id = Some("6f1c".into());
/// message.content_type = Some("application/json".into());
/// message.ack = Ack::Full;
/// message.properties.push(("kind".into(), Some("paint".into())));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloudMessage {
    /// What it says; with its properties at most 65,536 bytes (device §3.7).
    pub body: Bytes,
    /// The sender's name for it, repeated in feedback: at most 128 of the characters that ids may have. Without one,
    /// the hub makes one up if feedback is asked for.
    pub message_id: Option<String>,
    /// What it is about or an answer to.
    pub correlation_id: Option<String>,
    /// On whose behalf it is sent.
    pub user_id: Option<String>,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// The character set or compression of the body.
    pub content_encoding: Option<String>,
    /// When it is of no use any more, ISO 8601: in the future, two days ahead at most. An hour from now if not said.
    pub expiry: Option<String>,
    /// Which outcomes to tell of in the feedback.
    pub ack: Ack,
    /// The sender's own properties, in order; a value may be absent.
    pub properties: Vec<(String, Option<String>)>,
}

impl CloudMessage {
    /// A message without properties.
    ///
    /// ```
    /// let message = ostler_service_sdk::CloudMessage::new("wake up");
    /// # let _ = message;
    /// ```
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }
}

/// A message that the hub has accepted: it survives a crash of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SentMessage {
    /// To whom.
    pub device_id: String,
    /// Its id, if it has one.
    #[serde(default)]
    pub message_id: Option<String>,
    /// Its place in the order of the device's queue; ascending.
    pub sequence_number: u64,
    /// When the hub took it, ISO 8601.
    pub enqueued_time_utc: String,
    /// When its time is over, ISO 8601.
    pub expiry_time_utc: String,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FeedbackRecord {
    /// The id of the message.
    pub original_message_id: String,
    /// The outcome in words.
    #[serde(default)]
    pub description: String,
    /// Which registration of the device's name was meant (service §5.3).
    pub device_generation_id: String,
    /// To whom it was sent.
    pub device_id: String,
    /// When that became of it, ISO 8601.
    pub enqueued_time_utc: String,
    /// The outcome.
    pub status_code: FeedbackStatus,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

/// Outcomes that one receiver holds for a minute. Those that are not completed by then are handed out again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedbackBatch {
    /// Names the batch when it is completed or abandoned.
    pub lock: String,
    /// At most 64 outcomes, oldest first.
    pub records: Vec<FeedbackRecord>,
}

/// What emptying a queue removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Purged {
    /// Whose queue.
    pub device_id: String,
    /// How many messages were in it.
    pub total_messages_purged: u64,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_as_the_service_writes_it() {
        let text = r#"{"originalMessageId":"m","description":"Success","deviceGenerationId":"637","deviceId":"d","enqueuedTimeUtc":"2030-01-02T03:04:05Z","statusCode":"Success","later":1}"#;
        let record: FeedbackRecord = serde_json::from_str(text).unwrap();
        assert_eq!(record.status_code, FeedbackStatus::Success);
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        assert_eq!(FeedbackStatus::from("purged"), FeedbackStatus::Purged);
        assert_eq!(Ack::default().as_str(), "none");
    }
}
