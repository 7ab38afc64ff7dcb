//! `ostler simulate` against a hub process: devices are made, behave, and go.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use jiff::Timestamp;
use serde_json::{json, Value};

use crate::support::{ostler, wait_for, Hub, Ran};

const SCENARIO: &str = r#"
devices = 50
[[group]]
name = "doors"
[group.tags]
building = { gen = "cycle", of = [43, 44] }
[group.desired]
floor = 1
[group.reported]
firmware = { version = "2.0" }
[[group.method]]
name = "lockDoor"
answer = [{ payload = { locked = true, by = { gen = "payload", path = "by" } } }]
then-report = { lastLock = { gen = "status" } }
[group.reboot]
shutdown = "0ms"
down = "50ms"
[group.on-desired]
"#;

/// A simulation that is killed when the test is over.
struct Simulation {
    process: Child,
    samples: Lines<BufReader<ChildStdout>>,
}

impl Simulation {
    /// Starts one and waits until all of its devices are connected.
    fn start(hub: &Hub, args: &[&str]) -> Self {
        let ready = hub.folder().join("all-connected.json");
        let mut process = hub
            .command(&["-o", "json", "simulate", "--interval", "100ms"])
            .args(args)
            .arg("--ready-file")
            .arg(&ready)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let samples = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut simulation = Self { process, samples };
        wait_for(|| {
            assert!(simulation.process.try_wait().unwrap().is_none(), "the simulation ended");
            ready.exists()
        });
        simulation
    }

    /// Waits for a sample of which something holds.
    fn until(&mut self, condition: impl Fn(&Value) -> bool) {
        let parse = |line: std::io::Result<String>| serde_json::from_str(&line.unwrap()).unwrap();
        assert!(self.samples.by_ref().map(parse).any(|sample| condition(&sample)), "the simulation ended");
    }

    /// Sends SIGTERM and returns the summary.
    fn stop(mut self) -> Value {
        let pid = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        let lines: Vec<Value> =
            self.samples.by_ref().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        let told = std::io::read_to_string(self.process.stderr.take().unwrap()).unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(0), "{told}");
        let (last, samples) = lines.split_last().unwrap();
        assert!(samples.iter().all(|sample| sample["type"] == "sample"), "{samples:?}");
        assert_eq!(last["type"], "summary");
        last.clone()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn reported(hub: &Hub, device: &str) -> Value {
    hub.run(&["twin", "show", device, "-o", "json"]).ok().json()["properties"]["reported"].clone()
}

#[test]
fn devices_answer_adapt_reboot_and_go() {
    let hub = Hub::start();
    std::fs::write(hub.folder().join("doors.toml"), SCENARIO).unwrap();
    let simulation = Simulation::start(&hub, &["doors.toml", "--register", "--delete"]);
    let connected = hub.run(&["device", "list", "--connected", "-q"]).ok().stdout;
    assert_eq!((connected.lines().count(), connected.lines().last()), (50, Some("sim-000050")));

    let answer =
        hub.run(&["method", "invoke", "sim-000007", "lockDoor", r#"{"by":"me"}"#, "-o", "json"]).ok();
    assert_eq!(answer.json(), json!({ "status": 200, "payload": { "locked": true, "by": "me" } }));
    wait_for(|| reported(&hub, "sim-000007")["lastLock"] == 200);
    hub.run(&["method", "invoke", "sim-000007", "noSuchMethod"]).fails(8);
    let job = ["job", "create", "method", "noSuchMethod", "--device", "sim-000007", "--id", "no-such"];
    let watched = hub.run(&[&job[..], &["--watch"]].concat()).ok().stdout;
    assert!(watched.ends_with("answers  404: 1\n"), "{watched}");
    assert!(hub.run(&["job", "show", "no-such"]).ok().stdout.contains("404: 1\n"));

    let twin = hub.run(&["twin", "show", "sim-000008", "-o", "json"]).ok().json();
    assert_eq!(twin["tags"], json!({ "building": 44 }));
    wait_for(|| reported(&hub, "sim-000008")["floor"] == 1);
    assert_eq!(reported(&hub, "sim-000008")["firmware"], json!({ "version": "2.0" }));
    hub.run(&["twin", "set", "sim-000008", "desired", "floor=3"]).ok();
    wait_for(|| reported(&hub, "sim-000008")["floor"] == 3);

    let before = Timestamp::now();
    hub.run(&["method", "invoke", "sim-000009", "reboot"]).ok();
    wait_for(|| reported(&hub, "sim-000009")["lastReboot"].is_string());
    let reboot: Timestamp = reported(&hub, "sim-000009")["lastReboot"].as_str().unwrap().parse().unwrap();
    assert!(before < reboot && reboot < Timestamp::now(), "{reboot} is not the time");
    // It is gone for a moment; a call that waits for the connection finds it again.
    hub.run(&["method", "invoke", "sim-000009", "lockDoor", "--connect-timeout", "20"]).ok();

    let summary = simulation.stop();
    assert_eq!((&summary["everConnected"], &summary["leaves"]), (&json!(50), &json!(1)), "{summary}");
    assert!(summary["connects"].as_u64() >= Some(51), "{summary}");
    assert_eq!((&summary["answers"]["404"], &summary["errors"]), (&json!(2), &json!({})), "{summary}");
    assert_eq!(summary["desiredUpdates"], 1, "{summary}");
    assert_eq!(hub.run(&["device", "list", "-q"]).ok().stdout, "");
}

#[test]
fn firmware_is_updated_over_a_reboot() {
    let hub = Hub::start_with(&["--plain-mqtt-port", "0"]);
    let scenario =
        "[[group]]\nname = 'g'\n[group.firmware]\ndownload = '40ms'\napply = '10ms'\ndown = '10ms'\n";
    std::fs::write(hub.folder().join("pumps.toml"), scenario).unwrap();
    let simulation =
        Simulation::start(&hub, &["pumps.toml", "-n", "5", "--prefix", "pump-", "--register", "--plain"]);
    let payload = r#"{"fwPackageUri":"https://fw.example.net/pump-2.1.bin"}"#;
    hub.run(&["method", "invoke", "pump-000001", "firmwareUpdate", payload]).ok();
    wait_for(|| reported(&hub, "pump-000001")["firmware"]["status"] == "applied");
    assert_eq!(reported(&hub, "pump-000001")["firmware"]["version"], "2.1");
    simulation.stop();

    // Registered devices are found again with their keys; those that are not there are told.
    let again =
        hub.run(&["simulate", "pumps.toml", "-n", "5", "--prefix", "pump-", "--duration", "300ms"]).ok();
    assert!(again.stdout.contains("5 were connected"), "{}{}", again.stdout, again.stderr);
    let tls_only = Hub::start();
    let plain = tls_only.run(&["simulate", "--plain"]).fails(2);
    assert!(plain.stderr.contains("--plain-mqtt-port"), "{}", plain.stderr);
    let missing = hub.run(&["simulate", "-n", "6", "--prefix", "pump-"]).fails(3);
    assert!(
        missing.stderr.contains("`pump-000006` is not registered") && missing.stderr.contains("--register")
    );
}

#[test]
fn restless_and_absent_devices_come_back() {
    let hub = Hub::start();
    let scenario =
        "[[group]]\nname = 'restless'\n[group.flap]\nevery = { uniform = ['20ms', '80ms'] }\ndown = '10ms'\n\
        [[group]]\nname = 'absent'\n[group.vanish]\nevery = '50ms'\ngone = '50ms'\n";
    std::fs::write(hub.folder().join("bad-day.toml"), scenario).unwrap();
    let mut simulation = Simulation::start(&hub, &["bad-day.toml", "-n", "10", "--register"]);
    let more =
        |sample: &Value, name: &str, than: u64| sample[name].as_u64().is_some_and(|count| count > than);
    simulation.until(|sample| {
        more(sample, "leaves", 50) && more(sample, "vanishes", 50) && more(sample, "connects", 110)
    });
    let summary = simulation.stop();
    assert_eq!((&summary["everConnected"], &summary["errors"]), (&json!(10), &json!({})), "{summary}");
}

#[test]
fn a_job_reaches_all_of_them() {
    let hub = Hub::start();
    let simulation =
        Simulation::start(&hub, &["--scenario", "lock", "-n", "500", "--register", "--seed", "9"]);
    let done = hub
        .run(&[
            "job",
            "create",
            "method",
            "lockDoor",
            "--query",
            "tags.building != 40",
            "--id",
            "lock",
            "--wait",
        ])
        .ok();
    assert!(done.stdout.contains("lock"), "{}", done.stdout);
    let job = hub.run(&["job", "show", "lock", "-o", "json"]).ok().json();
    assert_eq!(job["deviceJobStatistics"]["succeededCount"], 400, "{job}");
    let rows = hub.run(&["job", "devices", "lock", "--all", "-q"]).ok().stdout;
    assert_eq!((rows.lines().count(), rows.lines().next()), (400, Some("sim-000002")));
    let summary = simulation.stop();
    let answers = ["200", "423"].map(|status| summary["answers"][status].as_u64().unwrap_or(0));
    assert_eq!(answers.iter().sum::<u64>(), 400, "{summary}");
    assert!((1..30).contains(&answers[1]), "one in a hundred doors is blocked: {summary}");
}

#[test]
fn scenarios_can_be_printed_and_mistakes_are_told_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| Ran::of(ostler(args).current_dir(folder.path()).output().unwrap());
    for name in ["idle", "lock", "reboot", "firmware", "chaos"] {
        let text = run(&["simulate", "--scenario", name, "--print-scenario"]).ok().stdout;
        assert!(text.contains("[[group]]"), "{text}");
    }
    std::fs::write(
        folder.path().join("bad.toml"),
        "[[group]]\nname = 'a'\n\n[group.vanisch]\nevery = '1s'\n",
    )
    .unwrap();
    let bad = run(&["simulate", "bad.toml"]).fails(2).stderr;
    assert!(bad.contains("bad.toml: line 4, column 8") && bad.contains("did you mean `vanish`?"), "{bad}");
    assert_eq!(bad.lines().count(), 1, "{bad}");
    run(&["simulate", "nowhere.toml"]).fails(3);
    run(&["simulate", "--scenario", "nonsense"]).fails(2);
    run(&["simulate", "--duration", "10 parsecs"]).fails(2);
    let nobody = "HostName=localhost:1;SharedAccessKeyName=p;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==";
    let none = run(&["simulate", "--mqtt-port", "1", "--connection-string", nobody]).fails(6).stderr;
    assert!(none.contains("cannot connect to localhost:1 for MQTT"), "{none}");
    run(&["simulate"]).fails(6);
}
