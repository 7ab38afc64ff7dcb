//! `ostler job list` and `show`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use ostler_service_sdk::{Client, Job, JobFilter, JobStatus, JobType};
use serde_json::Value;

use super::rollout::flags;
use super::{answers, details, painted, tone};
use crate::command::query::mistake;
use crate::exit::Result;
use crate::output::{printable, Out, Tone};
use crate::when;

/// Jobs in one page of a list.
const PAGE: u32 = 200;
/// Causes of failures that are shown.
const SHOWN_CAUSES: usize = 8;

const STATUSES: [&str; 8] =
    ["enqueued", "queued", "scheduled", "running", "paused", "completed", "failed", "cancelled"];

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ostler job list
  ostler job list --status running
  ostler job list --type method --top 20 -o json")]
pub struct List {
    /// Only jobs that stand there
    #[arg(long, value_name = "STATUS", ignore_case = true,
          value_parser = PossibleValuesParser::new(STATUSES).map(|word| JobStatus::from(word.as_str())))]
    status: Option<JobStatus>,
    /// Only this kind of work
    #[arg(long = "type", value_name = "TYPE",
          value_parser = PossibleValuesParser::new(["method", "twin"]).map(|word| kind(&word)))]
    kind: Option<JobType>,
    /// Show this many jobs at most
    #[arg(long, default_value_t = 1000, value_name = "N")]
    top: usize,
    /// Print the ids alone, one per line
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, clap::Args)]
pub struct Show {
    #[arg(value_name = "JOB")]
    id: String,
}

fn kind(word: &str) -> JobType {
    if word == "method" {
        JobType::Method
    } else {
        JobType::Twin
    }
}

pub async fn list(hub: &Client, args: List, out: &Out) -> Result {
    let filter = JobFilter { kind: args.kind, status: args.status };
    let (jobs, more) = fetch(hub, filter, args.top).await?;
    if args.quiet {
        return jobs.iter().try_for_each(|job| out.line(&job.job_id));
    }
    out.show(&jobs, |out| {
        let now = Timestamp::now();
        let header = ["JOB", "WORK", "STATUS", "DEVICES", "SUCCEEDED", "FAILED", "STARTS"];
        out.table(&header, jobs.iter().map(|job| row(job, now)))
    })?;
    if more {
        out.note(out.paint_note(Tone::Dim, format_args!("only the first {}; --top N shows more", args.top)));
    }
    Ok(())
}

async fn fetch(hub: &Client, filter: JobFilter, top: usize) -> Result<(Vec<Job>, bool)> {
    let mut jobs = Vec::new();
    let mut continuation = None;
    loop {
        let page = match hub.jobs_details(&filter, PAGE, continuation.as_deref()).await {
            Err(error) if jobs.is_empty() && error.is_unknown_route() => {
                let all = hub.all_jobs(filter).take(top.saturating_add(1));
                jobs = all.try_collect().await?;
                break;
            }
            page => page?,
        };
        jobs.extend(page.jobs);
        continuation = page.continuation;
        if continuation.is_none() || jobs.len() > top {
            break;
        }
    }
    let more = continuation.is_some() || jobs.len() > top;
    jobs.truncate(top);
    Ok((jobs, more))
}

fn row(job: &Job, now: Timestamp) -> Vec<(String, Option<Tone>)> {
    let counts = job.device_job_statistics.unwrap_or_default();
    let known = |count: u64| job.device_job_statistics.map_or_else(|| "–".to_owned(), |_| count.to_string());
    let start = job.start_time.as_deref().map_or_else(String::new, |time| when::ago_or_in(time, now));
    vec![
        (job.job_id.clone(), Some(Tone::Bold)),
        (work(job), None),
        (job.status.to_string(), Some(tone(&job.status))),
        (known(counts.device_count), None),
        (known(counts.succeeded_count), None),
        (known(counts.failed_count), (counts.failed_count > 0).then_some(Tone::Bad)),
        (start, Some(Tone::Dim)),
    ]
}

/// What a job does, in two words.
fn work(job: &Job) -> String {
    match &job.kind {
        JobType::Method => {
            let name = job.cloud_to_device_method.as_ref().and_then(|call| call.get("methodName"));
            format!("method {}", name.and_then(Value::as_str).unwrap_or_default())
        }
        JobType::Twin => "twin".to_owned(),
        other => other.to_string(),
    }
}

pub async fn show(hub: &Client, args: Show, out: &Out) -> Result {
    let job = details(hub, &args.id).await?;
    print_or_json(hub, &job, out).await
}

/// A job's end or state, with its devices' answers for people.
pub async fn print_or_json(hub: &Client, job: &Job, out: &Out) -> Result {
    if out.is_json() {
        return out.json(job);
    }
    print(job, answers::of(hub, job).await, out)
}

/// A job with all that is known of it.
fn print(job: &Job, answers: Option<String>, out: &Out) -> Result {
    let now = Timestamp::now();
    let time = |text: &Option<String>| {
        text.as_deref().map(|text| format!("{text}  ({})", when::ago_or_in(text, now)))
    };
    out.line(format_args!(
        "{}  {}  {}",
        out.paint(Tone::Bold, &job.job_id),
        painted(&job.status, out),
        printable(&work(job))
    ))?;
    let text = |value: &Value| serde_json::to_string(value).unwrap_or_default();
    let payload = job.cloud_to_device_method.as_ref().and_then(|call| call.get("payload"));
    let rollout = job.rollout.as_ref().map(flags).filter(|flags| !flags.is_empty());
    let pairs = [
        ("condition", job.query_condition.clone()),
        ("payload", payload.filter(|payload| !payload.is_null()).map(text)),
        ("patch", job.update_twin.clone().map(patch).as_ref().map(text)),
        ("created", time(&job.created_time)),
        ("start", time(&job.start_time)),
        ("end", time(&job.end_time)),
        ("time limit", job.max_execution_time_in_seconds.map(|secs| format!("{secs} s"))),
        ("devices", job.device_job_statistics.map(|_| counts(job))),
        ("answers", answers),
        ("wave", wave(job)),
        ("failures", (!job.failures_by_cause.is_empty()).then(|| causes(job))),
        ("retries", job.parent_job_id.as_ref().map(|parent| format!("the failed devices of {parent}"))),
        ("rollout", rollout),
        ("reason", job.failure_reason.clone()),
        ("message", job.status_message.clone()),
    ];
    out.pairs(pairs.into_iter().filter_map(|(name, value)| Some((name, value?))))?;
    if let (Some(reason), Some(condition)) = (&job.failure_reason, &job.query_condition) {
        mistake::point_at(reason, &mistake::query_of(condition), out);
    }
    Ok(())
}

/// What is written, without the etag that the service wants to see in every job (service §10.2).
fn patch(mut twin: Value) -> Value {
    if let Some(members) = twin.as_object_mut() {
        members.retain(|name, _| name != "etag");
    }
    twin
}

/// `1000: 900 succeeded, 2 failed, 98 running`.
pub fn counts(job: &Job) -> String {
    let counts = job.device_job_statistics.unwrap_or_default();
    let parts = [
        (counts.succeeded_count, "succeeded"),
        (counts.failed_count, "failed"),
        (counts.cancelled_count.unwrap_or(0), "called off"),
        (counts.running_count, "running"),
        (counts.pending_count, "pending"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    match parts.is_empty() {
        true => counts.device_count.to_string(),
        false => format!("{}: {}", counts.device_count, parts.join(", ")),
    }
}

/// `2 of 4`, unless there is but one.
pub fn wave(job: &Job) -> Option<String> {
    let wave = job.wave.as_ref().filter(|wave| wave.count > 1)?;
    let value = wave.value.as_deref().map_or_else(String::new, |value| format!(" ({})", printable(value)));
    let soaks = wave
        .soak_until
        .as_deref()
        .map_or_else(String::new, |until| format!(" begins {}", when::ago_or_in(until, Timestamp::now())));
    Some(format!("{} of {}{value}{soaks}", wave.number, wave.count))
}

/// `DeviceNotOnline 3, GatewayTimeout 1`, the most frequent first.
pub fn causes(job: &Job) -> String {
    let mut causes: Vec<_> = job.failures_by_cause.iter().collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut parts: Vec<String> = causes
        .iter()
        .take(SHOWN_CAUSES)
        .map(|(cause, count)| format!("{} {count}", printable(cause)))
        .collect();
    if causes.len() > SHOWN_CAUSES {
        parts.push(format!("and {} other causes", causes.len() - SHOWN_CAUSES));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_is_what_was_asked_for() {
        let sent = json!({ "etag": "*", "tags": null, "properties": { "desired": { "a": 1 } } });
        assert_eq!(patch(sent), json!({ "tags": null, "properties": { "desired": { "a": 1 } } }));
    }
}
