//! When to try again: exponential backoff with full jitter, a cap and a budget (decided for all of Ostler's
//! clients alike).
//!
//! Must not know what is tried. Reads no clock and draws no chance: both are handed in.

use std::time::Duration;

/// How to go on after a failure that may pass.
///
/// The wait before attempt `n` is anything up to `first_wait · 2ⁿ`, never more than `max_wait`. It is drawn anew each
/// time, so that devices that lost their hub together do not come back together.
///
/// ```
/// use ostler_device_sdk::RetryPolicy;
/// use std::time::Duration;
///
/// let patient = RetryPolicy { max_wait: Duration::from_secs(300), ..RetryPolicy::default() };
/// let hasty = RetryPolicy { budget: Some(Duration::from_secs(20)), ..RetryPolicy::default() };
/// # assert!(patient.max_wait > hasty.max_wait);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The most that is waited before the first retry. Default 1 s.
    pub first_wait: Duration,
    /// The most that is ever waited between two attempts, unless the hub asks for more. Default 30 s.
    pub max_wait: Duration,
    /// How long to try since the connection was lost, or first asked for. `None`, the default: for ever. Zero: not at
    /// all.
    pub budget: Option<Duration>,
    /// What to do when the hub does not let the identity in. Default [`WhenRefused::KeepTrying`].
    pub when_refused: WhenRefused,
}

/// What follows CONNACK 5, "not authorised".
///
/// ```
/// use ostler_device_sdk::{RetryPolicy, WhenRefused};
///
/// let strict = RetryPolicy { when_refused: WhenRefused::GiveUp, ..RetryPolicy::default() };
/// # assert_ne!(strict, RetryPolicy::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenRefused {
    /// Try on, but slowly: a disabled device may be enabled, a clock be set.
    #[default]
    KeepTrying,
    /// It is final.
    GiveUp,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            first_wait: Duration::from_secs(1),
            max_wait: Duration::from_secs(30),
            budget: None,
            when_refused: WhenRefused::KeepTrying,
        }
    }
}

/// The longest wait that a hub can ask for.
const MAX_HINT_MS: u64 = 3_600_000;

impl RetryPolicy {
    /// One attempt and no more.
    ///
    /// ```
    /// let once = ostler_device_sdk::RetryPolicy::none();
    /// assert_eq!(once.budget, Some(std::time::Duration::ZERO));
    /// ```
    pub fn none() -> Self {
        RetryPolicy { budget: Some(Duration::ZERO), ..RetryPolicy::default() }
    }

    /// How long to wait after `failures` failures in a row (at least 1), in ms; never 0. `hint` is what the hub asked
    /// for, in ms: waited in full, for at most an hour, with the jitter on top. `chance` is 64 random bits.
    pub(crate) fn wait_ms(&self, failures: u32, hint: Option<u64>, chance: u64) -> u64 {
        let doublings = failures.saturating_sub(1).min(32);
        let ceiling = millis(self.first_wait).saturating_mul(1 << doublings).min(self.max_wait_ms());
        hint.unwrap_or(0).min(MAX_HINT_MS) + 1 + below(chance, ceiling.max(1))
    }

    /// How long to wait where there is little hope, in ms: the upper half of the longest wait.
    pub(crate) fn slow_wait_ms(&self, chance: u64) -> u64 {
        let half = self.max_wait_ms() / 2;
        half + 1 + below(chance, half.max(1))
    }

    pub(crate) fn max_wait_ms(&self) -> u64 {
        millis(self.max_wait).max(1)
    }

    /// How much of the budget is left after `spent` ms; `None` if nothing is.
    pub(crate) fn budget_left_ms(&self, spent: u64) -> Option<u64> {
        match self.budget {
            None => Some(u64::MAX),
            Some(budget) => millis(budget).checked_sub(spent).filter(|&left| left > 0),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// 64 random bits as a number below `bound`, which must not be 0.
fn below(chance: u64, bound: u64) -> u64 {
    ((u128::from(chance) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_stay_between_nothing_and_their_ceiling(failures in 1u32..200, chance: u64, first in 0u64..100_000, max in 0u64..100_000) {
            let policy = RetryPolicy {
                first_wait: Duration::from_millis(first),
                max_wait: Duration::from_millis(max),
                ..RetryPolicy::default()
            };
            let wait = policy.wait_ms(failures, None, chance);
            let ceiling = (first as f64 * 2f64.powi(failures as i32 - 1)).min(max as f64).max(1.0);
            prop_assert!(wait >= 1 && wait as f64 <= ceiling + 1.0, "{wait} of {ceiling}");
            let slow = policy.slow_wait_ms(chance);
            prop_assert!(slow > max / 2 && slow <= max.max(2) + 1);
        }
    }

    #[test]
    fn jitter_is_full() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.wait_ms(1, None, 0), 1);
        assert_eq!(policy.wait_ms(1, None, u64::MAX), 1_000);
        assert_eq!(policy.wait_ms(4, None, u64::MAX), 8_000);
        assert_eq!(policy.wait_ms(1_000_000, None, u64::MAX), 30_000);
    }

    #[test]
    fn hints_are_waited_in_full_but_not_for_ever() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.wait_ms(1, Some(7_000), 0), 7_001);
        assert_eq!(policy.wait_ms(1, Some(u64::MAX), 0), MAX_HINT_MS + 1);
    }

    #[test]
    fn budgets_end() {
        assert_eq!(RetryPolicy::none().budget_left_ms(0), None);
        assert_eq!(RetryPolicy::default().budget_left_ms(u64::MAX), Some(u64::MAX));
        let policy = RetryPolicy { budget: Some(Duration::from_secs(2)), ..RetryPolicy::default() };
        assert_eq!(policy.budget_left_ms(1_999), Some(1));
        assert_eq!(policy.budget_left_ms(2_000), None);
    }
}
