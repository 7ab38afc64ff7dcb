//! `ostler module`: the modules of devices.

use clap::Subcommand;
use jiff::Timestamp;
use ostler_service_sdk::{Client, DeviceId, EntityId, IfMatch, Module, ModuleId};

use super::identity::{connection_string, secrets, sign_in_name, Rotation, SignIn, Slot};
use crate::exit::{Failure, Result};
use crate::hub::HubOptions;
use crate::input;
use crate::output::{Out, Tone};
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
    /// Create a module
    Create(Create),
    /// List the modules of a device
    List(List),
    /// Show a module
    Show(Show),
    /// Change how a module signs in, or who manages it
    Update(Create),
    /// Delete a module and its twin
    Delete(Delete),
    /// Print the connection string of a module
    ConnectionString(Connection),
    /// Make new keys for a module; its live connection is dropped
    #[command(visible_alias = "regenerate-key")]
    RotateKey(Rotate),
}

#[derive(Debug, clap::Args)]
struct Create {
    #[arg(value_name = "DEVICE/MODULE", value_parser = module_ref)]
    id: ModuleRef,
    /// Who looks after it
    #[arg(long, value_name = "TEXT")]
    managed_by: Option<String>,
    #[command(flatten)]
    sign_in: SignIn,
}

#[derive(Debug, clap::Args)]
struct List {
    #[arg(value_name = "DEVICE", value_parser = input::device_id)]
    device: DeviceId,
}

#[derive(Debug, clap::Args)]
struct Show {
    #[arg(value_name = "DEVICE/MODULE", value_parser = module_ref)]
    id: ModuleRef,
    /// Show the keys too
    #[arg(long)]
    show_keys: bool,
}

#[derive(Debug, clap::Args)]
struct Delete {
    #[arg(value_name = "DEVICE/MODULE", value_parser = module_ref)]
    id: ModuleRef,
    /// Delete it only if its etag is still this one
    #[arg(long)]
    etag: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Connection {
    #[arg(value_name = "DEVICE/MODULE", value_parser = module_ref)]
    id: ModuleRef,
    /// Which key
    #[arg(long, value_enum, default_value_t)]
    key: Slot,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    #[arg(value_name = "DEVICE/MODULE", value_parser = module_ref)]
    id: ModuleRef,
    /// What to rotate
    #[arg(long, value_enum)]
    key: Rotation,
}

#[derive(Debug, Clone)]
struct ModuleRef {
    device: DeviceId,
    module: ModuleId,
}

impl ModuleRef {
    fn entity(&self) -> EntityId {
        EntityId::of_module(&self.device, &self.module)
    }
}

fn module_ref(text: &str) -> std::result::Result<ModuleRef, String> {
    let (device, module) = text.split_once('/').ok_or("expected DEVICE/MODULE")?;
    Ok(ModuleRef { device: input::device_id(device)?, module: input::module_id(module)? })
}

pub async fn run(args: Args, out: &Out) -> Result {
    let hub = args.hub.client()?;
    match args.action {
        Action::Create(args) => create(&hub, args, out).await,
        Action::Update(args) => update(&hub, args, out).await,
        Action::List(args) => {
            let modules = hub.modules(&args.device).await?;
            out.show(&modules, |out| table(&modules, out))
        }
        Action::Show(args) => {
            let module = hub.module(&args.id.device, &args.id.module).await?;
            out.show(&module, |out| show(&module, args.show_keys, out))
        }
        Action::Delete(args) => {
            let id = args.id;
            hub.delete_module(&id.device, &id.module, IfMatch::from_etag(args.etag.as_deref())).await?;
            let text = id.entity().to_string();
            out.show(&serde_json::json!({ "deleted": [text] }), |out| {
                out.note(format_args!("deleted {text}"));
                Ok(())
            })
        }
        Action::ConnectionString(args) => {
            let module = hub.module(&args.id.device, &args.id.module).await?;
            let authentication = module.authentication.as_ref();
            let text = connection_string(hub.hostname(), &args.id.entity(), authentication, args.key)?;
            out.show(&serde_json::json!({ "connectionString": text }), |out| out.line(&text))
        }
        Action::RotateKey(args) => {
            let mut module = hub.module(&args.id.device, &args.id.module).await?;
            module.authentication = Some(args.key.apply(module.authentication.take(), &args.id.entity())?);
            let if_match = IfMatch::from_etag(module.etag.as_deref());
            let module = hub.update_module(&module, if_match).await?;
            out.show(&module, |out| show(&module, false, out))
        }
    }
}

async fn create(hub: &Client, args: Create, out: &Out) -> Result {
    let mut module = Module::new(args.id.device.as_str(), args.id.module.as_str());
    module.managed_by = args.managed_by;
    module.authentication = args.sign_in.authentication();
    let module = hub.create_module(&module).await?;
    out.show(&module, |out| {
        let id = args.id.entity();
        out.note(format_args!("created {id}; this is what the module connects with:"));
        out.line(connection_string(hub.hostname(), &id, module.authentication.as_ref(), Slot::Primary)?)
    })
}

async fn update(hub: &Client, args: Create, out: &Out) -> Result {
    let mut module = hub.module(&args.id.device, &args.id.module).await?;
    let authentication = args.sign_in.authentication();
    if args.managed_by.is_none() && authentication.is_none() {
        return Err(Failure::usage("nothing to change: name --managed-by or a way to sign in"));
    }
    module.managed_by = args.managed_by.or(module.managed_by);
    module.authentication = authentication.or(module.authentication);
    let if_match = IfMatch::from_etag(module.etag.as_deref());
    let module = hub.update_module(&module, if_match).await?;
    out.show(&module, |out| show(&module, false, out))
}

fn table(modules: &[Module], out: &Out) -> Result {
    if modules.is_empty() {
        out.note("no modules");
        return Ok(());
    }
    let now = Timestamp::now();
    out.table(
        &["MODULE", "CONNECTION", "SIGN-IN", "MANAGED BY", "LAST ACTIVITY"],
        modules.iter().map(|module| {
            let activity = module.last_activity_time.as_deref();
            vec![
                (module.module_id.clone(), None),
                (connection(module), None),
                (sign_in_name(module.authentication.as_ref()), None),
                (module.managed_by.clone().unwrap_or_default(), None),
                (activity.map_or_else(String::new, |time| when::ago(time, now)), Some(Tone::Dim)),
            ]
        }),
    )
}

fn connection(module: &Module) -> String {
    module.connection_state.as_ref().map_or_else(String::new, |state| state.to_string().to_lowercase())
}

fn show(module: &Module, show_keys: bool, out: &Out) -> Result {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut pairs = vec![
        ("module", format!("{}/{}", module.device_id, module.module_id)),
        ("managed by", text(&module.managed_by)),
        ("connection", connection(module)),
        ("last activity", text(&module.last_activity_time)),
        ("sign-in", sign_in_name(module.authentication.as_ref())),
    ];
    pairs.extend(secrets(module.authentication.as_ref(), show_keys));
    pairs.extend([("generation", text(&module.generation_id)), ("etag", text(&module.etag))]);
    pairs.retain(|(_, value)| !value.is_empty());
    out.pairs(pairs)
}
