//! Rows that are devices or modules.
//!
//! Invariant: rows come in the order asked for, ids breaking ties, so that the last row says where to go on.

use super::token::{After as Last, Place};
use super::{Asked, QueryPage, Rows};
use crate::error::Error;
use crate::hub::{Hub, View};
use ostler_core::query::{project, Collection, Presence, Row, Select, TwinRow};
use ostler_core::record::Record;
use ostler_core::twin::{Member, Node};
use ostler_store::{After, Filter, Found, Order, StoreError};
use std::sync::Arc;

/// Rows fetched before it is known how large they are; a usual page is no larger.
const CHUNK: usize = 200;
/// Rows fetched at once when they are large.
const LARGE_CHUNK: usize = 32;
/// Estimated bytes of a row from which it is large.
const LARGE: usize = 16 << 10;
/// Rows left out at once, in the order of the ids and in another, where each search looks at everything.
const SKIPPED_AT_ONCE: [usize; 2] = [2000, 10_000];
/// Rows that may be left out of an order that is not the ids'.
const MOST_SKIPPED: u64 = 100_000;
/// Estimated bytes of text that a page of twins may have; its last rows may exceed it.
const PAGE_BYTES: usize = 16 << 20;
/// Estimated bytes that a property takes beside its value: name, punctuation, metadata.
const PROPERTY_BYTES: usize = 96;

impl Hub {
    pub(super) async fn query_entities(&self, asked: &Asked<'_>) -> Result<QueryPage, Error> {
        let mut search = Search::new(self, asked);
        let wanted = asked.wanted();
        let mut more = wanted > 0 && search.skip(asked.skipped()).await?;
        let (mut records, mut bytes) = (Vec::new(), 0);
        while more && records.len() < wanted && bytes < PAGE_BYTES {
            let rest = wanted - records.len();
            let found = search.next(rest.min(chunk(records.len(), bytes))).await?;
            if found.records.len() < rest {
                bytes += found.records.iter().map(estimate).sum::<usize>();
            }
            records.extend(found.records);
            more = found.more;
        }
        let left = asked.left().map(|left| left.saturating_sub(records.len() as u64));
        let views: Vec<View> = records.into_iter().map(|record| self.view(record)).collect();
        let next = match search.after.filter(|_| more && left != Some(0)) {
            Some(After { values, id: key }) => {
                Some(self.seal(asked, &Place { left, after: Last::Row { values, key } })?)
            }
            None => None,
        };
        let rows = match &asked.query.select {
            Select::All => Rows::Twins(views),
            Select::Items(items) => {
                let row = |view: &View| project(&view.record, presence(view), items);
                Rows::Raw(views.iter().map(row).collect())
            }
        };
        Ok(QueryPage { rows, next })
    }
}

/// The rows that match, one after the other.
struct Search<'a> {
    hub: &'a Hub,
    asked: &'a Asked<'a>,
    filter: Arc<Filter>,
    /// The last row that was found.
    after: Option<After>,
}

impl<'a> Search<'a> {
    fn new(hub: &'a Hub, asked: &'a Asked<'a>) -> Search<'a> {
        let after = asked.place.as_ref().and_then(|place| match &place.after {
            Last::Row { values, key } => Some(After { values: values.clone(), id: key.clone() }),
            Last::Group { .. } => None,
        });
        Search { hub, asked, filter: asked.filter(), after }
    }

    async fn next(&mut self, limit: usize) -> Result<Found, StoreError> {
        let by = &self.asked.query.order_by;
        let order = if by.is_empty() { Order::ById } else { Order::By(by.clone()) };
        let (filter, live) = (self.filter.clone(), self.asked.live.clone());
        let found = self.hub.store.find(filter, live, order, self.after.clone(), limit).await?;
        if let Some(last) = found.records.last() {
            self.after = Some(self.position(last));
        }
        Ok(found)
    }

    /// Leaves rows out; whether there are more.
    async fn skip(&mut self, mut count: u64) -> Result<bool, Error> {
        let ordered = !self.asked.query.order_by.is_empty();
        if ordered && count > MOST_SKIPPED {
            let text = format!(
                "OFFSET is {count}, with ORDER BY at most {MOST_SKIPPED}; the pages of a query go on by their tokens"
            );
            return Err(Error::InvalidArgument(text));
        }
        let most = SKIPPED_AT_ONCE[usize::from(ordered)];
        while count > 0 {
            let limit = usize::try_from(count).map_or(most, |count| count.min(most));
            let found = self.next(limit).await?;
            count -= found.records.len() as u64;
            if !found.more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the next page goes on behind.
    fn position(&self, record: &Record) -> After {
        let presence = self.asked.live.whole(record.id.as_str(), record.activity);
        let row = TwinRow { record, presence };
        let values = self.asked.query.order_by.iter().map(|(column, _)| row.value(column)).collect();
        After { values, id: record.id.as_str().into() }
    }
}

impl Asked<'_> {
    /// Which records match.
    pub(super) fn filter(&self) -> Arc<Filter> {
        let modules = self.query.from == Collection::Modules;
        Arc::new(Filter { modules, condition: self.query.condition.clone() })
    }
}

pub(super) fn presence(view: &View) -> Presence {
    Presence { connected: view.connected, activity: view.record.activity, messages: view.messages }
}

/// How many rows to fetch next. Each fetch may look at everything again, so there are few, unless rows are so large that
/// a page of them would be too much.
fn chunk(fetched: usize, bytes: usize) -> usize {
    match fetched {
        0 => CHUNK,
        _ if bytes / fetched < LARGE => usize::MAX,
        _ => LARGE_CHUNK,
    }
}

/// About how long a twin's text is.
fn estimate(record: &Record) -> usize {
    let twin = &record.twin;
    [&twin.tags, &twin.desired, &twin.reported].iter().map(|section| weigh(&section.members)).sum()
}

fn weigh(members: &[Member]) -> usize {
    let value = |node: &Node| match node {
        Node::Object(inner) => weigh(inner),
        Node::String(text) => text.len(),
        Node::Array(elements) => 32 * elements.len(),
        Node::Bool(_) | Node::Number(_) => 8,
    };
    members.iter().map(|member| PROPERTY_BYTES + 2 * member.key.len() + value(&member.node)).sum()
}
