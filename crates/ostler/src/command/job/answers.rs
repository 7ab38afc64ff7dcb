//! What the devices of a method job answered, counted by the hub.
//!
//! Invariant: these counts are a courtesy; where they cannot be had in time, they are left out.

use std::time::Duration;

use futures_util::TryStreamExt;
use ostler_service_sdk::{Client, Job, JobType};
use serde::Deserialize;

use super::create::quoted;

/// A person waits no longer for a courtesy.
const PATIENCE: Duration = Duration::from_secs(5);
/// Statuses that are shown.
const SHOWN: usize = 8;

/// How many devices answered with a status; failed devices have none.
#[derive(Debug, Clone, Deserialize)]
struct Row {
    status: Option<i64>,
    n: u64,
}

/// `200: 795, 404: 5` of a method job of which some devices answered.
pub async fn of(hub: &Client, job: &Job) -> Option<String> {
    let answered = job.device_job_statistics.is_some_and(|counts| counts.succeeded_count > 0);
    if job.kind != JobType::Method || !answered {
        return None;
    }
    let query = hub.query(format!(
        "SELECT outcome.deviceMethodResponse.status AS status, COUNT() AS n FROM devices.jobs \
         WHERE jobId = {} GROUP BY outcome.deviceMethodResponse.status",
        quoted(&job.job_id)
    ));
    let rows = query.rows().try_collect::<Vec<Row>>();
    told(tokio::time::timeout(PATIENCE, rows).await.ok()?.ok()?)
}

/// The most frequent first.
fn told(rows: Vec<Row>) -> Option<String> {
    let mut counts: Vec<(u64, i64)> = rows.into_iter().filter_map(|row| Some((row.n, row.status?))).collect();
    counts.sort_by_key(|(n, status)| (std::cmp::Reverse(*n), *status));
    let mut parts: Vec<String> =
        counts.iter().take(SHOWN).map(|(n, status)| format!("{status}: {n}")).collect();
    if counts.len() > SHOWN {
        parts.push(format!("and {} other statuses", counts.len() - SHOWN));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_comes_first() {
        let rows = |text: &str| serde_json::from_str::<Vec<Row>>(text).unwrap();
        let some = rows(r#"[{"status":404,"n":5},{"n":9},{"status":200,"n":795}]"#);
        assert_eq!(told(some).as_deref(), Some("200: 795, 404: 5"));
        assert_eq!(told(rows(r#"[{"n":9}]"#)), None);
        let many = (0..10).map(|status| Row { status: Some(status), n: 1 }).collect();
        assert!(told(many).unwrap().ends_with("7: 1, and 2 other statuses"));
    }
}
