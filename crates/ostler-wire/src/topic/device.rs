//! What a device says to the hub.

use ostler_core::id::EntityId;

use super::parameters::{decimal, Parameters};
use super::{put, put_number, Bag, Owner, TopicError};
use crate::mqtt::packet::TopicName;

/// The meaning of a topic that a device or module publishes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRequest<'a> {
    /// A message to the cloud (device §3.1).
    Telemetry {
        /// Its properties.
        bag: Bag<'a>,
    },
    /// A request for the twin (device §4.1).
    TwinGet {
        /// To be repeated in the answer.
        rid: &'a str,
    },
    /// A change of the reported properties (device §4.1).
    ReportedPatch {
        /// To be repeated in the answer. Without one the change is made and not answered.
        rid: Option<&'a str>,
        /// Make the change only if this is the version of the reported properties.
        version: Option<u64>,
    },
    /// The answer to a method request (device §6).
    MethodResponse {
        /// Chosen by the device.
        status: i32,
        /// That of the request.
        rid: &'a str,
    },
}

impl<'a> DeviceRequest<'a> {
    /// Reads a topic published on the connection of `entity`.
    ///
    /// # Errors
    /// If the topic is not one that `entity` may publish to.
    #[inline]
    pub fn parse(topic: &'a str, entity: &EntityId) -> Result<Self, TopicError> {
        match topic.strip_prefix("$iothub/") {
            None => {
                let rest = Owner::from(entity)
                    .strip(topic)?
                    .strip_prefix("messages/events")
                    .ok_or(TopicError::Unknown)?;
                telemetry(rest)
            }
            Some(rest) => service(rest),
        }
    }

    /// The topic to publish this to on the connection of `entity`.
    pub fn of(self, entity: &'a EntityId) -> impl TopicName + 'a {
        DeviceTopic { request: self, owner: Owner::from(entity) }
    }
}

/// What follows `…/messages/events`: nothing, or `/` and the bag. The bag may start with `?` and end with one
/// `/` (device §3.1).
#[inline]
fn telemetry(rest: &str) -> Result<DeviceRequest<'_>, TopicError> {
    let bag = match rest.strip_prefix('/') {
        Some(bag) => bag,
        None if rest.is_empty() => "",
        None => return Err(TopicError::Unknown),
    };
    let bag = bag.strip_prefix('?').unwrap_or(bag);
    let bag = bag.strip_suffix('/').unwrap_or(bag);
    Ok(DeviceRequest::Telemetry { bag: Bag::from_encoded(bag) })
}

/// What follows `$iothub/`.
#[inline]
fn service(rest: &str) -> Result<DeviceRequest<'_>, TopicError> {
    if let Some(parameters) = rest.strip_prefix("twin/PATCH/properties/reported/") {
        let Parameters { rid, version } = Parameters::parse(parameters)?;
        return Ok(DeviceRequest::ReportedPatch { rid, version });
    }
    if let Some(parameters) = rest.strip_prefix("twin/GET/") {
        let rid = Parameters::parse(parameters)?.rid.ok_or(TopicError::RequestId)?;
        return Ok(DeviceRequest::TwinGet { rid });
    }
    if let Some(rest) = rest.strip_prefix("methods/res/") {
        let (status, parameters) = rest.split_once('/').ok_or(TopicError::Unknown)?;
        let status = decimal(status).ok_or(TopicError::Status)?;
        let rid = Parameters::parse(parameters)?.rid.ok_or(TopicError::RequestId)?;
        return Ok(DeviceRequest::MethodResponse { status, rid });
    }
    Err(TopicError::Unknown)
}

struct DeviceTopic<'a> {
    request: DeviceRequest<'a>,
    owner: Owner<'a>,
}

impl TopicName for DeviceTopic<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self.request {
            DeviceRequest::Telemetry { bag } => {
                self.owner.write(out);
                put(out, &["messages/events/"]);
                bag.write_tail(out);
            }
            DeviceRequest::TwinGet { rid } => put(out, &["$iothub/twin/GET/?$rid=", rid]),
            DeviceRequest::ReportedPatch { rid, version } => {
                put(out, &["$iothub/twin/PATCH/properties/reported/"]);
                let mut separator = "?";
                if let Some(rid) = rid {
                    put(out, &[separator, "$rid=", rid]);
                    separator = "&";
                }
                if let Some(version) = version {
                    put(out, &[separator, "$version="]);
                    put_number(out, version);
                }
            }
            DeviceRequest::MethodResponse { status, rid } => {
                put(out, &["$iothub/methods/res/"]);
                put_number(out, status);
                put(out, &["/?$rid=", rid]);
            }
        }
    }
}
