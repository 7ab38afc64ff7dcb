//! Kills the hub with SIGKILL under load, twenty times, and looks for every write that was acknowledged.
//!
//! Invariant: a writer notes a write before it is sent and again once it is acknowledged. What the restarted hub
//! shows lies between the two: never older than acknowledged, never newer than sent.

use crate::support::http::{create, Http};
use crate::support::hub::Hub;
use crate::support::mqtt::Device;
use crate::support::random::Random;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

const ROUNDS: u64 = 20;
const REPORTERS: usize = 6;
const PATCHERS: usize = 3;
const REGISTRARS: usize = 3;

/// A counter that one writer writes into one place, as far as it was sent and as far as it was acknowledged.
#[derive(Default, Clone, Debug)]
struct Progress {
    sent: u64,
    acknowledged: u64,
    /// The `$version` that came with the last acknowledgement.
    version: u64,
}

#[derive(Default)]
struct Ledger {
    reported: BTreeMap<String, Progress>,
    desired: BTreeMap<String, Progress>,
    /// Device to whether it was acknowledged as present; a write without an answer leaves it out.
    registry: BTreeMap<String, bool>,
    /// Devices whose durable subscription was acknowledged.
    subscribed: Vec<String>,
}

impl Ledger {
    fn is_there(&mut self, device: &str, present: bool) {
        self.registry.insert(device.to_owned(), present);
    }
}

/// What the writers share: the ledger, and a count of acknowledgements that somebody waits for.
#[derive(Default)]
struct Load {
    ledger: Mutex<Ledger>,
    acknowledged: AtomicU64,
    enough: Condvar,
}

impl Load {
    /// Changes the ledger before a write is sent.
    fn note<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        change(&mut self.ledger.lock().unwrap())
    }

    /// Changes the ledger once a write was acknowledged.
    fn acknowledge(&self, change: impl FnOnce(&mut Ledger)) {
        self.note(change);
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        self.enough.notify_all();
    }

    fn wait_for(&self, count: u64) {
        let guard = self.ledger.lock().unwrap();
        let patience = crate::support::hub::PATIENCE;
        let behind = |_: &mut Ledger| self.acknowledged.load(Ordering::SeqCst) < count;
        let (_guard, timeout) = self.enough.wait_timeout_while(guard, patience, behind).unwrap();
        assert!(
            !timeout.timed_out(),
            "the hub acknowledges too little: {}",
            self.acknowledged.load(Ordering::SeqCst)
        );
    }
}

#[test]
fn every_acknowledged_write_survives_sigkill() {
    let mut random = Random::from_env(20);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let load = Load::default();
    let mut keys = BTreeMap::new();
    let mut hub = Hub::start(&data);
    for round in 0..ROUNDS {
        if round == 0 {
            keys = register(&hub);
        }
        let limit = load.acknowledged.load(Ordering::SeqCst) + random.within(50..1500);
        std::thread::scope(|scope| {
            let (hub, keys, load) = (&hub, &keys, &load);
            for device in reporters() {
                scope.spawn(move || report(hub, &device, &keys[&device], load));
            }
            for device in patched() {
                scope.spawn(move || patch(hub, &device, load));
            }
            for registrar in 0..REGISTRARS {
                scope.spawn(move || enroll(hub, round, registrar, load));
            }
            scope
                .spawn(move || subscribe(hub, &format!("sub-{round}"), &keys[&format!("sub-{round}")], load));
            load.wait_for(limit);
            hub.kill();
        });
        drop(hub);
        hub = Hub::start(&data);
        verify(&hub, &keys, &load, round);
    }
    let acknowledged = load.acknowledged.load(Ordering::SeqCst);
    println!("{ROUNDS} kills, {acknowledged} acknowledged writes, none lost");
}

fn reporters() -> impl Iterator<Item = String> {
    (0..REPORTERS).map(|i| format!("reporter-{i}"))
}

fn patched() -> impl Iterator<Item = String> {
    (0..PATCHERS).map(|i| format!("patched-{i}"))
}

fn register(hub: &Hub) -> BTreeMap<String, String> {
    let mut owner = hub.owner();
    let subscribers = (0..ROUNDS).map(|round| format!("sub-{round}"));
    let all = reporters().chain(patched()).chain(subscribers);
    all.map(|device| (device.clone(), owner.register(&device))).collect()
}

// ---- the writers: each ends at its first error, which is the hub being killed

/// Reports `n` = 1, 2, 3, … for one device over MQTT.
fn report(hub: &Hub, device: &str, key: &str, load: &Load) {
    let run = || -> io::Result<()> {
        let mut connection = Device::connect(hub, device, key, true)?;
        connection.subscribe("$iothub/twin/res/#")?;
        loop {
            let n = load.note(|ledger| next(&mut ledger.reported, device));
            let version = connection.report(n, &format!(r#"{{"n":{n}}}"#))?;
            load.acknowledge(|ledger| done(&mut ledger.reported, device, n, version));
        }
    };
    ended(run());
}

/// Patches the desired `n` = 1, 2, 3, … of one twin over REST.
fn patch(hub: &Hub, device: &str, load: &Load) {
    let run = || -> io::Result<()> {
        let mut owner = hub.owner();
        loop {
            let n = load.note(|ledger| next(&mut ledger.desired, device));
            let body = format!(r#"{{"properties":{{"desired":{{"n":{n}}}}}}}"#);
            let answer = owner.call("PATCH", &format!("/twins/{device}"), Some(&body))?;
            assert_eq!(answer.status, 200, "{answer:?}");
            let version = answer.json()["properties"]["desired"]["$version"].as_u64().unwrap();
            load.acknowledge(|ledger| done(&mut ledger.desired, device, n, version));
        }
    };
    ended(run());
}

/// Registers devices and deletes every third of them again.
fn enroll(hub: &Hub, round: u64, registrar: usize, load: &Load) {
    let run = || -> io::Result<()> {
        let mut owner = hub.owner();
        for i in 0.. {
            let device = format!("new-{round}-{registrar}-{i}");
            write(&mut owner, "PUT", &device, Some(&create(&device)))?;
            load.acknowledge(|ledger| ledger.is_there(&device, true));
            if i % 3 == 0 {
                // Until the answer is there, the device may or may not exist.
                load.note(|ledger| ledger.registry.remove(&device));
                write(&mut owner, "DELETE", &device, None)?;
                load.acknowledge(|ledger| ledger.is_there(&device, false));
            }
        }
        Ok(())
    };
    ended(run());
}

fn write(owner: &mut Http, method: &str, device: &str, body: Option<&str>) -> io::Result<()> {
    let answer = owner.call(method, &format!("/devices/{device}"), body)?;
    assert!(matches!(answer.status, 200 | 204), "{answer:?}");
    Ok(())
}

/// Subscribes in a session that is to outlive the connection, and stays until the end.
fn subscribe(hub: &Hub, device: &str, key: &str, load: &Load) {
    let run = || -> io::Result<()> {
        let mut connection = Device::connect(hub, device, key, false)?;
        connection.subscribe(DESIRED)?;
        load.acknowledge(|ledger| ledger.subscribed.push(device.to_owned()));
        connection.until(|_| false).map(drop)
    };
    ended(run());
}

const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";

fn next(counters: &mut BTreeMap<String, Progress>, device: &str) -> u64 {
    let progress = counters.entry(device.to_owned()).or_default();
    progress.sent += 1;
    progress.sent
}

fn done(counters: &mut BTreeMap<String, Progress>, device: &str, n: u64, version: u64) {
    let progress = counters.entry(device.to_owned()).or_default();
    assert!(version > progress.version, "{device}: version {version} after {}", progress.version);
    (progress.acknowledged, progress.version) = (n, version);
}

/// A writer may only end because its connection broke.
fn ended(result: io::Result<()>) {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, UnexpectedEof};
    let error = result.unwrap_err();
    assert!(
        matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | UnexpectedEof),
        "a writer was refused: {error}"
    );
}

// ---- the judge

fn verify(hub: &Hub, keys: &BTreeMap<String, String>, load: &Load, round: u64) {
    let mut owner = hub.owner();
    load.note(|ledger| {
        compare(&mut owner, "reported", &ledger.reported);
        compare(&mut owner, "desired", &ledger.desired);
        for (device, present) in &ledger.registry {
            let status = owner.call("GET", &format!("/devices/{device}"), None).unwrap().status;
            assert_eq!(status, if *present { 200 } else { 404 }, "round {round}: {device}");
        }
        // Judged once a round; what stood the restart it was written before will stand the next ones.
        ledger.registry.clear();
        for device in ledger.subscribed.drain(..) {
            notified(hub, &mut owner, &device, &keys[&device]);
        }
    });
}

fn compare(owner: &mut Http, section: &str, counters: &BTreeMap<String, Progress>) {
    for (device, progress) in counters {
        let twin = owner.call("GET", &format!("/twins/{device}"), None).unwrap().json();
        let found = &twin["properties"][section];
        let number = |name: &str| found[name].as_u64().unwrap_or_default();
        let range = progress.acknowledged..=progress.sent;
        assert!(range.contains(&number("n")), "{device}: {section} is {found}, written was {progress:?}");
        assert!(
            number("$version") >= progress.version,
            "{device}: {section} is {found}, written was {progress:?}"
        );
    }
}

/// A device that comes back without subscribing again still hears of a desired change.
fn notified(hub: &Hub, owner: &mut Http, device: &str, key: &str) {
    let mut connection = Device::connect(hub, device, key, false).unwrap();
    assert!(connection.session_present, "{device} has lost its session");
    let body = r#"{"properties":{"desired":{"heard":true}}}"#;
    assert_eq!(owner.call("PATCH", &format!("/twins/{device}"), Some(body)).unwrap().status, 200);
    let (topic, payload) = connection.until_topic("$iothub/twin/PATCH/properties/desired/").unwrap();
    let patch: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(patch["heard"], true, "{topic}");
}
