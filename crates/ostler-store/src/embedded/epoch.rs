//! Points in time: a batch becomes visible in one step, and a snapshot stands between two batches.
//!
//! ```text
//!   writer:    publish ──> change shards, keeping what they held ──> done: batch 8 is visible
//!   snapshot:  open at 7 ..... looks at every shard as it was after 7 ..... close
//! ```
//!
//! Publishing a batch holds one lock; opening a snapshot takes the same lock for a moment, so it never
//! stands within a batch. While no snapshot is open nothing is kept. What is kept is bounded: beyond
//! the bound the next batch waits until the snapshots that need it are closed. Those that take too long
//! are called in: whoever looks at one gives up.
//!
//! Must not know: what a batch changes, or what is looked at.
//!
//! Invariant: while a snapshot is open, what it may see is kept.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counts the batches published since the store was opened.
pub(crate) type Epoch = u64;

/// What a change must keep, if anything: the batch that is being published, the newest open snapshot,
/// and a sum that grows by the bytes kept.
pub(crate) type Keeping<'a> = Option<(Epoch, Epoch, &'a mut u64)>;

/// See the module documentation.
pub(crate) struct Epochs {
    state: Mutex<State>,
    closed: Condvar,
    /// How long a batch waits before it calls snapshots in.
    patience: Duration,
    /// Snapshots before this batch are called in.
    called_in: AtomicU64,
}

struct State {
    published: Epoch,
    /// Open snapshots and how often each is open.
    open: BTreeMap<Epoch, usize>,
    kept_bytes: u64,
    most_bytes: u64,
}

/// A batch that is becoming visible.
pub(crate) struct Publishing<'a> {
    state: MutexGuard<'a, State>,
}

impl Epochs {
    /// `most_bytes` are kept for snapshots before the writer waits, and so long before it calls them in.
    pub(crate) fn new(most_bytes: u64, patience: Duration) -> Epochs {
        let state = State { published: 0, open: BTreeMap::new(), kept_bytes: 0, most_bytes };
        Epochs { state: Mutex::new(state), closed: Condvar::new(), patience, called_in: AtomicU64::new(0) }
    }

    /// Begins the next batch.
    pub(crate) fn publish(&self) -> Publishing<'_> {
        let mut state = self.state.lock();
        let mut until = None;
        while state.kept_bytes > state.most_bytes && !state.open.is_empty() {
            if self.called_in.load(Ordering::Relaxed) == state.published {
                self.closed.wait(&mut state);
                continue;
            }
            let until = *until.get_or_insert_with(|| Instant::now() + self.patience);
            if self.closed.wait_until(&mut state, until).timed_out() {
                self.called_in.store(state.published, Ordering::Relaxed);
            }
        }
        Publishing { state }
    }

    /// Whether a snapshot must be closed soon, because a batch has waited for it long enough.
    pub(crate) fn is_called_in(&self, at: Epoch) -> bool {
        at < self.called_in.load(Ordering::Relaxed)
    }

    /// Opens a snapshot after the last batch.
    pub(crate) fn open(&self) -> Epoch {
        let mut state = self.state.lock();
        let at = state.published;
        *state.open.entry(at).or_default() += 1;
        at
    }

    /// Closes a snapshot. If some versions are of no use any more: those replaced by this batch or an
    /// earlier one.
    pub(crate) fn close(&self, at: Epoch) -> Option<Epoch> {
        let mut state = self.state.lock();
        let oldest = state.open.first_key_value().map(|(oldest, _)| *oldest);
        if let Some(count) = state.open.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                state.open.remove(&at);
            }
        }
        self.closed.notify_all();
        let now_oldest = state.open.first_key_value().map(|(oldest, _)| *oldest);
        let changed = now_oldest != oldest && state.kept_bytes > 0;
        changed.then(|| now_oldest.unwrap_or(state.published))
    }

    /// These bytes are not kept any more.
    pub(crate) fn forgot(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.kept_bytes = state.kept_bytes.saturating_sub(bytes);
        self.closed.notify_all();
    }

    /// Bytes kept for snapshots.
    #[cfg(test)]
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.state.lock().kept_bytes
    }
}

impl Publishing<'_> {
    /// What a change in this batch must keep; `sum` goes to [`Publishing::kept`].
    pub(crate) fn keeping<'s>(&self, sum: &'s mut u64) -> Keeping<'s> {
        let newest = *self.state.open.last_key_value()?.0;
        Some((self.state.published + 1, newest, sum))
    }

    /// Notes what a change kept.
    pub(crate) fn kept(&mut self, bytes: u64) {
        self.state.kept_bytes += bytes;
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.state.published += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_snapshot_that_a_batch_waits_for_too_long_is_called_in() {
        let epochs = Epochs::new(100, Duration::ZERO);
        let old = epochs.open();
        epochs.publish().kept(101);
        let new = epochs.open();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(epochs.publish()));
            while !epochs.is_called_in(old) {
                std::thread::yield_now();
            }
            assert!(!epochs.is_called_in(new), "nothing is kept for it");
            epochs.close(old);
            epochs.forgot(101);
            waiting.join().unwrap();
        });
    }

    #[test]
    fn a_snapshot_stands_between_batches_and_its_oldest_versions_go_with_it() {
        let epochs = Epochs::new(100, Duration::from_secs(3600));
        assert_eq!(epochs.publish().keeping(&mut 0).map(|(batch, ..)| batch), None);
        let first = epochs.open();
        let mut kept = 0;
        let mut batch = epochs.publish();
        let keeping = batch.keeping(&mut kept).map(|(batch, newest, _)| (batch, newest));
        assert_eq!(keeping, Some((first + 1, first)));
        batch.kept(10);
        drop(batch);
        let second = epochs.open();
        assert_eq!((second, epochs.open()), (first + 1, second));
        assert_eq!(epochs.close(second), None, "it is open once more");
        assert_eq!(epochs.close(first), Some(second));
        epochs.forgot(10);
        assert_eq!((epochs.close(second), epochs.kept_bytes()), (None, 0));
    }

    #[test]
    fn the_writer_waits_when_too_much_is_kept() {
        let epochs = Epochs::new(100, Duration::from_secs(3600));
        let at = epochs.open();
        epochs.publish().kept(101);
        let closing = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let _batch = epochs.publish();
                assert!(closing.load(Ordering::SeqCst), "the next batch waits for the snapshot");
            });
            closing.store(true, Ordering::SeqCst);
            assert!(epochs.close(at).is_some());
            waiting.join().unwrap();
        });
    }
}
