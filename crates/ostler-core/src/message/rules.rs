//! What a message may be: sizes, characters, times (device §3.3, §3.7, §12).
//!
//! Must not know: headers, topics.

use super::Feedback;
use crate::limits::{
    MESSAGES_PER_DEVICE, MESSAGE_BYTES, MESSAGE_ID_CHARS, MESSAGE_PROPERTIES, MESSAGE_PROPERTY_BYTES,
    MESSAGE_TTL_SECS,
};
use crate::time::Timestamp;
use std::sync::Arc;

/// What devices take for the hub's own words among the properties of a message (device §3.3).
const RESERVED: [&str; 2] = ["iothub-ack", "iothub-operation"];

/// Why a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// More than [`MESSAGE_BYTES`].
    #[error("the message has {0} bytes with its properties, the limit is {MESSAGE_BYTES}; send less, or a link to it")]
    TooLarge(usize),
    /// More than [`MESSAGE_PROPERTY_BYTES`].
    #[error("the properties have {0} bytes, the limit is {MESSAGE_PROPERTY_BYTES}; move some of them into the body")]
    PropertiesTooLarge(usize),
    /// More than [`MESSAGE_PROPERTIES`].
    #[error(
        "the message has {0} properties, the limit is {MESSAGE_PROPERTIES}; move some of them into the body"
    )]
    TooManyProperties(usize),
    /// The id breaks a rule.
    #[error("the message id must have 1 to {MESSAGE_ID_CHARS} ASCII letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '")]
    Id,
    /// A text holds what cannot be sent.
    #[error(
        "{what} holds the character {found:?}, which cannot be sent in a property; put it into the body"
    )]
    Character {
        /// Which one.
        what: String,
        /// What is wrong with it.
        found: char,
    },
    /// A name without a character.
    #[error("a property has an empty name; give it one")]
    NoName,
    /// A name that means something to the hub.
    #[error("the property name {0:?} is the hub's own; use another name")]
    Reserved(String),
    /// The expiry is past, or too far ahead.
    #[error("the expiry {0} must be in the future, and within 48 hours from now")]
    Expiry(Timestamp),
    /// As many messages wait as may.
    #[error("{MESSAGES_PER_DEVICE} messages wait for this device already; wait until it takes some, or purge its queue")]
    QueueFull,
}

/// What a sender gives: the text of a message and what goes with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// `message-id`.
    pub message_id: Option<Box<str>>,
    /// `correlation-id`.
    pub correlation_id: Option<Box<str>>,
    /// `user-id`.
    pub user_id: Option<Box<str>>,
    /// `content-type`.
    pub content_type: Option<Box<str>>,
    /// `content-encoding`.
    pub content_encoding: Option<Box<str>>,
    /// When it is of no use any more; the hub's default if not said.
    pub expiry: Option<Timestamp>,
    /// What the sender wants to hear of.
    pub feedback: Feedback,
    /// The sender's own properties, in the order given; a value may be absent.
    pub properties: Vec<(Box<str>, Option<Box<str>>)>,
    /// Any bytes.
    pub body: Arc<[u8]>,
}

impl Message {
    /// What it counts: the body, the values of system properties, names and values of the sender's own (device §3.7).
    pub fn size(&self) -> usize {
        self.body.len() + self.properties_size()
    }

    fn system(&self) -> [(&'static str, Option<&str>); 5] {
        [
            ("the message id", self.message_id.as_deref()),
            ("the correlation id", self.correlation_id.as_deref()),
            ("the user id", self.user_id.as_deref()),
            ("the content type", self.content_type.as_deref()),
            ("the content encoding", self.content_encoding.as_deref()),
        ]
    }

    fn properties_size(&self) -> usize {
        let system: usize = self.system().into_iter().filter_map(|(_, value)| value).map(str::len).sum();
        let own =
            |(name, value): &(Box<str>, Option<Box<str>>)| name.len() + value.as_deref().map_or(0, str::len);
        system + self.properties.iter().map(own).sum::<usize>()
    }

    /// Checks every rule that does not depend on the queue.
    ///
    /// # Errors
    /// [`MessageError`] names the rule that is broken.
    pub fn check(&self, now: Timestamp) -> Result<(), MessageError> {
        if self.properties.len() > MESSAGE_PROPERTIES {
            return Err(MessageError::TooManyProperties(self.properties.len()));
        }
        let properties = self.properties_size();
        if properties > MESSAGE_PROPERTY_BYTES {
            return Err(MessageError::PropertiesTooLarge(properties));
        }
        if self.size() > MESSAGE_BYTES {
            return Err(MessageError::TooLarge(self.size()));
        }
        if self.message_id.as_deref().is_some_and(|id| !is_message_id(id)) {
            return Err(MessageError::Id);
        }
        for (what, value) in self.system() {
            printable(|| what.to_owned(), value.unwrap_or_default(), |c| matches!(c, ' '..='~'))?;
        }
        for (name, value) in &self.properties {
            if name.is_empty() {
                return Err(MessageError::NoName);
            }
            if name.starts_with("$.") || RESERVED.contains(&&**name) {
                return Err(MessageError::Reserved(name.to_string()));
            }
            printable(|| "the name of a property".to_owned(), name, |c| !c.is_control())?;
            printable(
                || format!("the property {name:?}"),
                value.as_deref().unwrap_or_default(),
                |c| !c.is_control(),
            )?;
        }
        match self.expiry {
            Some(expiry) if expiry <= now || expiry > now.plus_secs(MESSAGE_TTL_SECS) => {
                Err(MessageError::Expiry(expiry))
            }
            _ => Ok(()),
        }
    }
}

fn is_message_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-:.+%_#*?!(),=@;$'".contains(c);
    !id.is_empty() && id.len() <= MESSAGE_ID_CHARS && id.chars().all(allowed)
}

fn printable(
    what: impl FnOnce() -> String,
    text: &str,
    allowed: impl Fn(char) -> bool,
) -> Result<(), MessageError> {
    match text.chars().find(|c| !allowed(*c)) {
        Some(found) => Err(MessageError::Character { what: what(), found }),
        None => Ok(()),
    }
}
