//! `ostler config`: automatic configurations, settings that every twin gets that meets a condition.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use ostler_service_sdk::{
    Client, Configuration, ConfigurationContent, ConfigurationMetrics, ConfigurationQueries, DeviceId, Error,
    IfMatch, JsonObject,
};
use serde_json::{json, Value};

use super::query::mistake;
use crate::exit::{Failure, Result};
use crate::hub::HubOptions;
use crate::input;
use crate::output::{delete_each, printable, some_failed, Out, Tone};
use crate::when;

/// More than a hub holds.
const ALL: u32 = 100;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    hub: HubOptions,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a configuration; twins that meet its condition follow within a second or so
    Create(Box<Create>),
    /// List the configurations and what they count
    List(List),
    /// Show a configuration
    Show(Named),
    /// Change whom a configuration targets, its priority, labels or metrics; its content cannot be changed
    Update(Box<Update>),
    /// Delete configurations; what they set is removed from the twins
    Delete(Delete),
    /// Count a configuration's metrics, or print the queries behind them
    Metrics(Metrics),
    /// Check a condition and metrics before a configuration is made of them
    Test(Test),
    /// Put content into the modules of one edge device, once
    Apply(Apply),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Kind {
    #[default]
    Devices,
    Modules,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ostler config create cooling --condition \"tags.site = 'A'\" --set cooling.fan=2 --priority 10
  ostler config create probes --for modules --condition \"from devices.modules where moduleId = 'probe'\" --set rate=5
  ostler config create edge-1 --condition '*' --content deployment.json
  ostler config create --file config.json

The condition is the WHERE part of a query over devices: `*` is all of them, an empty text none. Of the configurations
that target a twin, the one with the highest priority is applied, then the one created last.")]
struct Create {
    /// Its name: lower-case letters, digits and - + % _ * ! '
    #[arg(value_name = "CONFIG", required_unless_present = "file")]
    id: Option<String>,
    /// Whom it targets
    #[arg(long, short, value_name = "CONDITION", required_unless_present = "file")]
    condition: Option<String>,
    /// A desired property to set; dots nest, the value is JSON where it parses as such; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = input::pair, conflicts_with = "content", required_unless_present_any = ["content", "file"])]
    settings: Vec<(String, Value)>,
    /// What --set is about
    #[arg(long = "for", value_enum, default_value_t, value_name = "KIND", conflicts_with = "content")]
    kind: Kind,
    /// A file with the content: {"deviceContent":{"properties.desired.x":1}}, or moduleContent, or modulesContent;
    /// `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    content: Option<PathBuf>,
    /// A file with a whole configuration, as `config show -o json` prints it; options win over it; `-` is stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    editable: Editable,
}

/// What can be given at creation and changed later.
#[derive(Debug, clap::Args)]
struct Editable {
    /// The highest wins; 0 if none is given at creation
    #[arg(long, short, value_name = "N")]
    priority: Option<u32>,
    /// A name and value of your own; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = text_pair)]
    labels: Vec<(String, String)>,
    /// A query whose rows are counted; may be repeated, at most five
    #[arg(long = "metric", value_name = "NAME=QUERY", value_parser = text_pair)]
    metrics: Vec<(String, String)>,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Print the names alone, one per line
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, clap::Args)]
struct Named {
    #[arg(value_name = "CONFIG")]
    id: String,
}

#[derive(Debug, clap::Args)]
struct Update {
    #[arg(value_name = "CONFIG")]
    id: String,
    /// Whom it targets
    #[arg(long, short, value_name = "CONDITION")]
    condition: Option<String>,
    /// A file with a whole configuration, as `config show -o json` prints it; options win over it; `-` is stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Change it only if its etag is still this one; without it, the one read just before counts
    #[arg(long)]
    etag: Option<String>,
    #[arg(long = "set", hide = true, value_parser = never_changed)]
    settings: Option<String>,
    #[arg(long, hide = true, value_parser = never_changed)]
    content: Option<String>,
    #[command(flatten)]
    editable: Editable,
}

#[derive(Debug, clap::Args)]
struct Delete {
    #[arg(value_name = "CONFIG", required = true)]
    ids: Vec<String>,
    /// Delete it only if its etag is still this one
    #[arg(long)]
    etag: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Metrics {
    #[arg(value_name = "CONFIG")]
    id: String,
    /// Print the queries too, to run them with `ostler query`
    #[arg(long)]
    queries: bool,
}

#[derive(Debug, clap::Args)]
struct Test {
    /// A target condition
    #[arg(long, short, value_name = "CONDITION", required_unless_present = "metrics")]
    condition: Option<String>,
    /// A metric; may be repeated
    #[arg(long = "metric", value_name = "NAME=QUERY", value_parser = text_pair)]
    metrics: Vec<(String, String)>,
}

#[derive(Debug, clap::Args)]
struct Apply {
    /// The edge device
    #[arg(value_name = "DEVICE", value_parser = input::device_id)]
    device: DeviceId,
    /// A file with {"modulesContent":{…}}; `-` is stdin
    #[arg(long, value_name = "FILE")]
    content: PathBuf,
}

/// For clap: `name=text`, split at the first `=`.
fn text_pair(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected name=value".to_owned()),
    }
}

pub async fn run(args: Args, out: &Out) -> Result {
    let hub = args.hub.client()?;
    match args.action {
        Action::Create(args) => create(&hub, *args, out).await,
        Action::List(args) => list(&hub, args, out).await,
        Action::Show(args) => {
            let configuration = hub.configuration(&args.id).await?;
            out.show(&configuration, |out| show(&configuration, out))
        }
        Action::Update(args) => update(&hub, *args, out).await,
        Action::Delete(args) => delete(&hub, args, out).await,
        Action::Metrics(args) => metrics(&hub, args, out).await,
        Action::Test(args) => test(&hub, args, out).await,
        Action::Apply(args) => apply(&hub, args, out).await,
    }
}

async fn create(hub: &Client, args: Create, out: &Out) -> Result {
    let mut configuration = match &args.file {
        Some(path) => from_file(path)?,
        None => Configuration::default(),
    };
    if let Some(id) = args.id {
        configuration.id = id;
    }
    if configuration.id.is_empty() {
        return Err(Failure::usage(
            "the configuration has no name; give one as CONFIG or as \"id\" in the file",
        ));
    }
    configuration.target_condition = args.condition.or(configuration.target_condition);
    if let Some(path) = &args.content {
        configuration.content = Some(content(path)?);
    } else if !args.settings.is_empty() {
        configuration.content = Some(settings(args.settings, args.kind));
    }
    if configuration.content.is_none() {
        return Err(Failure::usage("the configuration sets nothing; use --set, --content or --file"));
    }
    args.editable.put_into(&mut configuration);
    let made = hub.create_configuration(&configuration).await;
    let made = made.map_err(|error| refused(error, &configuration, out))?;
    out.show(&made, |out| show(&made, out))
}

async fn update(hub: &Client, args: Update, out: &Out) -> Result {
    let current = hub.configuration(&args.id).await?;
    let etag = args.etag.or_else(|| current.etag.clone());
    let mut configuration = match &args.file {
        Some(path) => from_file(path)?,
        None => current,
    };
    configuration.id = args.id;
    configuration.target_condition = args.condition.or(configuration.target_condition);
    args.editable.put_into(&mut configuration);
    let updated = hub.update_configuration(&configuration, IfMatch::from_etag(etag.as_deref())).await;
    let updated = updated.map_err(|error| refused(error, &configuration, out))?;
    out.show(&updated, |out| show(&updated, out))
}

/// The hub's refusal; a mistake in the condition is shown where it is.
fn refused(error: Error, configuration: &Configuration, out: &Out) -> Failure {
    let name = error.fault().and_then(|fault| fault.name.as_deref());
    match &configuration.target_condition {
        Some(condition) if name == Some("InvalidConfigurationTargetCondition") => {
            mistake::told(error, condition, out)
        }
        _ => error.into(),
    }
}

/// For clap: what `config update` does not take, so that it can say why.
fn never_changed(_: &str) -> std::result::Result<String, String> {
    Err("the content of a configuration cannot be changed; delete it and create it again, or create another one with a \
         higher priority"
        .to_owned())
}

impl Editable {
    /// What is given replaces what there is, each kind as a whole.
    fn put_into(self, configuration: &mut Configuration) {
        configuration.priority = self.priority.or(configuration.priority);
        if !self.labels.is_empty() {
            configuration.labels = Some(self.labels.into_iter().collect());
        }
        if !self.metrics.is_empty() {
            let queries = self.metrics.into_iter().collect();
            configuration.metrics = Some(ConfigurationMetrics { queries, ..ConfigurationMetrics::default() });
        }
    }
}

fn from_file(path: &std::path::Path) -> Result<Configuration> {
    serde_json::from_value(input::json(path)?)
        .map_err(|error| Failure::usage(format!("{}: not a configuration: {error}", path.display())))
}

fn content(path: &std::path::Path) -> Result<ConfigurationContent> {
    ConfigurationContent::try_from(input::json(path)?).map_err(|error| {
        Failure::usage(format!("{}: not the content of a configuration: {error}", path.display()))
    })
}

fn settings(settings: Vec<(String, Value)>, kind: Kind) -> ConfigurationContent {
    let paths = settings.into_iter().map(|(path, value)| (format!("properties.desired.{path}"), value));
    let paths: JsonObject = paths.collect();
    match kind {
        Kind::Devices => ConfigurationContent::devices(paths),
        Kind::Modules => ConfigurationContent::modules(paths),
    }
}

async fn list(hub: &Client, args: List, out: &Out) -> Result {
    let configurations = hub.configurations(ALL).await?;
    if args.quiet && !out.is_json() {
        return configurations.iter().try_for_each(|configuration| out.line(&configuration.id));
    }
    out.show(&configurations, |out| {
        if configurations.is_empty() {
            out.note("no configurations; `ostler config create` makes one");
            return Ok(());
        }
        let rows = configurations.iter().map(|configuration| {
            vec![
                (configuration.id.clone(), None),
                (configuration.priority.unwrap_or_default().to_string(), None),
                (count(configuration, "targetedCount"), None),
                (count(configuration, "appliedCount"), None),
                (condition(configuration), Some(Tone::Dim)),
            ]
        });
        out.table(&["CONFIG", "PRIORITY", "TARGETED", "APPLIED", "CONDITION"], rows)
    })
}

fn count(configuration: &Configuration, name: &str) -> String {
    let metrics = configuration.system_metrics.as_ref();
    metrics.and_then(|metrics| metrics.results.get(name)).map_or_else(|| "–".to_owned(), u64::to_string)
}

fn condition(configuration: &Configuration) -> String {
    match configuration.target_condition.as_deref() {
        None | Some("") => "(nobody)".to_owned(),
        Some("*") => "* (all)".to_owned(),
        Some(condition) => condition.to_owned(),
    }
}

fn show(configuration: &Configuration, out: &Out) -> Result {
    let now = Timestamp::now();
    let time = |value: &Option<String>| {
        value.as_deref().map_or_else(String::new, |time| format!("{time}  ({})", when::ago(time, now)))
    };
    let labels = configuration.labels.iter().flatten();
    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
    let mut pairs = vec![
        ("config", configuration.id.clone()),
        ("condition", condition(configuration)),
        ("priority", configuration.priority.unwrap_or_default().to_string()),
        ("labels", labels.join("  ")),
        ("created", time(&configuration.created_time_utc)),
        ("updated", time(&configuration.last_updated_time_utc)),
        ("etag", configuration.etag.clone().unwrap_or_default()),
    ];
    pairs.retain(|(_, value)| !value.is_empty());
    out.pairs(pairs)?;
    out.line(format_args!("\n{}", out.paint(Tone::Accent, "content")))?;
    let text = printable(&serde_json::to_string_pretty(&configuration.content)?);
    text.lines().try_for_each(|line| out.line(format_args!("  {line}")))?;
    let counted = all_metrics(configuration).any(|(_, _, result)| result.is_some());
    if counted {
        out.line(format_args!("\n{}", out.paint(Tone::Accent, "metrics")))?;
        metrics_table(configuration, false, out)?;
    }
    Ok(())
}

fn all_metrics(configuration: &Configuration) -> impl Iterator<Item = (&str, &str, Option<u64>)> {
    let kinds = [&configuration.system_metrics, &configuration.metrics];
    kinds.into_iter().flatten().flat_map(|metrics| {
        let result = |name: &String| metrics.results.get(name).copied();
        metrics.queries.iter().map(move |(name, query)| (name.as_str(), query.as_str(), result(name)))
    })
}

fn metrics_table(configuration: &Configuration, queries: bool, out: &Out) -> Result {
    let header: &[&str] = if queries { &["METRIC", "COUNT", "QUERY"] } else { &["METRIC", "COUNT"] };
    let rows = all_metrics(configuration).map(|(name, query, result)| {
        let result = result.map_or_else(|| "–".to_owned(), |count| count.to_string());
        let mut row = vec![(name.to_owned(), None), (result, None)];
        if queries {
            row.push((query.to_owned(), Some(Tone::Dim)));
        }
        row
    });
    out.table(header, rows)
}

async fn metrics(hub: &Client, args: Metrics, out: &Out) -> Result {
    let configuration = hub.configuration(&args.id).await?;
    let document = json!({
        "id": configuration.id,
        "systemMetrics": configuration.system_metrics,
        "metrics": configuration.metrics,
    });
    out.show(&document, |out| metrics_table(&configuration, args.queries, out))
}

async fn delete(hub: &Client, args: Delete, out: &Out) -> Result {
    let if_match = IfMatch::from_etag(args.etag.as_deref());
    delete_each(&args.ids, out, async |id| hub.delete_configuration(id, if_match.clone()).await).await
}

async fn test(hub: &Client, args: Test, out: &Out) -> Result {
    let queries = ConfigurationQueries {
        target_condition: args.condition,
        custom_metric_queries: args.metrics.into_iter().collect::<BTreeMap<_, _>>(),
    };
    let errors = hub.test_configuration_queries(&queries).await?;
    out.show(&errors, |out| {
        if errors.is_empty() {
            out.note("all of it can be used");
            return Ok(());
        }
        let condition = errors.target_condition_error.iter().map(|error| ("condition", error));
        let metrics = errors.custom_metric_query_errors.iter().map(|(name, error)| (name.as_str(), error));
        condition.chain(metrics).try_for_each(|(name, error)| {
            out.line(format_args!("{} {}", out.paint(Tone::Bad, format_args!("{name}:")), printable(error)))
        })
    })?;
    some_failed(u64::from(!errors.is_empty()))
}

async fn apply(hub: &Client, args: Apply, out: &Out) -> Result {
    let content = content(&args.content)?;
    hub.apply_configuration_content(&args.device, &content).await?;
    out.show(&json!({ "applied": args.device.as_str() }), |out| {
        out.note(format_args!("applied to {}", args.device));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_paths_below_the_desired_properties() {
        let pairs = ["cooling.fan=2", "mode=null"].map(|text| input::pair(text).unwrap()).to_vec();
        let text = serde_json::to_string(&settings(pairs.clone(), Kind::Devices)).unwrap();
        assert_eq!(
            text,
            r#"{"deviceContent":{"properties.desired.cooling.fan":2,"properties.desired.mode":null}}"#
        );
        assert!(settings(pairs, Kind::Modules).module_content.is_some());
    }

    #[test]
    fn texts_are_split_at_the_first_sign() {
        assert_eq!(text_pair("m=SELECT a = 1"), Ok(("m".into(), "SELECT a = 1".into())));
        assert!(text_pair("m").is_err() && text_pair("=x").is_err());
    }
}
