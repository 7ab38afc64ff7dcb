//! The bridge to the service SDK: one [`Service`] per object of the Python side.
//!
//! Requests and answers cross as JSON text or plain values; what they mean to programs is decided in Python.
//!
//! Must not know: names, texts and enums of the retired package.
//!
//! Invariant: constructing a [`Service`] touches no network.
//! Invariant: every failure of a call is a [`Failure`], whose arguments are a kind, an HTTP status (0 for none) and a
//! text for people; no text shows a key or a token.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ostler_service_sdk::{Client, Error, ErrorKind, RetryPolicy};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::runtime::wait;
use crate::trust::ExtraTrust;

pyo3::create_exception!(_native, Failure, PyException, "A call that failed: (kind, HTTP status or 0, text).");

/// How long one request may take; about what the C library allowed (revival §7).
const REQUEST_LIMIT: Duration = Duration::from_secs(240);

/// Names the retired package to the hub's operators.
const USER_AGENT: &str = concat!("iothub_service_client/1.4.6 ostler-python/", env!("CARGO_PKG_VERSION"));

/// A client of one hub, made from a connection string.
#[pyclass(frozen, module = "ostler_iothub._native")]
pub(crate) struct Service {
    connection_string: String,
    /// With the process it was made in: connections do not survive a fork.
    client: Mutex<Option<(u32, Client)>>,
}

#[pymethods]
impl Service {
    /// Refuses a connection string that cannot work; opens no connection.
    #[new]
    fn new(connection_string: String) -> PyResult<Self> {
        Client::builder(&connection_string).map_err(failure)?;
        Ok(Self { connection_string, client: Mutex::new(None) })
    }

    /// (all, enabled, disabled) devices.
    fn statistics(&self, py: Python<'_>) -> PyResult<(u64, u64, u64)> {
        let client = self.client()?;
        let counts = wait(py, async move { client.device_statistics().await })?.map_err(failure)?;
        Ok((counts.total_device_count, counts.enabled_device_count, counts.disabled_device_count))
    }
}

impl Service {
    fn client(&self) -> PyResult<Client> {
        let process = std::process::id();
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((owner, client)) = client.as_ref() {
            if *owner == process {
                return Ok(client.clone());
            }
        }
        let made = connect_settings(&self.connection_string).map_err(failure)?;
        *client = Some((process, made.clone()));
        Ok(made)
    }
}

/// A client that trusts what the environment adds.
fn connect_settings(connection_string: &str) -> Result<Client, Error> {
    let trust = ExtraTrust::from_environment();
    let mut builder = Client::builder(connection_string)?
        .user_agent(USER_AGENT)
        .timeout(REQUEST_LIMIT)
        .retry(RetryPolicy { max_attempts: 3, budget: Duration::from_secs(10), ..RetryPolicy::default() });
    if let Some(pem) = trust.asked_for {
        builder = builder.root_ca_pem(pem);
    }
    // A system's bundle may hold an authority that this TLS cannot use; the others are then not worth an error.
    match trust.hidden {
        Some(pem) => builder.clone().root_ca_pem(pem).build().or_else(|_| builder.build()),
        None => builder.build(),
    }
}

/// Sorts an error by what the retired package made of it.
fn failure(error: Error) -> PyErr {
    let status = error.fault().map_or(0, |fault| fault.status);
    let kind = match error.kind() {
        _ if status != 0 => "status",
        ErrorKind::Setup => "setup",
        ErrorKind::Protocol => "answer",
        _ => "transport",
    };
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    Failure::new_err((kind, status, text))
}
