//! What the engine of configurations has to do: twins to look at, and sweeps over many.
//!
//! Must not know: what is done with a twin.
//!
//! Invariant: a twin waits at most once, and at most [`QUEUE`] of them wait; what does not fit becomes a sweep over
//! all.

use ostler_core::configuration::ConfigurationId;
use ostler_core::id::EntityId;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::{watch, Notify};
use tokio::time::Instant;

/// Twins that may wait to be looked at.
const QUEUE: usize = 100_000;

/// The least time between two warnings.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// What can make a twin meet a condition, or no longer meet it; a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Triggers(u8);

impl Triggers {
    /// Any change by a back end: of tags, desired properties or the identity.
    pub(super) const RECORD: Triggers = Triggers(1);
    /// A change of reported properties.
    pub(super) const REPORTED: Triggers = Triggers(2);
    /// A connection made or ended.
    pub(super) const LIVE: Triggers = Triggers(4);

    pub(super) fn with(self, other: Triggers) -> Triggers {
        Triggers(self.0 | other.0)
    }
}

/// A walk over the twins that a configuration, or any of them, may concern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sweep {
    All,
    One(ConfigurationId),
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Work {
    /// Looked at on the busiest path of the hub; 0 when no configuration could care.
    triggers: AtomicU8,
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Whether anything waits or is being done.
    busy: watch::Sender<bool>,
    warned: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<EntityId>,
    known: HashSet<EntityId>,
    all: bool,
    some: BTreeSet<ConfigurationId>,
}

impl Default for Work {
    fn default() -> Work {
        Work {
            triggers: AtomicU8::new(0),
            waiting: Mutex::default(),
            wake: Notify::new(),
            busy: watch::Sender::new(false),
            warned: Mutex::new(None),
        }
    }
}

impl Work {
    /// From now on only these matter.
    pub(super) fn set_triggers(&self, triggers: Triggers) {
        self.triggers.store(triggers.0, Ordering::SeqCst);
    }

    /// Whether something of this kind could matter: one load.
    pub(super) fn cares(&self, trigger: Triggers) -> bool {
        self.triggers.load(Ordering::SeqCst) & trigger.0 != 0
    }

    /// A twin to be looked at.
    pub(super) fn look_at(&self, id: EntityId) {
        let mut waiting = self.waiting.lock();
        if waiting.known.contains(&id) {
            return;
        }
        if waiting.order.len() < QUEUE {
            waiting.known.insert(id.clone());
            waiting.order.push_back(id);
        } else {
            waiting.all = true;
        }
        self.begin(waiting);
    }

    /// A walk to be made.
    pub(super) fn sweep(&self, sweep: Sweep) {
        let mut waiting = self.waiting.lock();
        match sweep {
            Sweep::All => waiting.all = true,
            Sweep::One(id) => drop(waiting.some.insert(id)),
        }
        self.begin(waiting);
    }

    fn begin(&self, waiting: parking_lot::MutexGuard<'_, Waiting>) {
        self.busy.send_if_modified(|busy| !std::mem::replace(busy, true));
        drop(waiting);
        self.wake.notify_one();
    }

    /// The twins that wait longest; none if none wait.
    pub(super) fn take(&self, most: usize) -> Vec<EntityId> {
        let mut waiting = self.waiting.lock();
        let count = waiting.order.len().min(most);
        let taken: Vec<EntityId> = waiting.order.drain(..count).collect();
        for id in &taken {
            waiting.known.remove(id);
        }
        taken
    }

    /// A walk that waits. One over all does away with the others.
    pub(super) fn next_sweep(&self) -> Option<Sweep> {
        let mut waiting = self.waiting.lock();
        if std::mem::take(&mut waiting.all) {
            waiting.some.clear();
            return Some(Sweep::All);
        }
        waiting.some.pop_first().map(Sweep::One)
    }

    /// Says that what was taken is done; false if more came meanwhile.
    pub(super) fn rest(&self) -> bool {
        let waiting = self.waiting.lock();
        let nothing = waiting.order.is_empty() && !waiting.all && waiting.some.is_empty();
        if nothing {
            self.busy.send_if_modified(|busy| std::mem::replace(busy, false));
        }
        nothing
    }

    /// Whether it is time for another warning: a fleet must not fill the log with the same one.
    pub(super) fn may_warn(&self) -> bool {
        let mut warned = self.warned.lock();
        let now = Instant::now();
        let may = warned.is_none_or(|last| now.duration_since(last) >= BETWEEN_WARNINGS);
        if may {
            *warned = Some(now);
        }
        may
    }

    /// Waits until there is something to do.
    pub(super) async fn wait(&self) {
        self.wake.notified().await;
    }

    /// Waits until nothing is to be done.
    pub(super) async fn idle(&self) {
        // The sender is part of this, so the channel is open.
        let _ = self.busy.subscribe().wait_for(|busy| !busy).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> EntityId {
        EntityId::parse(&format!("d{n}")).unwrap()
    }

    #[test]
    fn a_twin_waits_once_and_what_does_not_fit_becomes_a_sweep() {
        let work = Work::default();
        for n in (0..QUEUE).chain(0..3) {
            work.look_at(id(n));
        }
        assert_eq!(work.next_sweep(), None);
        work.look_at(id(QUEUE));
        assert_eq!(work.take(2), [id(0), id(1)]);
        work.look_at(id(0));
        assert_eq!(work.take(QUEUE).len(), QUEUE - 1);
        assert_eq!((work.next_sweep(), work.next_sweep()), (Some(Sweep::All), None));
        assert!(work.rest());
    }

    #[test]
    fn a_sweep_over_all_does_away_with_the_others() {
        let work = Work::default();
        let one = |text| Sweep::One(ConfigurationId::new(text).unwrap());
        work.sweep(one("b"));
        work.sweep(one("a"));
        assert_eq!(work.next_sweep(), Some(one("a")));
        assert!(!work.rest());
        work.sweep(Sweep::All);
        assert_eq!((work.next_sweep(), work.next_sweep()), (Some(Sweep::All), None));
    }

    #[test]
    fn only_what_could_matter_is_cared_for() {
        let work = Work::default();
        assert!(!work.cares(Triggers::RECORD));
        work.set_triggers(Triggers::RECORD.with(Triggers::LIVE));
        assert!(work.cares(Triggers::LIVE) && !work.cares(Triggers::REPORTED));
    }
}
