//! What a job asks for.

use super::{JobId, Rollout};
use crate::limits::{
    JOB_ATTEMPTS, JOB_CONDITION_BYTES, JOB_EXECUTION_SECS, JOB_EXECUTION_SECS_DEFAULT, JOB_ID_CHARS,
    JOB_PAUSE_SECS, JOB_WAVES,
};
use crate::method::MethodCall;
use crate::time::Timestamp;
use crate::twin::{Twin, TwinError, TwinPatch};

/// Why a job is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// A name that is none.
    #[error(
        "the job id {0:?} is not valid; allowed are 1 to {JOB_ID_CHARS} ASCII letters, digits and - _ . :"
    )]
    Id(String),
    /// A condition that is too long to be taken in.
    #[error("the condition has {0} bytes; at most {JOB_CONDITION_BYTES} are taken in")]
    Condition(usize),
    /// A time for each device that is out of range.
    #[error("maxExecutionTimeInSeconds is {0}, allowed are 0 to {JOB_EXECUTION_SECS}")]
    ExecutionTime(u64),
    /// A number of the rollout that is out of range.
    #[error("{name} is {value}, allowed are {least} to {most}")]
    Range {
        /// Which one.
        name: &'static str,
        /// What was given.
        value: u64,
        /// The least that is allowed.
        least: u64,
        /// The most that is allowed.
        most: u64,
    },
    /// Too many waves.
    #[error("{0} waves, allowed are 1 to {JOB_WAVES}")]
    Waves(usize),
    /// Shares that are more than everything.
    #[error("the waves' percentages add up to {0}, at most 100 are allowed")]
    Shares(u64),
    /// A tag's path that names nothing.
    #[error("the tag to form waves by has no name")]
    NoTag,
    /// A twin job that changes nothing.
    #[error("the twin update has neither tags nor desired properties")]
    EmptyPatch,
    /// A change that no twin can take.
    #[error("the twin update breaks a rule of twins: {0}")]
    Patch(#[from] TwinError),
}

/// The step that a job takes on each device.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Call a method.
    Method(MethodCall),
    /// Change tags and desired properties.
    Twin(TwinPatch),
}

impl Work {
    /// Which kind of job this makes.
    pub fn kind(&self) -> JobKind {
        match self {
            Work::Method(_) => JobKind::Method,
            Work::Twin(_) => JobKind::Twin,
        }
    }
}

/// The kind of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// `scheduleDeviceMethod`
    Method,
    /// `scheduleUpdateTwin`
    Twin,
}

impl JobKind {
    /// The kind's name as clients and queries spell it (service §10.2).
    pub const fn name(self) -> &'static str {
        match self {
            JobKind::Method => "scheduleDeviceMethod",
            JobKind::Twin => "scheduleUpdateTwin",
        }
    }

    /// The kind of a name; `scheduleTwinUpdate` is an older spelling (query §9).
    pub fn parse(text: &str) -> Option<JobKind> {
        match text {
            "scheduleDeviceMethod" => Some(JobKind::Method),
            "scheduleUpdateTwin" | "scheduleTwinUpdate" => Some(JobKind::Twin),
            _ => None,
        }
    }
}

/// A job as it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    /// Its name.
    pub id: JobId,
    /// The step.
    pub work: Work,
    /// Which devices: the text behind `WHERE`, or `*`. It is read when the job starts; one that cannot be
    /// read fails the job, not its creation (service §10.2).
    pub condition: String,
    /// When to start; at once when absent or past.
    pub start: Option<Timestamp>,
    /// How long a device has for its step, counted from the start of its wave, in seconds; 0 stands for
    /// an hour (service §10.2).
    pub max_execution_secs: u64,
    /// How the step is spread over the devices.
    pub rollout: Rollout,
}

impl JobSpec {
    /// Checks ranges and fills in what 0 stands for.
    ///
    /// # Errors
    /// [`JobError`] names the rule.
    pub fn checked(mut self) -> Result<JobSpec, JobError> {
        if self.condition.len() > JOB_CONDITION_BYTES {
            return Err(JobError::Condition(self.condition.len()));
        }
        if self.max_execution_secs > JOB_EXECUTION_SECS {
            return Err(JobError::ExecutionTime(self.max_execution_secs));
        }
        if self.max_execution_secs == 0 {
            self.max_execution_secs = JOB_EXECUTION_SECS_DEFAULT;
        }
        if let Work::Twin(patch) = &self.work {
            if patch.is_empty() {
                return Err(JobError::EmptyPatch);
            }
            // What an empty twin cannot take would fail on every device.
            Twin::default().patch(patch, Timestamp::NEVER)?;
        }
        self.rollout.check()?;
        Ok(self)
    }
}

/// `value` between `least` and `most`.
pub(super) fn in_range(name: &'static str, value: u64, least: u64, most: u64) -> Result<(), JobError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(JobError::Range { name, value, least, most })
    }
}

pub(super) const PAUSE: u64 = JOB_PAUSE_SECS as u64;
pub(super) const ATTEMPTS: u64 = JOB_ATTEMPTS as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Object;
    use crate::twin::SectionPatch;

    #[test]
    fn a_change_that_no_twin_can_take_is_refused() {
        let check = |tags: &str| {
            let tags = SectionPatch::Merge(Object::parse(tags.as_bytes()).unwrap());
            let spec = JobSpec {
                id: JobId::new("j").unwrap(),
                work: Work::Twin(TwinPatch { tags: Some(tags), desired: None }),
                condition: "*".into(),
                start: None,
                max_execution_secs: 0,
                rollout: Rollout::default(),
            };
            spec.checked().map(|spec| spec.max_execution_secs)
        };
        assert_eq!(check(r#"{"a":null}"#), Ok(JOB_EXECUTION_SECS_DEFAULT));
        assert!(matches!(check(r#"{"a.b":1}"#), Err(JobError::Patch(_))));
        assert!(matches!(check(&format!(r#"{{"a":"{}"}}"#, "x".repeat(5000))), Err(JobError::Patch(_))));
    }
}
