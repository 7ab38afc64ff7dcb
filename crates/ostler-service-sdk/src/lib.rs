//! `ostler-service-sdk`: an async client for the service side of Ostler and of Azure IoT Hub: registry, twins,
//! queries, direct methods, jobs, messages to devices, and Ostler's own routes.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ostler_service_sdk::{Client, EntityId, MethodCall};
//!
//! let hub = Client::from_connection_string("HostName=…;SharedAccessKeyName=service;SharedAccessKey=…")?;
//! let pump = EntityId::parse("pump-7")?;
//! let answer = hub.invoke(&pump, &MethodCall::new("rebootDevice")).await?;
//! assert_eq!(answer.status, 200);
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
mod token;
mod transport;

pub use client::{Builder, Client};
pub use connection_string::{ConnectionString, ConnectionStringError};
pub use error::{Error, ErrorKind, Fault};
pub use model::*;
pub use ops::{
    BulkOptions, BulkSummary, ChunkReport, EventStream, IfMatch, JobFilter, JobPage, JobProgress, LineStream,
    Messages, Probe, Query, QueryPage, MAX_BULK_ENTRIES,
};
pub use ostler_core::id::{DeviceId, EntityId, IdError, ModuleId};
pub use ostler_wire::rest::error::ErrorCode;
pub use retry::RetryPolicy;
