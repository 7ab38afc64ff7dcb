//! A door: it locks when the method `lockDoor` is called, and takes from its desired properties where it hangs. The other
//! side is `lock-service`.

#![allow(clippy::print_stdout, reason = "a sample shows what it does")]

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use ostler_device_sdk::{Client, ConnectionStatus, DesiredUpdate};
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

#[derive(Parser)]
#[command(about = "A door that is locked from afar")]
struct Args {
    /// The device's connection string
    #[arg(env = "IOTHUB_DEVICE_CONNECTION_STRING", hide_env_values = true)]
    connection_string: String,
}

/// Where the door hangs. A change names only what is new, so everything is optional.
#[derive(Deserialize, Serialize)]
struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    building: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<u32>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let device = Client::builder(args.connection_string.parse()?).build()?;
    tokio::spawn(tell_of_trouble(device.clone()));

    device.on_method("lockDoor", |_: Value| async {
        println!("Locking the door");
        Ok(json!({ "Response": "Door locked" }))
    });
    let mut wishes = device.desired();
    device.connect().await?;
    println!("Connected, and waiting for lockDoor and desired properties. Ctrl-C ends it.");

    loop {
        tokio::select! {
            Some(wish) = wishes.next() => take(&device, &wish).await?,
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    device.close(Duration::from_secs(5)).await;
    Ok(())
}

/// Does as the back end wishes, and reports what was done.
async fn take(device: &Client, wish: &DesiredUpdate) -> Result<()> {
    println!("Desired, version {}: {}", wish.version(), wish.as_json());
    match wish.to::<Place>() {
        Ok(place) => {
            device.report(&place).await?;
        }
        Err(error) => println!("Not understood: {error}"),
    }
    Ok(())
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
