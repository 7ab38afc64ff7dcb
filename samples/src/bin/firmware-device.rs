//! A device whose firmware is updated from afar: signed packages, two slots, confirmation, rollback. The other side is
//! `firmware-service`.

#![allow(clippy::print_stdout, reason = "a sample shows what it does")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use ostler_device_sdk::firmware::{Exit, Updater};
use ostler_device_sdk::{Client, ConnectionStatus};

#[derive(Parser)]
#[command(about = "A device whose firmware is updated from afar")]
struct Args {
    /// File with the public key that packages must be signed with; `ostler firmware keygen` makes a pair
    #[arg(long)]
    key: PathBuf,

    /// The device's connection string
    #[arg(env = "IOTHUB_DEVICE_CONNECTION_STRING", hide_env_values = true)]
    connection_string: String,

    /// Where the two slots are
    #[arg(long, default_value = "firmware")]
    folder: PathBuf,

    /// What the device is; packages for other hardware are refused
    #[arg(long, default_value = "pump-a1")]
    hardware: String,

    /// The version that left the factory
    #[arg(long, default_value = "1.0.0")]
    version: String,

    /// How long each step takes at least, in seconds, so that somebody who looks now and then sees all of them
    #[arg(long, default_value_t = 15)]
    step_secs: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    // A real device boots when an update says so, and its program starts anew. This one plays that.
    while run_until_boot(&args).await? {}
    Ok(())
}

/// From one boot to the next. False when somebody has ended the program.
async fn run_until_boot(args: &Args) -> Result<bool> {
    let key = std::fs::read_to_string(&args.key).with_context(|| args.key.display().to_string())?;
    let updater = Updater::builder(&args.folder, &args.hardware, args.version.parse()?)
        .trust(key.parse()?)
        .step_time(Duration::from_secs(args.step_secs))
        .install(|update| async move {
            println!("Making slot {} ready with version {}", update.slot, update.target.version);
            Ok(())
        })
        .open()?;
    let progress = updater.progress();
    let version = progress.version.map_or_else(|| "?".to_owned(), |version| version.to_string());
    println!("Running version {version} from slot {}. Ctrl-C ends it.", progress.running);

    let device = Client::builder(args.connection_string.parse()?).build()?;
    tokio::spawn(tell_of_trouble(device.clone()));
    let exit = tokio::select! {
        exit = updater.run(&device) => Some(exit?),
        _ = tokio::signal::ctrl_c() => None,
    };
    device.close(Duration::from_secs(5)).await;
    match exit {
        Some(Exit::Boot(boot)) => {
            println!("Booting slot {}", boot.slot);
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// The client comes back by itself; this is for whoever looks at the terminal and wonders.
async fn tell_of_trouble(device: Client) {
    let mut changes = device.status_changes();
    while let Some(status) = changes.next().await {
        if let ConnectionStatus::Disconnected { cause, .. } = status {
            println!("Not connected: {cause}");
        }
    }
}
