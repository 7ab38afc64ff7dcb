//! `ostler device`: the registry of devices.

mod create;
mod csv;
mod transfer;

use clap::Subcommand;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use ostler_service_sdk::{Client, Device, DeviceId, EntityId, IfMatch, Status};

use super::identity::{connection_string, secrets, sign_in_name, Rotation, SignIn, Slot};
use crate::exit::Result;
use crate::hub::HubOptions;
use crate::input;
use crate::output::{delete_each, some_failed, Out, Tone};
use crate::when;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    hub: HubOptions,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create devices: one, several, a numbered series, or those of a file
    Create(create::Args),
    /// List devices
    List(List),
    /// Show a device
    Show(Show),
    /// Change how a device signs in, its status or its reason
    Update(Update),
    /// Let devices sign in
    Enable(Switch),
    /// Keep devices from signing in; live connections are dropped
    Disable(Switch),
    /// Delete devices with their modules and twins
    Delete(Delete),
    /// Print the connection string of a device
    ConnectionString(Connection),
    /// Make new keys for a device; its live connection is dropped
    #[command(visible_alias = "regenerate-key")]
    RotateKey(Rotate),
    /// Write all devices to a file, one JSON document per line
    Export(transfer::Export),
    /// Create, change or delete the devices of a file, as `export` writes it, or CSV
    Import(transfer::Import),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Look at this many devices, in the order of their ids
    #[arg(long, default_value_t = 1000, value_name = "N", conflicts_with = "all")]
    top: usize,
    /// Look at all devices
    #[arg(long)]
    all: bool,
    /// Only those that are connected now
    #[arg(long)]
    connected: bool,
    /// Only those with this status
    #[arg(long, value_name = "STATUS", value_parser = ["enabled", "disabled"])]
    status: Option<String>,
    /// Print the ids alone, one per line
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, clap::Args)]
struct Show {
    #[arg(value_name = "DEVICE", value_parser = input::device_id)]
    id: DeviceId,
    /// Show the keys too
    #[arg(long)]
    show_keys: bool,
}

#[derive(Debug, clap::Args)]
struct Update {
    #[arg(value_name = "DEVICE", value_parser = input::device_id)]
    id: DeviceId,
    /// Whether it may sign in
    #[arg(long, value_name = "STATUS", value_parser = ["enabled", "disabled"])]
    status: Option<String>,
    /// Why, for people; an empty text removes it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Change it only if its etag is still this one; without it, the one read just before counts
    #[arg(long)]
    etag: Option<String>,
    #[command(flatten)]
    sign_in: SignIn,
}

#[derive(Debug, clap::Args)]
struct Switch {
    #[arg(value_name = "DEVICE", required = true, value_parser = input::device_id)]
    ids: Vec<DeviceId>,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Delete {
    #[arg(value_name = "DEVICE", required = true, value_parser = input::device_id)]
    ids: Vec<DeviceId>,
    /// Delete it only if its etag is still this one
    #[arg(long)]
    etag: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Connection {
    #[arg(value_name = "DEVICE", value_parser = input::device_id)]
    id: DeviceId,
    /// Which key
    #[arg(long, value_enum, default_value_t)]
    key: Slot,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    #[arg(value_name = "DEVICE", value_parser = input::device_id)]
    id: DeviceId,
    /// What to rotate
    #[arg(long, value_enum)]
    key: Rotation,
}

pub async fn run(args: Args, out: &Out) -> Result {
    let hub = args.hub.client()?;
    match args.action {
        Action::Create(args) => create::run(&hub, args, out).await,
        Action::List(args) => list(&hub, args, out).await,
        Action::Show(args) => {
            let device = hub.device(&args.id).await?;
            out.show(&device, |out| show(&device, args.show_keys, out))
        }
        Action::Update(args) => update(&hub, args, out).await,
        Action::Enable(args) => switch(&hub, args, Status::Enabled, out).await,
        Action::Disable(args) => switch(&hub, args, Status::Disabled, out).await,
        Action::Delete(args) => delete(&hub, args, out).await,
        Action::ConnectionString(args) => {
            let device = hub.device(&args.id).await?;
            let id = EntityId::from(&args.id);
            let text = connection_string(hub.hostname(), &id, device.authentication.as_ref(), args.key)?;
            out.show(&serde_json::json!({ "connectionString": text }), |out| out.line(&text))
        }
        Action::RotateKey(args) => rotate(&hub, args, out).await,
        Action::Export(args) => transfer::export(&hub, args, out).await,
        Action::Import(args) => transfer::import(&hub, args, out).await,
    }
}

async fn list(hub: &Client, args: List, out: &Out) -> Result {
    let top = if args.all { usize::MAX } else { args.top };
    let mut devices: Vec<Device> = if top <= 1000 {
        hub.devices(u32::try_from(top).unwrap_or(1000)).await?
    } else {
        hub.all_devices().take(top).try_collect().await?
    };
    let looked_at = devices.len();
    devices.retain(|device| {
        let connected = device.connection_state == Some(ostler_service_sdk::ConnectionState::Connected);
        let status = device.status.as_ref().map(Status::as_str);
        (connected || !args.connected) && args.status.as_deref().is_none_or(|wanted| status == Some(wanted))
    });
    if args.quiet && !out.is_json() {
        devices.iter().try_for_each(|device| out.line(&device.device_id))?;
    } else {
        out.show(&devices, |out| table(&devices, out))?;
    }
    if looked_at == top {
        let total = hub.device_statistics().await?.total_device_count;
        if total > looked_at as u64 {
            out.warn(format_args!("looked at {looked_at} of {total} devices; --all looks at all"));
        }
    }
    Ok(())
}

fn table(devices: &[Device], out: &Out) -> Result {
    if devices.is_empty() {
        out.note("no devices; `ostler device create ID` makes one");
        return Ok(());
    }
    let now = Timestamp::now();
    out.table(
        &["DEVICE", "STATUS", "CONNECTION", "SIGN-IN", "LAST ACTIVITY"],
        devices.iter().map(|device| {
            let status = status_cell(device);
            let connected = device.connection_state == Some(ostler_service_sdk::ConnectionState::Connected);
            let connection =
                device.connection_state.as_ref().map_or_else(|| "–".to_owned(), |s| s.to_string());
            vec![
                (device.device_id.clone(), None),
                status,
                (connection.to_lowercase(), Some(if connected { Tone::Good } else { Tone::Dim })),
                (sign_in_name(device.authentication.as_ref()), None),
                (
                    device.last_activity_time.as_deref().map_or("–".to_owned(), |t| when::ago(t, now)),
                    Some(Tone::Dim),
                ),
            ]
        }),
    )
}

fn status_cell(device: &Device) -> (String, Option<Tone>) {
    match &device.status {
        Some(Status::Enabled) => ("enabled".to_owned(), None),
        Some(other) => (other.to_string(), Some(Tone::Bad)),
        None => ("–".to_owned(), None),
    }
}

fn show(device: &Device, show_keys: bool, out: &Out) -> Result {
    let now = Timestamp::now();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let time = |value: &Option<String>| {
        value.as_deref().map_or_else(String::new, |time| match when::ago(time, now) {
            ago if ago == "never" => ago,
            ago => format!("{time}  ({ago})"),
        })
    };
    let mut pairs = vec![
        ("device", device.device_id.clone()),
        ("status", device.status.as_ref().map_or_else(String::new, ToString::to_string)),
        ("reason", text(&device.status_reason)),
        (
            "connection",
            device
                .connection_state
                .as_ref()
                .map_or_else(String::new, |state| state.to_string().to_lowercase()),
        ),
        ("since", time(&device.connection_state_updated_time)),
        ("last activity", time(&device.last_activity_time)),
        ("sign-in", sign_in_name(device.authentication.as_ref())),
    ];
    pairs.extend(secrets(device.authentication.as_ref(), show_keys));
    pairs.extend([
        ("scope", text(&device.device_scope)),
        ("generation", text(&device.generation_id)),
        ("etag", text(&device.etag)),
    ]);
    pairs.retain(|(_, value)| !value.is_empty());
    out.pairs(pairs)
}

async fn update(hub: &Client, args: Update, out: &Out) -> Result {
    let mut device = hub.device(&args.id).await?;
    if let Some(status) = &args.status {
        device.status = Some(Status::from(status.as_str()));
    }
    if let Some(reason) = args.reason {
        device.status_reason = Some(reason).filter(|reason| !reason.is_empty());
    }
    if let Some(authentication) = args.sign_in.authentication() {
        device.authentication = Some(authentication);
    }
    let if_match = IfMatch::from_etag(args.etag.as_deref().or(device.etag.as_deref()));
    let device = hub.update_device(&device, if_match).await?;
    out.show(&device, |out| show(&device, false, out))
}

async fn switch(hub: &Client, args: Switch, status: Status, out: &Out) -> Result {
    let mut failed = 0;
    let mut changed = Vec::new();
    for id in &args.ids {
        let result = async {
            let mut device = hub.device(id).await?;
            device.status = Some(status.clone());
            device.status_reason = args.reason.clone();
            let if_match = IfMatch::from_etag(device.etag.as_deref());
            hub.update_device(&device, if_match).await
        };
        match result.await {
            Ok(device) => {
                out.note(format_args!("{status} {id}"));
                changed.push(device);
            }
            Err(error) if args.ids.len() == 1 => return Err(error.into()),
            Err(error) => {
                failed += 1;
                out.warn(format_args!("{id}: {error}"));
            }
        }
    }
    out.show(&changed, |_| Ok(()))?;
    some_failed(failed)
}

async fn delete(hub: &Client, args: Delete, out: &Out) -> Result {
    let if_match = IfMatch::from_etag(args.etag.as_deref());
    delete_each(&args.ids, out, async |id| hub.delete_device(id, if_match.clone()).await).await
}

async fn rotate(hub: &Client, args: Rotate, out: &Out) -> Result {
    let mut device = hub.device(&args.id).await?;
    let id = EntityId::from(&args.id);
    device.authentication = Some(args.key.apply(device.authentication.take(), &id)?);
    let if_match = IfMatch::from_etag(device.etag.as_deref());
    let device = hub.update_device(&device, if_match).await?;
    out.show(&device, |out| {
        out.note(format_args!("rotated {id}; `ostler device connection-string {id}` prints the new string"));
        show(&device, false, out)
    })
}
