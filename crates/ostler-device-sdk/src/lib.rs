//! Async client for devices of Ostler and Azure IoT Hub.
//!
//! # A device in one page
//!
//! Besides this crate it needs `tokio` (features `macros`, `rt-multi-thread`, `signal`, `time`), `serde` (feature `derive`) and
//! `serde_json`.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use ostler_device_sdk::{Client, Message, MethodError};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Wishes {
//!     interval: Option<u64>,
//! }
//!
//! #[derive(Serialize)]
//! struct Reading {
//!     celsius: f64,
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // HostName=…;DeviceId=…;SharedAccessKey=…
//!     let client = Client::builder(std::env::var("DEVICE_CONNECTION_STRING")?.parse()?).build()?;
//!
//!     // The back end calls: each handler is an async closure with its own types.
//!     client.on_method("open", |percent: u8| async move {
//!         if percent > 100 {
//!             return Err(MethodError::new(400, "more than fully open"));
//!         }
//!         Ok(percent)
//!     });
//!
//!     // The back end desires: everything first, then changes.
//!     let mut updates = client.desired();
//!     let mut interval = 60;
//!     loop {
//!         tokio::select! {
//!             Some(update) = updates.next() => {
//!                 interval = update.to::<Wishes>()?.interval.unwrap_or(interval);
//!                 client.report(&serde_json::json!({ "interval": interval })).await?;
//!             }
//!             _ = tokio::time::sleep(Duration::from_secs(interval)) => {
//!                 // Queued at the call, also without a connection; awaiting it is for those who want to know.
//!                 drop(client.send(Message::json(&Reading { celsius: 21.5 })?));
//!             }
//!             _ = tokio::signal::ctrl_c() => break,
//!         }
//!     }
//!     client.close(Duration::from_secs(5)).await;
//!     Ok(())
//! }
//! ```
//!
//! # What it does by itself
//!
//! * **Connecting.** The first operation connects; a broken connection comes back with exponential backoff and full
//!   jitter, as the [`RetryPolicy`] says. [`Client::status_changes`] shows it; what is final ends in
//!   [`ConnectionStatus::Refused`], and [`Client::last_problem`] says why in words.
//! * **Messages** are confirmed by the hub, each exactly once, and arrive at least once and in order. They wait while
//!   there is no connection, within [`QueueLimits`] and each no longer than its own [`Message::timeout`].
//! * **Twins.** Reports wait likewise, each for [`Builder::operation_timeout`]. After every connect the version of the
//!   desired properties is compared: nothing is missed, nothing comes twice.
//! * **Methods** run side by side; a handler that panics is answered 500 and the client lives. An answer that comes
//!   too late for its connection goes over the next one.
//! * **Tokens** are made of the key and renewed at 80 to 85 % of their life; certificates are shown in the TLS handshake.
//!
//! # A hub of your own
//!
//! Clients trust the authorities of the system, those in the files named by `SSL_CERT_FILE` and `OSTLER_CA_FILE`, and
//! those given by [`Builder::root_ca_pem`], all together. For a hub on this machine:
//!
//! ```no_run
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let connection = "HostName=localhost:8443;DeviceId=pump-7;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==".parse()?;
//! let client = ostler_device_sdk::Client::builder(connection).root_ca_pem(std::fs::read("ca.pem")?).build()?;
//! # Ok(()) }
//! ```
//!
//! # Features
//!
//! `websocket` and `native-roots` are on by default. `http` adds HTTPS requests over the same trust, proxy and
//! credential, `upload` sending files to the hub's store, `firmware` signed updates. Without any of them the crate speaks
//! MQTT over TLS to hubs whose authority it is given.
//!
//! # Inside
//!
//! ```text
//!  Client, streams ──operations──▶ engine (no sockets, no clocks) ◀──bytes, time──  one task ──▶ TCP, TLS, WebSocket
//!                  ◀──events────                                                             through a proxy
//! ```
//!
//! An idle client is its engine, its socket with the state of TLS, and a timer: no thread and no buffer of its own.
//!
//! Must not know: the hub's insides, its store, the REST interface for back ends.

mod builder;
mod client;
mod connection_string;
mod credential;
mod driver;
mod engine;
mod error;
#[cfg(all(feature = "firmware", unix))]
pub mod firmware;
#[cfg(feature = "http")]
pub mod http;
mod message;
mod messages;
mod methods;
mod queue;
mod retry;
mod shared;
mod status;
mod tls;
mod transport;
mod twin;
#[cfg(feature = "upload")]
pub mod upload;

pub use builder::{Builder, Protocol};
pub use client::{Client, Closed, Reporting, Sending};
pub use connection_string::{ConnectionString, ConnectionStringError};
pub use engine::{QueueLimits, TwinSync};
pub use error::{ConnectError, SetupError, TwinError};
pub use message::{Message, ReceivedMessage, SendError, MAX_MESSAGE_BYTES};
pub use messages::{Delivery, DeliveryStream, MessageStream};
pub use methods::{MethodAnswer, MethodCall, MethodError};
pub use ostler_core::id::EntityId;
pub use queue::{DesiredStream, StatusStream};
pub use retry::{RetryPolicy, WhenRefused};
pub use status::{Cause, ConnectionStatus};
pub use transport::Proxy;
pub use twin::{DesiredUpdate, Reported, Section, Twin};
