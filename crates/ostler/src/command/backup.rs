//! `ostler backup`: a consistent copy of the hub's data while it serves.

use std::path::PathBuf;
use std::time::Duration;

use crate::exit::{Failure, Result};
use crate::hub::{HubOptions, Target};
use crate::output::Out;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The copy is a data folder of its own: `ostler serve --data FOLDER` serves from it. It holds every key of the hub, so
keep it as safe as the hub itself.")]
pub struct Args {
    /// Folder to make, on the hub's own machine; must not exist or be empty
    #[arg(value_name = "FOLDER")]
    path: PathBuf,
    /// Give up after this long
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
    #[command(flatten)]
    hub: HubOptions,
}

pub async fn run(args: Args, out: &Out) -> Result {
    let path = match args.hub.target()? {
        // The hub resolves a relative path from its own working folder, which nobody here means.
        Target::Local { .. } => {
            std::path::absolute(&args.path).map_err(|error| Failure::file(&args.path, &error))?
        }
        Target::Remote { .. } if args.path.is_relative() => {
            return Err(Failure::usage("the folder is on the hub's machine: name it with an absolute path"))
        }
        Target::Remote { .. } => args.path,
    };
    let Some(path) = path.to_str() else { return Err(Failure::usage("the folder's name is not UTF-8")) };
    let report = args.hub.client()?.backup(path, Duration::from_secs(args.timeout)).await?;
    out.show(&report, |out| out.line(format_args!("backed up {} records to {}", report.records, report.path)))
}
