//! `ostler device create`: one, several, a numbered series, or those of a file.

use std::path::PathBuf;

use ostler_service_sdk::{
    BulkEntry, BulkError, Client, Device, DeviceId, ImportMode, JsonObject, Status, TwinSections,
};
use serde_json::Value;

use super::transfer::{read_entries, send, Writing};
use super::{connection_string, SignIn, Slot};
use crate::exit::{Exit, Failure, Result};
use crate::input;
use crate::output::Out;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ids of the devices
    #[arg(value_name = "DEVICE", value_parser = input::device_id, required_unless_present_any = ["prefix", "from_file"])]
    ids: Vec<DeviceId>,

    /// Create a series: this and a number
    #[arg(long, value_name = "TEXT", requires = "count", conflicts_with_all = ["ids", "from_file"])]
    prefix: Option<String>,

    /// How many of the series
    #[arg(long, value_name = "N", requires = "prefix", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    count: Option<u64>,

    /// First number of the series
    #[arg(long, value_name = "N", requires = "prefix", default_value_t = 1)]
    start: u64,

    /// Create the devices of a file: JSON lines as `device export` writes them, or CSV; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "ids")]
    from_file: Option<PathBuf>,

    /// Create them disabled
    #[arg(long)]
    disabled: bool,

    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Tag of the new twin, may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = input::pair)]
    tags: Vec<(String, Value)>,

    /// Desired property of the new twin, may be repeated
    #[arg(long = "desired", value_name = "KEY=VALUE", value_parser = input::pair)]
    desired: Vec<(String, Value)>,

    #[command(flatten)]
    sign_in: SignIn,
}

pub async fn run(hub: &Client, args: Args, out: &Out) -> Result {
    if let Some(path) = &args.from_file {
        let entries = read_entries(path, &ImportMode::Create)?;
        return send(hub, entries, Writing { total: None, verb: "created" }, out).await;
    }
    if let [id] = args.ids.as_slice() {
        return one(hub, id, &args, out).await;
    }
    if args.sign_in.key.is_some() || args.sign_in.x509_thumbprint.is_some() {
        return Err(Failure::usage("a key or thumbprint belongs to one device")
            .advise("Create the devices one by one, or put the keys into a file for --from-file"));
    }
    let template = template(&args)?;
    let named = |id: &str| {
        let mut entry = template.clone();
        id.clone_into(&mut entry.id);
        Ok(entry)
    };
    match (&args.prefix, args.count) {
        (Some(prefix), Some(count)) => {
            let last = args.start.saturating_add(count - 1);
            let width = last.to_string().len();
            // The longest id shows whether all are legal.
            DeviceId::new(&format!("{prefix}{last}")).map_err(|error| Failure::usage(error.to_string()))?;
            let series = (args.start..=last).map(|number| named(&format!("{prefix}{number:0width$}")));
            send(hub, series, Writing { total: Some(count), verb: "created" }, out).await
        }
        _ => {
            let total = Some(args.ids.len() as u64);
            let entries = args.ids.iter().map(|id| named(id.as_str()));
            send(hub, entries, Writing { total, verb: "created" }, out).await
        }
    }
}

/// One device gets its connection string printed. With tags or properties it is written in one go with them, so that no
/// half-made device stays behind when they are refused.
async fn one(hub: &Client, id: &DeviceId, args: &Args, out: &Out) -> Result {
    let device = if args.tags.is_empty() && args.desired.is_empty() {
        let mut device = Device::new(id.as_str());
        device.status = Some(status(args));
        device.status_reason.clone_from(&args.reason);
        device.authentication = args.sign_in.authentication();
        hub.create_device(&device).await?
    } else {
        let mut entry = template(args)?;
        id.as_str().clone_into(&mut entry.id);
        if let Some(error) = hub.bulk(&[entry]).await?.errors.pop() {
            return Err(refusal(error));
        }
        hub.device(id).await?
    };
    out.show(&device, |out| {
        out.note(format_args!("created {id}; this is what the device connects with:"));
        let authentication = device.authentication.as_ref();
        out.line(connection_string(hub.hostname(), &id.into(), authentication, Slot::Primary)?)
    })
}

/// An entry's error as the error of the command.
fn refusal(error: BulkError) -> Failure {
    let exit = match error.error_code.as_str() {
        "DeviceAlreadyExists" => Exit::Conflict,
        _ => Exit::Failed,
    };
    let text = error.error_status.unwrap_or_default();
    Failure::Told { exit, message: text, advice: None, code: Some(error.error_code) }
}

fn template(args: &Args) -> Result<BulkEntry> {
    let mut entry = BulkEntry::new(ImportMode::Create, "");
    entry.status = Some(status(args));
    entry.status_reason.clone_from(&args.reason);
    entry.authentication = args.sign_in.authentication();
    entry.tags = section(&args.tags)?;
    entry.properties =
        section(&args.desired)?.map(|desired| TwinSections { desired: Some(desired), reported: None });
    Ok(entry)
}

fn status(args: &Args) -> Status {
    if args.disabled {
        Status::Disabled
    } else {
        Status::Enabled
    }
}

fn section(pairs: &[(String, Value)]) -> Result<Option<JsonObject>> {
    if pairs.is_empty() {
        return Ok(None);
    }
    input::object(pairs).map(Some)
}
