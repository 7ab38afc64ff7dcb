//! Leaving out ids on a walk: a record whose column says no is not looked at.
//!
//! ```text
//!   names in order, with slots ──> shard of the id ──> its column at the slot ──> few records
//! ```
//!
//! Must not know: names; what becomes of a record that may be kept.
//!
//! Invariant: a record that the filter keeps at the snapshot is never left out. A shard that has changed
//! since leaves out nothing.
//! Invariant: what was judged is used only while the shard is locked, as codes may change their meaning.

use super::column::{Kept, Truth};
use super::plan::Judge;
use crate::embedded::shard::Shard;
use crate::record::shapes::Known;
use parking_lot::RwLockReadGuard;

/// A shard, locked, and what its columns say of a filter.
pub(crate) struct Skimmed<'s> {
    shard: RwLockReadGuard<'s, Shard>,
    /// The places of columns in the shard, and for which of their values the filter may hold.
    truths: Vec<(usize, Truth)>,
}

impl<'s> Skimmed<'s> {
    /// Judges what of the filter, all of which must be true, the shard's columns judge quickly.
    pub(crate) fn of(shard: RwLockReadGuard<'s, Shard>, judges: &[Judge<'_>], known: &Known) -> Skimmed<'s> {
        let mut truths = Vec::new();
        if !shard.has_older() {
            for judge in judges {
                let place = shard.columns.iter().position(|column| column.tracked.number == judge.number);
                let truth = place.and_then(|place| {
                    let column = &shard.columns[place];
                    let truth = column.is_quick(&judge.leaf).then(|| column.judge(&judge.leaf, known));
                    Some((place, truth??))
                });
                truths.extend(truth);
            }
        }
        Skimmed { shard, truths }
    }

    /// `false` if the filter does not keep the record in this slot.
    pub(crate) fn may_keep(&self, slot: u32) -> bool {
        let may = |(place, truth): &(usize, Truth)| {
            self.shard.columns.get(*place).and_then(|column: &Kept| column.holds_at(truth, slot))
                != Some(false)
        };
        self.truths.iter().all(may)
    }
}
