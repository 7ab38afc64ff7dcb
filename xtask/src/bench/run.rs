//! Drives the scenarios. Load scenarios run interleaved (repetition, then scenario, then contender), so that noise
//! of the machine falls on all alike.

use super::contender::{self, Contender, Kind};
use super::scenario::{Drive, Scenario};
use super::{fleet, query, start, Bench};
use crate::process::Server;
use anyhow::Result;
use std::process::{Command, Stdio};

const LOAD_DEVICES: u64 = 1_000;

/// Runs everything that was chosen and records every result.
pub fn all(bench: &Bench, chosen: &[Scenario]) -> Result<()> {
    loads(bench, chosen)?;
    query::all(bench, chosen)?;
    for rep in 0..bench.reps {
        for scenario in chosen {
            match &scenario.drive {
                Drive::Load(_) | Drive::Query(_) => {}
                Drive::Fresh { devices, runs } => fresh(bench, scenario.name, *devices, runs, rep)?,
                Drive::StartEmpty if bench.hub.is_some() => start::empty(bench, scenario.name, rep)?,
                Drive::Flood(options) if bench.hub.is_some() => flood(bench, scenario.name, options, rep)?,
                Drive::Fleet if bench.hub.is_some() && rep == 0 => fleet::run(bench, scenario.name)?,
                Drive::StartEmpty | Drive::Flood(_) | Drive::Fleet => {}
            }
        }
    }
    Ok(())
}

fn loads(bench: &Bench, chosen: &[Scenario]) -> Result<()> {
    let runs: Vec<(&Scenario, &Vec<(Kind, String)>)> = chosen
        .iter()
        .filter_map(|scenario| match &scenario.drive {
            Drive::Load(runs) => Some((scenario, runs)),
            _ => None,
        })
        .collect();
    let mut up: Vec<(Kind, Contender)> = Vec::new();
    for (kind, _) in runs.iter().flat_map(|(_, runs)| runs.iter()) {
        if kind.present(bench) && !up.iter().any(|(other, _)| other == kind) {
            up.push((*kind, contender::start(bench, *kind)?));
            if let Some((kind, contender)) = up.last() {
                provision(bench, *kind, contender, LOAD_DEVICES)?;
            }
        }
    }
    for rep in 0..bench.reps {
        for (scenario, runs) in &runs {
            for (kind, options) in runs.iter() {
                if let Some((_, contender)) = up.iter().find(|(other, _)| other == kind) {
                    let window = format!("{options} --warmup 1 --duration {}", bench.duration);
                    let _pinned =
                        scenario.pinned.then(|| Pinned::to_last_core(contender.server.pid())).transpose()?;
                    measure(bench, scenario.name, *kind, contender, &window, rep)?;
                }
            }
        }
    }
    Ok(())
}

fn fresh(bench: &Bench, name: &str, devices: u64, runs: &[(Kind, String)], rep: u32) -> Result<()> {
    for (kind, options) in runs.iter().filter(|(kind, _)| kind.present(bench)) {
        let contender = contender::start(bench, *kind)?;
        provision(bench, *kind, &contender, devices)?;
        measure(bench, name, *kind, &contender, options, rep)?;
    }
    Ok(())
}

/// 100,000 silent connections from 50 addresses; a process can open so many only together with others.
fn flood(bench: &Bench, name: &str, options: &str, rep: u32) -> Result<()> {
    const PROCESSES: u32 = 10;
    let contender = contender::start(bench, Kind::Hub)?;
    provision(bench, Kind::Hub, &contender, 100)?;
    let port = contender
        .reach
        .split("--mqtt-port ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .unwrap_or_default();
    let silent: Vec<Server> = (0..PROCESSES)
        .map(|i| {
            let mut command = bench.command(&bench.hubload);
            command.args([
                "connect",
                "--target",
                "raw",
                "--mqtt-port",
                port,
                "--connections",
                "10000",
                "--hold",
                "60",
            ]);
            command.args(["--per-src", "2000", "--src", &format!("127.0.{}.1", i + 2), "--quiet"]);
            Server::start(&mut command, &bench.work.join("flood.log"))
        })
        .collect::<Result<_>>()?;
    let result = measure(bench, name, Kind::Hub, &contender, options, rep);
    drop(silent);
    result
}

fn provision(bench: &Bench, kind: Kind, contender: &Contender, devices: u64) -> Result<()> {
    if kind.has_registry() {
        let options =
            format!("provision --devices {devices} --import-mode createOrUpdate {}", contender.reach);
        let result = bench.load(&options)?;
        if result["errors"].as_u64() != Some(0) {
            anyhow::bail!("registering at {}: {}", kind.name(), result["first_error"]);
        }
    }
    Ok(())
}

fn measure(
    bench: &Bench,
    name: &str,
    kind: Kind,
    contender: &Contender,
    options: &str,
    rep: u32,
) -> Result<()> {
    let pid = contender.server.pid();
    match bench.load(&format!("{options} {} --server-pid {pid}", contender.reach)) {
        Ok(result) => bench.record(name, kind.name(), rep, result),
        // One failed run is told and left out of the medians; the others still count.
        Err(error) => {
            bench.record(name, kind.name(), rep, serde_json::json!({ "failed": format!("{error:#}") }))
        }
    }
}

/// Keeps a server, and the load generator that we start meanwhile, on one core; undone when dropped.
struct Pinned {
    pids: [u32; 2],
    cores: usize,
}

impl Pinned {
    fn to_last_core(server: u32) -> Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let pinned = Self { pids: [server, std::process::id()], cores };
        pinned.spread(&(cores - 1).to_string());
        Ok(pinned)
    }

    fn spread(&self, cores: &str) {
        for pid in self.pids {
            let mut taskset = Command::new("taskset");
            taskset.args(["--all-tasks", "--pid", "--cpu-list", cores, &pid.to_string()]);
            // The server may have died meanwhile; the measurement says so.
            taskset.stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.spread(&format!("0-{}", self.cores - 1));
    }
}
