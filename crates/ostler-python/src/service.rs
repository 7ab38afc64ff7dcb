//! The bridge to the service SDK: one [`Service`] per object of the Python side.
//!
//! Identities and configurations cross as JSON text, twins and payloads as the text they are; what any of it means to
//! programs is decided in Python.
//!
//! Must not know: names, texts and enums of the retired package.
//!
//! Invariant: constructing a [`Service`] touches no network.
//! Invariant: every failure of a call is a [`Failure`], whose arguments are a kind, an HTTP status (0 for none) and a
//! text for people; no text shows a key or a token.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ostler_service_sdk::{
    Client, CloudMessage, DeviceId, EntityId, Error, ErrorKind, IfMatch, ModuleId, RetryPolicy,
};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use serde::de::DeserializeOwned;
use serde::Serialize;
use tokio::sync::watch;

use crate::runtime::wait;

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
    stopped: watch::Sender<bool>,
}

#[pymethods]
impl Service {
    /// Refuses a connection string that cannot work; opens no connection.
    #[new]
    fn new(connection_string: String) -> PyResult<Self> {
        Client::builder(&connection_string).map_err(failure)?;
        Ok(Self { connection_string, client: Mutex::new(None), stopped: watch::Sender::new(false) })
    }

    /// Ends every call under way, and every later one at once, with a failure of the kind `stopped`.
    fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// (all, enabled, disabled) devices.
    fn statistics(&self, py: Python<'_>) -> PyResult<(u64, u64, u64)> {
        let counts = self.call(py, |client| async move { client.device_statistics().await })?;
        Ok((counts.total_device_count, counts.enabled_device_count, counts.disabled_device_count))
    }

    fn device(&self, py: Python<'_>, id: &str) -> PyResult<String> {
        let id = device_id(id)?;
        text_of(&self.call(py, |client| async move { client.device(&id).await })?)
    }

    /// Up to `top` devices, as one JSON array.
    fn devices(&self, py: Python<'_>, top: u32) -> PyResult<String> {
        text_of(&self.call(py, |client| async move { client.devices(top).await })?)
    }

    fn create_device(&self, py: Python<'_>, device: &str) -> PyResult<String> {
        let device = of_text(device)?;
        text_of(&self.call(py, |client| async move { client.create_device(&device).await })?)
    }

    fn update_device(&self, py: Python<'_>, device: &str) -> PyResult<String> {
        let device = of_text(device)?;
        let update = |client: Client| async move { client.update_device(&device, IfMatch::Any).await };
        text_of(&self.call(py, update)?)
    }

    fn delete_device(&self, py: Python<'_>, id: &str) -> PyResult<()> {
        let id = device_id(id)?;
        self.call(py, |client| async move { client.delete_device(&id, IfMatch::Any).await })
    }

    fn module(&self, py: Python<'_>, device: &str, module: &str) -> PyResult<String> {
        let (device, module) = (device_id(device)?, module_id(module)?);
        text_of(&self.call(py, |client| async move { client.module(&device, &module).await })?)
    }

    /// The modules of a device, as one JSON array.
    fn modules(&self, py: Python<'_>, device: &str) -> PyResult<String> {
        let device = device_id(device)?;
        text_of(&self.call(py, |client| async move { client.modules(&device).await })?)
    }

    fn create_module(&self, py: Python<'_>, module: &str) -> PyResult<String> {
        let module = of_text(module)?;
        text_of(&self.call(py, |client| async move { client.create_module(&module).await })?)
    }

    fn update_module(&self, py: Python<'_>, module: &str) -> PyResult<String> {
        let module = of_text(module)?;
        let update = |client: Client| async move { client.update_module(&module, IfMatch::Any).await };
        text_of(&self.call(py, update)?)
    }

    fn delete_module(&self, py: Python<'_>, device: &str, module: &str) -> PyResult<()> {
        let (device, module) = (device_id(device)?, module_id(module)?);
        let delete =
            |client: Client| async move { client.delete_module(&device, &module, IfMatch::Any).await };
        self.call(py, delete)
    }

    /// The twin as the hub wrote it.
    #[pyo3(signature = (device, module, /))]
    fn twin(&self, py: Python<'_>, device: &str, module: Option<&str>) -> PyResult<String> {
        let id = entity_id(device, module)?;
        self.call(py, |client| async move { client.twin_text(&id).await })
    }

    /// Sends the patch as it is given; the whole twin comes back as the hub wrote it.
    #[pyo3(signature = (device, module, patch, /))]
    fn patch_twin(
        &self,
        py: Python<'_>,
        device: &str,
        module: Option<&str>,
        patch: &str,
    ) -> PyResult<String> {
        let id = entity_id(device, module)?;
        let patch = patch.to_owned();
        self.call(py, |client| async move { client.patch_twin_text(&id, &patch, IfMatch::Any).await })
    }

    /// (status, payload as compact JSON) of the device's answer.
    #[pyo3(signature = (device, module, method, payload, timeout_secs, /))]
    fn invoke(
        &self,
        py: Python<'_>,
        device: &str,
        module: Option<&str>,
        method: &str,
        payload: &str,
        timeout_secs: u32,
    ) -> PyResult<(i64, String)> {
        let id = entity_id(device, module)?;
        let (method, payload) = (method.to_owned(), payload.to_owned());
        let timeout = Duration::from_secs(timeout_secs.into());
        let answer =
            self.call(py, |client| async move { client.invoke_text(&id, &method, &payload, timeout).await })?;
        Ok((answer.status, text_of(&answer.payload)?))
    }

    /// Sends a message to a device.
    #[pyo3(signature = (device, body, message_id, correlation_id, properties, ack, /))]
    #[allow(clippy::too_many_arguments, reason = "one plain call from Python, with nothing between")]
    fn send(
        &self,
        py: Python<'_>,
        device: &str,
        body: Vec<u8>,
        message_id: Option<String>,
        correlation_id: Option<String>,
        properties: Vec<(String, String)>,
        ack: &str,
    ) -> PyResult<()> {
        let device = device_id(device)?;
        let mut message = CloudMessage::new(body);
        message.message_id = message_id;
        message.correlation_id = correlation_id;
        message.ack = ack.into();
        message.properties = properties.into_iter().map(|(name, value)| (name, Some(value))).collect();
        self.call(py, |client| async move { client.messages().send(&device, &message).await }).map(drop)
    }

    /// (lock, records as one JSON array) of the oldest feedback, if there is any.
    fn feedback(&self, py: Python<'_>) -> PyResult<Option<(String, String)>> {
        let batch = self.call(py, |client| async move { client.messages().feedback().await })?;
        batch.map(|batch| Ok((batch.lock, text_of(&batch.records)?))).transpose()
    }

    fn complete_feedback(&self, py: Python<'_>, lock: &str) -> PyResult<()> {
        let lock = lock.to_owned();
        self.call(py, |client| async move { client.messages().complete_feedback(&lock).await })
    }

    fn configuration(&self, py: Python<'_>, id: &str) -> PyResult<String> {
        let id = id.to_owned();
        text_of(&self.call(py, |client| async move { client.configuration(&id).await })?)
    }

    /// Up to `top` configurations, as one JSON array.
    fn configurations(&self, py: Python<'_>, top: u32) -> PyResult<String> {
        text_of(&self.call(py, |client| async move { client.configurations(top).await })?)
    }

    fn create_configuration(&self, py: Python<'_>, configuration: &str) -> PyResult<String> {
        let configuration = of_text(configuration)?;
        let create = |client: Client| async move { client.create_configuration(&configuration).await };
        text_of(&self.call(py, create)?)
    }

    fn update_configuration(&self, py: Python<'_>, configuration: &str) -> PyResult<String> {
        let configuration = of_text(configuration)?;
        let update =
            |client: Client| async move { client.update_configuration(&configuration, IfMatch::Any).await };
        text_of(&self.call(py, update)?)
    }

    fn delete_configuration(&self, py: Python<'_>, id: &str) -> PyResult<()> {
        let id = id.to_owned();
        self.call(py, |client| async move { client.delete_configuration(&id, IfMatch::Any).await })
    }

    fn apply_configuration_content(&self, py: Python<'_>, device: &str, content: &str) -> PyResult<()> {
        let (device, content) = (device_id(device)?, of_text(content)?);
        let apply =
            |client: Client| async move { client.apply_configuration_content(&device, &content).await };
        self.call(py, apply)
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

    fn call<T, F>(&self, py: Python<'_>, operation: impl FnOnce(Client) -> F) -> PyResult<T>
    where
        T: Send,
        F: Future<Output = Result<T, Error>> + Send,
    {
        let answer = operation(self.client()?);
        let mut stopped = self.stopped.subscribe();
        let outcome = wait(py, async move {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => None,
                answer = answer => Some(answer),
            }
        })?;
        match outcome {
            Some(answer) => answer.map_err(failure),
            None => Err(Failure::new_err(("stopped", 0, "the client was closed"))),
        }
    }
}

/// The SDK adds the certificate authorities of the environment to those of the system.
fn connect_settings(connection_string: &str) -> Result<Client, Error> {
    Client::builder(connection_string)?
        .user_agent(USER_AGENT)
        .timeout(REQUEST_LIMIT)
        .retry(RetryPolicy { max_attempts: 3, budget: Duration::from_secs(10), ..RetryPolicy::default() })
        .build()
}

fn device_id(text: &str) -> PyResult<DeviceId> {
    DeviceId::new(text).map_err(bad_id)
}

fn module_id(text: &str) -> PyResult<ModuleId> {
    ModuleId::new(text).map_err(bad_id)
}

fn entity_id(device: &str, module: Option<&str>) -> PyResult<EntityId> {
    let device = device_id(device)?;
    Ok(match module {
        None => (&device).into(),
        Some(module) => EntityId::of_module(&device, &module_id(module)?),
    })
}

/// No hub would take it, so none is asked.
fn bad_id(error: impl std::fmt::Display) -> PyErr {
    Failure::new_err(("id", 0, error.to_string()))
}

fn text_of<T: Serialize>(value: &T) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| Failure::new_err(("answer", 0, error.to_string())))
}

fn of_text<T: DeserializeOwned>(text: &str) -> PyResult<T> {
    serde_json::from_str(text).map_err(|error| Failure::new_err(("request", 0, error.to_string())))
}

/// Sorts an error by what the retired package told apart.
fn failure(error: Error) -> PyErr {
    let status = error.fault().map_or(0, |fault| fault.status);
    let kind = match error.kind() {
        _ if status != 0 => "status",
        ErrorKind::Setup => "request",
        ErrorKind::Protocol => "answer",
        _ => "transport",
    };
    Failure::new_err((kind, status, with_causes(&error)))
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
