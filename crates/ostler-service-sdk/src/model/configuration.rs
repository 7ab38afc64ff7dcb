//! Automatic configurations (service §11).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::JsonObject;
use crate::ops::IfMatch;

/// Settings that every twin gets that meets a condition. What is `None` or empty is left out; in an update that means
/// "as it is" to Ostler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// 1 to 128 lower-case letters, digits and `- + % _ * ! '`.
    pub id: String,
    /// `1.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<String>,
    /// Names and values of the caller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// What it sets; cannot be changed once it is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ConfigurationContent>,
    /// Echoed by the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// A WHERE body over device twins, `*` for all, empty for nobody; `from devices.modules where …` for modules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_condition: Option<String>,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time_utc: Option<String>,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated_time_utc: Option<String>,
    /// The highest wins a twin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// What the hub counts for every configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_metrics: Option<ConfigurationMetrics>,
    /// What the configuration counts itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<ConfigurationMetrics>,
    /// Changes with each update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

impl Configuration {
    /// A configuration that sets this on whom the condition targets.
    ///
    /// ```
    /// use ostler_service_sdk::{Configuration, ConfigurationContent, JsonObject};
    ///
    /// let fan = JsonObject::from_iter([("properties.desired.fan".to_owned(), 2.into())]);
    /// let fans = Configuration::new("fans-1", ConfigurationContent::devices(fan), "tags.site = 'A'", 10);
    /// # assert_eq!(fans.priority, Some(10));
    /// ```
    pub fn new(
        id: impl Into<String>,
        content: ConfigurationContent,
        target_condition: impl Into<String>,
        priority: u32,
    ) -> Self {
        Self {
            id: id.into(),
            schema_version: Some("1.0".into()),
            content: Some(content),
            target_condition: Some(target_condition.into()),
            priority: Some(priority),
            ..Self::default()
        }
    }

    /// The condition that a write finds this very state of the configuration.
    ///
    /// ```
    /// use ostler_service_sdk::{Configuration, IfMatch};
    ///
    /// let read = Configuration { etag: Some("MQ==".into()), ..Configuration::default() };
    /// assert_eq!(read.if_match(), IfMatch::Etag("MQ==".into()));
    /// ```
    pub fn if_match(&self) -> IfMatch {
        IfMatch::from_etag(self.etag.as_deref())
    }
}

/// What a configuration sets; one of the three. A path is `properties.desired.a.b`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationContent {
    /// On devices: values by path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_content: Option<JsonObject>,
    /// On the modules of edge devices: values by path, by module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modules_content: Option<BTreeMap<String, JsonObject>>,
    /// On modules: values by path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_content: Option<JsonObject>,
}

impl ConfigurationContent {
    /// Content for devices.
    ///
    /// ```
    /// use ostler_service_sdk::{ConfigurationContent, JsonObject};
    ///
    /// let fan = JsonObject::from_iter([("properties.desired.fan".to_owned(), 2.into())]);
    /// let content = ConfigurationContent::devices(fan);
    /// # assert!(content.device_content.is_some());
    /// ```
    pub fn devices(settings: JsonObject) -> Self {
        Self { device_content: Some(settings), ..Self::default() }
    }

    /// Content for modules.
    ///
    /// ```
    /// use ostler_service_sdk::{ConfigurationContent, JsonObject};
    ///
    /// let fan = JsonObject::from_iter([("properties.desired.fan".to_owned(), 2.into())]);
    /// let content = ConfigurationContent::modules(fan);
    /// # assert!(content.module_content.is_some());
    /// ```
    pub fn modules(settings: JsonObject) -> Self {
        Self { module_content: Some(settings), ..Self::default() }
    }

    /// Content for the modules of edge devices.
    ///
    /// ```
    /// use ostler_service_sdk::{ConfigurationContent, JsonObject};
    ///
    /// let fan = JsonObject::from_iter([("properties.desired.fan".to_owned(), 2.into())]);
    /// let content = ConfigurationContent::edge([("cooler".to_owned(), fan)].into());
    /// # assert!(content.modules_content.is_some());
    /// ```
    pub fn edge(modules: BTreeMap<String, JsonObject>) -> Self {
        Self { modules_content: Some(modules), ..Self::default() }
    }
}

/// Queries and the number of their rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationMetrics {
    /// Counts by name; only on reads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub results: BTreeMap<String, u64>,
    /// Queries by name.
    #[serde(default)]
    pub queries: BTreeMap<String, String>,
}

/// Queries to be tried before a configuration is made of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationQueries {
    /// A target condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_condition: Option<String>,
    /// Custom metrics by name.
    pub custom_metric_queries: BTreeMap<String, String>,
}

/// What is wrong with tried queries; nothing is wrong with those that are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConfigurationQueryErrors {
    /// Of the target condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_condition_error: Option<String>,
    /// Of the metrics, by name.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub custom_metric_query_errors: BTreeMap<String, String>,
}

impl ConfigurationQueryErrors {
    /// Whether nothing is wrong.
    ///
    /// ```
    /// assert!(ostler_service_sdk::ConfigurationQueryErrors::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.target_condition_error.is_none() && self.custom_metric_query_errors.is_empty()
    }
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A content or a whole configuration, as a file may hold it: with one of the three kinds of content at the top, it is
/// the content alone.
impl TryFrom<Value> for ConfigurationContent {
    type Error = serde_json::Error;

    fn try_from(value: Value) -> Result<Self, serde_json::Error> {
        match value.get("content") {
            Some(content) => serde_json::from_value(content.clone()),
            None => serde_json::from_value(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_keeps_its_content_as_written() {
        let text = r#"{"id":"c","content":{"deviceContent":{"properties.desired.b":{"z":1.0,"a":null}}},"targetCondition":"*","priority":1,"metrics":{"results":{"m":2},"queries":{"m":"q"}},"etag":"MQ==","novel":1}"#;
        let configuration: Configuration = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&configuration).unwrap(), text);
    }

    #[test]
    fn errors_may_be_null() {
        let errors: ConfigurationQueryErrors =
            serde_json::from_str(r#"{"targetConditionError":null,"customMetricQueryErrors":null}"#).unwrap();
        assert!(errors.is_empty());
    }
}
