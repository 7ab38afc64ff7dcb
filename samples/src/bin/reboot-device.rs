//! A device that can be rebooted from afar: it answers the method `rebootDevice` and reports when it did. The other side
//! is `reboot-service`.

#![allow(clippy::print_stdout, reason = "a sample shows what it does")]

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use ostler_device_sdk::{Client, ConnectionStatus, MethodError};
use serde_json::{json, Value};

#[derive(Parser)]
#[command(about = "A device that can be rebooted from afar")]
struct Args {
    /// The device's connection string
    #[arg(env = "IOTHUB_DEVICE_CONNECTION_STRING", hide_env_values = true)]
    connection_string: String,

    /// How long a reboot takes, in seconds
    #[arg(long, default_value_t = 20)]
    reboot_secs: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let device = Client::builder(args.connection_string.parse()?).build()?;
    tokio::spawn(tell_of_trouble(device.clone()));

    let duration = Duration::from_secs(args.reboot_secs);
    let handle = device.clone();
    device.on_method("rebootDevice", move |_: Value| reboot(handle.clone(), duration));

    device.connect().await?;
    println!("Connected, and waiting for rebootDevice. Ctrl-C ends it.");
    tokio::signal::ctrl_c().await?;
    device.close(Duration::from_secs(5)).await;
    Ok(())
}

/// Plays a reboot. The caller gets the answer when it is over, so it must be willing to wait that long.
async fn reboot(device: Client, duration: Duration) -> Result<Value, MethodError> {
    println!("Rebooting");
    tokio::time::sleep(duration).await;
    let time = jiff::Timestamp::now().to_string();
    println!("Rebooted at {time}");
    device
        .report(&json!({ "rebootTime": time }))
        .await
        .map_err(|error| MethodError::new(500, format!("rebooted, but could not report it: {error}")))?;
    Ok(json!({ "Response": "This is the response from the device" }))
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
