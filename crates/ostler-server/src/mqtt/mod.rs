//! MQTT for devices and modules, over any byte stream.
//!
//! ```text
//!   bytes ─▶ wire session ─▶ event ─▶ topic ─▶ hub call ─▶ answer ─▶ wire session ─▶ bytes
//!                                              hub inbox ─▶ news ───▶ wire session ─▶ bytes
//! ```
//!
//! One task owns one connection and everything about it; see `connection`.
//!
//! It must not know twins, tokens or the store: topics are `ostler-wire`'s, what they do is the
//! hub's.

mod answer;
mod connection;
mod device;
mod greeting;
mod scratch;
mod telemetry;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicU64;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use crate::app::App;
use crate::peer::Peer;
use connection::Connection;

/// What MQTT connections count, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Packets read from clients.
    pub(crate) packets: AtomicU64,
    /// Connections closed because the client broke the protocol.
    pub(crate) violations: AtomicU64,
    /// Connections closed because the client did not read what it was sent.
    pub(crate) write_timeouts: AtomicU64,
    /// Times a client was read more slowly because it sent too many packets.
    pub(crate) throttled: AtomicU64,
}

/// Serves a connection in a task of its own, which is exactly as large as the connection needs.
pub(crate) fn serve<Io>(app: Arc<App>, io: Io, peer: Peer) -> AbortHandle
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let place = peer.place();
    let task = tokio::spawn(Connection::new(app, io, peer)).abort_handle();
    if let Some(place) = place {
        place.attach(task.clone());
    }
    task
}
