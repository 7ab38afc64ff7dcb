//! Looking at every record of a table, on several cores, as it was at one point.
//!
//! ```text
//!   threads take shards from one counter; in a shard, chunk by chunk:
//!     lock ──> columns judge the chunk as bits ──> rows judge what is left ──> sink ──> unlock
//! ```
//!
//! What has changed since the snapshot is judged by its older version, outside the columns.
//!
//! Must not know: what a sink makes of the rows.
//!
//! Invariant: each record of the snapshot for which the condition is exactly true reaches a sink once,
//! and no other does.
//! Invariant: a shard is locked for one chunk at a time.

use super::column::{Kept, Truth};
use super::plan::{self, Judge, Node};
use super::registry::{Registry, Tracked};
use super::row::{CompactRow, Locator, Locators, Sections};
use crate::embedded::epoch::Epoch;
use crate::embedded::model::{Model, Table, SHARDS};
use crate::embedded::shard::Shard;
use crate::record::shapes::{Known, Shapes};
use crate::{Filter, Live, StoreError};
use ostler_core::query::Column;
use parking_lot::{RwLock, RwLockUpgradableReadGuard};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

/// Slots looked at under one lock.
pub(crate) const CHUNK: usize = 1024;
const WORDS: usize = CHUNK / 64;
/// Records whose first bytes are fetched before the first of them is looked at.
const AHEAD: usize = 16;

/// Values of a shard that are judged whatever else is known.
const LITTLE_COST: usize = 64;

/// A bit for each slot of a chunk.
pub(crate) type Mask = [u64; WORDS];

/// What becomes of the rows. One thread's.
pub(crate) trait Sink: Send {
    /// The columns that it asks rows for, as it hands them over.
    fn columns(&self) -> Vec<&Column> {
        Vec::new()
    }

    /// Takes a row.
    fn row(&mut self, row: &CompactRow<'_>);

    /// Takes these slots, all of which hold records, without looking at them, if it can.
    fn chunk(&mut self, _shard: &Shard, _first: u32, _mask: &Mask) -> bool {
        false
    }

    /// Takes all slots of a shard, none of which has changed since the snapshot, for which the
    /// condition, about one column, is true; `None`: all records. `false` if it cannot.
    fn whole(&mut self, _shard: &Shard, _condition: Option<(&Kept, &Truth)>) -> bool {
        false
    }
}

/// See the module documentation.
pub(crate) struct Scan<'s> {
    pub(crate) model: &'s Model,
    pub(crate) shapes: &'s Shapes,
    pub(crate) registry: &'s Registry,
    pub(crate) filter: &'s Filter,
    pub(crate) live: &'s dyn Live,
    /// The open snapshot.
    pub(crate) at: Epoch,
    pub(crate) cancelled: &'s AtomicBool,
    /// Columns that may be used where they are.
    pub(crate) columns: &'s [Arc<Tracked>],
    /// Whether to build them where they are not.
    pub(crate) build: bool,
    /// Columns that the sink asks rows for.
    pub(crate) asked: &'s [&'s Column],
    /// Only ids above this.
    pub(crate) above: Option<&'s str>,
}

impl Scan<'_> {
    /// Runs on this thread and as many others as asked for; gives the sinks of all.
    pub(crate) fn run<S: Sink>(
        &self,
        helpers: usize,
        make: impl Fn() -> S + Sync,
    ) -> Result<Vec<S>, StoreError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut sink = make();
            self.work(&next, &mut sink).map(|()| sink)
        };
        std::thread::scope(|scope| {
            let thread = || std::thread::Builder::new().name("ostler-scan".into()).spawn_scoped(scope, work);
            // Without a thread for it the others do its part.
            let helping: Vec<_> = (0..helpers).filter_map(|_| thread().ok()).collect();
            let mut sinks = vec![work()];
            sinks.extend(helping.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err(StoreError::Unavailable("a scan panicked".into())))
            }));
            sinks.into_iter().collect()
        })
    }

    fn work<S: Sink>(&self, next: &AtomicUsize, sink: &mut S) -> Result<(), StoreError> {
        let part = self.part(sink.columns());
        let table = self.model.table(self.filter.modules);
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            if place >= SHARDS {
                return Ok(());
            }
            if self.build {
                self.build_columns(table, place);
            }
            part.shard(&table.shards[place], sink)?;
        }
    }

    fn part<'q>(&'q self, of_sink: Vec<&Column>) -> Part<'q, 'q> {
        let condition = self.filter.condition.as_ref();
        let locators = Locators::new(condition, self.asked.iter().copied().chain(of_sink));
        let mut judges = Vec::new();
        let node = condition.map(|condition| Node::of(condition.tree(), self.columns, &mut judges));
        Part { scan: self, locators, nothing: Locators::new(None, []), judges, node }
    }

    fn check_cancelled(&self) -> Result<(), StoreError> {
        go_on(self.model, self.at, self.cancelled)
    }

    fn build_columns(&self, table: &Table, place: usize) {
        for tracked in self.columns.iter().filter(|tracked| !tracked.is_dropped()) {
            if !self.build_column(&table.shards[place], tracked) {
                if let Some(dropped) = self.registry.give_up(tracked, self.columns) {
                    self.model.drop_column(&dropped);
                }
            }
        }
    }

    /// `false` if there is no room for it.
    fn build_column(&self, shard: &RwLock<Shard>, tracked: &Arc<Tracked>) -> bool {
        if shard.read().column(tracked.number).is_some() {
            return true;
        }
        let shapes = self.shapes.read();
        let shard = shard.upgradable_read();
        if shard.column(tracked.number).is_some() {
            return true;
        }
        let slots = shard.len() as usize;
        let mut column = None;
        if self.is_compared_only(&tracked.column) {
            column = self.fill(Kept::numbers(tracked, slots), &shard, &shapes);
            column = column.filter(|it| !it.is_unfit() && !it.has_few_values(self.registry.few_values()));
        }
        if column.is_none() {
            column = self.fill(Kept::coded(tracked, slots), &shard, &shapes);
        }
        let Some(column) = column else { return false };
        drop(shapes);
        let mut shard = RwLockUpgradableReadGuard::upgrade(shard);
        // Within the lock: whoever drops it looks here after saying so.
        if !tracked.is_dropped() {
            self.model.has_columns();
            shard.columns.push(column);
        }
        true
    }

    /// `None` if there is no room for it.
    fn fill(&self, mut column: Kept, shard: &Shard, shapes: &Known) -> Option<Kept> {
        let tracked = column.tracked.clone();
        let locator = Locator::new(&tracked.column);
        let mut scratch = Vec::new();
        for slot in 0..shard.len() {
            if slot as usize % CHUNK == 0 && !self.registry.has_room(0) {
                return None;
            }
            let Some(record) = shard.get(slot) else { continue };
            let bytes = locator.bytes(&tracked.column, record, shapes, &mut scratch);
            column.set(slot, Some(bytes), shapes);
        }
        Some(column)
    }

    /// Whether this query does nothing with a column but compare it with numbers, other than for
    /// equality.
    fn is_compared_only(&self, column: &Column) -> bool {
        let condition = self.filter.condition.as_ref();
        !self.asked.contains(&column)
            && condition.is_some_and(|it| plan::is_compared_only(&it.tree(), column))
    }
}

/// Refuses to go on when the caller has gone, or changes have waited for this long enough.
pub(super) fn go_on(model: &Model, at: Epoch, cancelled: &AtomicBool) -> Result<(), StoreError> {
    if cancelled.load(Ordering::Relaxed) {
        return Err(StoreError::Unavailable("the query was given up".into()));
    }
    if model.is_called_in(at) {
        let why = "the query took so long that changes had to wait for it; narrow it or try again";
        return Err(StoreError::Unavailable(why.into()));
    }
    Ok(())
}

/// One thread's part of a scan.
struct Part<'s, 'q> {
    scan: &'s Scan<'s>,
    locators: Locators,
    /// For a sink that asks rows for their ids only.
    nothing: Locators,
    judges: Vec<Judge<'q>>,
    node: Option<Node<'q>>,
}

/// What columns say of a shard. It stays right while the snapshot is open: the code of a slot that has
/// not changed since keeps its value.
type Judged = Vec<Option<Truth>>;

/// A chunk under its locks.
struct Chunk<'c> {
    shard: &'c Shard,
    shapes: &'c Known,
    judged: &'c Judged,
    first: u32,
}

impl Part<'_, '_> {
    fn shard<S: Sink>(&self, shard: &RwLock<Shard>, sink: &mut S) -> Result<(), StoreError> {
        let judged = {
            let shapes = self.scan.shapes.read();
            let shard = shard.read();
            let judged = self.judge(&shard, &shapes);
            let is_whole = self.scan.above.is_none() && !shard.has_older();
            if is_whole && self.take_whole(&shard, &judged, sink) {
                return Ok(());
            }
            if self.is_never(&judged) && !shard.has_older() {
                return Ok(());
            }
            judged
        };
        let mut first = 0;
        loop {
            self.scan.check_cancelled()?;
            let shapes = self.scan.shapes.read();
            let shard = shard.read();
            if first >= shard.len() {
                return Ok(());
            }
            let chunk = Chunk { shard: &shard, shapes: &shapes, judged: &judged, first };
            self.chunk(&chunk, sink);
            first += CHUNK as u32;
        }
    }

    fn judge(&self, shard: &Shard, shapes: &Known) -> Judged {
        let required = self.node.as_ref().map(Node::required).unwrap_or_default();
        let column = |by: &Judge<'_>| shard.column(by.number);
        // Where a look-up leaves few rows, they are soon looked at, and a column may hold many values.
        let left = required.iter().filter_map(|place| {
            let by = &self.judges[*place];
            column(by)?.count_equal(&by.leaf)
        });
        let most_cost = left.min().map_or(usize::MAX, |left| {
            usize::try_from(left)
                .map_or(usize::MAX, |left| LITTLE_COST.saturating_add(left.saturating_mul(4)))
        });
        let judge = |by: &Judge<'_>| {
            let column = column(by)?;
            let is_worth_it = column.cost() <= most_cost || column.count_equal(&by.leaf).is_some();
            is_worth_it.then(|| column.judge(&by.leaf, shapes))?
        };
        self.judges.iter().map(judge).collect()
    }

    /// Whether columns say that no record has to be looked at.
    fn is_never(&self, judged: &Judged) -> bool {
        let required = self.node.as_ref().map(Node::required).unwrap_or_default();
        required.into_iter().any(|place| judged[place].as_ref().is_some_and(Truth::is_never))
    }

    /// The whole shard at once, if counts of a column are all that the sink needs.
    fn take_whole<S: Sink>(&self, shard: &Shard, judged: &Judged, sink: &mut S) -> bool {
        let condition = match &self.node {
            None => None,
            Some(node) => {
                let Some(place) = node.leaf() else { return false };
                let column = shard.column(self.judges[place].number);
                let (Some(column), Some(truth)) = (column, &judged[place]) else { return false };
                Some((column, truth))
            }
        };
        sink.whole(shard, condition)
    }

    fn chunk<S: Sink>(&self, chunk: &Chunk<'_>, sink: &mut S) {
        let Chunk { shard, shapes, first, .. } = *chunk;
        let end = shard.len().min(first + CHUNK as u32);
        let mut mask: Mask = std::array::from_fn(|word| {
            let from = first as usize + word * 64;
            match (end as usize).saturating_sub(from) {
                0 => 0,
                slots @ 1..64 => (1 << slots) - 1,
                _ => u64::MAX,
            }
        });
        if shard.has_older() {
            for (slot, old) in shard.changed_since(self.scan.at) {
                if (first..end).contains(&slot) {
                    let bit = (slot - first) as usize;
                    mask[bit / 64] &= !(1 << (bit % 64));
                    self.judge_row(old, shapes, sink);
                }
            }
        }
        match &self.node {
            None => keep(&mut mask, |bit| shard.get(first + bit).is_some()),
            Some(node) => self.narrow(node, chunk, &mut mask),
        }
        if self.scan.above.is_none() && sink.chunk(shard, first, &mask) {
            return;
        }
        let sink_locators = if self.scan.asked.is_empty() { &self.nothing } else { &self.locators };
        for (word, bits) in (first..).step_by(64).zip(mask).filter(|(_, bits)| *bits != 0) {
            keep_in_word(bits, word, shard, sink_locators, |bytes, sections| {
                let row = self.row(bytes, sections, shapes);
                if self.scan.above.is_none_or(|above| row.id() > above) {
                    sink.row(&row);
                }
                true
            });
        }
    }

    /// Keeps the slots for which a part of the condition is true.
    fn narrow(&self, node: &Node<'_>, chunk: &Chunk<'_>, mask: &mut Mask) {
        match node {
            Node::All(parts) => {
                let is_judged =
                    |part: &&Node<'_>| part.leaf().is_some_and(|place| chunk.judged[place].is_some());
                let judged = parts.iter().filter(is_judged);
                for part in judged.chain(parts.iter().filter(|part| !is_judged(part))) {
                    if *mask == Mask::default() {
                        return;
                    }
                    self.narrow(part, chunk, mask);
                }
            }
            Node::Any(parts) => {
                let mut found = Mask::default();
                for part in parts {
                    let mut left = *mask;
                    left.iter_mut().zip(&found).for_each(|(left, found)| *left &= !found);
                    self.narrow(part, chunk, &mut left);
                    found.iter_mut().zip(&left).for_each(|(found, left)| *found |= left);
                }
                *mask = found;
            }
            Node::Leaf(place, leaf) => {
                let column = chunk.shard.column(self.judges[*place].number);
                let truth = chunk.judged[*place].as_ref();
                let is_told =
                    column.zip(truth).is_some_and(|(column, truth)| column.narrow(truth, chunk.first, mask));
                if !is_told {
                    self.by_rows(|row| leaf.holds(row), chunk, mask);
                }
            }
            Node::Rows(tree) => self.by_rows(|row| tree.holds(row), chunk, mask),
        }
    }

    fn by_rows(&self, holds: impl Fn(&CompactRow<'_>) -> bool, chunk: &Chunk<'_>, mask: &mut Mask) {
        let Chunk { shard, shapes, first, .. } = *chunk;
        for (word, bits) in (first..).step_by(64).zip(mask.iter_mut()).filter(|(_, bits)| **bits != 0) {
            *bits = keep_in_word(*bits, word, shard, &self.locators, |bytes, sections| {
                holds(&self.row(bytes, sections, shapes))
            });
        }
    }

    fn judge_row<S: Sink>(&self, bytes: Option<&[u8]>, shapes: &Known, sink: &mut S) {
        let Some(bytes) = bytes else { return };
        let row = self.row(bytes, None, shapes);
        if self.scan.above.is_none_or(|above| row.id() > above) && self.scan.filter.keeps(&row) {
            sink.row(&row);
        }
    }

    fn row<'r>(
        &'r self,
        bytes: &'r [u8],
        sections: Option<Sections<'r>>,
        shapes: &'r Known,
    ) -> CompactRow<'r> {
        CompactRow { bytes, sections, shapes, locators: &self.locators, live: self.scan.live }
    }
}

/// Judges the records of one word of slots. They lie scattered in memory: what will be looked at of
/// several is asked for before any is, so that waiting for one is waiting for all.
fn keep_in_word<'b>(
    word: u64,
    first: u32,
    shard: &'b Shard,
    locators: &Locators,
    mut judge: impl FnMut(&'b [u8], Option<Sections<'b>>) -> bool,
) -> u64 {
    let (mut kept, mut left) = (0, word);
    while left != 0 {
        let mut group: [(u32, &[u8], Option<Sections<'_>>); AHEAD] = [(0, &[], None); AHEAD];
        let (mut size, mut sum) = (0, 0);
        while left != 0 && size < AHEAD {
            let bit = left.trailing_zeros();
            left &= left - 1;
            if let Some(bytes) = shard.get(first + bit) {
                sum ^= bytes[0] ^ bytes.get(64).copied().unwrap_or_default();
                group[size] = (bit, bytes, None);
                size += 1;
            }
        }
        for (_, bytes, sections) in &mut group[..size] {
            let (fetched, found) = locators.fetch(bytes);
            sum ^= fetched;
            *sections = found;
        }
        std::hint::black_box(sum);
        for (bit, bytes, sections) in &group[..size] {
            if judge(bytes, *sections) {
                kept |= 1 << bit;
            }
        }
    }
    kept
}

/// Keeps the bits for which this holds.
fn keep(mask: &mut Mask, mut holds: impl FnMut(u32) -> bool) {
    for (word, bits) in (0u32..).step_by(64).zip(mask.iter_mut()) {
        let mut left = *bits;
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            if !holds(word + bit) {
                *bits &= !(1 << bit);
            }
        }
    }
}

/// The bits that are set.
pub(crate) fn each(mask: &Mask, mut take: impl FnMut(u32)) {
    let mut mask = *mask;
    keep(&mut mask, |bit| {
        take(bit);
        true
    });
}

#[cfg(test)]
mod tests {
    use super::super::tests::{parse, run, store, NOTHING_AT_ONCE};
    use super::super::turns::Running;
    use super::super::Asking;
    use super::*;
    use crate::contract::{at, record};
    use crate::{Change, Expect, NobodyConnected, Store};
    use ostler_core::json::Object;
    use ostler_core::twin::SectionKind;

    /// What one look-up leaves is looked at in the caller's poll: no time to judge all other values.
    #[test]
    fn where_a_look_up_leaves_few_rows_a_column_of_many_values_is_not_judged() {
        let store = store(NOTHING_AT_ONCE, 1 << 24);
        let (_, filter) =
            parse("SELECT * FROM devices WHERE tags.b LIKE '%7' AND tags.a = 'x1' AND tags.c != 'z'");
        run(async {
            let new = |n: usize| {
                let mut record = record(&format!("d-{n}"));
                let tags = Object::parse(format!(r#"{{"a":"x{n}","b":"y{n}","c":"z"}}"#).as_bytes()).unwrap();
                record.twin.tags = record.twin.tags.clone().replace(SectionKind::Tags, &tags, at(3)).unwrap();
                Change::Put { record: Box::new(record), expect: Expect::Absent }
            };
            let outcomes = store.commit((0..8_000).map(new).collect()).await;
            assert!(outcomes.iter().all(Result::is_ok));
            let all = Arc::new(filter.clone());
            store.find_ids(all, Arc::new(NobodyConnected)).await.unwrap();
        });
        let engine = &store.queries.engine;
        let columns = engine.columns(&filter, None);
        let (asked, asking, running) =
            (engine.ask(&filter, &NobodyConnected), Asking::default(), Running::inline());
        let scan = asked.scan(&asking, &columns, &running);
        let part = scan.part(Vec::new());
        for shard in &engine.model.table(false).shards {
            let told: Vec<bool> =
                part.judge(&shard.read(), &engine.shapes.read()).iter().map(Option::is_some).collect();
            assert_eq!(told, [false, true, true]);
        }
    }
}
