//! Messages from the cloud and for the inputs of a module, between the hub and the application's streams.
//!
//! Must not know: connections; how an acknowledgement is spelled.
//!
//! Invariant: each message goes to one stream, and is acknowledged once, in whatever order.
//! Invariant: no more than [`MAX_UNTAKEN`] messages without a ticket wait; those with one are bounded by the hub and by
//! the session, which pauses reading.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use crate::engine::Ticket;
use crate::message::ReceivedMessage;
use crate::shared::Inner;

/// Messages that need no acknowledgement and that nobody takes: the oldest go.
const MAX_UNTAKEN: usize = 64;

/// What has come and is not taken yet.
#[derive(Default)]
pub(crate) struct Mailbox {
    letters: VecDeque<Letter>,
    wakers: Vec<(u64, Waker)>,
    streams: u64,
}

struct Letter {
    message: ReceivedMessage,
    ticket: Option<Ticket>,
}

impl Mailbox {
    pub(crate) fn push(&mut self, message: ReceivedMessage, ticket: Option<Ticket>, wakers: &mut Vec<Waker>) {
        if ticket.is_none() {
            let unasked = self.letters.iter().filter(|letter| letter.ticket.is_none()).count();
            if unasked >= MAX_UNTAKEN {
                if let Some(oldest) = self.letters.iter().position(|letter| letter.ticket.is_none()) {
                    self.letters.remove(oldest);
                }
            }
        }
        self.letters.push_back(Letter { message, ticket });
        self.wake_all(wakers);
    }

    pub(crate) fn wake_all(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.wakers.drain(..).map(|(_, waker)| waker));
    }

    /// What came over the connection that is gone comes again.
    pub(crate) fn handle_lost(&mut self) {
        self.letters.retain(|letter| letter.ticket.is_none());
    }

    pub(crate) fn next_stream(&mut self) -> u64 {
        self.streams += 1;
        self.streams
    }

    fn take(&mut self, input: Option<&str>) -> Option<Letter> {
        let wanted =
            |letter: &Letter| input.is_none_or(|input| letter.message.input.as_deref() == Some(input));
        let at = self.letters.iter().position(wanted)?;
        self.letters.remove(at)
    }

    fn register(&mut self, stream: u64, waker: &Waker) {
        self.wakers.retain(|(other, _)| *other != stream);
        self.wakers.push((stream, waker.clone()));
    }
}

/// What the streams have in common.
struct Reader {
    inner: Arc<Inner>,
    id: u64,
    input: Option<Box<str>>,
}

impl Reader {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Letter>> {
        let mut core = self.inner.lock();
        if let Some(letter) = core.mailbox.take(self.input.as_deref()) {
            return Poll::Ready(Some(letter));
        }
        if core.is_over() {
            return Poll::Ready(None);
        }
        core.mailbox.register(self.id, cx.waker());
        Poll::Pending
    }
}

/// Messages as they come, from [`Client::messages`](crate::Client::messages) and
/// [`Client::input`](crate::Client::input). Taking a message acknowledges it.
///
/// Streams of one client share what comes: each message goes to one of them.
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) {
/// let mut messages = client.messages();
/// while let Some(message) = messages.next().await {
///     println!("{:?}", message.text());
/// }
/// # }
/// ```
#[must_use = "a stream that is dropped hears nothing"]
pub struct MessageStream(Reader);

impl MessageStream {
    pub(crate) fn new(inner: Arc<Inner>, id: u64, input: Option<&str>) -> Self {
        Self(Reader { inner, id, input: input.map(Into::into) })
    }

    /// The next message; `None` once the client is closed. Dropping the future loses nothing.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) {
    /// if let Some(message) = client.messages().next().await {
    ///     println!("{:?}", message.text());
    /// }
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<ReceivedMessage> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// The same messages, acknowledged by [`Delivery::complete`]: what the program does not get done before it stops or
    /// the connection breaks, comes again.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) {
    /// let mut deliveries = client.messages().manual();
    /// while let Some(delivery) = deliveries.next().await {
    ///     println!("{:?}", delivery.message.text());
    ///     delivery.complete();
    /// }
    /// # }
    /// ```
    pub fn manual(self) -> DeliveryStream {
        DeliveryStream(self.0)
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<ReceivedMessage>> {
        self.0.poll(cx).map(|letter| {
            let letter = letter?;
            if let Some(ticket) = letter.ticket {
                self.0.inner.ack(ticket);
            }
            Some(letter.message)
        })
    }
}

impl Stream for MessageStream {
    type Item = ReceivedMessage;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}

impl fmt::Debug for MessageStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageStream")
    }
}

/// Messages that the program acknowledges itself, from [`MessageStream::manual`].
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) {
/// let mut deliveries = client.messages().manual();
/// if let Some(delivery) = deliveries.next().await {
///     delivery.complete();
/// }
/// # }
/// ```
#[must_use = "a stream that is dropped hears nothing"]
pub struct DeliveryStream(Reader);

impl DeliveryStream {
    /// The next message; `None` once the client is closed. Dropping the future loses nothing.
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) {
    /// let delivery = client.messages().manual().next().await;
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<Delivery> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.0.poll(cx).map(|letter| {
            let Letter { message, ticket } = letter?;
            Some(Delivery { message, ticket, inner: Arc::downgrade(&self.0.inner) })
        })
    }
}

impl Stream for DeliveryStream {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}

impl fmt::Debug for DeliveryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeliveryStream")
    }
}

/// A message that is not acknowledged yet. Dropped without [`Delivery::complete`], it comes again over the next
/// connection; until then, later messages cannot be acknowledged either.
///
/// ```no_run
/// # async fn example(delivery: ostler_device_sdk::Delivery) {
/// println!("{:?}", delivery.message.text());
/// delivery.complete();
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a message that is not completed comes again"]
pub struct Delivery {
    /// What came.
    pub message: ReceivedMessage,
    ticket: Option<Ticket>,
    inner: Weak<Inner>,
}

impl Delivery {
    /// Tells the hub that the message is done with. Without effect if the connection it came over is gone: then it comes
    /// again, marked as [`repeated`](ReceivedMessage::repeated).
    ///
    /// ```no_run
    /// # async fn example(delivery: ostler_device_sdk::Delivery) {
    /// delivery.complete();
    /// # }
    /// ```
    pub fn complete(self) {
        if let (Some(ticket), Some(inner)) = (self.ticket, self.inner.upgrade()) {
            inner.ack(ticket);
        }
    }
}
