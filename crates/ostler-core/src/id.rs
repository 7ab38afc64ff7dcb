//! The names of devices and modules.
//!
//! Invariant: a value of these types obeys the rules of device §1.2 and service §5.2; nothing inside
//! the hub checks an id again.
//!
//! Invariant: no id contains `/`, so the text form of an [`EntityId`] splits in exactly one way.

use crate::limits::ID_BYTES;
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing there.
    #[error("the id is empty")]
    Empty,
    /// Longer than [`ID_BYTES`].
    #[error("the id has {0} bytes, the limit is {ID_BYTES}")]
    TooLong(usize),
    /// A character outside the allowed set.
    #[error("the character {0:?} is not allowed in an id; allowed are ASCII letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '")]
    Character(char),
    /// A client id with more than one `/`.
    #[error("expected a device id, or a device id and a module id with one / between them")]
    Shape,
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ID_BYTES {
        return Err(IdError::TooLong(text.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-:.+%_#*?!(),=@;$'".contains(c);
    match text.chars().find(|c| !allowed(*c)) {
        Some(c) => Err(IdError::Character(c)),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the rules of service §5.2: 1 to 128 bytes of the allowed ASCII set, case-sensitive.
            ///
            /// # Errors
            /// [`IdError`] names the rule that is broken.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    };
}

id! {
    /// The name of a device, unique in the hub.
    DeviceId
}
id! {
    /// The name of a module, unique within its device.
    ModuleId
}

/// A device or one of its modules: whatever has an identity, a twin and a connection of its own.
///
/// The text form, `{device}` or `{device}/{module}`, is also its MQTT client id (device §2.2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(Arc<str>);

impl EntityId {
    /// The module of a device.
    pub fn of_module(device: &DeviceId, module: &ModuleId) -> EntityId {
        EntityId(format!("{device}/{module}").into())
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`IdError`] names the rule that is broken.
    pub fn parse(text: &str) -> Result<EntityId, IdError> {
        match text.split_once('/') {
            None => check(text)?,
            Some((_, module)) if module.contains('/') => return Err(IdError::Shape),
            Some((device, module)) => {
                check(device)?;
                check(module)?;
            }
        }
        Ok(EntityId(text.into()))
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The device's name.
    pub fn device(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(device, _)| device)
    }

    /// The module's name, when this is a module.
    pub fn module(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, module)| module)
    }

    /// Whether this is a module.
    pub fn is_module(&self) -> bool {
        self.0.contains('/')
    }

    /// The device's id.
    pub fn device_id(&self) -> DeviceId {
        match self.0.split_once('/') {
            None => DeviceId(self.0.clone()),
            Some((device, _)) => DeviceId(device.into()),
        }
    }

    /// The module's id, when this is a module.
    pub fn module_id(&self) -> Option<ModuleId> {
        self.module().map(|module| ModuleId(module.into()))
    }
}

impl FromStr for EntityId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<EntityId, IdError> {
        EntityId::parse(text)
    }
}

impl From<DeviceId> for EntityId {
    fn from(id: DeviceId) -> EntityId {
        EntityId(id.0)
    }
}

impl From<&DeviceId> for EntityId {
    fn from(id: &DeviceId) -> EntityId {
        EntityId(id.0.clone())
    }
}

impl Borrow<str> for EntityId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        assert!(DeviceId::new("pump-7").is_ok());
        assert!(DeviceId::new("aZ09-:.+%_#*?!(),=@;$'").is_ok());
        assert_eq!(DeviceId::new(""), Err(IdError::Empty));
        assert_eq!(DeviceId::new("a/b"), Err(IdError::Character('/')));
        assert_eq!(DeviceId::new("a\0b"), Err(IdError::Character('\0')));
        assert_eq!(DeviceId::new("é"), Err(IdError::Character('é')));
        assert_eq!(DeviceId::new("a b"), Err(IdError::Character(' ')));
        assert!(DeviceId::new(&"x".repeat(128)).is_ok());
        assert_eq!(DeviceId::new(&"x".repeat(129)), Err(IdError::TooLong(129)));
    }

    #[test]
    fn entities() {
        let module = EntityId::parse("pump-7/valve").unwrap();
        assert_eq!((module.device(), module.module()), ("pump-7", Some("valve")));
        let device = EntityId::parse("pump-7").unwrap();
        assert_eq!((device.device(), device.module()), ("pump-7", None));
        assert_eq!(EntityId::from(DeviceId::new("pump-7").unwrap()), device);
        for bad in ["", "/", "a/", "/b", "a/b/c", "a//b"] {
            assert!(EntityId::parse(bad).is_err(), "{bad}");
        }
    }
}
