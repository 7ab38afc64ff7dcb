//! `ostler doctor`: checks this machine and the way to the hub, or asks the hub why a device is offline.
//!
//! Invariant: checking changes nothing, neither here nor in the hub.

mod machine;
mod remote;

use ostler_service_sdk::{Client, Diagnosis, EntityId, Severity};
use serde::Serialize;
use serde_json::json;

use crate::exit::{Exit, Failure, Result};
use crate::hub::{HubOptions, Target};
use crate::input;
use crate::output::{printable, Out, Tone};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ostler doctor            checks this machine, and the hub if one runs
  ostler doctor pump-7     tells why the device is offline

Exits with 1 if something is at fault. For a device: 0 if it is connected, 7 if not, 3 if nobody registered it.")]
pub struct Args {
    /// Tell why this device or module is or is not online
    #[arg(value_name = "DEVICE[/MODULE]", value_parser = input::entity_id)]
    device: Option<EntityId>,
    #[command(flatten)]
    hub: HubOptions,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, a stable word.
    name: &'static str,
    severity: Severity,
    /// What was found.
    message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    fn new(name: &'static str, severity: Severity, message: impl Into<String>) -> Self {
        Self { name, severity, message: message.into(), advice: None }
    }

    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Severity::Ok, message)
    }

    fn warning(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Severity::Warning, message)
    }

    fn error(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Severity::Error, message)
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

pub async fn run(args: Args, out: &Out) -> Result {
    match &args.device {
        Some(id) => device(&args.hub.client()?, id, out).await,
        None => everything(&args.hub, out).await,
    }
}

async fn everything(options: &HubOptions, out: &Out) -> Result {
    let target = options.target();
    let mut checks = vec![machine::file_descriptors()];
    match &target {
        Ok(Target::Remote { .. }) => {}
        Ok(Target::Local { hub, .. }) => {
            let folder = hub.data_dir.as_deref().unwrap_or(&options.data);
            checks.extend(machine::data_folder(folder));
            checks.push(machine::process(hub.pid));
        }
        Err(_) => {
            checks.extend(machine::data_folder(&options.data));
            checks.push(Check::new("hub", Severity::Info, "no hub runs on this data folder"));
            checks.extend(machine::ports_free());
        }
    }
    if let Ok(target) = &target {
        checks.extend(remote::all(target).await);
    } else if options.connection_string.is_some() {
        // A string that does not parse is the fault, and the reason says so.
        return target.map(drop);
    }
    let ok = !checks.iter().any(|check| check.severity == Severity::Error);
    out.show(&json!({ "ok": ok, "checks": checks }), |out| {
        checks.iter().try_for_each(|check| {
            line(out, &check.severity, check.name, &check.message, check.advice.as_deref())
        })
    })?;
    if ok {
        Ok(())
    } else {
        Err(Failure::Silent(Exit::Failed))
    }
}

async fn device(hub: &Client, id: &EntityId, out: &Out) -> Result {
    let diagnosis = hub.diagnosis(id).await?;
    out.show(&diagnosis, |out| print_diagnosis(&diagnosis, id, out))?;
    match (diagnosis.registered, diagnosis.connected) {
        (_, true) => Ok(()),
        (true, false) => Err(Failure::Silent(Exit::DeviceUnavailable)),
        (false, false) => Err(Failure::Silent(Exit::NotFound)),
    }
}

fn print_diagnosis(diagnosis: &Diagnosis, id: &EntityId, out: &Out) -> Result {
    out.line(out.paint(Tone::Bold, id))?;
    diagnosis
        .findings
        .iter()
        .try_for_each(|finding| line(out, &finding.severity, "", &finding.message, finding.advice.as_deref()))
}

fn line(out: &Out, severity: &Severity, name: &str, message: &str, advice: Option<&str>) -> Result {
    let (tone, sign) = match severity {
        Severity::Ok => (Tone::Good, "ok"),
        Severity::Warning => (Tone::Warn, "warn"),
        Severity::Error => (Tone::Bad, "FAIL"),
        _ => (Tone::Dim, "info"),
    };
    let sign = out.paint(tone, format_args!("{sign:<4}"));
    if name.is_empty() {
        out.line(format_args!("  {sign}  {}", printable(message)))?;
    } else {
        out.line(format_args!(
            "  {sign}  {}  {}",
            out.paint(Tone::Bold, format_args!("{name:<12}")),
            printable(message)
        ))?;
    }
    match advice {
        Some(advice) => out.line(format_args!("        {} {}", out.paint(Tone::Dim, "→"), printable(advice))),
        None => Ok(()),
    }
}
