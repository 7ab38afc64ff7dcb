//! Has a device update its firmware and follows the update in the device's twin. The other side is `firmware-device`.

#![allow(clippy::print_stdout, reason = "a sample shows what it does")]

use std::time::Duration;

use anyhow::{bail, Result};
use clap::Parser;
use ostler_service_sdk::{Client, EntityId, MethodCall};
use serde::Deserialize;
use serde_json::json;

#[derive(Parser)]
#[command(about = "Has a device update its firmware and follows the update")]
struct Args {
    /// The device to update
    device: String,

    /// Where the package is to be had, as `ostler firmware serve` prints it
    package: String,

    /// Connection string of a policy that may connect as a service
    #[arg(long, env = "IOTHUB_CONNECTION_STRING", hide_env_values = true)]
    connection_string: String,

    /// How long to wait between two looks at the twin, in milliseconds
    #[arg(long, default_value_t = 500)]
    poll_ms: u64,
}

/// The part of the reported properties that this program reads.
#[derive(Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Reported {
    /// `standBy`, `downloading`, `applying`, `completed`, or how it ended otherwise.
    firmware_status: Option<String>,
    /// The same update with all its details.
    firmware: serde_json::Value,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let hub = Client::from_connection_string(&args.connection_string)?;
    let device: EntityId = args.device.parse()?;

    let call = MethodCall::new("firmwareUpdate")
        .with_payload(json!({ "fwPackageUri": args.package }))
        .with_response_timeout(Duration::from_secs(60));
    let answer = hub.invoke(&device, &call).await?;
    println!("Answered with {}: {}", answer.status, answer.payload);
    if answer.status >= 300 {
        bail!("{device} does not take the update");
    }

    let mut shown = None;
    loop {
        let reported: Reported = hub.twin(&device).await?.reported_as()?;
        if reported.firmware_status != shown {
            println!("{}", reported.firmware_status.as_deref().unwrap_or("nothing reported yet"));
        }
        match reported.firmware_status.as_deref() {
            // What was reported before this update began is no news.
            Some("completed") if shown.is_some() => return Ok(()),
            Some("standBy" | "downloading" | "applying" | "completed") | None => {}
            Some(ended) => bail!("the update ended with {ended}: {}", reported.firmware),
        }
        shown = reported.firmware_status;
        tokio::time::sleep(Duration::from_millis(args.poll_ms)).await;
    }
}
