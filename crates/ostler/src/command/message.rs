//! `ostler message`: messages to devices, and what became of them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use ostler_service_sdk::{
    Ack, Client, CloudMessage, DeviceId, FeedbackBatch, FeedbackRecord, FeedbackStatus,
};
use serde_json::json;

use crate::exit::{Failure, Result};
use crate::hub::HubOptions;
use crate::input;
use crate::output::{Out, Tone};
use crate::when;

/// How often a hub is asked for feedback while it is watched.
const POLL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    hub: HubOptions,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put a message into a device's queue
    Send(Box<Send>),
    /// Read what became of messages
    Feedback(Feedback),
    /// Remove all messages from a device's queue
    Purge(Purge),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ostler message send pump-7 'wake up'
  ostler message send pump-7 --file picture.png --content-type image/png --ttl 10m
  ostler message send pump-7 go --property colour=red --property urgent --ack full

The message waits until the device takes it or its time is over: an hour, unless --ttl says otherwise.")]
struct Send {
    #[arg(value_name = "DEVICE", value_parser = input::device_id)]
    id: DeviceId,
    /// What it says
    #[arg(value_name = "TEXT", conflicts_with = "file", required_unless_present = "file")]
    text: Option<String>,
    /// A file with what it says; `-` is stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A property of your own; may be given several times
    #[arg(long = "property", short, value_name = "NAME[=VALUE]")]
    properties: Vec<String>,
    /// Your name for the message, repeated in feedback
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// What it is about or an answer to
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// On whose behalf it is sent
    #[arg(long, value_name = "ID")]
    user_id: Option<String>,
    /// Media type of what it says
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Character set or compression of what it says
    #[arg(long, value_name = "NAME")]
    content_encoding: Option<String>,
    /// How long it is of use: 90s, 10m, 2h; at most 2d
    #[arg(long, value_name = "TIME", value_parser = when::seconds32)]
    ttl: Option<u32>,
    /// Which outcomes to tell of in the feedback
    #[arg(long, value_enum, default_value_t)]
    ack: AckWish,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum AckWish {
    #[default]
    None,
    Positive,
    Negative,
    Full,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ostler message feedback
  ostler message feedback --keep -o json
  ostler message feedback --watch

What was printed is done with, here and for every other reader, unless --keep is given.")]
struct Feedback {
    /// Go on until Ctrl-C; with `-o json` one line for each outcome
    #[arg(long, conflicts_with = "keep")]
    watch: bool,
    /// Look at the oldest ones and leave them for whoever reads next
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, clap::Args)]
struct Purge {
    #[arg(value_name = "DEVICE", value_parser = input::device_id)]
    id: DeviceId,
}

pub async fn run(args: Args, out: &Out) -> Result {
    let hub = args.hub.client()?;
    match args.action {
        Action::Send(args) => send(&hub, *args, out).await,
        Action::Feedback(Feedback { watch: true, .. }) => watch(&hub, out).await,
        Action::Feedback(args) => feedback(&hub, args.keep, out).await,
        Action::Purge(args) => purge(&hub, &args.id, out).await,
    }
}

async fn send(hub: &Client, args: Send, out: &Out) -> Result {
    let body = match (args.text, &args.file) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(path)) => input::bytes(path)?,
        (None, None) => Vec::new(),
    };
    let mut message = CloudMessage::new(body);
    message.properties = args.properties.iter().map(|text| property(text)).collect();
    message.message_id = args.message_id;
    message.correlation_id = args.correlation_id;
    message.user_id = args.user_id;
    message.content_type = args.content_type;
    message.content_encoding = args.content_encoding;
    message.expiry = args.ttl.map(expiry).transpose()?;
    message.ack = match args.ack {
        AckWish::None => Ack::None,
        AckWish::Positive => Ack::Positive,
        AckWish::Negative => Ack::Negative,
        AckWish::Full => Ack::Full,
    };
    let sent = hub.messages().send(&args.id, &message).await?;
    out.show(&sent, |out| {
        let id = sent.message_id.as_deref().map_or(String::new(), |id| format!(" {id}"));
        let expires = when::ago_or_in(&sent.expiry_time_utc, Timestamp::now());
        out.line(format_args!(
            "message{id} waits for {}; its time is over {expires}",
            out.paint(Tone::Bold, &sent.device_id)
        ))
    })
}

/// `name=value`, or a name alone.
fn property(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

fn expiry(secs: u32) -> Result<String> {
    let expiry = Timestamp::now().checked_add(SignedDuration::from_secs(secs.into()));
    let expiry = expiry.map_err(|_| Failure::usage("--ttl is longer than any calendar goes"))?;
    Ok(expiry.to_string())
}

/// As in [`follow`], outcomes are completed only after they are printed.
async fn feedback(hub: &Client, keep: bool, out: &Out) -> Result {
    let (mut all, mut locks) = (Vec::new(), Vec::new());
    while let Some(FeedbackBatch { lock, records, .. }) = hub.messages().feedback().await? {
        all.extend(records);
        locks.push(lock);
        if keep {
            break;
        }
    }
    let shown = show_feedback(&all, out);
    for lock in locks {
        match keep || shown.is_err() {
            true => hub.messages().abandon_feedback(&lock).await?,
            false => hub.messages().complete_feedback(&lock).await?,
        }
    }
    shown
}

fn show_feedback(all: &[FeedbackRecord], out: &Out) -> Result {
    out.show(all, |out| {
        if all.is_empty() {
            out.note("nothing became of any message that asked for feedback");
            return Ok(());
        }
        let now = Timestamp::now();
        let row = |record: &FeedbackRecord| {
            vec![
                (record.device_id.clone(), None),
                (record.original_message_id.clone(), None),
                (record.status_code.to_string(), Some(tone(&record.status_code))),
                (when::ago(&record.enqueued_time_utc, now), Some(Tone::Dim)),
            ]
        };
        out.table(&["DEVICE", "MESSAGE", "OUTCOME", "WHEN"], all.iter().map(row))
    })
}

fn tone(status: &FeedbackStatus) -> Tone {
    match status {
        FeedbackStatus::Success => Tone::Good,
        FeedbackStatus::Purged => Tone::Warn,
        _ => Tone::Bad,
    }
}

async fn watch(hub: &Client, out: &Out) -> Result {
    out.note("waiting for feedback; Ctrl-C ends it");
    tokio::select! {
        ended = follow(hub, out) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Prints outcomes as they come. They are completed only after they are printed, so that none is lost between.
async fn follow(hub: &Client, out: &Out) -> Result {
    loop {
        let Some(FeedbackBatch { lock, records, .. }) = hub.messages().feedback().await? else {
            tokio::time::sleep(POLL).await;
            continue;
        };
        for record in &records {
            if out.is_json() {
                out.json_line(record)?;
            } else {
                let outcome = out.paint(tone(&record.status_code), &record.status_code);
                let (clock, id) = (when::clock(&record.enqueued_time_utc), &record.original_message_id);
                out.line(format_args!("{clock}  {}  {id}  {outcome}", record.device_id))?;
            }
        }
        hub.messages().complete_feedback(&lock).await?;
    }
}

async fn purge(hub: &Client, id: &DeviceId, out: &Out) -> Result {
    let count = hub.messages().purge(id).await?;
    out.show(&json!({ "deviceId": id.as_str(), "totalMessagesPurged": count }), |out| {
        let messages = if count == 1 { "message" } else { "messages" };
        out.line(format_args!("{count} {messages} removed from the queue of {id}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties() {
        assert_eq!(property("a=b=c"), ("a".into(), Some("b=c".into())));
        assert_eq!(property("a="), ("a".into(), Some(String::new())));
        assert_eq!(property("a"), ("a".into(), None));
    }
}
