//! The jobs that have not ended, and how wishes reach them.
//!
//! Invariant: a job that has not ended is in the table; one that has ended is not.
//!
//! Invariant: at most one task runs a job. A wish left with a job is answered by that task; leaving a wish
//! with a job that waits starts its task.
//!
//! Invariant: a job stands in the schedule only while it waits, and once.
//!
//! Invariant: locks are taken in the order table, job.

use super::waiting::Waiting;
use crate::bus::LocalBus;
use crate::error::Error;
use crate::events::Events;
use crate::hub::{Clock, Hub, Options};
use crate::stats::Stats;
use ostler_core::id::EntityId;
use ostler_core::job::{Job, JobId, JobStatus, JobView, Refused, Tally};
use ostler_core::limits::JOBS_ACTIVE;
use ostler_core::query::Dialect;
use ostler_core::time::{Timestamp, TICKS_PER_SEC};
use ostler_store::Store;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{oneshot, watch, Notify, Semaphore};

/// Method calls of all jobs under way.
const CALLS: usize = 16_384;
/// Batches of twin changes of all jobs under way.
const PATCHES: usize = 4;
/// Devices of first waves that all jobs together may keep in memory from fixing them to taking them up; other
/// jobs read theirs again.
const HANDED_OVER: usize = 1 << 20;
/// Jobs that fix their devices at the same time.
const EXPANSIONS: usize = 2;

/// What a back end wishes of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Cancel,
    Pause,
    Resume,
}

/// A wish, and where to answer it.
pub(super) struct Asked {
    pub(super) wish: Wish,
    pub(super) answer: oneshot::Sender<Result<JobView, Refused>>,
}

/// A job that has not ended, as everybody holds it.
#[derive(Default)]
pub(super) struct Live {
    state: Mutex<State>,
    progress: Mutex<Option<watch::Sender<JobView>>>,
    /// Wakes the job's task.
    pub(super) wake: Notify,
}

#[derive(Default)]
struct State {
    wishes: Vec<Asked>,
    /// The job as its task last knew it, while there is one.
    known: Option<(Arc<Job>, Tally)>,
    /// Devices that the job waited for and that are connected now.
    arrivals: Vec<EntityId>,
}

impl Live {
    /// Takes the wishes that were left.
    pub(super) fn take_wishes(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().wishes)
    }

    /// The job as its task knows it; nothing while it only waits.
    pub(super) fn view(&self, now: Timestamp) -> Option<JobView> {
        self.state.lock().known.as_ref().map(|(job, tally)| job.view(Some(tally), now))
    }

    /// Notes what the job's task knows.
    pub(super) fn note(&self, job: &Arc<Job>, tally: &Tally) {
        self.state.lock().known = Some((job.clone(), tally.clone()));
    }

    /// A device that the job waits for is connected.
    pub(super) fn arrived(&self, device: EntityId) {
        self.state.lock().arrivals.push(device);
        self.wake.notify_one();
    }

    /// Takes the devices that have connected.
    pub(super) fn take_arrivals(&self) -> Vec<EntityId> {
        std::mem::take(&mut self.state.lock().arrivals)
    }

    /// Whether anybody watches.
    pub(super) fn is_watched(&self) -> bool {
        self.progress.lock().as_ref().is_some_and(|progress| progress.receiver_count() > 0)
    }

    /// Shows a view to whoever watches.
    pub(super) fn show(&self, view: impl FnOnce() -> JobView) {
        if let Some(progress) = &*self.progress.lock() {
            progress.send_replace(view());
        }
    }

    /// Shows nothing more to whoever watches.
    fn close_progress(&self) {
        self.progress.lock().take();
    }

    /// Watches from now on; `view` is what the first watcher sees at first.
    pub(super) fn watch(&self, view: JobView) -> watch::Receiver<JobView> {
        self.progress.lock().get_or_insert_with(|| watch::Sender::new(view)).subscribe()
    }
}

/// What a job that has not ended is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Its document is not durable yet.
    Creating,
    /// Waits for its time, or is held; no task.
    Waiting,
    /// Its task is at work.
    Running,
}

struct Entry {
    doing: Doing,
    /// Its time, while it stands in the schedule.
    at: Option<Timestamp>,
    live: Arc<Live>,
}

impl Entry {
    fn new(live: Arc<Live>) -> Entry {
        Entry { doing: Doing::Creating, at: None, live }
    }
}

#[derive(Default)]
struct Table {
    jobs: HashMap<JobId, Entry>,
    /// Those that wait for their time.
    scheduled: BTreeSet<(Timestamp, JobId)>,
}

/// How far the hub is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Jobs run.
    Open,
    /// What has begun is let finish, nothing else begins.
    Draining,
    /// The hub is gone.
    Gone,
}

/// What all jobs of a hub share.
pub(crate) struct Shared {
    pub(super) hub: Weak<Hub>,
    pub(super) store: Arc<dyn Store>,
    pub(super) bus: Arc<LocalBus>,
    pub(super) events: Arc<Events>,
    pub(super) stats: Arc<Stats>,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) retention_days: u64,
    pub(super) dialect: Dialect,
    /// The devices that jobs wait for.
    pub(super) waiting: Waiting,
    /// Method calls that all jobs together may have under way. Permits are given in the order in which
    /// they were asked for, batch by batch, so every job gets its turn.
    pub(super) calls: Arc<Semaphore>,
    /// Batches of twin changes that all jobs together may have under way.
    pub(super) patches: Arc<Semaphore>,
    /// Devices that are in memory between being fixed and being taken up.
    pub(super) handed_over: Arc<Semaphore>,
    /// Jobs that may be fixing their devices.
    pub(super) expansions: Semaphore,
    /// Tasks of jobs.
    tasks: watch::Sender<usize>,
    clock: Clock,
    /// Wakes the scheduler.
    pub(super) wake: Notify,
    table: Mutex<Table>,
}

/// What follows when a job's task ends without the job having ended.
pub(super) enum Rest {
    /// It waits for this time.
    Until(Timestamp),
    /// It waits for a wish.
    Held,
}

impl Shared {
    /// The jobs of `hub`, none yet.
    pub(crate) fn new(
        hub: Weak<Hub>,
        store: &Arc<dyn Store>,
        bus: &Arc<LocalBus>,
        events: &Arc<Events>,
        stats: &Arc<Stats>,
        options: &Options,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            hub,
            store: store.clone(),
            bus: bus.clone(),
            events: events.clone(),
            stats: stats.clone(),
            phase: watch::Sender::new(Phase::Open),
            retention_days: options.job_retention_days,
            dialect: options.dialect,
            waiting: Waiting::default(),
            calls: Arc::new(Semaphore::new(CALLS)),
            patches: Arc::new(Semaphore::new(PATCHES)),
            handed_over: Arc::new(Semaphore::new(HANDED_OVER)),
            expansions: Semaphore::new(EXPANSIONS),
            tasks: watch::Sender::new(0),
            clock: options.clock.clone(),
            wake: Notify::new(),
            table: Mutex::default(),
        })
    }

    /// The time, from the hub's clock.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How long to wait for `at` before the clock is looked at again.
    pub(super) fn until(&self, at: Timestamp, now: Timestamp) -> Duration {
        let ticks = at.ticks().saturating_sub(now.ticks()).max(0);
        let (secs, rest) = (ticks / TICKS_PER_SEC, ticks % TICKS_PER_SEC);
        let wait = Duration::new(secs.unsigned_abs(), u32::try_from(rest * 100).unwrap_or(0));
        // A little more, so that the time has come when the timer ends.
        (wait + Duration::from_micros(100)).min(self.clock.look_again)
    }

    /// Takes a place for a new job.
    pub(super) fn reserve(&self, id: &JobId) -> Result<Arc<Live>, Error> {
        let mut table = self.table.lock();
        if table.jobs.contains_key(id) {
            return Err(Error::JobExists(id.to_string()));
        }
        if table.jobs.len() >= JOBS_ACTIVE {
            return Err(Error::TooManyJobs(JOBS_ACTIVE));
        }
        let live = Arc::new(Live::default());
        table.jobs.insert(id.clone(), Entry::new(live.clone()));
        Ok(live)
    }

    /// A job has ended, durably.
    pub(super) fn ended(&self, id: &JobId, view: JobView) {
        let entry = self.table.lock().jobs.remove(id);
        self.stats.jobs_ended.add(1);
        let Some(Entry { live, .. }) = entry else { return };
        for Asked { wish, answer } in live.take_wishes() {
            let _ = answer.send(match (wish, view.status) {
                (Wish::Cancel, JobStatus::Cancelled) => Ok(view.clone()),
                (_, status) => Err(Refused::Ended(status)),
            });
        }
        live.show(|| view);
        live.close_progress();
    }

    /// A job's task ends because the hub stops; nobody answers wishes any more.
    pub(super) fn abandon(&self, id: &JobId) {
        if let Some(entry) = self.table.lock().jobs.get(id) {
            drop(entry.live.take_wishes());
            entry.live.close_progress();
        }
    }

    /// Counts a task of a job while it is held.
    pub(super) fn task(self: &Arc<Self>) -> Task {
        self.tasks.send_modify(|count| *count += 1);
        Task(self.clone())
    }

    /// Gives a place back: the job was not made, or has ended.
    pub(super) fn remove(&self, id: &JobId) {
        self.table.lock().jobs.remove(id);
    }

    /// A stored job found at the start.
    pub(super) fn insert(&self, id: &JobId) {
        self.table.lock().jobs.insert(id.clone(), Entry::new(Arc::default()));
    }

    /// The job's task ends or its document has become durable. `false` when a wish has come meanwhile:
    /// then the task goes on, or is to be started.
    pub(super) fn rest(&self, id: &JobId, rest: &Rest) -> bool {
        let mut table = self.table.lock();
        let Some(entry) = table.jobs.get_mut(id) else { return true };
        let mut state = entry.live.state.lock();
        if !state.wishes.is_empty() {
            entry.doing = Doing::Running;
            return false;
        }
        state.known = None;
        drop(state);
        entry.doing = Doing::Waiting;
        if let Rest::Until(at) = rest {
            entry.at = Some(*at);
            table.scheduled.insert((*at, id.clone()));
            self.wake.notify_one();
        }
        true
    }

    /// The jobs whose time has come, now to be run; and when the next one comes.
    pub(super) fn due(&self, now: Timestamp) -> (Vec<JobId>, Option<Timestamp>) {
        let mut table = self.table.lock();
        let mut due = Vec::new();
        while let Some((at, _)) = table.scheduled.first() {
            if *at > now {
                return (due, Some(*at));
            }
            let Some((_, id)) = table.scheduled.pop_first() else { break };
            if let Some(entry) = table.jobs.get_mut(&id) {
                (entry.doing, entry.at) = (Doing::Running, None);
                due.push(id);
            }
        }
        (due, None)
    }

    /// The job, if it has not ended.
    pub(super) fn live(&self, id: &str) -> Option<Arc<Live>> {
        self.table.lock().jobs.get(id).map(|entry| entry.live.clone())
    }

    /// Calls `watch` with the job while it is certain that its end has not been shown yet.
    pub(super) fn with_live<T>(&self, id: &JobId, watch: impl FnOnce(&Live) -> T) -> Option<T> {
        self.table.lock().jobs.get(id).map(|entry| watch(&entry.live))
    }

    /// How many jobs have not ended.
    pub(super) fn active(&self) -> usize {
        self.table.lock().jobs.len()
    }

    /// Leaves a wish with a job; nothing when it has ended. `true` beside the answer when the job's task
    /// is to be started for it.
    pub(super) fn wish(
        &self,
        id: &JobId,
        wish: Wish,
    ) -> Option<(oneshot::Receiver<Result<JobView, Refused>>, bool)> {
        let mut table = self.table.lock();
        let entry = table.jobs.get_mut(id)?;
        let (answer, answered) = oneshot::channel();
        if *self.phase.borrow() != Phase::Open {
            // The answer's sender goes at once, which says that the hub stops.
            return Some((answered, false));
        }
        entry.live.state.lock().wishes.push(Asked { wish, answer });
        entry.live.wake.notify_one();
        let start = entry.doing == Doing::Waiting;
        if start {
            entry.doing = Doing::Running;
            if let Some(at) = entry.at.take() {
                table.scheduled.remove(&(at, id.clone()));
            }
        }
        Some((answered, start))
    }
}

/// The jobs of a hub. Dropping it ends their tasks.
pub(crate) struct Jobs {
    pub(super) shared: Arc<Shared>,
}

impl Jobs {
    pub(crate) fn new(shared: Arc<Shared>) -> Jobs {
        Jobs { shared }
    }
}

impl Jobs {
    /// The hub whose jobs these are, unless it is being dropped.
    pub(crate) fn hub(&self) -> Option<Arc<Hub>> {
        self.shared.hub.upgrade()
    }

    /// A device takes method calls now, or is gone: jobs that wait for it look again.
    pub(crate) fn arrived(&self, id: &EntityId) {
        self.shared.waiting.arrived(id);
    }

    /// Lets what has begun finish and begins nothing else; ends when all is recorded.
    pub(crate) async fn drain(&self) {
        self.shared.phase.send_if_modified(|phase| {
            let is_open = *phase == Phase::Open;
            *phase = (*phase).max(Phase::Draining);
            is_open
        });
        // An error would mean that the sender is gone, and with it the tasks.
        let _ = self.shared.tasks.subscribe().wait_for(|tasks| *tasks == 0).await;
    }
}

/// A task of a job.
pub(super) struct Task(Arc<Shared>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.tasks.send_modify(|count| *count -= 1);
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.shared.phase.send_replace(Phase::Gone);
    }
}
