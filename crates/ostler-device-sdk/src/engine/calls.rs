//! Method calls that may still be answered.
//!
//! Must not know what the methods do nor when they end: a handler may never answer.
//!
//! Invariant: a call is handed out once and answered at most once, whatever is repeated.
//! Invariant: no more than [`MAX_OPEN`] calls are remembered as open, and [`MAX_ANSWERED`] as answered.

use std::collections::VecDeque;

/// Calls without an answer. With more, the oldest is taken for one that will never be answered.
const MAX_OPEN: usize = 256;
/// Answered calls that are still known, so that a repeat is told from a new one.
const MAX_ANSWERED: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Calls {
    open: VecDeque<Box<str>>,
    answered: VecDeque<Box<str>>,
}

impl Calls {
    /// A call came. False if it must not be handed out, because it was before.
    ///
    /// Ids come again when a hub starts to count anew, so one that was answered counts as a repeat only if the hub
    /// marks it as such; but as long as it is open, two calls with one id could not be told apart by their answers.
    pub fn open(&mut self, rid: &str, dup: bool) -> bool {
        if self.open.iter().any(|open| **open == *rid) {
            return false;
        }
        if dup && self.answered.iter().any(|answered| **answered == *rid) {
            return false;
        }
        if self.open.len() >= MAX_OPEN {
            self.open.pop_front();
        }
        self.open.push_back(rid.into());
        true
    }

    /// The call is being answered. `None` if it is not open.
    pub fn answer(&mut self, rid: &str) -> Option<Box<str>> {
        let place = self.open.iter().position(|open| **open == *rid)?;
        let rid = self.open.remove(place)?;
        if self.answered.len() >= MAX_ANSWERED {
            self.answered.pop_front();
        }
        self.answered.push_back(rid.clone());
        Some(rid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_not_handed_out() {
        let mut calls = Calls::default();
        assert!(calls.open("1", false));
        assert!(!calls.open("1", true), "still open");
        assert!(!calls.open("1", false), "still open");
        assert!(calls.answer("1").is_some());
        assert!(calls.answer("1").is_none(), "answered twice");
        assert!(!calls.open("1", true), "a repeat of an answered call");
        assert!(calls.open("1", false), "the hub counts anew");
    }

    #[test]
    fn calls_that_are_never_answered_do_not_pile_up() {
        let mut calls = Calls::default();
        for n in 0..10 * MAX_OPEN {
            assert!(calls.open(&n.to_string(), false));
        }
        assert_eq!(calls.open.len(), MAX_OPEN);
        assert!(calls.answer("0").is_none());
        for n in 9 * MAX_OPEN..10 * MAX_OPEN {
            assert!(calls.answer(&n.to_string()).is_some());
        }
        assert_eq!(calls.answered.len(), MAX_ANSWERED);
    }
}
