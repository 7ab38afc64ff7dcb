//! Device jobs as rows: the cases of query §10 that ask for them, orders, groups and pages.

#[path = "../../../ostler-core/tests/query/fixtures.rs"]
mod fixtures;

use super::{QueryPage, QueryRequest, Rows};
use crate::{Error, Hub, Options};
use fixtures::{load, sorted, Expected, JobJson};
use ostler_core::job::{DeviceJob, DeviceJobStatus, Failure, FailureCode, JobKind};
use ostler_core::json::Value;
use ostler_core::method::MethodAnswer;
use ostler_core::query::{Collection, Dialect, Query};
use ostler_core::time::Timestamp;
use ostler_store::Embedded;
use std::sync::Arc;

async fn hub() -> Arc<Hub> {
    Hub::open(Arc::new(Embedded::in_memory()), Options::default()).await.unwrap()
}

fn device_job(json: &JobJson) -> DeviceJob {
    let text = |name: &str| json.0.get(name).and_then(Value::as_str).unwrap();
    let created = Timestamp::parse(text("createdDateTimeUtc")).unwrap();
    let statuses = DeviceJobStatus::ALL;
    let answer = json.0.get("outcome").and_then(Value::as_object).and_then(|o| o.get("deviceMethodResponse"));
    let codes = FailureCode::ALL;
    let failure = json.0.get("error").and_then(Value::as_object).map(|error| {
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap().to_owned();
        Failure::new(codes.into_iter().find(|code| code.name() == text("code")).unwrap(), text("description"))
    });
    DeviceJob {
        device: ostler_core::id::DeviceId::new(text("deviceId")).unwrap(),
        job: ostler_core::job::JobId::new(text("jobId")).unwrap(),
        kind: JobKind::parse(text("jobType")).unwrap(),
        status: statuses.into_iter().find(|status| status.name() == text("status")).unwrap(),
        start: None,
        end: None,
        created,
        updated: created,
        outcome: answer.map(|_| MethodAnswer { status: 200, payload: b"{}".as_slice().into() }),
        error: failure,
        attempts: 1,
    }
}

async fn page(hub: &Hub, text: &str, size: usize, token: Option<&str>) -> Result<QueryPage, Error> {
    let (dialect, page_size) = (Dialect::Extended, size);
    hub.query(&QueryRequest { text, dialect, page_size, continuation: token }).await
}

/// The rows of all pages: device jobs as `job/device`, others as JSON.
async fn all(hub: &Hub, text: &str, size: usize) -> Vec<String> {
    let (mut rows, mut token) = (Vec::new(), None::<String>);
    loop {
        let page = page(hub, text, size, token.as_deref()).await.unwrap();
        let before = rows.len();
        match page.rows {
            Rows::DeviceJobs(jobs) => {
                rows.extend(jobs.iter().map(|row| format!("{}/{}", row.job, row.device)))
            }
            Rows::Raw(objects) => rows.extend(objects.into_iter().map(|row| Value::Object(row).to_string())),
            Rows::Twins(_) => panic!("{text}: twins"),
        }
        assert!(rows.len() - before <= size && (before == 0 || rows.len() > before), "{text}");
        token = page.next;
        if token.is_none() {
            return rows;
        }
    }
}

#[tokio::test]
async fn the_cases_of_the_reference() {
    let hub = hub().await;
    let sample = load();
    for job in &sample.jobs {
        hub.put_device_job(device_job(job)).await;
    }
    let mut checked = 0;
    for case in &sample.cases {
        if !Query::parse(&case.query, Dialect::Extended).is_ok_and(|query| query.from == Collection::Jobs) {
            continue;
        }
        for size in [1, 2, 100] {
            let rows = all(&hub, &case.query, size).await;
            match &case.extended {
                Expected::Ids(_, ids) => {
                    assert_eq!(rows.into_iter().collect::<std::collections::BTreeSet<_>>(), *ids)
                }
                Expected::Rows(expected) => assert_eq!(sorted(rows), *expected),
                Expected::Refused => panic!("{}: should be refused", case.query),
            }
        }
        checked += 1;
    }
    assert_eq!(checked, 6);
}

#[tokio::test]
async fn many_rows_in_pages_orders_and_groups() {
    let hub = hub().await;
    let sample = load();
    for (job, kind) in [("a", 0), ("b", 1)] {
        for n in 0..30 {
            let mut row = device_job(&sample.jobs[kind]);
            row.job = ostler_core::job::JobId::new(job).unwrap();
            row.device = ostler_core::id::DeviceId::new(&format!("d{n:02}")).unwrap();
            row.updated = Timestamp::from_unix_secs(1_714_521_600 - n);
            if n % 10 == 0 {
                row.status = DeviceJobStatus::Failed;
            }
            hub.put_device_job(row).await;
        }
    }
    let keys = |job: &'static str| (0..30).map(move |n| format!("{job}/d{n:02}"));
    let both: Vec<String> = keys("a").chain(keys("b")).collect();
    for size in [1, 7, 30, 60, 100] {
        assert_eq!(all(&hub, "SELECT * FROM devices.jobs", size).await, both);
        let one = all(&hub, "SELECT * FROM devices.jobs WHERE jobId = 'b' AND status != 'none'", size).await;
        assert_eq!(one, both[30..]);
        let latest =
            all(&hub, "SELECT * FROM devices.jobs ORDER BY lastUpdatedDateTimeUtc DESC LIMIT 3", size).await;
        assert_eq!(latest, ["a/d00", "b/d00", "a/d01"]);
        let some =
            all(&hub, "SELECT * FROM devices.jobs WHERE status = 'failed' LIMIT 4 OFFSET 1", size).await;
        assert_eq!(some, ["a/d10", "a/d20", "b/d00", "b/d10"]);
        let device = all(&hub, "SELECT * FROM devices.jobs WHERE deviceId = 'd07'", size).await;
        assert_eq!(device, [""; 0], "jobs that are not there have no devices to look up");
        let text = "SELECT jobId, COUNT() AS n FROM devices.jobs WHERE status = 'failed' GROUP BY jobId";
        assert_eq!(all(&hub, text, size).await, [r#"{"jobId":"a","n":3}"#, r#"{"jobId":"b","n":3}"#]);
    }
}

#[test]
fn the_documentation_has_every_function_and_its_examples_are_queries() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/query.md")).unwrap();
    for function in ostler_core::query::Function::all() {
        assert!(page.contains(function.name()), "{}", function.name());
    }
    let examples: Vec<&str> =
        page.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        Query::parse(example, Dialect::Extended).unwrap();
    }
}

/// A page of such twins would be hundreds of megabytes.
#[tokio::test]
async fn a_page_of_very_large_twins_ends_early() {
    let hub = hub().await;
    let (model, _) = load().devices.swap_remove(0);
    let members: Vec<String> = (0..1500).map(|n| format!("\"{n}\":{n}")).collect();
    let large = ostler_core::json::Object::parse(format!("{{{}}}", members.join(",")).as_bytes()).unwrap();
    let mut changes = Vec::new();
    for n in 0..300 {
        let mut record = model.clone();
        record.id = ostler_core::id::EntityId::parse(&format!("d{n:03}")).unwrap();
        if n >= 100 {
            record.twin = record.twin.report(&large, Timestamp::UNIX_EPOCH).unwrap();
        }
        changes.push(ostler_store::Change::Put {
            record: Box::new(record),
            expect: ostler_store::Expect::Absent,
        });
    }
    assert!(hub.store().commit(changes).await.iter().all(Result::is_ok));
    for text in ["SELECT * FROM devices", "SELECT * FROM devices ORDER BY version"] {
        let (mut ids, mut lengths, mut token) = (Vec::new(), Vec::new(), None::<String>);
        loop {
            let page = page(&hub, text, 1000, token.as_deref()).await.unwrap();
            let Rows::Twins(views) = page.rows else { panic!("twins") };
            lengths.push(views.len());
            ids.extend(views.into_iter().map(|view| view.record.id.to_string()));
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        assert!(lengths.len() > 1 && lengths.iter().all(|rows| *rows < 300), "{lengths:?}");
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 300, "{lengths:?}");
    }
}

#[tokio::test]
async fn many_groups_in_pages() {
    let hub = hub().await;
    let (model, _) = load().devices.swap_remove(0);
    let put = |n| {
        let mut record = model.clone();
        record.id = ostler_core::id::EntityId::parse(&format!("d{n:04}")).unwrap();
        ostler_store::Change::Put { record: Box::new(record), expect: ostler_store::Expect::Absent }
    };
    assert!(hub.store().commit((0..3000).map(put).collect()).await.iter().all(Result::is_ok));
    let rows = |range: std::ops::Range<u32>| range.map(|n| format!(r#"{{"id":"d{n:04}","n":1}}"#));
    let text = "SELECT deviceId AS id, COUNT() AS n FROM devices GROUP BY deviceId";
    assert_eq!(all(&hub, text, 1000).await, rows(0..3000).collect::<Vec<_>>());
    let down = format!("{text} ORDER BY deviceId DESC LIMIT 1500 OFFSET 10");
    assert_eq!(all(&hub, &down, 700).await, rows(1490..2990).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn columns_of_a_device_job() {
    let hub = hub().await;
    let mut row = device_job(&load().jobs[1]);
    let payload = br#"{"Speed":1.50,"on":[1]}"#.as_slice().into();
    row.outcome = Some(MethodAnswer { status: 201, payload });
    row.error = Some(Failure::new(FailureCode::GatewayTimeout, "late"));
    hub.put_device_job(row).await;
    let text = "SELECT jobType, outcome.deviceMethodResponse.payload.speed AS s, outcome, error, error.code, startTimeUtc \
                FROM devices.jobs WHERE OUTCOME.deviceMethodResponse.STATUS = 201 AND IS_OBJECT(error)";
    assert_eq!(
        all(&hub, text, 5).await,
        [
            r#"{"jobType":"scheduleDeviceMethod","s":1.50,"outcome":{"deviceMethodResponse":{"status":201,"payload":{"Speed":1.50,"on":[1]}}},"error":{"code":"GatewayTimeout","description":"late"},"code":"GatewayTimeout"}"#
        ]
    );
}
