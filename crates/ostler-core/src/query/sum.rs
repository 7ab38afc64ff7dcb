//! Sums that do not depend on the order in which their numbers come, so that a query's answer is the same however its
//! rows were divided among threads.
//!
//! Integers are added exactly. Doubles are kept as a few partial sums that together are the exact sum (Shewchuk,
//! "Adaptive precision floating-point arithmetic"), rounded once at the end.
//!
//! Must not know: what is summed.
//!
//! Invariant: `partials` do not overlap and grow in magnitude; their exact sum is that of all doubles added.

use super::num::Num;

/// A sum of numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    ints: i128,
    partials: Vec<f64>,
    count: u64,
}

impl Sum {
    /// Adds a number.
    pub fn add(&mut self, num: Num) {
        self.count += 1;
        match num {
            Num::Int(value) => self.ints += i128::from(value),
            Num::Float(value) => grow(&mut self.partials, value),
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Sum) {
        self.count += other.count;
        self.ints += other.ints;
        for partial in &other.partials {
            grow(&mut self.partials, *partial);
        }
    }

    /// The sum; `None` without numbers or beyond the range of doubles.
    pub fn total(&self) -> Option<Num> {
        if self.count == 0 {
            return None;
        }
        match (self.partials.is_empty(), i64::try_from(self.ints)) {
            (true, Ok(value)) => Some(Num::Int(value)),
            _ => Num::finite(self.rounded()),
        }
    }

    /// The mean; `None` without numbers or beyond the range of doubles.
    #[allow(clippy::cast_precision_loss)] // a count of rows is far below 2^53
    pub fn mean(&self) -> Option<Num> {
        let count = i64::try_from(self.count).ok().filter(|count| *count > 0)?;
        match self.total()? {
            Num::Int(total) if total % count == 0 => Some(Num::Int(total / count)),
            total => Num::finite(total.as_f64() / count as f64),
        }
    }

    fn rounded(&self) -> f64 {
        let mut partials = self.partials.clone();
        for part in in_doubles(self.ints) {
            grow(&mut partials, part);
        }
        round(&partials)
    }
}

/// Adds a double exactly.
fn grow(partials: &mut Vec<f64>, value: f64) {
    let (mut kept, mut high) = (0, value);
    for at in 0..partials.len() {
        let (large, small) =
            if high.abs() < partials[at].abs() { (partials[at], high) } else { (high, partials[at]) };
        high = large + small;
        let low = small - (high - large);
        if low != 0.0 {
            partials[kept] = low;
            kept += 1;
        }
    }
    partials.truncate(kept);
    partials.push(high);
}

/// The double nearest to the partials' exact sum.
fn round(partials: &[f64]) -> f64 {
    let mut rest = partials.iter().rev().copied();
    let mut high = rest.next().unwrap_or(0.0);
    let mut low = 0.0;
    for next in rest.by_ref() {
        let before = high;
        high = before + next;
        low = next - (high - before);
        if low != 0.0 {
            break;
        }
    }
    // A tie was rounded to even without a look at what is left: that decides it.
    if rest.next().is_some_and(|next| (low < 0.0 && next < 0.0) || (low > 0.0 && next > 0.0)) {
        let doubled = low * 2.0;
        let nudged = high + doubled;
        if nudged - high == doubled {
            high = nudged;
        }
    }
    high
}

/// What each piece of 32 bits counts for.
const PIECES: [f64; 4] =
    [1.0, 4_294_967_296.0, 18_446_744_073_709_551_616.0, 79_228_162_514_264_337_593_543_950_336.0];

/// An integer as doubles that are exact together.
#[allow(clippy::cast_precision_loss)] // each piece has 32 bits
fn in_doubles(value: i128) -> impl Iterator<Item = f64> {
    let (sign, mut rest) = (if value < 0 { -1.0 } else { 1.0 }, value.unsigned_abs());
    PIECES.into_iter().map(move |scale| {
        let bits = rest & 0xffff_ffff;
        rest >>= 32;
        sign * bits as f64 * scale
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(nums: &[Num]) -> Sum {
        let mut sum = Sum::default();
        for num in nums {
            sum.add(*num);
        }
        sum
    }

    #[test]
    fn exact() {
        let float = |values: &[f64]| sum(&values.iter().map(|v| Num::Float(*v)).collect::<Vec<_>>()).total();
        assert_eq!(float(&[0.1; 10]), Some(Num::Float(1.0)));
        assert_eq!(float(&[1e16, 1.0, -1e16]), Some(Num::Float(1.0)));
        assert_eq!(float(&[1e300, 1e-300, -1e300]), Some(Num::Float(1e-300)));
        assert_eq!(float(&[]), None);
        assert_eq!(sum(&[Num::Int(i64::MAX), Num::Int(i64::MAX)]).total(), Some(Num::Float(2f64.powi(64))));
        assert_eq!(sum(&[Num::Int(i64::MAX), Num::Int(1), Num::Int(-1)]).total(), Some(Num::Int(i64::MAX)));
        assert_eq!(sum(&[Num::Int(30), Num::Int(60), Num::Int(45)]).mean(), Some(Num::Int(45)));
        assert_eq!(sum(&[Num::Int(1), Num::Int(2)]).mean(), Some(Num::Float(1.5)));
        assert_eq!(
            sum(&[Num::Int(1 << 53), Num::Int(1), Num::Float(0.5)]).total(),
            Some(Num::Float(9_007_199_254_740_994.0))
        );
    }

    fn nums() -> impl Strategy<Value = Vec<Num>> {
        let num = prop_oneof![any::<i64>().prop_map(Num::Int), (-1e18..1e18f64).prop_map(Num::Float)];
        prop::collection::vec(num, 0..20)
    }

    proptest! {
        #[test]
        fn any_order_and_division_gives_the_same(nums in nums(), at in 0usize..20, seed in any::<u64>()) {
            let whole = sum(&nums);
            let mut shuffled = nums.clone();
            shuffled.sort_by_key(|num| num.as_f64().to_bits().wrapping_mul(seed | 1));
            let (left, right) = shuffled.split_at(at.min(shuffled.len()));
            let mut parts = sum(right);
            parts.merge(&sum(left));
            prop_assert_eq!(whole.total().map(|t| t.as_f64().to_bits()), parts.total().map(|t| t.as_f64().to_bits()));
            prop_assert_eq!(whole.mean(), parts.mean());
        }
    }
}
