//! What is counted while the simulation runs, and what is told of it.
//!
//! Must not know: terminals, sockets.
//!
//! Invariant: counters are only added to, by the threads that run devices; gauges go up and down by what each thread
//! itself did. Nothing here is ever waited for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use serde::Serialize;

/// Statuses that are counted one by one; all others together.
const STATUSES: std::ops::Range<i32> = 0..1000;

/// Why a connection was not made or not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Cause {
    Dial,
    NoPorts,
    NoFiles,
    Timeout,
    Tls,
    NotAuthorized,
    Unavailable,
    RefusedOtherwise,
    NotSubscribed,
    ClosedByHub,
    Reset,
    NoPong,
    Protocol,
    Backlog,
}

const CAUSES: [Cause; 14] = [
    Cause::Dial,
    Cause::NoPorts,
    Cause::NoFiles,
    Cause::Timeout,
    Cause::Tls,
    Cause::NotAuthorized,
    Cause::Unavailable,
    Cause::RefusedOtherwise,
    Cause::NotSubscribed,
    Cause::ClosedByHub,
    Cause::Reset,
    Cause::NoPong,
    Cause::Protocol,
    Cause::Backlog,
];

impl Cause {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::NoPorts => "noPorts",
            Self::NoFiles => "noFiles",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::NotAuthorized => "notAuthorized",
            Self::Unavailable => "unavailable",
            Self::RefusedOtherwise => "refused",
            Self::NotSubscribed => "notSubscribed",
            Self::ClosedByHub => "closedByHub",
            Self::Reset => "reset",
            Self::NoPong => "noPong",
            Self::Protocol => "protocol",
            Self::Backlog => "backlog",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dial => "no TCP connection",
            Self::NoPorts => "no free local port",
            Self::NoFiles => "no free file descriptor",
            Self::Timeout => "no answer in time",
            Self::Tls => "TLS failed",
            Self::NotAuthorized => "sign-in refused",
            Self::Unavailable => "hub busy",
            Self::RefusedOtherwise => "refused",
            Self::NotSubscribed => "subscription refused",
            Self::ClosedByHub => "closed by the hub",
            Self::Reset => "connection broke",
            Self::NoPong => "no PINGRESP",
            Self::Protocol => "protocol error",
            Self::Backlog => "hub does not read",
        })
    }
}

/// What one thread counts.
#[derive(Debug)]
pub struct Counters {
    pub connected: AtomicI64,
    pub connecting: AtomicI64,
    /// Devices that have been connected at least once.
    pub ever_connected: AtomicU64,
    pub connects: AtomicU64,
    pub calls: AtomicU64,
    pub reports: AtomicU64,
    pub reports_refused: AtomicU64,
    pub desired: AtomicU64,
    /// Connections left on purpose.
    pub leaves: AtomicU64,
    pub vanishes: AtomicU64,
    answers: Box<[AtomicU64]>,
    other_answers: AtomicU64,
    errors: [AtomicU64; CAUSES.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            connected: AtomicI64::new(0),
            connecting: AtomicI64::new(0),
            ever_connected: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            reports: AtomicU64::new(0),
            reports_refused: AtomicU64::new(0),
            desired: AtomicU64::new(0),
            leaves: AtomicU64::new(0),
            vanishes: AtomicU64::new(0),
            answers: STATUSES.map(|_| AtomicU64::new(0)).collect(),
            other_answers: AtomicU64::new(0),
            errors: Default::default(),
        }
    }
}

impl Counters {
    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    pub fn error(&self, cause: Cause) {
        Self::add(&self.errors[cause as usize]);
    }

    pub fn answer(&self, status: i32) {
        let known = usize::try_from(status).ok().and_then(|status| self.answers.get(status));
        Self::add(known.unwrap_or(&self.other_answers));
    }
}

/// All that was counted up to one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    pub connected: i64,
    pub connecting: i64,
    pub ever_connected: u64,
    pub connects: u64,
    pub method_calls: u64,
    pub answers: BTreeMap<String, u64>,
    pub reports: u64,
    pub reports_refused: u64,
    pub desired_updates: u64,
    pub leaves: u64,
    pub vanishes: u64,
    pub errors: BTreeMap<&'static str, u64>,
    #[serde(skip)]
    pub causes: BTreeMap<Cause, u64>,
}

impl Totals {
    /// Adds up what the threads have counted.
    pub fn of<'c>(all: impl Iterator<Item = &'c Counters>) -> Self {
        let mut totals = Self::default();
        for counters in all {
            totals.connected += counters.connected.load(Relaxed);
            totals.connecting += counters.connecting.load(Relaxed);
            totals.ever_connected += counters.ever_connected.load(Relaxed);
            totals.connects += counters.connects.load(Relaxed);
            totals.method_calls += counters.calls.load(Relaxed);
            totals.reports += counters.reports.load(Relaxed);
            totals.reports_refused += counters.reports_refused.load(Relaxed);
            totals.desired_updates += counters.desired.load(Relaxed);
            totals.leaves += counters.leaves.load(Relaxed);
            totals.vanishes += counters.vanishes.load(Relaxed);
            let statuses = counters.answers.iter().enumerate().map(|(status, n)| (status.to_string(), n));
            for (status, count) in statuses.chain([("other".to_owned(), &counters.other_answers)]) {
                match count.load(Relaxed) {
                    0 => {}
                    count => *totals.answers.entry(status).or_default() += count,
                }
            }
            for (cause, count) in CAUSES.into_iter().zip(&counters.errors) {
                match count.load(Relaxed) {
                    0 => {}
                    count => {
                        *totals.errors.entry(cause.name()).or_default() += count;
                        *totals.causes.entry(cause).or_default() += count;
                    }
                }
            }
        }
        totals
    }

    /// How often this went wrong.
    pub fn errors_of(&self, cause: Cause) -> u64 {
        self.causes.get(&cause).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_added_up() {
        let threads = [Counters::default(), Counters::default()];
        for counters in &threads {
            counters.answer(200);
            counters.answer(-7);
            counters.error(Cause::Tls);
            Counters::add(&counters.reports);
        }
        threads[0].answer(404);
        let totals = Totals::of(threads.iter());
        let answers: Vec<_> = totals.answers.iter().map(|(status, n)| (status.as_str(), *n)).collect();
        assert_eq!(answers, [("200", 2), ("404", 1), ("other", 2)]);
        assert_eq!((totals.errors_of(Cause::Tls), totals.errors.len(), totals.reports), (2, 1, 2));
    }

    #[test]
    fn every_cause_has_its_place() {
        for (place, cause) in CAUSES.into_iter().enumerate() {
            assert_eq!(cause as usize, place);
        }
    }
}
