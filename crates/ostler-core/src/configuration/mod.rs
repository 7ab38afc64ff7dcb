//! Automatic configurations: settings that every twin gets that meets a condition (service §11).
//!
//! Must not know: how a configuration is stored or spelled on a wire; when twins are evaluated.

mod assignment;

pub use assignment::{Applied, Assignment, ConfigurationId, ConfigurationIdError, State};
