//! What the twin shows, step by step.

use ostler_core::time::Timestamp;
use serde_json::{json, Value};

use super::*;
use crate::firmware::{Boot, Code, Downgrade, Machine, Reporter, Rules, Slot, State};

const START: Timestamp = Timestamp::from_unix_secs(1_777_629_600);

struct Twin {
    machine: Machine,
    reporter: Reporter,
    reported: Value,
    now: Timestamp,
    patches: usize,
}

impl Twin {
    fn new(state: State, running: Slot) -> Self {
        let rules = Rules {
            trusted: vec![key().public()],
            hardware: HARDWARE.to_owned(),
            downgrade: Downgrade::Refuse,
            max_size: 1 << 20,
            max_boots: 3,
        };
        let boot = Boot { running, linked: running, counts: true };
        let machine = Machine::start(state, rules, boot, START);
        let reporter = Reporter::new("firmware", Duration::from_secs(5));
        let mut twin = Self { machine, reporter, reported: json!({}), now: START, patches: 0 };
        twin.tell();
        twin
    }

    fn factory() -> Self {
        let image = crate::firmware::Image { version: "1.0.0".parse().unwrap(), sha256: None, size: 0 };
        Self::new(State::factory(Slot::A, image), Slot::A)
    }

    fn after(&mut self, secs: i64, act: impl FnOnce(&mut Machine, Timestamp)) {
        self.now = self.now.plus_secs(secs);
        act(&mut self.machine, self.now);
        self.tell();
    }

    fn bytes(&mut self, secs: i64, bytes: u64) {
        self.now = self.now.plus_secs(secs);
        self.reporter.handle_bytes(bytes);
        self.take();
    }

    fn tell(&mut self) {
        self.reporter.handle_state(self.machine.state(), self.machine.running(), self.now);
        self.take();
    }

    /// Merges as a hub does.
    fn take(&mut self) {
        while let Some(patch) = self.reporter.poll(self.now) {
            self.patches += 1;
            let Value::Object(members) = serde_json::from_str(&patch.json).unwrap() else {
                panic!("{}", patch.json)
            };
            for (name, value) in members {
                match value {
                    Value::Object(inner) => {
                        for (name_inside, value) in inner {
                            self.reported[&name][name_inside] = value;
                        }
                    }
                    value => self.reported[name] = value,
                }
            }
        }
    }

    fn status(&self) -> (&str, &str) {
        (
            self.reported["firmwareStatus"].as_str().unwrap(),
            self.reported["firmware"]["step"].as_str().unwrap(),
        )
    }
}

#[test]
fn an_update_is_told_as_the_tutorials_do() {
    let new = image(2, 3000);
    let mut twin = Twin::factory();
    assert_eq!(twin.status(), ("standBy", "standBy"));
    assert_eq!(twin.reported["logTime"], "2026-05-01 10:00:00.000000");
    let request = Request::Package(package("2.0.0", &new, "https://fw.example/x"));
    twin.after(15, |machine, now| {
        machine.handle_request(request, Source::Call, now).unwrap();
    });
    assert_eq!(twin.status(), ("downloading", "downloading"));
    assert_eq!(twin.reported["firmware"]["target"], "2.0.0");
    assert_eq!(twin.reported["firmware"]["total"], 3000);
    twin.after(15, |machine, now| machine.handle_downloaded(Ok(()), now));
    assert_eq!(twin.status(), ("downloading", "verifying"));
    twin.after(1, |machine, now| machine.handle_verified(Ok(()), now));
    assert_eq!(twin.status(), ("applying", "applying"));
    twin.after(1, |machine, now| machine.handle_installed(Ok(()), now));
    twin.after(1, |machine, now| machine.handle_switched(Slot::B, now));
    // After the boot.
    let mut twin =
        Twin { reported: twin.reported.clone(), ..Twin::new(twin.machine.state().clone(), Slot::B) };
    twin.tell();
    let mut fresh = Twin::new(twin.machine.state().clone(), Slot::B);
    assert_eq!(fresh.status(), ("applying", "confirming"));
    fresh.after(15, |machine, now| machine.handle_health(Ok(()), now));
    assert_eq!(fresh.status(), ("completed", "completed"));
    assert_eq!(fresh.reported["completedTime"], "2026-05-01 10:00:15.000000");
    assert_eq!(fresh.reported["firmware"]["version"], "2.0.0");
    assert_eq!(fresh.reported["firmware"]["slot"], "b");
    assert_eq!(fresh.reported["firmware"]["last"]["result"], "completed");
    // Once told, it stays until the device starts anew.
    fresh.after(1, |machine, _| machine.handle_told());
    assert_eq!(fresh.status(), ("completed", "completed"));
    let next = Twin::new(fresh.machine.state().clone(), Slot::B);
    assert_eq!(next.status(), ("standBy", "standBy"));
    assert_eq!(next.reported["firmware"]["last"]["result"], "completed");
}

#[test]
fn progress_is_told_now_and_then() {
    let new = image(2, 300_000);
    let mut twin = Twin::factory();
    let request = Request::Package(package("2.0.0", &new, "https://fw.example/x"));
    twin.after(1, |machine, now| {
        machine.handle_request(request, Source::Call, now).unwrap();
    });
    let before = twin.patches;
    twin.bytes(1, 1000);
    assert_eq!((twin.patches, &twin.reported["firmware"]["bytes"]), (before + 1, &json!(1000)));
    for _ in 0..4 {
        let bytes = twin.reporter_bytes() + 1000;
        twin.bytes(1, bytes);
    }
    assert_eq!(twin.patches, before + 1);
    assert_eq!(twin.reporter.deadline(twin.now), Some(START.plus_secs(7)));
    twin.bytes(1, 9000);
    assert_eq!((twin.patches, &twin.reported["firmware"]["bytes"]), (before + 2, &json!(9000)));
    // Nothing new is nothing to tell.
    twin.bytes(60, 9000);
    assert_eq!(twin.patches, before + 2);
    assert_eq!(twin.reporter.deadline(twin.now), None);
}

impl Twin {
    fn reporter_bytes(&self) -> u64 {
        self.reported["firmware"]["bytes"].as_u64().unwrap()
    }
}

#[test]
fn a_step_that_was_not_taken_is_told_again_in_its_place() {
    let mut twin = Twin::factory();
    let request = Request::Uri("https://fw.example/x".to_owned());
    twin.machine.handle_request(request, Source::Call, START).unwrap();
    twin.reporter.handle_state(twin.machine.state(), Slot::A, START);
    let first = twin.reporter.poll(START).unwrap();
    twin.machine.handle_package(Err(Failure::new(Code::Refused, "404")), START);
    twin.reporter.handle_state(twin.machine.state(), Slot::A, START);
    twin.reporter.give_back(first.clone());
    assert!(!twin.reporter.is_empty());
    assert_eq!(twin.reporter.poll(START), Some(first));
    assert!(twin.reporter.poll(START).unwrap().is_outcome);
    assert_eq!(twin.reporter.poll(START), None);
}

#[test]
fn failures_are_told_with_their_code() {
    let new = image(2, 3000);
    let mut twin = Twin::factory();
    let request = || Request::Package(package("2.0.0", &new, "https://fw.example/x"));
    twin.after(1, |machine, now| {
        machine.handle_request(request(), Source::Call, now).unwrap();
        machine.handle_downloaded(Err(Failure::new(Code::Redirects, "round and round")), now);
    });
    assert_eq!(twin.status(), ("downloadFailed", "failed"));
    assert_eq!(twin.reported["firmware"]["error"], json!({"code": "redirects", "text": "round and round"}));
    twin.after(1, |machine, now| {
        machine.handle_request(request(), Source::Call, now).unwrap();
    });
    assert_eq!(
        (twin.status(), &twin.reported["firmware"]["error"]),
        (("downloading", "downloading"), &Value::Null)
    );
    twin.after(1, |machine, now| machine.handle_downloaded(Ok(()), now));
    twin.after(1, |machine, now| machine.handle_verified(Ok(()), now));
    twin.after(1, |machine, now| {
        machine.handle_installed(Err(Failure::new(Code::InstallFailed, "no flash")), now)
    });
    assert_eq!(twin.status(), ("applyFailed", "failed"));
    // Another failure of the same kind is told too.
    let before = twin.patches;
    let stranger = sign(&manifest("3.0.0", &new), "u", &SigningKey::generate().unwrap());
    twin.after(1, |machine, now| {
        machine.handle_request(Request::Package(stranger), Source::Call, now).unwrap_err();
    });
    assert_eq!(twin.patches, before + 1);
    assert_eq!(twin.reported["firmware"]["error"]["code"], "badSignature");
}

#[test]
fn nothing_that_is_told_is_too_long_for_a_twin() {
    let mut twin = Twin::factory();
    let request = Request::Uri("https://fw.example/x".to_owned());
    twin.after(1, |machine, now| {
        machine.handle_request(request, Source::Call, now).unwrap();
        machine.handle_package(Err(Failure::new(Code::Refused, "é".repeat(9000))), now);
    });
    assert!(twin.reported["firmware"]["error"]["text"].as_str().unwrap().len() <= 512);
}
