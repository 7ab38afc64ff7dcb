//! One wave of a job: its devices take their step, so many at a time, until all have ended.
//!
//! ```text
//!   feed ──> ready ──> begin ──> at their step ──> outbox ──> recorded ──> counted, gates judged
//!    stored    │  ^                   │                          │
//!    devices   v  └── arrival ──┐     └── try again later <──────┘
//!           offline: wait ──────┘
//! ```
//!
//! Everything that takes time is a future in one set, so one task serves the whole wave.
//!
//! Invariant: a device is in at most one of ready, at its step, outbox, later and waiting.
//!
//! Invariant: what is counted is durable.

use super::commit::Gone;
use super::feed::{Feed, Todo};
use super::run::Run;
use super::scheduler::sleep;
use super::sweep::{Sweep, Swept};
use super::table::Phase;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use ostler_core::id::EntityId;
use ostler_core::job::{DeviceJobStatus, Failure, Job, JobCounts, Pace, Stage, Work};
use ostler_core::method::MethodAnswer;
use ostler_core::time::Timestamp;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Events taken in before others get their turn.
const EVENTS_PER_TURN: usize = 256;
/// How often watchers see the progress.
const SHOW_EVERY: Duration = Duration::from_millis(100);
/// How often the stored devices are looked at again when not all that are offline can be waited for.
const LOOK_AT_STORED: Duration = Duration::from_secs(10);

/// A device job that is to be stored.
pub(super) struct Outcome {
    pub(super) device: EntityId,
    pub(super) from: DeviceJobStatus,
    pub(super) to: DeviceJobStatus,
    pub(super) answer: Option<MethodAnswer>,
    pub(super) error: Option<Failure>,
    /// Tries so far.
    pub(super) attempts: u32,
    /// What follows when it is stored as pending.
    pub(super) again: Again,
}

/// When a device that is pending begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It has ended.
    Never,
    /// When it is connected.
    Online,
    /// Not before this time.
    At(Timestamp),
}

/// Something that took time and is done.
pub(super) enum Event {
    /// These are durably running and may be called.
    Marked(Vec<Todo>, OwnedSemaphorePermit),
    /// These did not begin, because the job is held or stops.
    NotBegun(Vec<Todo>),
    /// The call of this device has ended.
    Called(Todo, Result<MethodAnswer, crate::error::Error>),
    /// These are stored.
    Recorded(Vec<Outcome>),
    /// These took their twin step, durably.
    Patched(Vec<Outcome>),
    /// Some that had not begun have ended.
    Swept(Swept),
    /// The hub stops.
    Gone,
}

/// A wave at work.
pub(super) struct Wave<'a> {
    pub(super) run: &'a mut Run,
    pub(super) index: usize,
    /// When its devices' time began and ends.
    pub(super) time: Option<(Timestamp, Timestamp)>,
    feed: Feed,
    pub(super) ready: VecDeque<Todo>,
    later: BinaryHeap<Reverse<(Timestamp, Todo)>>,
    /// Tries of those that wait offline, when there were any.
    tried: HashMap<EntityId, u32>,
    /// Marked, waiting to be called.
    pub(super) marked: VecDeque<(Todo, OwnedSemaphorePermit)>,
    pub(super) outbox: Vec<Outcome>,
    pub(super) flying: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Commits of outcomes under way.
    pub(super) recording: usize,
    /// Batches under way that begin devices.
    pub(super) beginning: usize,
    /// Devices at their step, or about to be.
    pub(super) in_flight: usize,
    /// Tells the batches under way that they must not begin.
    pub(super) halt: Arc<AtomicBool>,
    pub(super) pace: Option<Pace>,
    born: Instant,
    /// Not all offline devices can be waited for.
    overflow: Option<Instant>,
    /// Those taken up since the stored devices were looked at again, if they ever were.
    taken: Option<HashSet<EntityId>>,
    is_expiring: bool,
    is_expired: bool,
    /// What watchers saw last, and when.
    shown: Option<(Instant, JobCounts, Arc<Job>)>,
}

impl Run {
    /// Lets the devices of `feed` take their step; ends when all have, or when what has begun has ended
    /// and the job stops. Where the next wave starts comes back.
    pub(super) async fn wave(&mut self, feed: Feed) -> Result<Option<Box<str>>, Gone> {
        let Stage::Wave { index, .. } = self.job.stage else { return Ok(None) };
        let pace = self.job.spec.rollout.rate.map(Pace::new);
        let mut wave = Wave {
            run: self,
            index,
            time: None,
            feed,
            ready: VecDeque::new(),
            later: BinaryHeap::new(),
            tried: HashMap::new(),
            marked: VecDeque::new(),
            outbox: Vec::new(),
            flying: FuturesUnordered::new(),
            recording: 0,
            beginning: 0,
            in_flight: 0,
            halt: Arc::default(),
            pace,
            born: Instant::now(),
            overflow: None,
            taken: None,
            is_expiring: false,
            is_expired: false,
            shown: None,
        };
        wave.go().await?;
        Ok(wave.feed.position())
    }
}

impl Wave<'_> {
    async fn go(&mut self) -> Result<(), Gone> {
        loop {
            self.run.meet_wishes().await?;
            if let Stage::Wave { started, .. } = self.run.job.stage {
                self.time = Some(started).zip(self.run.job.deadline());
            }
            let now = self.run.shared.now();
            self.take_arrivals();
            let may_begin = self.may_begin(now);
            self.halt.store(!may_begin, Ordering::SeqCst);
            if may_begin {
                self.fill(now).await?;
                self.begin(now).await?;
            } else {
                self.hold(now);
            }
            self.call_some();
            self.record(now);
            self.judge().await?;
            self.show();
            if self.is_over() {
                return Ok(());
            }
            self.next_events(now).await?;
        }
    }

    fn is_stopping(&self) -> bool {
        !matches!(self.run.job.stage, Stage::Wave { .. })
    }

    fn phase(&self) -> Phase {
        *self.run.shared.phase.borrow()
    }

    /// Once it is over for some it is over for all, also when the clock is set back.
    pub(super) fn deadline(&self) -> Timestamp {
        if self.is_expiring {
            return Timestamp::NEVER;
        }
        self.run.job.deadline().unwrap_or(Timestamp::NEVER)
    }

    fn may_begin(&self, now: Timestamp) -> bool {
        !self.is_stopping()
            && !self.is_expiring
            && self.run.job.paused.is_none()
            && self.phase() == Phase::Open
            && now < self.deadline()
    }

    /// Nothing may begin: the job is held, stops, or the devices' time is over.
    fn hold(&mut self, now: Timestamp) {
        let is_over = !self.is_stopping() && self.run.job.paused.is_none() && now >= self.deadline();
        if self.phase() != Phase::Open || !(is_over || self.is_expiring || self.is_stopping()) {
            return;
        }
        // They are pending in the store; whoever ends them looks there.
        self.ready.clear();
        self.later.clear();
        // From here on no outcome makes a device pending again, so the sweep meets each once.
        let is_settled = self.beginning == 0 && self.recording == 0 && self.outbox.is_empty();
        if is_over && !self.is_expiring && is_settled {
            self.is_expiring = true;
            self.sweep_on(None);
        }
    }

    fn sweep_on(&mut self, after: Option<Box<str>>) {
        let (shared, live, id) = (self.run.shared.clone(), self.run.live.clone(), self.run.id.clone());
        let spec = &self.run.job.spec;
        let (kind, max_execution_secs) = (spec.work.kind(), spec.max_execution_secs);
        let what = Sweep::Expire { wave: self.index, kind, max_execution_secs };
        let sweep =
            async move { shared.sweep(&id, &live, what, after).await.map_or(Event::Gone, Event::Swept) };
        self.flying.push(sweep.boxed());
    }

    fn take_arrivals(&mut self) {
        for device in self.run.live.take_arrivals() {
            let attempts = self.tried.remove(&device).unwrap_or(0);
            let todo = Todo { device, attempts };
            if self.is_first(&todo) {
                self.ready.push_back(todo);
            }
        }
    }

    /// Whether a device was not taken up since the stored devices are looked at again: while that goes on it may
    /// connect, and is then found in both ways.
    fn is_first(&mut self, todo: &Todo) -> bool {
        self.taken.as_mut().is_none_or(|taken| taken.insert(todo.device.clone()))
    }

    /// Reads more devices when few are ready, and takes those whose pause is over.
    async fn fill(&mut self, now: Timestamp) -> Result<(), Gone> {
        while let Some(Reverse((at, _))) = self.later.peek() {
            if *at > now {
                break;
            }
            self.ready.extend(self.later.pop().map(|Reverse((_, todo))| todo));
        }
        let is_quiet = self.ready.is_empty() && self.later.is_empty() && self.flying.is_empty();
        if self.overflow.is_some_and(|at| at.elapsed() >= LOOK_AT_STORED)
            && is_quiet
            && self.outbox.is_empty()
        {
            self.overflow = None;
            self.taken = Some(HashSet::new());
            self.feed = Feed::stored(&self.run.id, self.index, self.feed.is_ordered(), None);
        }
        if self.ready.len() >= super::feed::PAGE || self.feed.is_empty() {
            return Ok(());
        }
        let rollout = self.run.job.spec.rollout.clone();
        for (device, step) in self.feed.next(&self.run.shared).await? {
            let Some(step) = step else {
                self.ready.push_back(Todo { device, attempts: 0 });
                continue;
            };
            let todo = Todo { device, attempts: step.attempts };
            if self.run.shared.waiting.contains(&todo.device, &self.run.live) || !self.is_first(&todo) {
                continue;
            }
            let at = step.updated.plus_secs(rollout.backoff_secs(step.attempts));
            if step.attempts > 0 && at > now {
                self.later.push(Reverse((at, todo)));
            } else {
                self.ready.push_back(todo);
            }
        }
        Ok(())
    }

    async fn begin(&mut self, now: Timestamp) -> Result<(), Gone> {
        match self.run.job.spec.work {
            Work::Method(_) => self.begin_calls(now).await,
            Work::Twin(_) => {
                self.begin_patches();
                Ok(())
            }
        }
    }

    /// So many devices may begin now, by the job's pace.
    pub(super) fn allowed(&mut self, most: usize) -> usize {
        let micros = u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX);
        let available = self.pace.as_mut().map_or(u64::MAX, |pace| pace.available(micros));
        usize::try_from(available).unwrap_or(usize::MAX).min(most)
    }

    /// So many devices begin.
    pub(super) fn begun(&mut self, devices: usize) {
        self.beginning += 1;
        self.in_flight += devices;
        if let Some(pace) = &mut self.pace {
            pace.take(devices as u64);
        }
    }

    /// Waits until a device is connected.
    pub(super) fn wait_for(&mut self, todo: Todo) {
        if let Some(taken) = &mut self.taken {
            taken.remove(&todo.device);
        }
        let (shared, live) = (&self.run.shared, &self.run.live);
        if !shared.waiting.insert(&todo.device, live) {
            self.overflow.get_or_insert_with(Instant::now);
            return;
        }
        // In the index before looking, so that no arrival in between is missed.
        if shared.bus.is_listening(&todo.device) && shared.waiting.remove(&todo.device, live) {
            if self.is_first(&todo) {
                self.ready.push_back(todo);
            }
        } else if todo.attempts > 0 {
            self.tried.insert(todo.device, todo.attempts);
        }
    }

    /// Judges the gates by what is counted.
    async fn judge(&mut self) -> Result<(), Gone> {
        let stop = self.run.job.spec.rollout.gate.during(&self.run.tally);
        match stop {
            Some(stop) if !self.is_stopping() => self.run.change(|job| job.gate_closed(stop)).await,
            _ => Ok(()),
        }
    }

    fn show(&mut self) {
        self.run.note();
        if self.run.live.is_watched() && self.is_unseen() && self.show_in() == Duration::ZERO {
            self.shown = Some((Instant::now(), self.run.tally.job, self.run.job.clone()));
            self.run.live.show(|| self.run.job.view(Some(&self.run.tally), self.run.shared.now()));
        }
    }

    /// Whether watchers have not seen how things stand.
    fn is_unseen(&self) -> bool {
        let seen = self.shown.as_ref();
        !seen.is_some_and(|(_, counts, job)| *counts == self.run.tally.job && Arc::ptr_eq(job, &self.run.job))
    }

    /// When watchers may see something again.
    fn show_in(&self) -> Duration {
        self.shown.as_ref().map_or(Duration::ZERO, |(at, ..)| SHOW_EVERY.saturating_sub(at.elapsed()))
    }

    /// Whether nothing is under way.
    fn is_at_rest(&self) -> bool {
        self.flying.is_empty() && self.outbox.is_empty() && self.marked.is_empty()
    }

    fn is_over(&self) -> bool {
        let has_ended = self.is_stopping() || self.is_expired || self.run.tally.is_wave_done();
        has_ended && self.is_at_rest()
    }

    /// Waits for something to happen, and takes it in.
    async fn next_events(&mut self, now: Timestamp) -> Result<(), Gone> {
        let has_work = self.has_work();
        if has_work {
            // Others first: those who were called must be able to answer, and back ends wait for theirs.
            tokio::task::yield_now().await;
        }
        let wait = if has_work { Some(Duration::ZERO) } else { self.patience(now) };
        let mut phase = self.run.shared.phase.subscribe();
        let seen = *phase.borrow_and_update();
        if seen == Phase::Gone || (seen == Phase::Draining && self.is_at_rest()) {
            return Err(Gone);
        }
        let first = tokio::select! {
            biased;
            event = self.flying.next(), if !self.flying.is_empty() => event,
            _ = phase.changed() => None,
            () = self.run.live.wake.notified() => None,
            () = sleep(wait) => None,
        };
        if let Some(event) = first {
            self.take(event)?;
            for _ in 1..EVENTS_PER_TURN {
                match self.flying.next().now_or_never() {
                    Some(Some(event)) => self.take(event)?,
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Whether the next turn can do something without anything happening.
    fn has_work(&self) -> bool {
        !self.marked.is_empty()
            || (!self.halt.load(Ordering::SeqCst) && self.can_begin() && self.pace.is_none())
    }

    fn can_begin(&self) -> bool {
        let has_room = match self.run.job.spec.work {
            Work::Method(_) => self.has_room_for_calls(),
            Work::Twin(_) => self.has_room_for_patches(),
        };
        has_room && (!self.ready.is_empty() || !self.feed.is_empty())
    }

    /// Until when to wait when nothing happens.
    fn patience(&self, now: Timestamp) -> Option<Duration> {
        let unseen = (self.run.live.is_watched() && self.is_unseen()).then(|| self.show_in());
        if self.halt.load(Ordering::SeqCst) {
            // Nothing begins, so no time matters: what has begun ends by itself, and wishes wake.
            return unseen;
        }
        let mut wait = self.run.shared.until(self.deadline(), now);
        if let Some(Reverse((at, _))) = self.later.peek() {
            wait = wait.min(self.run.shared.until(*at, now));
        }
        if let (Some(pace), true) = (&self.pace, self.can_begin()) {
            wait = wait.min(Duration::from_micros(pace.wait_micros()));
        }
        Some(unseen.map_or(wait, |unseen| wait.min(unseen)))
    }

    fn take(&mut self, event: Event) -> Result<(), Gone> {
        match event {
            Event::Marked(todos, permits) => self.take_marked(todos, permits),
            Event::NotBegun(todos) => {
                self.beginning -= 1;
                self.in_flight -= todos.len();
                // Should the job be held only, they are the first to go on.
                todos.into_iter().rev().for_each(|todo| self.ready.push_front(todo));
            }
            Event::Called(todo, answer) => self.take_answer(todo, answer),
            Event::Recorded(outcomes) => {
                self.recording -= 1;
                self.count(outcomes);
            }
            Event::Patched(outcomes) => {
                self.beginning -= 1;
                self.in_flight -= outcomes.len();
                self.count(outcomes);
            }
            Event::Swept(swept) => {
                for failure in &swept.ended {
                    self.run.tally.note(DeviceJobStatus::Pending, DeviceJobStatus::Failed, failure.as_ref());
                    self.run.count(DeviceJobStatus::Failed);
                }
                match swept.next {
                    Some(next) if self.phase() == Phase::Open => self.sweep_on(Some(next)),
                    // The next hub goes on.
                    Some(_) => {}
                    None => self.is_expired = true,
                }
            }
            Event::Gone => return Err(Gone),
        }
        Ok(())
    }

    /// Counts what is durable, and lets those go on that are to begin again.
    fn count(&mut self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            self.run.tally.note(outcome.from, outcome.to, outcome.error.as_ref());
            self.run.count(outcome.to);
            let todo = Todo { device: outcome.device, attempts: outcome.attempts };
            match outcome.again {
                Again::Never => {}
                // Pending in the store, where it is found to be canceled.
                _ if self.is_stopping() => {}
                Again::Online => self.wait_for(todo),
                Again::At(at) => self.later.push(Reverse((at, todo))),
            }
        }
    }
}
