//! A job as others see it.

use super::{JobId, JobSpec};
use crate::id::DeviceId;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a job stands, in the service's words (service §10.3) and one of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobStatus {
    /// Not known; only other hubs say so.
    Unknown,
    /// Taken, not yet queued; only other hubs say so.
    Enqueued,
    /// About to start.
    Queued,
    /// Waits for its start time.
    Scheduled,
    /// At work.
    Running,
    /// All its devices have ended.
    Completed,
    /// It could not run, or a gate stopped it.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// Held until it is resumed; Azure's clients are told `running`.
    Paused,
}

impl JobStatus {
    /// All of them.
    pub const ALL: [JobStatus; 9] = [
        JobStatus::Unknown,
        JobStatus::Enqueued,
        JobStatus::Queued,
        JobStatus::Scheduled,
        JobStatus::Running,
        JobStatus::Completed,
        JobStatus::Failed,
        JobStatus::Cancelled,
        JobStatus::Paused,
    ];

    /// The word; `cancelled` has two l's (service §10.3).
    pub const fn name(self) -> &'static str {
        match self {
            JobStatus::Unknown => "unknown",
            JobStatus::Enqueued => "enqueued",
            JobStatus::Queued => "queued",
            JobStatus::Scheduled => "scheduled",
            JobStatus::Running => "running",
            JobStatus::Completed => "completed",
            JobStatus::Failed => "failed",
            JobStatus::Cancelled => "cancelled",
            JobStatus::Paused => "paused",
        }
    }

    /// The status of a word.
    pub fn parse(text: &str) -> Option<JobStatus> {
        JobStatus::ALL.into_iter().find(|status| status.name() == text)
    }

    /// Whether nothing can follow.
    pub const fn is_terminal(self) -> bool {
        matches!(self, JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled)
    }
}

/// How many of a job's devices stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// All of them.
    pub devices: u64,
    /// Not begun.
    pub pending: u64,
    /// At their step.
    pub running: u64,
    /// Completed, whatever a method answered.
    pub succeeded: u64,
    /// Failed.
    pub failed: u64,
    /// Not done because the job was cancelled or stopped.
    pub cancelled: u64,
}

/// The wave that a job is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaveView {
    /// Which one, from 1.
    pub number: u64,
    /// How many there are.
    pub count: u64,
    /// How many devices this one has.
    pub devices: u64,
    /// The tag's value that makes this wave, when waves are made by a tag.
    pub value: Option<String>,
    /// While the job waits between two waves: until when. The wave is the coming one then.
    pub soak_until: Option<Timestamp>,
}

/// A job as others see it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// What was asked for.
    pub spec: Arc<JobSpec>,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Where it stands.
    pub status: JobStatus,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// Anything else that a reader should know.
    pub status_message: Option<String>,
    /// Its devices; absent until they are known.
    pub counts: Option<JobCounts>,
    /// Its wave, while it has one.
    pub wave: Option<WaveView>,
    /// Failed devices by the code of their failure.
    pub failures_by_cause: BTreeMap<String, u64>,
    /// The job whose failed devices this one tries again.
    pub parent: Option<JobId>,
}

/// What a job would do if it started now.
#[derive(Clone, Debug, PartialEq)]
pub struct DryRun {
    /// How many devices it would touch.
    pub count: u64,
    /// The first of them in the order of their ids, at most 100.
    pub sample: Vec<DeviceId>,
    /// Its waves.
    pub waves: Vec<super::Wave>,
}
