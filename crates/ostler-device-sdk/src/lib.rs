//! Async client for devices of Ostler and Azure IoT Hub.

mod builder;
mod client;
mod connection_string;
mod credential;
mod driver;
#[allow(dead_code)]
mod engine;
mod error;
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
