//! Kills the hub with SIGKILL while messages are sent and taken, and looks for every message that was accepted.
//!
//! Invariant: what was accepted reaches its device, in order, however often the hub dies; nothing that was never sent
//! does.

use crate::support::http::Http;
use crate::support::hub::Hub;
use crate::support::mqtt::Device;
use crate::support::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

const ROUNDS: u64 = 8;
const DEVICES: usize = 3;

/// What is known of one device's messages, by the numbers in them.
#[derive(Default)]
struct Ledger {
    sent: u64,
    accepted: BTreeSet<u64>,
    /// In the order in which they came first.
    received: Vec<u64>,
}

#[derive(Default)]
struct Load {
    ledgers: Mutex<BTreeMap<String, Ledger>>,
    accepted: AtomicU64,
    enough: Condvar,
}

impl Load {
    fn note<T>(&self, device: &str, change: impl FnOnce(&mut Ledger) -> T) -> T {
        change(self.ledgers.lock().unwrap().entry(device.to_owned()).or_default())
    }

    fn wait_for(&self, count: u64) {
        let guard = self.ledgers.lock().unwrap();
        let behind = |_: &mut BTreeMap<String, Ledger>| self.accepted.load(Ordering::SeqCst) < count;
        let (_guard, timeout) =
            self.enough.wait_timeout_while(guard, crate::support::hub::PATIENCE, behind).unwrap();
        assert!(!timeout.timed_out(), "the hub accepts too little");
    }

    /// Takes a message off a device's connection; one that came before is acknowledged again.
    fn receive(&self, device: &str, connection: &mut Device) -> io::Result<()> {
        let (_, payload) = connection.until_message(&format!("devices/{device}/messages/devicebound/"))?;
        let number = std::str::from_utf8(&payload).unwrap().parse().unwrap();
        self.note(device, |ledger| {
            assert!(number <= ledger.sent, "{device}: nobody sent {number}");
            if !ledger.received.contains(&number) {
                ledger.received.push(number);
            }
        });
        Ok(())
    }
}

#[test]
fn every_accepted_message_survives_sigkill() {
    let mut random = Random::from_env(7);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let load = Load::default();
    let mut hub = Hub::start(&data);
    let mut owner = hub.owner();
    let keys: BTreeMap<String, String> =
        devices().map(|device| (device.clone(), owner.register(&device))).collect();
    for _ in 0..ROUNDS {
        let limit = load.accepted.load(Ordering::SeqCst) + random.within(20..300);
        std::thread::scope(|scope| {
            let (hub, keys, load) = (&hub, &keys, &load);
            for device in devices() {
                let key = &keys[&device];
                let name = device.clone();
                scope.spawn(move || send(hub, &name, load));
                scope.spawn(move || take(hub, &device, key, load));
            }
            load.wait_for(limit);
            hub.kill();
        });
        drop(hub);
        hub = Hub::start(&data);
    }
    for device in devices() {
        drain(&hub, &device, &keys[&device], &load);
    }
    println!("{ROUNDS} kills, {} messages accepted, none lost", load.accepted.load(Ordering::SeqCst));
}

fn devices() -> impl Iterator<Item = String> {
    (0..DEVICES).map(|i| format!("device-{i}"))
}

/// Sends 1, 2, 3, … until the hub dies; a full queue is waited for.
fn send(hub: &Hub, device: &str, load: &Load) {
    let run = || -> io::Result<()> {
        let mut owner = hub.owner();
        loop {
            let number = load.note(device, |ledger| {
                ledger.sent += 1;
                ledger.sent
            });
            while !accepted(&mut owner, device, number)? {}
            load.note(device, |ledger| ledger.accepted.insert(number));
            load.accepted.fetch_add(1, Ordering::SeqCst);
            load.enough.notify_all();
        }
    };
    ended(run());
}

/// Whether the hub took it; if not, because the queue is full.
fn accepted(owner: &mut Http, device: &str, number: u64) -> io::Result<bool> {
    let path = format!("/ostler/v1/devices/{device}/messages");
    let answer = owner.call("POST", &path, Some(&number.to_string()))?;
    assert!(matches!(answer.status, 200 | 403), "{answer:?}");
    Ok(answer.status == 200)
}

/// Takes messages until the hub dies.
fn take(hub: &Hub, device: &str, key: &str, load: &Load) {
    let run = || -> io::Result<()> {
        let mut connection = Device::connect(hub, device, key, false)?;
        connection.subscribe_acked(&format!("devices/{device}/messages/devicebound/#"))?;
        loop {
            load.receive(device, &mut connection)?;
        }
    };
    ended(run());
}

fn ended(result: io::Result<()>) {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, UnexpectedEof};
    let error = result.unwrap_err();
    assert!(
        matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | UnexpectedEof),
        "the hub refused: {error}"
    );
}

/// Takes what is left, and judges.
fn drain(hub: &Hub, device: &str, key: &str, load: &Load) {
    let mut owner = hub.owner();
    let mut waiting = || {
        let identity = owner.call("GET", &format!("/devices/{device}"), None).unwrap().json();
        identity["cloudToDeviceMessageCount"].as_u64().unwrap()
    };
    let mut connection = Device::connect(hub, device, key, false).unwrap();
    connection.subscribe_acked(&format!("devices/{device}/messages/devicebound/#")).unwrap();
    let missing = |load: &Load| {
        load.note(device, |ledger| ledger.accepted.iter().any(|number| !ledger.received.contains(number)))
    };
    while missing(load) {
        assert!(waiting() > 0, "{device}: an accepted message is gone");
        load.receive(device, &mut connection).unwrap();
    }
    load.note(device, |ledger| {
        assert!(ledger.received.is_sorted(), "{device}: out of order: {:?}", ledger.received);
    });
}
