//! `ostler monitor`: what happens in the hub, as it happens.
//!
//! Invariant: one event is one line; text from devices cannot drive the terminal.

use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use ostler_service_sdk::{Client, EntityId, Event, EventFilter, EventKind};
use serde_json::Value;

use crate::exit::Result;
use crate::hub::HubOptions;
use crate::input;
use crate::output::{printable, Out, Tone};
use crate::when;

/// Longest value shown in a human line, in characters.
const MAX_VALUE: usize = 200;
/// Waits between attempts to listen again after the hub went away.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const MAX_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  ostler monitor
  ostler monitor --device pump-7 --types telemetry,twin
  ostler monitor -o json | jq 'select(.type == \"method\")'

Nothing is kept: what happened before is not shown, and one who reads too slowly misses events.")]
pub struct Args {
    /// Only this device or module
    #[arg(long, value_name = "DEVICE[/MODULE]", value_parser = input::entity_id)]
    device: Option<EntityId>,
    /// Only these kinds of events
    #[arg(long, value_enum, value_delimiter = ',', value_name = "TYPE")]
    types: Vec<Kind>,
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    hub: HubOptions,
}

/// How long to watch.
#[derive(Debug, ClapArgs)]
pub struct Watch {
    /// Stop after this many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Stop after this long
    #[arg(long = "for", value_name = "SECONDS")]
    duration: Option<u64>,
    /// End when the hub goes away, instead of waiting for it to come back
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Devices come and go
    Connection,
    /// Twins are written
    Twin,
    /// Identities are created, changed or deleted
    Registry,
    /// Methods are called
    Method,
    /// Devices send messages
    Telemetry,
    /// Devices upload files
    File,
    /// Sign-ins are refused
    Auth,
}

impl From<Kind> for EventKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Connection => Self::Connection,
            Kind::Twin => Self::Twin,
            Kind::Registry => Self::Registry,
            Kind::Method => Self::Method,
            Kind::Telemetry => Self::Telemetry,
            Kind::File => Self::File,
            Kind::Auth => Self::Auth,
        }
    }
}

pub async fn run(args: Args, out: &Out) -> Result {
    let hub = args.hub.client()?;
    let filter = EventFilter {
        kinds: args.types.into_iter().map(EventKind::from).collect(),
        device_id: args.device.as_ref().map(|id| id.device().to_owned()),
    };
    let module = args.device.as_ref().and_then(|id| id.module()).map(str::to_owned);
    follow(&hub, &filter, &args.watch, out, |event| module.is_none() || event.module_id == module).await
}

/// Prints events until told to stop; listens again when the hub went away and came back.
pub async fn follow(
    hub: &Client,
    filter: &EventFilter,
    watch: &Watch,
    out: &Out,
    wanted: impl Fn(&Event) -> bool,
) -> Result {
    let end = async {
        match watch.duration {
            Some(secs) => tokio::time::sleep(Duration::from_secs(secs)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = listen(hub, filter, watch, out, wanted) => result,
        () = end => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn listen(
    hub: &Client,
    filter: &EventFilter,
    watch: &Watch,
    out: &Out,
    wanted: impl Fn(&Event) -> bool,
) -> Result {
    let mut shown = 0;
    let mut wait = FIRST_WAIT;
    // The first attempt fails for good: nobody waits for a hub that was never there.
    let mut events = hub.events(filter).await?;
    out.note(out.paint(Tone::Dim, format_args!("listening to {}; Ctrl-C ends", hub.authority())));
    loop {
        let ended = loop {
            match events.next().await {
                Some(Ok(event)) if event.kind == EventKind::Lagged => print(&event, out)?,
                Some(Ok(event)) if !wanted(&event) => {}
                Some(Ok(event)) => {
                    wait = FIRST_WAIT;
                    print(&event, out)?;
                    shown += 1;
                    if watch.limit.is_some_and(|limit| shown >= limit) {
                        return Ok(());
                    }
                }
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        };
        if watch.once {
            return ended.map_or(Ok(()), |error| Err(error.into()));
        }
        match ended {
            Some(error) if !error.is_transient() => return Err(error.into()),
            Some(error) => out.warn(format_args!("{error}; events may have been missed")),
            None => out.warn("the hub ended the stream; events may have been missed"),
        }
        events = loop {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(MAX_WAIT);
            match hub.events(filter).await {
                Ok(events) => break events,
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error.into()),
            }
        };
        out.note(out.paint(Tone::Dim, "listening again"));
    }
}

fn print(event: &Event, out: &Out) -> Result {
    if out.is_json() {
        return out.json_line(event);
    }
    let time = event.time.as_deref().map_or_else(String::new, when::clock);
    let mut id = event.device_id.clone().unwrap_or_else(|| "–".to_owned());
    if let Some(module) = &event.module_id {
        id = format!("{id}/{module}");
    }
    let (tone, text) = describe(event);
    out.line(format_args!(
        "{}  {}  {}  {}",
        out.paint(Tone::Dim, time),
        out.paint(tone, format_args!("{:<10}", event.kind)),
        out.paint(Tone::Bold, printable(&id)),
        printable(&text)
    ))
}

/// What happened, as a sentence without its subject.
fn describe(event: &Event) -> (Tone, String) {
    let member = |name: &str| event.details.get(name).filter(|value| !value.is_null());
    let text = |name: &str| member(name).map(plain);
    match event.kind {
        EventKind::Connection => connection(event),
        EventKind::Twin => {
            let section = text("section").unwrap_or_default();
            let section = section.strip_prefix("properties.").unwrap_or(&section);
            let version = text("version").map_or_else(String::new, |version| format!(" version {version}"));
            let patch = member("patch").map_or_else(String::new, |patch| format!(" {}", shortened(patch)));
            (Tone::Accent, format!("{section}{version}{patch}"))
        }
        EventKind::Method => {
            let name = text("methodName").unwrap_or_default();
            let took = text("durationMs").map_or_else(String::new, |ms| format!(" after {ms} ms"));
            match (text("status"), text("error")) {
                (Some(status), _) => (Tone::Accent, format!("{name} answered {status}{took}")),
                (None, Some(error)) => (Tone::Warn, format!("{name} failed{took}: {error}")),
                (None, None) => (Tone::Accent, format!("{name}{took}")),
            }
        }
        EventKind::Telemetry => {
            let bytes = text("bodyBase64").map(|base64| format!("(base64) {base64}"));
            let body = member("body").or_else(|| member("bodyText")).map(shortened).or(bytes);
            let body = body.unwrap_or_default();
            let properties = member("properties")
                .and_then(Value::as_object)
                .filter(|properties| !properties.is_empty())
                .map_or_else(String::new, |properties| {
                    let pairs: Vec<_> =
                        properties.iter().map(|(key, value)| format!("{key}={}", plain(value))).collect();
                    format!("  [{}]", pairs.join(" "))
                });
            (Tone::Good, format!("{body}{properties}"))
        }
        EventKind::File => {
            let name = text("blobName").unwrap_or_default();
            match text("operation").as_deref() {
                Some("uploaded") => {
                    let size = text("blobSizeInBytes").unwrap_or_default();
                    (Tone::Good, format!("uploaded {name}, {size} bytes"))
                }
                _ => {
                    let why = text("statusDescription").map_or_else(String::new, |why| format!(": {why}"));
                    (Tone::Warn, format!("gave up uploading {name}{why}"))
                }
            }
        }
        EventKind::Auth => {
            let peer = text("peer").map_or_else(String::new, |peer| format!(" from {peer}"));
            (Tone::Bad, format!("refused{peer}: {}", text("cause").unwrap_or_default()))
        }
        EventKind::Registry => (Tone::Accent, text("operation").unwrap_or_default()),
        EventKind::Lagged => (
            Tone::Bad,
            format!("{} events were missed: this reader is too slow", text("missed").unwrap_or_default()),
        ),
        _ => (Tone::Dim, remaining(event)),
    }
}

fn connection(event: &Event) -> (Tone, String) {
    let text = |name: &str| event.details.get(name).filter(|value| !value.is_null()).map(plain);
    match text("operation").as_deref() {
        Some("connected") => {
            let transport = text("transport").map_or_else(String::new, |by| format!(" over {by}"));
            let peer = text("peer").map_or_else(String::new, |peer| format!(" from {peer}"));
            (Tone::Good, format!("connected{transport}{peer}"))
        }
        Some("disconnected") => {
            let reason = text("reason").map_or_else(String::new, |reason| format!(": {reason}"));
            (Tone::Warn, format!("disconnected{reason}"))
        }
        _ => (Tone::Dim, remaining(event)),
    }
}

fn remaining(event: &Event) -> String {
    let pairs: Vec<_> =
        event.details.iter().map(|(key, value)| format!("{key}={}", shortened(value))).collect();
    pairs.join(" ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn shortened(value: &Value) -> String {
    let text = plain(value).replace('\n', " ");
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(event: &str, expected: &str) {
        let event: Event = serde_json::from_str(event).unwrap();
        assert_eq!(describe(&event).1, expected);
    }

    #[test]
    fn events_read_as_sentences() {
        check(
            r#"{"type":"connection","operation":"connected","transport":"mqtt","peer":"::1"}"#,
            "connected over mqtt from ::1",
        );
        check(
            r#"{"type":"connection","operation":"disconnected","reason":"taken-over"}"#,
            "disconnected: taken-over",
        );
        check(
            r#"{"type":"twin","section":"properties.reported","version":4,"patch":{"a":1.0}}"#,
            r#"reported version 4 {"a":1.0}"#,
        );
        check(
            r#"{"type":"method","methodName":"reboot","status":200,"durationMs":12}"#,
            "reboot answered 200 after 12 ms",
        );
        check(r#"{"type":"method","methodName":"reboot","error":"timed out"}"#, "reboot failed: timed out");
        check(
            r#"{"type":"telemetry","body":{"t":21.5},"properties":{"unit":"C"}}"#,
            r#"{"t":21.5}  [unit=C]"#,
        );
        check(r#"{"type":"auth","peer":"10.0.0.9","cause":"wrong key"}"#, "refused from 10.0.0.9: wrong key");
        check(r#"{"type":"telemetry","bodyText":"21 °C"}"#, "21 °C");
        check(
            r#"{"type":"file","operation":"uploaded","blobName":"d/a","blobSizeInBytes":7}"#,
            "uploaded d/a, 7 bytes",
        );
        check(r#"{"type":"registry","operation":"created"}"#, "created");
        check(r#"{"type":"lagged","missed":9}"#, "9 events were missed: this reader is too slow");
        check(r#"{"type":"later","a":1,"b":"x"}"#, "a=1 b=x");
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = Value::String("é".repeat(300));
        assert_eq!(shortened(&long).chars().count(), MAX_VALUE + 1);
    }
}
