//! Logs of the native half: on stderr, silent unless asked for (revival §7).
//!
//! Must not know: who asks.
//!
//! Invariant: keys, tokens and payloads are logged by nobody; the SDKs see to that.

use std::io::stderr;
use std::sync::OnceLock;

use pyo3::prelude::*;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, reload, EnvFilter, Registry};

/// Says what to log: a level, or what `tracing` understands.
const VARIABLE: &str = "OSTLER_LOG";
/// What `logtrace` means.
const TRACE: &str = "warn,ostler_device_sdk=debug,ostler_native=debug";
const SILENCE: &str = "off";

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Begins to log what the environment asks for; called when the module is imported.
pub(crate) fn begin() {
    FILTER.get_or_init(|| {
        let (filter, handle) = reload::Layer::new(asked_for());
        let lines = fmt::layer().with_writer(stderr).with_ansi(false).with_target(false);
        // Another extension of this process may have been first; its subscriber then shows what there is.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        handle
    });
}

/// Logs the protocol, or no more than the environment asks for.
#[pyfunction]
pub(crate) fn trace(on: bool) {
    begin();
    if let Some(filter) = FILTER.get() {
        // Fails only where no subscriber of ours is.
        let _ = filter.reload(if on { EnvFilter::new(TRACE) } else { asked_for() });
    }
}

fn asked_for() -> EnvFilter {
    let asked = std::env::var(VARIABLE).unwrap_or_default();
    EnvFilter::try_new(if asked.is_empty() { SILENCE } else { &asked })
        .unwrap_or_else(|_| EnvFilter::new("warn"))
}
