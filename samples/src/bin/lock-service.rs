//! Locks many doors with two jobs: one tells each device where it hangs, one has it lock. The other side is
//! `lock-device`.

#![allow(clippy::print_stdout, reason = "a sample shows what it does")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{bail, Result};
use clap::Parser;
use ostler_service_sdk::{Client, JobStatus, JobWork, MethodCall, NewJob, TwinPatch};
use serde_json::json;

#[derive(Parser)]
#[command(about = "Locks the doors of all devices that meet a condition")]
struct Args {
    /// Which devices: what follows WHERE in a query over twins, such as "tags.building = 43" or "deviceId = 'door-1'"
    condition: String,

    /// Connection string of a policy that may connect as a service
    #[arg(long, env = "IOTHUB_CONNECTION_STRING", hide_env_values = true)]
    connection_string: String,

    /// How long a device that is offline is waited for, in seconds
    #[arg(long, default_value_t = 300)]
    patience: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let hub = Client::from_connection_string(&args.connection_string)?;

    let mut doors = hub.query(format!("SELECT * FROM devices WHERE {}", args.condition)).twins();
    while let Some(door) = doors.try_next().await? {
        println!(
            "{} is {}",
            door.device_id,
            door.connection_state.map_or("?".into(), |state| state.to_string())
        );
    }

    // An id of our own makes it harmless to send a job twice; the time makes it new in each run.
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let place = TwinPatch::desired(json!({ "building": 43, "floor": 3 }));
    let lock = MethodCall::new("lockDoor").with_response_timeout(Duration::from_secs(30));
    for (name, work) in [("place", JobWork::Twin(place)), ("lock", JobWork::Method(lock))] {
        let mut job = NewJob::new(format!("{name}-{run}"), work, &args.condition);
        job.max_execution = Duration::from_secs(args.patience);
        finish(&hub, &job).await?;
    }
    Ok(())
}

/// Creates a job, shows how it goes, and then what it did to each device.
async fn finish(hub: &Client, job: &NewJob) -> Result<()> {
    hub.create_job(job).await?;
    let mut news = hub.follow_job(&job.id);
    let mut last = None;
    while let Some(job) = news.try_next().await? {
        let counts = job.device_job_statistics.unwrap_or_default();
        println!("{}: {}, {} of {} done", job.job_id, job.status, counts.ended(), counts.device_count);
        last = Some(job);
    }
    let mut devices = hub.device_jobs(&job.id);
    while let Some(device) = devices.try_next().await? {
        let answer = device.outcome.and_then(|outcome| outcome.device_method_response);
        let answer = answer.map(|answer| format!(" with {}: {}", answer.status, answer.payload));
        let error = device.error.map(|error| format!(" because of {}", error.code));
        println!("  {} {}{}", device.device_id, device.status, answer.or(error).unwrap_or_default());
    }
    match last {
        Some(job) if job.status == JobStatus::Completed => Ok(()),
        other => bail!("the job did not complete: {:?}", other.and_then(|job| job.failure_reason)),
    }
}
