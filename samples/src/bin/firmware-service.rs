//! Has a device update its firmware and follows the update in the device's twin. The other side is `firmware-device`.

#![allow(clippy::print_stdout, reason = "a sample shows what it does")]

use std::time::Duration;

use anyhow::{bail, Result};
use clap::Parser;
use ostler_service_sdk::{Client, EntityId, MethodCall};
use serde::Deserialize;
use serde_json::{json, Value};

#[derive(Parser)]
#[command(about = "Has a device update its firmware and follows the update")]
struct Args {
    /// The device to update
    device: String,

    /// Where the package is to be had; `ostler firmware serve` prints addresses
    package: String,

    /// Connection string of a policy that may connect as a service
    #[arg(long, env = "IOTHUB_CONNECTION_STRING", hide_env_values = true)]
    connection_string: String,

    /// How long to wait between two looks at the twin, in milliseconds
    #[arg(long, default_value_t = 500)]
    poll_ms: u64,
}

/// The part of the reported properties that this program reads.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reported {
    /// `standBy`, `downloading`, `applying`, `completed`, or how it ended otherwise.
    firmware_status: Option<String>,
    /// When the status was reported.
    log_time: Option<String>,
    /// The update with all its details.
    firmware: Value,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let hub = Client::from_connection_string(&args.connection_string)?;
    let device: EntityId = args.device.parse()?;
    let before: Reported = hub.twin(&device).await?.reported_as()?;
    println!("{}", before.firmware_status.as_deref().unwrap_or("unknown"));

    let call = MethodCall::new("firmwareUpdate")
        .with_payload(json!({ "fwPackageUri": args.package }))
        .with_connect_timeout(Duration::from_secs(30))
        .with_response_timeout(Duration::from_secs(60));
    let answer = hub.invoke(&device, &call).await?;
    println!("Answered with {}: {}", answer.status, answer.payload);
    if answer.status != 200 {
        bail!("{device} does not take the update");
    }
    if answer.payload["status"] == "installed" {
        return Ok(());
    }

    let mut shown = before;
    loop {
        tokio::time::sleep(Duration::from_millis(args.poll_ms)).await;
        let reported: Reported = hub.twin(&device).await?.reported_as()?;
        if reported.log_time == shown.log_time {
            continue;
        }
        let status = reported.firmware_status.as_deref().unwrap_or("unknown");
        if shown.firmware_status.as_deref() != Some(status) {
            println!("{status}");
        }
        match status {
            "completed" => return Ok(()),
            "standBy" | "downloading" | "applying" => shown = reported,
            ended => bail!("the update ended with {ended}: {}", reported.firmware["error"]),
        }
    }
}
