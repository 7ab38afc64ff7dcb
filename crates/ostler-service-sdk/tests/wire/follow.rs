//! Following a job to its end, on a hub that tells and on one that must be asked; and streams as other crates use them.

use ostler_service_sdk::{Client, ErrorKind, JobStatus};
use serde_json::{json, Value};

use crate::support::{answer, Hub, Reply};

fn job(status: &str) -> Value {
    json!({ "jobId": "j", "type": "scheduleUpdateTwin", "status": status })
}

fn stream(states: &[&str]) -> Reply {
    let lines: String = states.iter().map(|status| format!("{}\n", job(status))).collect();
    Reply::Answer(200, "", lines)
}

fn no_such_route() -> Reply {
    answer(404, json!({ "Message": "ErrorCode:GenericNotFound;there is no such path" }))
}

async fn followed(hub: &Hub) -> Vec<String> {
    let jobs = hub.client.follow_job("j").into_vec().await.unwrap();
    jobs.into_iter().map(|job| job.status.to_string()).collect()
}

const PROGRESS: &str = "GET /ostler/v1/jobs/j/progress?api-version=2021-04-12";
const DETAILS: &str = "GET /ostler/v1/jobs/j?api-version=2021-04-12";
const AZURE: &str = "GET /jobs/v2/j?api-version=2021-04-12";

#[tokio::test]
async fn a_hub_that_tells_is_listened_to() {
    let hub = Hub::start([stream(&["queued", "running", "completed"])]).await;
    assert_eq!(followed(&hub).await, ["queued", "running", "completed"]);
    assert_eq!(hub.lines(), [PROGRESS]);
}

#[tokio::test]
async fn a_stream_that_ends_too_early_is_taken_up_again() {
    let hub = Hub::start([
        stream(&["queued", "running"]),
        answer(200, job("running")),
        stream(&["running", "failed"]),
    ])
    .await;
    assert_eq!(followed(&hub).await, ["queued", "running", "failed"]);
    assert_eq!(hub.lines(), [PROGRESS, DETAILS, PROGRESS]);
}

#[tokio::test]
async fn a_hub_that_does_not_tell_is_asked() {
    let hub = Hub::start([
        no_such_route(),
        answer(200, job("running")),
        answer(200, job("running")),
        answer(200, job("completed")),
    ])
    .await;
    assert_eq!(followed(&hub).await, ["running", "completed"]);
    assert_eq!(hub.lines(), [PROGRESS, AZURE, AZURE, AZURE]);
}

#[tokio::test]
async fn a_job_that_is_not_there_is_told_as_such() {
    let hub = Hub::start([answer(404, json!({ "Message": "ErrorCode:JobNotFound;j" }))]).await;
    let mut news = hub.client.follow_job("j");
    assert_eq!(news.try_next().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(news.next().await.is_none());
}

#[tokio::test]
async fn an_end_is_the_last_item_though_the_stream_stays_open() {
    let hub = Hub::start([Reply::Open("{\"jobId\":\"j\",\"type\":\"x\",\"status\":\"cancelled\"}\n")]).await;
    let jobs = hub.client.follow_job("j").into_vec().await.unwrap();
    assert_eq!(jobs.last().unwrap().status, JobStatus::Cancelled);
}

/// Programs spawn what the client gives them; this does not compile if they cannot.
#[test]
fn futures_and_streams_can_be_spawned() {
    fn spawnable<T: Send + 'static>(_: &T) {}
    let check = |hub: Client| {
        spawnable(&hub);
        spawnable(&hub.all_devices());
        spawnable(&hub.query("").twins());
        spawnable(&hub.follow_job("j"));
        let owned = hub.clone();
        spawnable(&async move {
            let pump = "pump-7".parse()?;
            owned.twin(&pump).await.map(drop)?;
            let mut jobs = owned.device_jobs("j");
            while let Some(job) = jobs.try_next().await? {
                drop(job);
            }
            owned.bulk_all([], Default::default(), |_| ()).await.map(drop)
        });
    };
    let _ = check;
}
