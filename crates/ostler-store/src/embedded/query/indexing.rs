//! Keeping columns right while records change: the writer's part.
//!
//! Must not know: which queries use a column, when one is built or dropped.
//!
//! Invariant: a column follows its slot within the lock under which the slot changes.

use super::row::Locator;
use crate::embedded::shard::Shard;
use crate::record::shapes::Known;
use hashbrown::HashMap;

/// Columns remembered before those that are gone are forgotten.
const MOST_REMEMBERED: usize = 512;

/// How each column is found in a record. The writer's own: it remembers.
#[derive(Default)]
pub(crate) struct Indexing {
    locators: HashMap<u32, Locator>,
    scratch: Vec<u8>,
}

impl Indexing {
    /// Tells a shard's columns what a slot holds now.
    pub(crate) fn note(&mut self, shard: &mut Shard, slot: u32, shapes: &Known) {
        if shard.columns.is_empty() {
            return;
        }
        if self.locators.len() > MOST_REMEMBERED {
            self.locators.clear();
        }
        let mut columns = std::mem::take(&mut shard.columns);
        if let Some(record) = shard.get(slot) {
            for column in &mut columns {
                let tracked = column.tracked.clone();
                let locator =
                    self.locators.entry(tracked.number).or_insert_with(|| Locator::new(&tracked.column));
                let bytes = locator.bytes(&tracked.column, record, shapes, &mut self.scratch);
                column.set(slot, Some(bytes), shapes);
            }
            // The next scan builds it in another form.
            columns.retain(|column| !column.is_unfit());
        }
        shard.columns = columns;
    }
}
