//! The properties of a cloud-to-device message, in the form that all known devices can read (device §3.5).

use ostler_core::id::EntityId;
pub use ostler_core::message::Feedback;
use ostler_core::time::Timestamp;

use super::print_properties;

/// What a device is told about a message besides its body.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloudToDevice<'a> {
    /// `$.mid`.
    pub message_id: Option<&'a str>,
    /// `$.cid`.
    pub correlation_id: Option<&'a str>,
    /// `$.uid`.
    pub user_id: Option<&'a str>,
    /// `$.ct`.
    pub content_type: Option<&'a str>,
    /// `$.ce`.
    pub content_encoding: Option<&'a str>,
    /// `$.exp`. .NET devices drop the connection unless it is written in the one form that [`Timestamp`]
    /// prints.
    pub expiry: Option<Timestamp>,
    /// `iothub-ack`.
    pub feedback: Option<Feedback>,
    /// The sender's own properties; a value may be absent.
    pub application: &'a [(&'a str, Option<&'a str>)],
}

impl CloudToDevice<'_> {
    /// Appends the bag of a message to `entity`. It always holds `$.to`: .NET devices cannot read an empty
    /// bag.
    pub fn print(&self, entity: &EntityId, out: &mut String) {
        let to = format!("/devices/{}/messages/devicebound", entity.device());
        let expiry = self.expiry.map(|expiry| expiry.to_string());
        let system = [
            ("$.mid", self.message_id),
            ("$.cid", self.correlation_id),
            ("$.uid", self.user_id),
            ("$.to", Some(to.as_str())),
            ("$.ct", self.content_type),
            ("$.ce", self.content_encoding),
            ("$.exp", expiry.as_deref()),
            ("iothub-ack", self.feedback.map(Feedback::as_str)),
        ];
        print_properties(system.into_iter().filter(|(_, value)| value.is_some()), out);
        print_properties(self.application.iter().copied(), out);
    }
}
