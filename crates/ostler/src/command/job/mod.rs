//! `ostler job`: one piece of work for many devices, now or later.
//!
//! Must not know: how the hub goes through the devices.
//!
//! Invariant: a command that waits for a job's end succeeds only if the job completed and no device failed.

mod answers;
mod create;
mod devices;
mod list;
mod rollout;
mod watch;

use clap::Subcommand;
use ostler_service_sdk::{Client, Job, JobStatus};

use self::watch::Follow;
use crate::exit::Result;
use crate::hub::HubOptions;
use crate::output::{Out, Tone};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    hub: HubOptions,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a job: call a method of many devices, or write many twins
    Create(Box<create::Args>),
    /// List jobs, in the order of their ids
    List(list::List),
    /// Show how a job stands
    Show(list::Show),
    /// Show what became of each device of a job
    Devices(devices::Args),
    /// Follow a job to its end
    Watch(watch::Args),
    /// Call a job off; devices that were begun are finished
    Cancel(Named),
    /// Hold a job: no further device is begun
    Pause(Named),
    /// Let a job that is held go on
    Resume(Named),
    /// Create a job for the devices on which an ended job failed
    Retry(Retry),
}

#[derive(Debug, clap::Args)]
struct Named {
    #[arg(value_name = "JOB")]
    id: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ostler job retry reboot-1
  ostler job retry reboot-1 --id reboot-2 --watch

The new job does the same work, in the same way, and starts at once.")]
struct Retry {
    /// The job that ended
    #[arg(value_name = "JOB")]
    id: String,
    /// Id of the new job; made up if not given
    #[arg(long = "id", value_name = "NEW")]
    new: Option<String>,
    #[command(flatten)]
    follow: Follow,
}

pub async fn run(args: Args, out: &Out) -> Result {
    let hub = args.hub.client()?;
    match args.action {
        Action::Create(args) => create::run(&hub, *args, out).await,
        Action::List(args) => list::list(&hub, args, out).await,
        Action::Show(args) => list::show(&hub, args, out).await,
        Action::Devices(args) => devices::run(&hub, args, out).await,
        Action::Watch(args) => watch::run(&hub, args, out).await,
        Action::Cancel(args) => told(&hub.cancel_job(&args.id).await?, out),
        Action::Pause(args) => told(&hub.pause_job(&args.id).await?, out),
        Action::Resume(args) => told(&hub.resume_job(&args.id).await?, out),
        Action::Retry(args) => {
            let new = args.new.map_or_else(create::fresh_id, Ok)?;
            let job = hub.retry_job(&args.id, &new).await?;
            watch::follow_new(&hub, job, args.follow, out).await
        }
    }
}

/// The id of a job and where it stands.
fn told(job: &Job, out: &Out) -> Result {
    out.show(job, |out| {
        out.line(format_args!("{}  {}", out.paint(Tone::Bold, &job.job_id), painted(&job.status, out)))
    })
}

fn painted(status: &JobStatus, out: &Out) -> String {
    out.paint(tone(status), status)
}

fn tone(status: &JobStatus) -> Tone {
    match status {
        JobStatus::Completed => Tone::Good,
        JobStatus::Failed => Tone::Bad,
        JobStatus::Cancelled | JobStatus::Paused => Tone::Warn,
        JobStatus::Running => Tone::Accent,
        _ => Tone::Dim,
    }
}

/// A job with all that the hub tells; a hub without Ostler's own routes is asked the way Azure is.
async fn details(hub: &Client, id: &str) -> Result<Job> {
    match hub.job_details(id).await {
        Err(error) if error.is_unknown_route() => Ok(hub.job(id).await?),
        answer => Ok(answer?),
    }
}
