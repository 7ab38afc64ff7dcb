//! Reboots a device from afar and waits until it says that it is back. The other side is `reboot-device`.

#![allow(clippy::print_stdout, reason = "a sample shows what it does")]

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use ostler_service_sdk::{Client, EntityId, MethodCall};
use serde::Deserialize;

#[derive(Parser)]
#[command(about = "Reboots a device from afar and waits until it is back")]
struct Args {
    /// The device to reboot
    device: String,

    /// Connection string of a policy that may connect as a service
    #[arg(long, env = "IOTHUB_CONNECTION_STRING", hide_env_values = true)]
    connection_string: String,
}

/// The part of the reported properties that this program reads.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reported {
    reboot_time: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let hub = Client::from_connection_string(&args.connection_string)?;
    let device: EntityId = args.device.parse()?;
    let before = reboot_time(&hub, &device).await?;

    // The device reboots before it answers, which takes it 20 s; the hub waits for three times as long.
    println!("Calling rebootDevice on {device}");
    let call = MethodCall::new("rebootDevice").with_response_timeout(Duration::from_secs(60));
    let answer = hub.invoke(&device, &call).await?;
    println!("Answered with {}: {}", answer.status, answer.payload);

    loop {
        let now = reboot_time(&hub, &device).await?;
        if now != before {
            println!("Last rebooted at {}", now.unwrap_or_default());
            return Ok(());
        }
        println!("Waiting for the device to report rebootTime");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn reboot_time(hub: &Client, device: &EntityId) -> Result<Option<String>> {
    Ok(hub.twin(device).await?.reported_as::<Reported>()?.reboot_time)
}
