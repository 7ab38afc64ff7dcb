//! How long a hub takes from process start until every listener accepts.

use super::contender::{Hub, Kind};
use super::Bench;
use anyhow::Result;
use serde_json::json;

/// A cold start with an empty folder: keys, certificates and policies are made on the way.
pub fn empty(bench: &Bench, name: &str, rep: u32) -> Result<()> {
    let data = bench.work.join("data-start");
    std::fs::remove_dir_all(&data).ok();
    let hub = Hub::start(bench, &data, &bench.work.join("start.log"))?;
    let ready_ms = hub.ready_after.as_secs_f64() * 1e3;
    hub.stop()?;
    bench.record(name, Kind::Hub.name(), rep, json!({ "ready_ms": ready_ms }))
}
