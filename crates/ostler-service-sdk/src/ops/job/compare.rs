//! Whether a job that exists is the one that a caller meant to create.
//!
//! Must not know how either came about.
//!
//! Invariant: what the caller left open differs from nothing.

use serde_json::{json, Value};

use crate::model::{Job, JobWork, NewJob, Rollout};

/// The hub's own value for a job that names none, in seconds (service §10.2).
const DEFAULT_MAX_EXECUTION_SECS: u64 = 3600;

pub(super) fn differs(wanted: &NewJob, existing: &Job) -> bool {
    let max_execution = match wanted.max_execution.as_secs() {
        0 => DEFAULT_MAX_EXECUTION_SECS,
        secs => secs,
    };
    wanted.kind() != existing.kind
        || Some(&wanted.condition) != existing.query_condition.as_ref()
        || existing.max_execution_time_in_seconds.is_some_and(|secs| secs != max_execution)
        || start_differs(wanted.start_time.as_deref(), existing)
        || work_differs(&wanted.work, existing)
        || rollout_differs(wanted, existing)
}

fn rollout_differs(wanted: &NewJob, existing: &Job) -> bool {
    let Some(wanted) = &wanted.rollout else { return false };
    let value = |rollout: &Rollout| serde_json::to_value(rollout).unwrap_or_default();
    existing.rollout.as_ref().is_none_or(|existing| !is_within(&value(wanted), &value(existing)))
}

/// Whether each member of the one is in the other too.
fn is_within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|other| is_within(value, other)))
        }
        _ => part == whole,
    }
}

/// A start that had passed when the job came is the time of its creation; so only a start that lies behind it counts.
fn start_differs(wanted: Option<&str>, existing: &Job) -> bool {
    let (Some(wanted), Some(start)) = (wanted, existing.start_time.as_deref()) else { return false };
    let (Some(wanted), Some(start)) = (instant(wanted), instant(start)) else { return true };
    let created = existing.created_time.as_deref().and_then(instant);
    wanted != start && created.is_none_or(|created| wanted > created)
}

/// As the hub reads times.
fn instant(text: &str) -> Option<ostler_core::time::Timestamp> {
    ostler_wire::rest::job::read_time(text)
}

fn work_differs(wanted: &JobWork, existing: &Job) -> bool {
    match wanted {
        JobWork::Method(call) => {
            let member =
                |name: &str| existing.cloud_to_device_method.as_ref().and_then(|call| call.get(name));
            let secs = |name: &str| member(name).and_then(Value::as_u64);
            member("methodName").and_then(Value::as_str) != Some(&call.method_name)
                || member("payload").unwrap_or(&Value::Null) != call.payload.as_ref().unwrap_or(&Value::Null)
                || secs("responseTimeoutInSeconds") != Some(call.response_timeout.as_secs())
                || secs("connectTimeoutInSeconds").unwrap_or(0) != call.connect_timeout.as_secs()
        }
        JobWork::Twin(patch) => {
            let Some(twin) = &existing.update_twin else { return true };
            let section = |value: Option<&Value>| value.cloned().unwrap_or(json!({}));
            section(twin.get("tags")) != section(patch.tags.as_ref())
                || section(twin.pointer("/properties/desired")) != section(patch.desired.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MethodCall, TwinPatch};
    use std::time::Duration;

    fn existing(text: &str) -> Job {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn method_jobs() {
        let existing = existing(
            r#"{"jobId":"j","type":"scheduleDeviceMethod","queryCondition":"*","status":"running","maxExecutionTimeInSeconds":3600,
                "createdTime":"2026-01-31T03:00:00.0000000Z","startTime":"2026-01-31T04:00:00.0000000Z",
                "cloudToDeviceMethod":{"methodName":"m","payload":1.0,"responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0},"updateTwin":null}"#,
        );
        let mut call = MethodCall::new("m");
        call.payload = serde_json::from_str("1.0").ok();
        let same = NewJob::new("j", JobWork::Method(call.clone()), "*");
        assert!(!differs(&same, &existing));
        for start in ["2026-01-31T05:00:00+01:00", "2026-01-31T04:00:00Z", "2026-01-31T02:00:00Z"] {
            assert!(
                !differs(&NewJob { start_time: Some(start.into()), ..same.clone() }, &existing),
                "{start}"
            );
        }
        let later = Some("2026-01-31T05:00:00Z".to_owned());
        call.payload = None;
        for other in [
            NewJob { condition: "deviceId = 'a'".into(), ..same.clone() },
            NewJob { start_time: later, ..same.clone() },
            NewJob { max_execution: Duration::from_secs(60), ..same.clone() },
            NewJob { work: JobWork::Method(call), ..same.clone() },
            NewJob { work: JobWork::Twin(TwinPatch::default()), ..same.clone() },
        ] {
            assert!(differs(&other, &existing), "{other:?}");
        }
    }

    #[test]
    fn rollouts() {
        let existing = existing(
            r#"{"jobId":"j","type":"scheduleUpdateTwin","queryCondition":"*","status":"running","updateTwin":{"etag":"*","tags":{}},
                "rollout":{"rate":5,"attempts":1,"offline":"wait","waves":{"sizes":[1,10]},"gate":{"stopAfterFailures":3}}}"#,
        );
        let mut job = NewJob::new("j", JobWork::Twin(TwinPatch::tags(json!({}))), "*");
        for (rollout, same) in [
            (r#"{"rate":5}"#, true),
            (r#"{"rate":5,"offline":"wait","waves":{"sizes":[1,10]},"gate":{}}"#, true),
            (r#"{"rate":6}"#, false),
            (r#"{"concurrency":5}"#, false),
            (r#"{"waves":{"percent":[1,10]}}"#, false),
        ] {
            job.rollout = serde_json::from_str(rollout).ok();
            assert_eq!(!differs(&job, &existing), same, "{rollout}");
        }
        assert!(differs(&job, &Job { rollout: None, ..existing }));
    }

    #[test]
    fn twin_jobs() {
        let existing = existing(
            r#"{"jobId":"j","type":"scheduleUpdateTwin","queryCondition":"*","status":"running",
                "updateTwin":{"etag":"*","properties":{"desired":{"a":1}}}}"#,
        );
        let job = |patch| NewJob::new("j", JobWork::Twin(patch), "*");
        assert!(!differs(&job(TwinPatch::desired(json!({"a": 1}))), &existing));
        assert!(differs(&job(TwinPatch::desired(json!({"a": 2}))), &existing));
        assert!(differs(&job(TwinPatch::tags(json!({"a": 1}))), &existing));
    }
}
