//! `ostler method`: direct method calls.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use ostler_service_sdk::{EntityId, MethodCall};
use serde_json::Value;

use crate::exit::{Exit, Failure, Result};
use crate::hub::HubOptions;
use crate::input;
use crate::output::{printable, Out, Tone};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    hub: HubOptions,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Call a method and wait for the answer
    #[command(visible_alias = "call")]
    Invoke(Invoke),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ostler method invoke pump-7 rebootDevice
  ostler method invoke pump-7 setSpeed '{\"rpm\":900}' --timeout 60
  ostler method invoke pump-7/valve close --connect-timeout 120

Exits with 0 if the device answers with a status of 2xx, with 8 if with another, with 7 if it is offline or silent.")]
struct Invoke {
    #[arg(value_name = "DEVICE[/MODULE]", value_parser = input::entity_id)]
    id: EntityId,
    /// Name of the method
    #[arg(value_name = "METHOD")]
    name: String,
    /// Payload, any JSON value
    #[arg(value_name = "JSON", conflicts_with = "payload_file")]
    payload: Option<String>,
    /// A file with the payload; `-` is stdin
    #[arg(long, value_name = "FILE")]
    payload_file: Option<PathBuf>,
    /// How long the device may take to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=300))]
    timeout: u64,
    /// How long to wait for the device to connect; 0 fails at once
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=300))]
    connect_timeout: u64,
}

pub async fn run(args: Args, out: &Out) -> Result {
    let Args { action: Action::Invoke(args), hub } = args;
    let mut call = MethodCall::new(args.name);
    call.response_timeout = Duration::from_secs(args.timeout);
    call.connect_timeout = Duration::from_secs(args.connect_timeout);
    call.payload = match (&args.payload, &args.payload_file) {
        (Some(text), _) => Some(input::json_text(text, "the payload")?),
        (None, Some(path)) => Some(input::json(path)?),
        (None, None) => None,
    };
    let answer = hub.client()?.invoke(&args.id, &call).await?;
    let succeeded = (200..300).contains(&answer.status);
    out.show(&answer, |out| {
        let tone = if succeeded { Tone::Good } else { Tone::Bad };
        out.line(format_args!("status {}", out.paint(tone, answer.status)))?;
        match &answer.payload {
            Value::Null => Ok(()),
            payload => out.line(printable(&serde_json::to_string_pretty(payload)?)),
        }
    })?;
    if succeeded {
        Ok(())
    } else {
        Err(Failure::Silent(Exit::DeviceRefused))
    }
}
