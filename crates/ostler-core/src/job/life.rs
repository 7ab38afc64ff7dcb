//! The life of a job: where it stands, and what follows.
//!
//! Invariant: a transition that does not fit the stage is refused or changes nothing.

use super::{JobCounts, JobId, JobSpec, JobStatus, JobView, Stop, Tally, Wave, WaveView};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a wish about a job cannot be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has ended.
    #[error("the job has ended: it is {}", .0.name())]
    Ended(JobStatus),
    /// It is not paused.
    #[error("the job is not paused, so it cannot be resumed")]
    NotPaused,
    /// It is being stopped.
    #[error("the job is being stopped")]
    Stopping,
    /// It has not ended.
    #[error("the job has not ended; only an ended job can be tried again")]
    NotEnded,
    /// Nothing failed.
    #[error("no device of the job failed, so there is nothing to try again")]
    NothingFailed,
}

/// Why a job stops before all its devices are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It was cancelled.
    Cancelled,
    /// A gate closed; the text says which.
    Gate(String),
}

/// What a job is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its devices are not fixed yet: it waits for its start, or is starting.
    Waiting,
    /// The devices of a wave take their step.
    Wave {
        /// Which wave, from 0.
        index: usize,
        /// When its devices' time began.
        started: Timestamp,
    },
    /// Between two waves.
    Soak {
        /// The coming wave, from 0.
        next: usize,
        /// When it comes.
        until: Timestamp,
    },
    /// What has not begun is being canceled.
    Stopping {
        /// The wave it was at.
        index: usize,
        /// Why.
        reason: Stopped,
    },
    /// It has ended.
    Ended(JobStatus),
}

/// Everything that is kept of a job, save what became of its devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What was asked for.
    pub spec: Arc<JobSpec>,
    /// The job whose failed devices are tried again.
    pub parent: Option<JobId>,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Since when it is held.
    pub paused: Option<Timestamp>,
    /// What it is at.
    pub stage: Stage,
    /// Its waves, once its devices are fixed.
    pub waves: Vec<Wave>,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// The final counts, once it has ended.
    pub counts: Option<JobCounts>,
    /// Failed devices by cause, once it has ended.
    pub causes: BTreeMap<String, u64>,
}

impl Job {
    /// A job that nothing has happened to.
    pub fn new(spec: JobSpec, parent: Option<JobId>, now: Timestamp) -> Job {
        Job {
            spec: Arc::new(spec),
            parent,
            created: now,
            started: None,
            ended: None,
            paused: None,
            stage: Stage::Waiting,
            waves: Vec::new(),
            failure_reason: None,
            counts: None,
            causes: BTreeMap::new(),
        }
    }

    /// Before when it must not start. [`Timestamp::NEVER`], which comes before every time, when it was asked
    /// to start at once: then a clock that is set back does not hold it up.
    pub fn start_time(&self) -> Timestamp {
        self.spec.start.filter(|start| *start > self.created).unwrap_or(Timestamp::NEVER)
    }

    /// The word for where it stands.
    pub fn status(&self, now: Timestamp) -> JobStatus {
        match &self.stage {
            Stage::Ended(status) => *status,
            _ if self.paused.is_some() => JobStatus::Paused,
            Stage::Waiting if self.start_time() > now => JobStatus::Scheduled,
            Stage::Waiting => JobStatus::Queued,
            Stage::Wave { .. } | Stage::Soak { .. } | Stage::Stopping { .. } => JobStatus::Running,
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    /// Until when a device of the present wave may begin.
    pub fn deadline(&self) -> Option<Timestamp> {
        let secs = i64::try_from(self.spec.max_execution_secs).unwrap_or(i64::MAX);
        match self.stage {
            Stage::Wave { started, .. } => Some(started.plus_secs(secs)),
            _ => None,
        }
    }

    /// The devices are fixed: the first wave starts, or without any device the job has ended.
    pub fn expanded(&mut self, waves: Vec<Wave>, now: Timestamp) {
        if self.stage != Stage::Waiting {
            return;
        }
        self.started = Some(now);
        self.waves = waves;
        self.stage = Stage::Wave { index: 0, started: now };
        if self.waves.is_empty() {
            self.end(JobStatus::Completed, &Tally::default(), now);
        }
    }

    /// It could not run at all.
    pub fn failed(&mut self, reason: String, now: Timestamp) {
        if self.stage == Stage::Waiting {
            self.started = Some(now);
            self.failure_reason = Some(reason);
            self.end(JobStatus::Failed, &Tally::default(), now);
        }
    }

    /// Every device of the present wave has ended: on to the soak, the next wave, the stop or the end.
    pub fn wave_done(&mut self, tally: &Tally, now: Timestamp) {
        let Stage::Wave { index, .. } = self.stage else { return };
        let next = index + 1;
        if next >= self.waves.len() {
            return self.end(JobStatus::Completed, tally, now);
        }
        if let Some(stop) = self.spec.rollout.gate.after_wave(tally) {
            return self.gate_closed(stop);
        }
        let soak = i64::from(self.spec.rollout.gate.soak_secs);
        self.stage = match soak {
            0 => Stage::Wave { index: next, started: now },
            _ => Stage::Soak { next, until: now.plus_secs(soak) },
        };
    }

    /// The soak is over when its time has come.
    pub fn soak_over(&mut self, now: Timestamp) {
        if let Stage::Soak { next, until } = self.stage {
            if until <= now {
                self.stage = Stage::Wave { index: next, started: now };
            }
        }
    }

    /// A gate closed while a wave was under way, or after it.
    pub fn gate_closed(&mut self, stop: Stop) {
        if let Stage::Wave { index, .. } = self.stage {
            let waves = self.waves.len();
            let text = format!("stopped in wave {} of {waves}: {stop}", index + 1);
            self.stage = Stage::Stopping { index, reason: Stopped::Gate(text) };
        }
    }

    /// Nothing is left to be canceled.
    pub fn stopped(&mut self, tally: &Tally, now: Timestamp) {
        let Stage::Stopping { reason, .. } = &self.stage else { return };
        match reason.clone() {
            Stopped::Cancelled => self.end(JobStatus::Cancelled, tally, now),
            Stopped::Gate(text) => {
                self.failure_reason = Some(text);
                self.end(JobStatus::Failed, tally, now);
            }
        }
    }

    /// Cancels: at once before the start, else what has not begun is stopped. Cancelling again is no error.
    ///
    /// # Errors
    /// [`Refused::Ended`] when it ended otherwise.
    pub fn cancel(&mut self, now: Timestamp) -> Result<(), Refused> {
        let index = match self.stage {
            Stage::Ended(JobStatus::Cancelled) | Stage::Stopping { .. } => return Ok(()),
            Stage::Ended(status) => return Err(Refused::Ended(status)),
            Stage::Waiting => {
                self.paused = None;
                self.ended = Some(now);
                self.stage = Stage::Ended(JobStatus::Cancelled);
                return Ok(());
            }
            Stage::Wave { index, .. } => index,
            Stage::Soak { next, .. } => next,
        };
        self.paused = None;
        self.stage = Stage::Stopping { index, reason: Stopped::Cancelled };
        Ok(())
    }

    /// Holds it: what has begun goes on, nothing else begins. Pausing again is no error.
    ///
    /// # Errors
    /// [`Refused::Ended`], [`Refused::Stopping`].
    pub fn pause(&mut self, now: Timestamp) -> Result<(), Refused> {
        match self.stage {
            Stage::Ended(status) => Err(Refused::Ended(status)),
            Stage::Stopping { .. } => Err(Refused::Stopping),
            _ => {
                self.paused.get_or_insert(now);
                Ok(())
            }
        }
    }

    /// Lets it go on. The time that it was held does not count: deadlines and soaks end later.
    ///
    /// # Errors
    /// [`Refused::NotPaused`], [`Refused::Ended`].
    pub fn resume(&mut self, now: Timestamp) -> Result<(), Refused> {
        if let Stage::Ended(status) = self.stage {
            return Err(Refused::Ended(status));
        }
        let since = self.paused.take().ok_or(Refused::NotPaused)?;
        let later = |at: Timestamp| {
            // A pause that began before the wave holds it only from its start on.
            let held = now.ticks().saturating_sub(since.ticks()).max(0);
            Timestamp::from_ticks(at.ticks().saturating_add(held))
        };
        match &mut self.stage {
            Stage::Wave { started, .. } => *started = later(*started).min(now),
            Stage::Soak { until, .. } => *until = later(*until),
            _ => {}
        }
        Ok(())
    }

    /// As others see it; `tally` counts its devices while it runs.
    pub fn view(&self, tally: Option<&Tally>, now: Timestamp) -> JobView {
        let status_message = match &self.stage {
            Stage::Stopping { .. } => Some("stopping: what has begun is let finish".to_owned()),
            _ if self.paused.is_some() => Some("paused".to_owned()),
            _ => None,
        };
        JobView {
            spec: self.spec.clone(),
            created: self.created,
            started: self.started,
            ended: self.ended,
            status: self.status(now),
            failure_reason: self.failure_reason.clone(),
            status_message,
            counts: self.counts.or_else(|| tally.map(|tally| tally.job)),
            wave: self.wave_view(),
            failures_by_cause: match tally {
                Some(tally) if self.counts.is_none() => tally.causes_by_name(),
                _ => self.causes.clone(),
            },
            parent: self.parent.clone(),
        }
    }

    fn wave_view(&self) -> Option<WaveView> {
        let (index, soak_until) = match self.stage {
            Stage::Wave { index, .. } | Stage::Stopping { index, .. } => (index, None),
            Stage::Soak { next, until } => (next, Some(until)),
            Stage::Waiting | Stage::Ended(_) => return None,
        };
        let wave = self.waves.get(index)?;
        Some(WaveView {
            number: index as u64 + 1,
            count: self.waves.len() as u64,
            devices: wave.devices,
            value: wave.value.clone(),
            soak_until,
        })
    }

    fn end(&mut self, status: JobStatus, tally: &Tally, now: Timestamp) {
        self.stage = Stage::Ended(status);
        self.paused = None;
        self.ended = Some(now);
        self.counts = Some(tally.job);
        self.causes = tally.causes_by_name();
    }
}
