//! Handlers of what surrounds the interface: metrics, health, and the page a browser gets.

use super::answer::{content, Answer};
use crate::app::App;
use crate::ops::{not_ready, METRICS_MEDIA_TYPE};
use http::{HeaderValue, StatusCode};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// `GET /metrics`.
pub(super) fn metrics(app: &App) -> Answer {
    match app.metrics.text(app) {
        Ok(text) => content(StatusCode::OK, HeaderValue::from_static(METRICS_MEDIA_TYPE), text),
        Err(_) => content(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the metrics cannot be printed\n"),
    }
}

/// `GET /healthz`: the process lives and answers.
pub(super) fn health() -> Answer {
    content(StatusCode::OK, TEXT, "ok\n")
}

/// `GET /readyz`: whether the hub takes work.
pub(super) fn readiness(app: &App) -> Answer {
    match not_ready(app) {
        None => content(StatusCode::OK, TEXT, "ready\n"),
        Some(reason) => content(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {reason}\n")),
    }
}

/// `GET /`: what a person finds who opens the address in a browser.
pub(super) fn landing() -> Answer {
    content(StatusCode::OK, HTML, include_str!("landing.html"))
}
