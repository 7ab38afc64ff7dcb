//! What surrounds the interface: metrics and readiness.
//!
//! They are served without sign-in on the HTTPS listener and, where there is one, on the plain HTTP listener: they name
//! no device and hold no secret. Who does not want them seen keeps the port from whom it concerns, as for the rest.
//!
//! Must not know how requests are read or answered.
//!
//! Invariant: readiness never waits for anything; it says what is known now.

mod collect;
mod http;

pub use self::http::{Counted, HttpMetrics};

use self::collect::Snapshot;
use crate::app::App;
use parking_lot::RwLock;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;
use std::borrow::Cow;
use std::fmt;

/// What every metric's name begins with.
const PREFIX: &str = "ostler";

/// The media type of [`Metrics::text`].
pub const METRICS_MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the process counts for itself; what hub, store and listeners count is read when it is asked for.
pub struct Metrics {
    registry: RwLock<Registry>,
    /// Of the REST door.
    pub http: HttpMetrics,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix(PREFIX);
        let http = HttpMetrics::register(&mut registry);
        Metrics { registry: RwLock::new(registry), http }
    }
}

impl Metrics {
    /// Adds metrics of another part of the server.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.write());
    }

    /// All metrics in the text form that Prometheus scrapes.
    ///
    /// # Errors
    /// When one of them cannot be printed.
    pub fn text(&self, app: &App) -> Result<String, fmt::Error> {
        let mut now = Registry::with_prefix(PREFIX);
        now.register_collector(Box::new(Snapshot::of(app)));
        let mut text = String::with_capacity(16 * 1024);
        encode_registry(&mut text, &now)?;
        encode_registry(&mut text, &self.registry.read())?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// Why the hub does not take work, if so.
pub fn not_ready(app: &App) -> Option<Cow<'static, str>> {
    if app.stopping.is_cancelled() {
        return Some("the hub is stopping".into());
    }
    app.hub
        .store()
        .status()
        .refusing_writes
        .map(|_| "the store refuses writes; the hub's log says why".into())
}
