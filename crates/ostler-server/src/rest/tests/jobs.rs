//! Jobs through the door: paging, progress, and what each kind of client is shown.

use super::harness::{find, Client, TestHub};

/// A twin job that does not begin while a test runs.
const LATER: &str = r#"{"type":"scheduleUpdateTwin","updateTwin":{"tags":{"a":1}},"queryCondition":"*","startTime":"2099-01-01T00:00:00Z"}"#;

async fn create(hub: &TestHub, id: &str, body: &str) {
    let answer = hub.call("service", &format!("PUT /ostler/v1/jobs/{id}"), &[], body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

async fn change(hub: &TestHub, id: &str, verb: &str) {
    let answer = hub.call("service", &format!("POST /ostler/v1/jobs/{id}/{verb}"), &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// The ids in a list, in order.
fn ids(body: &str) -> Vec<&str> {
    body.split(r#"{"jobId":""#).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let hub = TestHub::start().await;
    for id in ["j3", "j1", "j5", "j2", "j4"] {
        create(&hub, id, LATER).await;
    }
    let line = "GET /jobs/v2/query?jobStatus=scheduled";
    let first = hub.call("service", line, &[("x-ms-max-item-count", "2")], "").await;
    assert_eq!(first.header("x-ms-item-type"), Some("JobResponse"));
    assert_eq!(ids(&first.body), ["j1", "j2"]);
    let token = first.header("x-ms-continuation").unwrap();
    let headers = [("x-ms-max-item-count", "3"), ("x-ms-continuation", token)];
    let last = hub.call("service", line, &headers, "").await;
    assert_eq!(ids(&last.body), ["j3", "j4", "j5"]);
    assert_eq!(last.header("x-ms-continuation"), None, "a full last page is the last one");

    let parameters = format!("{line}&pageSize=1&continuationToken={token}");
    assert_eq!(ids(&hub.call("service", &parameters, &[], "").await.body), ["j3"]);
    let other = hub.call("service", "GET /jobs/v2/query", &headers, "").await;
    assert_eq!((other.status, other.header("iothub-errorcode")), (400, Some("ArgumentInvalid")));
}

#[tokio::test]
async fn one_client_gets_an_object_with_all_that_it_can_ask_for() {
    let hub = TestHub::start().await;
    for number in 0..101 {
        create(&hub, &format!("j{number}"), LATER).await;
    }
    let agent = [("User-Agent", "python/3.11 (x) msrest/0.7.1 iothubgatewayserviceapis/2021-04-12")];
    let object = hub.call("service", "GET /jobs/v2/query", &agent, "").await;
    assert!(object.body.starts_with(r#"{"type":"jobResponse","items":[{"#), "{}", object.body);
    assert!(object.body.ends_with(r#"],"continuationToken":null}"#), "{}", object.body);
    assert_eq!(ids(&object.body).len(), 101);
    let array = hub.call("service", "GET /jobs/v2/query", &[], "").await;
    assert_eq!((&array.body[..1], ids(&array.body).len()), ("[", 100));
    assert!(array.header("x-ms-continuation").is_some());
    let own = hub.call("service", "GET /ostler/v1/jobs", &agent, "").await;
    assert!(own.body.starts_with("[{"), "{}", own.body);
}

#[tokio::test]
async fn a_held_job_runs_for_azures_clients() {
    let hub = TestHub::start().await;
    create(&hub, "j", LATER).await;
    change(&hub, "j", "pause").await;
    let listed = async |line: &str| ids(&hub.call("service", line, &[], "").await.body).len();
    assert_eq!(listed("GET /jobs/v2/query?jobStatus=running").await, 1);
    assert_eq!(listed("GET /jobs/v2/query?jobStatus=paused").await, 0);
    assert_eq!(listed("GET /ostler/v1/jobs?jobStatus=running").await, 0);
    assert_eq!(listed("GET /ostler/v1/jobs?jobStatus=paused").await, 1);
}

#[tokio::test]
async fn a_strict_hub_takes_a_rollout_for_one_more_unknown_member() {
    let hub = TestHub::strict().await;
    let body = LATER.replace("\"startTime\"", "\"rollout\":{\"nonsense\":5},\"startTime\"");
    let answer = hub.call("service", "PUT /jobs/v2/j", &[], &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(!answer.body.contains("rollout"), "{}", answer.body);
}

#[tokio::test]
async fn a_patch_of_ten_megabytes_leaves_nothing_behind() {
    let hub = TestHub::start().await;
    let body = LATER.replace("\"a\":1", &format!("\"a\":\"{}\"", "x".repeat(10 << 20)));
    let answer = hub.call("service", "PUT /jobs/v2/j", &[], &body).await;
    assert_eq!((answer.status, answer.header("iothub-errorcode")), (413, Some("MessageTooLarge")));
    assert_eq!(hub.call("service", "GET /jobs/v2/j", &[], "").await.status, 404);
}

/// Opens the stream of a job's progress.
async fn follow(hub: &TestHub, id: &str) -> Client {
    let token = hub.token("service");
    let mut client = hub.connect().await;
    let line = format!("GET /ostler/v1/jobs/{id}/progress");
    client.send(&format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n")).await;
    let head = client.answer(true).await;
    assert_eq!(head.status, 200, "{}", head.head);
    assert_eq!(head.header("content-type"), Some("application/x-ndjson; charset=utf-8"));
    client
}

/// Waits for the whole of a line with a status.
async fn until_status(client: &mut Client, status: &str) {
    let mark = format!("\"status\":\"{status}\"");
    let whole = |bytes: &[u8]| find(bytes, mark.as_bytes()).and_then(|at| find(&bytes[at..], b"\n"));
    client.read_until(whole).await.unwrap();
}

#[tokio::test]
async fn progress_is_told_to_the_end() {
    let hub = TestHub::start().await;
    let body = r#"{"type":"scheduleDeviceMethod","cloudToDeviceMethod":{"methodName":"m","payload":{"a":
 [1]}},"queryCondition":"*","startTime":"2099-01-01T00:00:00Z"}"#;
    create(&hub, "j", body).await;
    let mut client = follow(&hub, "j").await;
    until_status(&mut client, "scheduled").await;
    change(&hub, "j", "pause").await;
    until_status(&mut client, "paused").await;
    change(&hub, "j", "cancel").await;
    client.read_until(|bytes| find(bytes, b"0\r\n\r\n")).await.expect("the stream ends with the job");
    let text = String::from_utf8_lossy(client.unread()).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('{')).collect();
    assert!(lines.iter().all(|line| line.ends_with('}')), "a payload does not break a line: {text}");
    assert!(lines.last().unwrap().contains(r#""status":"cancelled""#), "{text}");

    let mut late = follow(&hub, "j").await;
    until_status(&mut late, "cancelled").await;
    late.read_until(|bytes| find(bytes, b"0\r\n\r\n")).await.expect("a job that has ended is told once");
}

#[tokio::test]
async fn progress_ends_with_the_hub() {
    let hub = TestHub::start().await;
    create(&hub, "j", LATER).await;
    let mut client = follow(&hub, "j").await;
    until_status(&mut client, "scheduled").await;
    hub.running.stop().await;
    assert!(client.read_until(|bytes| find(bytes, b"0\r\n\r\n")).await.is_some(), "the stream ends in order");
}

#[tokio::test]
async fn progress_of_a_job_that_is_not_there() {
    let hub = TestHub::start().await;
    let answer = hub.call("service", "GET /ostler/v1/jobs/none/progress", &[], "").await;
    assert_eq!((answer.status, answer.header("iothub-errorcode")), (404, Some("JobNotFound")));
}

/// Follows a job to its end and answers its last line.
async fn finished(hub: &TestHub, id: &str) -> String {
    let mut client = follow(hub, id).await;
    client.read_until(|bytes| find(bytes, b"0\r\n\r\n")).await.expect("the stream ends with the job");
    let text = String::from_utf8_lossy(client.unread()).into_owned();
    text.lines().rfind(|line| line.starts_with('{')).unwrap().to_owned()
}

async fn device_jobs(hub: &TestHub, id: &str) -> String {
    let body = format!(r#"{{"query":"SELECT * FROM devices.jobs WHERE jobId = '{id}'"}}"#);
    let answer = hub.call("service", "POST /devices/query", &[], &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("x-ms-item-type"), Some("DeviceJob"));
    answer.body
}

#[tokio::test]
async fn a_method_is_called_and_each_answer_kept() {
    let hub = TestHub::start().await;
    for id in ["a", "b"] {
        hub.device(id).await;
    }
    hub.register("off").await;
    let body = r#"{"type":"scheduleDeviceMethod","cloudToDeviceMethod":{"methodName":"echo","payload":{"a": 1.50}},"queryCondition":"*","rollout":{"offline":"fail"}}"#;
    create(&hub, "j", body).await;
    let last = finished(&hub, "j").await;
    assert!(last.contains(r#""status":"completed""#), "{last}");
    assert!(last.contains(r#""deviceCount":3,"failedCount":1,"succeededCount":2"#), "{last}");
    assert!(last.contains(r#""failuresByCause":{"DeviceNotOnline":1}"#), "{last}");
    let rows = device_jobs(&hub, "j").await;
    let answers = rows.matches(r#""outcome":{"deviceMethodResponse":{"status":200,"payload":{"a": 1.50}}}"#);
    assert_eq!(answers.count(), 2, "{rows}");
    assert!(rows.contains(r#""error":{"code":"DeviceNotOnline""#), "{rows}");

    hub.device_again("off").await;
    let retry = hub.call("service", "POST /ostler/v1/jobs/j/retry", &[], r#"{"jobId":"k"}"#).await;
    assert!(retry.body.contains(r#""parentJobId":"j""#), "{}", retry.body);
    let last = finished(&hub, "k").await;
    assert!(last.contains(r#""deviceCount":1,"failedCount":0,"succeededCount":1"#), "{last}");
}

#[tokio::test]
async fn twins_are_written_and_a_bad_condition_is_told() {
    let hub = TestHub::start().await;
    for id in ["a", "b"] {
        hub.register(id).await;
    }
    let body = |condition: &str| {
        format!(
            r#"{{"type":"scheduleUpdateTwin","updateTwin":{{"etag":"*","tags":{{"x":1}},"properties":{{"desired":{{"y": 1.50}}}}}},"queryCondition":"{condition}"}}"#
        )
    };
    create(&hub, "j", &body("deviceId = 'a'")).await;
    assert!(finished(&hub, "j").await.contains(r#""deviceCount":1,"failedCount":0,"succeededCount":1"#));
    let twin = hub.call("service", "GET /twins/a", &[], "").await.body;
    assert!(twin.contains(r#""tags":{"x":1}"#) && twin.contains(r#""desired":{"y":1.50,"#), "{twin}");
    let other = hub.call("service", "GET /twins/b", &[], "").await.body;
    assert!(!other.contains(r#""tags""#), "{other}");

    create(&hub, "bad", &body("tags.x ==")).await;
    let last = finished(&hub, "bad").await;
    assert!(last.contains(r#""status":"failed""#) && last.contains("1:37"), "{last}");
}

#[tokio::test]
async fn a_strict_hub_knows_azures_conditions_only() {
    let body = r#"{"type":"scheduleUpdateTwin","updateTwin":{"tags":{"x":1}},"queryCondition":"deviceId LIKE 'a%'"}"#;
    for (hub, status) in [(TestHub::strict().await, "failed"), (TestHub::start().await, "completed")] {
        hub.register("a").await;
        assert_eq!(hub.call("service", "PUT /jobs/v2/j", &[], body).await.status, 200);
        let mut job = hub.call("service", "GET /jobs/v2/j", &[], "").await.body;
        while !job.contains("endTime") {
            tokio::task::yield_now().await;
            job = hub.call("service", "GET /jobs/v2/j", &[], "").await.body;
        }
        assert!(job.contains(&format!("\"status\":\"{status}\"")), "{job}");
    }
}
