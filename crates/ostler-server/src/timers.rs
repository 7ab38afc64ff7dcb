//! Deadlines for very many connections, a tenth of a second coarse.
//!
//! A connection has one alarm for whatever is due next. Setting it later than before costs
//! nothing: the old one fires, the owner looks at its real deadline and sets it anew. So a packet
//! that postpones a keep-alive touches no shared state at all.
//!
//! It must not know what a deadline is for.
//!
//! Invariant: an alarm never fires early; it fires at most two ticks late on an idle machine.
//! Invariant: an alarm that is dropped leaves nothing behind but a stale key in one slot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};

/// Length of a tick.
pub const TICK: Duration = Duration::from_millis(100);
/// Slots of the wheel; deadlines further away than one turn stay for another.
const SLOTS: usize = 4096;

/// A point in time, in ticks since the timers were started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// Further away than any deadline.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// The first tick that is at least `wait` after this one.
    pub fn after(self, wait: Duration) -> Tick {
        let ticks = wait.as_nanos().div_ceil(TICK.as_nanos());
        // One more: this tick may already be nearly over.
        Tick(self.0.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX)).saturating_add(1))
    }

    /// The tick after this one.
    pub fn next(self) -> Tick {
        Tick(self.0.saturating_add(1))
    }

    /// The first tick that is not before this many milliseconds.
    pub fn from_millis(millis: u64) -> Tick {
        Tick(millis.div_ceil(100))
    }

    /// Whole milliseconds since the timers were started, as coarse as the tick.
    pub fn as_millis(self) -> u64 {
        self.0.saturating_mul(100)
    }
}

/// The wheel that all connections share.
pub struct Timers {
    now: AtomicU64,
    wheel: Mutex<Wheel>,
}

struct Wheel {
    slots: Vec<Vec<Key>>,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    index: u32,
    generation: u32,
}

struct Entry {
    generation: u32,
    due: u64,
    waker: Option<Waker>,
}

impl Timers {
    /// Starts ticking on the current runtime; stops when the last handle is dropped.
    pub fn start() -> Arc<Self> {
        let wheel = Wheel { slots: vec![Vec::new(); SLOTS], entries: Vec::new(), free: Vec::new() };
        let timers = Arc::new(Self { now: AtomicU64::new(0), wheel: Mutex::new(wheel) });
        tokio::spawn(tick(Arc::downgrade(&timers)));
        timers
    }

    /// The current tick: one relaxed load.
    pub fn now(&self) -> Tick {
        Tick(self.now.load(Ordering::Relaxed))
    }

    /// Moves on to `now` and wakes what is due.
    fn advance(&self, now: u64, due: &mut Vec<Waker>) {
        let from = self.now.load(Ordering::Relaxed);
        self.now.store(now, Ordering::Relaxed);
        {
            let mut wheel = self.wheel.lock();
            // After a long stop of the process one whole turn sees every slot.
            for tick in (from + 1..=now).rev().take(SLOTS) {
                wheel.take_due(tick as usize % SLOTS, now, due);
            }
        }
        due.drain(..).for_each(Waker::wake);
    }
}

async fn tick(timers: Weak<Timers>) {
    let start = Instant::now();
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due = Vec::new();
    loop {
        interval.tick().await;
        let Some(timers) = timers.upgrade() else { return };
        let now = start.elapsed().as_millis() / TICK.as_millis();
        timers.advance(u64::try_from(now).unwrap_or(u64::MAX), &mut due);
    }
}

impl Wheel {
    fn take_due(&mut self, slot: usize, now: u64, due: &mut Vec<Waker>) {
        let mut keys = std::mem::take(&mut self.slots[slot]);
        keys.retain(|key| {
            let entry = &mut self.entries[key.index as usize];
            if entry.generation != key.generation {
                return false;
            }
            if entry.due > now {
                return true;
            }
            due.extend(entry.waker.take());
            // Fired: the key in the slot is gone, so its number must not match again.
            entry.generation = entry.generation.wrapping_add(1);
            self.free.push(key.index);
            false
        });
        if keys.is_empty() && keys.capacity() > 64 {
            keys = Vec::new();
        }
        self.slots[slot] = keys;
    }

    fn insert(&mut self, due: u64, waker: Waker) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, due: 0, waker: None });
            u32::try_from(self.entries.len() - 1).expect("connections are bounded far below 2^32")
        });
        let entry = &mut self.entries[index as usize];
        (entry.due, entry.waker) = (due, Some(waker));
        let key = Key { index, generation: entry.generation };
        self.slots[due as usize % SLOTS].push(key);
        key
    }

    fn remove(&mut self, key: Key) {
        let entry = &mut self.entries[key.index as usize];
        if entry.generation == key.generation {
            entry.generation = entry.generation.wrapping_add(1);
            entry.waker = None;
            self.free.push(key.index);
        }
    }
}

/// One connection's alarm.
pub struct Alarm {
    timers: Arc<Timers>,
    due: Tick,
    key: Key,
}

impl Alarm {
    /// Not set.
    pub fn new(timers: Arc<Timers>) -> Self {
        Self { timers, due: Tick::NEVER, key: Key { index: 0, generation: 0 } }
    }

    /// The current tick.
    pub fn now(&self) -> Tick {
        self.timers.now()
    }

    /// Makes sure that `waker` is woken once `due` is reached. It may be woken earlier, for a
    /// deadline that was set before; the owner then calls this again.
    pub fn wake_at(&mut self, due: Tick, waker: &Waker) {
        let still_set = self.due != Tick::NEVER && self.due > self.timers.now();
        if due == Tick::NEVER || (still_set && self.due <= due) {
            return;
        }
        let mut wheel = self.timers.wheel.lock();
        if self.due != Tick::NEVER {
            wheel.remove(self.key);
        }
        // A slot that is being swept or was swept would wait for a whole turn.
        let due = due.max(Tick(self.timers.now().0 + 1));
        self.key = wheel.insert(due.0, waker.clone());
        self.due = due;
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.due != Tick::NEVER {
            self.timers.wheel.lock().remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    async fn sleep(alarm: &mut Alarm, wait: Duration) {
        let due = alarm.now().after(wait);
        poll_fn(|cx| {
            if alarm.now() >= due {
                return Poll::Ready(());
            }
            alarm.wake_at(due, cx.waker());
            Poll::Pending
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn fires_after_the_wait_and_not_much_later() {
        let timers = Timers::start();
        let mut alarm = Alarm::new(timers);
        for wait in [0, 1, 100, 950, 60_000, 1_767_000].map(Duration::from_millis) {
            let start = Instant::now();
            sleep(&mut alarm, wait).await;
            let took = start.elapsed();
            assert!(took >= wait && took <= wait + 3 * TICK, "{wait:?} took {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_postponed_deadline_fires_once_early_and_then_in_time() {
        let timers = Timers::start();
        let mut alarm = Alarm::new(timers);
        let start = Instant::now();
        let early = alarm.now().after(Duration::from_secs(1));
        poll_fn(|cx| {
            alarm.wake_at(early, cx.waker());
            Poll::Ready(())
        })
        .await;
        sleep(&mut alarm, Duration::from_secs(5)).await;
        assert!(start.elapsed() >= Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_alarms_are_reused() {
        let timers = Timers::start();
        for _ in 0..10_000 {
            let mut alarm = Alarm::new(timers.clone());
            poll_fn(|cx| {
                alarm.wake_at(alarm.now().after(Duration::from_secs(90)), cx.waker());
                Poll::Ready(())
            })
            .await;
        }
        assert_eq!(timers.wheel.lock().entries.len(), 1);
    }
}
