//! MQTT over WebSocket: the upgrade, and the byte stream behind it (device §2.1).
//!
//! Must not know MQTT: packets and frames need not align.
//!
//! Invariant: the hub must pick the subprotocol `mqtt` and prove that it has seen our key.
//! Invariant: a frame longer than [`FRAME_BYTES`] ends the connection.

use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use base64::prelude::{Engine as _, BASE64_STANDARD};
use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream as _};
use ring::digest::{digest, SHA1_FOR_LEGACY_USE_ONLY};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::WebSocketStream;

use super::head::Head;
use super::{random, DialError, DialKind, Stream};

const PATH: &str = "/$iothub/websocket";
const SUBPROTOCOL: &str = "mqtt";
/// RFC 6455 §1.3.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longer than the longest packet of a hub.
const FRAME_BYTES: usize = 512 << 10;
const SENT_FRAME_BYTES: usize = 64 << 10;
const BUFFER_BYTES: usize = 4 << 10;

/// The stream of a connection over WebSocket.
pub(crate) struct Frames {
    frames: WebSocketStream<Stream>,
    unread: Bytes,
}

/// Asks for the upgrade on a fresh connection.
pub(super) async fn upgrade(mut stream: Stream, authority: &str) -> Result<Frames, DialError> {
    let key = BASE64_STANDARD.encode(random::<16>());
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    );
    let broken = |error: io::Error| DialError::new(DialKind::Reset, format!("{authority}: {error}"));
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let (head, rest) = Head::read(&mut stream).await.map_err(broken)?;
    check(&head, &key, authority)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(FRAME_BYTES)
        .max_message_size(Some(FRAME_BYTES))
        .max_frame_size(Some(FRAME_BYTES));
    let frames = WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await;
    Ok(Frames { frames, unread: Bytes::new() })
}

fn check(head: &Head, key: &str, authority: &str) -> Result<(), DialError> {
    let wrong = |why: &str| {
        let text = format!("{authority} does not take MQTT over WebSocket: {why}");
        DialError::new(DialKind::Protocol, text)
    };
    match head.status() {
        Some(101) => {}
        Some(429 | 503) => {
            let text = format!("{authority} is too busy for another connection");
            return Err(DialError { kind: DialKind::Busy, text, retry_after: head.retry_after() });
        }
        Some(status) => return Err(wrong(&format!("it answers {status}"))),
        None => return Err(wrong("it does not speak HTTP; is this its HTTPS port?")),
    }
    let accept = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{KEY_SUFFIX}").as_bytes());
    if head.header("sec-websocket-accept") != Some(BASE64_STANDARD.encode(accept).as_str()) {
        return Err(wrong("it has not read the request"));
    }
    if !head.header("sec-websocket-protocol").is_some_and(|chosen| chosen.eq_ignore_ascii_case(SUBPROTOCOL)) {
        return Err(wrong("it has not agreed to the subprotocol mqtt"));
    }
    Ok(())
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

impl AsyncRead for Frames {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.frames).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                // Pings are answered below us, with the next read or write.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    let text = "a text frame came where binary frames carry MQTT";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
                }
                Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed)) | None => {
                    return Poll::Ready(Ok(()))
                }
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let count = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Frames {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.frames).poll_ready(cx)).map_err(io_error)?;
        let bytes = &bytes[..bytes.len().min(SENT_FRAME_BYTES)];
        let frame = Message::Binary(Bytes::copy_from_slice(bytes));
        Pin::new(&mut self.frames).start_send(frame).map_err(io_error)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.frames).poll_flush(cx).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.frames).poll_close(cx)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(io_error(error))),
        }
    }
}
