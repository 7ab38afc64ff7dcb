//! Numbers as queries compare them: 64-bit integers exactly, everything else as the nearest double.
//!
//! Must not know: where a number comes from.
//!
//! Invariant: comparing an integer with a double is exact; neither is rounded to the other's form.

use crate::json::Number;
use std::cmp::Ordering;
use std::fmt;

/// A number of a query or of a row.
#[derive(Clone, Copy, Debug)]
pub enum Num {
    /// An integer of 64 bits.
    Int(i64),
    /// Any other number; never NaN.
    Float(f64),
}

/// Below this magnitude every integral double is one integer and the other way round.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Num {
    /// Reads a decimal number: JSON's grammar, leading zeros allowed. `None` for other text and for
    /// numbers beyond the range of doubles.
    pub(super) fn parse_decimal(text: &str) -> Option<Num> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let shape = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.ends_with(|c: char| c.is_ascii_digit())
            && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
        if !shape {
            return None;
        }
        match text.parse::<i64>() {
            Ok(value) => Some(Num::Int(value)),
            Err(_) => text.parse::<f64>().ok().and_then(Num::finite),
        }
    }

    /// A double that is a number; `None` for NaN and the infinities.
    pub(super) fn finite(value: f64) -> Option<Num> {
        value.is_finite().then_some(Num::Float(value))
    }

    /// The nearest double.
    #[allow(clippy::cast_precision_loss)] // "nearest" is the promise
    pub fn as_f64(self) -> f64 {
        match self {
            Num::Int(value) => value as f64,
            Num::Float(value) => value,
        }
    }

    /// The same number as an integer, if it is one: `2.0` becomes `2`.
    #[allow(clippy::cast_possible_truncation)] // the magnitude is checked
    #[must_use]
    pub fn canonical(self) -> Num {
        match self {
            Num::Float(value) if value.fract() == 0.0 && value.abs() < EXACT => Num::Int(value as i64),
            other => other,
        }
    }

    /// The JSON number: integers without a fraction, everything else in the shortest form that reads back.
    pub fn to_number(self) -> Number {
        match self.canonical() {
            Num::Int(value) => Number::from(value),
            // Data may hold numbers beyond the doubles, such as 1e400: they count as infinite and stay beyond.
            Num::Float(value) if value.is_infinite() => beyond(value < 0.0),
            float @ Num::Float(_) => Number::parse(&float.to_string()).unwrap_or_else(|| Number::from(0)),
        }
    }
}

fn beyond(negative: bool) -> Number {
    Number::parse(if negative { "-1e999" } else { "1e999" }).unwrap_or_else(|| Number::from(0))
}

impl From<&Number> for Num {
    fn from(number: &Number) -> Num {
        match number.as_i64() {
            Some(value) => Num::Int(value),
            None => Num::Float(number.as_f64()),
        }
    }
}

impl From<i64> for Num {
    fn from(value: i64) -> Num {
        Num::Int(value)
    }
}

impl PartialEq for Num {
    fn eq(&self, other: &Num) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Num {}

impl PartialOrd for Num {
    fn partial_cmp(&self, other: &Num) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Total, because no double here is NaN; should one be, it counts as equal to every double.
impl Ord for Num {
    fn cmp(&self, other: &Num) -> Ordering {
        match (*self, *other) {
            (Num::Int(left), Num::Int(right)) => left.cmp(&right),
            (Num::Float(left), Num::Float(right)) => left.partial_cmp(&right).unwrap_or(Ordering::Equal),
            (Num::Int(left), Num::Float(right)) => mixed(left, right),
            (Num::Float(left), Num::Int(right)) => mixed(right, left).reverse(),
        }
    }
}

impl std::hash::Hash for Num {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self.canonical() {
            Num::Int(value) => value.hash(state),
            // Beyond the exact range an integer and a double may be equal: both go through the double.
            Num::Float(value) if value.fract() == 0.0 && in_range(value) => whole(value).hash(state),
            Num::Float(value) => value.to_bits().hash(state),
        }
    }
}

const I64_END: f64 = 9_223_372_036_854_775_808.0;

fn in_range(value: f64) -> bool {
    (-I64_END..I64_END).contains(&value)
}

#[allow(clippy::cast_possible_truncation)] // callers have checked the range
fn whole(value: f64) -> i64 {
    value.trunc() as i64
}

fn mixed(int: i64, float: f64) -> Ordering {
    if float >= I64_END {
        Ordering::Less
    } else if float < -I64_END {
        Ordering::Greater
    } else {
        int.cmp(&whole(float)).then_with(|| 0.0f64.partial_cmp(&float.fract()).unwrap_or(Ordering::Equal))
    }
}

/// As a query writes it: a double always shows that it is one.
impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Num::Int(value) => write!(f, "{value}"),
            Num::Float(value) => write!(f, "{value:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::hash::{BuildHasher, RandomState};

    #[test]
    fn integers_and_doubles_compare_exactly() {
        let check = |left: Num, right: Num, expected: Ordering| {
            assert_eq!(left.cmp(&right), expected, "{left} {right}");
            assert_eq!(right.cmp(&left), expected.reverse(), "{right} {left}");
        };
        check(Num::Int(2), Num::Float(2.0), Ordering::Equal);
        check(Num::Int(2), Num::Float(2.5), Ordering::Less);
        check(Num::Int(-2), Num::Float(-2.5), Ordering::Greater);
        check(Num::Int(9_007_199_254_740_993), Num::Float(9_007_199_254_740_992.0), Ordering::Greater);
        check(Num::Int(i64::MAX), Num::Float(I64_END), Ordering::Less);
        check(Num::Int(i64::MIN), Num::Float(-I64_END), Ordering::Equal);
        check(Num::Int(i64::MIN), Num::Float(-1e300), Ordering::Greater);
        let set: HashSet<Num> =
            [Num::Int(2), Num::Float(2.0), Num::Int(i64::MIN), Num::Float(-I64_END)].into();
        assert_eq!(set.len(), 2);
    }

    #[test]
    fn prints_integers_where_exact() {
        assert_eq!(Num::Float(45.0).to_number().text(), "45");
        assert_eq!(Num::Float(71.5).to_number().text(), "71.5");
        assert_eq!(Num::Float(1e300).to_number().text(), "1e300");
        assert_eq!(Num::parse_decimal("1e999"), None);
        assert_eq!(Num::from(&Number::parse("-1e400").unwrap()).to_number().text(), "-1e999");
        assert_eq!(Num::parse_decimal("-9223372036854775808"), Some(Num::Int(i64::MIN)));
    }

    fn num() -> impl Strategy<Value = Num> {
        let edges = [i64::MIN, i64::MIN + 1, -1, 0, 1, 1 << 53, (1 << 53) + 1, i64::MAX - 1, i64::MAX];
        let edge = proptest::sample::select(edges.to_vec());
        prop_oneof![
            any::<i64>().prop_map(Num::Int),
            edge.clone().prop_map(Num::Int),
            edge.prop_map(|value| Num::Float(Num::Int(value).as_f64())),
            any::<f64>().prop_filter("a number", |value| !value.is_nan()).prop_map(Num::Float),
        ]
    }

    proptest! {
        #[test]
        fn order_is_total_and_agrees_with_hashes(a in num(), b in num(), c in num()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            if a <= b && b <= c {
                prop_assert!(a <= c, "{} {} {}", a, b, c);
            }
            let state = RandomState::new();
            prop_assert!(a != b || state.hash_one(a) == state.hash_one(b), "{} {}", a, b);
            prop_assert_eq!(a.canonical(), a);
        }
    }
}
