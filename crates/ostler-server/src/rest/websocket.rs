//! The door on `/$iothub/websocket`: the upgrade, and the byte stream behind it (device §2.1).
//!
//! Must not know MQTT: whoever reads the stream sees bytes in order and nothing of frames.
//!
//! Invariant: packets need not align with frames; a frame boundary never shows in the byte stream.
//! Invariant: what one connection buffers is bounded by [`FRAME_BYTES`] each way.

use base64::prelude::{Engine, BASE64_STANDARD};
use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use http::{header, HeaderMap, HeaderValue};
use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::WebSocketStream;

/// Largest message taken from a client: more than the largest packet a device may send.
pub const FRAME_BYTES: usize = 512 * 1024;
/// Largest frame sent.
const SENT_FRAME_BYTES: usize = 64 * 1024;
/// Buffer of each direction; most packets of a device fit.
const BUFFER_BYTES: usize = 4 * 1024;
/// RFC 6455 §1.3.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why an upgrade is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An ordinary request, or a broken handshake.
    #[error("this path is for WebSocket connections: {0}")]
    NotWebSocket(&'static str),
    /// No subprotocol that the hub speaks.
    #[error("the hub speaks the WebSocket subprotocol mqtt here; offered: {0}")]
    Subprotocol(String),
    /// AMQP, which service and device clients offer by this name.
    #[error("AMQP over WebSocket is not supported by Ostler (yet); connect with MQTT (subprotocol mqtt)")]
    Amqp,
}

/// A handshake the hub agrees to.
#[derive(Debug)]
pub struct Handshake {
    /// `Sec-WebSocket-Accept`.
    pub accept: HeaderValue,
    /// The subprotocol's token as the client spelled it: one client offers `MQTT` and wants exactly that back.
    pub subprotocol: HeaderValue,
}

impl Handshake {
    /// Checks the headers of an upgrade request. Extensions are never agreed to, in particular permessage-deflate, which
    /// one client offers.
    ///
    /// # Errors
    /// [`Refusal`] says what is missing.
    pub fn check(headers: &HeaderMap) -> Result<Handshake, Refusal> {
        let has_token = |name, token: &str| {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
        };
        if !has_token(header::UPGRADE, "websocket") || !has_token(header::CONNECTION, "upgrade") {
            return Err(Refusal::NotWebSocket(
                "the headers Upgrade: websocket and Connection: Upgrade are missing",
            ));
        }
        if !has_token(header::SEC_WEBSOCKET_VERSION, "13") {
            return Err(Refusal::NotWebSocket("Sec-WebSocket-Version must be 13"));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
        if !BASE64_STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
            return Err(Refusal::NotWebSocket("Sec-WebSocket-Key must be 16 bytes in base64"));
        }
        Ok(Handshake { accept: accept_value(key), subprotocol: choose_subprotocol(headers)? })
    }
}

fn choose_subprotocol(headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let offered: Vec<&str> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let mqtt = offered.iter().find(|token| token.eq_ignore_ascii_case("mqtt"));
    if let Some(value) = mqtt.and_then(|token| HeaderValue::from_str(token).ok()) {
        return Ok(value);
    }
    if offered.iter().any(|token| token.to_ascii_uppercase().starts_with("AMQP")) {
        return Err(Refusal::Amqp);
    }
    let shown =
        if offered.is_empty() { "none".to_owned() } else { offered.join(", ").chars().take(64).collect() };
    Err(Refusal::Subprotocol(shown))
}

fn accept_value(key: &[u8]) -> HeaderValue {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key);
    digest.update(KEY_SUFFIX);
    let text = BASE64_STANDARD.encode(digest.finish());
    HeaderValue::from_str(&text).expect("base64 text is a valid header value")
}

/// The bytes inside the binary frames of a WebSocket connection, as one stream.
pub struct FrameBytes<Io> {
    frames: WebSocketStream<Io>,
    /// What is left of the last frame.
    unread: Bytes,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> FrameBytes<Io> {
    /// Takes over a connection after the handshake; `read` is what came behind it already.
    pub async fn new(io: Io, read: &[u8]) -> FrameBytes<Io> {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_write_buffer_size(2 * SENT_FRAME_BYTES + BUFFER_BYTES)
            .max_message_size(Some(FRAME_BYTES))
            .max_frame_size(Some(FRAME_BYTES));
        let frames =
            WebSocketStream::from_partially_read(io, read.to_vec(), Role::Server, Some(config)).await;
        FrameBytes { frames, unread: Bytes::new() }
    }
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncRead for FrameBytes<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.frames).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Text(_))) => {
                    let text = "a text frame came where binary frames carry MQTT";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
                }
                // Pings are answered below us, with the next read or write.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let count = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for FrameBytes<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.frames).poll_ready(cx)).map_err(io_error)?;
        let buf = &buf[..buf.len().min(SENT_FRAME_BYTES)];
        let frame = Message::Binary(Bytes::copy_from_slice(buf));
        Pin::new(&mut self.frames).start_send(frame).map_err(io_error)?;
        Poll::Ready(Ok(buf.len()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{duplex, AsyncReadExt, AsyncWriteExt, DuplexStream};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let standard = [
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in standard.iter().chain(pairs) {
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn check(pairs: &[(&'static str, &str)], expected: Result<&str, Refusal>) {
        let got =
            Handshake::check(&headers(pairs)).map(|shake| shake.subprotocol.to_str().unwrap().to_owned());
        assert_eq!(
            got.as_deref().map_err(ToString::to_string),
            expected.map_err(|e| e.to_string()),
            "{pairs:?}"
        );
    }

    #[test]
    fn the_offered_token_comes_back_as_it_was_spelled() {
        check(&[("sec-websocket-protocol", "mqtt")], Ok("mqtt"));
        check(&[("sec-websocket-protocol", "MQTT")], Ok("MQTT"));
        check(&[("sec-websocket-protocol", "AMQPWSB10, Mqtt")], Ok("Mqtt"));
        check(&[("sec-websocket-protocol", "AMQPWSB10")], Err(Refusal::Amqp));
        check(&[("sec-websocket-protocol", "chat")], Err(Refusal::Subprotocol("chat".into())));
        check(&[], Err(Refusal::Subprotocol("none".into())));
        let deflate =
            [("sec-websocket-protocol", "mqtt"), ("sec-websocket-extensions", "permessage-deflate")];
        check(&deflate, Ok("mqtt"));
    }

    #[test]
    fn what_is_no_handshake() {
        let missing = "the headers Upgrade: websocket and Connection: Upgrade are missing";
        check(&[("upgrade", "h2c")], Err(Refusal::NotWebSocket(missing)));
        check(&[("connection", "close")], Err(Refusal::NotWebSocket(missing)));
        check(
            &[("sec-websocket-version", "8")],
            Err(Refusal::NotWebSocket("Sec-WebSocket-Version must be 13")),
        );
        let key = "Sec-WebSocket-Key must be 16 bytes in base64";
        check(&[("sec-websocket-key", "short")], Err(Refusal::NotWebSocket(key)));
    }

    #[test]
    fn the_key_is_answered_as_rfc_6455_shows() {
        let shake = Handshake::check(&headers(&[("sec-websocket-protocol", "mqtt")])).unwrap();
        assert_eq!(shake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    async fn pair() -> (WebSocketStream<DuplexStream>, FrameBytes<DuplexStream>) {
        let (client, server) = duplex(1 << 20);
        let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        (client, FrameBytes::new(server, &[]).await)
    }

    #[tokio::test]
    async fn frames_and_packets_need_not_align() {
        let (mut client, mut server) = pair().await;
        for part in [&b"ab"[..], b"", b"cde", b"f"] {
            client.send(Message::Binary(Bytes::copy_from_slice(part))).await.unwrap();
        }
        let mut got = [0; 4];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"abcd");
        server.read_exact(&mut got[..2]).await.unwrap();
        assert_eq!(&got[..2], b"ef");
    }

    #[tokio::test]
    async fn what_is_written_arrives_and_pings_are_answered() {
        let (mut client, mut server) = pair().await;
        client.send(Message::Ping(Bytes::from_static(b"p"))).await.unwrap();
        client.send(Message::Binary(Bytes::from_static(b"x"))).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        server.write_all(b"hello").await.unwrap();
        server.flush().await.unwrap();
        let mut got = vec![client.next().await.unwrap().unwrap(), client.next().await.unwrap().unwrap()];
        got.sort_by_key(Message::is_binary);
        assert_eq!(
            got,
            [Message::Pong(Bytes::from_static(b"p")), Message::Binary(Bytes::from_static(b"hello"))]
        );
    }

    #[tokio::test]
    async fn a_close_frame_ends_the_stream() {
        let (mut client, mut server) = pair().await;
        client.close(None).await.unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn text_and_giants_are_refused() {
        let (mut client, mut server) = pair().await;
        client.send(Message::Text("hi".into())).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);

        let (client, mut server) = pair().await;
        let mut raw = client.into_inner();
        // A masked binary frame that claims 1 TiB.
        raw.write_all(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4]).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
