//! Queries over the records in memory.
//!
//! ```text
//!   few ids                  ──> look them up
//!   a column finds few rows  ──> look at those                            at once, in the caller's poll
//!   the first of a page      ──> go through the ids in order, for a while
//!   anything else            ──> scan all shards on all cores             on threads of its own
//! ```
//!
//! `row` finds values in the bytes, `plan` takes conditions apart, `scan` looks at shards, `column` and
//! `registry` keep what is asked for often, `sink` gathers.
//!
//! Must not know: how a query is written; disks.
//!
//! Invariant: an answer is what core's evaluator gives over the records of one point.
//! Invariant: what runs in the caller's poll is bounded to about a millisecond.

mod coded;
mod column;
mod indexing;
mod little;
mod numbers;
mod plan;
mod registry;
mod row;
mod scan;
mod sink;
mod skim;
#[cfg(test)]
mod tests;
mod turns;
mod walk;

pub(crate) use column::Kept;
pub(crate) use indexing::Indexing;
pub(crate) use plan::Judge;
pub(crate) use registry::{Registry, Tracked, Tuning};
pub(crate) use skim::Skimmed;

use super::model::{Model, Snapshot};
use crate::query::Standing;
use crate::record::decode;
use crate::record::shapes::Shapes;
use crate::{After, ColumnUse, Explanation, Filter, Found, Live, Order, Plan, StoreError};
use little::Way;
use ostler_core::id::EntityId;
use ostler_core::query::{Aggregate, Column, Groups, Item, Query, Select, What};
use ostler_core::record::Record;
use plan::{can_be_kept, useful_columns, Access, Node};
use scan::{Scan, Sink};
use sink::{First, Fold, Ids};
use std::sync::Arc;
use std::time::Instant;
use turns::{Running, Turns};
use walk::{Walk, WalkEnd};

/// What is little enough for the caller's poll, and when one way is left for another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Rows of a table that is looked at as a whole at once.
    pub(crate) few_rows: u64,
    /// Rows whose codes are looked at at once.
    pub(crate) few_judged: u64,
    /// Values that a condition is judged for at once.
    pub(crate) few_values: usize,
    /// Rows that columns leave, to be looked at at once.
    pub(crate) few_left: u64,
    /// Records looked at in the order of their ids at once; ids that columns leave out count less.
    pub(crate) walk_at_once: usize,
    /// The same before all shards are scanned.
    pub(crate) walk_at_most: usize,
    /// Scans that ask for a path before it gets a column.
    pub(crate) after_scans: u32,
    /// Up to so many different numbers of a shard are kept as codes.
    pub(crate) few_distinct: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            few_rows: 2_000,
            few_judged: 2_000_000,
            few_values: 50_000,
            few_left: 2_000,
            walk_at_once: 2_000,
            walk_at_most: 20_000,
            after_scans: 2,
            few_distinct: 512,
        }
    }
}

/// See the module documentation.
pub(crate) struct Queries {
    engine: Arc<Engine>,
    turns: Turns,
}

/// What a thread needs to answer a query.
struct Engine {
    model: Arc<Model>,
    shapes: Arc<Shapes>,
    registry: Arc<Registry>,
    bounds: Bounds,
}

/// A query on its way.
struct Asked<'q> {
    engine: &'q Engine,
    filter: &'q Filter,
    live: &'q dyn Live,
    snapshot: Snapshot<'q>,
}

impl Queries {
    pub(crate) fn new(
        model: Arc<Model>,
        shapes: Arc<Shapes>,
        registry: Arc<Registry>,
        bounds: Bounds,
    ) -> Queries {
        Queries { engine: Arc::new(Engine { model, shapes, registry, bounds }), turns: Turns::new() }
    }

    pub(crate) async fn find(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
        order: Order,
        after: Option<After>,
        limit: usize,
    ) -> Result<Found, StoreError> {
        let after = after.as_ref().map(Standing::after);
        if let Some(found) = self.engine.find_at_once(&filter, &*live, &order, after.as_ref(), limit)? {
            return Ok(found);
        }
        let engine = self.engine.clone();
        let work = move |running: &Running| {
            engine.find_by_scan(&filter, &*live, &order, after.as_ref(), limit, running)
        };
        self.turns.run(work).await
    }

    pub(crate) async fn find_ids(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
    ) -> Result<Vec<EntityId>, StoreError> {
        let asking = Asking::default();
        {
            let asked = self.engine.ask(&filter, &*live);
            if let Some(sinks) = asked.gather_at_once(&asking, Ids::default)? {
                return ids_of(sinks);
            }
        }
        let engine = self.engine.clone();
        let work = move |running: &Running| {
            let asked = engine.ask(&filter, &*live);
            ids_of(asked.gather_by_scan(&Asking::default(), running, |_| Ids::default())?)
        };
        self.turns.run(work).await
    }

    pub(crate) async fn fold(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
        query: Arc<Query>,
    ) -> Result<Groups, StoreError> {
        let merge = |sinks: Vec<Fold>, query: &Query, engine: &Engine| {
            Fold::merge(sinks, query, &engine.shapes.read()).map_err(StoreError::Groups)
        };
        {
            let asked = self.engine.ask(&filter, &*live);
            let asking = Asking::of_query(&query);
            let columns = self.engine.columns(&filter, asking.group);
            let group = number_among(&columns, asking.group);
            if let Some(sinks) = asked.gather_at_once(&asking, || Fold::new(&query, group))? {
                return merge(sinks, &query, &self.engine);
            }
        }
        let engine = self.engine.clone();
        let work = move |running: &Running| {
            let asked = engine.ask(&filter, &*live);
            let asking = Asking::of_query(&query);
            let sinks = asked.gather_by_scan(&asking, running, |columns: &[Arc<Tracked>]| {
                Fold::new(&query, number_among(columns, asking.group))
            })?;
            merge(sinks, &query, &engine)
        };
        self.turns.run(work).await
    }

    pub(crate) fn explain(&self, filter: &Filter) -> Explanation {
        self.engine.explain(filter)
    }
}

impl Engine {
    fn ask<'q>(&'q self, filter: &'q Filter, live: &'q dyn Live) -> Asked<'q> {
        Asked { engine: self, filter, live, snapshot: self.model.snapshot() }
    }

    fn rows(&self, filter: &Filter) -> u64 {
        let counts = self.model.counts();
        if filter.modules {
            counts.modules
        } else {
            counts.devices
        }
    }

    /// The columns there are for a filter, and for a column beside it.
    fn columns(&self, filter: &Filter, other: Option<&Column>) -> Vec<Arc<Tracked>> {
        let useful = useful_with(filter, other);
        if useful.is_empty() {
            return Vec::new();
        }
        self.registry.ask(filter.modules, &useful, Instant::now())
    }

    /// The columns of a scan that a filter needs, which is a reason to have them.
    fn scanned(&self, filter: &Filter) -> Vec<Arc<Tracked>> {
        self.registry.scanning(filter.modules, &useful_with(filter, None), Instant::now())
    }

    fn are_built(&self, filter: &Filter, columns: &[Arc<Tracked>]) -> bool {
        self.model.table(filter.modules).shards.iter().all(|shard| {
            let shard = shard.read();
            shard.len() == 0 || columns.iter().all(|tracked| shard.column(tracked.number).is_some())
        })
    }

    fn find_at_once(
        &self,
        filter: &Filter,
        live: &dyn Live,
        order: &Order,
        after: Option<&Standing>,
        limit: usize,
    ) -> Result<Option<Found>, StoreError> {
        let asked = self.ask(filter, live);
        let first = || First::new(order, after, limit.saturating_add(1));
        if let Some(sinks) = asked.gather_at_once(&Asking::of_order(order), first)? {
            return asked.page(sinks, order, limit).map(Some);
        }
        if !matches!(order, Order::ById) {
            return Ok(None);
        }
        let columns = self.columns(filter, None);
        let at_once = self.bounds.walk_at_once;
        match little::way(self, filter, &columns, limit.saturating_add(1)) {
            Way::Columns(cost) if cost > at_once as u64 => return Ok(None),
            // Where memory is short some shards may have none, and would be looked at record by record.
            Way::Columns(_) if !self.are_built(filter, &columns) => return Ok(None),
            Way::Columns(_) => {
                let (asking, running) = (Asking::default(), Running::inline());
                let mut scan = asked.scan(&asking, &columns, &running);
                scan.above = after.map(|after| &*after.id);
                return asked.page(scan.run(0, first)?, order, limit).map(Some);
            }
            Way::Walk(_) => {}
        }
        let mut walk = Walk::new(&asked, &columns, after, limit);
        Ok(match walk.go(at_once, &Running::inline())? {
            WalkEnd::Done => Some(walk.found()),
            WalkEnd::Tired => None,
        })
    }

    fn find_by_scan(
        &self,
        filter: &Filter,
        live: &dyn Live,
        order: &Order,
        after: Option<&Standing>,
        limit: usize,
        running: &Running,
    ) -> Result<Found, StoreError> {
        let asked = self.ask(filter, live);
        let Bounds { walk_at_once, walk_at_most, .. } = self.bounds;
        let (mut after, mut found) = (after.cloned(), Found::default());
        let known = self.columns(filter, None);
        let way = little::way(self, filter, &known, limit.saturating_add(1));
        let mut columns = None;
        if matches!(order, Order::ById) && matches!(way, Way::Walk(_)) {
            let mut walk = Walk::new(&asked, &known, after.as_ref(), limit);
            if walk.go(walk_at_once, running)? == WalkEnd::Done {
                return Ok(walk.found());
            }
            // A long walk is a reason to build columns, as a scan is; and building them is a scan.
            let wanted = self.scanned(filter);
            let is_short = walk.expected() <= walk_at_most && self.are_built(filter, &wanted);
            columns = Some(wanted);
            if is_short && walk.go(walk_at_most, running)? == WalkEnd::Done {
                return Ok(walk.found());
            }
            after = walk.after();
            found = walk.found();
        }
        let left = limit - found.records.len();
        let asking = Asking::of_order(order);
        let columns = columns.unwrap_or_else(|| self.scanned(filter));
        let mut scan = asked.scan(&asking, &columns, running);
        scan.build = true;
        if matches!(order, Order::ById) {
            scan.above = after.as_ref().map(|after| &*after.id);
        }
        let most = left.saturating_add(1);
        let sinks = scan.run(running.helpers, || First::new(order, after.as_ref(), most))?;
        let rest = asked.page(sinks, order, left)?;
        found.records.extend(rest.records);
        found.more = rest.more;
        Ok(found)
    }

    fn explain(&self, filter: &Filter) -> Explanation {
        let useful = useful_columns(filter.condition.as_ref());
        let known = self.columns(filter, None);
        let is_built = |column: &Column| {
            let tracked = known.iter().find(|tracked| tracked.column == *column);
            tracked.is_some_and(|tracked| self.are_built(filter, std::slice::from_ref(tracked)))
        };
        let columns: Vec<ColumnUse> = useful
            .iter()
            .map(|column| ColumnUse { column: (*column).clone(), built: is_built(column) })
            .collect();
        let built: Vec<Arc<Tracked>> = known.iter().filter(|it| is_built(&it.column)).cloned().collect();
        let plan = match Access::of(filter.condition.as_ref()) {
            Access::Ids(ids) => Plan::Ids(ids.len()),
            Access::Prefix(prefix) => Plan::Prefix(prefix),
            Access::All => match &filter.condition {
                Some(condition) if !built.is_empty() => {
                    let node = Node::of(condition.tree(), &built, &mut Vec::new());
                    if node.is_columns_only() {
                        Plan::Columns
                    } else {
                        Plan::ColumnsThenRows
                    }
                }
                _ => Plan::Scan,
            },
        };
        Explanation { plan, columns, rows: self.rows(filter) }
    }
}

impl<'q> Asked<'q> {
    fn scan<'s>(
        &'s self,
        asking: &'s Asking<'s>,
        columns: &'s [Arc<Tracked>],
        running: &'s Running,
    ) -> Scan<'s> {
        Scan {
            model: &self.engine.model,
            shapes: &self.engine.shapes,
            registry: &self.engine.registry,
            filter: self.filter,
            live: self.live,
            at: self.snapshot.at(),
            cancelled: &running.cancelled,
            columns,
            build: false,
            asked: &asking.columns,
            above: None,
        }
    }

    /// The rows in sinks, if finding them is little work.
    fn gather_at_once<S: Sink>(
        &self,
        asking: &Asking<'_>,
        make: impl Fn() -> S + Sync,
    ) -> Result<Option<Vec<S>>, StoreError> {
        let Asked { engine, filter, .. } = self;
        let mut sink = make();
        match Access::of(filter.condition.as_ref()) {
            Access::Ids(ids) => {
                walk::look_up(self, &ids, &asking.columns, &mut sink);
                return Ok(Some(vec![sink]));
            }
            Access::Prefix(prefix) => {
                if walk::look_up_prefix(self, &prefix, engine.bounds.walk_at_once, &asking.columns, &mut sink)
                {
                    return Ok(Some(vec![sink]));
                }
            }
            Access::All => {}
        }
        let columns = engine.columns(filter, asking.group);
        let is_little = engine.rows(filter) <= engine.bounds.few_rows
            || little::is_little(engine, filter, asking, &columns);
        if !is_little {
            return Ok(None);
        }
        self.scan(asking, &columns, &Running::inline()).run(0, make).map(Some)
    }

    fn gather_by_scan<S: Sink>(
        &self,
        asking: &Asking<'_>,
        running: &Running,
        make: impl Fn(&[Arc<Tracked>]) -> S + Sync,
    ) -> Result<Vec<S>, StoreError> {
        let useful = useful_with(self.filter, asking.group);
        let columns = self.engine.registry.scanning(self.filter.modules, &useful, Instant::now());
        let mut scan = self.scan(asking, &columns, running);
        scan.build = true;
        scan.run(running.helpers, || make(&columns))
    }

    /// The records of the first rows.
    fn page(&self, sinks: Vec<First<'_>>, order: &Order, limit: usize) -> Result<Found, StoreError> {
        let rows = First::merge(sinks, order, limit.saturating_add(1));
        let more = rows.len() > limit;
        let mut records = Vec::with_capacity(rows.len().min(limit));
        for row in rows.iter().take(limit) {
            records.extend(self.record(&row.id)?);
        }
        Ok(Found { records, more })
    }

    fn record(&self, id: &str) -> Result<Option<Record>, StoreError> {
        let shapes = self.engine.shapes.read();
        let record = self.snapshot.read(id, |bytes| decode(bytes, &shapes));
        let corrupt = |reason: String| StoreError::Corrupt { id: id.into(), reason };
        record.transpose().map_err(|damage| corrupt(damage.to_string()))
    }
}

fn ids_of(sinks: Vec<Ids>) -> Result<Vec<EntityId>, StoreError> {
    let mut ids: Vec<Box<str>> = sinks.into_iter().flat_map(|sink| sink.0).collect();
    ids.sort_unstable();
    let parse = |id: Box<str>| {
        EntityId::parse(&id).map_err(|error| StoreError::Corrupt { id: id.into(), reason: error.to_string() })
    };
    ids.into_iter().map(parse).collect()
}

fn number_among(columns: &[Arc<Tracked>], column: Option<&Column>) -> Option<u32> {
    let column = column?;
    columns.iter().find(|tracked| tracked.column == *column).map(|tracked| tracked.number)
}

/// The columns that help with a filter, and one beside it.
fn useful_with<'q>(filter: &'q Filter, other: Option<&'q Column>) -> Vec<&'q Column> {
    let mut useful = useful_columns(filter.condition.as_ref());
    if let Some(column) = other.filter(|column| can_be_kept(column) && !useful.contains(column)) {
        useful.push(column);
    }
    useful
}

/// What is asked of the rows that a filter means.
#[derive(Default)]
struct Asking<'q> {
    /// Every column.
    columns: Vec<&'q Column>,
    /// Whether rows are only counted.
    only_counts: bool,
    /// What they are counted by.
    group: Option<&'q Column>,
}

impl<'q> Asking<'q> {
    fn of_order(order: &'q Order) -> Asking<'q> {
        match order {
            Order::ById => Asking::default(),
            Order::By(columns) => {
                Asking { columns: columns.iter().map(|(column, _)| column).collect(), ..Asking::default() }
            }
        }
    }

    fn of_query(query: &'q Query) -> Asking<'q> {
        let items = match &query.select {
            Select::All => &[],
            Select::Items(items) => items.as_slice(),
        };
        let is_count =
            |item: &Item| matches!(item.what, What::Aggregate(Aggregate::Count, _) | What::Column(_));
        let only_counts = items.iter().all(is_count);
        let columns = query.group_by.iter().chain(items.iter().filter_map(Item::column)).collect();
        Asking { columns, only_counts, group: query.group_by.as_ref().filter(|_| only_counts) }
    }
}
