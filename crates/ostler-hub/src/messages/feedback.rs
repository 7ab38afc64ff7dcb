//! The queue of outcomes: what senders asked to hear, until a back end has taken it (device §3.6, service §12.3).
//!
//! Outcomes are few and small, so all of them are in memory beside their durable copies. Locks are in memory only: a
//! hub that starts again hands out again what nobody completed.
//!
//! Must not know: how an outcome is spelled.
//!
//! Invariant: an outcome is in at most one batch that is locked.

use super::document::{feedback_key, parse_feedback_key, read_feedback, FeedbackRecord};
use ostler_core::limits::{
    FEEDBACK_BATCH, FEEDBACK_DELIVERIES, FEEDBACK_LOCK_SECS, FEEDBACK_RECORDS, FEEDBACK_TTL_SECS,
};
use ostler_core::time::Timestamp;
use ostler_store::{Change, Shelf, Store, StoreError};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

/// Documents read at once.
const PAGE: usize = 1000;

/// Names a batch that is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FeedbackLock(pub u128);

/// Outcomes that one receiver holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedbackBatch {
    /// Names it.
    pub lock: FeedbackLock,
    /// Oldest first.
    pub records: Vec<FeedbackRecord>,
}

struct Waiting {
    record: FeedbackRecord,
    deliveries: u32,
    lock: Option<FeedbackLock>,
}

struct Batch {
    until: Timestamp,
    sequences: Vec<u64>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<u64, Waiting>,
    locks: HashMap<FeedbackLock, Batch>,
}

/// See the module documentation.
#[derive(Default)]
pub(super) struct FeedbackQueue {
    state: Mutex<State>,
    next: AtomicU64,
}

impl State {
    /// Lets go of what a batch held.
    fn release(&mut self, batch: &Batch, deliveries: u32) {
        for sequence in &batch.sequences {
            if let Some(waiting) = self.records.get_mut(sequence) {
                waiting.lock = None;
                waiting.deliveries += deliveries;
            }
        }
    }

    /// Ends the locks whose time is over.
    fn lapse(&mut self, now: Timestamp) {
        let over: Vec<FeedbackLock> =
            self.locks.iter().filter(|(_, batch)| batch.until <= now).map(|(lock, _)| *lock).collect();
        for lock in over {
            if let Some(batch) = self.locks.remove(&lock) {
                self.release(&batch, 1);
            }
        }
    }
}

impl FeedbackQueue {
    pub(super) async fn load(store: &dyn Store) -> Result<FeedbackQueue, StoreError> {
        let queue = FeedbackQueue::default();
        let mut after: Option<Box<str>> = None;
        loop {
            let page = store.documents(Shelf::Feedback, "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(queue) };
            after = Some(last.clone());
            for (key, document) in page {
                let read = parse_feedback_key(&key)
                    .and_then(|sequence| Ok((sequence, read_feedback(&document.value)?)));
                match read {
                    Ok((sequence, record)) => {
                        queue.next.fetch_max(sequence + 1, Ordering::Relaxed);
                        queue.publish(vec![(sequence, record)]);
                    }
                    Err(damage) => {
                        tracing::error!(key = &*key, reason = damage.0, "stored feedback cannot be read")
                    }
                }
            }
        }
    }

    /// How many outcomes wait.
    pub(super) fn len(&self) -> usize {
        self.state.lock().records.len()
    }

    /// Whether there is room for this many more.
    pub(super) fn has_room(&self, count: usize) -> bool {
        self.len() + count <= FEEDBACK_RECORDS
    }

    /// A place for an outcome that is about to be durable.
    pub(super) fn sequence(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes outcomes that are durable.
    pub(super) fn publish(&self, records: Vec<(u64, FeedbackRecord)>) {
        let mut state = self.state.lock();
        for (sequence, record) in records {
            state.records.insert(sequence, Waiting { record, deliveries: 0, lock: None });
        }
    }

    /// The oldest outcomes that nobody holds, held under this lock from now on.
    pub(super) fn take(&self, lock: FeedbackLock, now: Timestamp) -> Option<FeedbackBatch> {
        let mut state = self.state.lock();
        state.lapse(now);
        let (mut sequences, mut records) = (Vec::new(), Vec::new());
        let free =
            state.records.iter_mut().filter(|(_, waiting)| waiting.lock.is_none() && !is_over(waiting, now));
        for (sequence, waiting) in free.take(FEEDBACK_BATCH) {
            waiting.lock = Some(lock);
            sequences.push(*sequence);
            records.push(waiting.record.clone());
        }
        if records.is_empty() {
            return None;
        }
        state.locks.insert(lock, Batch { until: now.plus_secs(FEEDBACK_LOCK_SECS), sequences });
        Some(FeedbackBatch { lock, records })
    }

    /// Gives a batch back; `false` when nobody holds it.
    pub(super) fn abandon(&self, lock: FeedbackLock, now: Timestamp) -> bool {
        let mut state = self.state.lock();
        state.lapse(now);
        let batch = state.locks.remove(&lock);
        if let Some(batch) = &batch {
            state.release(batch, 1);
        }
        batch.is_some()
    }

    /// What a batch holds, which stays held until [`FeedbackQueue::forget`] or [`FeedbackQueue::give_back`].
    pub(super) fn complete(&self, lock: FeedbackLock, now: Timestamp) -> Option<Vec<u64>> {
        let mut state = self.state.lock();
        state.lapse(now);
        Some(state.locks.remove(&lock)?.sequences)
    }

    /// What was completed could not be deleted: it is handed out again.
    pub(super) fn give_back(&self, sequences: Vec<u64>) {
        let batch = Batch { until: Timestamp::NEVER, sequences };
        self.state.lock().release(&batch, 0);
    }

    /// Outcomes whose durable copies are gone.
    pub(super) fn forget(&self, sequences: &[u64]) {
        let mut state = self.state.lock();
        for sequence in sequences {
            state.records.remove(sequence);
        }
    }

    /// Outcomes that nobody read in time or that were handed out too often, held so that nobody takes them; at most
    /// a thousand. And when to look again.
    pub(super) fn over(&self, now: Timestamp) -> (Vec<u64>, Option<Timestamp>) {
        let mut state = self.state.lock();
        state.lapse(now);
        let mut over = Vec::new();
        // Those that were handed out too often are found as they come of age: they are not handed out any more.
        for (sequence, waiting) in &mut state.records {
            if waiting.record.at.plus_secs(FEEDBACK_TTL_SECS) > now || over.len() == PAGE {
                break;
            }
            if waiting.lock.is_none() {
                waiting.lock = Some(FeedbackLock(0));
                over.push(*sequence);
            }
        }
        let oldest = state.records.values().find(|waiting| waiting.lock.is_none());
        let next = oldest.map(|waiting| waiting.record.at.plus_secs(FEEDBACK_TTL_SECS));
        (over, next.into_iter().chain(state.locks.values().map(|batch| batch.until)).min())
    }
}

fn is_over(waiting: &Waiting, now: Timestamp) -> bool {
    waiting.deliveries >= FEEDBACK_DELIVERIES || waiting.record.at.plus_secs(FEEDBACK_TTL_SECS) <= now
}

/// The change that deletes outcomes.
pub(super) fn deletion(sequences: &[u64]) -> Change {
    let delete =
        |sequence: &u64| Change::DeleteDocument { shelf: Shelf::Feedback, key: feedback_key(*sequence) };
    Change::Together(sequences.iter().map(delete).collect())
}
