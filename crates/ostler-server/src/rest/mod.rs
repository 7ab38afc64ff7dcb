//! The REST door: HTTP/1.1 connections, requests and answers as the service's clients know them.
//!
//! A request is routed, authorised, taken apart, handed to one function of the hub, and the result written down
//! (`service`). Routes, codes and shapes are `ostler-wire`'s; what they do is the hub's.
//!
//! Must not know merge rules, the store's engine or MQTT; a WebSocket connection is handed on as a byte stream.
//!
//! Invariant: whatever a client sends or holds back, one connection costs a bounded amount of memory and time.
//! Invariant: when a caller goes away its request is dropped, and with it the method call it waited for.

mod answer;
mod authorise;
mod blob;
mod body;
mod configurations;
mod connection;
mod device;
mod device_messages;
mod error;
mod events;
mod extension;
mod files;
mod jobs;
mod messages;
mod pages;
mod query;
mod registry;
mod service;
#[cfg(test)]
mod tests;
mod twins;
mod websocket;

use crate::app::App;
use crate::peer::Peer;
use connection::{hang_up, Patience, Pulse, Stalled, Watched};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use service::Door;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use websocket::FrameBytes;

/// Bytes of a request's line and headers; the longest legitimate ones have a token and a few ids.
const HEAD_BYTES: usize = 32 * 1024;
/// Bytes hyper buffers of one connection, each way.
const BUFFER_BYTES: usize = 64 * 1024;
/// What a client reads whose headers did not come in time.
const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Serves one connection until it ends. It counts as half-open until a request on it was authorised.
pub(crate) async fn serve_connection<Io>(app: Arc<App>, io: Io, peer: Peer)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &app.config.limits;
    let patience = Patience {
        idle: limits.http_idle_timeout,
        head: limits.http_header_timeout,
        write: limits.write_timeout,
    };
    let pulse = Pulse::new();
    let io = TokioIo::new(Watched::new(io, pulse.clone()));
    let door = Arc::new(Door::new(app.clone(), peer, pulse.clone()));
    if let Some(upgrade) = serve_http(&app, io, &door, &pulse, patience).await {
        serve_websocket::<Io>(app, upgrade, &door).await;
    }
}

/// Serves requests; the connection comes back if it was upgraded.
async fn serve_http<Io>(
    app: &App,
    io: TokioIo<Watched<Io>>,
    door: &Arc<Door>,
    pulse: &Pulse,
    patience: Patience,
) -> Option<OnUpgrade>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _counted = app.metrics.http.connection();
    let service = service_fn(|request| {
        let door = door.clone();
        async move { Ok::<_, Infallible>(door.respond(request).await) }
    });
    let mut http = http1::Builder::new();
    // The pulse watches over headers; hyper's own timer would be made anew for each request.
    http.header_read_timeout(None).max_header_size(HEAD_BYTES).max_buf_size(BUFFER_BYTES);
    let mut connection = http.serve_connection(io, service).with_upgrades();
    let mut stall = pin!(pulse.stall(patience));
    let mut stopping = pin!(app.stopping.cancelled());
    let mut stops = false;
    let stalled = loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::trace!(peer = %door.peer(), %error, "HTTP connection broke");
                }
                return door.take_upgrade();
            }
            stalled = stall.as_mut() => break stalled,
            () = stopping.as_mut(), if !stops => {
                stops = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    app.metrics.http.stalled.inc();
    tracing::debug!(peer = %door.peer(), ?stalled, "HTTP connection given up");
    if let (Stalled::Head, Some(parts)) = (stalled, connection.into_parts()) {
        let mut io = parts.io.into_inner();
        // Told once, not waited for: the client has shown how slow it is.
        let told = async { io.write_all(REQUEST_TIMEOUT).await };
        let _ = tokio::time::timeout(patience.write, told).await;
        hang_up(&mut io).await;
    }
    None
}

/// Hands an upgraded connection to MQTT as a stream of bytes.
async fn serve_websocket<Io>(app: Arc<App>, upgrade: OnUpgrade, door: &Door)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(upgraded) = upgrade.await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<Watched<Io>>>() else {
        tracing::error!("an upgraded connection is not of the type that was served");
        return;
    };
    let io = parts.io.into_inner().into_inner();
    let stream = FrameBytes::new(io, &parts.read_buf).await;
    crate::mqtt::serve(app, stream, door.peer().over_websocket());
}
