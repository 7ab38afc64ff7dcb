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

/// Waits for a line with a status and checks that everything so far came as whole lines.
async fn until_status(client: &mut Client, status: &str) {
    let mark = format!("\"status\":\"{status}\"");
    client.read_until(|bytes| find(bytes, mark.as_bytes())).await.unwrap();
    client.read_until(|bytes| bytes.ends_with(b"}\n\r\n").then_some(0)).await;
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
