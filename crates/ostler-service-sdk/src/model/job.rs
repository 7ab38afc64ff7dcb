//! Jobs: one piece of work for many devices (service §10), and what Ostler adds to them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ostler_core::time::Timestamp;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::method::{MethodCall, MethodResult};
use super::twin::TwinPatch;
use super::{words, JsonObject};

words! {
    /// What a job does to each device.
    JobType {
        /// Calls a method.
        Method = "scheduleDeviceMethod",
        /// Writes tags and desired properties.
        Twin = "scheduleUpdateTwin",
    }
}

words! {
    /// Where a job stands.
    JobStatus {
        /// The hub does not say.
        Unknown = "unknown",
        /// Taken, not looked at yet.
        Enqueued = "enqueued",
        /// Waits for its turn.
        Queued = "queued",
        /// Waits for its start time.
        Scheduled = "scheduled",
        /// At work.
        Running = "running",
        /// Held by a person; shown by Ostler's own routes, `running` elsewhere.
        Paused = "paused",
        /// Every device has its outcome; some may have failed.
        Completed = "completed",
        /// It could not run, or its gate stopped it.
        Failed = "failed",
        /// Called off.
        Cancelled = "cancelled",
    }
}

impl JobStatus {
    /// Whether nothing will happen any more.
    ///
    /// ```
    /// use ostler_service_sdk::JobStatus;
    ///
    /// assert!(JobStatus::Cancelled.is_final() && !JobStatus::Running.is_final());
    /// ```
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

words! {
    /// Where one device of a job stands.
    DeviceJobStatus {
        /// Not begun.
        Pending = "pending",
        /// Chosen, and waiting: for its turn, a further attempt, or the device.
        Scheduled = "scheduled",
        /// Begun.
        Running = "running",
        /// Done.
        Completed = "completed",
        /// Not done; the error tells why.
        Failed = "failed",
        /// Called off before it began.
        Canceled = "canceled",
    }
}

/// What a new job does to each device.
#[derive(Debug, Clone, PartialEq)]
pub enum JobWork {
    /// Calls a method.
    Method(MethodCall),
    /// Merges into tags and desired properties.
    Twin(TwinPatch),
}

/// A job to create.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Chosen by the caller, up to 64 characters. It is what makes creating a job twice harmless.
    pub id: String,
    /// What it does to each device.
    pub work: JobWork,
    /// Which devices: what follows `WHERE` in a query over `devices`; `*` is all.
    pub condition: String,
    /// When to start, ISO 8601; at once without it.
    pub start_time: Option<String>,
    /// How long it may take, counted from the start; whole seconds go out.
    pub max_execution: Duration,
    /// How it goes through the devices. Only Ostler's own routes take it.
    pub rollout: Option<Rollout>,
}

impl NewJob {
    /// A job that starts at once and has an hour.
    ///
    /// ```
    /// use ostler_service_sdk::{JobWork, NewJob, TwinPatch};
    /// use std::time::Duration;
    ///
    /// let place = TwinPatch::desired(serde_json::json!({ "building": 43 }));
    /// let job = NewJob {
    ///     max_execution: Duration::from_secs(600),
    ///     ..NewJob::new("place-1", JobWork::Twin(place), "tags.site = 'A'")
    /// };
    /// # assert_eq!(job.id, "place-1");
    /// ```
    pub fn new(id: impl Into<String>, work: JobWork, condition: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            work,
            condition: condition.into(),
            start_time: None,
            max_execution: Duration::from_secs(3600),
            rollout: None,
        }
    }

    /// The same job, to start then instead of at once.
    ///
    /// ```
    /// use ostler_service_sdk::{JobWork, MethodCall, NewJob};
    /// use std::time::{Duration, SystemTime};
    ///
    /// let tonight = SystemTime::now() + Duration::from_secs(8 * 3600);
    /// let job = NewJob::new("reboot-1", JobWork::Method(MethodCall::new("reboot")), "tags.site = 'A'");
    /// let job = job.starting_at(tonight);
    /// # assert!(job.start_time.is_some());
    /// ```
    #[must_use]
    pub fn starting_at(mut self, time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let secs = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        self.start_time = Some(Timestamp::from_unix_secs(secs).to_string());
        self
    }

    /// The same job, going through its devices in this way. Only Ostler knows how.
    ///
    /// ```
    /// use ostler_service_sdk::{JobWork, MethodCall, NewJob, Rollout, Waves};
    ///
    /// let waves = Rollout { waves: Some(Waves::ByTag("tags.site".into())), ..Rollout::default() };
    /// let job = NewJob::new("reboot-1", JobWork::Method(MethodCall::new("reboot")), "*").with_rollout(waves);
    /// # assert!(job.rollout.is_some());
    /// ```
    #[must_use]
    pub fn with_rollout(mut self, rollout: Rollout) -> Self {
        self.rollout = Some(rollout);
        self
    }

    /// What kind of work it is.
    ///
    /// ```
    /// use ostler_service_sdk::{JobType, JobWork, MethodCall, NewJob};
    ///
    /// let job = NewJob::new("reboot-1", JobWork::Method(MethodCall::new("reboot")), "*");
    /// assert_eq!(job.kind(), JobType::Method);
    /// ```
    pub fn kind(&self) -> JobType {
        match self.work {
            JobWork::Method(_) => JobType::Method,
            JobWork::Twin(_) => JobType::Twin,
        }
    }
}

impl Serialize for NewJob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("jobId", &self.id)?;
        map.serialize_entry("type", &self.kind())?;
        match &self.work {
            JobWork::Method(call) => map.serialize_entry("cloudToDeviceMethod", call)?,
            JobWork::Twin(patch) => map.serialize_entry("updateTwin", &ForcedPatch(patch))?,
        }
        map.serialize_entry("queryCondition", &self.condition)?;
        if let Some(start_time) = &self.start_time {
            map.serialize_entry("startTime", start_time)?;
        }
        map.serialize_entry("maxExecutionTimeInSeconds", &self.max_execution.as_secs())?;
        if let Some(rollout) = &self.rollout {
            map.serialize_entry("rollout", rollout)?;
        }
        map.end()
    }
}

/// A patch with the etag that the service wants to see in a job (service §10.2).
struct ForcedPatch<'a>(&'a TwinPatch);

impl Serialize for ForcedPatch<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Forced<'a> {
            etag: &'static str,
            #[serde(flatten)]
            patch: &'a TwinPatch,
        }
        Forced { etag: "*", patch: self.0 }.serialize(serializer)
    }
}

/// How a job goes through its devices. The default is Azure's way: all at once, each device tried once, devices that
/// are offline waited for until the job's time is over.
///
/// ```
/// use ostler_service_sdk::{Gate, Rollout, Waves};
///
/// let careful = Rollout {
///     rate: Some(50),
///     waves: Some(Waves::Percent(vec![1, 10])),
///     gate: Some(Gate { min_success_percent: Some(95), soak_secs: Some(600), ..Gate::default() }),
///     ..Rollout::default()
/// };
/// # let _ = careful;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Devices begun per second, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Devices at work at the same time, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Attempts per device, the first one included; 1 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// How long to wait before a device is tried again.
    #[serde(default, rename = "retryBackoffInSeconds", skip_serializing_if = "Option::is_none")]
    pub retry_backoff_secs: Option<u32>,
    /// What becomes of a method call to a device that is offline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline: Option<Offline>,
    /// One part of the devices after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<Waves>,
    /// What must hold for the job to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

words! {
    /// What becomes of a method call to a device that is offline.
    Offline {
        /// It is called when it connects before the job's time is over.
        Wait = "wait",
        /// It fails at once.
        Fail = "fail",
    }
}

/// How a job's devices are cut into waves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Waves {
    /// This many devices, then this many …; the last wave takes the rest.
    Sizes(Vec<u64>),
    /// This share of the devices, then this share …, in percent of all, 100 together at most; the last wave takes
    /// the rest.
    Percent(Vec<u8>),
    /// One wave for each value of a tag, for instance `tags.site`; devices without it come last.
    ByTag(String),
}

/// What must hold for a job to go on. A member that is not there holds always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// The share of a wave that must succeed for the next one to begin, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_success_percent: Option<u8>,
    /// Stop after this many failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after_failures: Option<u64>,
    /// Stop when this share of a wave's devices failed, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after_failed_percent: Option<u8>,
    /// Stop after this many failures in a row.
    #[serde(default, rename = "stopAfterConsecutiveFailures", skip_serializing_if = "Option::is_none")]
    pub stop_after_consecutive: Option<u64>,
    /// How long to wait between two waves.
    #[serde(default, rename = "soakTimeInSeconds", skip_serializing_if = "Option::is_none")]
    pub soak_secs: Option<u32>,
}

/// A job as the hub tells of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Job {
    /// Its name.
    pub job_id: String,
    /// Which devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_condition: Option<String>,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<String>,
    /// When it starts or started, ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// When it ended, ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    /// How long it may take, counted from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_execution_time_in_seconds: Option<u64>,
    /// What kind of work it is.
    #[serde(rename = "type")]
    pub kind: JobType,
    /// What is written, of a twin job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_twin: Option<Value>,
    /// What is called, of a method job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_to_device_method: Option<Value>,
    /// Where it stands.
    pub status: JobStatus,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// Further words on its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
    /// How many devices stand where; absent until the devices are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_job_statistics: Option<JobStatistics>,
    /// The job whose failed devices this one tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_job_id: Option<String>,
    /// How it goes through the devices (Ostler's own routes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// When its devices were chosen, ISO 8601 (Ostler's own routes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_time: Option<String>,
    /// Which wave it is in (Ostler's own routes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<WaveProgress>,
    /// How many devices failed for which cause (Ostler's own routes).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures_by_cause: BTreeMap<String, u64>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

/// How many devices of a job stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct JobStatistics {
    /// All of them.
    pub device_count: u64,
    /// Not done.
    pub failed_count: u64,
    /// Done.
    pub succeeded_count: u64,
    /// Begun.
    pub running_count: u64,
    /// Not begun.
    pub pending_count: u64,
    /// Called off (Ostler's own routes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_count: Option<u64>,
}

impl JobStatistics {
    /// Devices that will not change any more.
    ///
    /// ```
    /// use ostler_service_sdk::JobStatistics;
    ///
    /// fn line(counts: &JobStatistics) -> String {
    ///     format!("{} of {}", counts.ended(), counts.device_count)
    /// }
    /// assert_eq!(line(&JobStatistics::default()), "0 of 0");
    /// ```
    pub fn ended(&self) -> u64 {
        self.failed_count + self.succeeded_count + self.cancelled_count.unwrap_or(0)
    }
}

/// Which wave a job is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct WaveProgress {
    /// Counted from 1.
    pub number: u64,
    /// Of how many.
    pub count: u64,
    /// How many devices it has.
    pub device_count: u64,
    /// The value that its devices share, of [`Waves::ByTag`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// While the job waits for this wave: until when, ISO 8601.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak_until: Option<String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

/// What a job would touch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct DryRun {
    /// How many devices meet the condition now.
    pub device_count: u64,
    /// The first of them, 100 at most.
    pub sample: Vec<String>,
    /// How many devices each wave would have.
    pub waves: Vec<DryRunWave>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

/// A wave of a dry run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct DryRunWave {
    /// How many devices.
    pub device_count: u64,
    /// The value that they share, of [`Waves::ByTag`]; absent for those without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What a job did to one device (service §10.4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeviceJob {
    /// The device.
    pub device_id: String,
    /// The job.
    pub job_id: String,
    /// What kind of work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_type: Option<JobType>,
    /// Where it stands.
    pub status: DeviceJobStatus,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time_utc: Option<String>,
    /// ISO 8601; the deadline until it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time_utc: Option<String>,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_date_time_utc: Option<String>,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated_date_time_utc: Option<String>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<DeviceJobOutcome>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DeviceJobError>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

/// What came of a job on one device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct DeviceJobOutcome {
    /// The device's answer to the method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_method_response: Option<MethodResult>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

/// Why a job failed on one device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct DeviceJobError {
    /// The service's name of the error.
    pub code: String,
    /// For people.
    pub description: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_method_job_as_the_service_expects_it() {
        let job = NewJob::new("j1", JobWork::Method(MethodCall::new("reboot")), "*");
        let job = job.starting_at(UNIX_EPOCH + Duration::from_secs(1_769_828_400));
        assert_eq!(
            serde_json::to_string(&job).unwrap(),
            r#"{"jobId":"j1","type":"scheduleDeviceMethod","cloudToDeviceMethod":{"methodName":"reboot","responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0},"queryCondition":"*","startTime":"2026-01-31T03:00:00.0000000Z","maxExecutionTimeInSeconds":3600}"#
        );
    }

    #[test]
    fn a_twin_job_with_a_rollout() {
        let patch = TwinPatch { tags: Some(Value::Null), desired: Some(json!({"floor": 3})) };
        let mut job = NewJob::new("j2", JobWork::Twin(patch), "tags.site = 'A'");
        job.rollout = Some(Rollout {
            rate: Some(50),
            offline: Some(Offline::Fail),
            waves: Some(Waves::Percent(vec![1, 10])),
            gate: Some(Gate { min_success_percent: Some(95), soak_secs: Some(60), ..Gate::default() }),
            ..Rollout::default()
        });
        assert_eq!(
            serde_json::to_string(&job).unwrap(),
            r#"{"jobId":"j2","type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":null,"properties":{"desired":{"floor":3}}},"queryCondition":"tags.site = 'A'","maxExecutionTimeInSeconds":3600,"rollout":{"rate":50,"offline":"fail","waves":{"percent":[1,10]},"gate":{"minSuccessPercent":95,"soakTimeInSeconds":60}}}"#
        );
    }

    #[test]
    fn what_a_hub_tells_is_read_whole_or_minimal() {
        let minimal: Job =
            serde_json::from_str(r#"{"jobId":"j","type":"scheduleUpdateTwin","status":"queued"}"#).unwrap();
        assert!(!minimal.status.is_final());
        let whole = r#"{"jobId":"j","type":"scheduleDeviceMethod","cloudToDeviceMethod":{"payload":1.0},"updateTwin":null,"status":"cancelled","deviceJobStatistics":{"deviceCount":5,"failedCount":1,"succeededCount":2},"later":1}"#;
        let whole: Job = serde_json::from_str(whole).unwrap();
        assert_eq!(whole.device_job_statistics.unwrap().ended(), 3);
        assert_eq!(whole.cloud_to_device_method.unwrap()["payload"].to_string(), "1.0");
        assert!(whole.status.is_final() && whole.extra.contains_key("later"));
    }
}
