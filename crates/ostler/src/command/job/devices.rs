//! `ostler job devices`: what became of each device of a job, by the query language.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use ostler_service_sdk::{Client, DeviceJob, DeviceJobStatus};

use super::create::quoted;
use super::details;
use crate::exit::Result;
use crate::output::{Out, Tone};
use crate::when;

/// Rows in one page.
const PAGE: u32 = 1000;

const STATUSES: [&str; 6] = ["pending", "scheduled", "running", "completed", "failed", "canceled"];

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ostler job devices reboot-1
  ostler job devices reboot-1 --status failed
  ostler job devices reboot-1 --status failed -q | wc -l

The same rows, and more ways to look at them, are in the collection `devices.jobs`:
  ostler query \"SELECT * FROM devices.jobs WHERE jobId = 'reboot-1' AND error.code = 'GatewayTimeout'\"")]
pub struct Args {
    #[arg(value_name = "JOB")]
    id: String,
    /// Only devices that stand there
    #[arg(long, value_name = "STATUS", ignore_case = true,
          value_parser = PossibleValuesParser::new(STATUSES).map(|word| DeviceJobStatus::from(word.as_str())))]
    status: Option<DeviceJobStatus>,
    /// Show this many devices at most
    #[arg(long, default_value_t = 1000, value_name = "N", conflicts_with = "all")]
    top: usize,
    /// Show all devices
    #[arg(long)]
    all: bool,
    /// Print the ids alone, one per line
    #[arg(long, short)]
    quiet: bool,
}

pub async fn run(hub: &Client, args: Args, out: &Out) -> Result {
    let mut text = format!("SELECT * FROM devices.jobs WHERE jobId = {}", quoted(&args.id));
    if let Some(status) = &args.status {
        text.push_str(&format!(" AND status = {}", quoted(status.as_str())));
    }
    let top = if args.all { usize::MAX } else { args.top };
    let mut stream = std::pin::pin!(hub.query(text).page_size(PAGE).rows::<DeviceJob>());
    let mut rows = Vec::new();
    let mut more = false;
    while let Some(row) = stream.try_next().await? {
        if rows.len() == top {
            more = true;
            break;
        }
        rows.push(row);
    }
    if rows.is_empty() {
        // A query does not tell a job without such devices from one that does not exist.
        details(hub, &args.id).await?;
    }
    if args.quiet {
        rows.iter().try_for_each(|row| out.line(&row.device_id))?;
    } else {
        out.show(&rows, |out| {
            let now = Timestamp::now();
            out.table(&["DEVICE", "STATUS", "RESULT", "UPDATED"], rows.iter().map(|row| cells(row, now)))
        })?;
    }
    if more {
        out.note(
            out.paint_note(Tone::Dim, format_args!("only the first {top}; --top N or --all shows more")),
        );
    }
    Ok(())
}

fn cells(row: &DeviceJob, now: Timestamp) -> Vec<(String, Option<Tone>)> {
    let tone = match row.status {
        DeviceJobStatus::Completed => Tone::Good,
        DeviceJobStatus::Failed => Tone::Bad,
        DeviceJobStatus::Canceled => Tone::Warn,
        DeviceJobStatus::Running => Tone::Accent,
        _ => Tone::Dim,
    };
    let updated = row.last_updated_date_time_utc.as_deref().map_or_else(String::new, |at| when::ago(at, now));
    vec![
        (row.device_id.clone(), Some(Tone::Bold)),
        (row.status.to_string(), Some(tone)),
        (result(row), None),
        (updated, Some(Tone::Dim)),
    ]
}

/// The device's answer, or why there is none.
fn result(row: &DeviceJob) -> String {
    if let Some(error) = &row.error {
        return format!("{}: {}", error.code, error.description);
    }
    let answer = row.outcome.as_ref().and_then(|outcome| outcome.device_method_response.as_ref());
    match answer {
        Some(answer) if answer.payload.is_null() => format!("status {}", answer.status),
        Some(answer) => format!("status {} {}", answer.status, answer.payload),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(row: &str, expected: &str) {
        assert_eq!(result(&serde_json::from_str(row).unwrap()), expected);
    }

    #[test]
    fn results_in_a_few_words() {
        check(r#"{"deviceId":"d","jobId":"j","status":"pending"}"#, "");
        check(
            r#"{"deviceId":"d","jobId":"j","status":"completed","outcome":{"deviceMethodResponse":{"status":200,"payload":{"a":1.0}}}}"#,
            r#"status 200 {"a":1.0}"#,
        );
        check(
            r#"{"deviceId":"d","jobId":"j","status":"completed","outcome":{"deviceMethodResponse":{"status":500,"payload":null}}}"#,
            "status 500",
        );
        check(
            r#"{"deviceId":"d","jobId":"j","status":"failed","outcome":{},"error":{"code":"GatewayTimeout","description":"too slow"}}"#,
            "GatewayTimeout: too slow",
        );
    }
}
