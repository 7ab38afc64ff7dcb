//! Which columns there are: built when a path is asked for again, dropped when nobody asks any more or
//! when memory is short.
//!
//! Must not know: what a column holds, or how it is built.
//!
//! Invariant: all columns together take no more than the bound, save what writers add between two
//! queries.
//! Invariant: a number names one column for ever; one that was dropped and built again has another.

use foldhash::fast::RandomState;
use ostler_core::query::Column;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Paths that are remembered, with or without a column.
const MOST_PATHS: usize = 256;

/// When columns are built and dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    /// Bytes of all columns.
    pub(crate) most_bytes: u64,
    /// A path gets its column when this many scans have asked for it.
    pub(crate) after_scans: u32,
    /// Up to so many different values are kept as codes although they are numbers.
    pub(crate) few_values: usize,
    /// Without a query for this long, a column goes.
    pub(crate) idle: Duration,
}

/// See the module documentation.
pub(crate) struct Registry {
    tuning: Tuning,
    paths: Mutex<Paths>,
}

#[derive(Default)]
struct Paths {
    entries: Vec<Entry>,
    last_number: u32,
}

struct Entry {
    modules: bool,
    column: Column,
    scans: u32,
    used: Instant,
    tracked: Option<Arc<Tracked>>,
    /// It was found to need more memory than there is; asked again when this much time has passed.
    too_large: bool,
}

/// A column that is wanted, wholly built or not.
pub(crate) struct Tracked {
    pub(crate) number: u32,
    pub(crate) modules: bool,
    pub(crate) column: Column,
    pub(crate) hasher: RandomState,
    bytes: AtomicUsize,
    dropped: AtomicBool,
}

impl Tracked {
    /// It takes more memory now.
    pub(crate) fn grew(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It takes less memory now.
    pub(crate) fn shrank(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// It must not be built any more.
    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed) as u64
    }
}

impl Registry {
    pub(crate) fn new(tuning: Tuning) -> Registry {
        Registry { tuning, paths: Mutex::default() }
    }

    /// The columns that a query may use, and from then on is using.
    pub(crate) fn ask(&self, modules: bool, columns: &[&Column], now: Instant) -> Vec<Arc<Tracked>> {
        let mut paths = self.paths.lock();
        let mut found = Vec::new();
        for entry in paths.entries.iter_mut().filter(|entry| entry.modules == modules) {
            if columns.contains(&&entry.column) {
                entry.used = now;
                found.extend(entry.tracked.clone());
            }
        }
        found
    }

    /// Notes a scan that would be faster with these columns; gives those that shall be built or are.
    pub(crate) fn scanning(&self, modules: bool, columns: &[&Column], now: Instant) -> Vec<Arc<Tracked>> {
        if self.tuning.most_bytes == 0 {
            return Vec::new();
        }
        let mut paths = self.paths.lock();
        let Paths { entries, last_number } = &mut *paths;
        let mut wanted = Vec::new();
        for column in columns {
            let known = entries.iter().position(|entry| entry.modules == modules && entry.column == **column);
            let place = match known {
                Some(place) => place,
                None if entries.len() >= MOST_PATHS && !forget_one(entries) => continue,
                None => {
                    entries.push(Entry::new(modules, (*column).clone(), now));
                    entries.len() - 1
                }
            };
            let entry = &mut entries[place];
            entry.scans = entry.scans.saturating_add(1);
            entry.used = now;
            if entry.tracked.is_none() && entry.scans >= self.tuning.after_scans && !entry.too_large {
                *last_number += 1;
                entry.tracked = Some(Arc::new(Tracked::new(*last_number, modules, entry.column.clone())));
            }
            wanted.extend(entry.tracked.clone());
        }
        wanted
    }

    /// Up to so many different numbers are kept as codes.
    pub(crate) fn few_values(&self) -> usize {
        self.tuning.few_values
    }

    /// Whether a column may grow by this much.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.bytes() + bytes as u64 <= self.tuning.most_bytes
    }

    /// Bytes of all columns.
    pub(crate) fn bytes(&self) -> u64 {
        let paths = self.paths.lock();
        paths.entries.iter().filter_map(|entry| entry.tracked.as_ref()).map(|it| it.bytes()).sum()
    }

    /// The least recently used column that is not among `needed`, to be dropped for want of room; or
    /// else `wanting` itself, which is not built again before it was idle.
    pub(crate) fn give_up(&self, wanting: &Arc<Tracked>, needed: &[Arc<Tracked>]) -> Option<Arc<Tracked>> {
        let mut paths = self.paths.lock();
        let is_needed = |it: &Arc<Tracked>| needed.iter().any(|other| other.number == it.number);
        let others = paths.entries.iter_mut().filter(|entry| {
            entry.tracked.as_ref().is_some_and(|it| !is_needed(it) && it.number != wanting.number)
        });
        if let Some(oldest) = others.min_by_key(|entry| entry.used) {
            return Registry::take(oldest);
        }
        let same = |entry: &&mut Entry| entry.tracked.as_ref().is_some_and(|it| it.number == wanting.number);
        let entry = paths.entries.iter_mut().find(same)?;
        entry.too_large = true;
        tracing::debug!(path = %wanting.column, "a column of this path would take too much memory");
        Registry::take(entry)
    }

    /// The columns to drop: idle ones, and the least recently used while there are too many bytes.
    pub(crate) fn tidy(&self, now: Instant) -> Vec<Arc<Tracked>> {
        let mut paths = self.paths.lock();
        let mut dropped = Vec::new();
        let is_idle = |entry: &Entry| now.saturating_duration_since(entry.used) >= self.tuning.idle;
        for entry in paths.entries.iter_mut().filter(|entry| is_idle(entry)) {
            dropped.extend(Registry::take(entry));
        }
        paths.entries.retain(|entry| !is_idle(entry));
        loop {
            let bytes: u64 =
                paths.entries.iter().filter_map(|entry| entry.tracked.as_ref()).map(|it| it.bytes()).sum();
            if bytes <= self.tuning.most_bytes {
                return dropped;
            }
            let built = paths.entries.iter_mut().filter(|entry| entry.tracked.is_some());
            let Some(oldest) = built.min_by_key(|entry| entry.used) else { return dropped };
            dropped.extend(Registry::take(oldest));
        }
    }

    fn take(entry: &mut Entry) -> Option<Arc<Tracked>> {
        let tracked = entry.tracked.take()?;
        entry.scans = 0;
        tracked.dropped.store(true, Ordering::Release);
        Some(tracked)
    }
}

impl Entry {
    fn new(modules: bool, column: Column, now: Instant) -> Entry {
        Entry { modules, column, scans: 0, used: now, tracked: None, too_large: false }
    }
}

impl Tracked {
    fn new(number: u32, modules: bool, column: Column) -> Tracked {
        let (bytes, dropped) = (AtomicUsize::new(0), AtomicBool::new(false));
        Tracked { number, modules, column, hasher: RandomState::default(), bytes, dropped }
    }
}

/// Makes room for one path, among those without a column; `false` if there is none.
fn forget_one(entries: &mut Vec<Entry>) -> bool {
    let numbered = entries.iter().enumerate().filter(|(_, entry)| entry.tracked.is_none());
    let oldest = numbered.min_by_key(|(_, entry)| entry.used).map(|(place, _)| place);
    if let Some(oldest) = oldest {
        entries.swap_remove(oldest);
    }
    oldest.is_some()
}
