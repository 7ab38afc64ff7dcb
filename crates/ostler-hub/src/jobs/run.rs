//! The life of one job: its task, the only writer of its documents.
//!
//! Invariant: a stage is durable before anything is done in it.

use super::codec::{encode_job, encode_step};
use super::commit::Gone;
use super::feed::Feed;
use super::read_job;
use super::scheduler::sleep;
use super::sweep::{pending, put, Sweep};
use super::table::{Asked, Live, Phase, Rest, Shared, Wish};
use super::targets::{NoTargets, Targets};
use futures_util::future::{try_join_all, FutureExt};
use ostler_core::id::EntityId;
use ostler_core::job::{DeviceJobStatus, Job, JobId, Stage, Tally, Waves};
use ostler_store::{Change, CommitError, Expect, Revision, Shelf};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Device jobs written at a time when a job starts.
const EXPAND_AT_ONCE: usize = 2048;
/// Such commits under way.
const EXPAND_COMMITS: usize = 4;
/// Devices of a first wave that are handed over in memory; those of a larger one are read again.
const HANDED_OVER: u32 = 65_536;

/// Pause before a job whose task failed is taken up again.
const TAKE_UP_AGAIN: Duration = Duration::from_secs(1);

/// Runs a job until it ends or waits again.
pub(super) async fn run(shared: Arc<Shared>, id: JobId) {
    loop {
        let Some(live) = shared.live(id.as_str()) else { return };
        let result = async {
            let Some(mut run) = Run::load(&shared, live, &id).await? else { return Ok(()) };
            run.live_on().await
        };
        // A fault in one job must not leave it without a task: what is stored says where to go on.
        match AssertUnwindSafe(result).catch_unwind().await {
            Ok(Ok(())) => return,
            Ok(Err(Gone)) if *shared.phase.borrow() != Phase::Open => return shared.abandon(&id),
            Ok(Err(Gone)) => tracing::error!(job = %id, "a job's task could not go on; it is taken up again"),
            Err(_) => tracing::error!(job = %id, "a job's task failed by a bug; it is taken up again"),
        }
        tokio::time::sleep(TAKE_UP_AGAIN).await;
    }
}

/// A job at work.
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    pub(super) live: Arc<Live>,
    pub(super) id: JobId,
    pub(super) job: Arc<Job>,
    pub(super) tally: Tally,
    revision: Revision,
    /// The devices of the next wave, when they are in memory.
    handed_over: Option<(Vec<EntityId>, OwnedSemaphorePermit)>,
    /// Behind which key the next wave starts.
    position: Option<Box<str>>,
}

impl Run {
    /// Takes up a stored job; nothing when it cannot be read, which is logged.
    async fn load(shared: &Arc<Shared>, live: Arc<Live>, id: &JobId) -> Result<Option<Run>, Gone> {
        let document = shared.read(|| shared.store.document(Shelf::Jobs, id.as_str())).await?;
        let Some(document) = document else {
            shared.remove(id);
            return Ok(None);
        };
        let (job, revision) = match read_job(id.as_str(), &document) {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(job = %id, %error, "a stored job cannot be read; it is left out");
                shared.remove(id);
                return Ok(None);
            }
        };
        let tally = match &job.stage {
            Stage::Waiting | Stage::Ended(_) => Tally::default(),
            Stage::Wave { index, .. } | Stage::Stopping { index, .. } => shared.recount(id, *index).await?,
            Stage::Soak { next, .. } => shared.recount(id, *next).await?,
        };
        let run = Run {
            shared: shared.clone(),
            live,
            id: id.clone(),
            job: Arc::new(job),
            tally,
            revision,
            handed_over: None,
            position: None,
        };
        run.note();
        Ok(Some(run))
    }

    async fn live_on(&mut self) -> Result<(), Gone> {
        loop {
            self.meet_wishes().await?;
            let now = self.shared.now();
            let is_paused = self.job.paused.is_some();
            match self.job.stage.clone() {
                Stage::Ended(_) => {
                    self.shared.ended(&self.id, self.job.view(None, now));
                    return Ok(());
                }
                Stage::Waiting if is_paused => {
                    if self.shared.rest(&self.id, &Rest::Held) {
                        return Ok(());
                    }
                }
                Stage::Waiting if self.job.start_time() > now => {
                    if self.shared.rest(&self.id, &Rest::Until(self.job.start_time())) {
                        return Ok(());
                    }
                }
                Stage::Waiting => self.expand().await?,
                Stage::Stopping { .. } => self.stop().await?,
                Stage::Wave { index, .. } => {
                    let feed = match self.handed_over.take() {
                        Some((devices, room)) => Feed::given(devices, room, self.position.take()),
                        None => Feed::stored(&self.id, index, self.is_ordered(), self.position.take()),
                    };
                    self.position = self.wave(feed).await?;
                    if matches!(self.job.stage, Stage::Wave { .. }) {
                        let (tally, now) = (self.tally.clone(), self.shared.now());
                        self.change(|job| job.wave_done(&tally, now)).await?;
                    }
                }
                Stage::Soak { until, .. } if !is_paused && until <= now => {
                    self.change(|job| job.soak_over(now)).await?;
                }
                Stage::Soak { until, .. } => {
                    self.idle((!is_paused).then(|| self.shared.until(until, now))).await?;
                }
            }
        }
    }

    /// Whether waves follow each other in the order of the ids.
    fn is_ordered(&self) -> bool {
        !matches!(self.job.spec.rollout.waves, Waves::ByTag(_))
    }

    /// Waits for a wish, or so long.
    async fn idle(&self, wait: Option<Duration>) -> Result<(), Gone> {
        let mut phase = self.shared.phase.subscribe();
        tokio::select! {
            () = self.live.wake.notified() => Ok(()),
            () = sleep(wait) => Ok(()),
            _ = phase.wait_for(|phase| *phase != Phase::Open) => Err(Gone),
        }
    }

    /// Fixes the devices. A crash before the job is stored as expanded leaves device jobs that nothing was
    /// done about; they are deleted first when it is expanded anew.
    async fn expand(&mut self) -> Result<(), Gone> {
        let shared = self.shared.clone();
        shared.go_on()?;
        // Some at a time: each holds its devices' names in memory.
        let turn = shared.expansions.acquire();
        tokio::pin!(turn);
        let _turn = loop {
            tokio::select! {
                turn = &mut turn => break turn,
                () = self.live.wake.notified() => {
                    self.meet_wishes().await?;
                    if self.job.stage != Stage::Waiting || self.job.paused.is_some() {
                        return Ok(());
                    }
                }
            }
        };
        shared.delete_steps(self.id.as_str()).await?;
        let targets = loop {
            match shared.targets(&self.job.spec, self.job.parent.as_ref()).await {
                Ok(targets) => break targets,
                Err(NoTargets::Store(error)) => shared.have_patience(&error).await?,
                Err(NoTargets::Impossible(reason)) => {
                    let now = shared.now();
                    return self.change(|job| job.failed(reason.clone(), now)).await;
                }
            }
        };
        self.write_targets(targets).await
    }

    async fn write_targets(&mut self, targets: Targets) -> Result<(), Gone> {
        let now = self.shared.now();
        let mut job = Job::clone(&self.job);
        job.expanded(targets.waves.clone(), now);
        let kind = job.spec.work.kind();
        let first = encode_step(&pending(kind, 0, Some(now).zip(job.deadline()), now));
        let bytes = |wave| match wave {
            0 => first.clone(),
            _ => encode_step(&pending(kind, wave, None, now)),
        };
        let waves: Vec<usize> = targets.wave_of_each().collect();
        let prefix = format!("{}/", self.id);
        let changes = |devices: &[EntityId], waves: &[usize]| -> Vec<Change> {
            let each = devices.iter().zip(waves);
            each.map(|(device, wave)| put(&[&prefix, device.as_str()].concat(), bytes(*wave))).collect()
        };
        // The last batch is written with the job, so a small job starts with one commit.
        let split = targets.devices.len().saturating_sub(1) / EXPAND_AT_ONCE * EXPAND_AT_ONCE;
        let batches = targets.devices[..split].chunks(EXPAND_AT_ONCE).zip(waves.chunks(EXPAND_AT_ONCE));
        let batches: Vec<_> = batches.collect();
        for some in batches.chunks(EXPAND_COMMITS) {
            self.shared.go_on()?;
            let commit = |(devices, waves): &(&[EntityId], &[usize])| changes(devices, waves);
            try_join_all(some.iter().map(|batch| self.shared.commit_all(move || commit(batch)))).await?;
        }
        let together = changes(&targets.devices[split..], &waves[split..]);
        self.tally =
            Tally::new(targets.devices.len() as u64, targets.waves.first().map_or(0, |wave| wave.devices));
        let first_wave = self.tally.wave.devices;
        self.save(job, together).await?;
        let room = u32::try_from(first_wave).ok().filter(|count| *count <= HANDED_OVER && self.is_ordered());
        let room = room.and_then(|count| self.shared.handed_over.clone().try_acquire_many_owned(count).ok());
        if let Some(room) = room {
            let mut devices = targets.devices;
            devices.truncate(room.num_permits());
            devices.shrink_to_fit();
            self.position = devices.last().map(|device| [&*prefix, device.as_str()].concat().into());
            self.handed_over = Some((devices, room));
        }
        Ok(())
    }

    /// Cancels what has not begun.
    async fn stop(&mut self) -> Result<(), Gone> {
        let mut after = None;
        loop {
            self.shared.go_on()?;
            let swept = self.shared.sweep(&self.id, &self.live, Sweep::Cancel, after).await?;
            self.tally.note_canceled(swept.ended.len() as u64);
            self.shared.stats.job_steps_canceled.add(swept.ended.len() as u64);
            self.note();
            after = swept.next;
            if after.is_none() {
                break;
            }
        }
        let (tally, now) = (self.tally.clone(), self.shared.now());
        self.change(|job| job.stopped(&tally, now)).await
    }

    /// Does what was wished, durably, and answers.
    pub(super) async fn meet_wishes(&mut self) -> Result<(), Gone> {
        let wishes = self.live.take_wishes();
        if wishes.is_empty() {
            return Ok(());
        }
        let now = self.shared.now();
        let mut job = Job::clone(&self.job);
        let meet = |job: &mut Job, wish| match wish {
            Wish::Cancel => job.cancel(now),
            Wish::Pause => job.pause(now),
            Wish::Resume => job.resume(now),
        };
        let outcomes: Vec<_> = wishes.iter().map(|asked| meet(&mut job, asked.wish)).collect();
        if job != *self.job {
            if self.job.stage == Stage::Waiting && job.has_ended() {
                // An expansion that was cut off may have left some, and nobody else would end them.
                self.shared.delete_steps(self.id.as_str()).await?;
            }
            self.save(job, Vec::new()).await?;
        }
        let view = self.job.view(Some(&self.tally), now);
        for (Asked { answer, .. }, outcome) in wishes.into_iter().zip(outcomes) {
            // Whoever asked may have left.
            let _ = answer.send(outcome.map(|()| view.clone()));
        }
        Ok(())
    }

    /// Changes the job and stores it.
    pub(super) async fn change(&mut self, change: impl FnOnce(&mut Job)) -> Result<(), Gone> {
        let mut job = Job::clone(&self.job);
        change(&mut job);
        if let (Stage::Wave { index, .. }, false) = (&job.stage, self.job.stage == job.stage) {
            let devices = job.waves.get(*index).map_or(0, |wave| wave.devices);
            self.tally.begin_wave(devices);
        }
        self.save(job, Vec::new()).await
    }

    /// Stores the job, all or nothing with `others`.
    async fn save(&mut self, job: Job, others: Vec<Change>) -> Result<(), Gone> {
        let change = Change::PutDocument {
            shelf: Shelf::Jobs,
            key: self.id.as_str().into(),
            value: encode_job(&job),
            expect: Some(Expect::Revision(self.revision)),
        };
        let outcomes = self.shared.commit_all(|| {
            let mut all = others.clone();
            all.push(change.clone());
            vec![Change::Together(all)]
        });
        match outcomes.await?.pop() {
            Some(Ok(revision)) => self.revision = revision,
            other => {
                let error = other.and_then(Result::err).unwrap_or(CommitError::Missing);
                tracing::error!(job = %self.id, %error, "a job's document was changed by somebody else");
                return Err(Gone);
            }
        }
        self.job = Arc::new(job);
        self.note();
        if !self.job.has_ended() {
            // A new stage is seen at once, also between two waves; the end is shown when the job leaves the table.
            self.live.show(|| self.job.view(Some(&self.tally), self.shared.now()));
        }
        Ok(())
    }

    /// Lets others see where the job stands.
    pub(super) fn note(&self) {
        self.live.note(&self.job, &self.tally);
    }

    /// Notes a device's way from one status to another in the metrics.
    pub(super) fn count(&self, to: DeviceJobStatus) {
        match to {
            DeviceJobStatus::Completed => self.shared.stats.job_steps_succeeded.add(1),
            DeviceJobStatus::Failed => self.shared.stats.job_steps_failed.add(1),
            DeviceJobStatus::Canceled => self.shared.stats.job_steps_canceled.add(1),
            _ => {}
        }
    }
}
