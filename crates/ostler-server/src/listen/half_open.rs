//! The connections that have not signed in yet: counted, bounded per source and in all.
//!
//! A client that signs in needs a moment; one that only holds a connection open must not keep
//! others out. So a source may have only so many, and when all together are too many the oldest
//! make room, unless they are so young that they may well be honest: then accepting pauses and
//! the kernel's queue holds the storm (device §7).
//!
//! Invariant: every entry belongs to a live task and leaves with it.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// An honest client on a busy machine may take this long to sign in.
const GRACE: Duration = Duration::from_secs(5);

/// The table of half-open connections.
pub(crate) struct HalfOpen {
    max: usize,
    max_per_source: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// By age: numbers only grow.
    entries: BTreeMap<u64, Entry>,
    per_source: HashMap<IpAddr, usize>,
}

struct Entry {
    source: IpAddr,
    since: Instant,
    task: Option<AbortHandle>,
}

/// One half-open connection; it leaves when it has signed in or is dropped.
pub(crate) struct HalfOpenGuard {
    table: Arc<HalfOpen>,
    number: u64,
    left: AtomicBool,
}

/// Whether a new connection may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Yes.
    Yes,
    /// Not before an entry leaves, or the oldest is old enough to be evicted: then.
    NotBefore(Instant),
}

impl HalfOpen {
    pub(crate) fn new(max: usize, max_per_source: usize) -> Arc<Self> {
        Arc::new(Self { max, max_per_source, state: Mutex::default() })
    }

    /// Makes room for one more connection if that is fair, by evicting the oldest.
    pub(crate) fn make_room(&self, now: Instant) -> Room {
        let mut state = self.state.lock();
        if state.entries.len() < self.max || state.evict_stale(now) {
            return Room::Yes;
        }
        let oldest = state.entries.values().next().map_or(now, |entry| entry.since);
        Room::NotBefore(oldest + GRACE)
    }

    /// Evicts the oldest connection if it has had its time: permits or descriptors have run out.
    pub(crate) fn evict_stale(&self, now: Instant) {
        self.state.lock().evict_stale(now);
    }

    /// Closes every half-open connection.
    pub(crate) fn evict_all(&self) {
        let mut state = self.state.lock();
        while state.evict_oldest() {}
    }

    /// Enters a connection from this source; `None` if the source has too many already.
    pub(crate) fn enter(self: &Arc<Self>, source: IpAddr, now: Instant) -> Option<HalfOpenGuard> {
        let source = source_key(source);
        let mut state = self.state.lock();
        let count = state.per_source.entry(source).or_default();
        if *count >= self.max_per_source {
            return None;
        }
        *count += 1;
        let number = state.next;
        state.next += 1;
        state.entries.insert(number, Entry { source, since: now, task: None });
        Some(HalfOpenGuard { table: self.clone(), number, left: AtomicBool::new(false) })
    }

    /// Connections that have not signed in.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().entries.len()
    }
}

impl State {
    fn evict_stale(&mut self, now: Instant) -> bool {
        let stale = self.entries.values().next().is_some_and(|oldest| oldest.since + GRACE <= now);
        stale && self.evict_oldest()
    }

    /// Ends the oldest connection whose task is known; the others are known a moment later.
    fn evict_oldest(&mut self) -> bool {
        let Some(number) = self.entries.iter().find(|(_, e)| e.task.is_some()).map(|(number, _)| *number)
        else {
            return false;
        };
        if let Some(task) = self.leave(number).and_then(|entry| entry.task) {
            task.abort();
        }
        true
    }

    fn leave(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        if let Some(count) = self.per_source.get_mut(&entry.source) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&entry.source);
            }
        }
        Some(entry)
    }
}

impl HalfOpenGuard {
    /// Tells which task has the connection from here on and is to end if it must go; without effect
    /// once it has left.
    pub(crate) fn attach(&self, task: AbortHandle) {
        if let Some(entry) = self.table.state.lock().entries.get_mut(&self.number) {
            entry.task = Some(task);
        }
    }

    /// The same for its first task, unless that has passed it on already.
    pub(crate) fn attach_first(&self, task: AbortHandle) {
        if let Some(entry) = self.table.state.lock().entries.get_mut(&self.number) {
            entry.task.get_or_insert(task);
        }
    }

    /// The connection has signed in and no longer counts. May be called for every request of a
    /// connection: only the first does anything.
    pub(crate) fn leave(&self) {
        if self.left.swap(true, Ordering::Relaxed) {
            return;
        }
        // The entry is dropped outside the lock: its handle may be the last of its task.
        let entry = self.table.state.lock().leave(self.number);
        drop(entry);
    }
}

impl Drop for HalfOpenGuard {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What counts as one source: an IPv4 address, or the /64 network a single IPv6 host owns.
fn source_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn idle_task() -> tokio::task::JoinHandle<()> {
        tokio::spawn(std::future::pending())
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_has_its_share_and_no_more() {
        let table = HalfOpen::new(10, 2);
        let now = Instant::now();
        let first = table.enter(source(1), now);
        let _second = table.enter(source(1), now).unwrap();
        assert!(table.enter(source(1), now).is_none());
        let _other = table.enter(source(2), now).unwrap();
        first.unwrap().leave();
        assert!(table.enter(source(1), now).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_makes_room_once_it_has_had_its_time() {
        let table = HalfOpen::new(2, 2);
        let start = Instant::now();
        let (old, young) = (idle_task(), idle_task());
        let guards = [table.enter(source(1), start).unwrap(), table.enter(source(2), start).unwrap()];
        guards[0].attach(old.abort_handle());
        guards[1].attach(young.abort_handle());
        assert_eq!(table.make_room(start), Room::NotBefore(start + GRACE));
        assert_eq!(table.make_room(start + GRACE), Room::Yes);
        assert!(old.await.unwrap_err().is_cancelled());
        assert!(!young.is_finished());
        assert_eq!(table.len(), 1);
        drop(guards);
        assert_eq!(table.len(), 0);
        assert!(table.state.lock().per_source.is_empty());
    }

    #[test]
    fn one_ipv6_host_is_one_source() {
        let a: IpAddr = "2001:db8::1".parse().unwrap();
        let b: IpAddr = "2001:db8::ffff:2".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(source_key(a), source_key(b));
        assert_eq!(source_key(mapped), source(1));
    }
}
