//! `ostler job create`: what to do, to whom, when, and how.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use futures_util::TryStreamExt;
use ostler_service_sdk::{Client, DeviceId, DryRun, ErrorKind, JobWork, MethodCall, NewJob, TwinPatch};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;

use super::rollout::RolloutOptions;
use super::watch::{self, Follow};
use crate::command::query::mistake;
use crate::exit::{Exit, Failure, Result};
use crate::input;
use crate::output::{Out, Tone};
use crate::when;

/// Devices of a dry run that are named to a person.
const SHOWN_SAMPLE: usize = 10;
/// Named devices in one answer to whether they are there.
const CHECK_PAGE: u32 = 1000;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Call a method of each device
    Method(Method),
    /// Merge into tags and desired properties of each device
    Twin(Twin),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ostler job create method rebootDevice --query 'tags.building = 43'
  ostler job create method lockDoor --query '*' --start 03:00 --id lock-tonight
  ostler job create method setSpeed --payload '{\"rpm\":900}' --device pump-7 --device pump-8 --watch
  ostler job create method update --query \"tags.site = 'north'\" --wave-percent 1,10,50 --gate-min-success 95 --soak 10m
  ostler job create method rebootDevice --query '*' --dry-run

A device that answers with a status other than 2xx has answered: the job counts it as succeeded, as Azure does, and
`ostler job devices` shows the status.")]
struct Method {
    /// Name of the method
    #[arg(value_name = "METHOD")]
    name: String,
    /// Payload, any JSON value
    #[arg(long, value_name = "JSON", conflicts_with = "payload_file")]
    payload: Option<String>,
    /// A file with the payload; `-` is stdin
    #[arg(long, value_name = "FILE")]
    payload_file: Option<PathBuf>,
    /// How long a device may take to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=300))]
    timeout: u64,
    /// How long to wait for a device to connect, once it is its turn
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=300))]
    connect_timeout: u64,
    #[command(flatten)]
    job: JobOptions,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ostler job create twin --query 'tags.building = 43' --desired floor=3
  ostler job create twin --device pump-7 --desired '{\"floor\":3,\"pump\":{\"on\":true}}'
  ostler job create twin --query \"properties.reported.firmware.version != '2.1'\" --desired firmware.version=2.1 --tag ring=early
  ostler job create twin --query '*' --patch '{\"properties\":{\"desired\":{\"interval\":null}}}' --start +10m
  ostler job create twin --query '*' --patch-file patch.json --rate 500 --watch

A value is JSON where it parses as such (30, true, null, {\"a\":1}), else a text; null deletes.")]
struct Twin {
    /// A partial twin to merge: {\"tags\":{…},\"properties\":{\"desired\":{…}}}
    #[arg(long, value_name = "JSON", conflicts_with_all = ["patch_file", "desired", "tag"],
          required_unless_present_any = ["patch_file", "desired", "tag"])]
    patch: Option<String>,
    /// A file with the partial twin; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["desired", "tag"])]
    patch_file: Option<PathBuf>,
    /// A desired property to write, dots nest; or a JSON object of them
    #[arg(long, value_name = "KEY=VALUE", value_parser = input::part)]
    desired: Vec<input::Part>,
    /// A tag to write, dots nest; or a JSON object of them
    #[arg(long, value_name = "KEY=VALUE", value_parser = input::part)]
    tag: Vec<input::Part>,
    #[command(flatten)]
    job: JobOptions,
}

/// What every job has.
#[derive(Debug, clap::Args)]
struct JobOptions {
    /// Which devices: what follows WHERE in a query; `*` is all of them
    #[arg(long, short, value_name = "CONDITION", required_unless_present = "device", value_parser = input::condition)]
    query: Option<String>,
    /// A device by its id; may be given several times, instead of --query
    #[arg(long, value_name = "DEVICE", value_parser = input::device_id, conflicts_with = "query")]
    device: Vec<DeviceId>,
    /// Id of the job; made up if not given
    #[arg(long, value_name = "JOB")]
    id: Option<String>,
    /// When to start: `+10s`, `+5m`, `03:00` (the next time it is, here), or a date as RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = when::start)]
    start: Option<String>,
    /// How long it may take from its start on (`90`, `10m`, `2h`, `1d`)
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = when::seconds)]
    max_execution: u64,
    /// Tell whom the job would touch, and create nothing
    #[arg(long, conflicts_with_all = ["wait", "watch"])]
    dry_run: bool,
    #[command(flatten)]
    follow: Follow,
    #[command(flatten)]
    rollout: RolloutOptions,
}

pub async fn run(hub: &Client, args: Args, out: &Out) -> Result {
    let (work, options) = match args.work {
        Work::Method(args) => (JobWork::Method(method(&args)?), args.job),
        Work::Twin(args) => (JobWork::Twin(patch(&args)?), args.job),
    };
    let condition = options.query.unwrap_or_else(|| named(&options.device));
    let mut job = NewJob::new(options.id.map_or_else(fresh_id, Ok)?, work, condition);
    job.start_time = options.start;
    job.max_execution = Duration::from_secs(options.max_execution);
    job.rollout = options.rollout.rollout();
    all_registered(hub, &options.device, &job.condition, out).await?;
    if options.dry_run {
        let touched =
            hub.dry_run_job(&job).await.map_err(|error| mistake::told(error, &job.condition, out))?;
        return out.show(&touched, |out| print_dry_run(&touched, out));
    }
    let made = hub.create_job(&job).await?;
    watch::follow_new(hub, made, options.follow, out).await
}

fn method(args: &Method) -> Result<MethodCall> {
    let mut call = MethodCall::new(&args.name);
    call.response_timeout = Duration::from_secs(args.timeout);
    call.connect_timeout = Duration::from_secs(args.connect_timeout);
    call.payload = match (&args.payload, &args.payload_file) {
        (Some(text), _) => Some(input::json_text(text, "the payload")?),
        (None, Some(path)) => Some(input::json(path)?),
        (None, None) => None,
    };
    Ok(call)
}

fn patch(args: &Twin) -> Result<TwinPatch> {
    let document = match (&args.patch, &args.patch_file) {
        (Some(text), _) => input::json_text(text, "--patch")?,
        (None, Some(path)) => input::json(path)?,
        (None, None) => {
            let section = |parts: &[_]| (!parts.is_empty()).then(|| input::merged(parts)).transpose();
            let (tags, desired) = (section(&args.tag)?, section(&args.desired)?);
            return Ok(TwinPatch { tags: tags.map(Value::Object), desired: desired.map(Value::Object) });
        }
    };
    super::super::twin::writable(document)
}

/// A device that somebody names and that is not there is a slip; a job would leave it out without a word. One query,
/// which is no longer than the job's own condition may be, tells which are there.
async fn all_registered(hub: &Client, devices: &[DeviceId], condition: &str, out: &Out) -> Result {
    if devices.is_empty() {
        return Ok(());
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        device_id: String,
    }
    let query = hub.query(format!("SELECT deviceId FROM devices WHERE {condition}")).page_size(CHECK_PAGE);
    let there: HashSet<String> = match query.rows().map_ok(|row: Row| row.device_id).try_collect().await {
        Err(error) if error.kind() == ErrorKind::Unauthorized => {
            out.warn(format_args!("whether the devices are registered is not known: {error}"));
            return Ok(());
        }
        there => there?,
    };
    let missing: BTreeSet<&str> =
        devices.iter().map(DeviceId::as_str).filter(|id| !there.contains(*id)).collect();
    let missing: Vec<&str> = missing.into_iter().collect();
    let message = match missing[..] {
        [] => return Ok(()),
        [one] => format!("{one} is not registered"),
        _ => format!("{} are not registered", missing.join(", ")),
    };
    Err(Failure::new(Exit::NotFound, message).advise("Nothing was created"))
}

/// The condition that these devices meet. An id holds no quote but `'`, which doubled stands for itself (query §2).
fn named(devices: &[DeviceId]) -> String {
    let ids: Vec<String> = devices.iter().map(|id| quoted(id.as_str())).collect();
    format!("deviceId IN [{}]", ids.join(", "))
}

/// A text as the query language writes it.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// An id that nobody has taken: the time, for people, and chance.
pub(super) fn fresh_id() -> Result<String> {
    let mut random = [0; 4];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| Failure::failed("this machine has no randomness for a job id; name one with --id"))?;
    let time: String =
        jiff::Timestamp::now().to_string().chars().take(19).filter(char::is_ascii_alphanumeric).collect();
    Ok(format!("job-{}-{:08x}", time.to_ascii_lowercase(), u32::from_be_bytes(random)))
}

fn print_dry_run(touched: &DryRun, out: &Out) -> Result {
    let count = touched.device_count;
    out.line(format_args!(
        "{} {} would be touched; nothing was created",
        out.paint(Tone::Bold, count),
        if count == 1 { "device" } else { "devices" }
    ))?;
    let mut shown = touched.sample.iter().take(SHOWN_SAMPLE).cloned().collect::<Vec<_>>();
    if count > shown.len() as u64 {
        shown.push(format!("and {} more", count - shown.len() as u64));
    }
    if !shown.is_empty() {
        out.line(shown.join(", "))?;
    }
    if touched.waves.len() < 2 {
        return Ok(());
    }
    let rows = touched.waves.iter().zip(1..).map(|(wave, number)| {
        let value = wave.value.clone().unwrap_or_default();
        vec![
            (format!("wave {number}"), Some(Tone::Dim)),
            (wave.device_count.to_string(), None),
            (value, None),
        ]
    });
    out.table(&[], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_become_a_condition() {
        let ids = [DeviceId::new("pump-7").unwrap(), DeviceId::new("it's").unwrap()];
        assert_eq!(named(&ids), "deviceId IN ['pump-7', 'it''s']");
    }

    #[test]
    fn made_up_ids_are_ids_of_jobs() {
        let id = fresh_id().unwrap();
        assert!(id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{id}");
        assert_ne!(id, fresh_id().unwrap());
    }
}
