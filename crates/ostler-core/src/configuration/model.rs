//! A configuration: what it sets, whom it targets, what it counts (service §11.2).
//!
//! Must not know: how it is stored or spelled on a wire.
//!
//! Invariant: the content never changes after creation (service §11.2).
//!
//! Invariant: target condition and metrics of a [`Configuration`] parse; nothing checks them again.

use super::content::Content;
use super::target::{Metric, Target};
use super::{ConfigurationError, ConfigurationId};
use crate::json::{Key, Object};
use crate::limits::{CONFIGURATION_LABELS, CONFIGURATION_METRICS, TWIN_STRING_BYTES};
use crate::query::Dialect;
use crate::time::Timestamp;
use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;

/// What a caller asks for. In an update, what is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigurationSpec {
    /// Echoed; clients send `1.0`.
    pub schema_version: Option<Box<str>>,
    /// Names and values of the caller's own.
    pub labels: Option<Vec<(Key, Box<str>)>>,
    /// `deviceContent`, `moduleContent` or `modulesContent`; needed to create, unchangeable afterwards.
    pub content: Option<Object>,
    /// Echoed; one client sends `assignment`.
    pub content_type: Option<Box<str>>,
    /// Whom it targets; empty for nobody.
    pub target_condition: Option<Box<str>>,
    /// From 0 to 2^31 - 1; the highest wins.
    pub priority: Option<i64>,
    /// Custom metrics: name and query.
    pub metrics: Option<Vec<(Key, Box<str>)>>,
}

/// A configuration that was accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// Its name.
    pub id: ConfigurationId,
    /// As the caller gave it.
    pub schema_version: Box<str>,
    /// Names and values of the caller's own.
    pub labels: Vec<(Key, Box<str>)>,
    /// What it sets.
    pub content: Content,
    /// The same as it was written.
    pub content_json: Object,
    /// As the caller gave it.
    pub content_type: Option<Box<str>>,
    /// Whom it targets.
    pub target: Target,
    /// The highest wins a twin.
    pub priority: u32,
    /// What it counts besides its targets.
    pub metrics: Vec<Metric>,
    /// When it was created.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// The counter behind the etag; grows with each change.
    pub etag: u64,
}

/// The schema version of a configuration that names none.
const SCHEMA_VERSION: &str = "1.0";

impl Configuration {
    /// Makes a configuration. `etag_start` is where its etags begin, so that a re-created one has another.
    ///
    /// # Errors
    /// [`ConfigurationError`] names the member and the rule.
    pub fn create(
        id: ConfigurationId,
        spec: ConfigurationSpec,
        dialect: Dialect,
        etag_start: u32,
        now: Timestamp,
    ) -> Result<Configuration, ConfigurationError> {
        let content_json = spec.content.ok_or_else(|| {
            ConfigurationError::Content("it is missing; a configuration sets something".into())
        })?;
        let content = Content::read(&content_json)?;
        let condition = spec.target_condition.unwrap_or_default();
        let target = Target::read(&condition, &content, dialect)?;
        Ok(Configuration {
            id,
            schema_version: check_text("schemaVersion", spec.schema_version)?
                .unwrap_or_else(|| SCHEMA_VERSION.into()),
            labels: check_labels(spec.labels.unwrap_or_default())?,
            content,
            content_json,
            content_type: check_text("contentType", spec.content_type)?,
            target,
            priority: check_priority(spec.priority.unwrap_or_default())?,
            metrics: read_metrics(spec.metrics.unwrap_or_default(), dialect)?,
            created: now,
            updated: now,
            etag: u64::from(etag_start) + 1,
        })
    }

    /// The configuration with what the caller gave in place of what there was.
    ///
    /// # Errors
    /// [`ConfigurationError::ContentChanged`] for other content; else as for [`Configuration::create`].
    pub fn update(
        &self,
        spec: ConfigurationSpec,
        dialect: Dialect,
        now: Timestamp,
    ) -> Result<Configuration, ConfigurationError> {
        let mut updated = self.clone();
        if let Some(content) = &spec.content {
            if !Content::read(content)?.is_same(&self.content) {
                return Err(ConfigurationError::ContentChanged);
            }
        }
        if let Some(version) = check_text("schemaVersion", spec.schema_version)? {
            updated.schema_version = version;
        }
        if let Some(labels) = spec.labels {
            updated.labels = check_labels(labels)?;
        }
        if let Some(content_type) = check_text("contentType", spec.content_type)? {
            updated.content_type = Some(content_type);
        }
        if let Some(condition) = spec.target_condition {
            updated.target = Target::read(&condition, &self.content, dialect)?;
        }
        if let Some(priority) = spec.priority {
            updated.priority = check_priority(priority)?;
        }
        if let Some(metrics) = spec.metrics {
            updated.metrics = read_metrics(metrics, dialect)?;
        }
        updated.updated = now;
        updated.etag += 1;
        Ok(updated)
    }

    /// The etag's text: base64 of the decimal counter (service §4).
    pub fn etag_text(&self) -> String {
        STANDARD.encode(self.etag.to_string())
    }
}

fn check_priority(priority: i64) -> Result<u32, ConfigurationError> {
    let text = || format!("priority is {priority}, allowed are 0 to {}", i32::MAX);
    let priority = u32::try_from(priority).ok().filter(|priority| *priority <= i32::MAX.unsigned_abs());
    priority.ok_or_else(|| ConfigurationError::Argument(text()))
}

fn check_text(name: &str, text: Option<Box<str>>) -> Result<Option<Box<str>>, ConfigurationError> {
    match text.as_ref().map(|text| text.len()) {
        Some(length) if length > crate::limits::CONFIGURATION_ID_BYTES => {
            Err(ConfigurationError::Argument(format!("{name} has {length} bytes, the limit is 128")))
        }
        _ => Ok(text),
    }
}

fn check_labels(labels: Vec<(Key, Box<str>)>) -> Result<Vec<(Key, Box<str>)>, ConfigurationError> {
    let refuse = |text: String| Err(ConfigurationError::Argument(text));
    if labels.len() > CONFIGURATION_LABELS {
        return refuse(format!("there are {} labels, the limit is {CONFIGURATION_LABELS}", labels.len()));
    }
    match labels.iter().find(|(name, value)| name.len().max(value.len()) > TWIN_STRING_BYTES) {
        Some((name, _)) => {
            let name: String = name.chars().take(64).collect();
            refuse(format!("the label {name:?} is longer than {TWIN_STRING_BYTES} bytes"))
        }
        None => Ok(labels),
    }
}

fn read_metrics(metrics: Vec<(Key, Box<str>)>, dialect: Dialect) -> Result<Vec<Metric>, ConfigurationError> {
    if metrics.len() > CONFIGURATION_METRICS {
        let text = format!("there are {} metrics, the limit is {CONFIGURATION_METRICS}", metrics.len());
        return Err(ConfigurationError::Argument(text));
    }
    metrics.into_iter().map(|(name, text)| Metric::read(name, text, dialect)).collect()
}
