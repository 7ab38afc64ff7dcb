//! What is tried again, and after how long: exponential backoff with full jitter, a cap, a budget, and `Retry-After`.
//!
//! Must not know: sockets, clocks, randomness; all three are arguments.
//!
//! Invariant: a request that may have been executed is repeated only if repeating it changes nothing.
//! Invariant: 401, 403, 404, 409 and 412 are final.

use std::time::Duration;

/// How hard to try. The defaults suit a person at a terminal and a back end alike.
///
/// ```
/// use ostler_service_sdk::RetryPolicy;
/// use std::time::Duration;
///
/// let patient = RetryPolicy { max_attempts: 100, budget: Duration::from_secs(600), ..RetryPolicy::default() };
/// # assert_eq!(patient.first_wait, Duration::from_millis(200));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included; 1 turns retries off.
    pub max_attempts: u32,
    /// The upper bound of the first wait; each next bound is twice as long.
    pub first_wait: Duration,
    /// The upper bound no wait exceeds, `Retry-After` excepted.
    pub max_wait: Duration,
    /// All waits of one call together stay within this.
    pub budget: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            first_wait: Duration::from_millis(200),
            max_wait: Duration::from_secs(10),
            budget: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// Never tries again.
    ///
    /// ```
    /// assert_eq!(ostler_service_sdk::RetryPolicy::none().max_attempts, 1);
    /// ```
    pub fn none() -> Self {
        Self { max_attempts: 1, ..Self::default() }
    }
}

/// Whether executing a request twice differs from executing it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safety {
    /// Reads, and writes whose repetition leaves the same state.
    Repeatable,
    /// Method calls, creations, conditional writes: the second execution acts or fails.
    Once,
}

/// How an attempt ended, as far as repeating it is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection came about, so the hub saw nothing of the request.
    NotSent,
    /// The connection broke, or time ran out, after the request may have been sent.
    Unanswered,
    /// The hub answered with an error.
    Refused { status: u16, retry_after: Option<Duration> },
}

impl Failure {
    /// Whether the hub may have executed the request all the same. Throttling comes before execution.
    pub(crate) fn may_have_run(self) -> bool {
        !matches!(self, Failure::NotSent | Failure::Refused { status: 429, .. })
    }
}

/// Where a call stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// Attempts made, at least 1.
    pub attempts: u32,
    /// What the waits took until now.
    pub waited: Duration,
}

/// How long to wait before the next attempt; `None` is the end. `jitter` is uniform in `0.0..1.0`.
pub(crate) fn next_wait(
    policy: &RetryPolicy,
    safety: Safety,
    failure: Failure,
    progress: Progress,
    jitter: f64,
) -> Option<Duration> {
    if progress.attempts >= policy.max_attempts || !is_transient(safety, failure) {
        return None;
    }
    let doublings = progress.attempts.saturating_sub(1).min(16);
    let bound = policy.first_wait.saturating_mul(1 << doublings).min(policy.max_wait);
    let backoff = bound.mul_f64(jitter.clamp(0.0, 1.0));
    let wait = match failure {
        // The hub knows better when it can serve again; the jitter still spreads those who wait for the same moment.
        Failure::Refused { retry_after: Some(asked), .. } => asked.saturating_add(backoff),
        _ => backoff,
    };
    (progress.waited.saturating_add(wait) <= policy.budget).then_some(wait)
}

fn is_transient(safety: Safety, failure: Failure) -> bool {
    match (failure, safety) {
        (Failure::NotSent, _) => true,
        (Failure::Unanswered, Safety::Repeatable) => true,
        (Failure::Unanswered, Safety::Once) => false,
        // Throttling comes before execution, so it is safe for everything.
        (Failure::Refused { status: 429, .. }, _) => true,
        (Failure::Refused { status, .. }, Safety::Repeatable) => {
            matches!(status, 408 | 500 | 502 | 503 | 504)
        }
        (Failure::Refused { .. }, Safety::Once) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Progress = Progress { attempts: 1, waited: Duration::ZERO };

    fn refused(status: u16) -> Failure {
        Failure::Refused { status, retry_after: None }
    }

    #[track_caller]
    fn check(safety: Safety, failure: Failure, expected: bool) {
        let wait = next_wait(&RetryPolicy::default(), safety, failure, FIRST, 0.5);
        assert_eq!(wait.is_some(), expected, "{safety:?} {failure:?}");
    }

    #[test]
    fn final_answers_are_final() {
        for status in [400, 401, 403, 404, 405, 409, 412, 413, 415, 501] {
            check(Safety::Repeatable, refused(status), false);
            check(Safety::Once, refused(status), false);
        }
    }

    #[test]
    fn transient_answers_are_tried_again_if_that_changes_nothing() {
        for status in [408, 500, 502, 503, 504] {
            check(Safety::Repeatable, refused(status), true);
            check(Safety::Once, refused(status), false);
        }
        check(Safety::Repeatable, refused(429), true);
        check(Safety::Once, refused(429), true);
    }

    #[test]
    fn a_method_call_is_repeated_only_if_it_never_left() {
        check(Safety::Once, Failure::NotSent, true);
        check(Safety::Once, Failure::Unanswered, false);
        check(Safety::Repeatable, Failure::Unanswered, true);
    }

    #[test]
    fn waits_double_up_to_the_cap_and_are_fully_jittered() {
        let policy = RetryPolicy { max_attempts: 100, budget: Duration::MAX, ..RetryPolicy::default() };
        let wait = |attempts, jitter| {
            let progress = Progress { attempts, waited: Duration::ZERO };
            next_wait(&policy, Safety::Repeatable, Failure::NotSent, progress, jitter).unwrap()
        };
        assert_eq!(wait(1, 0.0), Duration::ZERO);
        assert_eq!(wait(1, 1.0), Duration::from_millis(200));
        assert_eq!(wait(3, 1.0), Duration::from_millis(800));
        assert_eq!(wait(3, 0.5), Duration::from_millis(400));
        assert_eq!(wait(60, 1.0), Duration::from_secs(10));
    }

    #[test]
    fn retry_after_is_honoured_within_the_budget() {
        let asked = |secs| Failure::Refused { status: 503, retry_after: Some(Duration::from_secs(secs)) };
        let policy = RetryPolicy::default();
        let wait = next_wait(&policy, Safety::Repeatable, asked(7), FIRST, 0.0);
        assert_eq!(wait, Some(Duration::from_secs(7)));
        assert_eq!(next_wait(&policy, Safety::Repeatable, asked(31), FIRST, 0.0), None);
    }

    #[test]
    fn attempts_and_budget_end_it() {
        let policy = RetryPolicy::default();
        let progress = |attempts, secs| Progress { attempts, waited: Duration::from_secs(secs) };
        let at = |progress| next_wait(&policy, Safety::Repeatable, Failure::NotSent, progress, 1.0);
        assert!(at(progress(4, 0)).is_some());
        assert_eq!(at(progress(5, 0)), None);
        assert_eq!(at(progress(4, 30)), None);
        assert_eq!(
            next_wait(&RetryPolicy::none(), Safety::Repeatable, Failure::NotSent, progress(1, 0), 0.0),
            None
        );
    }
}
