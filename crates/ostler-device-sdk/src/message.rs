//! Messages to and from the hub, and how their properties stand in a topic (device §3.2–3.5).
//!
//! Must not know connections.
//!
//! Invariant: a [`Prepared`] message fits into what the hub accepts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ostler_core::time::{Timestamp, TICKS_PER_SEC};
use ostler_wire::topic::{print_properties, Bag};

use crate::status::Cause;

/// The largest message that a hub accepts, in bytes: body, values of system properties, names and values of the
/// application's (device §3.7).
///
/// ```
/// assert!(ostler_device_sdk::MAX_MESSAGE_BYTES >= 256 * 1024);
/// ```
pub const MAX_MESSAGE_BYTES: usize = 262_144;

/// What MQTT leaves for the properties in a topic: 65,535 bytes less the longest `devices/…/modules/…/messages/events/`.
const MAX_BAG_BYTES: usize = 65_535 - 320;

/// A message to the cloud.
///
/// ```
/// use ostler_device_sdk::Message;
///
/// let message = Message::new(r#"{"celsius":21.5}"#)
///     .content_type("application/json")
///     .content_encoding("utf-8")
///     .property("room", "kitchen");
/// assert_eq!(message.properties, [("room".to_owned(), "kitchen".to_owned())]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// What is said; any bytes, at most [`MAX_MESSAGE_BYTES`] together with the properties.
    pub body: Bytes,
    /// The application's own properties, in order. Of two with the same name the last counts.
    pub properties: Vec<(String, String)>,
    /// Names the message, for those who must tell repeats.
    pub message_id: Option<String>,
    /// Names what the message answers or belongs to.
    pub correlation_id: Option<String>,
    /// Who it comes from, inside the device.
    pub user_id: Option<String>,
    /// The body's media type; routes look into bodies of type `application/json`.
    pub content_type: Option<String>,
    /// The body's character encoding, as `utf-8`.
    pub content_encoding: Option<String>,
    /// When the message came about.
    pub created: Option<SystemTime>,
    /// The plug-and-play component that speaks (`dt-subject`).
    pub component: Option<String>,
    /// The interface that the message follows, as security agents name theirs.
    pub interface_id: Option<String>,
    /// The schema of the body.
    pub schema: Option<String>,
    /// The output of a module through which the message leaves.
    pub output: Option<String>,
    /// Fails unless the hub has taken the message within this time, also while there is no connection. `None`: the
    /// message waits as long as it takes.
    pub timeout: Option<Duration>,
}

macro_rules! text_setters {
    ($($(#[$meta:meta])* $field:ident)*) => {$(
        $(#[$meta])*
        ///
        /// ```
        #[doc = concat!("let message = ostler_device_sdk::Message::new(\"21.5\").", stringify!($field), "(\"text\");")]
        #[doc = concat!("assert_eq!(message.", stringify!($field), ".as_deref(), Some(\"text\"));")]
        /// ```
        #[must_use]
        pub fn $field(mut self, text: impl Into<String>) -> Self {
            self.$field = Some(text.into());
            self
        }
    )*};
}

impl Message {
    /// A message without properties.
    ///
    /// ```
    /// let message = ostler_device_sdk::Message::new("21.5");
    /// assert_eq!(&message.body[..], b"21.5");
    /// ```
    pub fn new(body: impl Into<Bytes>) -> Self {
        Message { body: body.into(), ..Message::default() }
    }

    /// A message whose body is `value` as JSON, marked as such, so that routes can look into it.
    ///
    /// # Errors
    /// If the value cannot be expressed in JSON.
    ///
    /// ```
    /// let message = ostler_device_sdk::Message::json(&serde_json::json!({"celsius": 21.5}))?;
    /// assert_eq!(message.content_type.as_deref(), Some("application/json"));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn json(value: &(impl serde::Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        let body = serde_json::to_vec(value)?;
        Ok(Message::new(body).content_type("application/json").content_encoding("utf-8"))
    }

    /// Adds a property.
    ///
    /// ```
    /// let message = ostler_device_sdk::Message::new("21.5").property("room", "kitchen");
    /// assert_eq!(message.properties[0].1, "kitchen");
    /// ```
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    text_setters! {
        /// Sets [`Message::message_id`].
        message_id
        /// Sets [`Message::correlation_id`].
        correlation_id
        /// Sets [`Message::user_id`].
        user_id
        /// Sets [`Message::content_type`].
        content_type
        /// Sets [`Message::content_encoding`].
        content_encoding
        /// Sets [`Message::component`].
        component
        /// Sets [`Message::interface_id`].
        interface_id
        /// Sets [`Message::schema`].
        schema
        /// Sets [`Message::output`].
        output
    }

    /// Sets [`Message::created`].
    ///
    /// ```
    /// let message = ostler_device_sdk::Message::new("21.5").created(std::time::SystemTime::now());
    /// assert!(message.created.is_some());
    /// ```
    #[must_use]
    pub fn created(mut self, time: SystemTime) -> Self {
        self.created = Some(time);
        self
    }

    /// Sets [`Message::timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let message = ostler_device_sdk::Message::new("21.5").timeout(Duration::from_secs(60));
    /// assert_eq!(message.timeout, Some(Duration::from_secs(60)));
    /// ```
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The message as it goes over the wire.
    ///
    /// # Errors
    /// If no hub would accept it: it is refused here, since the hub could only close the connection (device §2.10).
    pub(crate) fn prepare(self) -> Result<Prepared, SendError> {
        let created = self.created.map(|time| timestamp(time).to_string());
        let system = [
            ("$.on", &self.output),
            ("$.mid", &self.message_id),
            ("$.cid", &self.correlation_id),
            ("$.uid", &self.user_id),
            ("$.ct", &self.content_type),
            ("$.ce", &self.content_encoding),
            ("$.ctime", &created),
            ("$.sub", &self.component),
            ("$.ifid", &self.interface_id),
            ("$.schema", &self.schema),
        ];
        let system = system.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?)));
        let application = self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let size = self.body.len()
            + system.clone().map(|(_, value)| value.len()).sum::<usize>()
            + application.clone().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if size > MAX_MESSAGE_BYTES {
            return Err(SendError::TooLarge { size });
        }
        let mut bag = String::new();
        print_properties(system.chain(application).map(|(key, value)| (key, Some(value))), &mut bag);
        if bag.len() > MAX_BAG_BYTES {
            return Err(SendError::PropertiesTooLong { length: bag.len() });
        }
        Ok(Prepared { bag: bag.into_boxed_str(), body: self.body })
    }
}

impl<T: Into<Bytes>> From<T> for Message {
    fn from(body: T) -> Self {
        Message::new(body)
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let ticks = |duration: Duration| {
        let ticks = duration.as_nanos() / (1_000_000_000 / TICKS_PER_SEC as u128);
        i64::try_from(ticks).unwrap_or(i64::MAX)
    };
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp::from_ticks(ticks(since)),
        Err(before) => Timestamp::from_ticks(ticks(before.duration()).saturating_neg()),
    }
}

/// A message that was checked: its properties as they stand in the topic, and the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub bag: Box<str>,
    pub body: Bytes,
}

impl Prepared {
    /// What the message counts for in the queue, in bytes.
    pub fn size(&self) -> usize {
        self.bag.len() + self.body.len()
    }
}

/// A message from the cloud, or for the input of a module.
///
/// ```
/// # fn example(message: ostler_device_sdk::ReceivedMessage) {
/// println!("{:?} from {:?}: {:?}", message.message_id, message.user_id, message.text());
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceivedMessage {
    /// What is said.
    pub body: Bytes,
    /// The application's own properties, in the order sent. One that was sent without a value has an empty one.
    pub properties: Vec<(String, String)>,
    /// Names the message.
    pub message_id: Option<String>,
    /// Names what the message answers or belongs to.
    pub correlation_id: Option<String>,
    /// Who sent it.
    pub user_id: Option<String>,
    /// The body's media type.
    pub content_type: Option<String>,
    /// The body's character encoding.
    pub content_encoding: Option<String>,
    /// Where it was sent to.
    pub to: Option<String>,
    /// When it loses its point, in UTC as ISO 8601 writes it.
    pub expiry: Option<String>,
    /// The outcomes that the sender wants to hear of: `none`, `positive`, `negative` or `full`.
    pub feedback: Option<String>,
    /// The module input that it came to; `None` for devices.
    pub input: Option<String>,
    /// Where a message to a module input comes from: `{device}` or `{device}/{module}`.
    pub source: Option<String>,
    /// The hub has sent it before, so it may have been seen.
    pub repeated: bool,
}

impl ReceivedMessage {
    pub(crate) fn new(bag: Bag<'_>, body: &[u8], input: Option<&str>, repeated: bool) -> Self {
        let mut message = ReceivedMessage {
            body: Bytes::copy_from_slice(body),
            input: input.map(str::to_owned),
            repeated,
            ..ReceivedMessage::default()
        };
        let (mut device, mut module) = (None, None);
        for property in bag.iter() {
            let system = property.is_system();
            let key = property.key;
            let value = property.value.unwrap_or_default().into_owned();
            let field = match &*key {
                "$.mid" => &mut message.message_id,
                "$.cid" => &mut message.correlation_id,
                "$.uid" => &mut message.user_id,
                "$.ct" => &mut message.content_type,
                "$.ce" => &mut message.content_encoding,
                "$.to" => &mut message.to,
                "$.exp" => &mut message.expiry,
                "iothub-ack" => &mut message.feedback,
                "$.cdid" => &mut device,
                "$.cmid" => &mut module,
                _ if system => continue,
                _ => {
                    message.properties.push((key.into_owned(), value));
                    continue;
                }
            };
            *field = Some(value);
        }
        message.source = match (device, module) {
            (Some(device), Some(module)) => Some(device + "/" + &module),
            (device, _) => device,
        };
        message
    }

    /// The value of one of the application's properties; the last one's, if several have the name.
    ///
    /// ```
    /// # fn example(message: ostler_device_sdk::ReceivedMessage) {
    /// let colour = message.property("colour").unwrap_or("white");
    /// # }
    /// ```
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    ///
    /// ```
    /// # fn example(message: ostler_device_sdk::ReceivedMessage) {
    /// println!("{}", message.text().unwrap_or("no text"));
    /// # }
    /// ```
    pub fn text(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.body)
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// If it is not JSON, or not of this shape.
    ///
    /// ```
    /// #[derive(serde::Deserialize)]
    /// struct Order {
    ///     litres: f64,
    /// }
    /// # fn example(message: ostler_device_sdk::ReceivedMessage) -> Result<(), serde_json::Error> {
    /// let order: Order = message.json()?;
    /// # Ok(()) }
    /// ```
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// Why a message was not sent, or not confirmed.
///
/// ```
/// # async fn example(client: ostler_device_sdk::Client) {
/// use ostler_device_sdk::SendError;
///
/// if let Err(SendError::QueueFull { messages, .. }) = client.send("21.5").await {
///     println!("{messages} messages wait already");
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No hub would accept it.
    #[error("the message counts {size} bytes with its properties, and a hub accepts {MAX_MESSAGE_BYTES}; split it")]
    TooLarge {
        /// As the hub counts it, in bytes.
        size: usize,
    },
    /// The properties do not fit into an MQTT topic.
    #[error(
        "the properties take {length} bytes once encoded, and {MAX_BAG_BYTES} fit; move some into the body"
    )]
    PropertiesTooLong {
        /// Encoded, in bytes.
        length: usize,
    },
    /// Too much waits already. Nothing was queued; wait for confirmations, or raise the limits.
    #[error("the queue is full: {messages} messages with {bytes} bytes wait; wait for confirmations before sending more")]
    QueueFull {
        /// How many messages and twin requests wait.
        messages: usize,
        /// What they count for.
        bytes: usize,
    },
    /// The message's own time ran out before the hub confirmed it. It may have arrived all the same.
    #[error("the hub did not confirm the message within its timeout; it may have arrived all the same")]
    Expired,
    /// The client was closed before the hub confirmed the message. It may have arrived all the same.
    #[error("the client was closed before the hub confirmed the message")]
    Closed,
    /// The hub is out of reach for good.
    #[error("the client has given up connecting: {0}")]
    Refused(Cause),
}
