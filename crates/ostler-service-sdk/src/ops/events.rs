//! The live event stream (`GET /ostler/v1/events`).

use http::Method;

use super::encode;
use super::lines::LineStream;
use crate::error::Error;
use crate::model::{Event, EventFilter};
use crate::retry::Safety;
use crate::transport::Call;
use crate::Client;

/// Live events as they come. Ends when the hub closes it, or after the first error.
pub type EventStream = LineStream<Event>;

impl Client {
    /// Opens the live event stream. It shows what happens from now on, keeps nothing, and ends with the connection;
    /// a listener that reads too slowly loses events.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::{EventFilter, EventKind};
    ///
    /// let filter = EventFilter { kinds: vec![EventKind::Telemetry], ..EventFilter::default() };
    /// let mut events = hub.events(&filter).await?;
    /// while let Some(event) = events.try_next().await? {
    ///     println!("{:?}: {:?}", event.device_id, event.details.get("body"));
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unauthorized`] without the right to connect as a service.
    pub async fn events(&self, filter: &EventFilter) -> Result<EventStream, Error> {
        let mut call = Call::new(Method::GET, "/ostler/v1/events");
        call.safety = Safety::Repeatable;
        if !filter.kinds.is_empty() {
            let kinds: Vec<&str> = filter.kinds.iter().map(|kind| kind.as_str()).collect();
            call.query.push_str(&format!("&types={}", encode(&kinds.join(","))));
        }
        if let Some(device) = &filter.device_id {
            call.query.push_str(&format!("&deviceId={}", encode(device)));
        }
        self.lines(&call).await
    }
}
