//! The client against a scripted HTTP server on a loopback port: what it sends, what it repeats, how it reads answers.

#![allow(clippy::unwrap_used, reason = "a failure in a helper is a failed test too")]

mod follow;
mod golden;
mod messages;
mod support;

use std::time::Duration;

use futures_util::StreamExt;
use ostler_service_sdk::{
    BulkEntry, BulkOptions, Configuration, ConfigurationContent, ConfigurationQueries, Device, Error,
    ErrorKind, EventFilter, EventKind, IfMatch, ImportMode, ItemType, JobFilter, JobStatus, JobWork,
    MethodCall, NewJob, TwinPatch,
};
use serde_json::{json, Value};
use support::{answer, client, device_id, entity, Hub, Reply};
use tokio::net::TcpListener;

#[tokio::test]
async fn requests_look_as_the_service_expects() {
    let device = json!({ "deviceId": "d", "etag": "MQ==" });
    let hub = Hub::start([
        answer(200, device.clone()),
        answer(200, device.clone()),
        answer(200, device),
        answer(200, json!({ "deviceId": "d" })),
        Reply::Answer(204, "", String::new()),
    ])
    .await;
    let created = hub.client.create_device(&Device::new("d")).await.unwrap();
    let if_match = IfMatch::from_etag(created.etag.as_deref());
    hub.client.update_device(&created, if_match).await.unwrap();
    hub.client.device(&device_id("a+b#c%d")).await.unwrap();
    let patch = TwinPatch::desired(json!({ "a": 1 }));
    hub.client.patch_twin(&entity("d/m"), &patch, IfMatch::Any).await.unwrap();
    hub.client.delete_device(&device_id("d"), IfMatch::Any).await.unwrap();
    assert_eq!(
        hub.lines(),
        [
            "PUT /devices/d?api-version=2021-04-12",
            "PUT /devices/d?api-version=2021-04-12",
            "GET /devices/a%2Bb%23c%25d?api-version=2021-04-12",
            "PATCH /twins/d/modules/m?api-version=2021-04-12",
            "DELETE /devices/d?api-version=2021-04-12",
        ]
    );
    let seen = hub.seen();
    let if_match: Vec<_> = seen.iter().map(|seen| seen.header("if-match")).collect();
    assert_eq!(if_match, [None, Some("\"MQ==\""), None, Some("*"), Some("*")]);
    assert!(seen[0].header("authorization").unwrap().starts_with("SharedAccessSignature sr=127.0.0.1&sig="));
    assert_eq!(seen[0].header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(seen[3].body, br#"{"properties":{"desired":{"a":1}}}"#);
}

#[tokio::test]
async fn a_busy_hub_is_asked_again() {
    let hub = Hub::start([
        answer(503, json!({})),
        Reply::HangUp,
        answer(200, json!({ "connectedDeviceCount": 4 })),
    ])
    .await;
    assert_eq!(hub.client.service_statistics().await.unwrap().connected_device_count, 4);
    assert_eq!(hub.seen().len(), 3);
}

#[tokio::test]
async fn attempts_are_limited_and_the_last_answer_counts() {
    let hub = Hub::start((0..9).map(|_| answer(500, json!({ "Message": "ErrorCode:ServerError;x" })))).await;
    let error = hub.client.service_statistics().await.unwrap_err();
    assert_eq!((error.kind(), hub.seen().len()), (ErrorKind::Server, 3));
}

#[tokio::test]
async fn what_is_final_is_asked_once() {
    for (status, kind) in [
        (400, ErrorKind::Invalid),
        (401, ErrorKind::Unauthorized),
        (404, ErrorKind::NotFound),
        (412, ErrorKind::PreconditionFailed),
    ] {
        let hub = Hub::start((0..9).map(|_| answer(status, json!({})))).await;
        let error = hub.client.device(&device_id("d")).await.unwrap_err();
        assert_eq!((error.kind(), hub.seen().len()), (kind, 1));
    }
}

#[tokio::test]
async fn a_method_call_that_may_have_arrived_is_not_repeated() {
    let lost = [Reply::HangUp, answer(200, json!({ "status": 200 }))];
    let hub = Hub::start(lost).await;
    let error = hub.client.invoke(&entity("d"), &MethodCall::new("reboot")).await.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    assert_eq!(hub.lines(), ["POST /twins/d/methods?api-version=2021-04-12"]);

    let hub = Hub::start((0..9).map(|_| answer(503, json!({})))).await;
    assert!(hub.client.invoke(&entity("d"), &MethodCall::new("reboot")).await.is_err());
    assert_eq!(hub.seen().len(), 1);
}

#[tokio::test]
async fn a_throttled_method_call_was_not_executed_and_is_repeated() {
    let hub =
        Hub::start([answer(429, json!({})), answer(200, json!({ "status": 500, "payload": null }))]).await;
    let result = hub.client.invoke(&entity("d"), &MethodCall::new("reboot")).await.unwrap();
    assert_eq!((result.status, hub.seen().len()), (500, 2));
}

#[tokio::test]
async fn text_goes_out_and_comes_back_as_it_is() {
    let twin = r#"{"deviceId":"d",  "tags":{"n":1.0}}"#;
    let script = [
        Reply::Answer(200, "", twin.to_owned()),
        Reply::Answer(200, "", twin.to_owned()),
        Reply::Answer(200, "", r#"{"status":404,"payload":{ "b": 1.0, "a": "ö" }}"#.to_owned()),
        answer(400, json!({ "Message": "no JSON" })),
    ];
    let hub = Hub::start(script).await;
    assert_eq!(hub.client.twin_text(&entity("d")).await.unwrap(), twin);
    let patch = r#"{ "tags" : {"n": 1.0} }"#;
    assert_eq!(hub.client.patch_twin_text(&entity("d"), patch, IfMatch::Any).await.unwrap(), twin);
    let minute = Duration::from_secs(60);
    let result = hub.client.invoke_text(&entity("d/m"), "a\"b", "{ \"x\": 1.0}", minute).await.unwrap();
    assert_eq!((result.status, result.payload.to_string().as_str()), (404, r#"{"b":1.0,"a":"ö"}"#));
    let error = hub.client.invoke_text(&entity("d"), "m", "", minute).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let bodies: Vec<String> =
        hub.seen().into_iter().map(|seen| String::from_utf8(seen.body).unwrap()).collect();
    assert_eq!(
        bodies,
        [
            "",
            patch,
            r#"{"methodName":"a\"b","timeout":60,"responseTimeoutInSeconds":60,"payload":{ "x": 1.0}}"#,
            r#"{"methodName":"m","timeout":60,"responseTimeoutInSeconds":60,"payload":}"#,
        ]
    );
    assert_eq!(hub.seen()[1].header("if-match"), Some("*"));
}

#[tokio::test]
async fn silence_ends_in_a_timeout() {
    let hub = Hub::start((0..9).map(|_| Reply::Silence)).await;
    let error = hub.client.device(&device_id("d")).await.unwrap_err();
    assert_eq!((error.kind(), hub.seen().len()), (ErrorKind::Timeout, 3));
}

#[tokio::test]
async fn nobody_there_is_told_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = client(port).device(&device_id("d")).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn nonsense_is_told_as_such() {
    let hub = Hub::start([Reply::Answer(200, "", "<html>".to_owned())]).await;
    let error = hub.client.device(&device_id("d")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn bulk_writes_are_chunked_and_keep_each_error() {
    let failed = json!({ "isSuccessful": false, "warnings": [], "errors":
        [{ "deviceId": "120", "errorCode": "DeviceAlreadyExists", "errorStatus": "x", "operation": "create" }] });
    let fine = json!({ "isSuccessful": true, "errors": [], "warnings": [] });
    let hub = Hub::start([answer(200, fine.clone()), answer(400, failed), answer(200, fine)]).await;
    let entries = (0..250).map(|n| BulkEntry::new(ImportMode::Create, n.to_string()));
    let mut errors = Vec::new();
    let summary = hub
        .client
        .bulk_all(entries, BulkOptions { concurrency: 1 }, |chunk| {
            errors.extend(chunk.errors.iter().cloned())
        })
        .await
        .unwrap();
    assert_eq!((summary.entries, summary.failed), (250, 1));
    assert_eq!(errors[0].device_id, "120");
    let sizes: Vec<_> = hub
        .seen()
        .iter()
        .map(|seen| serde_json::from_slice::<Vec<Value>>(&seen.body).unwrap().len())
        .collect();
    assert_eq!(sizes, [100, 100, 50]);
}

#[tokio::test]
async fn a_refused_bulk_request_ends_it() {
    let refusal =
        json!({ "Message": "ErrorCode:DeviceDefinedMultipleTimes;DeviceDefinedMultipleTimes, device ID d" });
    let hub = Hub::start([answer(400, refusal)]).await;
    let error = hub.client.bulk(&[BulkEntry::new(ImportMode::Create, "d")]).await.unwrap_err();
    assert_eq!(error.fault().unwrap().name.as_deref(), Some("DeviceDefinedMultipleTimes"));
}

fn page(ids: std::ops::Range<u32>) -> Reply {
    answer(200, ids.map(|n| json!({ "deviceId": format!("d{n:05}") })).collect())
}

#[tokio::test]
async fn all_devices_are_listed_page_by_page() {
    let hub = Hub::start([page(0..1000), page(1000..2000), page(2000..2000)]).await;
    let devices: Vec<_> = hub.client.all_devices().map(Result::unwrap).collect().await;
    assert_eq!((devices.len(), devices[1999].device_id.as_str()), (2000, "d01999"));
    let after = |n| format!("GET /devices?api-version=2021-04-12&top=1000&after=d{n:05}");
    assert_eq!(hub.lines()[1..], [after(999), after(1999)]);
}

#[tokio::test]
async fn a_hub_that_repeats_its_first_page_is_found_out() {
    let hub = Hub::start([page(0..1000), page(0..1000)]).await;
    let devices: Vec<_> = hub.client.all_devices().collect().await;
    assert_eq!((devices.len(), hub.seen().len()), (1001, 2));
    assert_eq!(devices[1000].as_ref().unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn events_come_as_they_are_told() {
    let lines = "{\"type\":\"telemetry\",\"deviceId\":\"d\",\"body\":{\"t\":21.50}}\n\n{\"type\":\"later\"}\n{oops}\n";
    let hub = Hub::start([Reply::Answer(200, "", lines.to_owned())]).await;
    let filter =
        EventFilter { kinds: vec![EventKind::Telemetry, EventKind::Auth], device_id: Some("a b".to_owned()) };
    let events: Vec<_> = hub.client.events(&filter).await.unwrap().collect().await;
    assert_eq!(
        hub.lines(),
        ["GET /ostler/v1/events?api-version=2021-04-12&types=telemetry%2Cauth&deviceId=a%20b"]
    );
    assert_eq!(events[0].as_ref().unwrap().details["body"].to_string(), r#"{"t":21.50}"#);
    assert_eq!(events[1].as_ref().unwrap().kind, EventKind::Other("later".to_owned()));
    assert_eq!(events[2].as_ref().unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(events.len(), 3);
}

#[tokio::test]
async fn a_stream_that_falls_silent_ends() {
    // The body is announced longer than it is, so the stream stays open behind its only line.
    let line = "{\"type\":\"auth\"}\n";
    let hub = Hub::start([Reply::Open(line)]).await;
    let mut events = hub.client.events(&EventFilter::default()).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().kind, EventKind::Auth);
    tokio::time::pause();
    assert_eq!(events.next().await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert!(events.next().await.is_none());
}

fn rows(item_type: &str, token: Option<&str>, rows: Value) -> Reply {
    let token = token.map_or_else(String::new, |token| format!("x-ms-continuation: {token}\r\n"));
    let headers = format!("x-ms-item-type: {item_type}\r\n{token}");
    Reply::Answer(200, headers.leak(), rows.to_string())
}

#[tokio::test]
async fn a_query_is_read_page_by_page() {
    let text = "SELECT * FROM devices WHERE tags.x = 'a\"b'";
    let hub = Hub::start([
        rows("Twin", Some("t1"), json!([{ "deviceId": "a" }, { "deviceId": "b" }])),
        answer(503, json!({})),
        rows("Twin", Some("t2"), json!([])),
        rows("Twin", None, json!([{ "deviceId": "c", "tags": { "v": 1 } }])),
    ])
    .await;
    let twins: Vec<_> = hub.client.query(text).page_size(2).twins().map(Result::unwrap).collect().await;
    assert_eq!(twins.iter().map(|twin| twin.device_id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    let seen = hub.seen();
    assert!(seen.iter().all(|seen| seen.line == "POST /devices/query?api-version=2021-04-12"));
    assert!(seen.iter().all(|seen| seen.header("x-ms-max-item-count") == Some("2")));
    let body: Value = serde_json::from_slice(&seen[3].body).unwrap();
    assert_eq!(body, json!({ "query": text }));
    let tokens: Vec<_> = seen.iter().map(|seen| seen.header("x-ms-continuation")).collect();
    assert_eq!(tokens, [None, Some("t1"), Some("t1"), Some("t2")]);
}

#[tokio::test]
async fn rows_of_a_select_list_are_no_twins() {
    let count = || rows("Raw", None, json!([{ "n": 7 }]));
    let hub = Hub::start([count(), count(), count()]).await;
    let text = "SELECT COUNT() AS n FROM devices";
    let page = hub.client.query(text).next_page().await.unwrap().unwrap();
    assert_eq!((page.item_type(), page.continuation()), (&ItemType::Raw, None));
    assert_eq!(&page.json()[..], br#"[{"n":7}]"#);
    let objects: Vec<_> = hub.client.query(text).objects().map(Result::unwrap).collect().await;
    assert_eq!(objects[0]["n"], 7);
    let twins: Vec<_> = hub.client.query(text).twins().collect().await;
    assert_eq!(twins[0].as_ref().unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!((twins.len(), hub.seen()[0].header("x-ms-max-item-count")), (1, None));
}

#[tokio::test]
async fn a_query_that_goes_in_circles_ends() {
    let same = || rows("Raw", Some("t"), json!([{}]));
    let hub = Hub::start([same(), same(), same()]).await;
    let objects: Vec<_> = hub.client.query("q").objects().collect().await;
    assert_eq!((objects.len(), hub.seen().len()), (2, 2));
    assert_eq!(objects[1].as_ref().unwrap_err().kind(), ErrorKind::Protocol);
}

/// A job as the hub would tell of it, created a moment ago.
fn told_job(condition: &str) -> Value {
    json!({
        "jobId": "j", "type": "scheduleUpdateTwin", "status": "queued", "queryCondition": condition,
        "createdTime": "2026-01-31T03:00:00.0000000Z", "startTime": "2026-01-31T03:00:00.0000000Z",
        "maxExecutionTimeInSeconds": 3600, "updateTwin": { "etag": "*", "tags": { "a": 1 } }
    })
}

fn conflict() -> Reply {
    answer(409, json!({ "Message": "ErrorCode:JobAlreadyExists;j" }))
}

#[tokio::test]
async fn a_job_is_created_once_however_often_it_is_sent() {
    let job = NewJob::new("j", JobWork::Twin(TwinPatch::tags(json!({ "a": 1 }))), "*");
    let put = "PUT /jobs/v2/j?api-version=2021-04-12";
    let get = "GET /jobs/v2/j?api-version=2021-04-12";

    let hub = Hub::start([Reply::HangUp, conflict(), answer(200, told_job("*"))]).await;
    assert_eq!(hub.client.create_job(&job).await.unwrap().status, JobStatus::Queued);
    assert_eq!(hub.lines(), [put, put, get]);

    let hub = Hub::start([answer(503, json!({})), conflict(), answer(200, told_job("tags.x = 1"))]).await;
    assert_eq!(hub.client.create_job(&job).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(hub.lines(), [put, put, get], "another job of this id is a conflict");

    for before in [None, Some(answer(429, json!({})))] {
        let attempts = 1 + usize::from(before.is_some());
        let hub = Hub::start(before.into_iter().chain([conflict()])).await;
        assert_eq!(hub.client.create_job(&job).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(hub.lines(), vec![put; attempts], "an attempt that did not arrive explains nothing");
    }

    let parent =
        json!({ "jobId": "j2", "type": "scheduleUpdateTwin", "status": "queued", "parentJobId": "j" });
    let hub = Hub::start([Reply::HangUp, conflict(), answer(200, parent)]).await;
    assert_eq!(hub.client.retry_job("j", "j2").await.unwrap().job_id, "j2");
}

#[tokio::test]
async fn jobs_are_listed_page_by_page() {
    let hub = Hub::start([
        Reply::Answer(200, "x-ms-continuation: next\r\n", json!([told_job("*")]).to_string()),
        answer(200, json!([told_job("*"), told_job("*")])),
    ])
    .await;
    let filter = JobFilter { status: Some(JobStatus::Running), ..JobFilter::default() };
    let jobs: Vec<_> = hub.client.all_jobs(filter).collect().await;
    assert_eq!(jobs.iter().filter(|job| job.is_ok()).count(), 3);
    let line = "GET /jobs/v2/query?api-version=2021-04-12&jobStatus=running";
    assert_eq!(hub.lines(), [line, line]);
    let tokens: Vec<_> =
        hub.seen().iter().map(|seen| seen.header("x-ms-continuation").map(str::to_owned)).collect();
    assert_eq!(tokens, [None, Some("next".to_owned())]);
}

#[tokio::test]
async fn progress_is_read_line_by_line() {
    let hub = Hub::start([Reply::Open(
        "{\"jobId\":\"j\",\"type\":\"scheduleUpdateTwin\",\"status\":\"paused\"}\n\n{\"jobId\":\"j\",\"type\":\"x\",\"status\":\"y\"}\n",
    )])
    .await;
    let mut progress = hub.client.job_progress("j").await.unwrap();
    assert_eq!(progress.next().await.unwrap().unwrap().status, JobStatus::Paused);
    assert_eq!(progress.next().await.unwrap().unwrap().status, JobStatus::Other("y".into()));
    assert_eq!(hub.lines(), ["GET /ostler/v1/jobs/j/progress?api-version=2021-04-12"]);
}

#[tokio::test]
async fn configurations_are_written_with_their_condition() {
    let stored = json!({ "id": "c+1", "etag": "MQ==", "content": { "deviceContent": { "properties.desired.a": 1.0 } } });
    let hub = Hub::start([
        answer(200, stored.clone()),
        answer(200, stored.clone()),
        answer(200, stored.clone()),
        answer(200, json!([stored])),
        answer(200, json!({ "targetConditionError": "no", "customMetricQueryErrors": null })),
        Reply::Answer(204, "", String::new()),
        Reply::Answer(204, "", String::new()),
    ])
    .await;
    let settings = json!({ "properties.desired.a": 1.0 }).as_object().unwrap().clone();
    let content = ConfigurationContent::devices(settings);
    let configuration = Configuration::new("c+1", content.clone(), "*", 3);
    let made = hub.client.create_configuration(&configuration).await.unwrap();
    hub.client.update_configuration(&made, IfMatch::from_etag(made.etag.as_deref())).await.unwrap();
    hub.client.configuration("c+1").await.unwrap();
    assert_eq!(hub.client.configurations(100).await.unwrap(), [made]);
    let queries =
        ConfigurationQueries { target_condition: Some("x".into()), ..ConfigurationQueries::default() };
    assert!(!hub.client.test_configuration_queries(&queries).await.unwrap().is_empty());
    hub.client.apply_configuration_content(&device_id("e"), &content).await.unwrap();
    hub.client.delete_configuration("c+1", IfMatch::Any).await.unwrap();
    assert_eq!(
        hub.lines(),
        [
            "PUT /configurations/c%2B1?api-version=2021-04-12",
            "PUT /configurations/c%2B1?api-version=2021-04-12",
            "GET /configurations/c%2B1?api-version=2021-04-12",
            "GET /configurations?api-version=2021-04-12&top=100",
            "POST /configurations/testQueries?api-version=2021-04-12",
            "POST /devices/e/applyConfigurationContent?api-version=2021-04-12",
            "DELETE /configurations/c%2B1?api-version=2021-04-12",
        ]
    );
    let seen = hub.seen();
    let if_match: Vec<_> = seen.iter().map(|seen| seen.header("if-match")).collect();
    assert_eq!(if_match, [None, Some("\"MQ==\""), None, None, None, None, Some("*")]);
    let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
    let expected = json!({ "id": "c+1", "schemaVersion": "1.0", "targetCondition": "*", "priority": 3,
        "content": { "deviceContent": { "properties.desired.a": 1.0 } } });
    assert_eq!(body, expected);
}
