//! Automatic configurations: settings that every twin gets that meets a condition (service §11).
//!
//! Must not know: how a configuration is stored or spelled on a wire; when twins are evaluated.

mod assignment;
mod content;
mod decide;
mod model;
mod target;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use assignment::{Applied, Assignment, ConfigurationId, ConfigurationIdError, State};
pub use content::{Content, Setting, Settings};
pub use decide::{decide, settings_patch, Candidate, Decision};
pub use model::{Configuration, ConfigurationSpec};
pub use target::{Metric, Scope, Target, EDGE_AGENT};

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// The id breaks a rule.
    #[error(transparent)]
    Id(#[from] ConfigurationIdError),
    /// The content cannot be applied to any twin.
    #[error("the content is not valid: {0}")]
    Content(String),
    /// An update with other content (service §11.2).
    #[error(
        "the content of a configuration cannot be changed once it is created; create another configuration \
         with a higher priority"
    )]
    ContentChanged,
    /// The target condition cannot be read.
    #[error("the target condition is not valid: {0}")]
    Condition(String),
    /// A metric's query cannot be read.
    #[error("the query of the metric {name:?} is not valid: {reason}")]
    Metric {
        /// The metric.
        name: String,
        /// What is wrong with its query.
        reason: String,
    },
    /// Another member breaks a rule.
    #[error("{0}")]
    Argument(String),
}
