//! Answers that come item by item: rows of queries, lists that go over pages, news of a job.
//!
//! Must not know: where the items come from.
//!
//! Invariant: nothing behind the next item is asked for before that item is wanted.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;

use crate::error::Error;

/// Items as they come. It ends with the last item or after the first error, and dropping it drops the rest.
///
/// It is a [`Stream`] for whoever uses `futures`, and its own methods are enough for everybody else.
///
/// ```no_run
/// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
/// let mut devices = hub.all_devices();
/// while let Some(device) = devices.try_next().await? {
///     println!("{}", device.device_id);
/// }
/// # Ok(()) }
/// ```
#[must_use = "nothing is asked for before the first item is"]
pub struct Rows<T> {
    items: Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>,
}

impl<T> Rows<T> {
    pub(crate) fn new(items: impl Stream<Item = Result<T, Error>> + Send + 'static) -> Self {
        Self { items: Box::pin(items) }
    }

    /// The next item; `None` behind the last one, and behind an error.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut devices = hub.all_devices();
    /// while let Some(device) = devices.next().await {
    ///     match device {
    ///         Ok(device) => println!("{}", device.device_id),
    ///         Err(error) => println!("that was all that could be read: {error}"),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        poll_fn(|cx| self.items.as_mut().poll_next(cx)).await
    }

    /// The next item, for use with `?`.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let first = hub.all_devices().try_next().await?;
    /// println!("{}", first.is_some());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Whatever ended it.
    pub async fn try_next(&mut self) -> Result<Option<T>, Error> {
        self.next().await.transpose()
    }

    /// All that is left, in memory at once.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let offline = hub.query("SELECT * FROM devices WHERE connectionState = 'Disconnected'");
    /// println!("{} are offline", offline.twins().into_vec().await?.len());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Whatever ended it; the items before that are lost.
    pub async fn into_vec(mut self) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        while let Some(item) = self.try_next().await? {
            all.push(item);
        }
        Ok(all)
    }
}

impl<T> Stream for Rows<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.as_mut().poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl<T> fmt::Debug for Rows<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").finish_non_exhaustive()
    }
}
