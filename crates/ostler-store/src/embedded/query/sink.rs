//! What becomes of the rows that a scan finds: the first of an order, all ids, or counts.
//!
//! Must not know: how rows are found.
//!
//! Invariant: what a sink holds does not depend on the order in which rows come.

use super::coded::Coded;
use super::column::{datum_of, Kept, Truth};
use super::row::CompactRow;
use super::scan::{each, Mask, Sink};
use crate::embedded::shard::Shard;
use crate::query::Standing;
use crate::record::shapes::Known;
use crate::Order;
use hashbrown::HashMap;
use ostler_core::limits::{QUERY_GROUPS, QUERY_GROUP_BYTES};
use ostler_core::query::{Column, Datum, Direction, GroupError, Groups, Query, Row};
use std::cmp::Ordering;

/// Rows gathered before those that cannot be among the first are dropped.
const GATHERED: usize = 4096;

/// The first rows of an order.
pub(crate) struct First<'s> {
    order: &'s Order,
    after: Option<&'s Standing>,
    /// How many.
    most: usize,
    rows: Vec<Standing>,
    /// As long as it is known: rows behind this one are not among the first.
    worst: Option<Standing>,
}

impl<'s> First<'s> {
    pub(crate) fn new(order: &'s Order, after: Option<&'s Standing>, most: usize) -> First<'s> {
        First { order, after, most, rows: Vec::new(), worst: None }
    }

    /// The first of all that these hold, in order.
    pub(crate) fn merge(sinks: Vec<First<'_>>, order: &Order, most: usize) -> Vec<Standing> {
        let mut rows: Vec<Standing> = sinks.into_iter().flat_map(|sink| sink.rows).collect();
        rows.sort_unstable_by(|left, right| left.compare(right, order));
        rows.truncate(most);
        rows
    }

    fn cut(&mut self) {
        if self.most == 0 {
            self.rows.clear();
            return;
        }
        let order = self.order;
        let by_order = |left: &Standing, right: &Standing| left.compare(right, order);
        let (_, worst, _) = self.rows.select_nth_unstable_by(self.most - 1, by_order);
        self.worst = Some(worst.clone());
        self.rows.truncate(self.most);
    }
}

impl Sink for First<'_> {
    fn row(&mut self, row: &CompactRow<'_>) {
        if matches!(self.order, Order::ById) {
            // Without copying the id of a row that is too late.
            if self.worst.as_ref().is_some_and(|worst| row.id() > &*worst.id) {
                return;
            }
        }
        if let (Order::By(columns), Some(worst)) = (self.order, &self.worst) {
            // Most rows are behind in the first column already, and nothing of them has to be copied.
            if let Some(((column, direction), value)) = columns.iter().zip(&worst.values).next() {
                let by_value = row.get(column).order(value);
                let by_value =
                    if *direction == Direction::Descending { by_value.reverse() } else { by_value };
                if by_value.is_gt() {
                    return;
                }
            }
        }
        let standing = Standing::of(row, row.id(), self.order);
        let is_behind = |other: &Standing| standing.compare(other, self.order) == Ordering::Greater;
        if self.after.is_some_and(|after| !is_behind(after)) || self.worst.as_ref().is_some_and(is_behind) {
            return;
        }
        self.rows.push(standing);
        if self.rows.len() > GATHERED.max(self.most.saturating_mul(2)) {
            self.cut();
        }
    }
}

/// All ids.
#[derive(Default)]
pub(crate) struct Ids(pub(crate) Vec<Box<str>>);

impl Sink for Ids {
    fn row(&mut self, row: &CompactRow<'_>) {
        self.0.push(row.id().into());
    }
}

/// What a query gathers.
pub(crate) struct Fold {
    groups: Groups,
    /// The column grouped by, where it is kept, when rows are only counted.
    group_column: Option<u32>,
    counted: HashMap<Box<[u8]>, u64>,
    counted_bytes: usize,
    refused: Option<GroupError>,
}

impl Fold {
    /// `group_column`: the number of the column grouped by, if there is one.
    pub(crate) fn new(query: &Query, group_column: Option<u32>) -> Fold {
        let groups = Groups::new(query);
        let group_column = group_column.filter(|_| groups.columns().is_empty());
        Fold { groups, group_column, counted: HashMap::new(), counted_bytes: 0, refused: None }
    }

    /// What all of these gathered.
    pub(crate) fn merge(sinks: Vec<Fold>, query: &Query, shapes: &Known) -> Result<Groups, GroupError> {
        let mut all = Groups::new(query);
        for sink in sinks {
            if let Some(refused) = sink.refused {
                return Err(refused);
            }
            all.merge(sink.groups)?;
            for (bytes, rows) in &sink.counted {
                all.add_counted(&datum_of(bytes, shapes), *rows)?;
            }
        }
        Ok(all)
    }

    fn only_counts(&self) -> bool {
        self.groups.columns().is_empty() && self.groups.group_by().is_none()
    }

    fn note(&mut self, outcome: Result<(), GroupError>) {
        if let Err(refused) = outcome {
            self.refused.get_or_insert(refused);
        }
    }

    fn count_all(&mut self, rows: u64) {
        let outcome = self.groups.add_counted(&Datum::Undefined, rows);
        self.note(outcome);
    }

    fn count_value(&mut self, bytes: &[u8], rows: u64) {
        match self.counted.get_mut(bytes) {
            Some(count) => *count += rows,
            None => {
                if self.counted.len() >= QUERY_GROUPS {
                    self.refused.get_or_insert(GroupError::TooMany);
                    return;
                }
                self.counted_bytes += bytes.len();
                if self.counted_bytes > QUERY_GROUP_BYTES {
                    self.refused.get_or_insert(GroupError::TooLarge);
                    return;
                }
                self.counted.insert(bytes.into(), rows);
            }
        }
    }

    /// The column grouped by, if it is kept here and its values tell all of the group: an object's do
    /// not.
    fn kept<'a>(&self, shard: &'a Shard) -> Option<&'a Coded> {
        let column = shard.column(self.group_column?)?.as_coded()?;
        (!column.has_objects()).then_some(column)
    }
}

impl Sink for Fold {
    fn columns(&self) -> Vec<&Column> {
        self.groups.columns().iter().chain(self.groups.group_by()).collect()
    }

    fn row(&mut self, row: &CompactRow<'_>) {
        if self.refused.is_none() {
            let outcome = self.groups.add(row);
            self.note(outcome);
        }
    }

    fn chunk(&mut self, shard: &Shard, first: u32, mask: &Mask) -> bool {
        if self.only_counts() {
            self.count_all(mask.iter().map(|word| u64::from(word.count_ones())).sum());
            return true;
        }
        let Some(column) = self.kept(shard) else { return false };
        let mut counts = vec![0u32; column.codes_end()];
        each(mask, |bit| {
            if let Some(count) = counts.get_mut(column.code(first + bit) as usize) {
                *count += 1;
            }
        });
        for (code, rows) in (0..).zip(counts).filter(|(_, rows)| *rows > 0) {
            self.count_value(column.value(code), u64::from(rows));
        }
        true
    }

    fn whole(&mut self, shard: &Shard, condition: Option<(&Kept, &Truth)>) -> bool {
        if self.only_counts() {
            let count = match condition {
                None => Some(shard.records() as u64),
                Some((column, truth)) => column.count(truth),
            };
            self.count_all(count.unwrap_or_default());
            return count.is_some();
        }
        let Some(column) = self.kept(shard) else { return false };
        if condition.is_some_and(|(other, _)| Some(other.tracked.number) != self.group_column) {
            return false;
        }
        for (code, bytes, rows) in column.values() {
            if condition.is_none_or(|(_, truth)| Coded::is_among(truth, code)) {
                self.count_value(bytes, u64::from(rows));
            }
        }
        true
    }
}
