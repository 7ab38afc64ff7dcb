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
        let count = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        out.line(format_args!(
            "{}: {} connected, {} enabled, {} disabled",
            count(devices.total_device_count, "device"),
            out.paint(Tone::Good, connected.connected_device_count),
            devices.enabled_device_count,
            devices.disabled_device_count
        ))?;
        let mut rows = Vec::new();
        flatten("", &Value::Object(status.members.clone()), &mut rows);
        let rows = rows.into_iter().map(|(name, text)| vec![(name, Some(Tone::Dim)), (text, None)]);
        out.table(&[], rows)
    })
}

/// Members of members get a name with dots; what is null has nothing to tell.
fn flatten(prefix: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (name, value) in members {
                let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&name, value, rows);
            }
        }
        Value::String(text) => rows.push((prefix.to_owned(), printable(text))),
        other => rows.push((prefix.to_owned(), printable(&other.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_members_get_dotted_names() {
        let mut rows = Vec::new();
        flatten("", &json!({ "a": 1, "b": { "c": "x", "d": null } }), &mut rows);
        assert_eq!(rows, [("a".to_owned(), "1".to_owned()), ("b.c".to_owned(), "x".to_owned())]);
    }
}
