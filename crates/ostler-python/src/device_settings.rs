//! From the settings that Python hands over to a client of the device SDK.
//!
//! Must not know: where Python has them from.
//!
//! Invariant: trust is only ever added to what the system and the environment name (revival §7).

use std::time::Duration;

use ostler_device_sdk::{
    Client, ConnectionString, Protocol, Proxy, QueueLimits, RetryPolicy, SetupError, TwinSync,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::runtime::Runtime;

/// Programs send in bursts without waiting (revival §6.3); the original's queue had no bound.
const QUEUE: QueueLimits = QueueLimits { messages: 1_000_000, bytes: 512 << 20 };
/// A report waits for a connection as long as the program runs, if need be.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// About what the original waited between attempts at most.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// At once, the first time: it doubles, which nothing at all would not, so that a hub that is down costs no processor.
const AT_ONCE: Duration = Duration::from_millis(10);
/// The step of the policies that are not exponential.
const INTERVAL: Duration = Duration::from_secs(5);

/// A client that has not begun.
pub(crate) fn build(
    connection: ConnectionString,
    settings: &Bound<'_, PyDict>,
    runtime: &Runtime,
) -> PyResult<Client> {
    let mut builder = Client::builder(connection)
        .runtime(runtime.handle().clone())
        .queue(QUEUE)
        .operation_timeout(PATIENCE)
        .twin_sync(TwinSync::EveryConnect);
    if take(settings, "websocket")?.unwrap_or(false) {
        builder = builder.protocol(Protocol::MqttWebSocket);
    }
    if let Some(port) = take(settings, "mqtt_port")? {
        builder = builder.mqtt_port(port);
    }
    if let Some(info) = take::<String>(settings, "product_info")? {
        builder = builder.product_info(info);
    }
    if let Some(secs) = take(settings, "keep_alive_secs")? {
        builder = builder.keep_alive(Duration::from_secs(secs));
    }
    if let Some(secs) = take(settings, "token_lifetime_secs")? {
        builder = builder.token_lifetime(Duration::from_secs(secs));
    }
    if let Some((policy, limit)) = take::<(String, u64)>(settings, "retry")? {
        builder = builder.retry(retry_policy(&policy, limit));
    }
    let (chain, key) = (take::<String>(settings, "certificate")?, take::<String>(settings, "private_key")?);
    if let (Some(chain), Some(key)) = (chain, key) {
        builder = builder.client_certificate_pem(chain, key);
    }
    if let Some((host, port, user, password)) = take::<ProxyParts>(settings, "proxy")? {
        let proxy = Proxy::new(host, port);
        builder = builder.proxy(match user {
            Some(user) => proxy.login(user, password.unwrap_or_default()),
            None => proxy,
        });
    }
    let Some(trusted) = take::<String>(settings, "trusted")? else {
        return builder.build().map_err(refused);
    };
    match builder.clone().root_ca_pem(trusted).build() {
        // Programs carry roots of years ago with them; what cannot be read is not worth the others.
        Err(SetupError::Roots { origin, why }) => {
            tracing::warn!(origin, why, "the option TrustedCerts is left out");
            builder.build().map_err(refused)
        }
        outcome => outcome.map_err(refused),
    }
}

type ProxyParts = (String, u16, Option<String>, Option<String>);

fn refused(error: SetupError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn take<'py, T: FromPyObjectOwned<'py>>(settings: &Bound<'py, PyDict>, name: &str) -> PyResult<Option<T>> {
    let Some(value) = settings.get_item(name)? else { return Ok(None) };
    value
        .extract()
        .map(Some)
        .map_err(|_| PyValueError::new_err(format!("{name} has a value that cannot be used")))
}

/// The policy of a name, with its limit; 0 is none (revival §2.7).
pub(crate) fn retry_policy(name: &str, limit_secs: u64) -> RetryPolicy {
    let budget = (limit_secs > 0).then(|| Duration::from_secs(limit_secs));
    let waits = |first_wait, max_wait| RetryPolicy { first_wait, max_wait, budget, ..RetryPolicy::default() };
    match name {
        "RETRY_NONE" => RetryPolicy::none(),
        "RETRY_IMMEDIATE" => waits(AT_ONCE, Duration::from_secs(1)),
        "RETRY_INTERVAL" => waits(INTERVAL, INTERVAL),
        "RETRY_LINEAR_BACKOFF" | "RETRY_RANDOM" => waits(INTERVAL, LONGEST_WAIT),
        _ => waits(Duration::from_secs(1), LONGEST_WAIT),
    }
}
