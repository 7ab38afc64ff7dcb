//! A query asked again and again: the table in place on a terminal, else a line for each row that came, went or changed.
//!
//! Invariant: a hub that goes away is waited for; a query that is refused ends it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use jiff::Timestamp;
use ostler_service_sdk::JsonObject;
use serde_json::json;
use tokio::time::{interval, Instant, MissedTickBehavior};

use super::{table, Ask, Rows};
use crate::exit::{Failure, Result};
use crate::output::{printable, Format, Out, Tone};
use crate::when;

/// Clears a terminal and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub async fn run(ask: &Ask, secs: u64, duration: Option<u64>, out: &Out) -> Result {
    if out.format == Format::Csv {
        return Err(Failure::usage("--watch prints tables or JSON, not CSV"));
    }
    let end = async {
        match duration {
            Some(secs) => tokio::time::sleep(Duration::from_secs(secs)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = again_and_again(ask, Duration::from_secs(secs), out) => result,
        () = end => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn again_and_again(ask: &Ask, every: Duration, out: &Out) -> Result {
    let in_place = out.format == Format::Human && std::io::stdout().is_terminal();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    let mut answered = false;
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        match ask.try_all().await {
            Ok(rows) if in_place => screen(ask, &rows, asked.elapsed(), out)?,
            Ok(rows) => seen.changes(&rows, out)?,
            // Nobody waits for a hub that was never there.
            Err(error) if answered && error.is_transient() => out.warn(error),
            Err(error) => return Err(ask.failure(error)),
        }
        answered = true;
    }
}

fn screen(ask: &Ask, rows: &Rows, took: Duration, out: &Out) -> Result {
    let clock = when::clock(&Timestamp::now().to_string());
    let head = format!("{clock}  {} ms  {}", took.as_millis(), printable(&ask.text));
    out.raw(CLEAR)?;
    out.line(out.paint(Tone::Dim, head))?;
    table::print(rows, out)
}

/// The rows of the last answer, by what they are about.
#[derive(Default)]
struct Seen(BTreeMap<String, Vec<JsonObject>>);

impl Seen {
    fn changes(&mut self, rows: &Rows, out: &Out) -> Result {
        for (word, row) in self.take(rows) {
            if out.is_json() {
                out.json_line(&json!({ "change": word.0, "row": row }))?;
            } else {
                let sign = out.paint(word.2, word.1);
                out.line(format_args!("{sign} {}", printable(&table::line(rows, &row))))?;
            }
        }
        Ok(())
    }

    /// Replaces what was seen; what came, changed and went, in this order.
    fn take(&mut self, rows: &Rows) -> Vec<(Change, JsonObject)> {
        let mut now: BTreeMap<String, Vec<JsonObject>> = BTreeMap::new();
        let mut changes = Vec::new();
        for row in &rows.objects {
            let key = table::key(row);
            let before = self.0.get_mut(&key).and_then(Vec::pop);
            match before {
                None => changes.push((ADDED, row.clone())),
                Some(before) if table::differ(rows, &before, row) => {
                    changes.push((CHANGED, row.clone()));
                }
                Some(_) => {}
            }
            now.entry(key).or_default().push(row.clone());
        }
        let gone = std::mem::replace(&mut self.0, now).into_values().flatten();
        changes.extend(gone.map(|row| (REMOVED, row)));
        changes
    }
}

/// A word for scripts, a sign for people, and its colour.
type Change = (&'static str, char, Tone);
const ADDED: Change = ("added", '+', Tone::Good);
const CHANGED: Change = ("changed", '~', Tone::Warn);
const REMOVED: Change = ("removed", '-', Tone::Bad);

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_service_sdk::ItemType;

    fn step(seen: &mut Seen, kind: &ItemType, rows: serde_json::Value) -> Vec<String> {
        let rows = Rows { kind: Some(kind.clone()), objects: serde_json::from_value(rows).unwrap() };
        seen.take(&rows).iter().map(|(change, row)| format!("{}{}", change.1, table::key(row))).collect()
    }

    #[test]
    fn only_changes_are_told() {
        let (mut seen, kind) = (Seen::default(), ItemType::Twin);
        let row = |id: &str, state: &str, time: &str| json!({ "deviceId": id, "connectionState": state, "lastActivityTime": time });
        let first = json!([row("a", "Connected", "1"), row("b", "Connected", "1")]);
        assert_eq!(step(&mut seen, &kind, first), ["+a", "+b"]);
        let second =
            json!([row("a", "Connected", "2"), row("b", "Disconnected", "1"), row("c", "Connected", "1")]);
        assert_eq!(step(&mut seen, &kind, second), ["~b", "+c"]);
        assert_eq!(step(&mut seen, &kind, json!([row("c", "Connected", "9")])), ["-a", "-b"]);
    }

    #[test]
    fn rows_without_a_name_are_told_apart_by_what_they_say() {
        let (mut seen, kind) = (Seen::default(), ItemType::Raw);
        assert_eq!(step(&mut seen, &kind, json!([{ "n": 1 }, { "n": 1 }])).len(), 2);
        assert_eq!(step(&mut seen, &kind, json!([{ "n": 1 }])), [r#"-{"n":1}"#]);
        assert_eq!(step(&mut seen, &kind, json!([{ "n": 2 }])), [r#"+{"n":2}"#, r#"-{"n":1}"#]);
    }
}
