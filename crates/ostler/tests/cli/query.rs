//! `ostler query` against a real hub process.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{json, Value};

use crate::support::Hub;

/// Three pumps, two of them in Oslo, and a module.
fn fleet() -> Hub {
    let hub = Hub::start();
    for (id, site, interval) in
        [("pump-1", "Oslo", "30"), ("pump-2", "Oslo", "60"), ("pump-3", "Bergen", "60")]
    {
        let (tag, desired) = (format!("site={site}"), format!("interval={interval}"));
        hub.run(&["device", "create", id, "--tag", &tag, "--desired", &desired]).ok();
    }
    hub.run(&["module", "create", "pump-1/valve"]).ok();
    hub
}

#[test]
fn a_condition_alone_is_enough() {
    let hub = fleet();
    let table = hub.run(&["query", "tags.site = 'Oslo'"]).ok();
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert!(lines[0].starts_with("DEVICE") && lines[0].contains("LAST ACTIVITY"), "{}", table.stdout);
    assert!(lines[1].starts_with("pump-1") && lines[1].ends_with(r#"{"site":"Oslo"}"#), "{}", table.stdout);
    assert_eq!((lines.len(), table.stderr.trim()), (3, "2 rows"));
    let none = hub.run(&["query", "tags.site = 'Mars'"]).ok();
    assert_eq!((none.stdout.as_str(), none.stderr.trim()), ("", "no rows"));
    let modules = hub.run(&["query", "FROM devices.modules"]).ok();
    assert!(modules.stdout.contains("\npump-1/valve  "), "{}", modules.stdout);
}

#[test]
fn rows_in_every_form() {
    let hub = fleet();
    let text = "SELECT deviceId AS id, properties.desired.interval AS i, tags FROM devices WHERE deviceId != 'pump-2'";
    let table = hub.run(&["query", text]).ok().stdout;
    assert_eq!(table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(), ["id", "i", "tags"]);
    let csv = hub.run(&["query", text, "-o", "csv"]).ok().stdout;
    assert_eq!(
        csv,
        "id,i,tags\npump-1,30,\"{\"\"site\"\":\"\"Oslo\"\"}\"\npump-3,60,\"{\"\"site\"\":\"\"Bergen\"\"}\"\n"
    );
    let rows = json!([
        { "id": "pump-1", "i": 30, "tags": { "site": "Oslo" } },
        { "id": "pump-3", "i": 60, "tags": { "site": "Bergen" } },
    ]);
    assert_eq!(hub.run(&["query", text, "-o", "json"]).ok().json(), rows);
    let lines = hub.run(&["query", text, "-o", "json", "--lines"]).ok().stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(Value::from(lines), rows);
    assert_eq!(hub.run(&["query", "deviceId = 'x'", "-o", "json"]).ok().stdout, "[]\n");
    let twins = hub.run(&["query", "*", "-o", "csv"]).ok().stdout;
    assert!(twins.starts_with("deviceId,moduleId,status,") && twins.lines().count() == 4, "{twins}");
    hub.run(&["device", "list", "-o", "csv"]).fails(2);
}

#[test]
fn all_pages_unless_limited() {
    let hub = Hub::start();
    hub.run(&["device", "create", "--prefix", "d", "--count", "250"]).ok();
    let ids = |args: &[&str]| {
        let text = "SELECT deviceId FROM devices";
        let args = [&["query", text, "-o", "csv"], args].concat();
        hub.run(&args).ok().stdout.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let all = ids(&["--page-size", "20"]);
    assert_eq!((all.len(), all[0].as_str(), all[249].as_str()), (250, "d001", "d250"));
    assert_eq!(ids(&[]), all);
    assert_eq!(ids(&["--limit", "7", "--page-size", "3"]), all[..7]);
    assert_eq!(ids(&["--limit", "0"]), [""; 0]);
    hub.run(&["query", "*", "--page-size", "1001"]).fails(2);
}

#[test]
fn a_mistake_is_shown_where_it_is() {
    let hub = fleet();
    let ran = hub.run(&["query", "tags.site == 'Oslo'"]).fails(2);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let query = lines.iter().position(|line| line.contains("WHERE tags.site == 'Oslo'")).unwrap();
    let caret = lines[query + 1].find('^').unwrap();
    assert_eq!(&lines[query][caret..=caret], "=", "{}", ran.stderr);
    assert!(
        lines.last().unwrap().starts_with("error: Line 1:40 found '='") && ran.stdout.is_empty(),
        "{}",
        ran.stderr
    );
    let ran = hub.run(&["query", "SELEC * FROM devices", "-o", "json"]).fails(2);
    let error: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(
        (&error["error"]["exitCode"], &error["error"]["code"]),
        (&json!(2), &json!("IotHubFormatError"))
    );
}

#[test]
fn a_query_is_explained() {
    let hub = fleet();
    let text = hub.run(&["query", "site = 'Oslo'", "--explain"]).ok().stdout;
    assert!(text.contains("plan") && text.contains("tags.site"), "{text}");
    let rows = hub.run(&["query", "EXPLAIN SELECT * FROM devices", "-o", "json"]).ok().json();
    assert!(rows[0]["plan"].is_string(), "{rows}");
}

#[test]
fn a_file_may_hold_the_query() {
    let hub = fleet();
    std::fs::write(hub.folder().join("q.sql"), "SELECT deviceId\nFROM devices\nWHERE tags.site = 'Bergen'\n")
        .unwrap();
    assert_eq!(hub.run(&["query", "--file", "q.sql", "-o", "csv"]).ok().stdout, "deviceId\npump-3\n");
    hub.run(&["query"]).fails(2);
    let empty = hub.run(&["query", " "]).fails(2);
    assert!(empty.stderr.contains("`*` lists every device"), "{}", empty.stderr);
    hub.run(&["query", "--file", "none.sql"]).fails(3);
}

#[test]
fn changes_are_told_line_by_line() {
    let hub = fleet();
    let args = ["query", "tags.site = 'Oslo'", "--watch=1", "-o", "json"];
    let mut watch = hub.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(|line| {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        format!("{} {}", line["change"].as_str().unwrap(), line["row"]["deviceId"].as_str().unwrap())
    });
    assert_eq!(lines.next().unwrap(), "added pump-1");
    assert_eq!(lines.next().unwrap(), "added pump-2");
    hub.run(&["twin", "set", "pump-1", "desired", "interval=31"]).ok();
    assert_eq!(lines.next().unwrap(), "changed pump-1");
    hub.run(&["twin", "set", "pump-2", "tags", "site=Bergen"]).ok();
    assert_eq!(lines.next().unwrap(), "removed pump-2");
    watch.kill().unwrap();
    watch.wait().unwrap();
    let text = "SELECT COUNT() AS n FROM devices";
    let timed = hub.run(&["query", text, "--watch=1", "--for", "1"]).ok();
    assert_eq!(timed.stdout, "+ {\"n\":3}\n");
}
