//! What waits between the client's task and one stream of the application.
//!
//! Invariant: no more than its bound waits; what does not fit is the sender's to deal with.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

/// The reading end is an `Arc` of this, the writing ends are `Weak`.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
}

pub(crate) struct State<T> {
    pub items: VecDeque<T>,
    /// The reader has missed something; what was missed is being fetched.
    pub behind: bool,
    /// Changes up to this version are in what the reader was handed.
    pub floor: u64,
    closed: bool,
    waker: Option<Waker>,
}

impl<T> Queue<T> {
    pub(crate) fn new(behind: bool) -> Arc<Self> {
        let state = State { items: VecDeque::new(), behind, floor: 0, closed: false, waker: None };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// One that nothing comes out of.
    pub(crate) fn ended() -> Arc<Self> {
        let queue = Self::new(false);
        queue.lock().closed = true;
        queue
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.lock();
        if let Some(item) = state.items.pop_front() {
            return Poll::Ready(Some(item));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> State<T> {
    /// Whom to wake, if something can be read.
    pub(crate) fn waker(&mut self) -> Option<Waker> {
        if self.items.is_empty() && !self.closed {
            return None;
        }
        self.waker.take()
    }

    fn close(&mut self) -> Option<Waker> {
        self.closed = true;
        self.waker.take()
    }
}

/// The streams that hear the same news.
pub(crate) struct Fan<T>(Vec<Weak<Queue<T>>>);

impl<T> Default for Fan<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Fan<T> {
    /// Another stream. It ends at once if the client is over.
    pub(crate) fn subscribe(&mut self, behind: bool, over: bool) -> Arc<Queue<T>> {
        if over {
            return Queue::ended();
        }
        let queue = Queue::new(behind);
        self.0.push(Arc::downgrade(&queue));
        queue
    }

    /// Visits every stream that still lives; the caller wakes what is returned, holding no lock.
    pub(crate) fn visit(&mut self, wakers: &mut Vec<Waker>, mut visit: impl FnMut(&mut State<T>)) {
        self.0.retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            let mut state = queue.lock();
            visit(&mut state);
            wakers.extend(state.waker());
            true
        });
    }

    /// No more news.
    pub(crate) fn close(&mut self, wakers: &mut Vec<Waker>) {
        for queue in self.0.drain(..).filter_map(|queue| queue.upgrade()) {
            wakers.extend(queue.lock().close());
        }
    }
}

/// A stream with a `next` of its own, so that programs need no further crate for it.
macro_rules! stream {
    ($(#[$meta:meta])* $name:ident, $item:ty) => {
        $(#[$meta])*
        #[must_use = "a stream that is dropped hears nothing"]
        pub struct $name(pub(crate) Arc<Queue<$item>>);

        impl $name {
            /// The next one; `None` once the client is closed. Dropping the future loses nothing.
            ///
            /// ```no_run
            #[doc = concat!("# async fn example(mut stream: ostler_device_sdk::", stringify!($name), ") {")]
            /// if let Some(next) = stream.next().await {
            ///     println!("{next:?}");
            /// }
            /// # }
            /// ```
            pub async fn next(&mut self) -> Option<$item> {
                std::future::poll_fn(|cx| self.0.poll_next(cx)).await
            }
        }

        impl Stream for $name {
            type Item = $item;

            fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<$item>> {
                self.0.poll_next(cx)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

stream! {
    /// How the connection does, from [`Client::status_changes`](crate::Client::status_changes).
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) {
    /// let mut changes = client.status_changes();
    /// while let Some(status) = changes.next().await {
    ///     println!("{status:?}");
    /// }
    /// # }
    /// ```
    StatusStream, crate::ConnectionStatus
}

stream! {
    /// Desired properties as they change, from [`Client::desired`](crate::Client::desired).
    ///
    /// ```no_run
    /// # async fn example(client: ostler_device_sdk::Client) {
    /// let mut updates = client.desired();
    /// while let Some(update) = updates.next().await {
    ///     println!("version {}: {}", update.version(), update.as_json());
    /// }
    /// # }
    /// ```
    DesiredStream, crate::DesiredUpdate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_hears_what_comes_after_it_was_made_and_ends_with_its_client() {
        let mut fan = Fan::default();
        let queue = fan.subscribe(false, false);
        let mut wakers = Vec::new();
        fan.visit(&mut wakers, |state| state.items.push_back(1));
        fan.close(&mut wakers);
        let next = || std::future::poll_fn(|cx| queue.poll_next(cx));
        assert_eq!((next().await, next().await), (Some(1), None));
        let late = fan.subscribe(false, true);
        assert_eq!(std::future::poll_fn(|cx| late.poll_next(cx)).await, None);
    }

    #[test]
    fn a_dropped_stream_is_forgotten() {
        let mut fan = Fan::<u8>::default();
        drop(fan.subscribe(false, false));
        fan.visit(&mut Vec::new(), |_| panic!("nobody is there"));
        assert!(fan.0.is_empty());
    }
}
