//! `ostler-service-sdk`: an async client for the service side of Ostler and of Azure IoT Hub: registry, twins,
//! queries, direct methods, jobs, configurations, messages to devices, and Ostler's own routes.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ostler_service_sdk::{Client, MethodCall};
//!
//! let hub = Client::from_connection_string("HostName=…;SharedAccessKeyName=service;SharedAccessKey=…")?;
//! let answer = hub.invoke(&"pump-7".parse()?, &MethodCall::new("rebootDevice")).await?;
//! println!("{}: {}", answer.status, answer.payload);
//! # Ok(()) }
//! ```
//!
//! # The client
//!
//! A [`Client`] is made from the connection string of a shared access policy, opens connections when it needs them,
//! keeps them, and renews its token by itself. Cloning it is cheap, and all its futures are `Send`. It needs a tokio
//! runtime. Which right each operation takes is in the hub's documentation; `iothubowner` may do everything.
//!
//! # A hub with its own certificate authority
//!
//! The client trusts what the operating system trusts, and besides that the PEM files named by `OSTLER_CA_FILE` and
//! `SSL_CERT_FILE`, and whatever [`Builder::root_ca_pem`] is given. A local Ostler writes its authority to `ca.pem` in
//! its data folder:
//!
//! ```text
//! OSTLER_CA_FILE=ostler-data/ca.pem cargo run
//! ```
//!
//! # What there is
//!
//! | | |
//! |---|---|
//! | identities | [`Client::create_device`], [`Client::device`], [`Client::all_devices`], the same for modules; [`Client::bulk_all`] for many |
//! | twins | [`Client::twin`], [`Client::patch_twin`], [`Client::replace_twin`]; conditional by [`Twin::if_match`] |
//! | queries | [`Client::query`], then [`Query::twins`], or [`Query::rows`] of a type of your own |
//! | methods | [`Client::invoke`] |
//! | jobs | [`Client::create_job`], [`Client::follow_job`], [`Client::device_jobs`], [`Client::cancel_job`] |
//! | configurations | [`Client::create_configuration`] and so on |
//! | messages | [`Client::messages`]: sending is Ostler's, feedback and purging are Azure's too |
//! | counts | [`Client::device_statistics`], [`Client::service_statistics`] |
//! | files | [`Client::files`]: what devices uploaded to an Ostler hub |
//! | Ostler only | rollouts ([`Rollout`]), [`Client::dry_run_job`], [`Client::pause_job`], [`Client::retry_job`], [`Client::events`], [`Client::diagnosis`], policies, authorities, [`Client::backup`] |
//!
//! Azure IoT Hub refuses what is Ostler's only; [`Error::is_unknown_route`] tells that from something missing.
//!
//! # Errors and retries
//!
//! Every operation fails with an [`Error`]. [`Error::kind`] says what to do about it, [`Error::code`] and [`Fault`] have
//! the service's own name and number. The client tries again by itself, by [`RetryPolicy`], when the hub is busy, away
//! or out of reach, honouring `Retry-After`; never after 401, 403, 404, 409 or 412, and never when a call that must not
//! happen twice may have happened: a method call whose answer was lost comes back as [`Error::Interrupted`] or
//! [`Error::Timeout`], and only the caller can know whether to repeat it.
//!
//! ```no_run
//! # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
//! use ostler_service_sdk::{Device, ErrorCode, ErrorKind};
//!
//! match hub.create_device(&Device::new("pump-7")).await {
//!     Ok(device) => println!("made {}", device.device_id),
//!     Err(error) if error.kind() == ErrorKind::Conflict => println!("it is there already"),
//!     Err(error) if error.code() == Some(ErrorCode::ThrottlingException) => println!("too many at once"),
//!     Err(error) => return Err(error),
//! }
//! # Ok(()) }
//! ```
//!
//! Must not know: hub, store, server, MQTT.
//!
//! Invariant: every wait has an end, every answer a size limit.
//! Invariant: nothing that may have been executed is sent again unless repeating it changes nothing.

mod client;
mod connection_string;
mod error;
mod model;
mod ops;
mod retry;
mod rows;
mod token;
mod transport;
mod trust;

pub use client::{Builder, Client};
pub use connection_string::{ConnectionString, ConnectionStringError};
pub use error::{Error, ErrorKind, Fault};
pub use model::*;
pub use ops::{
    BulkOptions, BulkSummary, ChunkReport, EventStream, Files, IfMatch, JobFilter, JobPage, JobProgress,
    LineStream, Messages, Probe, Query, QueryPage, MAX_BULK_ENTRIES,
};
pub use ostler_core::id::{DeviceId, EntityId, IdError, ModuleId};
pub use ostler_wire::rest::error::ErrorCode;
pub use retry::RetryPolicy;
pub use rows::Rows;
