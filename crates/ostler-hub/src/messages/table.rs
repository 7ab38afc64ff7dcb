//! The queues of all devices that have messages, and when each is due to be looked at.
//!
//! A device without messages is not in the table: whoever asks for it pays one look-up, and as long as no device has
//! any, one atomic load.
//!
//! Must not know: the store, connections.
//!
//! Invariant: a queue changes only while its device's turn is held; who only reads needs no turn.
//!
//! Invariant: locks are taken in the order table, timers, and neither is held over an `await`.

use ostler_core::id::EntityId;
use ostler_core::message::{Confirmed, Entry, Queue};
use ostler_core::time::Timestamp;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use tokio::sync::{Notify, OwnedMutexGuard};

/// Devices whose turns are taken apart; two that share one wait for each other.
const TURNS: usize = 1024;
/// What a device may have confirmed without its having been looked at; more than it can hold.
const CONFIRMED: usize = 128;

/// The right to change one device's queue.
pub(super) type Turn = OwnedMutexGuard<()>;

/// A queue and what is to be done about it.
pub(super) struct Slot {
    /// The registration of the device's name to which its messages were sent.
    pub(super) generation_id: u64,
    pub(super) queue: Queue,
    confirmed: Vec<Confirmed>,
    /// Whether a round is about to begin.
    scheduled: bool,
    /// When it stands in the timers.
    due: Option<Timestamp>,
}

type Slots = hashbrown::HashMap<EntityId, Slot, foldhash::fast::RandomState>;

/// See the module documentation.
pub(crate) struct Table {
    /// Queries count what is in them from all cores.
    slots: RwLock<Slots>,
    /// Messages in all queues.
    total: AtomicUsize,
    turns: Box<[Arc<tokio::sync::Mutex<()>>]>,
    hasher: foldhash::fast::RandomState,
    timers: Mutex<BTreeSet<(Timestamp, EntityId)>>,
    /// Wakes whoever looks after the timers.
    pub(super) wake: Arc<Notify>,
}

impl Default for Table {
    fn default() -> Table {
        Table {
            slots: RwLock::default(),
            total: AtomicUsize::new(0),
            turns: (0..TURNS).map(|_| Arc::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            timers: Mutex::default(),
            wake: Arc::default(),
        }
    }
}

impl Table {
    /// Waits for a device's turn.
    pub(super) async fn turn(&self, id: &EntityId) -> Turn {
        let place = usize::try_from(self.hasher.hash_one(id) >> 32).unwrap_or(0) % TURNS;
        self.turns[place].clone().lock_owned().await
    }

    /// Messages in all queues.
    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Messages in one queue.
    pub(crate) fn count(&self, id: &str) -> usize {
        if self.total() == 0 {
            return 0;
        }
        self.slots.read().get(id).map_or(0, |slot| slot.queue.len())
    }

    /// Looks at a queue, if there is one.
    pub(super) fn read<T>(&self, id: &EntityId, look: impl FnOnce(&Slot) -> T) -> Option<T> {
        self.slots.read().get(id).map(look)
    }

    /// Changes a queue, if there is one. The turn must be held.
    pub(super) fn change<T>(
        &self,
        id: &EntityId,
        _turn: &Turn,
        change: impl FnOnce(&mut Queue) -> T,
    ) -> Option<T> {
        let mut slots = self.slots.write();
        let slot = slots.get_mut(id)?;
        let before = slot.queue.len();
        let result = change(&mut slot.queue);
        self.total.fetch_sub(before - slot.queue.len(), Ordering::Relaxed);
        self.tidy(&mut slots, id);
        Some(result)
    }

    /// Adds a message that is durable. The turn must be held, unless nobody else can be there yet.
    pub(super) fn push(&self, id: &EntityId, generation_id: u64, entry: Entry) {
        let mut slots = self.slots.write();
        let slot = slots.entry(id.clone()).or_insert_with(|| Slot {
            generation_id,
            queue: Queue::default(),
            confirmed: Vec::new(),
            scheduled: false,
            due: None,
        });
        slot.generation_id = generation_id;
        slot.queue.push(entry);
        self.total.fetch_add(1, Ordering::Relaxed);
        self.tidy(&mut slots, id);
    }

    /// Sets the timer of a queue right, and lets go of one that is empty.
    fn tidy(&self, slots: &mut Slots, id: &EntityId) {
        let Some(slot) = slots.get_mut(id) else { return };
        let due = slot.queue.due();
        self.set_timer(id, slot, due);
        if slot.queue.is_empty() && !slot.scheduled {
            slots.remove(id);
        }
    }

    fn set_timer(&self, id: &EntityId, slot: &mut Slot, due: Option<Timestamp>) {
        if slot.due == due {
            return;
        }
        let mut timers = self.timers.lock();
        if let Some(before) = slot.due.take() {
            timers.remove(&(before, id.clone()));
        }
        if let Some(due) = due {
            timers.insert((due, id.clone()));
            if timers.first().is_some_and(|(first, _)| *first == due) {
                self.wake.notify_one();
            }
        }
        slot.due = due;
    }

    /// Has a queue looked at again at this time and not before, whatever it holds.
    pub(super) fn look_again(&self, id: &EntityId, at: Timestamp) {
        if let Some(slot) = self.slots.write().get_mut(id) {
            self.set_timer(id, slot, Some(at));
        }
    }

    /// The devices whose time has come, and when the next one's does.
    pub(super) fn due(&self, now: Timestamp) -> (Vec<EntityId>, Option<Timestamp>) {
        let mut slots = self.slots.write();
        let mut timers = self.timers.lock();
        let mut due = Vec::new();
        while let Some((at, _)) = timers.first() {
            if *at > now {
                return (due, Some(*at));
            }
            let Some((_, id)) = timers.pop_first() else { break };
            if let Some(slot) = slots.get_mut(&id) {
                slot.due = None;
            }
            due.push(id);
        }
        (due, None)
    }

    /// Asks for a round; whether it is the caller who has to start it.
    pub(super) fn schedule(&self, id: &EntityId) -> bool {
        if self.total() == 0 {
            return false;
        }
        let mut slots = self.slots.write();
        slots.get_mut(id).is_some_and(|slot| !std::mem::replace(&mut slot.scheduled, true))
    }

    /// Notes what a holder said of a message, for the next round.
    pub(super) fn confirm(&self, id: &EntityId, said: Confirmed) {
        if let Some(slot) = self.slots.write().get_mut(id) {
            if slot.confirmed.len() < CONFIRMED {
                slot.confirmed.push(said);
            }
        }
    }

    /// A round begins. Who asks from now on asks for another.
    pub(super) fn begin_round(&self, id: &EntityId, _turn: &Turn) {
        if let Some(slot) = self.slots.write().get_mut(id) {
            slot.scheduled = false;
        }
    }

    /// What was confirmed and not settled yet.
    pub(super) fn take_confirmed(&self, id: &EntityId, _turn: &Turn) -> Vec<Confirmed> {
        let mut slots = self.slots.write();
        slots.get_mut(id).map_or_else(Vec::new, |slot| std::mem::take(&mut slot.confirmed))
    }

    /// What was confirmed could not be settled: it counts the next time.
    pub(super) fn put_back(&self, id: &EntityId, mut confirmed: Vec<Confirmed>) {
        if let Some(slot) = self.slots.write().get_mut(id) {
            confirmed.append(&mut slot.confirmed);
            slot.confirmed = confirmed;
        }
    }

    /// A round ends.
    pub(super) fn end_round(&self, id: &EntityId, _turn: &Turn) {
        let mut slots = self.slots.write();
        self.tidy(&mut slots, id);
    }
}
