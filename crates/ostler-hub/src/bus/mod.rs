//! How news and questions reach a device, wherever it is connected.
//!
//! Invariant: `tell` may lose news (the receiver reads again); `ask` always ends: with an answer or
//! with the reason why there is none, by its deadline.

mod local;

pub use local::LocalBus;

use crate::session::EndReason;
use ostler_core::id::EntityId;
use ostler_core::method::{MethodAnswer, MethodCall};
use ostler_core::twin::DesiredChange;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A future of the port.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nobody took it within the connect timeout.
    #[error("not connected, or not subscribed to methods")]
    NotOnline {
        /// How long it was waited for.
        waited: Duration,
    },
    /// It was taken, but not answered within the response timeout.
    #[error("no answer in time")]
    NoAnswer,
    /// The answer is not one.
    #[error("unusable answer: {0}")]
    BadAnswer(String),
    /// Too many questions wait for this device.
    #[error("{0} calls are in flight")]
    TooMany(usize),
}

/// Something to tell a connected device.
#[derive(Clone, Debug)]
pub enum Tell {
    /// The desired properties changed.
    DesiredChanged(Arc<DesiredChange>),
    /// The connection must end.
    End(EndReason),
}

/// Reaches devices.
pub trait Bus: Send + Sync + 'static {
    /// Calls a method and waits for the answer, at most the call's timeouts.
    fn ask<'a>(&'a self, id: &'a EntityId, call: MethodCall)
        -> BoxFuture<'a, Result<MethodAnswer, AskError>>;

    /// Tells a device if it is connected.
    fn tell(&self, id: &EntityId, news: Tell);

    /// Whether a device or module is connected.
    fn is_connected(&self, id: &EntityId) -> bool;
}
