//! Rows put in order here, because no store keeps them so, and cut into pages.
//!
//! Must not know: what a row is.
//!
//! Invariant: the order is total: rows with equal values are ordered by their keys.

use super::token::Datum as Stored;
use ostler_core::query::{Datum, Direction};
use std::cmp::Ordering;

/// What a row is ordered by: the values asked for, then a key that no other row has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Standing<K> {
    pub(super) values: Vec<Stored>,
    pub(super) key: K,
}

impl<K: Ord> Standing<K> {
    /// Which of two rows comes first.
    pub(super) fn compare(&self, other: &Standing<K>, directions: &[Direction]) -> Ordering {
        let pairs = self.values.iter().zip(&other.values);
        for ((left, right), direction) in pairs.zip(directions) {
            let order = compare(left, right);
            let order = match direction {
                Direction::Ascending => order,
                Direction::Descending => order.reverse(),
            };
            if order.is_ne() {
                return order;
            }
        }
        self.key.cmp(&other.key)
    }
}

/// The order of two values.
pub(super) fn compare(left: &Stored, right: &Stored) -> Ordering {
    datum(left).order(&datum(right))
}

fn datum(value: &Stored) -> Datum<'_> {
    value.as_ref().map_or(Datum::Undefined, Datum::from)
}

/// Orders rows, and takes those behind `after`, without the first `skipped`, at most `wanted`; whether there are more.
pub(super) fn page<K: Ord, R>(
    mut rows: Vec<(Standing<K>, R)>,
    directions: &[Direction],
    after: Option<&Standing<K>>,
    skipped: u64,
    wanted: usize,
) -> (Vec<(Standing<K>, R)>, bool) {
    if let Some(after) = after {
        rows.retain(|(standing, _)| standing.compare(after, directions).is_gt());
    }
    rows.sort_by(|(left, _), (right, _)| left.compare(right, directions));
    let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(rows.len());
    let more = rows.len() - skipped > wanted;
    (rows.into_iter().skip(skipped).take(wanted).collect(), more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_core::json::Value;

    fn row(value: &str, key: u32) -> (Standing<u32>, u32) {
        let value = (!value.is_empty()).then(|| Value::parse(value.as_bytes()).unwrap());
        (Standing { values: vec![value], key }, key)
    }

    #[test]
    fn pages_put_together_are_all_rows_in_order() {
        let rows =
            || ["2", "", "\"a\"", "2.0", "null", "true", "10", "[1]"].iter().zip(0..).map(|(v, k)| row(v, k));
        for (direction, expected) in [
            (Direction::Ascending, [1, 4, 5, 0, 3, 6, 2, 7]),
            (Direction::Descending, [7, 2, 6, 0, 3, 5, 4, 1]),
        ] {
            let mut seen = Vec::new();
            let mut after = None;
            loop {
                let (found, more) = page(rows().collect(), &[direction], after.as_ref(), 0, 3);
                seen.extend(found.iter().map(|(_, row)| *row));
                after = found.into_iter().last().map(|(standing, _)| standing);
                if !more {
                    break;
                }
            }
            assert_eq!(seen, expected);
        }
        let (rest, more) = page(rows().collect(), &[Direction::Ascending], None, 6, 2);
        assert_eq!((rest.iter().map(|(_, row)| *row).collect::<Vec<_>>(), more), (vec![2, 7], false));
        assert_eq!(page(rows().collect(), &[], None, 99, 2), (Vec::new(), false));
    }
}
