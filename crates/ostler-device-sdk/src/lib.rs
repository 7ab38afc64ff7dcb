//! Async client for devices of Ostler and Azure IoT Hub.

// The driver is about to use all of it.
#[allow(dead_code)]
mod engine;
#[allow(dead_code)]
mod message;
mod retry;
mod status;

pub use engine::{QueueLimits, TwinSync};
pub use message::{Message, ReceivedMessage, SendError, MAX_MESSAGE_BYTES};
pub use retry::{RetryPolicy, WhenRefused};
pub use status::{Cause, ConnectionStatus};
