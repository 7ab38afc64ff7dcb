//! A column: what one path holds in every record of a shard, in the form that suits it.
//!
//! Must not know: which query asks, where the bytes come from, locks.
//!
//! Invariant: a column tells of each slot what the record in it holds; see [`Coded`] and [`Numbers`].
//! Invariant: what was judged stays right for the slots that have not changed since, whatever else
//! changes; a slot that has is not asked for.

use super::coded::Coded;
use super::numbers::Numbers;
use super::registry::Tracked;
use super::scan::Mask;
use crate::record::locate;
use crate::record::shapes::Known;
use ostler_core::query::{Comparison, Datum, Leaf};
use std::sync::Arc;

/// Values that are judged in next to no time.
const FEW_VALUES: usize = 64;

/// See the module documentation.
pub(crate) struct Kept {
    pub(crate) tracked: Arc<Tracked>,
    form: Form,
}

enum Form {
    Coded(Coded),
    Numbers(Numbers),
}

impl Kept {
    /// For any values.
    pub(crate) fn coded(tracked: &Arc<Tracked>, slots: usize) -> Kept {
        Kept { tracked: tracked.clone(), form: Form::Coded(Coded::new(tracked.clone(), slots)) }
    }

    /// For numbers of which most differ.
    pub(crate) fn numbers(tracked: &Arc<Tracked>, slots: usize) -> Kept {
        Kept { tracked: tracked.clone(), form: Form::Numbers(Numbers::new(tracked.clone(), slots)) }
    }

    /// A slot's record has this value now; `None`: it holds no record.
    pub(crate) fn set(&mut self, slot: u32, bytes: Option<&[u8]>, shapes: &Known) {
        match &mut self.form {
            Form::Coded(coded) => coded.set(slot, bytes),
            Form::Numbers(numbers) => numbers.set(slot, bytes, shapes),
        }
    }

    /// A slot's record is gone.
    pub(crate) fn clear(&mut self, slot: u32) {
        match &mut self.form {
            Form::Coded(coded) => coded.set(slot, None),
            Form::Numbers(numbers) => numbers.clear(slot),
        }
    }

    /// Whether its values have become such that it is better built anew.
    pub(crate) fn is_unfit(&self) -> bool {
        matches!(&self.form, Form::Numbers(numbers) if numbers.is_unfit())
    }

    /// Whether so few numbers differ that codes suit them better.
    pub(crate) fn has_few_values(&self, few: usize) -> bool {
        matches!(&self.form, Form::Numbers(numbers) if numbers.has_few_values(few))
    }

    /// For which values a part of a condition, on this column alone, holds; `None` if it cannot tell.
    pub(crate) fn judge(&self, leaf: &Leaf<'_>, shapes: &Known) -> Option<Truth> {
        match &self.form {
            Form::Coded(coded) => Some(coded.judge(leaf, shapes)),
            Form::Numbers(numbers) => numbers.judge(leaf, shapes),
        }
    }

    /// Whether it can tell for which values a part of a condition holds.
    pub(crate) fn can_judge(&self, leaf: &Leaf<'_>) -> bool {
        match &self.form {
            Form::Coded(_) => true,
            Form::Numbers(_) => Numbers::can_judge(leaf),
        }
    }

    /// How many slots hold what the column is asked to equal, if that is what is asked and looking it
    /// up is quick.
    pub(crate) fn count_equal(&self, leaf: &Leaf<'_>) -> Option<u64> {
        let coded = self.as_coded()?;
        coded.count(&Truth::Few(coded.look_up(leaf)?))
    }

    /// How many slots hold such values.
    pub(crate) fn count(&self, truth: &Truth) -> Option<u64> {
        match &self.form {
            Form::Coded(coded) => coded.count(truth),
            Form::Numbers(numbers) => numbers.count(truth),
        }
    }

    /// Keeps the bits of slots, from `first` on, that hold such values; `false` if it cannot tell.
    pub(crate) fn narrow(&self, truth: &Truth, first: u32, mask: &mut Mask) -> bool {
        for (place, word) in
            (first as usize..).step_by(64).zip(mask.iter_mut()).filter(|(_, word)| **word != 0)
        {
            let bits = match &self.form {
                Form::Coded(coded) => coded.bits(truth, place),
                Form::Numbers(numbers) => numbers.bits(truth, place),
            };
            let Some(bits) = bits else { return false };
            *word &= bits;
        }
        true
    }

    /// Whether judging it costs next to nothing.
    pub(crate) fn is_quick(&self, leaf: &Leaf<'_>) -> bool {
        match &self.form {
            Form::Coded(coded) => coded.codes_end() <= FEW_VALUES || coded.look_up(leaf).is_some(),
            Form::Numbers(numbers) => numbers.has_few_others(),
        }
    }

    /// Whether a slot holds such a value; `None` if it cannot tell.
    pub(crate) fn holds_at(&self, truth: &Truth, slot: u32) -> Option<bool> {
        match &self.form {
            Form::Coded(coded) if !matches!(truth, Truth::Range { .. }) => {
                Some(Coded::is_among(truth, coded.code(slot)))
            }
            Form::Coded(_) => None,
            Form::Numbers(numbers) => numbers.holds_at(truth, slot),
        }
    }

    /// What judging it costs, in values looked at one by one.
    pub(crate) fn cost(&self) -> usize {
        match &self.form {
            Form::Coded(coded) => coded.codes_end(),
            Form::Numbers(numbers) => numbers.cost(),
        }
    }

    /// The codes, if it has some.
    pub(crate) fn as_coded(&self) -> Option<&Coded> {
        match &self.form {
            Form::Coded(coded) => Some(coded),
            Form::Numbers(_) => None,
        }
    }
}

/// For which of a column's values a part of a condition holds.
pub(crate) enum Truth {
    /// For these codes.
    Few(Vec<u32>),
    /// By code; false beyond its end.
    Table(Vec<bool>),
    /// For numbers that compare so, and for these slots with something else, sorted.
    Range { op: Comparison, constant: f64, others: Vec<u32> },
}

impl Truth {
    /// Whether it holds for no value at all.
    pub(crate) fn is_never(&self) -> bool {
        match self {
            Truth::Few(codes) => codes.is_empty(),
            Truth::Table(table) => !table.contains(&true),
            Truth::Range { .. } => false,
        }
    }
}

/// What a query sees in a column's value.
pub(crate) fn datum_of<'a>(bytes: &'a [u8], shapes: &Known) -> Datum<'a> {
    if bytes.is_empty() {
        return Datum::Undefined;
    }
    locate::datum(bytes, shapes).unwrap_or(Datum::Undefined)
}
