//! Every verb against a real hub process.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::{json, Value};

use crate::support::{ostler, wait_for, Hub, Ran};

#[test]
fn devices_live_their_life() {
    let hub = Hub::start();
    let text =
        hub.run(&["device", "create", "pump-7", "--tag", "site=north", "--desired", "interval=30"]).ok();
    assert!(
        text.stdout.starts_with("HostName=localhost;DeviceId=pump-7;SharedAccessKey="),
        "{}",
        text.stdout
    );
    assert_eq!(hub.run(&["device", "connection-string", "pump-7"]).ok().stdout, text.stdout);
    hub.run(&["device", "create", "pump-7"]).fails(4);

    let shown = hub.run(&["device", "show", "pump-7", "-o", "json"]).ok().json();
    assert_eq!((&shown["deviceId"], &shown["status"]), (&json!("pump-7"), &json!("enabled")));
    assert_eq!(hub.run(&["device", "list", "-q"]).ok().stdout, "pump-7\n");
    let human = hub.run(&["device", "show", "pump-7"]).ok().stdout;
    assert!(
        !human.contains(shown["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap()),
        "{human}"
    );

    hub.run(&["device", "disable", "pump-7", "--reason", "in repair"]).ok();
    let disabled = hub.run(&["device", "list", "-o", "json", "--status", "disabled"]).ok().json();
    assert_eq!(disabled[0]["statusReason"], "in repair");
    hub.run(&["device", "update", "pump-7", "--status", "enabled", "--etag", "bm90IGl0"]).fails(4);
    hub.run(&["device", "enable", "pump-7"]).ok();

    let key = |device: &Value, key: &str| device["authentication"]["symmetricKey"][key].clone();
    let rotated = hub.run(&["device", "rotate-key", "pump-7", "--key", "primary", "-o", "json"]).ok().json();
    assert_ne!(key(&rotated, "primaryKey"), key(&shown, "primaryKey"));
    assert_eq!(key(&rotated, "secondaryKey"), key(&shown, "secondaryKey"));

    hub.run(&["device", "delete", "pump-7"]).ok();
    hub.run(&["device", "show", "pump-7"]).fails(3);
    hub.run(&["device", "delete", "pump-7"]).fails(3);
}

#[test]
fn certificates_sign_in_too() {
    let hub = Hub::start();
    let thumbprint = "A".repeat(40);
    let text = hub.run(&["device", "create", "a", "--x509-thumbprint", &thumbprint]).ok().stdout;
    assert_eq!(text, "HostName=localhost;DeviceId=a;x509=true\n");
    hub.run(&["device", "create", "b", "--x509-ca"]).ok();
    let types: Vec<_> = ["a", "b"]
        .map(|id| {
            hub.run(&["device", "show", id, "-o", "json"]).ok().json()["authentication"]["type"].clone()
        })
        .into();
    assert_eq!(types, [json!("selfSigned"), json!("certificateAuthority")]);
    hub.run(&["device", "rotate-key", "b", "--key", "both"]).fails(1);
}

#[test]
fn bulk_create_export_and_import() {
    let hub = Hub::start();
    let summary =
        hub.run(&["device", "create", "--prefix", "sim-", "--count", "250", "-o", "json"]).ok().json();
    assert_eq!((&summary["succeeded"], &summary["failed"]), (&json!(250), &json!(0)));
    assert_eq!(hub.run(&["device", "list", "-q"]).ok().stdout.lines().next(), Some("sim-001"));
    let again = hub.run(&["device", "create", "--prefix", "sim-", "--count", "251", "--start", "1"]).fails(1);
    assert!(again.stdout.starts_with("created 1 device"), "{}", again.stdout);
    assert!(
        again.stderr.contains("DeviceAlreadyExists") && again.stderr.contains("more failed"),
        "{}",
        again.stderr
    );

    hub.run(&["twin", "set", "sim-007", "tags", "site=north", "weight=1.50"]).ok();
    hub.run(&["device", "export", "--file", "fleet.ndjson"]).ok();
    let delete = hub.run(&["device", "import", "fleet.ndjson", "--mode", "delete"]).ok();
    assert!(delete.stdout.starts_with("deleted 251 devices"), "{}", delete.stdout);
    assert_eq!(hub.run(&["device", "list", "-q"]).ok().stdout, "");
    hub.run(&["device", "import", "fleet.ndjson"]).ok();
    let twin = hub.run(&["twin", "show", "sim-007", "-o", "json"]).ok();
    assert!(twin.stdout.contains("\"weight\": 1.50"), "{}", twin.stdout);

    std::fs::write(hub.folder().join("more.csv"), "deviceId,status,tags.site\nc-1,disabled,south\nc-2,,\n")
        .unwrap();
    hub.run(&["device", "create", "--from-file", "more.csv"]).ok();
    let shown = hub.run(&["device", "show", "c-1", "-o", "json"]).ok().json();
    assert_eq!(shown["status"], "disabled");
    std::fs::write(hub.folder().join("bad.ndjson"), "{\"id\":\"ok-1\"}\n{oops\n").unwrap();
    let bad = hub.run(&["device", "import", "bad.ndjson"]).fails(2);
    assert!(bad.stderr.contains("bad.ndjson line 2"), "{}", bad.stderr);
    hub.run(&["device", "show", "ok-1"]).ok();
}

#[test]
fn more_devices_than_one_page_holds() {
    let hub = Hub::start();
    hub.run(&["device", "create", "--prefix", "d", "--count", "2001"]).ok();
    let first = hub.run(&["device", "list", "-q"]).ok();
    assert_eq!(first.stdout.lines().count(), 1000);
    assert!(first.stderr.contains("1000 of 2001"), "{}", first.stderr);
    assert_eq!(hub.run(&["device", "list", "-q", "--top", "1500"]).ok().stdout.lines().count(), 1500);
    let all = hub.run(&["device", "list", "-q", "--all"]).ok().stdout;
    assert_eq!((all.lines().count(), all.lines().last()), (2001, Some("d2001")));
    let export = hub.run(&["device", "export", "--no-twins"]).ok().stdout;
    assert_eq!(export.lines().count(), 2001);
}

#[test]
fn modules_and_their_twins() {
    let hub = Hub::start();
    hub.run(&["module", "create", "d/m"]).fails(3);
    hub.run(&["device", "create", "d"]).ok();
    let text = hub.run(&["module", "create", "d/m", "--managed-by", "me"]).ok().stdout;
    assert!(text.starts_with("HostName=localhost;DeviceId=d;ModuleId=m;SharedAccessKey="), "{text}");
    assert_eq!(hub.run(&["module", "list", "d", "-o", "json"]).ok().json()[0]["managedBy"], "me");
    hub.run(&["module", "update", "d/m", "--managed-by", "you"]).ok();
    hub.run(&["module", "rotate-key", "d/m", "--key", "swap"]).ok();
    hub.run(&["twin", "set", "d/m", "desired", "a.b=1"]).ok();
    let desired = hub.run(&["twin", "show", "d/m", "--section", "desired"]).ok().json();
    assert_eq!(desired, json!({ "a": { "b": 1 } }));
    hub.run(&["module", "delete", "d/m"]).ok();
    hub.run(&["module", "show", "d/m"]).fails(3);
}

#[test]
fn twins_are_merged_replaced_and_guarded() {
    let hub = Hub::start();
    hub.run(&["device", "create", "d"]).ok();
    let section = |name: &str| hub.run(&["twin", "show", "d", "--section", name]).ok().json();
    hub.run(&["twin", "set", "d", "desired", "interval=30", "log.level=debug", "big=4503599627370495"]).ok();
    hub.run(&["twin", "set", "d", "desired", "interval=null", "log.size=1.50"]).ok();
    let text = hub.run(&["twin", "show", "d", "--section", "desired"]).ok().stdout;
    assert_eq!(text, "{\n  \"log\": {\n    \"level\": \"debug\",\n    \"size\": 1.50\n  },\n  \"big\": 4503599627370495\n}\n");
    hub.run(&["twin", "set", "d", "tags", "--json", r#"{"site":{"floor":3}}"#]).ok();
    hub.run(&[
        "twin",
        "patch",
        "d",
        "--json",
        r#"{"tags":{"owner":"me"},"properties":{"desired":{"log":null}}}"#,
    ])
    .ok();
    assert_eq!(section("tags"), json!({ "site": { "floor": 3 }, "owner": "me" }));

    let mut replace = hub
        .command(&["twin", "replace", "d", "--file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    replace.stdin.take().unwrap().write_all(br#"{"tags":{"only":true}}"#).unwrap();
    assert!(replace.wait().unwrap().success());
    assert_eq!((section("tags"), section("desired")), (json!({ "only": true }), json!({})));

    hub.run(&["twin", "set", "d", "tags", "a=1", "--etag", "AAAAAAAAAAE="]).fails(4);
    hub.run(&["twin", "set", "d", "desired", "a b=1"]).fails(1);
    hub.run(&["twin", "show", "nobody"]).fails(3);
    assert!(hub.run(&["twin", "show", "d"]).ok().stdout.contains("\"only\": true"));
}

#[test]
fn methods_of_devices_that_are_away() {
    let hub = Hub::start();
    hub.run(&["method", "invoke", "d", "reboot"]).fails(3);
    hub.run(&["device", "create", "d"]).ok();
    let ran = hub.run(&["method", "invoke", "d", "reboot", r#"{"in":5}"#]).fails(7);
    assert!(ran.stderr.contains("DeviceNotOnline"), "{}", ran.stderr);
    hub.run(&["doctor", "d"]).fails(7);
    hub.run(&["doctor", "unknown"]).fails(3);
}

#[test]
fn messages_and_what_becomes_of_them() {
    let hub = Hub::start();
    hub.run(&["message", "send", "d", "hello"]).fails(3);
    hub.run(&["device", "create", "d"]).ok();
    let send =
        ["message", "send", "d", "hello", "--ack", "full", "--property", "Colour=red", "--property", "flag"];
    let sent =
        hub.run(&[&send[..], &["--message-id", "m-1", "--ttl", "10m", "-o", "json"]].concat()).ok().json();
    assert_eq!((sent["messageId"].as_str(), sent["deviceId"].as_str()), (Some("m-1"), Some("d")));
    let picture = hub.folder().join("picture");
    std::fs::write(&picture, [0, 0xff, 0]).unwrap();
    hub.run(&["message", "send", "d", "--file", picture.to_str().unwrap()]).ok();
    hub.run(&["message", "send", "d"]).fails(2);
    hub.run(&["message", "send", "d", "x", "--ttl", "3d"]).fails(1);
    let waiting = hub.run(&["device", "show", "d", "-o", "json"]).ok().json();
    assert_eq!(waiting["cloudToDeviceMessageCount"], 2);
    assert_eq!(hub.run(&["message", "feedback", "-o", "json"]).ok().json(), serde_json::json!([]));
    let purged = hub.run(&["message", "purge", "d", "-o", "json"]).ok().json();
    assert_eq!(purged["totalMessagesPurged"], 2);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let unread = hub.command(&["message", "feedback"]).stdout(full).stderr(Stdio::null()).status().unwrap();
    assert!(!unread.success(), "what could not be printed is not done with");
    let kept = hub.run(&["message", "feedback", "--keep"]).ok().stdout;
    assert!(kept.contains("m-1") && kept.contains("Purged"), "{kept}");
    let told = hub.run(&["message", "feedback", "-o", "json"]).ok().json();
    assert_eq!(told[0]["statusCode"], "Purged");
    assert_eq!(hub.run(&["message", "feedback", "-o", "json"]).ok().json(), serde_json::json!([]));
    hub.run(&["message", "purge", "nobody"]).fails(3);
}

#[test]
fn policies_and_their_rights() {
    let hub = Hub::start();
    let listed = hub.run(&["policy", "list", "-o", "json"]).ok().json();
    assert_eq!(listed.as_array().unwrap().len(), 5);
    hub.run(&["policy", "create", "reader", "--right", "registry-read"]).ok();
    hub.run(&["policy", "create", "reader", "--right", "registry-read"]).fails(4);
    let told = hub.run(&["policy", "connection-string", "reader"]).ok();
    let ca = hub.run(&["ca", "--path"]).ok().stdout;
    let port = hub_file(&hub)["httpsPort"].to_string();
    assert!(told.stderr.contains(&format!("HostName=localhost:{port}")), "{}", told.stderr);
    let reader = told.stdout.trim().replace("HostName=localhost", &format!("HostName=localhost:{port}"));
    let remote = |args: &[&str]| {
        let mut command = ostler(args);
        command.env("OSTLER_CONNECTION_STRING", &reader).env("OSTLER_CA", ca.trim());
        Ran::of(command.output().unwrap())
    };
    remote(&["device", "list"]).ok();
    remote(&["device", "create", "d"]).fails(5);
    hub.run(&["policy", "rotate", "reader", "--key", "primary"]).ok();
    remote(&["device", "list"]).fails(5);
    hub.run(&["policy", "delete", "reader"]).ok();
    hub.run(&["policy", "show", "reader"]).fails(3);
}

fn hub_file(hub: &Hub) -> Value {
    serde_json::from_slice(&std::fs::read(hub.data().join("hub.json")).unwrap()).unwrap()
}

#[test]
fn an_untrusted_hub_is_not_spoken_to() {
    let hub = Hub::start();
    let owner = hub_file(&hub)["connectionString"].as_str().unwrap().to_owned();
    let port = hub_file(&hub)["httpsPort"].to_string();
    let owner = owner.replace("HostName=localhost", &format!("HostName=localhost:{port}"));
    let ran = Ran::of(ostler(&["device", "list", "--connection-string", &owner]).output().unwrap()).fails(6);
    assert!(ran.stderr.contains("--ca FILE"), "{}", ran.stderr);
}

#[test]
fn the_ca_and_cas_of_devices() {
    let hub = Hub::start();
    let shown = hub.run(&["ca"]).ok().stdout;
    for word in ["Python", "Node.js", ".NET", "Java", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "ca.pem"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let pem = hub.run(&["ca", "--pem"]).ok().stdout;
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    // Any CA will do; the hub's own is at hand.
    std::fs::write(hub.folder().join("plant.pem"), &pem).unwrap();
    hub.run(&["ca", "device", "add", "plant", "plant.pem"]).ok();
    assert_eq!(hub.run(&["ca", "device", "list", "-o", "json"]).ok().json()[0]["name"], "plant");
    std::fs::write(hub.folder().join("bad.pem"), "hello").unwrap();
    hub.run(&["ca", "device", "add", "bad", "bad.pem"]).fails(1);
    hub.run(&["ca", "device", "remove", "plant"]).ok();
    hub.run(&["ca", "device", "remove", "plant"]).fails(3);
}

#[test]
fn the_monitor_shows_what_happens() {
    let hub = Hub::start();
    hub.run(&["device", "create", "d"]).ok();
    hub.run(&["device", "create", "e"]).ok();
    let mut monitor = hub
        .command(&["monitor", "--device", "d", "--types", "twin", "--limit", "1", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(monitor.stdout.take().unwrap());
    // The stream shows only what happens after it opened, so it is written until it is seen.
    let reader = std::thread::spawn(move || stdout.lines().map(Result::unwrap).collect::<Vec<_>>());
    let mut n = 0;
    while !reader.is_finished() {
        n += 1;
        assert!(n < 500, "the monitor saw nothing");
        hub.run(&["twin", "set", "e", "tags", &format!("n={n}")]).ok();
        hub.run(&["twin", "set", "d", "desired", &format!("n={n}")]).ok();
    }
    let lines = reader.join().unwrap();
    assert_eq!(monitor.wait().unwrap().code(), Some(0));
    let event: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&event["type"], &event["deviceId"]), (&json!("twin"), &json!("d")));
}

#[test]
fn status_and_doctor_of_a_healthy_hub() {
    let hub = Hub::start();
    hub.run(&["device", "create", "d"]).ok();
    let status = hub.run(&["status", "-o", "json"]).ok().json();
    assert_eq!(status["devices"]["totalDeviceCount"], 1);
    hub.run(&["status"]).ok();
    let report = hub.run(&["doctor", "-o", "json"]).ok().json();
    for name in ["https", "https-cert", "mqtt", "mqtt-cert", "rest", "clock", "data", "hub"] {
        let check = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
        assert!(check.is_some_and(|check| check["severity"] == "ok"), "{name}: {report}");
    }
}

#[test]
fn a_strict_hub_says_what_it_lacks() {
    let hub = Hub::start_with(&["--compat", "strict"]);
    hub.run(&["device", "create", "d"]).ok();
    hub.run(&["twin", "show", "d"]).ok();
    let ran = hub.run(&["policy", "list"]).fails(3);
    assert!(ran.stderr.contains("--compat strict"), "{}", ran.stderr);
    hub.run(&["message", "send", "d", "x"]).fails(3);
    hub.run(&["message", "feedback"]).ok();
    hub.run(&["doctor"]).ok();
}

#[test]
fn a_backup_is_a_data_folder() {
    let hub = Hub::start();
    let text = hub.run(&["device", "create", "d", "--tag", "site=north"]).ok().stdout;
    let ca = hub.run(&["ca", "--pem"]).ok().stdout;
    hub.run(&["backup", "copy"]).ok();
    hub.run(&["backup", "copy"]).fails(4);
    hub.run(&["device", "delete", "d"]).ok();

    let restored = Hub::start_on(&hub.folder().join("copy"));
    assert_eq!(restored.run(&["device", "connection-string", "d"]).ok().stdout, text);
    assert_eq!(
        restored.run(&["twin", "show", "d", "--section", "tags"]).ok().json(),
        json!({ "site": "north" })
    );
    assert_eq!(restored.run(&["ca", "--pem"]).ok().stdout, ca);
}

#[test]
fn a_hub_drains_and_takes_its_file_with_it() {
    let mut hub = Hub::start();
    let file = hub.data().join("hub.json");
    let stale = std::fs::read(&file).unwrap();
    assert_eq!(hub.stop(), Some(0));
    assert!(!file.exists());
    hub.run(&["device", "list"]).fails(6);
    // As `kill -9` leaves it.
    std::fs::write(&file, stale).unwrap();
    hub.run(&["device", "list", "--no-retry"]).fails(6);
    let report = hub.run(&["doctor", "-o", "json"]).fails(1).json();
    let gone = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "hub").unwrap();
    assert_eq!(gone["severity"], "error");
}

#[test]
fn what_a_hub_tells() {
    let told = Hub::start().told();
    for word in ["Ostler", "MQTT over TLS", "https://localhost:", "ca.pem", "stopping"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(!told.contains("SharedAccessKey"), "{told}");
    let told = Hub::start_with(&["--log-format", "json"]).told();
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.iter().any(|line| line["message"] == "ready" && line["hostname"] == "localhost"), "{told}");
}

#[test]
fn the_demo_tells_its_story_and_ends() {
    let ran = Ran::of(ostler(&["demo", "-o", "json"]).output().unwrap()).ok();
    let steps: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(steps.len() > 10, "{}", ran.stdout);
    assert!(steps.iter().any(|step| !step["data"]["rebootTime"].is_null()));
    let last = steps.last().unwrap();
    assert!(last["done"] == true && last["facts"]["metrics"].as_str().unwrap().starts_with("https://"));

    let human = Ran::of(ostler(&["demo"]).output().unwrap()).ok().stdout;
    assert!(human.contains("rebootDevice") && !human.contains('\x1b'), "{human}");
}

#[test]
fn a_demo_that_stays_is_a_hub_with_a_device() {
    let mut demo = ostler(&["demo", "--keep", "-o", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut steps = lines.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let end = steps.find(|step| step["done"] == true).unwrap();
    let folder = end["facts"]["found by"].as_str().unwrap().strip_prefix("--data ").unwrap().to_owned();
    let run = |args: &[&str]| Ran::of(ostler(args).args(["--data", &folder]).output().unwrap());

    let refused = run(&["method", "invoke", "pump-7", "unheardOf", "-o", "json"]).fails(8);
    assert_eq!(refused.json()["status"], 404);
    run(&["doctor", "pump-7"]).ok();
    let answer = run(&["method", "invoke", "pump-7", "rebootDevice"]).ok().stdout;
    assert!(answer.starts_with("status 200\n"), "{answer}");
    let seen = run(&["twin", "watch", "pump-7", "--limit", "1", "--for", "20", "-o", "json"]).ok().json();
    assert!(!seen["patch"]["rebootTime"].is_null(), "{seen}");
    let telemetry = run(&["monitor", "--types", "telemetry", "--limit", "1"]).ok().stdout;
    assert!(telemetry.contains("\"temperature\""), "{telemetry}");

    let pid = demo.id().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(0));
    assert!(!std::path::Path::new(&folder).exists());
}

#[test]
fn configurations_live_their_life() {
    let hub = Hub::start();
    hub.run(&["device", "create", "a", "--tag", "site=A"]).ok();
    let condition = "tags.site = 'A'";
    let create =
        ["config", "create", "cool", "-c", condition, "--set", "fan.speed=2.0", "-p", "3", "-o", "json"];
    let made = hub.run(&create).ok().json();
    assert_eq!(made["content"]["deviceContent"]["properties.desired.fan.speed"].to_string(), "2.0");
    hub.run(&create).fails(4);
    let twin = || hub.run(&["twin", "show", "a", "-o", "json"]).ok().json();
    wait_for(|| twin()["configurations"]["cool"]["status"] == "Applied");
    assert_eq!(twin()["properties"]["desired"]["fan"]["speed"].to_string(), "2.0");
    let human = hub.run(&["twin", "show", "a"]).ok().stdout;
    assert!(human.contains("configurations  cool applied"), "{human}");
    let list = hub.run(&["config", "list"]).ok().stdout;
    assert!(list.contains("TARGETED") && list.contains(condition), "{list}");
    assert_eq!(hub.run(&["config", "list", "-q"]).ok().stdout, "cool\n");

    let metrics = hub.run(&["config", "metrics", "cool", "-o", "json"]).ok().json();
    assert_eq!(metrics["systemMetrics"]["results"], json!({ "targetedCount": 1, "appliedCount": 1 }));
    let text = hub.run(&["config", "metrics", "cool", "--queries"]).ok().stdout;
    assert!(text.contains("configurations.[[cool]].status"), "{text}");

    hub.run(&["config", "update", "cool", "--condition", "", "--etag", "bm8="]).fails(4);
    let metric = "all=SELECT * FROM devices";
    let update = ["config", "update", "cool", "-c", "", "--metric", metric, "--label", "k=v", "-o", "json"];
    let updated = hub.run(&update).ok().json();
    assert_eq!((&updated["priority"], &updated["labels"]["k"]), (&json!(3), &json!("v")));
    wait_for(|| twin()["properties"]["desired"]["fan"].is_null());
    let wrong = hub.run(&["config", "update", "cool", "--condition", "tags. ="]).fails(2).stderr;
    assert!(wrong.lines().any(|line| line.trim() == "^") && wrong.contains("WHERE tags. ="), "{wrong}");
    let wrong = hub.run(&["config", "create", "b", "-c", "tags.a = = 1", "--set", "a=1"]).fails(2).stderr;
    assert!(wrong.contains("WHERE tags.a = = 1\n"), "{wrong}");
    for content in [["--set", "a=1"], ["--content", "c.json"]] {
        let told = hub.run(&[&["config", "update", "cool"][..], &content].concat()).fails(2).stderr;
        assert!(told.contains("cannot be changed"), "{told}");
    }

    hub.run(&["config", "show", "cool"]).ok();
    hub.run(&["config", "delete", "cool"]).ok();
    hub.run(&["config", "show", "cool"]).fails(3);
    let test = hub.run(&["config", "test", "-c", "tags.a =", "--metric", "m=SELECT"]).fails(1);
    assert!(
        test.stdout.contains("condition: Line 1:") && test.stdout.contains("m: Line 1:"),
        "{}",
        test.stdout
    );
    hub.run(&["config", "test", "-c", "from devices.modules where tags.a = 1"]).ok();
}

#[test]
fn content_is_applied_to_an_edge_device() {
    let hub = Hub::start();
    hub.run(&["device", "create", "leaf"]).ok();
    let entry = r#"{"id":"edge","capabilities":{"iotEdge":true}}"#;
    std::fs::write(hub.folder().join("edge.ndjson"), entry).unwrap();
    hub.run(&["device", "import", "edge.ndjson"]).ok();
    let content = r#"{"modulesContent":{"$edgeAgent":{"properties.desired.x":1}}}"#;
    std::fs::write(hub.folder().join("content.json"), content).unwrap();
    hub.run(&["config", "apply", "edge", "--content", "content.json"]).ok();
    let twin = hub.run(&["twin", "show", "edge/$edgeAgent", "-o", "json"]).ok().json();
    assert_eq!(twin["properties"]["desired"]["x"], 1);
    hub.run(&["config", "apply", "leaf", "--content", "content.json"]).fails(1);
    hub.run(&["config", "apply", "nobody", "--content", "content.json"]).fails(3);
}
