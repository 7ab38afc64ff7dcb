//! Whether columns leave so little to do that it is done in the caller's poll.
//!
//! Must not know: how it is done.
//!
//! Invariant: the answer costs microseconds itself, and looks at no record.

use super::plan::{Judge, Node};
use super::{walk, Asking, Bounds, Engine, Tracked};
use crate::Filter;
use ostler_core::query::Column;
use std::sync::Arc;

/// See the module documentation.
pub(super) fn is_little(
    engine: &Engine,
    filter: &Filter,
    asking: &Asking<'_>,
    columns: &[Arc<Tracked>],
) -> bool {
    let mut judges = Vec::new();
    let node = filter.condition.as_ref().map(|condition| Node::of(condition.tree(), columns, &mut judges));
    let required = node.as_ref().map(Node::required).unwrap_or_default();
    let is_selective = |place: usize| left_by(engine, filter, &judges[place]).is_some();
    required.into_iter().any(is_selective)
        || is_counted(engine, filter, asking, columns, node.as_ref(), &judges)
}

/// Whether the answer is a count that columns alone give, with few values to judge.
fn is_counted(
    engine: &Engine,
    filter: &Filter,
    asking: &Asking<'_>,
    columns: &[Arc<Tracked>],
    node: Option<&Node<'_>>,
    judges: &[Judge<'_>],
) -> bool {
    let Bounds { few_judged, few_values, .. } = engine.bounds;
    let is_judged = node.is_none_or(Node::is_columns_only);
    if !asking.only_counts || !is_judged || engine.rows(filter) > few_judged {
        return false;
    }
    let known = |column: &Column| columns.iter().find(|tracked| tracked.column == *column);
    let group = match (asking.group, asking.group.and_then(known)) {
        (Some(_), None) => return false,
        (_, known) => known.map(|tracked| tracked.number),
    };
    let mut cost = 0;
    for shard in &engine.model.table(filter.modules).shards {
        let shard = shard.read();
        if shard.len() == 0 {
            continue;
        }
        for judge in judges {
            match shard.column(judge.number).filter(|column| column.can_judge(&judge.leaf)) {
                Some(column) => cost += column.cost(),
                None => return false,
            }
        }
        if let Some(number) = group {
            match shard.column(number).and_then(|column| column.as_coded()) {
                Some(coded) if !coded.has_objects() => cost += coded.codes_end(),
                _ => return false,
            }
        }
        if cost > few_values {
            return false;
        }
    }
    true
}

/// How many rows are left by a part of a condition whose values can be looked up, if they are few.
fn left_by(engine: &Engine, filter: &Filter, judge: &Judge<'_>) -> Option<u64> {
    let mut left = 0;
    for shard in &engine.model.table(filter.modules).shards {
        let shard = shard.read();
        if shard.len() == 0 {
            continue;
        }
        let column = shard.column(judge.number)?;
        left += column.count_equal(&judge.leaf)?;
        if left > engine.bounds.few_left {
            return None;
        }
    }
    Some(left)
}

/// How a page is found, and what that costs, in records looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By going through the ids in order; 0 if nothing is known of the cost.
    Walk(u64),
    /// By judging columns.
    Columns(u64),
}

/// Slots that a column judges while one record is looked at in order, and rows looked at.
const SLOTS_PER_ID: u64 = 1600;
const ROWS_PER_ID: u64 = 6;
/// Shards whose columns are judged to learn what is left of all.
const SAMPLE: usize = 2;
/// Values of a shard that are judged for that.
const SAMPLE_COST: usize = 2048;

/// The cheaper way to the first rows of a filter in the order of the ids.
pub(super) fn way(engine: &Engine, filter: &Filter, columns: &[Arc<Tracked>], rows_wanted: usize) -> Way {
    let mut judges = Vec::new();
    let node = filter.condition.as_ref().map(|condition| Node::of(condition.tree(), columns, &mut judges));
    let required = node.as_ref().map(Node::required).unwrap_or_default();
    let left = required.into_iter().filter_map(|place| sample(engine, filter, &judges[place])).min();
    let Some(left) = left else { return Way::Walk(0) };
    let rows = engine.rows(filter);
    let wanted = rows_wanted as u64;
    let walk = wanted.saturating_mul(rows) / left.max(1) / walk::IDS_PER_LOOK as u64 + wanted;
    let by_columns = rows / SLOTS_PER_ID + left / ROWS_PER_ID;
    if walk <= by_columns {
        Way::Walk(walk.max(1))
    } else {
        Way::Columns(by_columns)
    }
}

/// About how many rows a part of a condition leaves.
fn sample(engine: &Engine, filter: &Filter, judge: &Judge<'_>) -> Option<u64> {
    let shards = &engine.model.table(filter.modules).shards;
    let (mut left, mut seen) = (0, 0);
    for shard in shards {
        let shapes = engine.shapes.read();
        let shard = shard.read();
        if shard.len() == 0 {
            continue;
        }
        let column = shard.column(judge.number)?;
        left += match column.count_equal(&judge.leaf) {
            Some(count) => count,
            None if column.cost() > SAMPLE_COST => return None,
            None => column.count(&column.judge(&judge.leaf, &shapes)?)?,
        };
        seen += 1;
        if seen == SAMPLE {
            break;
        }
    }
    let all = shards.len() as u64;
    Some(left * all / (seen as u64).max(1))
}
