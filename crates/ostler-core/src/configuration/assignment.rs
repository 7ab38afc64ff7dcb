//! What a record keeps of the configurations that target it (service §8.1, §11.4).
//!
//! Must not know: which configuration wins; see `decide`.
//!
//! Invariant: a [`ConfigurationId`] obeys the rules of service §11.2.

use crate::json::Key;
use crate::limits::CONFIGURATION_ID_BYTES;
use std::fmt;
use std::sync::Arc;

/// The name of a configuration: 1 to 128 lower-case ASCII letters, digits and `- + % _ * ! '`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigurationId(Arc<str>);

/// Why a text is not the id of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationIdError {
    /// Nothing there.
    #[error("the configuration's id is empty")]
    Empty,
    /// Longer than [`CONFIGURATION_ID_BYTES`].
    #[error("the configuration's id has {0} bytes, the limit is {CONFIGURATION_ID_BYTES}")]
    TooLong(usize),
    /// A character outside the allowed set.
    #[error(
        "the character {0:?} is not allowed in a configuration's id; allowed are lower-case ASCII letters, \
         digits and - + % _ * ! '"
    )]
    Character(char),
}

impl ConfigurationId {
    /// Checks the rules of service §11.2.
    ///
    /// # Errors
    /// [`ConfigurationIdError`] names the rule that is broken.
    pub fn new(text: &str) -> Result<ConfigurationId, ConfigurationIdError> {
        if text.is_empty() {
            return Err(ConfigurationIdError::Empty);
        }
        if text.len() > CONFIGURATION_ID_BYTES {
            return Err(ConfigurationIdError::TooLong(text.len()));
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-+%_*!'".contains(c);
        match text.chars().find(|c| !allowed(*c)) {
            Some(c) => Err(ConfigurationIdError::Character(c)),
            None => Ok(ConfigurationId(text.into())),
        }
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConfigurationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ConfigurationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// A configuration that targets an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Which one.
    pub id: ConfigurationId,
    /// What became of it.
    pub state: State,
}

/// What became of a configuration at one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its condition matches, but another one won.
    Targeted,
    /// It won, and its settings are in the desired properties.
    Applied(Applied),
}

/// What must be removed when a configuration no longer applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The paths below the desired properties that it set.
    pub paths: Vec<Box<[Key]>>,
}

impl State {
    /// The word that clients see: `Targeted` or `Applied`.
    pub fn name(&self) -> &'static str {
        match self {
            State::Targeted => "Targeted",
            State::Applied(_) => "Applied",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        assert!(ConfigurationId::new("cfg-1+%_*!'9").is_ok());
        assert_eq!(ConfigurationId::new(""), Err(ConfigurationIdError::Empty));
        assert_eq!(ConfigurationId::new("Cfg"), Err(ConfigurationIdError::Character('C')));
        assert_eq!(ConfigurationId::new("a/b"), Err(ConfigurationIdError::Character('/')));
        assert_eq!(ConfigurationId::new("a.b"), Err(ConfigurationIdError::Character('.')));
        assert_eq!(ConfigurationId::new(&"x".repeat(129)), Err(ConfigurationIdError::TooLong(129)));
    }
}
