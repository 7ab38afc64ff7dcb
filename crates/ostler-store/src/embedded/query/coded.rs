//! A column of codes: what one path holds in every record of a shard, as a small number per slot.
//!
//! ```text
//!   slots    0  1  2  3  4           values   0 "Oslo", twice    1 "Bergen", twice
//!   codes    0  1  .  0  1
//! ```
//!
//! A condition on the path alone is judged once per value and then looked up per slot; how often a value
//! occurs is known without looking at the slots at all. A value is kept as the record's own bytes of it.
//!
//! Must not know: which query asks, where the bytes come from, locks.
//!
//! Invariant: `codes[slot]` is the value of the record in the slot, and [`NONE`] if there is none.
//! Invariant: a value's count is the number of slots with its code; `index` finds the values that occur.

use super::column::{datum_of, Truth};
use super::registry::Tracked;
use crate::record::locate;
use crate::record::shapes::Known;
use hashbrown::HashTable;
use ostler_core::query::{Comparison, Datum, Leaf, Literal, Test};
use std::hash::BuildHasher;
use std::sync::Arc;

/// The code of a slot without a record.
pub(crate) const NONE: u32 = u32::MAX;
/// Bytes that a value takes beside its own, and a slot's code.
const VALUE_BYTES: usize = 48;
const CODE_BYTES: usize = 4;
/// Constants that are looked up one by one; with more of them the values are judged.
const MOST_LOOKED_UP: usize = 64;
/// Codes that a slot's code is compared with one by one.
const MOST_FOUND: usize = 8;

/// See the module documentation.
pub(crate) struct Coded {
    tracked: Arc<Tracked>,
    codes: Vec<u32>,
    values: Vec<Value>,
    index: HashTable<u32>,
    free: Vec<u32>,
    /// Values that are numbers in an unusual spelling, which cannot be looked up.
    unusual: usize,
}

#[derive(Default)]
struct Value {
    /// As in a record; empty for undefined, and of an object only the tag.
    bytes: Box<[u8]>,
    count: u32,
}

impl Coded {
    pub(crate) fn new(tracked: Arc<Tracked>, slots: usize) -> Coded {
        tracked.grew(slots * CODE_BYTES);
        let codes = vec![NONE; slots];
        Coded { tracked, codes, values: Vec::new(), index: HashTable::new(), free: Vec::new(), unusual: 0 }
    }

    /// A slot's record has this value now; `None`: it holds no record.
    pub(crate) fn set(&mut self, slot: u32, bytes: Option<&[u8]>) {
        let place = slot as usize;
        if self.codes.len() <= place {
            self.tracked.grew((place + 1 - self.codes.len()) * CODE_BYTES);
            self.codes.resize(place + 1, NONE);
        }
        let old = self.codes[place];
        if let (Some(value), Some(bytes)) = (self.values.get(old as usize), bytes) {
            if *value.bytes == *bytes {
                return;
            }
        }
        self.codes[place] = bytes.map_or(NONE, |bytes| self.code_for(bytes));
        self.release(old);
    }

    /// The code of a slot.
    pub(crate) fn code(&self, slot: u32) -> u32 {
        self.codes.get(slot as usize).copied().unwrap_or(NONE)
    }

    /// Codes are below this.
    pub(crate) fn codes_end(&self) -> usize {
        self.values.len()
    }

    /// The bytes of a value.
    pub(crate) fn value(&self, code: u32) -> &[u8] {
        self.values.get(code as usize).map_or(&[], |value| &value.bytes)
    }

    /// The values that occur: code, bytes and how often.
    pub(crate) fn values(&self) -> impl Iterator<Item = (u32, &[u8], u32)> {
        let numbered = self.values.iter().zip(0..);
        numbered.filter(|(value, _)| value.count > 0).map(|(value, code)| (code, &*value.bytes, value.count))
    }

    /// Whether some value is an object, of which only the tag is kept.
    pub(crate) fn has_objects(&self) -> bool {
        self.find(locate::OBJECT).is_some()
    }

    /// How often these values occur together.
    pub(super) fn count(&self, truth: &Truth) -> Option<u64> {
        let count = |code: &u32| u64::from(self.values.get(*code as usize).map_or(0, |value| value.count));
        match truth {
            Truth::Few(codes) => Some(codes.iter().map(count).sum()),
            Truth::Table(table) => {
                let numbered = self.values.iter().zip(table);
                let counts =
                    numbered.filter(|(_, is_true)| **is_true).map(|(value, _)| u64::from(value.count));
                Some(counts.sum())
            }
            Truth::Range { .. } => None,
        }
    }

    /// A bit for each of 64 slots; `None` if it cannot tell.
    pub(super) fn bits(&self, truth: &Truth, first: usize) -> Option<u64> {
        let end = self.codes.len().min(first + 64);
        let codes = self.codes.get(first..end).unwrap_or_default();
        let fold = |bits: u64, is_true: bool| bits << 1 | u64::from(is_true);
        Some(match truth {
            Truth::Few(wanted) => match wanted.as_slice() {
                [] => 0,
                [one] => codes.iter().rev().fold(0, |bits, code| fold(bits, code == one)),
                wanted => codes.iter().rev().fold(0, |bits, code| fold(bits, wanted.contains(code))),
            },
            Truth::Table(table) => codes
                .iter()
                .rev()
                .fold(0, |bits, code| fold(bits, table.get(*code as usize).copied().unwrap_or(false))),
            Truth::Range { .. } => return None,
        })
    }

    /// Whether a code is among these.
    pub(crate) fn is_among(truth: &Truth, code: u32) -> bool {
        match truth {
            Truth::Few(codes) => codes.contains(&code),
            Truth::Table(table) => table.get(code as usize).copied().unwrap_or(false),
            Truth::Range { .. } => false,
        }
    }

    /// For which values a part of a condition, on this column alone, holds.
    pub(crate) fn judge(&self, leaf: &Leaf<'_>, shapes: &Known) -> Truth {
        if let Some(codes) = self.look_up(leaf) {
            return Truth::Few(codes);
        }
        let numeric = match leaf.test() {
            Some(Test::Compare(op, Literal::Number(number))) => Some((op, *number)),
            _ => None,
        };
        let judge = |value: &Value| {
            if value.count == 0 {
                return false;
            }
            let datum = datum_of(&value.bytes, shapes);
            match (numeric, &datum) {
                (Some((op, constant)), Datum::Number(number)) => op.admits(number.cmp(&constant)),
                // Undefined, whatever the operator.
                (Some(_), _) => false,
                _ => leaf.holds_for(&datum),
            }
        };
        Truth::Table(self.values.iter().map(judge).collect())
    }

    /// The codes of the values that the column is asked to equal, if that is what is asked.
    pub(super) fn look_up(&self, leaf: &Leaf<'_>) -> Option<Vec<u32>> {
        let mut codes = Vec::new();
        match leaf.test()? {
            Test::Compare(Comparison::Equal, literal) => self.look_up_one(literal, &mut codes)?,
            Test::In { list, negated: false } if list.items().len() <= MOST_LOOKED_UP => {
                for literal in list.items() {
                    self.look_up_one(literal, &mut codes)?;
                }
                codes.sort_unstable();
                codes.dedup();
            }
            _ => return None,
        }
        (codes.len() <= MOST_FOUND).then_some(codes)
    }

    fn look_up_one(&self, literal: &Literal, codes: &mut Vec<u32>) -> Option<()> {
        if matches!(literal, Literal::Number(_)) && self.unusual > 0 {
            return None;
        }
        for spelling in locate::spellings(literal)? {
            codes.extend(self.find(&spelling));
        }
        Some(())
    }

    fn find(&self, bytes: &[u8]) -> Option<u32> {
        let hash = self.tracked.hasher.hash_one(bytes);
        let Coded { values, index, .. } = self;
        index.find(hash, |code| *values[*code as usize].bytes == *bytes).copied()
    }

    fn code_for(&mut self, bytes: &[u8]) -> u32 {
        if let Some(code) = self.find(bytes) {
            self.values[code as usize].count += 1;
            return code;
        }
        self.tracked.grew(VALUE_BYTES + bytes.len());
        self.unusual += usize::from(locate::is_unusual(bytes));
        let value = Value { bytes: bytes.into(), count: 1 };
        let code = match self.free.pop() {
            Some(code) => {
                self.values[code as usize] = value;
                code
            }
            None => {
                self.values.push(value);
                u32::try_from(self.values.len() - 1).expect("there are no more values than slots")
            }
        };
        let Coded { tracked, values, index, .. } = self;
        let hash = |code: &u32| tracked.hasher.hash_one(&*values[*code as usize].bytes);
        index.insert_unique(hash(&code), code, hash);
        code
    }

    fn release(&mut self, code: u32) {
        let Some(value) = self.values.get_mut(code as usize) else { return };
        value.count -= 1;
        if value.count > 0 {
            return;
        }
        let hash = self.tracked.hasher.hash_one(&*value.bytes);
        if let Ok(entry) = self.index.find_entry(hash, |have| *have == code) {
            entry.remove();
        }
        let bytes = std::mem::take(&mut self.values[code as usize].bytes);
        self.unusual -= usize::from(locate::is_unusual(&bytes));
        self.tracked.shrank(VALUE_BYTES + bytes.len());
        self.free.push(code);
    }
}

impl Drop for Coded {
    fn drop(&mut self) {
        let values: usize = self
            .values
            .iter()
            .filter(|value| value.count > 0)
            .map(|value| VALUE_BYTES + value.bytes.len())
            .sum();
        self.tracked.shrank(values + self.codes.len() * CODE_BYTES);
    }
}
