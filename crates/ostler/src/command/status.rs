//! `ostler status`: how the hub is doing.

use serde_json::{json, Value};

use crate::exit::Result;
use crate::hub::HubOptions;
use crate::output::{printable, Out, Tone};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    hub: HubOptions,
}

pub async fn run(args: Args, out: &Out) -> Result {
    let hub = args.hub.client()?;
    let status = hub.status().await?;
    let devices = hub.device_statistics().await?;
    let connected = hub.service_statistics().await?;
    let document = json!({ "hub": status, "devices": devices, "connections": connected });
    out.show(&document, |out| {
        out.line(format_args!("{} at {}", out.paint(Tone::Bold, hub.hostname()), hub.authority()))?;
        out.line(format_args!(
            "{} devices: {} connected, {} enabled, {} disabled",
            devices.total_device_count,
            out.paint(Tone::Good, connected.connected_device_count),
            devices.enabled_device_count,
            devices.disabled_device_count
        ))?;
        let rows = status.members.iter().map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            vec![(name.clone(), Some(Tone::Dim)), (printable(&text), None)]
        });
        out.table(&[], rows)
    })
}
