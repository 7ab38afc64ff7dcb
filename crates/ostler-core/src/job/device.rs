//! What became of a job on one device.

use super::{JobId, JobKind, Offline, Rollout};
use crate::id::DeviceId;
use crate::method::MethodAnswer;
use crate::time::Timestamp;
use std::borrow::Cow;

/// Where a job stands on one device (service §10.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceJobStatus {
    /// Not begun, or to be tried again.
    Pending,
    /// Planned for later; only other hubs say so.
    Scheduled,
    /// At its step: a method call is under way.
    Running,
    /// Done, whatever a method answered.
    Completed,
    /// Not done.
    Failed,
    /// Not done because the job was cancelled or stopped.
    Canceled,
}

impl DeviceJobStatus {
    /// All of them.
    pub const ALL: [DeviceJobStatus; 6] = [
        DeviceJobStatus::Pending,
        DeviceJobStatus::Scheduled,
        DeviceJobStatus::Running,
        DeviceJobStatus::Completed,
        DeviceJobStatus::Failed,
        DeviceJobStatus::Canceled,
    ];

    /// The word; `canceled` has one l here (service §10.4).
    pub const fn name(self) -> &'static str {
        match self {
            DeviceJobStatus::Pending => "pending",
            DeviceJobStatus::Scheduled => "scheduled",
            DeviceJobStatus::Running => "running",
            DeviceJobStatus::Completed => "completed",
            DeviceJobStatus::Failed => "failed",
            DeviceJobStatus::Canceled => "canceled",
        }
    }

    /// Whether nothing can follow.
    pub const fn is_terminal(self) -> bool {
        matches!(self, DeviceJobStatus::Completed | DeviceJobStatus::Failed | DeviceJobStatus::Canceled)
    }
}

/// Why a step failed, in the names of the service's codes where it has one (service §3.3, §10.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureCode {
    /// The device was deleted.
    DeviceNotFound,
    /// The device was not connected and was not to be waited for.
    DeviceNotOnline,
    /// The device did not begin in its time.
    JobRunPreconditionFailed,
    /// The device took the call and did not answer in time.
    GatewayTimeout,
    /// What the device answered is not an answer.
    BadDeviceResponse,
    /// Too many calls wait for the device.
    DeviceMaximumInflightMethodExceeded,
    /// The change breaks a limit of the twin.
    ArgumentInvalid,
    /// The hub stopped between the call and its answer.
    OutcomeUnknown,
    /// The hub could not do it.
    ServerError,
}

impl FailureCode {
    /// All of them; a code is stored as its place in this list.
    pub const ALL: [FailureCode; 9] = [
        FailureCode::DeviceNotFound,
        FailureCode::DeviceNotOnline,
        FailureCode::JobRunPreconditionFailed,
        FailureCode::GatewayTimeout,
        FailureCode::BadDeviceResponse,
        FailureCode::DeviceMaximumInflightMethodExceeded,
        FailureCode::ArgumentInvalid,
        FailureCode::OutcomeUnknown,
        FailureCode::ServerError,
    ];

    /// The code's name.
    pub const fn name(self) -> &'static str {
        match self {
            FailureCode::DeviceNotFound => "DeviceNotFound",
            FailureCode::DeviceNotOnline => "DeviceNotOnline",
            FailureCode::JobRunPreconditionFailed => "JobRunPreconditionFailed",
            FailureCode::GatewayTimeout => "GatewayTimeout",
            FailureCode::BadDeviceResponse => "BadDeviceResponse",
            FailureCode::DeviceMaximumInflightMethodExceeded => "DeviceMaximumInflightMethodExceeded",
            FailureCode::ArgumentInvalid => "ArgumentInvalid",
            FailureCode::OutcomeUnknown => "OutcomeUnknown",
            FailureCode::ServerError => "ServerError",
        }
    }
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The code.
    pub code: FailureCode,
    /// What a person should read.
    pub text: Cow<'static, str>,
}

impl Failure {
    /// A failure with a text of its own.
    pub fn new(code: FailureCode, text: impl Into<Cow<'static, str>>) -> Failure {
        Failure { code, text: text.into() }
    }

    /// The device was deleted.
    pub fn deleted() -> Failure {
        Failure::new(FailureCode::DeviceNotFound, "The device is not registered any more.")
    }

    /// The device was not there and was not to be waited for.
    pub fn offline() -> Failure {
        Failure::new(
            FailureCode::DeviceNotOnline,
            "The device is not connected, or has not subscribed to direct methods.",
        )
    }

    /// The device's time was over before it began (service §10.5).
    pub fn not_started(kind: JobKind, max_execution_secs: u64) -> Failure {
        let cause = match kind {
            JobKind::Method => " because the device did not come online",
            JobKind::Twin => "",
        };
        let text =
            format!("Job did not start within the specified period of {max_execution_secs} seconds{cause}.");
        Failure::new(FailureCode::JobRunPreconditionFailed, text)
    }

    /// The hub stopped between the call and its answer.
    pub fn unknown() -> Failure {
        let text = "The hub stopped while the method call was under way: the device may or may not have run \
                    it. It was not called again.";
        Failure::new(FailureCode::OutcomeUnknown, text)
    }

    /// Whether another try may end otherwise.
    fn may_pass(&self, offline: Offline) -> bool {
        match self.code {
            FailureCode::GatewayTimeout
            | FailureCode::BadDeviceResponse
            | FailureCode::DeviceMaximumInflightMethodExceeded
            | FailureCode::ServerError => true,
            FailureCode::DeviceNotOnline => offline == Offline::Fail,
            FailureCode::DeviceNotFound
            | FailureCode::JobRunPreconditionFailed
            | FailureCode::ArgumentInvalid
            | FailureCode::OutcomeUnknown => false,
        }
    }
}

/// What follows a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// Nothing: the device has failed.
    Final,
    /// Another try, not before this time.
    RetryAt(Timestamp),
}

impl AfterFailure {
    /// Decides after `attempts` tries, the last of which failed. A try that could not begin before
    /// `deadline` is not made.
    pub fn decide(
        failure: &Failure,
        rollout: &Rollout,
        attempts: u32,
        deadline: Timestamp,
        now: Timestamp,
    ) -> AfterFailure {
        let at = now.plus_secs(rollout.backoff_secs(attempts));
        if attempts >= rollout.attempts || at >= deadline || !failure.may_pass(rollout.offline) {
            return AfterFailure::Final;
        }
        AfterFailure::RetryAt(at)
    }
}

/// A job on one device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceJob {
    /// Which device.
    pub device: DeviceId,
    /// Of which job.
    pub job: JobId,
    /// What kind of job.
    pub kind: JobKind,
    /// Where it stands.
    pub status: DeviceJobStatus,
    /// When its time began; absent before its wave comes.
    pub start: Option<Timestamp>,
    /// When its time is over: the start plus the job's time for a device (service §10.4).
    pub end: Option<Timestamp>,
    /// When the job was expanded to it.
    pub created: Timestamp,
    /// Its last change.
    pub updated: Timestamp,
    /// What the device answered.
    pub outcome: Option<MethodAnswer>,
    /// Why it failed, or why its last try did.
    pub error: Option<Failure>,
    /// Tries so far.
    pub attempts: u32,
}
