//! A whole fleet: how fast it registers, what it weighs, how soon a restarted hub serves it.

use super::contender::{Contender, Hub, Kind};
use super::Bench;
use anyhow::{Context, Result};
use serde_json::{json, Value};
use std::path::Path;

/// Devices in one seed file; bounds what the hub holds in memory while it loads one.
const SEED_CHUNK: u64 = 100_000;

/// Registers the fleet through the bulk door, then seeds twins of 2.5 KB, then restarts and weighs the hub.
pub fn run(bench: &Bench, name: &str) -> Result<()> {
    register(bench, name)?;
    let (data, log) = (bench.work.join("data-fleet"), bench.work.join("fleet.log"));
    seed(bench, &data, &log)?;
    for rep in 0..bench.reps {
        let hub = Hub::start(bench, &data, &log)?;
        let (ready_ms, rss_mb) = (hub.ready_after.as_secs_f64() * 1e3, resident_mb(hub.pid())?);
        let contender = hub.contender(Kind::Hub);
        let result = json!({
            "fleet": bench.devices,
            "ready_ms": ready_ms,
            "rss_mb": rss_mb,
            "twin_bytes": twin_bytes(bench, &contender)?,
            "disk_mb": folder_mb(&data)?,
        });
        bench.record(name, Kind::Hub.name(), rep, result)?;
    }
    Ok(())
}

/// Makes a data folder that holds the fleet.
pub fn seed(bench: &Bench, data: &Path, log: &Path) -> Result<()> {
    std::fs::remove_dir_all(data).ok();
    let seed = bench.work.join("seed.json");
    let mut from = 0;
    while from < bench.devices {
        let to = (from + SEED_CHUNK).min(bench.devices);
        write_seed(&seed, from, to)?;
        Hub::start_with(bench, data, log, &[Path::new("--seed"), &seed])?.stop()?;
        println!("  {to} devices seeded");
        from = to;
    }
    std::fs::remove_file(&seed).ok();
    Ok(())
}

fn register(bench: &Bench, name: &str) -> Result<()> {
    let data = bench.work.join("data-register");
    for rep in 0..bench.reps {
        std::fs::remove_dir_all(&data).ok();
        let hub = Hub::start(bench, &data, &bench.work.join("fleet.log"))?;
        let contender = hub.contender(Kind::Hub);
        let pid = contender.server.pid();
        let devices = bench.devices.min(200_000);
        let mut result =
            bench.load(&format!("provision --devices {devices} {} --server-pid {pid}", contender.reach))?;
        result["registered_per_s"] = result["ops_per_s"].take();
        bench.record(name, Kind::Hub.name(), rep, result)?;
    }
    std::fs::remove_dir_all(&data).ok();
    Ok(())
}

/// A twin of 5 tags and 20 desired properties; with the metadata that the hub adds, 2.5 KB as JSON.
///
/// A fleet of a million would need a million connections to report anything; to the memory it is the same which
/// section a property is in.
fn seed_entry(i: u64) -> Value {
    json!({
        "id": format!("dev-{i:06}"),
        "tags": {
            "site": format!("plant-{}", i % 97), "line": i % 12, "owner": "operations", "ring": format!("r{}", i % 5),
            "geo": {"country": "DE"},
        },
        "properties": {"desired": {
            "telemetryIntervalSecs": 30 + i % 4 * 15, "logLevel": "info", "upload": {"enabled": true, "maxKb": 512},
            "thresholds": {"temperature": 80.5, "pressure": 12, "vibration": 0.35}, "firmware": "4.2.1",
            "uptimeSecs": i * 7 % 900_000, "battery": {"percent": i % 101, "charging": i % 3 == 0},
            "network": {
                "ip": format!("10.{}.{}.{}", i >> 16 & 255, i >> 8 & 255, i & 255),
                "rssi": -40 - i64::try_from(i % 50).unwrap_or(0), "carrier": "fiber",
            },
            "temperature": 20.5 + (i % 400) as f64 / 10.0, "pressure": i % 16, "vibration": 0.12,
            "lastBoot": "2026-01-01T00:00:00Z", "state": "running", "model": "x200", "slot": i % 4,
        }},
    })
}

fn write_seed(path: &Path, from: u64, to: u64) -> Result<()> {
    let entries: Vec<String> = (from..to).map(|i| seed_entry(i).to_string()).collect();
    std::fs::write(path, format!("{{\"devices\":[\n{}\n]}}\n", entries.join(",\n")))?;
    Ok(())
}

/// Mean size of a twin's JSON as a back end reads it.
fn twin_bytes(bench: &Bench, contender: &Contender) -> Result<f64> {
    let options = "rest --op get-twin --devices 1000 --concurrency 4 --warmup 0 --duration 1";
    let result = bench.load(&format!("{options} {}", contender.reach))?;
    let figure =
        |name: &str| result[name].as_f64().with_context(|| format!("the load generator gives no {name}"));
    Ok(figure("body_bytes")? / figure("ops")?)
}

/// What a process holds of the machine's memory.
pub fn resident_mb(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0 / 1e6)
}

fn folder_mb(folder: &Path) -> Result<f64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { (folder_mb(&entry.path())? * 1e6) as u64 } else { meta.len() };
    }
    Ok(bytes as f64 / 1e6)
}
