//! `ostler policy`: shared access policies and their keys.

use clap::{Subcommand, ValueEnum};
use ostler_service_sdk::{Client, KeySlot, Policy, Right};
use serde_json::json;

use super::identity::Slot;
use crate::exit::{Failure, Result};
use crate::hub::HubOptions;
use crate::output::Out;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    hub: HubOptions,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the policies
    List,
    /// Show a policy
    Show(Show),
    /// Create a policy; the hub makes its keys
    Create(Create),
    /// Delete a policy; whoever signs in with it is locked out
    Delete(Named),
    /// Make a new key for a policy; the other key stays good
    Rotate(Rotate),
    /// Print the connection string of a policy
    ConnectionString(Connection),
}

#[derive(Debug, clap::Args)]
struct Show {
    #[arg(value_name = "POLICY")]
    name: String,
    /// Show the keys too
    #[arg(long)]
    show_keys: bool,
}

#[derive(Debug, clap::Args)]
struct Create {
    #[arg(value_name = "POLICY")]
    name: String,
    /// What it allows; may be repeated
    #[arg(long = "right", value_enum, value_name = "RIGHT", required = true, value_delimiter = ',')]
    rights: Vec<RightName>,
}

#[derive(Debug, clap::Args)]
struct Named {
    #[arg(value_name = "POLICY")]
    name: String,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    #[arg(value_name = "POLICY")]
    name: String,
    /// Which key to replace
    #[arg(long, value_enum)]
    key: Slot,
}

#[derive(Debug, clap::Args)]
struct Connection {
    #[arg(value_name = "POLICY", default_value = "iothubowner")]
    name: String,
    /// Which key
    #[arg(long, value_enum, default_value_t)]
    key: Slot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab-case")]
enum RightName {
    /// Read identities
    RegistryRead,
    /// Create, change and delete identities
    RegistryWrite,
    /// Use twins, methods and the event stream
    ServiceConnect,
    /// Sign in as any device
    DeviceConnect,
}

impl From<RightName> for Right {
    fn from(name: RightName) -> Self {
        match name {
            RightName::RegistryRead => Self::RegistryRead,
            RightName::RegistryWrite => Self::RegistryWrite,
            RightName::ServiceConnect => Self::ServiceConnect,
            RightName::DeviceConnect => Self::DeviceConnect,
        }
    }
}

impl From<Slot> for KeySlot {
    fn from(slot: Slot) -> Self {
        match slot {
            Slot::Primary => Self::Primary,
            Slot::Secondary => Self::Secondary,
        }
    }
}

pub async fn run(args: Args, out: &Out) -> Result {
    let hub = args.hub.client()?;
    match args.action {
        Action::List => {
            let policies = hub.policies().await?;
            out.show(&policies, |out| {
                let rows = policies.iter().map(|p| vec![(p.name.clone(), None), (rights(p), None)]);
                out.table(&["POLICY", "RIGHTS"], rows)
            })
        }
        Action::Show(args) => {
            let policy = hub.policy(&args.name).await?;
            out.show(&policy, |out| show(&policy, args.show_keys, out))
        }
        Action::Create(args) => {
            let rights = args.rights.into_iter().map(Right::from).collect();
            let policy = hub.create_policy(&Policy::new(args.name, rights)).await?;
            out.show(&policy, |out| show(&policy, false, out))
        }
        Action::Delete(args) => {
            hub.delete_policy(&args.name).await?;
            out.show(&json!({ "deleted": [args.name] }), |out| {
                out.note(format_args!("deleted {}", args.name));
                Ok(())
            })
        }
        Action::Rotate(args) => rotate(&hub, args, out).await,
        Action::ConnectionString(args) => {
            let policy = hub.policy(&args.name).await?;
            let text = connection_string(hub.hostname(), &policy, args.key)?;
            out.show(&json!({ "connectionString": text }), |out| {
                note_port(&hub, out);
                out.line(&text)
            })
        }
    }
}

/// Azure's form has no place for a port, so a hub elsewhere than on 443 has to be told of.
fn note_port(hub: &Client, out: &Out) {
    let Some((_, port)) = hub.authority().rsplit_once(':').filter(|(_, port)| *port != "443") else { return };
    out.note(format_args!(
        "HTTPS is on port {port} here: where a client takes a port, write HostName={}:{port}",
        hub.hostname()
    ));
}

async fn rotate(hub: &Client, args: Rotate, out: &Out) -> Result {
    let policy = hub.rotate_policy(&args.name, args.key.into()).await?;
    out.show(&policy, |out| {
        out.note(format_args!(
            "rotated; `ostler policy connection-string {}` prints the new string",
            args.name
        ));
        show(&policy, false, out)
    })
}

/// The three-key form and nothing more: some clients refuse anything appended (service §2.4).
pub fn connection_string(hostname: &str, policy: &Policy, slot: Slot) -> Result<String> {
    let key = match slot {
        Slot::Primary => &policy.primary_key,
        Slot::Secondary => &policy.secondary_key,
    };
    let Some(key) = key else {
        return Err(Failure::failed(format!("the hub did not tell the key of {}", policy.name)));
    };
    Ok(format!("HostName={hostname};SharedAccessKeyName={};SharedAccessKey={key}", policy.name))
}

fn show(policy: &Policy, show_keys: bool, out: &Out) -> Result {
    let mut pairs = vec![("policy", policy.name.clone()), ("rights", rights(policy))];
    if show_keys {
        pairs.push(("primary key", policy.primary_key.clone().unwrap_or_default()));
        pairs.push(("secondary key", policy.secondary_key.clone().unwrap_or_default()));
    }
    out.pairs(pairs)
}

fn rights(policy: &Policy) -> String {
    policy.rights.iter().map(Right::as_str).collect::<Vec<_>>().join(", ")
}
