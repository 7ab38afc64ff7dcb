//! The MQTT username of a device: `{hub}/{client-id}/?api-version=…&…` (device §2.2).
//!
//! Must not know which hubs or devices exist: whether the host is ours and the id is the client id is the
//! reader's to check.
//!
//! Invariant: reading what was written gives the same value back.

use std::borrow::Cow;
use std::fmt;

use crate::topic::{decode, encode};

/// What a device says about itself in its username.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username<'a> {
    /// The host name the device was given, in its own spelling: compare without regard to case.
    pub host: &'a str,
    /// `{device}` or `{device}/{module}`; must be the MQTT client id, to the letter.
    pub entity: &'a str,
    /// Missing from hand-written clients.
    pub api_version: Option<Cow<'a, str>>,
    /// The digital-twin model that the device implements.
    pub model_id: Option<Cow<'a, str>>,
    /// Name, version and platform of the device's client library.
    pub client_type: Option<Cow<'a, str>>,
}

/// Why a username cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsernameError {
    /// No `/`, or nothing in front of it.
    #[error("the username does not start with a host name and a slash")]
    Host,
    /// An empty device or module id, or more than two ids.
    #[error("the username does not name a device or module behind the host")]
    Entity,
}

/// Reads a username. Of two parameters with the same name the first counts; unknown ones are ignored.
///
/// # Errors
/// If there is no host, or no device behind it.
pub fn parse(text: &str) -> Result<Username<'_>, UsernameError> {
    let (host, rest) =
        text.split_once('/').filter(|(host, _)| !host.is_empty()).ok_or(UsernameError::Host)?;
    let (entity, parameters) = split_entity(rest).ok_or(UsernameError::Entity)?;
    let mut username = Username { host, entity, api_version: None, model_id: None, client_type: None };
    for (key, value) in parameters.split('&').filter_map(|parameter| parameter.split_once('=')) {
        let field = match key {
            "api-version" => &mut username.api_version,
            // The second name was used by previews.
            "model-id" | "digital-twin-model-id" => &mut username.model_id,
            "DeviceClientType" => &mut username.client_type,
            _ => continue,
        };
        if field.is_none() {
            *field = Some(decode(value));
        }
    }
    Ok(username)
}

/// `{device}[/{module}]` and the parameters. The second segment is a module unless it looks like parameters,
/// so a device may be called anything; parameters may hold slashes.
fn split_entity(rest: &str) -> Option<(&str, &str)> {
    let (device, behind) = rest.split_once('/').unwrap_or((rest, ""));
    if device.is_empty() {
        return None;
    }
    let (segment, tail) = behind.split_once('/').unwrap_or((behind, ""));
    if behind.is_empty() || is_parameters(segment) {
        return Some((device, strip_mark(behind)));
    }
    let entity = &rest[..device.len() + 1 + segment.len()];
    let valid = !segment.is_empty() && (tail.is_empty() || tail.split('/').next().is_some_and(is_parameters));
    valid.then_some((entity, strip_mark(tail)))
}

fn is_parameters(segment: &str) -> bool {
    segment.starts_with('?') || segment.contains("api-version=")
}

fn strip_mark(parameters: &str) -> &str {
    parameters.strip_prefix('?').unwrap_or(parameters)
}

/// As current devices write it.
impl fmt::Display for Username<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/", self.host, self.entity)?;
        let parameters = [
            ("api-version", &self.api_version),
            ("DeviceClientType", &self.client_type),
            ("model-id", &self.model_id),
        ];
        let mut separator = "?";
        for (key, value) in parameters {
            if let Some(value) = value {
                let mut encoded = String::new();
                encode(value, &mut encoded);
                write!(f, "{separator}{key}={encoded}")?;
                separator = "&";
            }
        }
        Ok(())
    }
}
