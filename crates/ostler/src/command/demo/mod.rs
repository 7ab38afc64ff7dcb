//! `ostler demo`: a hub of its own, a back end and a device, telling what they do.
//!
//! The back end is the service SDK over HTTPS, the device `ostler-wire`'s MQTT session over TLS; neither has a way into
//! the hub that a stranger would not have.
//!
//! Invariant: it ends by itself unless told to stay, and leaves nothing behind.

mod device;
mod story;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{bail, Context};
use jiff::Timestamp;
use ostler_core::identity::SymmetricKey;
use ostler_service_sdk::{
    Client, Device as Identity, EntityId, EventFilter, EventKind, EventStream, IfMatch, MethodCall, TwinPatch,
};
use serde_json::{json, Value};

use self::device::{Connection, Device, Heard};
use self::story::{Actor, Story};
use super::identity::{connection_string, Slot};
use super::serve::{self, LocalHub, StopSignals};
use crate::exit::{Failure, Result};
use crate::output::Out;

const DEVICE: &str = "pump-7";
/// How long the demo's device takes to boot. Long enough to be felt, short enough not to bore.
const BOOT: Duration = Duration::from_millis(1200);
/// Between its answer and its goodbye, so that the answer is told first.
const SHUTDOWN: Duration = Duration::from_millis(150);
/// How long the back end waits for the device to report.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the device sends a temperature when the demo stays up.
const TELEMETRY: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Starts a hub in memory on free ports of this machine, so it needs nothing and disturbs nothing. The same with a hub of
your own: `ostler serve`, then `ostler device create`, and any Azure IoT device SDK.")]
pub struct Args {
    /// Keep the hub and the device running afterwards, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

pub fn run(args: Args, out: &Out) -> Result {
    serve::runtime(None)?.block_on(perform(args, out))
}

async fn perform(args: Args, out: &Out) -> Result {
    let mut signals = StopSignals::listen()?;
    let story = Story::new(out);
    story.title()?;
    let hub = LocalHub::start_ephemeral().await?;
    let result = tokio::select! {
        result = play(&hub, &story, args.keep) => result,
        () = signals.next() => Ok(()),
    };
    hub.stop().await;
    result.map_err(|error| match error.downcast::<Failure>() {
        Ok(failure) => failure,
        Err(error) => Failure::failed(format!("the demo failed: {error:#}")),
    })
}

async fn play(hub: &LocalHub, story: &Story<'_>, keep: bool) -> anyhow::Result<()> {
    let file = hub.file();
    let ports = format!("MQTT/TLS on port {}, HTTPS on port {}", file.mqtt_port, file.https_port);
    let ready = format!("is ready after {:.0} ms, in memory", hub.start_time().as_secs_f64() * 1e3);
    story.step(Actor::Hub, &ready, &ports, None)?;

    let back_end = hub.client()?;
    let identity = back_end.create_device(&Identity::new(DEVICE)).await?;
    story.step(
        Actor::BackEnd,
        "registers the device; the hub makes its keys",
        "PUT /devices/pump-7",
        None,
    )?;
    let key = identity.authentication.as_ref().and_then(|auth| auth.primary_key());
    let device = Device {
        id: EntityId::parse(DEVICE)?,
        key: SymmetricKey::from_base64(key.context("the hub made no key")?)?,
        hostname: file.hostname.clone(),
        door: SocketAddr::from((Ipv4Addr::LOCALHOST, file.mqtt_port)),
        ca_pem: hub.ca_pem().to_owned(),
    };

    let mut link = device.connect().await?;
    story.step(
        Actor::Device,
        "connects and signs in with a token made from its key",
        "MQTT CONNECT",
        None,
    )?;
    let report = json!({ "firmware": "1.4.2", "temperature": 21.5 });
    let version = link.report(&report).await?;
    let wire = format!("PUBLISH $iothub/twin/PATCH/properties/reported/ → 204, version {version}");
    story.step(Actor::Device, "reports what it is", &wire, Some(&report))?;

    let mut life = std::pin::pin!(live(&device, link, story));
    tokio::select! {
        ended = &mut life => match ended? {},
        acted = act(&back_end, &device.id, story) => acted?,
    }
    end(hub, &identity, story, keep)?;
    if keep {
        match life.await? {}
    }
    Ok(())
}

/// The back end's part: set, call, wait, read.
async fn act(back_end: &Client, id: &EntityId, story: &Story<'_>) -> anyhow::Result<()> {
    let twin = back_end.twin(id).await?;
    let reported = values(&Value::Object(twin.properties.reported));
    story.step(Actor::BackEnd, "reads the twin", "GET /twins/pump-7", Some(&reported))?;

    let filter = EventFilter { kinds: vec![EventKind::Twin], device_id: Some(DEVICE.to_owned()) };
    let mut events = back_end.events(&filter).await?;
    let desired = json!({ "reportInterval": 30 });
    story.step(Actor::BackEnd, "asks for a report every 30 s", "PATCH /twins/pump-7", Some(&desired))?;
    back_end.patch_twin(id, &TwinPatch::desired(desired), IfMatch::Any).await?;
    until_reported(&mut events, "reportInterval").await?;

    let mut call = MethodCall::new("rebootDevice");
    call.payload = Some(json!({ "reason": "demo" }));
    let wire = "POST /twins/pump-7/methods";
    story.step(Actor::BackEnd, "calls rebootDevice", wire, call.payload.as_ref())?;
    let answer = back_end.invoke(id, &call).await?;
    let what = format!("gets the answer: status {}", answer.status);
    story.step(Actor::BackEnd, &what, "", Some(&answer.payload))?;

    until_reported(&mut events, "rebootTime").await?;
    let twin = back_end.twin(id).await?;
    let time = twin.properties.reported.get("rebootTime").cloned().context("the twin lost rebootTime")?;
    let seen = json!({ "rebootTime": time });
    story.step(Actor::BackEnd, "reads when that was", "GET /twins/pump-7", Some(&seen))?;
    Ok(())
}

/// Waits until the device has reported a property; the live events say so, nobody polls.
async fn until_reported(events: &mut EventStream, property: &str) -> anyhow::Result<()> {
    let reported = async {
        while let Some(event) = events.next().await {
            let event = event?;
            let reported =
                event.details.get("section").is_some_and(|section| section == "properties.reported");
            if reported && event.details.get("patch").is_some_and(|patch| patch.get(property).is_some()) {
                return Ok(());
            }
        }
        bail!("the hub ended the event stream")
    };
    tokio::time::timeout(PATIENCE, reported)
        .await
        .with_context(|| format!("the device did not report {property} within {} s", PATIENCE.as_secs()))?
}

/// The device's part: adapt, answer, reboot. Goes on for as long as it is polled.
async fn live(device: &Device, mut link: Connection, story: &Story<'_>) -> anyhow::Result<Infallible> {
    let mut telemetry = tokio::time::interval(TELEMETRY);
    telemetry.tick().await;
    let mut measured = 0u32;
    loop {
        let heard = tokio::select! {
            heard = link.next() => heard?,
            _ = telemetry.tick() => {
                measured += 1;
                let temperature = 21.5 + f64::from(measured % 8) / 4.0;
                link.send(&json!({ "temperature": temperature })).await?;
                continue;
            }
        };
        match heard {
            Heard::Desired(patch) => {
                let report = values(&patch);
                story.step(Actor::Device, "hears of it, adapts, and reports so", "", Some(&report))?;
                link.report(&report).await?;
            }
            Heard::Call { method, rid, payload } if method == "rebootDevice" => {
                story.step(Actor::Device, "is told to reboot, and agrees", "", Some(&payload))?;
                link.answer(&rid, 200, &json!({ "rebooting": true })).await?;
                link = reboot(device, link, story).await?;
            }
            Heard::Call { method, rid, .. } => {
                link.answer(&rid, 404, &json!({ "error": format!("this pump knows no {method}") })).await?;
            }
            Heard::Answer { .. } | Heard::Acked | Heard::Subscribed { .. } => {}
        }
    }
}

async fn reboot(device: &Device, link: Connection, story: &Story<'_>) -> anyhow::Result<Connection> {
    tokio::time::sleep(SHUTDOWN).await;
    link.disconnect().await?;
    story.step(Actor::Device, "goes down, and boots", "MQTT DISCONNECT", None)?;
    tokio::time::sleep(BOOT).await;
    let mut link = device.connect().await?;
    let report = json!({ "rebootTime": format!("{:.3}", Timestamp::now()) });
    story.step(
        Actor::Device,
        "is back, and reports when it booted",
        "MQTT CONNECT, PUBLISH",
        Some(&report),
    )?;
    link.report(&report).await?;
    Ok(link)
}

fn end(hub: &LocalHub, identity: &Identity, story: &Story<'_>, keep: bool) -> anyhow::Result<()> {
    let file = hub.file();
    let owner = &file.connection_string;
    let id = EntityId::parse(DEVICE)?;
    let device = connection_string(&file.hostname, &id, identity.authentication.as_ref(), Slot::Primary)?;
    let mut facts = vec![
        ("metrics", format!("https://{}:{}/metrics", file.hostname, file.https_port)),
        ("back ends", owner.clone()),
        ("the device", device),
        ("CA", file.ca_file.as_ref().map_or_else(String::new, |path| path.display().to_string())),
    ];
    let here = format!("--data {}", hub.folder().display());
    if keep {
        facts.push(("found by", here.clone()));
    }
    let commands = if keep {
        vec![
            format!("ostler monitor {here}"),
            format!("ostler twin show {DEVICE} {here}"),
            format!("ostler method invoke {DEVICE} rebootDevice {here}"),
            format!("ostler ca {here}"),
            "Ctrl-C ends the hub and leaves nothing behind".to_owned(),
        ]
    } else {
        vec![
            "ostler demo --keep    # the same, and the hub stays up".to_owned(),
            "ostler serve          # a hub of your own, data in ./ostler-data".to_owned(),
            "ostler ca             # how each Azure SDK is made to trust it".to_owned(),
        ]
    };
    let what = if keep { "Done. The hub stays up." } else { "Done. The hub is gone with its data." };
    story.end(what, &facts, &commands)?;
    Ok(())
}

/// A section without `$metadata` and `$version`.
fn values(section: &Value) -> Value {
    let mut section = section.clone();
    if let Value::Object(members) = &mut section {
        members.retain(|key, _| !key.starts_with('$'));
    }
    section
}
