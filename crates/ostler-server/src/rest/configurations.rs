//! Handlers of automatic configurations (service §11). Each has three moves: take the request apart, call the hub, write
//! down what comes back.

use super::answer::{empty, ok, with_etag, Answer, Failure};
use super::registry::condition;
use super::service::Context;
use http::StatusCode;
use ostler_core::configuration::{Configuration, ConfigurationId};
use ostler_core::id::DeviceId;
use ostler_core::limits::CONFIGURATIONS;
use ostler_hub::configurations::{Measured, MeasuredMetric, QueryTest};
use ostler_wire::rest::configuration::{self as wire, AllMetrics, Metrics};
use ostler_wire::rest::error::ErrorCode;
use ostler_wire::rest::etag::IfMatch;
use ostler_wire::rest::identity::write_list;

/// Most configurations fit without growing the buffer.
const CONFIGURATION_BYTES: usize = 2048;

/// A name that no configuration can have is one that none has.
fn known_id(text: &str) -> Result<ConfigurationId, Failure> {
    ConfigurationId::new(text).map_err(|_| {
        let text: String = text.chars().take(ostler_core::limits::CONFIGURATION_ID_BYTES).collect();
        Failure::new(ErrorCode::ConfigurationNotFound, format!("there is no configuration {text:?}"))
    })
}

fn metrics(measured: Measured) -> AllMetrics {
    let list = |metrics: Vec<MeasuredMetric>| Metrics {
        entries: metrics.into_iter().map(|metric| (metric.name, metric.query, metric.result)).collect(),
    };
    AllMetrics { system: list(measured.system), custom: list(measured.custom) }
}

fn answer(configuration: &Configuration, measured: Measured) -> Answer {
    let metrics = metrics(measured);
    let answer = ok(CONFIGURATION_BYTES, |out| wire::write_configuration(configuration, &metrics, out));
    with_etag(answer, &configuration.etag_text())
}

/// The service returns at most as many as there may be, so a larger `top` is no fault (service §11.1).
pub(super) async fn list(context: &Context<'_>) -> Result<Answer, Failure> {
    let top = match context.query.value("top") {
        None => CONFIGURATIONS,
        Some(text) => text.parse().ok().filter(|top| *top > 0).ok_or_else(|| {
            let text = format!("top is '{text}', allowed are 1 to {CONFIGURATIONS}");
            Failure::new(ErrorCode::ArgumentInvalid, text)
        })?,
    };
    let mut all = Vec::new();
    for configuration in context.app.hub.configurations(top) {
        let measured = context.app.hub.measure_configuration(&configuration).await?;
        all.push((configuration, metrics(measured)));
    }
    Ok(ok(all.len() * CONFIGURATION_BYTES + 2, |out| {
        write_list(&all, out, |(configuration, metrics), out| {
            wire::write_configuration(configuration, metrics, out)
        });
    }))
}

pub(super) async fn get(context: &Context<'_>, id: &str) -> Result<Answer, Failure> {
    let configuration = context.app.hub.configuration(&known_id(id)?)?;
    let measured = context.app.hub.measure_configuration(&configuration).await?;
    Ok(answer(&configuration, measured))
}

/// Without a condition a PUT creates, with one it updates (service §4). Nothing is counted yet: twins follow.
pub(super) async fn put(context: &Context<'_>, id: &str, body: &[u8]) -> Result<Answer, Failure> {
    let hub = &context.app.hub;
    let id = ConfigurationId::new(id)
        .map_err(|error| Failure::new(ErrorCode::ArgumentInvalid, error.to_string()))?;
    let spec = wire::read_configuration(&id, body)?;
    let configuration = match context.if_match() {
        IfMatch::Absent => hub.create_configuration(&id, spec, context.dialect()).await?,
        if_match => hub.update_configuration(&id, &condition(if_match), spec, context.dialect()).await?,
    };
    Ok(answer(&configuration, hub.configuration_queries(&configuration)))
}

pub(super) async fn delete(context: &Context<'_>, id: &str) -> Result<Answer, Failure> {
    context.app.hub.delete_configuration(&known_id(id)?, &condition(context.if_match())).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) fn test_queries(context: &Context<'_>, body: &[u8]) -> Result<Answer, Failure> {
    let test = wire::read_query_test(body)?;
    let test = QueryTest { target_condition: test.target_condition, metrics: test.metrics };
    let outcome = context.app.hub.test_configuration_queries(test, context.dialect());
    Ok(ok(256, |out| wire::write_query_test(outcome.condition.as_deref(), &outcome.metrics, out)))
}

pub(super) async fn apply_content(
    context: &Context<'_>,
    id: &DeviceId,
    body: &[u8],
) -> Result<Answer, Failure> {
    let content = wire::read_content(body)?;
    context.app.hub.apply_configuration_content(id, &content).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
