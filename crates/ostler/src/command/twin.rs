//! `ostler twin`: tags, desired and reported properties.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use ostler_service_sdk::{Client, EntityId, EventFilter, EventKind, IfMatch, JsonObject, Twin, TwinPatch};
use serde_json::Value;

use super::monitor::{self, Watch};
use crate::exit::{Failure, Result};
use crate::hub::HubOptions;
use crate::input;
use crate::output::{printable, Out, Tone};
use crate::when;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    hub: HubOptions,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show a twin
    Show(Show),
    /// Merge key=value pairs or JSON into tags or desired properties; null deletes
    Set(Set),
    /// Merge a partial twin: {"tags":{…},"properties":{"desired":{…}}}
    Patch(Document),
    /// Replace tags and desired properties; a section left out becomes empty
    Replace(Document),
    /// Show each change as it happens
    Watch(WatchArgs),
}

#[derive(Debug, clap::Args)]
struct Show {
    #[arg(value_name = "DEVICE[/MODULE]", value_parser = input::entity_id)]
    id: EntityId,
    /// Only this section, as JSON
    #[arg(long, value_enum)]
    section: Option<ShownSection>,
    /// Show $metadata and $version too
    #[arg(long)]
    metadata: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ShownSection {
    Tags,
    Desired,
    Reported,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    Tags,
    Desired,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ostler twin set pump-7 desired interval=30 log.level=debug
  ostler twin set pump-7 tags site=north floor=null
  ostler twin set pump-7 desired --json '{\"interval\":30}'
  ostler twin set pump-7 desired --file desired.json

A value is JSON where it parses as such (30, true, null, {\"a\":1}), else a text. For the text \"30\" write '\"30\"'.")]
struct Set {
    #[arg(value_name = "DEVICE[/MODULE]", value_parser = input::entity_id)]
    id: EntityId,
    /// What to write
    #[arg(value_enum)]
    section: Section,
    /// Members to write; dots nest
    #[arg(value_name = "KEY=VALUE", value_parser = input::pair, required_unless_present_any = ["json", "file"])]
    pairs: Vec<(String, Value)>,
    /// An object to merge
    #[arg(long, value_name = "JSON", conflicts_with_all = ["pairs", "file"])]
    json: Option<String>,
    /// A file with an object to merge; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "pairs")]
    file: Option<PathBuf>,
    /// Write only if the twin's etag is still this one
    #[arg(long)]
    etag: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Document {
    #[arg(value_name = "DEVICE[/MODULE]", value_parser = input::entity_id)]
    id: EntityId,
    /// The document
    #[arg(long, value_name = "JSON", conflicts_with = "file", required_unless_present = "file")]
    json: Option<String>,
    /// A file with the document, a twin as `twin show -o json` prints it will do; `-` is stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Write only if the twin's etag is still this one
    #[arg(long)]
    etag: Option<String>,
}

#[derive(Debug, clap::Args)]
struct WatchArgs {
    #[arg(value_name = "DEVICE[/MODULE]", value_parser = input::entity_id)]
    id: EntityId,
    #[command(flatten)]
    watch: Watch,
}

pub async fn run(args: Args, out: &Out) -> Result {
    let hub = args.hub.client()?;
    match args.action {
        Action::Show(args) => show(&hub, args, out).await,
        Action::Set(args) => set(&hub, args, out).await,
        Action::Patch(args) => {
            let patch = document(&args)?;
            let twin = hub.patch_twin(&args.id, &patch, IfMatch::from_etag(args.etag.as_deref())).await?;
            out.show(&twin, |out| print(&twin, false, out))
        }
        Action::Replace(args) => {
            let patch = document(&args)?;
            let twin = hub.replace_twin(&args.id, &patch, IfMatch::from_etag(args.etag.as_deref())).await?;
            out.show(&twin, |out| print(&twin, false, out))
        }
        Action::Watch(args) => {
            let filter =
                EventFilter { kinds: vec![EventKind::Twin], device_id: Some(args.id.device().to_owned()) };
            let module = args.id.module().map(str::to_owned);
            monitor::follow(&hub, &filter, &args.watch, out, |event| event.module_id == module).await
        }
    }
}

async fn show(hub: &Client, args: Show, out: &Out) -> Result {
    let twin = hub.twin(&args.id).await?;
    let Some(section) = args.section else {
        return out.show(&twin, |out| print(&twin, args.metadata, out));
    };
    let mut object = match section {
        ShownSection::Tags => twin.tags.unwrap_or_default(),
        ShownSection::Desired => twin.properties.desired,
        ShownSection::Reported => twin.properties.reported,
    };
    if !args.metadata {
        object = values(&object);
    }
    out.json(&object)
}

async fn set(hub: &Client, args: Set, out: &Out) -> Result {
    let value = match (&args.json, &args.file) {
        (Some(text), _) => input::json_text(text, "--json")?,
        (None, Some(path)) => input::json(path)?,
        (None, None) => Value::Object(input::object(&args.pairs)?),
    };
    if !value.is_object() && !value.is_null() {
        return Err(Failure::usage("a section is a JSON object; null clears it"));
    }
    let patch = match args.section {
        Section::Tags => TwinPatch::tags(value),
        Section::Desired => TwinPatch::desired(value),
    };
    let twin = hub.patch_twin(&args.id, &patch, IfMatch::from_etag(args.etag.as_deref())).await?;
    out.show(&twin, |out| print(&twin, false, out))
}

/// Takes from a document what may be written; the rest of a whole twin is ignored, as the hub would.
fn document(args: &Document) -> Result<TwinPatch> {
    let value = match (&args.json, &args.file) {
        (Some(text), _) => input::json_text(text, "--json")?,
        (None, Some(path)) => input::json(path)?,
        (None, None) => return Err(Failure::usage("name --json or --file")),
    };
    writable(value)
}

/// The sections of a twin that may be written; the rest is left out.
pub fn writable(value: Value) -> Result<TwinPatch> {
    let Value::Object(mut twin) = value else {
        return Err(Failure::usage("a twin is a JSON object"));
    };
    let desired = match twin.get_mut("properties") {
        Some(Value::Object(properties)) => properties.shift_remove("desired"),
        _ => None,
    };
    let patch = TwinPatch { tags: twin.shift_remove("tags"), desired };
    if patch == TwinPatch::default() {
        return Err(Failure::usage("the document has neither `tags` nor `properties.desired`")
            .advise("To write one section, use `ostler twin set`"));
    }
    Ok(patch)
}

fn print(twin: &Twin, metadata: bool, out: &Out) -> Result {
    let now = Timestamp::now();
    let mut head = out.paint(Tone::Bold, &twin.device_id);
    if let Some(module) = &twin.module_id {
        head.push_str(&out.paint(Tone::Bold, format_args!("/{module}")));
    }
    let words = [
        twin.status.as_ref().map(ToString::to_string),
        twin.connection_state.as_ref().map(|state| state.to_string().to_lowercase()),
        twin.version.map(|version| format!("version {version}")),
        twin.etag.as_ref().map(|etag| format!("etag {etag}")),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    out.line(format_args!("{head}  {}", out.paint(Tone::Dim, words.join("  "))))?;
    let configurations: Vec<String> = configurations(twin).collect();
    if !configurations.is_empty() {
        out.line(out.paint(Tone::Dim, format_args!("configurations  {}", configurations.join(", "))))?;
    }
    let empty = JsonObject::new();
    for (title, section) in [
        ("tags", twin.tags.as_ref().unwrap_or(&empty)),
        ("desired", &twin.properties.desired),
        ("reported", &twin.properties.reported),
    ] {
        section_lines(title, section, metadata, now, out)?;
    }
    Ok(())
}

/// The configurations that target a twin, with what became of them.
fn configurations(twin: &Twin) -> impl Iterator<Item = String> + '_ {
    let all = twin.extra.get("configurations").and_then(Value::as_object);
    all.into_iter().flatten().map(|(id, value)| {
        let status = value["status"].as_str().unwrap_or_default();
        printable(&format!("{id} {}", status.to_lowercase()))
    })
}

fn section_lines(title: &str, section: &JsonObject, metadata: bool, now: Timestamp, out: &Out) -> Result {
    let version = section.get("$version").map_or_else(String::new, |version| format!("  $version {version}"));
    let updated = section
        .get("$metadata")
        .and_then(|metadata| metadata["$lastUpdated"].as_str())
        .map(|time| when::ago(time, now))
        .filter(|ago| ago != "never")
        .map_or_else(String::new, |ago| format!("  {ago}"));
    let shown = if metadata { section.clone() } else { values(section) };
    out.line(format_args!(
        "\n{}{}",
        out.paint(Tone::Accent, title),
        out.paint(Tone::Dim, format_args!("{version}{updated}"))
    ))?;
    if shown.is_empty() {
        return out.line(out.paint(Tone::Dim, "  (empty)"));
    }
    let text = printable(&serde_json::to_string_pretty(&shown)?);
    text.lines().try_for_each(|line| out.line(format_args!("  {line}")))
}

fn values(section: &JsonObject) -> JsonObject {
    section.iter().filter(|(key, _)| !key.starts_with('$')).map(|(k, v)| (k.clone(), v.clone())).collect()
}
