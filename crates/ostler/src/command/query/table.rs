//! Rows as a table for people: the columns that matter of whole twins and device jobs, all of a select list's.
//!
//! Invariant: a row's key, the same for the same device or job, tells rows apart when a query is asked again.

use jiff::Timestamp;
use ostler_service_sdk::{ItemType, JsonObject};
use serde_json::Value;

use super::Rows;
use crate::exit::Result;
use crate::output::{Out, Tone};
use crate::when;

/// Longest value in a cell, in characters.
const MAX_CELL: usize = 120;

type Cell = (String, Option<Tone>);

/// The table, and how many rows it has.
pub fn print(rows: &Rows, out: &Out) -> Result {
    if rows.objects.is_empty() {
        out.note("no rows");
        return Ok(());
    }
    let now = Timestamp::now();
    let titles = titles(rows);
    out.table(
        &titles.iter().map(String::as_str).collect::<Vec<_>>(),
        rows.objects.iter().map(|row| cells(rows, row, now)),
    )?;
    let count = rows.objects.len();
    out.note(out.paint_note(Tone::Dim, format_args!("{count} row{}", if count == 1 { "" } else { "s" })));
    Ok(())
}

/// The one row of an EXPLAIN, name by name.
pub fn explanation(rows: &Rows, out: &Out) -> Result {
    for (name, value) in rows.objects.iter().flatten() {
        let parts = match value {
            Value::Array(parts) => parts.iter().map(text).collect(),
            value => vec![text(value)],
        };
        let tone = if name == "hints" { Tone::Warn } else { Tone::Dim };
        for part in parts {
            out.line(format_args!("{}  {part}", out.paint(tone, format_args!("{name:<10}"))))?;
        }
    }
    Ok(())
}

/// The members that make the columns of CSV, and of tables of plain rows.
pub fn columns(rows: &Rows) -> Vec<&str> {
    match rows.kind {
        Some(ItemType::Twin) => [
            "deviceId",
            "moduleId",
            "status",
            "statusReason",
            "connectionState",
            "lastActivityTime",
            "version",
            "etag",
            "tags",
            "properties",
        ]
        .to_vec(),
        _ => {
            let mut columns: Vec<&str> = Vec::new();
            let mut seen = std::collections::HashSet::new();
            for name in rows.objects.iter().flat_map(JsonObject::keys) {
                if seen.insert(name.as_str()) {
                    columns.push(name);
                }
            }
            columns
        }
    }
}

fn titles(rows: &Rows) -> Vec<String> {
    let fixed: &[&str] = match rows.kind {
        Some(ItemType::Twin) => &["DEVICE", "STATUS", "CONNECTION", "LAST ACTIVITY", "TAGS"],
        Some(ItemType::DeviceJob) => &["JOB", "DEVICE", "TYPE", "STATUS", "UPDATED", "OUTCOME"],
        _ => return columns(rows).into_iter().map(str::to_owned).collect(),
    };
    fixed.iter().map(|title| (*title).to_owned()).collect()
}

fn cells(rows: &Rows, row: &JsonObject, now: Timestamp) -> Vec<Cell> {
    match rows.kind {
        Some(ItemType::Twin) => twin(row, now),
        Some(ItemType::DeviceJob) => device_job(row, now),
        _ => columns(rows).into_iter().map(|column| plain(row.get(column))).collect(),
    }
}

fn twin(row: &JsonObject, now: Timestamp) -> Vec<Cell> {
    let connected = row.get("connectionState").and_then(Value::as_str) == Some("Connected");
    let enabled = row.get("status").and_then(Value::as_str) == Some("enabled");
    let tags = row.get("tags").map_or_else(String::new, Value::to_string);
    vec![
        (key(row), None),
        (member(row, "status"), Some(Tone::Bad).filter(|_| !enabled)),
        (member(row, "connectionState").to_lowercase(), Some(if connected { Tone::Good } else { Tone::Dim })),
        (ago(row, "lastActivityTime", now), Some(Tone::Dim)),
        (cut(&tags), None),
    ]
}

fn device_job(row: &JsonObject, now: Timestamp) -> Vec<Cell> {
    let status = member(row, "status");
    let tone = match status.as_str() {
        "completed" => Some(Tone::Good),
        "failed" | "canceled" => Some(Tone::Bad),
        _ => None,
    };
    let error = row.get("error").and_then(Value::as_object);
    let outcome = match (error, row.get("outcome")) {
        (Some(error), _) => format!("{}: {}", member(error, "code"), member(error, "description")),
        (None, Some(outcome)) => match outcome.get("deviceMethodResponse").filter(|it| !it.is_null()) {
            Some(response) => response.to_string(),
            None => String::new(),
        },
        (None, None) => String::new(),
    };
    vec![
        (member(row, "jobId"), None),
        (member(row, "deviceId"), None),
        (member(row, "jobType"), Some(Tone::Dim)),
        (status, tone),
        (ago(row, "lastUpdatedDateTimeUtc", now), Some(Tone::Dim)),
        (cut(&outcome), None),
    ]
}

fn plain(value: Option<&Value>) -> Cell {
    match value {
        None => ("–".to_owned(), Some(Tone::Dim)),
        Some(Value::Null) => ("null".to_owned(), Some(Tone::Dim)),
        Some(value) => (cut(&text(value)), None),
    }
}

/// A row as one line.
pub fn line(rows: &Rows, row: &JsonObject) -> String {
    match rows.kind {
        Some(ItemType::Twin) => {
            let state = member(row, "connectionState").to_lowercase();
            let tags = row.get("tags").map_or_else(String::new, Value::to_string);
            format!("{}  {}  {state}  {}", key(row), member(row, "status"), cut(&tags)).trim_end().to_owned()
        }
        _ => cut(&serde_json::to_string(row).unwrap_or_default()),
    }
}

/// Whether a row changed other than by the passing of time: a device that sends is not news.
pub fn differ(rows: &Rows, before: &JsonObject, after: &JsonObject) -> bool {
    match rows.kind {
        Some(ItemType::Twin) => {
            ["etag", "deviceEtag", "connectionState"].iter().any(|name| before.get(*name) != after.get(*name))
        }
        _ => before != after,
    }
}

/// What a row is about; the whole row where nothing names it.
pub fn key(row: &JsonObject) -> String {
    let id = |name: &str| row.get(name).and_then(Value::as_str);
    match (id("jobId"), id("deviceId"), id("moduleId")) {
        (Some(job), Some(device), _) => format!("{job}/{device}"),
        (None, Some(device), Some(module)) => format!("{device}/{module}"),
        (None, Some(device), None) => device.to_owned(),
        _ => serde_json::to_string(row).unwrap_or_default(),
    }
}

fn member(row: &JsonObject, name: &str) -> String {
    row.get(name).map_or_else(|| "–".to_owned(), text)
}

fn ago(row: &JsonObject, name: &str, now: Timestamp) -> String {
    row.get(name).and_then(Value::as_str).map_or_else(|| "–".to_owned(), |time| when::ago(time, now))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_CELL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(kind: ItemType, values: Value) -> Rows {
        Rows { kind: Some(kind), objects: serde_json::from_value(values).unwrap() }
    }

    #[test]
    fn columns_come_in_the_order_they_are_met() {
        let rows = rows(ItemType::Raw, json!([{ "b": 1, "a": null }, { "c": "x", "a": [1] }]));
        assert_eq!(columns(&rows), ["b", "a", "c"]);
        let texts = |row| cells(&rows, row, Timestamp::UNIX_EPOCH).into_iter().map(|cell| cell.0);
        assert_eq!(texts(&rows.objects[0]).collect::<Vec<_>>(), ["1", "null", "–"]);
        assert_eq!(texts(&rows.objects[1]).collect::<Vec<_>>(), ["–", "[1]", "x"]);
    }

    #[test]
    fn jobs_show_what_came_of_them() {
        let rows = rows(
            ItemType::DeviceJob,
            json!([
                { "jobId": "j", "deviceId": "d", "jobType": "t", "status": "completed",
                  "outcome": { "deviceMethodResponse": { "status": 200 } } },
                { "jobId": "j", "deviceId": "e", "status": "failed", "outcome": {},
                  "error": { "code": "DeviceNotFound", "description": "gone" } },
            ]),
        );
        let outcome = |row| cells(&rows, row, Timestamp::UNIX_EPOCH).pop().unwrap().0;
        assert_eq!(outcome(&rows.objects[0]), r#"{"status":200}"#);
        assert_eq!(outcome(&rows.objects[1]), "DeviceNotFound: gone");
        assert_eq!(key(&rows.objects[1]), "j/e");
    }
}
