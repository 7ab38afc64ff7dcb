//! Requests as the five clients send them, and answers to the letter.

use super::*;
use crate::rest::testing::NOW;
use ostler_core::id::DeviceId;
use ostler_core::job::{DeviceJobStatus, Failure, FailureCode, Wave};
use ostler_core::method::MethodAnswer;
use std::collections::BTreeMap;
use std::sync::Arc;

fn id(text: &str) -> JobId {
    JobId::new(text).unwrap()
}

fn read(body: &str) -> Result<JobSpec, InvalidBody> {
    read_job(&id("j1"), body.as_bytes(), Audience::Ostler)
}

fn view(spec: JobSpec, status: JobStatus) -> JobView {
    JobView {
        spec: Arc::new(spec),
        created: NOW,
        started: None,
        ended: None,
        status,
        failure_reason: None,
        status_message: None,
        counts: None,
        wave: None,
        failures_by_cause: BTreeMap::new(),
        parent: None,
    }
}

fn printed(job: &JobView, audience: Audience) -> String {
    let mut out = Vec::new();
    write_job(job, audience, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn method_jobs_of_each_client() {
    // Python, Node, .NET, Java and the command line extension, in this order (service §10.2).
    for body in [
        r#"{"jobId":"j1","type":"scheduleDeviceMethod","cloudToDeviceMethod":{"methodName":"m","payload":{"a": 1.0},"responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0},"queryCondition":"deviceId = 'a'","startTime":"2026-01-31T03:00:00.000000Z","maxExecutionTimeInSeconds":3600}"#,
        r#"{"jobId":"j1","type":"scheduleDeviceMethod","cloudToDeviceMethod":{"methodName":"m","payload":{"a": 1.0},"responseTimeoutInSeconds":30},"queryCondition":"deviceId = 'a'","startTime":"2026-01-31T03:00:00.000Z","maxExecutionTimeInSeconds":3600}"#,
        r#"{"jobId":"j1","type":"scheduleDeviceMethod","cloudToDeviceMethod":{"methodName":"m","payload":{"a": 1.0}},"updateTwin":null,"queryCondition":"deviceId = 'a'","startTime":"2026-01-31T03:00:00.0000000Z","maxExecutionTimeInSeconds":3600}"#,
        r#"{"jobId":"j1","type":"scheduleDeviceMethod","cloudToDeviceMethod":{"methodName":"m","responseTimeoutInSeconds":30,"payload":{"a": 1.0}},"queryCondition":"deviceId = 'a'","startTime":"2026-01-31T03:00:00Z","maxExecutionTimeInSeconds":3600}"#,
        r#"{"jobId":"j1","type":"scheduleDeviceMethod","cloudToDeviceMethod":{"methodName":"m","payload":{"a": 1.0},"responseTimeoutInSeconds":30,"connectTimeoutInSeconds":null},"queryCondition":"deviceId = 'a'","startTime":"2026-01-31T04:00:00+01:00","maxExecutionTimeInSeconds":0}"#,
    ] {
        let spec = read(body).unwrap();
        let Work::Method(call) = &spec.work else { panic!("a method") };
        assert_eq!((call.name.as_str(), &*call.payload), ("m", &br#"{"a": 1.0}"#[..]), "{body}");
        assert_eq!(spec.start, Some(Timestamp::from_unix_secs(1_769_828_400)), "{body}");
        assert_eq!((spec.max_execution_secs, spec.rollout), (3600, Rollout::default()), "{body}");
    }
}

#[test]
fn twin_jobs_of_each_client() {
    for body in [
        r#"{"type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":{"x":1},"properties":{"desired":{"y":null}}},"queryCondition":"*"}"#,
        r#"{"type":"ScheduleUpdateTwin","updateTwin":{"deviceId":null,"etag":"\"*\"","tags":{"x":1},"properties":{"desired":{"y":null},"reported":{"z":1}}},"queryCondition":"*","startTime":null}"#,
        r#"{"type":"scheduleUpdateTwin","cloudToDeviceMethod":null,"updateTwin":{"tags":{"x":1},"properties":{"desired":{"y":null}}},"queryCondition":"*","startTime":"","maxExecutionTimeInSeconds":null}"#,
    ] {
        let spec = read(body).unwrap();
        let Work::Twin(patch) = &spec.work else { panic!("a patch") };
        assert!(patch.tags.is_some() && patch.desired.is_some(), "{body}");
        assert_eq!((spec.start, spec.max_execution_secs), (None, 3600), "{body}");
    }
}

#[test]
fn refused_jobs() {
    const METHOD: &str = r#""cloudToDeviceMethod":{"methodName":"m"}"#;
    for (members, code, text) in [
        (r#""type":"import""#.to_owned(), ErrorCode::GenericBadRequest, "type must be"),
        (String::new(), ErrorCode::GenericBadRequest, "type must be"),
        (
            r#""type":"scheduleDeviceMethod""#.into(),
            ErrorCode::ArgumentNull,
            "cloudToDeviceMethod is missing",
        ),
        (r#""type":"scheduleUpdateTwin""#.into(), ErrorCode::ArgumentNull, "updateTwin is missing"),
        (
            r#""type":"scheduleDeviceMethod","cloudToDeviceMethod":{}"#.into(),
            ErrorCode::ArgumentNull,
            "methodName is missing",
        ),
        (
            r#""type":"scheduleUpdateTwin","updateTwin":{"etag":"*"}"#.into(),
            ErrorCode::ArgumentInvalid,
            "the twin update has neither",
        ),
        (
            r#""type":"scheduleUpdateTwin","updateTwin":{"etag":"AAAA","tags":{}}"#.into(),
            ErrorCode::ArgumentInvalid,
            "updateTwin.etag must be *",
        ),
        (
            format!(r#""type":"scheduleDeviceMethod",{METHOD},"startTime":"soon""#),
            ErrorCode::ArgumentInvalid,
            "startTime 'soon' is not a time",
        ),
        (
            format!(r#""type":"scheduleDeviceMethod",{METHOD},"maxExecutionTimeInSeconds":-1"#),
            ErrorCode::ArgumentInvalid,
            "maxExecutionTimeInSeconds is -1",
        ),
        (
            format!(r#""type":"scheduleDeviceMethod",{METHOD},"jobId":"j2""#),
            ErrorCode::ArgumentInvalid,
            "jobId in the body is not 'j1'",
        ),
        (
            format!(r#""type":"scheduleDeviceMethod",{METHOD},"rollout":{{"attempts":0}}"#),
            ErrorCode::ArgumentInvalid,
            "attempts is 0, allowed are 1",
        ),
    ] {
        let comma = if members.is_empty() { "" } else { "," };
        let error = read(&format!(r#"{{"queryCondition":"*"{comma}{members}}}"#)).unwrap_err();
        assert!(error.code == code && error.text.starts_with(text), "{members}: {error:?}");
    }
    for condition in ["", r#","queryCondition":"""#, r#","queryCondition":null"#] {
        let error = read(&format!(r#"{{"type":"scheduleDeviceMethod",{METHOD}{condition}}}"#)).unwrap_err();
        assert_eq!((error.code, &*error.text), (ErrorCode::ArgumentNull, "queryCondition is missing"));
    }
}

#[test]
fn a_rollout_counts_on_ostlers_route_only() {
    let body = br#"{"type":"scheduleUpdateTwin","updateTwin":{"tags":{}},"queryCondition":"nonsense here","rollout":{"rate":5}}"#;
    let spec = |audience| read_job(&id("j1"), body, audience).unwrap();
    assert_eq!(spec(Audience::Azure).rollout, Rollout::default());
    assert_eq!(spec(Audience::Ostler).rollout.rate, Some(5));
    assert_eq!(read_dry_run(body).unwrap().condition, "nonsense here");
}

#[test]
fn ids() {
    for good in ["j", "A-1_b.c:d", &"x".repeat(64)] {
        assert!(read_id(good).is_ok(), "{good}");
    }
    for bad in ["", "a b", "a/b", "é", &"x".repeat(65)] {
        assert_eq!(read_id(bad).unwrap_err().code, ErrorCode::ArgumentInvalid, "{bad}");
    }
    assert_eq!(read_retry(br#"{"jobId":"j2"}"#).unwrap(), id("j2"));
    assert_eq!(read_retry(b"{}").unwrap_err().code, ErrorCode::ArgumentNull);
}

#[test]
fn times() {
    let at = Some(Timestamp::from_unix_secs(1_769_828_400));
    for text in [
        "2026-01-31T03:00:00Z",
        "2026-01-31T03:00:00",
        "2026-01-31T03:00:00.000",
        " 2026-01-31T03:00:00.0000000+00:00 ",
        "2026-01-31T08:30:00.000+05:30",
        "2026-01-30T22:00:00-0500",
    ] {
        assert_eq!(read_time(text), at, "{text}");
    }
    for text in [
        "",
        "now",
        "2026-01-31",
        "2026-01-31T03:00:00+5",
        "2026-01-31T03:00:00Z+01:00",
        "2026-01-31T03:00:00+99:00",
        "2026-01-31T03:00:0é+01:00",
    ] {
        assert_eq!(read_time(text), None, "{text}");
    }
}

#[test]
fn filters_of_a_list() {
    let filter = |text| read_filter(Query::new(Some(text)));
    assert_eq!(filter("jobType=&jobStatus="), Ok(JobFilter::default()));
    assert_eq!(
        filter("jobType=scheduleUpdateTwin&jobStatus=Running"),
        Ok(JobFilter { kind: Some(JobKind::Twin), status: Some(JobStatus::Running) })
    );
    for text in ["jobType=export", "jobStatus=canceled"] {
        assert_eq!(filter(text).unwrap_err().code, ErrorCode::ArgumentInvalid, "{text}");
    }
    assert!(wants_list_object(Some("python/3.11 (Linux) msrest/0.7.1 iothubgatewayserviceapis/2021-04-12")));
    assert!(!wants_list_object(Some("azure-iothub/1.16")) && !wants_list_object(None));
}

#[test]
fn a_new_job_and_a_finished_one() {
    let spec = read(r#"{"type":"scheduleDeviceMethod","cloudToDeviceMethod":{"methodName":"m","payload":{"a": 1.0}},"queryCondition":"*","rollout":{"rate":5}}"#).unwrap();
    let mut job = view(spec, JobStatus::Queued);
    insta::assert_snapshot!(printed(&job, Audience::Azure), @r#"{"jobId":"j1","queryCondition":"*","createdTime":"2024-05-01T10:00:00.0000000Z","startTime":"2024-05-01T10:00:00.0000000Z","maxExecutionTimeInSeconds":3600,"type":"scheduleDeviceMethod","updateTwin":null,"cloudToDeviceMethod":{"methodName":"m","payload":{"a": 1.0},"responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0},"status":"queued","failureReason":null,"statusMessage":null}"#);
    job.status = JobStatus::Paused;
    job.started = Some(NOW.plus_secs(1));
    job.counts =
        Some(JobCounts { devices: 9, pending: 2, running: 1, succeeded: 3, failed: 2, cancelled: 1 });
    job.failures_by_cause = [("GatewayTimeout".to_owned(), 2)].into();
    job.wave = Some(WaveView {
        number: 2,
        count: 3,
        devices: 4,
        value: Some("A".into()),
        soak_until: Some(NOW.plus_secs(9)),
    });
    job.parent = Some(id("j0"));
    insta::assert_snapshot!(printed(&job, Audience::Azure), @r#"{"jobId":"j1","queryCondition":"*","createdTime":"2024-05-01T10:00:00.0000000Z","startTime":"2024-05-01T10:00:00.0000000Z","maxExecutionTimeInSeconds":3600,"type":"scheduleDeviceMethod","updateTwin":null,"cloudToDeviceMethod":{"methodName":"m","payload":{"a": 1.0},"responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0},"status":"running","failureReason":null,"statusMessage":null,"deviceJobStatistics":{"deviceCount":9,"failedCount":2,"succeededCount":3,"runningCount":1,"pendingCount":2},"parentJobId":"j0"}"#);
    insta::assert_snapshot!(printed(&job, Audience::Ostler), @r#"{"jobId":"j1","queryCondition":"*","createdTime":"2024-05-01T10:00:00.0000000Z","startTime":"2024-05-01T10:00:00.0000000Z","maxExecutionTimeInSeconds":3600,"type":"scheduleDeviceMethod","updateTwin":null,"cloudToDeviceMethod":{"methodName":"m","payload":{"a": 1.0},"responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0},"status":"paused","failureReason":null,"statusMessage":null,"deviceJobStatistics":{"deviceCount":9,"failedCount":2,"succeededCount":3,"runningCount":1,"pendingCount":2,"cancelledCount":1},"parentJobId":"j0","startedTime":"2024-05-01T10:00:01.0000000Z","rollout":{"rate":5,"attempts":1,"retryBackoffInSeconds":0,"offline":"wait","gate":{"soakTimeInSeconds":0}},"wave":{"number":2,"count":3,"deviceCount":4,"value":"A","soakUntil":"2024-05-01T10:00:09.0000000Z"},"failuresByCause":{"GatewayTimeout":2}}"#);
}

#[test]
fn a_twin_job_that_failed() {
    let spec = read(r#"{"type":"scheduleUpdateTwin","updateTwin":{"tags":null,"properties":{"desired":{"x": 1.50,"y":null}}},"queryCondition":"tags.x ="}"#).unwrap();
    let mut job = view(spec, JobStatus::Failed);
    job.failure_reason = Some("line 1, column 9".into());
    job.ended = Some(NOW.plus_secs(2));
    insta::assert_snapshot!(printed(&job, Audience::Azure), @r#"{"jobId":"j1","queryCondition":"tags.x =","createdTime":"2024-05-01T10:00:00.0000000Z","startTime":"2024-05-01T10:00:00.0000000Z","endTime":"2024-05-01T10:00:02.0000000Z","maxExecutionTimeInSeconds":3600,"type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":null,"properties":{"desired":{"x":1.50,"y":null}}},"cloudToDeviceMethod":null,"status":"failed","failureReason":"line 1, column 9","statusMessage":null}"#);
    let mut out = Vec::new();
    write_jobs_object(&[job], Some("t"), &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.starts_with(r#"{"type":"jobResponse","items":[{"jobId":"j1","#)
            && text.ends_with(r#"}],"continuationToken":"t"}"#),
        "{text}"
    );
}

#[test]
fn dry_runs() {
    let run = DryRun {
        count: 3,
        sample: vec![DeviceId::new("a").unwrap()],
        waves: vec![Wave { devices: 2, value: Some("A".into()) }, Wave { devices: 1, value: None }],
    };
    let mut out = Vec::new();
    write_dry_run(&run, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"deviceCount":3,"sample":["a"],"waves":[{"deviceCount":2,"value":"A"},{"deviceCount":1}]}"#
    );
}

#[test]
fn what_became_of_devices() {
    let row = |kind, status, outcome, error| {
        let row = DeviceJob {
            device: DeviceId::new("a").unwrap(),
            job: id("j1"),
            kind,
            status,
            start: Some(NOW),
            end: Some(NOW.plus_secs(60)),
            created: NOW,
            updated: NOW,
            outcome,
            error,
            attempts: 1,
        };
        let mut out = Vec::new();
        write_device_job(&row, &mut out);
        String::from_utf8(out).unwrap()
    };
    let answer = MethodAnswer { status: 200, payload: br#"{"a": 1.0}"#.as_slice().into() };
    insta::assert_snapshot!(row(JobKind::Method, DeviceJobStatus::Completed, Some(answer), None), @r#"{"deviceId":"a","jobId":"j1","jobType":"scheduleDeviceMethod","status":"completed","startTimeUtc":"2024-05-01T10:00:00.0000000Z","endTimeUtc":"2024-05-01T10:01:00.0000000Z","createdDateTimeUtc":"2024-05-01T10:00:00.0000000Z","lastUpdatedDateTimeUtc":"2024-05-01T10:00:00.0000000Z","outcome":{"deviceMethodResponse":{"status":200,"payload":{"a": 1.0}}}}"#);
    let failure = Failure::new(FailureCode::GatewayTimeout, "too slow");
    insta::assert_snapshot!(row(JobKind::Twin, DeviceJobStatus::Failed, None, Some(failure)), @r#"{"deviceId":"a","jobId":"j1","jobType":"scheduleUpdateTwin","status":"failed","startTimeUtc":"2024-05-01T10:00:00.0000000Z","endTimeUtc":"2024-05-01T10:01:00.0000000Z","createdDateTimeUtc":"2024-05-01T10:00:00.0000000Z","lastUpdatedDateTimeUtc":"2024-05-01T10:00:00.0000000Z","outcome":{},"error":{"code":"GatewayTimeout","description":"too slow"}}"#);
}
