//! Kills the hub with SIGKILL again and again while a job runs, and looks at what became of every device.
//!
//! Invariant: a twin is changed once, a device is called at most once, and each has one final outcome that says so.

use crate::support::http::Http;
use crate::support::hub::{wait, Hub};
use crate::support::mqtt::Device;
use crate::support::random::Random;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

const TWINS: u64 = 3000;
const CALLED: usize = 24;

#[test]
fn a_twin_job_changes_every_twin_once_whatever_kills_the_hub() {
    let mut random = Random::from_env(7);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut hub = Hub::start(&data);
    let devices: Vec<Value> =
        (0..TWINS).map(|i| json!({"id": format!("d{i:04}"), "importMode": "create"})).collect();
    for some in devices.chunks(100) {
        assert_eq!(call(&mut hub.owner(), "POST", "/devices", &json!(some)).0, 200);
    }
    let patch = json!({"tags": {"ring": 1}, "properties": {"desired": {"floor": 3}}});
    // Slow enough to be killed on the way.
    let job = json!({"jobId": "j", "type": "scheduleUpdateTwin", "updateTwin": patch, "queryCondition": "*",
        "rollout": {"rate": 3000, "waves": {"percent": [30]}}});
    assert_eq!(call(&mut hub.owner(), "PUT", "/ostler/v1/jobs/j", &job).0, 200);
    let mut kills = 0;
    loop {
        let limit = done(&hub) + random.within(300..1200);
        wait("the job to go on", || done(&hub) >= limit.min(TWINS));
        let ended = is_completed(&hub);
        hub.kill();
        drop(hub);
        hub = Hub::start(&data);
        kills += 1;
        if ended {
            break;
        }
    }
    assert!(is_completed(&hub), "an ended job began again");
    let statistics = show(&hub)["deviceJobStatistics"].clone();
    assert_eq!((&statistics["succeededCount"], &statistics["deviceCount"]), (&json!(TWINS), &json!(TWINS)));
    let changed =
        "tags.ring = 1 AND properties.desired.floor = 3 AND properties.desired.$version = 2 AND version = 3";
    assert_eq!(
        count(&hub, &format!("devices WHERE {changed}")),
        TWINS,
        "some twins were changed twice or not at all"
    );
    assert_eq!(count(&hub, "devices.jobs WHERE jobId = 'j' AND status = 'completed'"), TWINS);
    println!("{kills} kills, {TWINS} twins changed once");
}

#[test]
fn a_method_job_calls_no_device_twice_whatever_kills_the_hub() {
    let mut random = Random::from_env(8);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut hub = Hub::start(&data);
    let names: Vec<String> = (0..CALLED).map(|i| format!("d{i:02}")).collect();
    let keys: Vec<String> = names.iter().map(|name| hub.owner().register(name)).collect();
    let job = json!({"jobId": "j", "type": "scheduleDeviceMethod", "cloudToDeviceMethod": {"methodName": "lock"},
        "queryCondition": "*", "rollout": {"concurrency": 3, "rate": 60}});
    assert_eq!(call(&mut hub.owner(), "PUT", "/ostler/v1/jobs/j", &job).0, 200);
    let calls = Mutex::new(BTreeMap::new());
    loop {
        let mut ended = false;
        std::thread::scope(|scope| {
            for (name, key) in names.iter().zip(&keys) {
                let (hub, calls) = (&hub, &calls);
                // Ends when the hub is killed.
                scope.spawn(move || drop(answer(hub, name, key, calls)));
            }
            let limit = done(&hub) + random.within(1..9);
            wait("the job to go on", || {
                ended = is_completed(&hub);
                ended || done(&hub) >= limit
            });
            hub.kill();
        });
        drop(hub);
        hub = Hub::start(&data);
        if ended {
            break;
        }
    }
    let calls = calls.into_inner().unwrap();
    let sql = json!({"query": "SELECT * FROM devices.jobs WHERE jobId = 'j'"});
    let rows = call(&mut hub.owner(), "POST", "/devices/query", &sql).1;
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), CALLED);
    for row in rows {
        let called: u32 = calls.get(row["deviceId"].as_str().unwrap()).copied().unwrap_or(0);
        match row["status"].as_str().unwrap() {
            "completed" => assert_eq!(called, 1, "{row}"),
            "failed" => {
                assert!(row["error"]["code"] == "OutcomeUnknown" && called <= 1, "{row} called {called}")
            }
            _ => panic!("{row}"),
        }
    }
}

/// A device that answers calls and counts them, until its connection breaks.
fn answer(hub: &Hub, name: &str, key: &str, calls: &Mutex<BTreeMap<String, u32>>) -> io::Result<()> {
    let mut connection = Device::connect(hub, name, key, true)?;
    connection.subscribe("$iothub/methods/POST/#")?;
    loop {
        let (topic, _) = connection.until_topic("$iothub/methods/POST/lock/")?;
        *calls.lock().unwrap().entry(name.to_owned()).or_default() += 1;
        let rid = topic.split("$rid=").nth(1).unwrap();
        connection.publish(&format!("$iothub/methods/res/200/?$rid={rid}"), b"{}")?;
    }
}

fn call(owner: &mut Http, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = owner.call(method, path, Some(&body.to_string())).unwrap();
    (answer.status, answer.json())
}

fn show(hub: &Hub) -> Value {
    hub.owner().call("GET", "/jobs/v2/j", None).unwrap().json()
}

fn is_completed(hub: &Hub) -> bool {
    show(hub)["status"] == "completed"
}

/// Devices that have ended.
fn done(hub: &Hub) -> u64 {
    let statistics = &show(hub)["deviceJobStatistics"];
    let number = |name: &str| statistics[name].as_u64().unwrap_or(0);
    number("succeededCount") + number("failedCount")
}

fn count(hub: &Hub, from: &str) -> u64 {
    let query = json!({"query": format!("SELECT COUNT() AS n FROM {from}")});
    let (status, rows) = call(&mut hub.owner(), "POST", "/devices/query", &query);
    assert_eq!(status, 200, "{rows}");
    rows[0]["n"].as_u64().unwrap_or_else(|| panic!("{rows}"))
}
