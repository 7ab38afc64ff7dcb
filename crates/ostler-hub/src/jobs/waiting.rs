//! Devices that jobs wait for: those that were not connected when their turn came.
//!
//! One entry a device, no task and no timer. When a device subscribes to methods, its entry goes and the
//! jobs hear of it.
//!
//! Invariant: it holds at most [`WAITING_DEVICES`] devices, and [`WAITS`] waits of a job for a device; a job that
//! finds it full looks at its stored devices again from time to time.

use super::table::Live;
use ostler_core::id::EntityId;
use parking_lot::Mutex;
use std::collections::hash_map::Entry;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// Devices that jobs wait for.
const WAITING_DEVICES: usize = 4_000_000;
/// Waits of one job for one device, of all jobs and devices.
const WAITS: usize = 16_000_000;
/// Jobs that wait for one device.
const JOBS_PER_DEVICE: usize = 1000;

/// See the module documentation.
#[derive(Default)]
pub(super) struct Waiting {
    all: Mutex<All>,
    /// As many as there are devices; lets the many arrivals that nobody waits for pass without the lock.
    count: AtomicUsize,
}

#[derive(Default)]
struct All {
    jobs: HashMap<EntityId, Vec<Arc<Live>>, foldhash::fast::RandomState>,
    waits: usize,
}

impl All {
    fn insert(&mut self, id: &EntityId, job: &Arc<Live>, most_waits: usize) -> bool {
        let (devices, has_room) = (self.jobs.len(), self.waits < most_waits);
        let inserted = match self.jobs.entry(id.clone()) {
            Entry::Occupied(jobs) if jobs.get().iter().any(|other| Arc::ptr_eq(other, job)) => return true,
            Entry::Vacant(vacant) if has_room && devices < WAITING_DEVICES => {
                vacant.insert(vec![job.clone()]);
                true
            }
            Entry::Occupied(mut jobs) if has_room && jobs.get().len() < JOBS_PER_DEVICE => {
                jobs.get_mut().push(job.clone());
                true
            }
            _ => false,
        };
        self.waits += usize::from(inserted);
        inserted
    }

    fn remove(&mut self, id: &EntityId, job: &Arc<Live>) -> bool {
        let Some(jobs) = self.jobs.get_mut(id) else { return false };
        let before = jobs.len();
        jobs.retain(|other| !Arc::ptr_eq(other, job));
        let removed = before - jobs.len();
        if jobs.is_empty() {
            self.jobs.remove(id);
        }
        self.waits -= removed;
        removed > 0
    }

    fn take(&mut self, id: &EntityId) -> Vec<Arc<Live>> {
        let jobs = self.jobs.remove(id).unwrap_or_default();
        self.waits -= jobs.len();
        jobs
    }
}

impl Waiting {
    /// Waits for a device; `false` when there is no room.
    pub(super) fn insert(&self, id: &EntityId, job: &Arc<Live>) -> bool {
        let mut all = self.all.lock();
        let inserted = all.insert(id, job, WAITS);
        self.count.store(all.jobs.len(), Ordering::SeqCst);
        inserted
    }

    /// Waits no longer; `false` when the job did not wait, or was told of the arrival.
    pub(super) fn remove(&self, id: &EntityId, job: &Arc<Live>) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let mut all = self.all.lock();
        let removed = all.remove(id, job);
        self.count.store(all.jobs.len(), Ordering::SeqCst);
        removed
    }

    /// Whether a job waits for a device.
    pub(super) fn contains(&self, id: &EntityId, job: &Arc<Live>) -> bool {
        self.all.lock().jobs.get(id).is_some_and(|jobs| jobs.iter().any(|other| Arc::ptr_eq(other, job)))
    }

    /// Tells the jobs that a device takes method calls now.
    pub(super) fn arrived(&self, id: &EntityId) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let jobs = {
            let mut all = self.all.lock();
            let jobs = all.take(id);
            self.count.store(all.jobs.len(), Ordering::SeqCst);
            jobs
        };
        for job in jobs {
            job.arrived(id.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_by_jobs_and_devices_together() {
        let ids: Vec<EntityId> = ["a", "b"].iter().map(|id| EntityId::parse(id).unwrap()).collect();
        let jobs: Vec<Arc<Live>> = (0..3).map(|_| Arc::default()).collect();
        let mut all = All::default();
        assert!(all.insert(&ids[0], &jobs[0], 3));
        assert!(all.insert(&ids[0], &jobs[1], 3) && all.insert(&ids[1], &jobs[0], 3));
        // Who waits already may go on; nobody else fits.
        assert!(all.insert(&ids[0], &jobs[1], 3) && !all.insert(&ids[0], &jobs[2], 3));
        assert!(!all.insert(&ids[1], &jobs[1], 3));
        assert!(!all.remove(&ids[1], &jobs[1]) && all.remove(&ids[1], &jobs[0]));
        assert!(all.insert(&ids[1], &jobs[2], 3));
        assert_eq!((all.take(&ids[0]).len(), all.take(&ids[0]).len(), all.waits), (2, 0, 1));
    }
}
