//! Whom a configuration targets, and what it counts (service §11.2, §11.3; query §11).
//!
//! Must not know: how rows are found or counted.

use super::content::{Content, Settings};
use super::{ConfigurationError, ConfigurationId};
use crate::json::Key;
use crate::query::{Collection, Condition, Dialect, Expr, Field, Query, TwinRow};

/// Which twins a configuration may target at all; follows from its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Devices.
    Devices,
    /// Modules.
    Modules,
    /// Edge devices; the settings go to their modules.
    EdgeDevices,
}

/// The condition of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    text: Box<str>,
    scope: Scope,
    /// `None`: nobody.
    condition: Option<Condition>,
}

/// The only edge module that shows which deployments target its device (service §11.3).
pub const EDGE_AGENT: &str = "$edgeAgent";
const EDGE_DEVICE: &str = "capabilities.iotEdge = true";

impl Target {
    /// Reads a target condition: the body of a WHERE over device twins, `*` for all, empty for nobody; for
    /// modules `from devices.modules where …` (service §11.2).
    ///
    /// # Errors
    /// [`ConfigurationError::Condition`] says where the text is wrong.
    pub fn read(text: &str, content: &Content, dialect: Dialect) -> Result<Target, ConfigurationError> {
        let scope = match content {
            Content::Device(_) => Scope::Devices,
            Content::Module(_) => Scope::Modules,
            Content::Edge(_) => Scope::EdgeDevices,
        };
        let refuse = |error: crate::query::ParseError| ConfigurationError::Condition(error.to_string());
        let trimmed = text.trim();
        let condition = match scope {
            _ if trimmed.is_empty() => None,
            Scope::Modules if trimmed == "*" => {
                let text = "a configuration for modules needs \"from devices.modules where …\", not \"*\"";
                return Err(ConfigurationError::Condition(text.into()));
            }
            Scope::Modules => Some(Condition::parse_modules(text, dialect).map_err(refuse)?),
            Scope::Devices | Scope::EdgeDevices => Some(Condition::parse(text, dialect).map_err(refuse)?),
        };
        Ok(Target { text: text.into(), scope, condition })
    }

    /// Checks a condition of which nobody knows yet what it will be for: with `from` in front it is for modules.
    ///
    /// # Errors
    /// As for [`Target::read`].
    pub fn check(text: &str, dialect: Dialect) -> Result<(), ConfigurationError> {
        let is_for_modules =
            text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("from"));
        let nothing = Settings::default();
        let content = if is_for_modules { Content::Module(nothing) } else { Content::Device(nothing) };
        Target::read(text, &content, dialect).map(drop)
    }

    /// The text as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Which twins it is about.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The condition, unless it targets nobody.
    pub fn condition(&self) -> Option<&Condition> {
        self.condition.as_ref()
    }

    /// Whether a twin is one of those it is about and meets the condition.
    pub fn is_met(&self, row: &TwinRow<'_>) -> bool {
        let is_module = row.record.id.is_module();
        let in_scope = match self.scope {
            Scope::Devices => !is_module,
            Scope::Modules => is_module,
            Scope::EdgeDevices => !is_module && row.record.identity.iot_edge,
        };
        in_scope && self.condition.as_ref().is_some_and(|condition| condition.is_met(row))
    }

    /// The columns that the condition asks for.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        let expr = self.condition.as_ref().and_then(|condition| condition.0.as_ref());
        expr.map(Expr::columns).unwrap_or_default().into_iter().map(crate::query::Column::field)
    }

    /// The queries behind the system metrics, with their names: what a user can run again (service §11.3).
    pub fn system_queries(&self, id: &ConfigurationId) -> Vec<(&'static str, String)> {
        let applied = format!("configurations.[[{id}]].status = 'Applied'");
        match self.scope {
            Scope::Devices => vec![
                ("targetedCount", format!("SELECT deviceId FROM devices{}", self.where_clause(None))),
                ("appliedCount", format!("SELECT deviceId FROM devices WHERE {applied}")),
            ],
            Scope::Modules => vec![
                ("targetedCount", self.module_query()),
                ("appliedCount", format!("SELECT deviceId, moduleId FROM devices.modules WHERE {applied}")),
            ],
            Scope::EdgeDevices => {
                let agents = format!(
                    "SELECT deviceId FROM devices.modules WHERE moduleId = '{EDGE_AGENT}' AND {applied}"
                );
                let reported = "properties.desired.$version = properties.reported.lastDesiredVersion AND \
                                properties.reported.lastDesiredStatus.code";
                vec![
                    (
                        "targetedCount",
                        format!("SELECT deviceId FROM devices{}", self.where_clause(Some(EDGE_DEVICE))),
                    ),
                    ("appliedCount", agents.clone()),
                    ("reportedSuccessfulCount", format!("{agents} AND {reported} = 200")),
                    ("reportedFailedCount", format!("{agents} AND {reported} != 200")),
                ]
            }
        }
    }

    /// The condition, for edge devices only.
    pub fn edge_condition(&self) -> String {
        self.where_clause(Some(EDGE_DEVICE)).trim_start_matches(" WHERE ").to_owned()
    }

    fn where_clause(&self, also: Option<&str>) -> String {
        let own = match &self.condition {
            None => Some("false"),
            Some(Condition(None)) => None,
            Some(_) => Some(self.text.trim()),
        };
        match (also, own) {
            (None, None) => String::new(),
            (None, Some(own)) => format!(" WHERE {own}"),
            (Some(also), None) => format!(" WHERE {also}"),
            (Some(also), Some(own)) => format!(" WHERE {also} AND ({own})"),
        }
    }

    fn module_query(&self) -> String {
        match &self.condition {
            None => "SELECT deviceId, moduleId FROM devices.modules WHERE false".into(),
            Some(_) => format!("SELECT deviceId, moduleId {}", self.text.trim()),
        }
    }
}

/// A custom metric: its result is the number of rows of its query (service §11.2).
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: Key,
    /// The query as it was given.
    pub text: Box<str>,
    /// The query.
    pub query: Query,
}

impl Metric {
    /// Reads a metric.
    ///
    /// # Errors
    /// [`ConfigurationError::Metric`] says where the query is wrong.
    pub fn read(name: Key, text: Box<str>, dialect: Dialect) -> Result<Metric, ConfigurationError> {
        let refuse = |reason: String| {
            let name = name.chars().take(128).collect();
            Err(ConfigurationError::Metric { name, reason })
        };
        match Query::parse(&text, dialect) {
            Err(error) => refuse(error.to_string()),
            Ok(query) if query.from == Collection::Jobs => {
                refuse("a metric counts rows of devices or devices.modules, not of devices.jobs".into())
            }
            Ok(query) if query.explain => refuse("a metric counts rows, EXPLAIN has none".into()),
            Ok(query) => Ok(Metric { name, text, query }),
        }
    }
}
