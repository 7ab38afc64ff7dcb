//! A whole fleet: how fast it registers, what it weighs, how soon a restarted hub serves it.

use super::contender::{Hub, Kind};
use super::Bench;
use anyhow::{Context, Result};
use serde_json::{json, Value};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Devices in one seed file; bounds what the hub holds in memory while it loads one.
const SEED_CHUNK: u64 = 50_000;

/// Registers the fleet through the bulk door, then seeds twins of 2.5 KB, then restarts and weighs the hub.
pub fn run(bench: &Bench, name: &str) -> Result<()> {
    register(bench, name)?;
    let data = bench.work.join("data-fleet");
    let log = bench.work.join("fleet.log");
    std::fs::remove_dir_all(&data).ok();
    let seed = bench.work.join("seed.json");
    let mut from = 0;
    while from < bench.devices {
        let to = (from + SEED_CHUNK).min(bench.devices);
        write_seed(&seed, from, to)?;
        Hub::start_with(bench, &data, &log, &[Path::new("--seed"), &seed])?.stop()?;
        println!("  {to} devices seeded");
        from = to;
    }
    std::fs::remove_file(&seed).ok();
    for rep in 0..bench.reps {
        let hub = Hub::start(bench, &data, &log)?;
        let result = json!({
            "fleet": bench.devices,
            "ready_ms": hub.ready_after.as_secs_f64() * 1e3,
            "rss_mb": resident_mb(hub.pid())?,
            "twin_bytes": twin(0).to_string().len(),
            "disk_mb": folder_mb(&data)?,
        });
        hub.stop()?;
        bench.record(name, Kind::Hub.name(), rep, result)?;
    }
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

/// A twin of 5 tags, 8 desired and 12 reported leaves; with the metadata the hub adds, 2.5 KB as JSON.
fn twin(i: u64) -> Value {
    json!({
        "tags": {
            "site": format!("plant-{}", i % 97), "line": i % 12, "owner": "operations", "ring": format!("r{}", i % 5),
            "geo": {"country": "DE"},
        },
        "desired": {
            "telemetryIntervalSecs": 30 + i % 4 * 15, "logLevel": "info", "upload": {"enabled": true, "maxKb": 512},
            "thresholds": {"temperature": 80.5, "pressure": 12, "vibration": 0.35}, "firmware": "4.2.1",
        },
        "reported": {
            "firmware": "4.2.1", "uptimeSecs": i * 7 % 900_000, "battery": {"percent": i % 101, "charging": i % 3 == 0},
            "network": {"ip": format!("10.{}.{}.{}", i >> 16 & 255, i >> 8 & 255, i & 255), "rssi": -40 - (i % 50) as i64, "carrier": "fiber"},
            "temperature": 20.5 + (i % 400) as f64 / 10.0, "pressure": i % 16, "vibration": 0.12,
            "lastBoot": "2026-01-01T00:00:00Z", "state": "running",
        },
    })
}

fn write_seed(path: &PathBuf, from: u64, to: u64) -> Result<()> {
    let mut text = String::from("{\"devices\":[\n");
    for i in from..to {
        let twin = twin(i);
        let separator = if i + 1 == to { "" } else { "," };
        let properties = json!({"desired": twin["desired"], "reported": twin["reported"]});
        writeln!(
            text,
            "{{\"deviceId\":\"dev-{i:07}\",\"tags\":{},\"properties\":{properties}}}{separator}",
            twin["tags"]
        )?;
    }
    text.push_str("]}\n");
    std::fs::write(path, text)?;
    Ok(())
}

fn resident_mb(pid: u32) -> Result<f64> {
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
