//! Bodies of requests and answers.
//!
//! Invariant: not a byte beyond a route's limit is kept, and a body that does not come in time is not waited for.

use super::connection::Busy;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

/// Why a request's body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// More than the route's limit, in bytes.
    TooLarge(usize),
    /// It did not end in time.
    TooSlow,
    /// The connection or the chunked encoding broke.
    Broken,
}

/// Reads a body of at most `limit` bytes within `patience`. What is announced as too large is not read at all.
///
/// # Errors
/// [`BodyError`] says which bound was passed.
pub async fn read<B>(body: B, limit: usize, patience: Duration) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge(limit));
    }
    timeout(patience, collect(body, limit)).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn collect<B>(mut body: B, limit: usize) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    // Most bodies come in one piece, which is then handed on as it is.
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if first.len().max(whole.len()) + data.len() > limit {
            return Err(BodyError::TooLarge(limit));
        }
        if first.is_empty() {
            first = data;
        } else {
            if whole.is_empty() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// The body of an answer.
pub enum Body {
    /// All of it, at once.
    Whole(Bytes),
    /// Pieces as they come, until the source ends; the hub is at work as long.
    Stream(Pieces, Option<Busy>),
}

/// The source of a streamed body.
pub type Pieces = Pin<Box<dyn futures_util::Stream<Item = Bytes> + Send>>;

impl Body {
    /// No body.
    pub const EMPTY: Body = Body::Whole(Bytes::new());

    /// Lets a streamed body hold the guard until it ends.
    pub fn hold(&mut self, busy: Busy) {
        if let Body::Stream(_, held) = self {
            *held = Some(busy);
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Body::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Body::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Body::Stream(stream, _) => {
                stream.as_mut().poll_next(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Stream(..) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    fn pieces(texts: &[&'static str]) -> Body {
        let texts: Vec<Bytes> = texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
        Body::Stream(Box::pin(stream::iter(texts)), None)
    }

    async fn check(body: Body, expected: Result<&'static str, BodyError>) {
        let got = read(body, 8, Duration::from_secs(1)).await;
        assert_eq!(got, expected.map(|text| Bytes::from_static(text.as_bytes())));
    }

    #[tokio::test]
    async fn within_and_beyond_the_limit() {
        check(Body::EMPTY, Ok("")).await;
        check(Body::Whole("12345678".into()), Ok("12345678")).await;
        check(Body::Whole("123456789".into()), Err(BodyError::TooLarge(8))).await;
        check(pieces(&["1234", "", "56", "78"]), Ok("12345678")).await;
        check(pieces(&["12345678", "9"]), Err(BodyError::TooLarge(8))).await;
        check(pieces(&["1234", "56", "789"]), Err(BodyError::TooLarge(8))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come() {
        check(Body::Stream(Box::pin(stream::pending()), None), Err(BodyError::TooSlow)).await;
    }
}
