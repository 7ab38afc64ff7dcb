//! What the hub says to a device. The exact spelling matters: several devices take these topics apart by
//! position.

use ostler_core::id::EntityId;

use super::parameters::{decimal, request_id, Parameters};
use super::{put, put_number, Bag, Owner, TopicError};
use crate::mqtt::packet::TopicName;

/// The meaning of a topic that a device or module receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubMessage<'a> {
    /// The answer to a twin request (device §4.2).
    TwinResponse {
        /// As HTTP means it.
        status: u16,
        /// That of the request.
        rid: &'a str,
        /// The version of the reported properties after a change.
        version: Option<u64>,
    },
    /// The desired properties have changed (device §4.4). The payload must hold `$version` as well.
    DesiredChanged {
        /// The version of the desired properties after the change.
        version: u64,
    },
    /// A method is to be executed (device §6).
    MethodRequest {
        /// Its name, literally: without `/`, `+`, `#` and `?`.
        method: &'a str,
        /// To be repeated in the answer.
        rid: &'a str,
    },
    /// A message from the cloud (device §3.5); see [`super::CloudToDevice`] for what its bag must hold.
    CloudToDevice {
        /// Its properties.
        bag: Bag<'a>,
    },
    /// A message to an input of a module (device §9).
    ModuleInput {
        /// The name of the input.
        input: &'a str,
        /// The properties.
        bag: Bag<'a>,
    },
}

impl<'a> HubMessage<'a> {
    /// Reads a topic received on the connection of `entity`.
    ///
    /// # Errors
    /// If the topic is not one that the hub sends to `entity`.
    pub fn parse(topic: &'a str, entity: &EntityId) -> Result<Self, TopicError> {
        match topic.strip_prefix("$iothub/") {
            None => message(topic, Owner::from(entity)),
            Some(rest) => service(rest),
        }
    }

    /// The topic to publish this to on the connection of `entity`.
    #[inline]
    pub fn of(self, entity: &'a EntityId) -> impl TopicName + 'a {
        HubTopic { message: self, owner: Owner::from(entity) }
    }
}

fn message<'a>(topic: &'a str, owner: Owner<'_>) -> Result<HubMessage<'a>, TopicError> {
    let rest = owner.strip(topic)?;
    if owner.module.is_none() {
        let bag = rest.strip_prefix("messages/devicebound/").ok_or(TopicError::Unknown)?;
        return Ok(HubMessage::CloudToDevice { bag: Bag::from_encoded(bag) });
    }
    let (input, bag) =
        rest.strip_prefix("inputs/").and_then(|rest| rest.split_once('/')).ok_or(TopicError::Unknown)?;
    Ok(HubMessage::ModuleInput { input, bag: Bag::from_encoded(bag) })
}

/// What follows `$iothub/`.
fn service(rest: &str) -> Result<HubMessage<'_>, TopicError> {
    if let Some(rest) = rest.strip_prefix("twin/res/") {
        let (status, parameters) = rest.split_once('/').ok_or(TopicError::Unknown)?;
        let status = decimal(status).ok_or(TopicError::Status)?;
        let Parameters { rid, version } = Parameters::parse(parameters)?;
        return Ok(HubMessage::TwinResponse { status, rid: rid.ok_or(TopicError::RequestId)?, version });
    }
    if let Some(parameters) = rest.strip_prefix("twin/PATCH/properties/desired/") {
        let version = Parameters::parse(parameters)?.version.ok_or(TopicError::Version)?;
        return Ok(HubMessage::DesiredChanged { version });
    }
    if let Some(rest) = rest.strip_prefix("methods/POST/") {
        let (method, rid) = rest.split_once("/?$rid=").ok_or(TopicError::RequestId)?;
        if method.is_empty() || method.contains('/') {
            return Err(TopicError::Unknown);
        }
        return Ok(HubMessage::MethodRequest { method, rid: request_id(rid)? });
    }
    Err(TopicError::Unknown)
}

struct HubTopic<'a> {
    message: HubMessage<'a>,
    owner: Owner<'a>,
}

impl TopicName for HubTopic<'_> {
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        match self.message {
            HubMessage::TwinResponse { status, rid, version } => {
                put(out, &["$iothub/twin/res/"]);
                put_number(out, status);
                put(out, &["/?$rid=", rid]);
                if let Some(version) = version {
                    put(out, &["&$version="]);
                    put_number(out, version);
                }
            }
            HubMessage::DesiredChanged { version } => {
                put(out, &["$iothub/twin/PATCH/properties/desired/?$version="]);
                put_number(out, version);
            }
            HubMessage::MethodRequest { method, rid } => {
                put(out, &["$iothub/methods/POST/", method, "/?$rid=", rid])
            }
            HubMessage::CloudToDevice { bag } => {
                self.owner.write(out);
                put(out, &["messages/devicebound/", bag.as_str()]);
            }
            HubMessage::ModuleInput { input, bag } => {
                self.owner.write(out);
                put(out, &["inputs/", input, "/", bag.as_str()]);
            }
        }
    }
}
