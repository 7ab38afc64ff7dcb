//! Message properties as they stand at the end of a topic: `key=value&key&…`, percent-encoded (device §3.2,
//! §3.3).
//!
//! Invariant: no bag is ever refused. A `%` that does not start an escape, and escapes that do not make up
//! UTF-8, stay as they are; `+` is a plus.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::{percent_decode_str, utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};

/// What RFC 3986 leaves unreserved stays; all else is escaped, `$` in particular (device §3.5).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// System properties by the key they have in a bag and the name they have everywhere else (device §3.3).
const SYSTEM: [(&str, &str); 18] = [
    ("$.mid", "message-id"),
    ("$.cid", "correlation-id"),
    ("$.uid", "user-id"),
    ("$.ct", "content-type"),
    ("$.ce", "content-encoding"),
    ("$.exp", "absolute-expiry-time"),
    ("$.ctime", "iothub-creation-time-utc"),
    ("$.to", "to"),
    ("$.on", "iothub-outputname"),
    ("$.sub", "dt-subject"),
    ("$.ifid", "iothub-interface-id"),
    ("$.schema", "iothub-message-schema"),
    ("$.cdid", "iothub-connection-device-id"),
    ("$.cmid", "iothub-connection-module-id"),
    ("$.diagid", "Diagnostic-Id"),
    ("$.diagctx", "Correlation-Context"),
    ("iothub-ack", "iothub-ack"),
    ("iothub-operation", "iothub-operation"),
];

/// The properties of one message, still encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bag<'a>(&'a str);

/// One property of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property<'a> {
    /// Decoded.
    pub key: Cow<'a, str>,
    /// Decoded. `None` if there was no `=`.
    pub value: Option<Cow<'a, str>>,
}

impl Property<'_> {
    /// Whether the property means something to the hub, or might in future; all others are the application's
    /// own.
    pub fn is_system(&self) -> bool {
        self.key.starts_with("$.") || self.system_name().is_some()
    }

    /// The name that a system property has outside of topics, for example `message-id` for `$.mid`.
    pub fn system_name(&self) -> Option<&'static str> {
        SYSTEM.iter().find(|(key, _)| *key == self.key).map(|(_, name)| *name)
    }
}

impl<'a> Bag<'a> {
    /// Takes a bag as it stands in a topic.
    pub const fn from_encoded(text: &'a str) -> Self {
        Bag(text)
    }

    /// The bag as it stands in a topic.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// The properties in the order sent. Keys may repeat: [`Bag::properties`] and [`Bag::get`] settle which
    /// one counts.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + 'a {
        self.0.split('&').filter(|item| !item.is_empty()).map(|item| match item.split_once('=') {
            Some((key, value)) => Property { key: decode(key), value: Some(decode(value)) },
            None => Property { key: decode(item), value: None },
        })
    }

    /// The value of a property; the last of several counts. `Some(None)` if it has no `=`.
    pub fn get(&self, key: &str) -> Option<Option<Cow<'a, str>>> {
        self.iter().filter(|property| property.key == key).last().map(|property| property.value)
    }

    /// The properties by key, the last of several with the same key.
    pub fn properties(&self) -> Properties<'a> {
        let mut properties = Properties::default();
        for property in self.iter() {
            let side =
                if property.is_system() { &mut properties.system } else { &mut properties.application };
            side.insert(property.key, property.value);
        }
        properties
    }

    /// Appends the bag as the last segment of a telemetry topic. One `?` in front and one `/` behind would be
    /// taken for decoration by the reader, so those that belong to the bag are doubled.
    pub(super) fn write_tail(self, out: &mut Vec<u8>) {
        if self.0.starts_with('?') {
            out.push(b'?');
        }
        out.extend_from_slice(self.0.as_bytes());
        if self.0.ends_with('/') {
            out.push(b'/');
        }
    }
}

/// The properties of one message, decoded and without repetition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// Those that mean something to the hub, by the key they have in a bag.
    pub system: BTreeMap<Cow<'a, str>, Option<Cow<'a, str>>>,
    /// Those that the application made up.
    pub application: BTreeMap<Cow<'a, str>, Option<Cow<'a, str>>>,
}

impl Properties<'_> {
    /// What the properties count towards the size of a message, in bytes (device §3.7).
    pub fn size(&self) -> usize {
        let value = |value: &Option<Cow<'_, str>>| value.as_ref().map_or(0, |value| value.len());
        let system: usize = self.system.values().map(value).sum();
        let application: usize = self.application.iter().map(|(key, text)| key.len() + value(text)).sum();
        system + application
    }
}

/// Appends properties as they stand in a topic, to what may be there already. A property with neither key nor
/// value cannot be expressed and is left out.
pub fn print_properties<'p>(
    properties: impl IntoIterator<Item = (&'p str, Option<&'p str>)>,
    out: &mut String,
) {
    for (key, value) in properties {
        if key.is_empty() && value.is_none() {
            continue;
        }
        if !out.is_empty() {
            out.push('&');
        }
        out.extend(utf8_percent_encode(key, ESCAPED));
        if let Some(value) = value {
            out.push('=');
            out.extend(utf8_percent_encode(value, ESCAPED));
        }
    }
}

/// Undoes percent-encoding, as far as it makes sense. Borrows what holds no escape.
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text))
}

/// Appends text so that [`decode`] gives it back.
pub(crate) fn encode(text: &str, out: &mut String) {
    out.extend(utf8_percent_encode(text, ESCAPED));
}
