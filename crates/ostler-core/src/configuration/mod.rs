//! Automatic configurations: settings that every twin gets that meets a condition (service §11).
//!
//! Must not know: how a configuration is stored or spelled on a wire; when twins are evaluated.

mod assignment;
mod content;
mod decide;

#[cfg(test)]
mod tests;

pub use assignment::{Applied, Assignment, ConfigurationId, ConfigurationIdError, State};
pub use content::{Content, Setting, Settings};
pub use decide::{decide, Candidate, Decision};

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// The id breaks a rule.
    #[error(transparent)]
    Id(#[from] ConfigurationIdError),
    /// The content cannot be applied to any twin.
    #[error("the content is not valid: {0}")]
    Content(String),
}
