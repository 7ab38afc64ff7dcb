//! Drives the scenarios. Load scenarios run interleaved (repetition, then scenario, then contender), so that noise
//! of the machine falls on all alike.

use super::contender::{self, Contender, Kind};
use super::scenario::{Drive, Scenario};
use super::{fleet, start, Bench};
use anyhow::Result;
use std::process::{Command, Stdio};

const LOAD_DEVICES: u64 = 1_000;

/// Runs everything that was chosen and records every result.
pub fn all(bench: &Bench, chosen: &[Scenario]) -> Result<()> {
    loads(bench, chosen)?;
    for rep in 0..bench.reps {
        for scenario in chosen {
            match &scenario.drive {
                Drive::Load(_) => {}
                Drive::Fresh { devices, runs } => fresh(bench, scenario.name, *devices, runs, rep)?,
                Drive::StartEmpty if bench.hub.is_some() => start::empty(bench, scenario.name, rep)?,
                Drive::Fleet if bench.hub.is_some() && rep == 0 => fleet::run(bench, scenario.name)?,
                Drive::StartEmpty | Drive::Fleet => {}
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
