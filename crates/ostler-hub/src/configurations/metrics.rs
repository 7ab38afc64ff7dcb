//! What configurations count (service §11.3), and a try of their queries before one is made.
//!
//! Must not know: how rows are found; the store counts them.
//!
//! Invariant: results are those of one moment after the call began; nothing is remembered.

use crate::error::Error;
use crate::hub::Hub;
use ostler_core::configuration::{Configuration, ConfigurationError, Metric, Target};
use ostler_core::json::{Key, Value};
use ostler_core::query::{Collection, Dialect, Query};
use ostler_store::Filter;
use std::sync::Arc;

/// A named query and the number of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredMetric {
    /// The metric's name.
    pub name: Key,
    /// The query, to be run again by whoever wants the rows.
    pub query: Box<str>,
    /// The number of its rows; `None` if it was not asked for, or the query is longer than one may be.
    pub result: Option<u64>,
}

/// The metrics of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Those that every configuration has.
    pub system: Vec<MeasuredMetric>,
    /// The configuration's own.
    pub custom: Vec<MeasuredMetric>,
}

/// Queries to be tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryTest {
    /// A target condition.
    pub target_condition: Option<Box<str>>,
    /// Custom metrics: name and query.
    pub metrics: Vec<(Key, Box<str>)>,
}

/// What is wrong with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryTestOutcome {
    /// Of the target condition.
    pub condition: Option<String>,
    /// Of the metrics that are wrong, by name.
    pub metrics: Vec<(Key, String)>,
}

impl Hub {
    /// The metrics of a configuration without results.
    pub fn configuration_queries(&self, configuration: &Configuration) -> Measured {
        let system = configuration.target.system_queries(&configuration.id).into_iter();
        let system = system.map(|(name, query)| MeasuredMetric {
            name: name.into(),
            query: query.into(),
            result: None,
        });
        let custom = configuration.metrics.iter().map(|metric| MeasuredMetric {
            name: metric.name.clone(),
            query: metric.text.clone(),
            result: None,
        });
        Measured { system: system.collect(), custom: custom.collect() }
    }

    /// The metrics of a configuration, counted now.
    ///
    /// # Errors
    /// The store's.
    pub async fn measure_configuration(&self, configuration: &Configuration) -> Result<Measured, Error> {
        let mut measured = self.configuration_queries(configuration);
        for metric in &mut measured.system {
            // A condition that fills its limit has no room for the rest of the query.
            let Ok(query) = parse(&metric.query) else { continue };
            metric.result = Some(self.count_rows(query).await?);
        }
        for metric in &mut measured.custom {
            metric.result = Some(self.count_rows(parse(&metric.query)?).await?);
        }
        Ok(measured)
    }

    /// How many rows a query over devices or modules has.
    async fn count_rows(&self, query: Query) -> Result<u64, Error> {
        let filter =
            Filter { modules: query.from == Collection::Modules, condition: query.condition.clone() };
        let (most, offset) = (query.row_limit().unwrap_or(u64::MAX), query.offset.unwrap_or(0));
        let grouped = query.is_grouped();
        let query = if grouped { query } else { parse("SELECT COUNT() AS n FROM devices")? };
        let rows = self.store.fold(Arc::new(filter), self.live(), Arc::new(query)).await?.rows();
        let all = match rows.first().and_then(|row| row.get("n")).and_then(Value::as_i64) {
            Some(count) if !grouped => u64::try_from(count).unwrap_or(0),
            _ => rows.len() as u64,
        };
        Ok(all.saturating_sub(offset).min(most))
    }

    /// Says what is wrong with a target condition and metrics.
    pub fn test_configuration_queries(&self, test: QueryTest, dialect: Dialect) -> QueryTestOutcome {
        let condition = test.target_condition.and_then(|text| Target::check(&text, dialect).err());
        let metrics = test.metrics.into_iter().filter_map(|(name, text)| {
            let error = Metric::read(name.clone(), text, dialect).err()?;
            Some((name, reason(error)))
        });
        QueryTestOutcome { condition: condition.map(reason), metrics: metrics.collect() }
    }
}

/// Custom metrics parsed when their configuration was made; a system query may have become too long by its prefix.
fn parse(text: &str) -> Result<Query, Error> {
    Query::parse(text, Dialect::Extended).map_err(|error| Error::InvalidArgument(error.to_string()))
}

/// The place of the answer says already what it is about.
fn reason(error: ConfigurationError) -> String {
    match error {
        ConfigurationError::Condition(reason) | ConfigurationError::Metric { reason, .. } => reason,
        other => other.to_string(),
    }
}
