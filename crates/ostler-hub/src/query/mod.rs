//! Queries: rights are the front end's, the meaning is core's, the finding is the store's; here an answer is cut into pages.
//!
//! ```text
//! text -> Query (core) -> Store::find / fold, jobs -> rows and, if there are more, a token
//! ```
//!
//! Nothing is kept between pages: a token says behind which row to go on.
//!
//! Must not know: how a row is spelled on a wire.
//!
//! Invariant: a page has at most the rows asked for, and a token only if there is a row behind its last one.
//!
//! Invariant: `TOP`, `LIMIT` and `OFFSET` count over all pages.

mod device_jobs;
mod entities;
mod explain;
mod groups;
mod job_row;
mod order;
#[cfg(test)]
mod tests;
mod token;

use crate::bus::LocalBus;
use crate::error::Error;
use crate::hub::{Hub, View};
use crate::messages::Table;
use ostler_core::job::DeviceJob;
use ostler_core::json::Object;
use ostler_core::query::{Collection, Dialect, Presence, Query};
use ostler_store::{Live, StoreError};
use std::sync::Arc;
use token::Place;
pub(crate) use token::Tokens;

/// A page of a query to be answered.
#[derive(Clone, Copy, Debug)]
pub struct QueryRequest<'a> {
    /// The query.
    pub text: &'a str,
    /// The language it is in.
    pub dialect: Dialect,
    /// Rows wanted, at least 1.
    pub page_size: usize,
    /// The token of the page before.
    pub continuation: Option<&'a str>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct QueryPage {
    /// The rows.
    pub rows: Rows,
    /// With what to go on, if there is more.
    pub next: Option<String>,
}

/// Rows of one kind.
#[derive(Clone, Debug)]
pub enum Rows {
    /// Whole twins.
    Twins(Vec<View>),
    /// What jobs did to devices.
    DeviceJobs(Vec<DeviceJob>),
    /// What a select list made, or an explanation.
    Raw(Vec<Object>),
}

/// A query in the middle of being answered.
struct Asked<'a> {
    request: &'a QueryRequest<'a>,
    query: Arc<Query>,
    /// Where the page before ended.
    place: Option<Place>,
    live: Arc<dyn Live>,
}

impl Asked<'_> {
    /// Rows that may still come.
    fn left(&self) -> Option<u64> {
        match &self.place {
            Some(place) => place.left,
            None => self.query.row_limit(),
        }
    }

    /// Rows of this page.
    fn wanted(&self) -> usize {
        let left = self.left().map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        self.request.page_size.min(left)
    }

    /// Rows to leave out before the first page.
    fn skipped(&self) -> u64 {
        if self.place.is_some() {
            return 0;
        }
        self.query.offset.unwrap_or(0)
    }
}

impl Hub {
    /// Answers a page of a query. Dropping the future ends the search.
    ///
    /// # Errors
    /// [`Error::Query`] for a text that cannot be read, [`Error::InvalidArgument`] for a token of another query or hub, or the
    /// store's.
    pub async fn query(&self, request: &QueryRequest<'_>) -> Result<QueryPage, Error> {
        let query = Query::parse(request.text, request.dialect)?;
        let open = |token| self.tokens.open(request.text, request.dialect, token);
        let place = request.continuation.map(open).transpose()?;
        let asked = Asked { request, query: Arc::new(query), place, live: self.live() };
        self.stats().queries.add(1);
        if asked.query.explain {
            return self.explain(&asked).await;
        }
        if asked.query.is_grouped() {
            return self.query_groups(&asked).await;
        }
        match asked.query.from {
            Collection::Devices | Collection::Modules => self.query_entities(&asked).await,
            Collection::Jobs => self.query_device_jobs(&asked).await,
        }
    }

    /// What is connected now, for the store's searches.
    pub(crate) fn live(&self) -> Arc<dyn Live> {
        Arc::new(LiveSessions(self.bus.clone(), self.messages.table()))
    }

    fn seal(&self, asked: &Asked<'_>, place: &Place) -> Result<String, Error> {
        self.tokens.seal(asked.request.text, asked.request.dialect, place)
    }
}

/// Rows that are sorted where the query is answered; more are sorted apart, so that nobody else waits for it.
const SORTED_AT_ONCE: usize = 2000;

/// Does work over so many rows, on a thread of its own if they are many.
async fn apart<T: Send + 'static>(
    rows: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    if rows <= SORTED_AT_ONCE {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Store(StoreError::Unavailable(format!("the query failed inside: {error}"))))
}

/// The hub's sessions and queues, as the store asks for them.
struct LiveSessions(Arc<LocalBus>, Arc<Table>);

impl Live for LiveSessions {
    fn presence(&self, id: &str) -> Option<Presence> {
        self.0.sessions.activity(id).map(|activity| Presence { connected: true, activity, messages: 0 })
    }

    fn messages(&self, id: &str) -> u64 {
        self.1.count(id) as u64
    }
}
