//! A column of numbers: what one path holds in every record of a shard, when most of that are numbers
//! that differ.
//!
//! A range is then a comparison per slot, a few at a time.
//!
//! Must not know: which query asks, where the bytes come from, locks.
//!
//! Invariant: `values[slot]` is exactly the number in the slot, or else not a number; then `others` has
//! what the record in the slot holds, or there is none.

use super::column::{datum_of, Truth};
use super::registry::Tracked;
use crate::record::shapes::Known;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use ostler_core::query::{Comparison, Datum, Leaf, Literal, Num, Test};
use std::sync::Arc;

const NUMBER_BYTES: usize = 8;
/// Bytes that another value takes beside its own.
const OTHER_BYTES: usize = 40;
/// Other values that do no harm, and as which part of the slots they do.
const FEW_OTHERS: usize = 16;
const PART_OF_OTHERS: usize = 4;
/// Slots that are compared in the time in which one value is judged.
const AT_ONCE: usize = 32;
/// Slots that are looked at to see how many numbers differ.
const SAMPLE: usize = 2048;
/// Integers up to here are doubles, each its own.
const EXACT: u64 = 1 << 53;

/// See the module documentation.
pub(crate) struct Numbers {
    tracked: Arc<Tracked>,
    values: Vec<f64>,
    others: HashMap<u32, Box<[u8]>, RandomState>,
}

impl Numbers {
    pub(super) fn new(tracked: Arc<Tracked>, slots: usize) -> Numbers {
        tracked.grew(slots * NUMBER_BYTES);
        Numbers { tracked, values: vec![f64::NAN; slots], others: HashMap::default() }
    }

    pub(super) fn set(&mut self, slot: u32, bytes: Option<&[u8]>, shapes: &Known) {
        self.clear(slot);
        let Some(bytes) = bytes else { return };
        match datum_of(bytes, shapes) {
            Datum::Number(number) if is_exact(number) => self.values[slot as usize] = number.as_f64(),
            _ => {
                self.tracked.grew(OTHER_BYTES + bytes.len());
                self.others.insert(slot, bytes.into());
            }
        }
    }

    pub(super) fn clear(&mut self, slot: u32) {
        let place = slot as usize;
        if self.values.len() <= place {
            self.tracked.grew((place + 1 - self.values.len()) * NUMBER_BYTES);
            self.values.resize(place + 1, f64::NAN);
        }
        self.values[place] = f64::NAN;
        if let Some(other) = self.others.remove(&slot) {
            self.tracked.shrank(OTHER_BYTES + other.len());
        }
    }

    pub(super) fn is_unfit(&self) -> bool {
        self.others.len() > FEW_OTHERS + self.values.len() / PART_OF_OTHERS
    }

    pub(super) fn has_few_values(&self, few: usize) -> bool {
        let mut sample: Vec<u64> = self.values.iter().take(SAMPLE).map(|value| value.to_bits()).collect();
        sample.sort_unstable();
        sample.dedup();
        sample.len() <= few
    }

    pub(super) fn cost(&self) -> usize {
        self.values.len() / AT_ONCE + self.others.len()
    }

    /// Only comparisons with a number: what else there is may tell an integer from a double.
    pub(super) fn judge(&self, leaf: &Leaf<'_>, shapes: &Known) -> Option<Truth> {
        let (op, constant) = comparison(leaf)?;
        let holds = |bytes: &[u8]| leaf.holds_for(&datum_of(bytes, shapes));
        let others = self.others.iter().filter(|(_, bytes)| holds(bytes));
        let mut others: Vec<u32> = others.map(|(slot, _)| *slot).collect();
        others.sort_unstable();
        Some(Truth::Range { op, constant, others })
    }

    pub(super) fn can_judge(leaf: &Leaf<'_>) -> bool {
        comparison(leaf).is_some()
    }

    pub(super) fn count(&self, truth: &Truth) -> Option<u64> {
        let Truth::Range { op, constant, others } = truth else { return None };
        Some(others.len() as u64 + by(*op, *constant, Counted(&self.values)))
    }

    /// Whether judging the others costs next to nothing.
    pub(super) fn has_few_others(&self) -> bool {
        self.others.len() <= FEW_OTHERS
    }

    pub(super) fn holds_at(&self, truth: &Truth, slot: u32) -> Option<bool> {
        let Truth::Range { op, constant, others } = truth else { return None };
        let place = slot as usize;
        let value = self.values.get(place..=place).unwrap_or_default();
        Some(by(*op, *constant, Counted(value)) == 1 || others.binary_search(&slot).is_ok())
    }

    pub(super) fn bits(&self, truth: &Truth, first: usize) -> Option<u64> {
        let Truth::Range { op, constant, others } = truth else { return None };
        let end = self.values.len().min(first + 64);
        let mut bits = by(*op, *constant, Bits(self.values.get(first..end).unwrap_or_default()));
        let from = others.partition_point(|slot| (*slot as usize) < first);
        for slot in others[from..].iter().take_while(|slot| (**slot as usize) < first + 64) {
            bits |= 1 << (*slot as usize - first);
        }
        Some(bits)
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        let others: usize = self.others.values().map(|bytes| OTHER_BYTES + bytes.len()).sum();
        self.tracked.shrank(others + self.values.len() * NUMBER_BYTES);
    }
}

fn comparison(leaf: &Leaf<'_>) -> Option<(Comparison, f64)> {
    match leaf.test()? {
        Test::Compare(op, Literal::Number(constant)) if is_exact(*constant) => Some((op, constant.as_f64())),
        _ => None,
    }
}

fn is_exact(number: Num) -> bool {
    match number {
        Num::Int(integer) => integer.unsigned_abs() <= EXACT,
        Num::Float(value) => !value.is_nan(),
    }
}

/// What is made of a row of comparisons.
trait Over {
    fn over(self, holds: impl Fn(f64) -> bool) -> u64;
}

struct Counted<'a>(&'a [f64]);

impl Over for Counted<'_> {
    fn over(self, holds: impl Fn(f64) -> bool) -> u64 {
        self.0.iter().map(|value| u64::from(holds(*value))).sum()
    }
}

struct Bits<'a>(&'a [f64]);

impl Over for Bits<'_> {
    fn over(self, holds: impl Fn(f64) -> bool) -> u64 {
        self.0.iter().rev().fold(0, |bits, value| bits << 1 | u64::from(holds(*value)))
    }
}

/// One loop for each comparison. What is not a number compares with nothing, and so is unequal to it.
#[allow(clippy::float_cmp)] // the numbers are exact
fn by(op: Comparison, constant: f64, over: impl Over) -> u64 {
    match op {
        Comparison::Equal => over.over(|value| value == constant),
        Comparison::NotEqual => over.over(|value| !value.is_nan() && value != constant),
        Comparison::Less => over.over(|value| value < constant),
        Comparison::LessOrEqual => over.over(|value| value <= constant),
        Comparison::Greater => over.over(|value| value > constant),
        Comparison::GreaterOrEqual => over.over(|value| value >= constant),
    }
}
