//! The native half of the Python packages `iothub_client` and `iothub_service_client`: a thin bridge to the two SDKs.
//!
//! Classes, enums, argument checks, error texts and callback threads are Python; here is only what needs a network.
//!
//! Must not know: how the retired packages spelled anything; MQTT, HTTP.
//!
//! Invariant: no call holds the interpreter's lock while it waits, and every wait looks for signals (`runtime`).
//! Invariant: native code never calls Python code, so no Python exception can pass through it.

use pyo3::prelude::*;

mod device;
mod device_invoke;
mod device_outcome;
mod device_settings;
mod log;
mod runtime;
mod service;
mod trust;

/// What the Python halves import, as `ostler_iothub._native`.
#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::device::{connection_string_problem, DeviceClient, Task};
    #[pymodule_export]
    use super::log::trace;
    #[pymodule_export]
    use super::runtime::{is_shutting_down, shut_down};
    #[pymodule_export]
    use super::service::{Failure, Service};
    #[pymodule_export]
    use super::trust::trust_problem;

    /// The version of this half; the Python half must be of the same.
    #[pyfunction]
    fn version() -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    #[pymodule_init]
    fn begin(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::log::begin();
        Ok(())
    }
}
