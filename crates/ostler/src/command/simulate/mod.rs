//! `ostler simulate`: many devices in one process, over real MQTT connections, from a scenario.
//!
//! ```text
//!   scenario ─> group ─┐                       threads of the fleet
//!                      v
//!   hub ─> door ─> link: bytes <─> device: what it hears and does ─> counters ─> view
//! ```
//!
//! [`device`] decides and is pure; [`link`] is one connection; [`fleet`] runs them all.
//!
//! Must not know: store and hub internals. It comes through the doors that every device and back end uses.
//!
//! Invariant: it ends when told to, in bounded time, and deletes what it registered when asked to.

mod counters;
mod delay;
mod device;
mod door;
mod firmware;
mod fleet;
mod link;
mod machine;
mod random;
mod roster;
mod scenario;
mod template;
mod view;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::builder::PossibleValuesParser;
use ostler_core::identity::SymmetricKey;
use ostler_core::time::Timestamp;
use ostler_service_sdk::Client;
use serde_json::json;

use self::counters::{Cause, Totals};
use self::delay::Span;
use self::device::Device;
use self::door::{Door, DoorOptions, SignIn};
use self::fleet::{Fleet, Member, Pace};
use self::roster::Roster;
use self::scenario::{Builtin, Scenario, BUILTINS};
use self::view::View;
use super::serve::StopSignals;
use crate::exit::{Exit, Failure, Result};
use crate::hub::HubOptions;
use crate::input;
use crate::output::Out;

const DEFAULT_SCENARIO: &str = "idle";
const DEFAULT_DEVICES: u64 = 100;
const DEFAULT_PREFIX: &str = "sim-";
const MAX_DEVICES: u64 = 1_000_000;
/// Refusals before any device was let in after which it is clear that none will be.
const HOPELESS: u64 = 20;
/// How often it is looked whether all are connected, beside the intervals of the view.
const GLANCE: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: `ostler simulate --scenario lock --devices 1000 --register --delete`, and in another terminal
`ostler method invoke sim-000001 lockDoor`. A scenario of one's own starts from one of these:
`ostler simulate --scenario chaos --print-scenario > mine.toml`; docs/simulator.md tells what may stand in it.

SIGTERM or Ctrl-C: the devices say goodbye, exit 0. Again: exit at once.")]
pub struct Args {
    /// Scenario file (TOML); `-` is stdin
    #[arg(value_name = "FILE", conflicts_with = "scenario")]
    file: Option<PathBuf>,
    /// A scenario that needs no file
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(BUILTINS.map(|builtin| builtin.name)))]
    scenario: Option<String>,
    /// Print the scenario and end
    #[arg(long)]
    print_scenario: bool,

    /// How many devices [default: as the scenario says, or 100]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_DEVICES))]
    devices: Option<u64>,
    /// The devices are named by this and a number of six digits [default: as the scenario says, or sim-]
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Number of the first device
    #[arg(long, value_name = "N", default_value_t = 1)]
    start: u64,
    /// The same seed makes the same decisions [default: as the scenario says, or 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Create the devices first, with new keys, and tags and desired properties of the scenario; those that exist are
    /// made as new
    #[arg(long)]
    register: bool,
    /// Delete the devices at the end
    #[arg(long)]
    delete: bool,

    /// End after this time: 90s, 10m, 2h
    #[arg(long, value_name = "TIME", value_parser = delay::span)]
    duration: Option<Span>,
    /// Time between two samples
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Span,
    /// Write this file once every device has been connected
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,

    /// New connections per second [default: as the scenario says, or 1000]
    #[arg(long, value_name = "N", value_parser = rate, help_heading = "Connections")]
    connect_rate: Option<f64>,
    /// Threads that run devices [default: one for two cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Connections")]
    threads: Option<u16>,
    #[command(flatten)]
    door: DoorOptions,
    #[command(flatten)]
    hub: HubOptions,
}

fn rate(text: &str) -> std::result::Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if rate > 0.0 && rate <= 1e6 {
        Ok(rate)
    } else {
        Err("expected a number above 0, at most 1000000".to_owned())
    }
}

fn interval(text: &str) -> std::result::Result<Span, String> {
    match delay::span(text)? {
        Span(0..=99) => Err("at least 100ms".to_owned()),
        span => Ok(span),
    }
}

pub async fn run(args: Args, out: &Out) -> Result {
    let (text, name) = text(&args)?;
    if args.print_scenario {
        return out.raw(&text);
    }
    let scenario = Scenario::parse(&text).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    let devices = args.devices.or(scenario.devices).unwrap_or(DEFAULT_DEVICES);
    if devices == 0 || devices > MAX_DEVICES {
        return Err(Failure::usage(format!("{name}: `devices` must be between 1 and {MAX_DEVICES}")));
    }
    let prefix = args.prefix.clone().or_else(|| scenario.prefix.clone());
    let roster = Roster::new(prefix.unwrap_or_else(|| DEFAULT_PREFIX.to_owned()), args.start, devices)?;
    machine::make_room(devices)?;
    let mut signals = StopSignals::listen()?;
    let run = Run { seed: args.seed.or(scenario.seed).unwrap_or(1), args, name, scenario, roster };
    let door = run.door().await?;
    let hub = run.args.hub.client()?;
    let result = run.play(door, &hub, &mut signals, out).await;
    let deleted = if run.args.delete { run.roster.delete(&hub, out).await } else { Ok(()) };
    // What went wrong first is what matters.
    result.and(deleted)
}

/// The scenario's text and its name for messages.
fn text(args: &Args) -> Result<(String, String)> {
    match &args.file {
        Some(path) => Ok((input::text(path)?, path.display().to_string())),
        None => {
            let name = args.scenario.as_deref().unwrap_or(DEFAULT_SCENARIO);
            let builtin = Builtin::named(name)
                .ok_or_else(|| Failure::usage(format!("there is no scenario `{name}`")))?;
            Ok((builtin.text.to_owned(), format!("scenario {name}")))
        }
    }
}

/// What is simulated.
struct Run {
    args: Args,
    name: String,
    scenario: Scenario,
    roster: Roster,
    seed: u64,
}

impl Run {
    async fn door(&self) -> Result<Door> {
        let connection = &self.scenario.connection;
        let sign_in = SignIn {
            keep_alive_secs: u16::try_from(connection.keep_alive.0 / 1000).unwrap_or(240),
            clean_session: connection.clean_session,
            model_id: connection.model_id.as_deref(),
            resume_tls: connection.resume_tls,
        };
        Door::find(&self.args.hub, &self.args.door, self.roster.devices, sign_in).await
    }

    /// From the registration to the last goodbye.
    async fn play(&self, door: Door, hub: &Client, signals: &mut StopSignals, out: &Out) -> Result {
        let prepared = tokio::select! {
            keys = self.prepare(hub, out) => keys?,
            () = signals.next() => return Ok(()),
        };
        let how = door.describe();
        self.introduce(&how, out);
        let fleet = Fleet::start(door, self.members(prepared)?, self.pace())?;
        let started = Instant::now();
        let title = format!("{}  {}", self.name, how);
        let mut view = View::new(out, self.roster.devices, title);
        let watched = tokio::select! {
            watched = self.watch(&fleet, &mut view, started, out) => watched,
            () = signals.next() => Ok(()),
        };
        view.clear()?;
        let totals = fleet.totals();
        let stopped = tokio::select! {
            stopped = fleet.stop() => stopped,
            () = signals.next() => return Err(Failure::failed("stopped before the devices had said goodbye")),
        };
        watched?;
        view.summary(started.elapsed(), &totals)?;
        stopped
    }

    fn introduce(&self, how: &str, out: &Out) {
        let groups: Vec<_> = self.scenario.group_names().collect();
        let about = match self.scenario.description.as_str() {
            "" => groups.join(", "),
            description => description.to_owned(),
        };
        out.note(format_args!("{}: {} ({about}), seed {}", self.name, self.roster.describe(), self.seed));
        out.note(format_args!("{how}; Ctrl-C ends"));
    }

    async fn prepare(&self, hub: &Client, out: &Out) -> Result<Vec<SymmetricKey>> {
        if !self.args.register {
            return self.roster.keys(hub, out).await;
        }
        let started = Instant::now();
        let keys = self.roster.register(hub, &self.scenario, self.seed, wall_clock(), out).await?;
        let took = started.elapsed().as_secs_f64();
        out.note(format_args!("registered {} devices in {took:.1} s", keys.len()));
        Ok(keys)
    }

    fn members(&self, keys: Vec<SymmetricKey>) -> Result<Vec<Member>> {
        let member = |(key, index)| {
            let group = self.scenario.group_of(index).clone();
            let device = Device::new(self.roster.id(index)?, index, self.seed, group);
            Ok(Member { device, index, key })
        };
        keys.into_iter().zip(0..).map(member).collect()
    }

    fn pace(&self) -> Pace {
        let connection = &self.scenario.connection;
        Pace {
            rate: self.args.connect_rate.unwrap_or(connection.rate),
            backoff: (connection.backoff.0.max(1), connection.backoff_max.0.max(1)),
            seed: self.seed,
            threads: self.args.threads.map_or_else(machine::threads, usize::from),
        }
    }

    /// Shows samples until the time is over or nothing will come of it.
    async fn watch(&self, fleet: &Fleet, view: &mut View<'_>, started: Instant, out: &Out) -> Result {
        let interval = Duration::from_millis(self.args.interval.0);
        let end = self.args.duration.map(|span| started + Duration::from_millis(span.0));
        let mut next_sample = started + interval;
        let mut ready = false;
        let mut limits = Limits::default();
        loop {
            let until = [Some(next_sample), end, (!ready).then(|| Instant::now() + GLANCE)];
            if let Some(until) = until.into_iter().flatten().min() {
                tokio::time::sleep_until(until.into()).await;
            }
            let now = Instant::now();
            if !ready {
                let totals = fleet.totals();
                hopeless(&totals, self.roster.devices)?;
                ready = totals.ever_connected >= self.roster.devices;
                if ready {
                    self.tell_ready(started.elapsed(), view, out)?;
                }
            }
            if now >= next_sample {
                let totals = fleet.totals();
                limits.warn(&totals, view, out)?;
                view.sample(started.elapsed(), totals)?;
                next_sample = (next_sample + interval).max(now);
            }
            if end.is_some_and(|end| now >= end) {
                return Ok(());
            }
        }
    }

    fn tell_ready(&self, took: Duration, view: &mut View<'_>, out: &Out) -> Result {
        let (devices, seconds) = (self.roster.devices, took.as_secs_f64());
        view.clear()?;
        out.note(format_args!("all {devices} devices connected after {seconds:.1} s"));
        let Some(path) = &self.args.ready_file else { return Ok(()) };
        let document = json!({
            "pid": std::process::id(), "devices": devices, "prefix": self.roster.prefix,
            "start": self.roster.start, "seconds": (seconds * 1e3).round() / 1e3,
        });
        write_whole(path, &document.to_string()).map_err(|error| Failure::file(path, &error))
    }
}

/// What of this machine's limits has been told already.
#[derive(Debug, Default)]
struct Limits {
    ports: bool,
    files: bool,
}

impl Limits {
    /// Tells once that this machine, not the hub, keeps devices from connecting.
    fn warn(&mut self, totals: &Totals, view: &mut View<'_>, out: &Out) -> Result {
        if totals.errors_of(Cause::NoPorts) > 0 && !std::mem::replace(&mut self.ports, true) {
            view.clear()?;
            out.warn(
                "this machine has no free local port towards the hub: widen net.ipv4.ip_local_port_range, or connect \
                 from more addresses with --source",
            );
        }
        if totals.errors_of(Cause::NoFiles) > 0 && !std::mem::replace(&mut self.files, true) {
            view.clear()?;
            out.warn(
                "this machine has no free file descriptor: raise fs.file-max, or simulate fewer devices",
            );
        }
        Ok(())
    }
}

/// Ends a simulation of which nothing can come: the hub lets nobody in.
fn hopeless(totals: &Totals, devices: u64) -> Result {
    let enough = HOPELESS.min(devices);
    if totals.ever_connected > 0 {
        return Ok(());
    }
    if totals.errors_of(Cause::NotAuthorized) >= enough {
        return Err(Failure::new(Exit::Unauthorized, "the hub refuses the devices' keys")
            .advise("Were they changed meanwhile? --register gives the devices new ones"));
    }
    if totals.errors_of(Cause::Tls) >= enough {
        return Err(Failure::new(Exit::Unreachable, "no TLS connection to the hub's MQTT port succeeds")
            .advise("Pass the hub's CA with --ca FILE; `ostler ca` on the hub's machine prints it"));
    }
    Ok(())
}

/// Whoever waits for the file finds it complete.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map_err(|error| error.error)?;
    fs::metadata(path).map(drop)
}

fn wall_clock() -> Timestamp {
    let ticks = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() / 100);
    Timestamp::from_ticks(i64::try_from(ticks).unwrap_or(i64::MAX))
}
