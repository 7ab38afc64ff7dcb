//! The tutorials' pairs as processes, against a hub that is a process too: what they print is what the README promises.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, and it says what it saw")]

mod support;

use std::time::{Duration, Instant};

use support::{tool, until, Hub, Program};

/// The text of the tutorial: the device answers after 20 s, and the caller, who waits up to 60 s, gets the answer.
#[test]
fn a_reboot_of_twenty_seconds_is_answered_within_sixty() {
    let hub = Hub::start();
    let mut device = hub.start_device("reboot-device", &hub.device("pump-7"), &[]);
    device.expect("Connected");
    let began = Instant::now();
    let said = hub.start_service("reboot-service", &["pump-7"]).finish();
    // Both bounds are promises of the tutorial, not measurements.
    assert!((Duration::from_secs(20)..Duration::from_secs(60)).contains(&began.elapsed()), "{said:#?}");
    assert_eq!(said[0], "Calling rebootDevice on pump-7");
    assert_eq!(said[1], r#"Answered with 200: {"Response":"This is the response from the device"}"#);
    let time = device.expect("Rebooted at ").replace("Rebooted at ", "");
    assert_eq!(said.last().unwrap(), &format!("Last rebooted at {time}"));
}

#[test]
fn a_reboot_of_a_device_that_is_away_fails_at_once() {
    let hub = Hub::start();
    hub.device("pump-7");
    let mut service = hub.start_service("reboot-service", &["pump-7"]);
    service.expect("Calling rebootDevice");
    service.fails_with("DeviceNotOnline (404103)");
}

#[test]
fn a_device_that_is_not_let_in_says_why() {
    let hub = Hub::start();
    let own = hub.device("pump-7");
    let (rest, _) = own.split_once("SharedAccessKey=").unwrap();
    let foreign = format!("{rest}SharedAccessKey=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    for program in ["reboot-device", "lock-device"] {
        let mut device = hub.start_device(program, &foreign, &[]);
        let said = device.expect("Not connected");
        assert!(said.contains("check the key"), "{said}");
    }
}

#[test]
fn doors_are_told_where_they_hang_and_locked() {
    let hub = Hub::start();
    let doors: Vec<_> = ["door-1", "door-2"]
        .map(|id| {
            let mut door = hub.start_device("lock-device", &hub.device(id), &[]);
            door.expect("Connected");
            door
        })
        .into();
    hub.device("door-3");
    let said = hub
        .start_service("lock-service", &["deviceId IN ['door-1', 'door-2', 'door-3']", "--patience", "3"])
        .finish();
    let starting = |text: &str| said.iter().filter(|line| line.starts_with(text)).count();
    assert_eq!(said[..3], ["door-1 is Connected", "door-2 is Connected", "door-3 is Disconnected"]);
    assert_eq!(said.iter().filter(|line| line.contains(": completed, 3 of 3 done")).count(), 2, "{said:#?}");
    // A twin is written whether its device is there or not; a method is called while it waits.
    assert_eq!(starting("  door-3 completed"), 1, "{said:#?}");
    assert_eq!(starting("  door-3 failed because of JobRunPreconditionFailed"), 1, "{said:#?}");
    for door in ["door-1", "door-2"] {
        let locked = format!(r#"  {door} completed with 200: {{"Response":"Door locked"}}"#);
        assert!(said.contains(&locked), "{said:#?}");
    }
    for mut door in doors {
        door.expect(r#""building":43"#);
        door.expect("Locking the door");
    }
    for door in ["door-1", "door-2"] {
        let twin = hub.ostler(&["twin", "show", door, "-o", "json"]);
        let twin: serde_json::Value = serde_json::from_str(&twin).unwrap();
        assert_eq!(twin["properties"]["reported"]["building"], 43, "{twin}");
        assert_eq!(twin["properties"]["reported"]["floor"], 3, "{twin}");
    }
}

/// What stands for Azure here: a hub that refuses everything of Ostler's own.
#[test]
fn a_hub_that_has_only_what_azure_has_locks_doors_too() {
    let mut hub = Hub::start_with(&["--compat", "strict"]);
    hub.trusted_by = "SSL_CERT_FILE";
    let mut door = hub.start_device("lock-device", &hub.device("door-1"), &[]);
    door.expect("Connected");
    let said = hub.start_service("lock-service", &["deviceId = 'door-1'"]).finish();
    assert_eq!(said.iter().filter(|line| line.contains(": completed, 1 of 1 done")).count(), 2, "{said:#?}");
    let locked = r#"  door-1 completed with 200: {"Response":"Door locked"}"#;
    assert_eq!(said.last().unwrap(), locked, "{said:#?}");
}

/// The text of the tutorial: whoever polls the twin sees the four words in this order.
#[test]
fn an_update_is_seen_standing_by_downloading_applying_and_completed() {
    let hub = Hub::start();
    let packages = hub.folder().join("packages");
    std::fs::create_dir(&packages).unwrap();
    let file = |name: &str| packages.join(name).to_str().unwrap().to_owned();
    std::fs::write(file("pump.bin"), vec![7; 300_000]).unwrap();
    tool(&["firmware", "keygen", &file("release")]);
    let sign = ["--version", "2.0.0", "--hardware", "pump-a1", "--key"];
    let (image, key, package) = (file("pump.bin"), file("release.key"), file("pump.json"));
    tool(&[&["firmware", "sign", &image, "--to", &package][..], &sign, &[&key]].concat());
    let mut serve = Program::ostler(&["firmware", "serve", packages.to_str().unwrap(), "--port", "0"]);
    let serving = serve.expect("serving ");
    let url = format!("{}pump.json", serving.split(" at ").last().unwrap());

    let (slots, public) = (hub.folder().join("slots"), file("release.pub"));
    let args = ["--key", &public, "--folder", slots.to_str().unwrap(), "--step-secs", "2"];
    let mut device = hub.start_device("firmware-device", &hub.device("pump-7"), &args);
    device.expect("Running version 1.0.0 from slot a");
    until("the device stands by", || {
        hub.ostler(&["twin", "show", "pump-7", "-o", "json"]).contains("standBy")
    });

    let said = hub.start_service("firmware-service", &["pump-7", &url, "--poll-ms", "100"]).finish();
    let words: Vec<_> = said.iter().filter(|line| !line.starts_with("Answered")).collect();
    assert_eq!(words, ["standBy", "downloading", "applying", "completed"], "{said:#?}");
    device.expect("Making slot b ready with version 2.0.0");
    device.expect("Booting slot b");
    device.expect("Running version 2.0.0 from slot b");
}
