//! `ostler job` against a real hub process.

use serde_json::{json, Value};

use crate::support::{Hub, Ran};

/// A hub with devices `d1` to `d<count>`, the odd ones of site north.
fn hub_with(count: usize, flags: &[&str]) -> Hub {
    let hub = Hub::start_with(flags);
    let lines = (1..=count).map(|number| {
        let site = if number % 2 == 1 { "north" } else { "south" };
        format!("{{\"id\":\"d{number}\",\"tags\":{{\"site\":\"{site}\"}}}}\n")
    });
    std::fs::write(hub.folder().join("fleet.ndjson"), lines.collect::<String>()).unwrap();
    hub.run(&["device", "import", "fleet.ndjson"]).ok();
    hub
}

/// A twin job that does not start during a test.
fn create_later(hub: &Hub, id: &str) -> Ran {
    hub.run(&["job", "create", "twin", "--query", "*", "--desired", "a=1", "--id", id, "--start", "+1d"])
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_twin_job_from_its_dry_run_to_its_devices() {
    let hub = hub_with(4, &[]);
    let create =
        ["job", "create", "twin", "--query", "tags.site = 'north'", "--desired", "floor=3", "--id", "j1"];
    let dry = hub.run(&[&create[..], &["--dry-run", "--wave-sizes", "1", "-o", "json"]].concat()).ok().json();
    assert_eq!((&dry["deviceCount"], &dry["sample"]), (&json!(2), &json!(["d1", "d3"])));
    assert_eq!(dry["waves"], json!([{ "deviceCount": 1 }, { "deviceCount": 1 }]));
    let told = hub.run(&[&create[..], &["--dry-run"]].concat()).ok().stdout;
    assert!(told.starts_with("2 devices would be touched") && told.contains("d1, d3"), "{told}");
    hub.run(&["job", "show", "j1"]).fails(3);

    let ended = hub.run(&[&create[..], &["--wait", "-o", "json"]].concat()).ok().json();
    assert_eq!((&ended["jobId"], &ended["status"]), (&json!("j1"), &json!("completed")));
    assert_eq!(ended["deviceJobStatistics"]["succeededCount"], 2);
    let desired = |id: &str| hub.run(&["twin", "show", id, "--section", "desired"]).ok().json();
    assert_eq!((desired("d3"), desired("d2")), (json!({ "floor": 3 }), json!({})));

    assert_eq!(hub.run(&["job", "devices", "j1", "-q"]).ok().stdout, "d1\nd3\n");
    let rows = hub.run(&["job", "devices", "j1", "-o", "json", "--status", "completed"]).ok().json();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert_eq!(hub.run(&["job", "devices", "j1", "--status", "failed", "-q"]).ok().stdout, "");
    let first = hub.run(&["job", "devices", "j1", "--top", "1", "-q"]).ok();
    assert!(first.stdout == "d1\n" && first.stderr.contains("only the first 1"), "{}", first.stderr);
    hub.run(&["job", "devices", "nothing"]).fails(3);
    hub.run(&create).fails(4);

    let human = hub.run(&["job", "show", "j1"]).ok().stdout;
    assert!(human.starts_with("j1  completed  twin\n") && human.contains("2: 2 succeeded"), "{human}");
    assert_eq!(hub.run(&["job", "list", "-q", "--type", "twin"]).ok().stdout, "j1\n");
    assert_eq!(hub.run(&["job", "list", "-o", "json", "--status", "running"]).ok().json(), json!([]));
    let table = hub.run(&["job", "list"]).ok().stdout;
    assert!(table.lines().nth(1).unwrap().starts_with("j1   twin  completed  2"), "{table}");
}

#[test]
fn failed_devices_are_an_exit_code_and_can_be_tried_again() {
    let hub = hub_with(2, &[]);
    let create = ["job", "create", "method", "reboot", "--query", "*", "--id", "m1", "--offline", "fail"];
    let ended = hub.run(&[&create[..], &["--wait"]].concat()).fails(1);
    assert!(
        ended.stdout.contains("2: 2 failed") && ended.stdout.contains("DeviceNotOnline 2"),
        "{}",
        ended.stdout
    );
    let rows = hub.run(&["job", "devices", "m1", "--status", "failed"]).ok().stdout;
    assert!(rows.contains("DeviceNotOnline: The device is not connected"), "{rows}");

    let again = hub.run(&["job", "retry", "m1", "--id", "m2", "--wait", "-o", "json"]).fails(1).json();
    assert_eq!((&again["jobId"], &again["parentJobId"]), (&json!("m2"), &json!("m1")));
    assert_eq!(again["failuresByCause"], json!({ "DeviceNotOnline": 2 }));
    let made = hub.run(&["job", "retry", "m1", "-o", "json"]).ok().json();
    assert!(made["jobId"].as_str().unwrap().starts_with("job-20"), "{made}");

    let bad = hub.run(&["job", "create", "method", "m", "--query", "tags.site == 'x'", "--wait"]).fails(1);
    assert!(bad.stdout.contains("1:40"), "{}", bad.stdout);
    let dry = hub.run(&["job", "create", "method", "m", "--query", "tags.site == 'x'", "--dry-run"]).fails(2);
    for told in [bad.stderr, dry.stderr] {
        let lines: Vec<&str> = told.lines().collect();
        let query = lines.iter().position(|line| line.ends_with("WHERE tags.site == 'x'")).unwrap();
        assert_eq!(lines[query + 1].find('^'), lines[query].find("= 'x'"), "{told}");
    }
}

#[test]
fn devices_that_are_named_must_be_there() {
    let hub = hub_with(2, &[]);
    let create = ["job", "create", "twin", "--desired", "a=1", "--id", "j", "--device", "d1"];
    for more in [&["--device", "no'body", "--device", "nobody"][..], &["--device", "nobody", "--dry-run"]] {
        let refused = hub.run(&[&create[..], more].concat()).fails(3).stderr;
        assert!(refused.contains("nobody") && refused.contains("not registered"), "{refused}");
        assert!(!refused.contains("d1"), "{refused}");
    }
    hub.run(&["job", "show", "j"]).fails(3);
    let object = r#"{"floor":3,"pump":{"on":true}}"#;
    hub.run(&["job", "create", "twin", "--desired", object, "--id", "j", "--device", "d1", "--wait"]).ok();
    let desired = hub.run(&["twin", "show", "d1", "--section", "desired"]).ok().json();
    assert_eq!(desired, json!({ "floor": 3, "pump": { "on": true } }));
    let empty = hub.run(&["job", "create", "twin", "--desired", "a=1", "-q", ""]).fails(2).stderr;
    assert!(empty.contains("`*` is every device"), "{empty}");
}

#[test]
fn a_job_shows_its_rollout_as_flags() {
    let hub = hub_with(1, &[]);
    let create =
        ["job", "create", "method", "nothing", "-q", "*", "--id", "m", "--offline", "fail", "--rate", "7"];
    let none = hub.run(&[&create[..], &["--wait"]].concat()).fails(1).stdout;
    assert!(none.contains("--rate 7 --offline fail") && !none.contains("answers"), "{none}");
    assert!(!none.contains('{') && !none.contains("payload"), "{none}");
}

#[test]
fn a_job_is_held_let_go_and_called_off() {
    let hub = hub_with(1, &[]);
    let told = create_later(&hub, "j").ok().stdout;
    assert_eq!(told, "j  queued\n");
    assert_eq!(hub.run(&["job", "pause", "j"]).ok().stdout, "j  paused\n");
    assert_eq!(hub.run(&["job", "list", "-q", "--status", "paused"]).ok().stdout, "j\n");
    assert_eq!(hub.run(&["job", "resume", "j"]).ok().stdout, "j  scheduled\n");
    let refused = hub.run(&["job", "resume", "j"]).fails(1);
    assert!(refused.stderr.contains("not paused"), "{}", refused.stderr);
    assert_eq!(hub.run(&["job", "cancel", "j", "-o", "json"]).ok().json()["status"], "cancelled");
    hub.run(&["job", "cancel", "j"]).ok();
    hub.run(&["job", "retry", "j"]).fails(1);
    hub.run(&["job", "watch", "j"]).fails(1);
    for verb in ["cancel", "pause", "resume", "retry", "watch", "show"] {
        hub.run(&["job", verb, "nothing"]).fails(3);
    }
}

#[test]
fn watching_tells_each_state_and_how_it_ended() {
    let hub = hub_with(6, &[]);
    let waves = ["--wave-by-tag", "tags.site", "--concurrency", "1", "--rate", "100"];
    let create =
        ["job", "create", "twin", "--query", "*", "--tag", "seen=true", "--id", "w1", "--start", "+1s"];
    let told = hub.run(&[&create[..], &waves, &["--watch"]].concat()).ok();
    let states = told.stdout.lines().map(|line| line.split("  ").nth(2).unwrap()).collect::<Vec<_>>();
    assert_eq!((states.first(), states.last()), (Some(&"scheduled"), Some(&"completed")), "{}", told.stdout);
    assert!(told.stdout.trim_end().ends_with("6: 6 succeeded"), "{}", told.stdout);

    let views = lines(&hub.run(&["job", "watch", "w1", "-o", "json"]).ok());
    assert_eq!((views.len(), &views[0]["status"]), (1, &json!("completed")));
    assert_eq!(views[0]["rollout"]["waves"], json!({ "byTag": "tags.site" }));
}

#[test]
fn a_watcher_outlives_an_absence_of_the_hub() {
    let mut hub = hub_with(1, &[]);
    create_later(&hub, "j").ok();
    let child = hub.command(&["job", "watch", "j", "-o", "json"]);
    let mut child =
        { child }.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut told = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(told.next().unwrap().unwrap().contains("\"scheduled\""));
    let data = hub.data().to_owned();
    let port = serde_json::from_slice::<Value>(&std::fs::read(data.join("hub.json")).unwrap()).unwrap()
        ["httpsPort"]
        .to_string();
    hub.stop();
    let again = Hub::start_on_port(&data, &port);
    assert!(told.next().unwrap().unwrap().contains("\"scheduled\""));
    again.run(&["job", "cancel", "j"]).ok();
    assert!(told.next().unwrap().unwrap().contains("\"cancelled\""));
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_strict_hub_is_asked_the_way_azure_is() {
    let hub = hub_with(2, &["--compat", "strict"]);
    let create = ["job", "create", "twin", "--query", "*", "--tag", "a=1", "--id", "j"];
    let refused = hub.run(&[&create[..], &["--rate", "5"]].concat()).fails(3);
    assert!(refused.stderr.contains("strict"), "{}", refused.stderr);
    let ended = hub.run(&[&create[..], &["--wait", "-o", "json"]].concat()).ok().json();
    assert_eq!(ended["deviceJobStatistics"]["succeededCount"], 2);
    assert_eq!(hub.run(&["job", "show", "j", "-o", "json"]).ok().json()["status"], "completed");
    assert_eq!(hub.run(&["job", "list", "-q"]).ok().stdout, "j\n");
    assert_eq!(hub.run(&["job", "devices", "j", "-q"]).ok().stdout, "d1\nd2\n");
    hub.run(&["job", "show", "nothing"]).fails(3);
}
