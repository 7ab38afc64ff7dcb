//! `ostler serve`: runs the hub until told to stop. Also starts the hub of `ostler demo`.
//!
//! Must not know: what a setting means; names, defaults and help come from the server's own table.
//!
//! Invariant: the keys of the hub are printed only when asked for.
//! Invariant: a first signal drains, a second ends the process at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use ostler_server::config::{Config, LogFormat, Settings, SETTINGS};
use ostler_server::{Ready, Running, Server, StartError};
use ostler_service_sdk::Client;
use tempfile::TempDir;
use tokio::signal::unix::{signal, Signal, SignalKind};
use tracing_subscriber::EnvFilter;

use crate::exit::{chain, Failure, Result};
use crate::hub::HubFile;
use crate::output::{Out, Tone};

/// Settings that stand alone on the command line: `--ephemeral` is `--ephemeral true`.
const SWITCHES: [&str; 2] = ["ephemeral", "allow-plaintext"];
/// The last of the settings that `-h` shows; what follows in the table is for tuning and shown by `--help`.
const LAST_COMMON: &str = "log";
/// The storage library tells its inner life at `info`; a filter that names it still gets it.
const QUIET: &str = "fjall=warn,lsm_tree=warn";
/// Read if it is there and no other is named.
const DEFAULT_CONFIG: &str = "ostler.toml";
const CONFIG: &str = "config";
const SHOW_CONNECTION_STRING: &str = "show-connection-string";

/// Flags of `serve`: one per setting of the server, and what concerns the command line alone.
#[derive(Debug)]
pub struct Args {
    flags: Settings,
    config: Option<PathBuf>,
    show_connection_string: bool,
}

impl clap::Args for Args {
    fn augment_args(command: Command) -> Command {
        let own = [
            Arg::new(CONFIG)
                .long(CONFIG)
                .env("OSTLER_CONFIG")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help(format!("Settings file [default: {DEFAULT_CONFIG} if it is there]")),
            Arg::new(SHOW_CONNECTION_STRING)
                .long(SHOW_CONNECTION_STRING)
                .action(ArgAction::SetTrue)
                .help("Print the owner's connection string, key included, once the hub is ready"),
        ];
        let last_common = SETTINGS.iter().position(|setting| setting.name == LAST_COMMON);
        let flags = SETTINGS.iter().enumerate().map(|(index, setting)| {
            let default = match setting.default {
                "" => String::new(),
                default => format!(" [default: {default}]"),
            };
            let flag = Arg::new(setting.name)
                .long(setting.name)
                .value_name(setting.form)
                .hide_short_help(last_common.is_some_and(|last| index > last))
                .help(format!("{}{default}", setting.help.trim_end_matches('.')));
            if SWITCHES.contains(&setting.name) {
                flag.num_args(0..=1).require_equals(true).default_missing_value("true")
            } else {
                flag
            }
        });
        command.args(own).args(flags).after_help(
            "Every setting may also stand in the settings file (`mqtt-port = 8883`) or the environment \
             (OSTLER_MQTT_PORT). A flag wins over the environment, and that over the file.\n\n\
             SIGTERM or Ctrl-C: refuse new work, finish what runs within the drain timeout, exit 0. Again: exit at once.",
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let mut flags = Settings::new();
        for setting in SETTINGS {
            if let Some(value) = matches.get_one::<String>(setting.name) {
                flags
                    .set(setting.name, value)
                    .map_err(|error| clap::Error::raw(clap::error::ErrorKind::UnknownArgument, error))?;
            }
        }
        Ok(Self {
            flags,
            config: matches.get_one::<PathBuf>(CONFIG).cloned(),
            show_connection_string: matches.get_flag(SHOW_CONNECTION_STRING),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

pub fn run(args: Args, out: &Out) -> Result {
    let config = configure(args.flags, args.config.as_deref(), std::env::vars_os())?;
    start_logging(&config)?;
    let runtime = runtime(Some(config.workers))?;
    let result = runtime.block_on(serve(config, args.show_connection_string, out));
    // A clean stop has finished everything; after a second signal nothing is waited for.
    runtime.shutdown_background();
    result
}

/// Merges file, environment and flags and checks the result.
fn configure(
    flags: Settings,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Result<Config> {
    let usage = |error: &dyn std::error::Error| Failure::usage(error.to_string().replace('\n', "; "));
    let named = file.or_else(|| Some(Path::new(DEFAULT_CONFIG)).filter(|path| path.exists()));
    let from_file = match named {
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
            Settings::from_toml(&text, &path.display().to_string()).map_err(|error| usage(&error))?
        }
        None => Settings::new(),
    };
    let environment = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let settings = from_file.overlay(Settings::from_env(environment)).overlay(flags);
    Config::from_settings(&settings).map_err(|error| usage(&error))
}

fn start_logging(config: &Config) -> Result {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.log))
        .map_err(|error| Failure::usage(format!("setting `log`: {}: {error}", config.log)))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    match config.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// A runtime with this many workers, or one per core.
pub fn runtime(workers: Option<usize>) -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().map_err(|error| Failure::failed(format!("cannot start: {error}")))
}

/// The signals that ask a hub to stop. The terminal that goes away is one: its hub would stay behind unseen.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl StopSignals {
    pub fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|error| Failure::failed(format!("signals: {error}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

async fn serve(config: Config, show_connection_string: bool, out: &Out) -> Result {
    let mut signals = StopSignals::listen()?;
    let machine_reads = config.log_format == LogFormat::Json;
    let started = Instant::now();
    let running = Server::start(config).await.map_err(start_failure)?;
    if machine_reads {
        log_ready(&running, started.elapsed());
    } else {
        banner(&running, started.elapsed(), out);
    }
    if show_connection_string {
        let ready = running.ready();
        out.show(&HubFile::from(ready), |out| out.line(&ready.connection_string))?;
    }
    signals.next().await;
    if machine_reads {
        tracing::info!("stopping");
    } else {
        out.note("stopping: finishing what runs; once more to stop at once");
    }
    tokio::select! {
        () = running.stop() => Ok(()),
        () = signals.next() => Err(Failure::failed("stopped before everything was finished")),
    }
}

fn start_failure(error: StartError) -> Failure {
    Failure::failed(format!("the hub does not start: {}", chain(&error)))
}

/// Where the hub is and what to do with it. On stderr, beside the log: stdout is for what was asked for.
fn banner(running: &Running, took: Duration, out: &Out) {
    let ready = running.ready();
    let dim = |text: &str| out.paint_note(Tone::Dim, text);
    let line =
        |name: &str, value: String| out.note(format_args!("  {}  {value}", dim(&format!("{name:<9}"))));
    let took = format!("ready after {:.0} ms", took.as_secs_f64() * 1e3);
    out.note(format_args!("{} {}", out.paint_note(Tone::Bold, "Ostler"), dim(&took)));
    line("devices", format!("MQTT over TLS  {}:{}", ready.hostname, ready.mqtt_port));
    let port = if ready.https_port == 443 { String::new() } else { format!(":{}", ready.https_port) };
    line("back ends", format!("HTTPS          https://{}{port}", ready.hostname));
    for (name, port) in [("MQTT", ready.plain_mqtt_port), ("HTTP", ready.plain_http_port)] {
        if let Some(port) = port {
            line("plain", format!("{name} without TLS on port {port}"));
        }
    }
    match &ready.data_dir {
        Some(folder) => line("data", folder.display().to_string()),
        None => line("data", "in memory; gone when the hub stops".to_owned()),
    }
    if let Some(ca) = &ready.ca_file {
        line("CA", format!("{}  {}", ca.display(), dim("`ostler ca` tells how SDKs trust it")));
    }
    if let Some(fallback) = running.https_fallback() {
        out.warn(format_args!(
            "HTTPS is on {} instead of {}: {}",
            fallback.taken, fallback.wanted, fallback.reason
        ));
    }
    if ready.data_dir.is_some() {
        line("next", "ostler device create ID; ostler policy connection-string; ostler monitor".to_owned());
    }
}

/// The banner for a machine that reads the log: a line of prose would not parse there.
fn log_ready(running: &Running, took: Duration) {
    let ready = running.ready();
    tracing::info!(
        hostname = ready.hostname,
        mqtt_port = ready.mqtt_port,
        https_port = ready.https_port,
        plain_mqtt_port = ready.plain_mqtt_port,
        plain_http_port = ready.plain_http_port,
        data_dir = ready.data_dir.as_ref().map(|path| tracing::field::display(path.display())),
        ca_file = ready.ca_file.as_ref().map(|path| tracing::field::display(path.display())),
        took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "ready"
    );
    if let Some(fallback) = running.https_fallback() {
        tracing::warn!(
            wanted = fallback.wanted,
            taken = fallback.taken,
            reason = fallback.reason,
            "https port"
        );
    }
}

impl From<&Ready> for HubFile {
    fn from(ready: &Ready) -> Self {
        Self {
            hostname: ready.hostname.clone(),
            mqtt_port: ready.mqtt_port,
            https_port: ready.https_port,
            plain_mqtt_port: ready.plain_mqtt_port,
            plain_http_port: ready.plain_http_port,
            ca_file: ready.ca_file.clone(),
            data_dir: ready.data_dir.clone(),
            pid: ready.pid,
            connection_string: ready.connection_string.clone(),
        }
    }
}

/// A hub in this process, in memory, found by other commands through a folder that goes away with it.
pub struct LocalHub {
    running: Running,
    file: HubFile,
    ca_pem: String,
    folder: TempDir,
    start_time: Duration,
}

impl LocalHub {
    pub async fn start_ephemeral() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("ostler-demo-")
            .tempdir()
            .map_err(|error| Failure::failed(format!("no temporary folder: {error}")))?;
        let mut config = Config::ephemeral();
        // What is named hub.json is found by `--data`, as in a data folder.
        config.ready_file = Some(folder.path().join("hub.json"));
        let started = Instant::now();
        let running = Server::start(config).await.map_err(start_failure)?;
        let start_time = started.elapsed();
        let ca_pem = running.ca_pem().unwrap_or_default().to_owned();
        let file = HubFile::from(running.ready());
        Ok(Self { running, file, ca_pem, folder, start_time })
    }

    pub fn file(&self) -> &HubFile {
        &self.file
    }

    /// The CA its certificate comes from.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// What `--data` takes to find it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// From nothing to accepting.
    pub fn start_time(&self) -> Duration {
        self.start_time
    }

    /// A client of the owner.
    pub fn client(&self) -> Result<Client> {
        let client = Client::builder(&self.file.connection_string)?
            .port(self.file.https_port)
            .root_ca_pem(self.ca_pem.as_bytes())
            .without_system_roots()
            .build()?;
        Ok(client)
    }

    pub async fn stop(self) {
        self.running.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use clap::Args as _;
    use ostler_server::config::Data;

    fn parse(flags: &[&str]) -> std::result::Result<Args, clap::Error> {
        let command = Args::augment_args(Command::new("serve").no_binary_name(true));
        Args::from_arg_matches(&command.try_get_matches_from(flags)?)
    }

    #[test]
    fn every_setting_is_a_flag() {
        for setting in SETTINGS {
            let flag = format!("--{}={}", setting.name, "x");
            let args = parse(&[&flag]).unwrap();
            assert_eq!(args.flags.value(setting.name).map(|value| value.0), Some("x"), "{flag}");
        }
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("o.toml");
        fs::write(&file, "mqtt-port = 1\nhttps-port = 1\nhostname = 'file.example'\n").unwrap();
        let env = [("OSTLER_MQTT_PORT", "2"), ("OSTLER_HTTPS_PORT", "2"), ("OSTLER_CONNECTION_STRING", "x")];
        let env = env.map(|(name, value)| (name.into(), value.into()));
        let flags = parse(&["--mqtt-port", "3", "--ephemeral"]).unwrap().flags;
        let config = configure(flags, Some(&file), env).unwrap();
        assert_eq!(config.hostname, "file.example");
        assert_eq!(config.data, Data::Memory);
        assert_eq!(format!("{:?} {:?}", config.listen.mqtt, config.listen.https), "Fixed(3) Fixed(2)");
    }

    #[test]
    fn wrong_settings_are_wrong_usage_and_told_in_one_line() {
        let flags = parse(&["--mqtt-port", "x", "--workers=-1"]).unwrap().flags;
        match configure(flags, None, []) {
            Err(Failure::Told { exit: Exit::Usage, message, .. }) => {
                assert!(message.contains("mqtt-port") && message.contains("workers"), "{message}");
                assert_eq!(message.lines().count(), 1);
            }
            other => panic!("{other:?}"),
        }
    }
}
