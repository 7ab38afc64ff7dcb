//! Whether columns leave so little to do that it is done in the caller's poll.
//!
//! Must not know: how it is done.
//!
//! Invariant: the answer costs microseconds itself, and looks at no record.

use super::column::Truth;
use super::plan::{Judge, Node};
use super::{Asking, Bounds, Engine, Tracked};
use crate::Filter;
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
    let group = match asking.group {
        None => None,
        Some(group) => match columns.iter().find(|tracked| tracked.column == *group) {
            None => return false,
            known => known,
        },
    };
    let numbers = judges.iter().map(|judge| judge.number).chain(group.map(|group| group.number));
    let numbers: Vec<u32> = numbers.collect();
    let mut values = 0;
    for shard in &engine.model.table(filter.modules).shards {
        let shard = shard.read();
        for number in numbers.iter().filter(|_| shard.len() > 0) {
            let Some(column) = shard.column(*number) else { return false };
            values += column.codes_end();
        }
        if values > few_values {
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
        left += column.count(&Truth::Few(column.look_up(&judge.leaf)?));
        if left > engine.bounds.few_left {
            return None;
        }
    }
    Some(left)
}
