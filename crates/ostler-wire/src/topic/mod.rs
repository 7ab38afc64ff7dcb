//! The topic grammar: what devices and hub say to each other by way of MQTT topic names and filters.
//!
//! * [`DeviceRequest`]: from a device to the hub. [`HubMessage`]: from the hub to a device. Each reads and
//!   writes its topics, so that both ends and their tests share one grammar.
//! * [`Bag`]: the message properties at the end of a telemetry or cloud-to-device topic.
//! * [`parse_filter`] and [`filter`]: what a subscription stands for.
//!
//! Topics belong to one identity: whoever the connection was opened for. Ids stand in topics literally, never
//! percent-encoded (device §1.2).
//!
//! Must not know MQTT packets, nor whether anything may be done; it only spells.
//!
//! Invariant: reading what was written gives the same value back.

mod bag;
mod cloud_to_device;
mod device;
mod hub;
mod interest;
mod parameters;

pub(crate) use bag::{decode, encode};
pub use bag::{print_properties, Bag, Properties, Property};
pub use cloud_to_device::{CloudToDevice, Feedback};
pub use device::DeviceRequest;
pub use hub::HubMessage;
pub use interest::{filter, parse_filter};

use ostler_core::id::EntityId;

/// Why a topic is not one that its sender may use. The answer is to close the connection (device §2.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Not in the grammar at all.
    #[error("the topic is not one of this service")]
    Unknown,
    /// The topic of another device or module.
    #[error("the topic belongs to another device or module")]
    OtherIdentity,
    /// There is no `$rid` where the answer needs one, or it is empty or holds a `/`.
    #[error("$rid is missing or malformed")]
    RequestId,
    /// `$version` is not a decimal number of 64 bits.
    #[error("$version is not a number")]
    Version,
    /// The status of a response is not a decimal number of its size.
    #[error("the status is not a number")]
    Status,
}

/// Whose topics they are.
#[derive(Clone, Copy)]
struct Owner<'a> {
    device: &'a str,
    module: Option<&'a str>,
}

impl<'a> From<&'a EntityId> for Owner<'a> {
    #[inline]
    fn from(entity: &'a EntityId) -> Self {
        match entity.as_str().split_once('/') {
            None => Owner { device: entity.as_str(), module: None },
            Some((device, module)) => Owner { device, module: Some(module) },
        }
    }
}

impl Owner<'_> {
    /// What follows `devices/{d}/` or `devices/{d}/modules/{m}/` in a topic.
    ///
    /// `Err` tells a topic of somebody else from one that is not under `devices/` at all.
    #[inline]
    fn strip<'t>(&self, topic: &'t str) -> Result<&'t str, TopicError> {
        let rest = topic.strip_prefix("devices/").ok_or(TopicError::Unknown)?;
        let rest = strip_segment(rest, self.device)?;
        match (self.module, rest.strip_prefix("modules/")) {
            (None, None) => Ok(rest),
            (Some(module), Some(rest)) => strip_segment(rest, module),
            _ => Err(TopicError::OtherIdentity),
        }
    }

    /// Appends `devices/{d}/` or `devices/{d}/modules/{m}/`.
    fn write(&self, out: &mut Vec<u8>) {
        put(out, &["devices/", self.device, "/"]);
        if let Some(module) = self.module {
            put(out, &["modules/", module, "/"]);
        }
    }
}

#[inline]
fn strip_segment<'a>(text: &'a str, id: &str) -> Result<&'a str, TopicError> {
    text.strip_prefix(id).and_then(|rest| rest.strip_prefix('/')).ok_or(TopicError::OtherIdentity)
}

#[inline]
fn put(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

#[inline]
fn put_number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}
