//! Newline-delimited JSON over one long response, as the hub's live streams come.
//!
//! Must not know what the lines mean.
//!
//! Invariant: a stream that shows no sign of life for [`SILENCE`] ends with an error: the hub may be gone without a word.
//! Invariant: a line longer than [`MAX_LINE`] ends the stream with an error instead of growing without end.

use std::collections::VecDeque;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::Stream;
use http_body::Body;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Sleep};

use crate::error::Error;
use crate::transport::Call;
use crate::Client;

/// A telemetry message has 256 KB at most; as base64 or escaped text, with its properties, it stays below this.
const MAX_LINE: usize = 4 << 20;

/// A hub sends an empty line every 15 s when nothing happens.
const SILENCE: Duration = Duration::from_secs(60);

impl Client {
    /// Opens a stream; nothing of it is read yet.
    pub(super) async fn lines<T>(&self, call: &Call) -> Result<LineStream<T>, Error> {
        let response = self.transport.open(call).await?;
        Ok(LineStream {
            body: response.into_body(),
            authority: self.authority().to_owned(),
            lines: Lines::default(),
            silence: Box::pin(tokio::time::sleep(SILENCE)),
            ended: false,
            item: PhantomData,
        })
    }
}

/// Documents as they come, one a line. Ends when the hub closes it, or after the first error.
pub struct LineStream<T> {
    body: Incoming,
    authority: String,
    lines: Lines,
    silence: Pin<Box<Sleep>>,
    ended: bool,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> LineStream<T> {
    /// The next document; `None` when the hub closed the stream, and behind an error.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut events = hub.events(&Default::default()).await?;
    /// while let Some(event) = events.next().await {
    ///     println!("{:?}", event?.kind);
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The next document, for use with `?`.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut events = hub.events(&Default::default()).await?;
    /// while let Some(event) = events.try_next().await? {
    ///     println!("{:?}", event.kind);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Timeout`] when the hub fell silent, [`Error::Interrupted`] when the connection broke,
    /// [`Error::UnexpectedAnswer`] for a line that is no document.
    pub async fn try_next(&mut self) -> Result<Option<T>, Error> {
        self.next().await.transpose()
    }
}

impl<T> std::fmt::Debug for LineStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineStream").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> Stream for LineStream<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = &mut *self;
        loop {
            if let Some(line) = stream.lines.pop() {
                return Poll::Ready(Some(parse(&line)));
            }
            if stream.ended {
                return Poll::Ready(None);
            }
            let Poll::Ready(frame) = Pin::new(&mut stream.body).poll_frame(cx) else {
                ready!(stream.silence.as_mut().poll(cx));
                stream.ended = true;
                let authority = stream.authority.clone();
                return Poll::Ready(Some(Err(Error::Timeout { authority, after: SILENCE })));
            };
            match frame {
                None => stream.ended = true,
                Some(Ok(frame)) => {
                    stream.silence.as_mut().reset(Instant::now() + SILENCE);
                    let Ok(mut data) = frame.into_data() else { continue };
                    if let Err(reason) = stream.lines.push(&mut data) {
                        stream.ended = true;
                        return Poll::Ready(Some(Err(unexpected(reason))));
                    }
                }
                Some(Err(error)) => {
                    stream.ended = true;
                    let authority = stream.authority.clone();
                    return Poll::Ready(Some(Err(Error::Interrupted { authority, source: error.into() })));
                }
            }
        }
    }
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(line).map_err(|error| unexpected(format!("a line does not parse: {error}")))
}

fn unexpected(reason: String) -> Error {
    Error::UnexpectedAnswer { status: 200, reason }
}

/// Puts lines together from chunks cut anywhere. Empty lines are keep-alives and are dropped.
#[derive(Default)]
struct Lines {
    partial: BytesMut,
    complete: VecDeque<BytesMut>,
}

impl Lines {
    fn push(&mut self, data: &mut impl Buf) -> Result<(), String> {
        while data.has_remaining() {
            let chunk = data.chunk();
            let Some(end) = chunk.iter().position(|byte| *byte == b'\n') else {
                self.partial.extend_from_slice(chunk);
                data.advance(chunk.len());
                break_if_too_long(&self.partial)?;
                continue;
            };
            self.partial.extend_from_slice(&chunk[..end]);
            data.advance(end + 1);
            break_if_too_long(&self.partial)?;
            let line = self.partial.split();
            if !line.trim_ascii().is_empty() {
                self.complete.push_back(line);
            }
        }
        Ok(())
    }

    fn pop(&mut self) -> Option<BytesMut> {
        self.complete.pop_front()
    }
}

fn break_if_too_long(line: &[u8]) -> Result<(), String> {
    if line.len() > MAX_LINE {
        return Err(format!("a line is longer than {MAX_LINE} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_chunks_cut_anywhere() {
        let text = b"{\"a\":1}\n\n{\"b\":2}\r\n{\"c\"";
        for cut in 0..text.len() {
            let mut lines = Lines::default();
            lines.push(&mut &text[..cut]).unwrap();
            lines.push(&mut &text[cut..]).unwrap();
            let seen: Vec<_> = std::iter::from_fn(|| lines.pop()).collect();
            assert_eq!(seen, [&b"{\"a\":1}"[..], &b"{\"b\":2}\r"[..]], "cut at {cut}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        assert!(lines.push(&mut &vec![b'x'; MAX_LINE][..]).is_ok());
        assert!(lines.push(&mut &b"x"[..]).is_err());
    }
}
