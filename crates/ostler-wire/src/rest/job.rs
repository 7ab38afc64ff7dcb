//! Jobs as JSON for services (service §10), and what Ostler adds to them.
//!
//! Must not know how a job is run, nor whether its id is taken.
//!
//! Invariant: a job has `createdTime`, `startTime` and `endTime`, a device's part of it names that end in `Utc`; one
//! client refuses both spellings in one object (service §10.3).

use super::error::ErrorCode;
use super::fields::{Fields, InvalidBody};
use super::identity::write_list;
use super::method::read_call_fields;
use super::query::Query;
use super::rollout::{read_rollout, write_rollout};
use super::twin::read_patch_fields;
use ostler_core::job::{
    DeviceJob, DryRun, JobCounts, JobId, JobKind, JobSpec, JobStatus, JobView, Rollout, WaveView, Work,
};
use ostler_core::json::{write_string, ObjectWriter};
use ostler_core::method::MethodCall;
use ostler_core::time::Timestamp;
use ostler_core::twin::{SectionPatch, TwinPatch};

/// The etag that stands in every twin job: its changes are unconditional (service §10.2).
const FORCED: &str = "*";

/// Who reads a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Azure's clients: Azure's members and words only.
    Azure,
    /// Whoever knows Ostler's own: the rollout, the wave, failures by cause, and `paused`.
    Ostler,
}

/// Reads the body of a creation. A rollout counts only on Ostler's own route; on Azure's it is one more member that is
/// not known there.
///
/// # Errors
/// [`InvalidBody`] names the member and the rule. A condition that cannot be parsed is no error: the job fails later and
/// says so (service §10.2).
pub fn read_job(path_id: &JobId, body: &[u8], audience: Audience) -> Result<JobSpec, InvalidBody> {
    let fields = Fields::of_body(body)?;
    match fields.text("jobId")? {
        Some(id) if id != path_id.as_str() => {
            let text = format!("jobId in the body is not '{path_id}', the one in the path");
            Err(InvalidBody::argument(text))
        }
        _ => read_spec(path_id, &fields, audience),
    }
}

/// Reads the body of a dry run: a job that may have no id.
///
/// # Errors
/// As [`read_job`].
pub fn read_dry_run(body: &[u8]) -> Result<JobSpec, InvalidBody> {
    let fields = Fields::of_body(body)?;
    let id = fields.text("jobId")?;
    let id = read_id(id.as_deref().unwrap_or("dryRun"))?;
    read_spec(&id, &fields, Audience::Ostler)
}

/// Reads the body of a retry, `{"jobId": …}`: the id of the new job.
///
/// # Errors
/// [`InvalidBody`] when it is missing or breaks the rules.
pub fn read_retry(body: &[u8]) -> Result<JobId, InvalidBody> {
    let id = Fields::of_body(body)?.text("jobId")?;
    read_id(&id.ok_or_else(|| InvalidBody::missing("jobId"))?)
}

/// Reads a job's id.
///
/// # Errors
/// [`InvalidBody`] names the rule.
pub fn read_id(text: &str) -> Result<JobId, InvalidBody> {
    JobId::new(text).map_err(|error| InvalidBody::argument(error.to_string()))
}

fn read_spec(id: &JobId, fields: &Fields<'_>, audience: Audience) -> Result<JobSpec, InvalidBody> {
    let work = match fields.text("type")?.as_deref().and_then(read_kind) {
        Some(JobKind::Method) => Work::Method(read_method(fields)?),
        Some(JobKind::Twin) => Work::Twin(read_twin(fields)?),
        None => {
            let text = "type must be scheduleDeviceMethod or scheduleUpdateTwin".to_owned();
            return Err(InvalidBody { code: ErrorCode::GenericBadRequest, text });
        }
    };
    let condition = fields.text("queryCondition")?.ok_or_else(|| InvalidBody::missing("queryCondition"))?;
    let start = fields.text("startTime")?.map(|text| {
        let wrong = || {
            let shown: String = text.chars().take(64).collect();
            InvalidBody::argument(format!("startTime '{shown}' is not a time such as 2026-01-31T03:00:00Z"))
        };
        read_time(&text).ok_or_else(wrong)
    });
    let max_execution = fields.integer("maxExecutionTimeInSeconds")?.unwrap_or(0);
    let spec = JobSpec {
        id: id.clone(),
        work,
        condition: condition.into_owned(),
        start: start.transpose()?,
        max_execution_secs: u64::try_from(max_execution).map_err(|_| {
            InvalidBody::argument(format!(
                "maxExecutionTimeInSeconds is {max_execution}, it cannot be negative"
            ))
        })?,
        rollout: match audience {
            Audience::Azure => Rollout::default(),
            Audience::Ostler => read_rollout(&fields.fields("rollout")?)?,
        },
    };
    spec.checked().map_err(|error| InvalidBody::argument(error.to_string()))
}

/// The service's word in any case.
fn read_kind(text: &str) -> Option<JobKind> {
    let of = |kind: JobKind| kind.name().eq_ignore_ascii_case(text).then_some(kind);
    JobKind::parse(text).or_else(|| of(JobKind::Method)).or_else(|| of(JobKind::Twin))
}

fn read_method(fields: &Fields<'_>) -> Result<MethodCall, InvalidBody> {
    if fields.get("cloudToDeviceMethod").is_none() {
        return Err(InvalidBody::missing("cloudToDeviceMethod"));
    }
    read_call_fields(&fields.fields("cloudToDeviceMethod")?)
}

/// A twin with what is to be merged. Its etag is `*` or not there: a job writes unconditionally, and one who asks for
/// something else should know.
fn read_twin(fields: &Fields<'_>) -> Result<TwinPatch, InvalidBody> {
    if fields.get("updateTwin").is_none() {
        return Err(InvalidBody::missing("updateTwin"));
    }
    let twin = fields.fields("updateTwin")?;
    match twin.text("etag")?.as_deref().map(|etag| etag.trim_matches('"')) {
        None | Some(FORCED) => read_patch_fields(&twin),
        Some(_) => {
            Err(InvalidBody::argument("updateTwin.etag must be * or absent: jobs write unconditionally"))
        }
    }
}

/// Reads a time as clients write it: ISO 8601 with `Z`, with an offset, or without a zone, which is UTC (service §10.2).
pub fn read_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Some(time) = Timestamp::parse(text) {
        return Some(time);
    }
    let at = text.get(19..)?.rfind(['+', '-'])? + 19;
    let (local, offset) = text.split_at(at);
    let west = offset.starts_with('-');
    let digits = offset.get(1..)?.replacen(':', "", 1);
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (digits[..2].parse().ok()?, digits[2..].parse().ok()?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let secs = hours * 3600 + minutes * 60;
    // A `Z` and an offset exclude each other.
    let local = (!local.ends_with('Z')).then(|| Timestamp::parse(local)).flatten()?;
    Some(local.plus_secs(if west { secs } else { -secs }))
}

/// Which jobs a list is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct JobFilter {
    /// Only this kind.
    pub kind: Option<JobKind>,
    /// Only jobs that stand there, in the words of whoever asks.
    pub status: Option<JobStatus>,
}

/// Reads `jobType` and `jobStatus` of a list; empty ones are none.
///
/// # Errors
/// [`InvalidBody`] for a word that no job can have: who waits for such a job would wait for ever.
pub fn read_filter(query: Query<'_>) -> Result<JobFilter, InvalidBody> {
    let word = |name: &str| query.value(name).filter(|word| !word.is_empty());
    let unknown = |name: &str, word: &str, words: Vec<&str>| {
        let shown: String = word.chars().take(64).collect();
        InvalidBody::argument(format!("{name} '{shown}' does not exist; there are {}", words.join(", ")))
    };
    let kind = word("jobType").map(|word| {
        let words = || vec![JobKind::Method.name(), JobKind::Twin.name()];
        read_kind(&word).ok_or_else(|| unknown("jobType", &word, words()))
    });
    let status = word("jobStatus").map(|word| {
        let found = JobStatus::parse(&word.to_ascii_lowercase());
        let words = || JobStatus::ALL.iter().map(|status| status.name()).collect();
        found.ok_or_else(|| unknown("jobStatus", &word, words()))
    });
    Ok(JobFilter { kind: kind.transpose()?, status: status.transpose()? })
}

/// Whether a client's list of jobs must be an object instead of an array: one client's model says so and raises on the
/// array that everybody else wants (service §10.1).
pub fn wants_list_object(user_agent: Option<&str>) -> bool {
    user_agent.is_some_and(|text| text.contains("iothubgatewayserviceapis"))
}

/// Appends a list of jobs as an array.
pub fn write_jobs(jobs: &[JobView], audience: Audience, out: &mut Vec<u8>) {
    write_list(jobs, out, |job, out| write_job(job, audience, out));
}

/// Appends a list of jobs as the object that [`wants_list_object`] tells of.
pub fn write_jobs_object(jobs: &[JobView], continuation: Option<&str>, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.string("type", "jobResponse");
    write_jobs(jobs, Audience::Azure, object.key("items"));
    object.string_or_null("continuationToken", continuation);
    object.end();
}

/// Appends a job.
pub fn write_job(job: &JobView, audience: Audience, out: &mut Vec<u8>) {
    let spec = &job.spec;
    let mut object = ObjectWriter::new(out);
    object.string("jobId", spec.id.as_str()).string("queryCondition", &spec.condition);
    object.time("createdTime", job.created);
    object.time("startTime", spec.start.map_or(job.created, |start| start.max(job.created)));
    optional_time(&mut object, "endTime", job.ended);
    object.count("maxExecutionTimeInSeconds", spec.max_execution_secs);
    object.string("type", spec.work.kind().name());
    match &spec.work {
        Work::Twin(patch) => {
            write_twin(patch, object.object("updateTwin"));
            object.null("cloudToDeviceMethod");
        }
        Work::Method(call) => {
            object.null("updateTwin");
            write_method(call, object.object("cloudToDeviceMethod"));
        }
    }
    object.string("status", status_word(job.status, audience));
    object.string_or_null("failureReason", job.failure_reason.as_deref());
    object.string_or_null("statusMessage", job.status_message.as_deref());
    if let Some(counts) = &job.counts {
        write_counts(counts, audience, object.object("deviceJobStatistics"));
    }
    if let Some(parent) = &job.parent {
        object.string("parentJobId", parent.as_str());
    }
    if audience == Audience::Ostler {
        write_details(job, &mut object);
    }
    object.end();
}

/// The service has no word for a job that is held.
fn status_word(status: JobStatus, audience: Audience) -> &'static str {
    match (status, audience) {
        (JobStatus::Paused, Audience::Azure) => JobStatus::Running.name(),
        _ => status.name(),
    }
}

fn write_method(call: &MethodCall, mut object: ObjectWriter<'_>) {
    object.string("methodName", call.name.as_str()).raw("payload", &call.payload);
    object.count("responseTimeoutInSeconds", call.response_timeout.as_secs());
    object.count("connectTimeoutInSeconds", call.connect_timeout.as_secs());
    object.end();
}

fn write_twin(patch: &TwinPatch, mut object: ObjectWriter<'_>) {
    object.string("etag", FORCED);
    let write = |section: &SectionPatch, out: &mut Vec<u8>| match section {
        SectionPatch::Merge(members) => members.write_to(out),
        SectionPatch::Clear => out.extend_from_slice(b"null"),
    };
    if let Some(tags) = &patch.tags {
        write(tags, object.key("tags"));
    }
    if let Some(desired) = &patch.desired {
        let mut properties = object.object("properties");
        write(desired, properties.key("desired"));
        properties.end();
    }
    object.end();
}

fn write_counts(counts: &JobCounts, audience: Audience, mut object: ObjectWriter<'_>) {
    object.count("deviceCount", counts.devices).count("failedCount", counts.failed);
    object.count("succeededCount", counts.succeeded).count("runningCount", counts.running);
    object.count("pendingCount", counts.pending);
    if audience == Audience::Ostler {
        object.count("cancelledCount", counts.cancelled);
    }
    object.end();
}

fn write_details(job: &JobView, object: &mut ObjectWriter<'_>) {
    optional_time(object, "startedTime", job.started);
    write_rollout(&job.spec.rollout, object.object("rollout"));
    if let Some(wave) = &job.wave {
        write_wave(wave, object.object("wave"));
    }
    let mut causes = object.object("failuresByCause");
    for (cause, count) in &job.failures_by_cause {
        causes.count(cause, *count);
    }
    causes.end();
}

fn write_wave(wave: &WaveView, mut object: ObjectWriter<'_>) {
    object.count("number", wave.number).count("count", wave.count).count("deviceCount", wave.devices);
    if let Some(value) = &wave.value {
        object.string("value", value);
    }
    optional_time(&mut object, "soakUntil", wave.soak_until);
    object.end();
}

/// Appends what a job would do.
pub fn write_dry_run(run: &DryRun, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.count("deviceCount", run.count);
    write_list(&run.sample, object.key("sample"), |id, out| write_string(id.as_str(), out));
    write_list(&run.waves, object.key("waves"), |wave, out| {
        let mut object = ObjectWriter::new(out);
        object.count("deviceCount", wave.devices);
        if let Some(value) = &wave.value {
            object.string("value", value);
        }
        object.end();
    });
    object.end();
}

/// Appends what became of one device: a row of `devices.jobs` (service §10.4).
pub fn write_device_job(row: &DeviceJob, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.string("deviceId", row.device.as_str()).string("jobId", row.job.as_str());
    object.string("jobType", row.kind.name()).string("status", row.status.name());
    optional_time(&mut object, "startTimeUtc", row.start);
    optional_time(&mut object, "endTimeUtc", row.end);
    object.time("createdDateTimeUtc", row.created).time("lastUpdatedDateTimeUtc", row.updated);
    let mut outcome = object.object("outcome");
    if let Some(answer) = &row.outcome {
        super::method::write_answer(answer, outcome.key("deviceMethodResponse"));
    }
    outcome.end();
    if let Some(failure) = &row.error {
        let mut error = object.object("error");
        error.string("code", failure.code.name()).string("description", &failure.text);
        error.end();
    }
    object.end();
}

fn optional_time(object: &mut ObjectWriter<'_>, name: &str, time: Option<Timestamp>) {
    if let Some(time) = time {
        object.time(name, time);
    }
}

#[cfg(test)]
mod tests;
