//! Queries over the fleet of the measurement: without columns, while they are built, with them, and
//! beside writers.

use super::{memory, mib, patch_one, say, Random};
use ostler_core::query::{Collection, Dialect, Query};
use ostler_store::{Embedded, Filter, Found, NobodyConnected, Options, Order, Store};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PAGE: usize = 100;
/// Runs of a query; the median is shown.
const RUNS: usize = 15;

/// What is asked, and how it is called.
const QUERIES: &[(&str, &str)] = &[
    ("count of all", "SELECT COUNT() AS n FROM devices"),
    ("first page of all", "SELECT * FROM devices"),
    ("first page, 1 % by a number", "SELECT * FROM devices WHERE properties.reported.battery = 42"),
    (
        "first page, 1 % by two",
        "SELECT * FROM devices WHERE tags.location.line = 7 AND properties.reported.battery < 25",
    ),
    ("first page, none", "SELECT * FROM devices WHERE tags.owner = 'nobody'"),
    ("count of 20 %, 100 values", "SELECT COUNT() AS n FROM devices WHERE properties.reported.battery < 20"),
    (
        "count of 20 %, a million values",
        "SELECT COUNT() AS n FROM devices WHERE properties.reported.device.uptimeSeconds < 200000",
    ),
    (
        "count per site",
        "SELECT tags.location.site AS s, COUNT() AS n FROM devices GROUP BY tags.location.site",
    ),
    (
        "count per site of 20 %",
        "SELECT tags.location.site AS s, COUNT() AS n FROM devices WHERE properties.reported.battery < 20 GROUP BY tags.location.site",
    ),
    (
        "mean per site",
        "SELECT tags.location.site AS s, AVG(properties.reported.temperature) AS t FROM devices GROUP BY tags.location.site",
    ),
    ("one by its serial", "SELECT * FROM devices WHERE properties.reported.device.serial = 'SN0000012345'"),
    ("one by its id", "SELECT * FROM devices WHERE deviceId = 'device-0012345'"),
    (
        "first page in another order",
        "SELECT * FROM devices WHERE properties.reported.battery < 20 ORDER BY properties.reported.temperature DESC",
    ),
];

struct Asked {
    name: &'static str,
    query: Arc<Query>,
    filter: Arc<Filter>,
}

impl Asked {
    fn new(name: &'static str, text: &str) -> Asked {
        let query = Query::parse(text, Dialect::Extended).expect("valid");
        let filter =
            Filter { modules: query.from == Collection::Modules, condition: query.condition.clone() };
        Asked { name, query: Arc::new(query), filter: Arc::new(filter) }
    }

    /// Rows that came back.
    async fn run(&self, store: &Embedded) -> usize {
        let live = Arc::new(NobodyConnected);
        if self.query.is_grouped() {
            let groups = store.fold(self.filter.clone(), live, self.query.clone()).await;
            return groups.expect("answered").rows().len();
        }
        let order = match self.query.order_by.as_slice() {
            [] => Order::ById,
            columns => Order::By(columns.to_vec()),
        };
        let found = store.find(self.filter.clone(), live, order, None, PAGE).await.expect("answered");
        let Found { records, .. } = found;
        records.len()
    }
}

/// Opens the store twice: without columns and with them. `only`: the queries whose names contain this,
/// and without columns.
pub(super) fn measure(
    data: &Path,
    devices: u64,
    seconds: f64,
    only: Option<&str>,
    runtime: &tokio::runtime::Runtime,
) {
    let open = |column_bytes| {
        let options = Options { column_bytes, ..Options::default() };
        Arc::new(Embedded::open(data, &options).expect("opens"))
    };
    let is_asked = |name: &str| only.is_none_or(|only| name.contains(only));
    let queries = QUERIES.iter().filter(|(name, _)| is_asked(name));
    let asked: Vec<Asked> = queries.map(|(name, text)| Asked::new(name, text)).collect();
    let store = open(0);
    say(&format!("process {} MiB, no columns", mib(memory("VmRSS"))));
    for asked in &asked {
        let (rows, micros, cpu) = runtime.block_on(timed(&store, asked, RUNS));
        say(&format!("  {:<34} {:>9.3} ms  {cpu:>6.1} ms CPU  {rows} rows", asked.name, micros as f64 / 1e3));
    }
    drop(store);
    if only.is_some() {
        return;
    }
    let store = open(Options::default().column_bytes);
    say("columns, as they come: 1st, 2nd, 3rd time, then the median");
    for asked in &asked {
        let mut first = Vec::new();
        for _ in 0..3 {
            let (_, micros, _) = runtime.block_on(timed(&store, asked, 1));
            first.push(format!("{:>8.3}", micros as f64 / 1e3));
        }
        let (rows, micros, cpu) = runtime.block_on(timed(&store, asked, RUNS));
        let first = first.join(" ");
        say(&format!(
            "  {:<34} {first}  {:>8.3} ms  {cpu:>6.1} ms CPU  {rows} rows",
            asked.name,
            micros as f64 / 1e3
        ));
    }
    say(&format!("process {} MiB with columns, peak {} MiB", mib(memory("VmRSS")), mib(memory("VmHWM"))));
    let ids = Asked::new("", "SELECT * FROM devices WHERE properties.reported.battery < 20");
    let began = Instant::now();
    let live = Arc::new(NobodyConnected);
    let found = runtime.block_on(store.find_ids(ids.filter, live.clone())).expect("answered");
    say(&format!("ids of {}: {:.1} ms", found.len(), began.elapsed().as_secs_f64() * 1e3));
    drop(found);
    let began = Instant::now();
    let found = runtime.block_on(store.find_ids(Arc::default(), live)).expect("answered");
    say(&format!("ids of all {}: {:.1} ms", found.len(), began.elapsed().as_secs_f64() * 1e3));
    drop(found);
    runtime.block_on(beside_writers(store, devices, seconds));
    say(&format!("process {} MiB at the end, peak {} MiB", mib(memory("VmRSS")), mib(memory("VmHWM"))));
}

/// CPU time of this process, all threads, also those that ended; in steps of 10 ms.
fn cpu_millis() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10
}

/// Rows, the median of some runs in microseconds, and the CPU time of each in milliseconds.
async fn timed(store: &Embedded, asked: &Asked, runs: usize) -> (usize, u128, f64) {
    let before = cpu_millis();
    let mut times = Vec::with_capacity(runs);
    let mut rows = 0;
    for _ in 0..runs {
        let began = Instant::now();
        rows = asked.run(store).await;
        times.push(began.elapsed().as_micros());
    }
    times.sort_unstable();
    let cpu = (cpu_millis() - before) as f64 / runs as f64;
    (rows, times[times.len() / 2], cpu)
}

/// Selective queries from eight callers while 5,000 patches arrive a second.
async fn beside_writers(store: Arc<Embedded>, devices: u64, seconds: f64) {
    const PATCHES: u64 = 5_000;
    const PATCHERS: u64 = 50;
    let done = Arc::new(AtomicBool::new(false));
    let patched = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let patchers: Vec<_> = (0..PATCHERS)
        .map(|n| {
            let (store, done, patched) = (store.clone(), done.clone(), patched.clone());
            tokio::spawn(async move {
                let mut random = Random(n);
                let mut turn = tokio::time::interval(Duration::from_millis(1000 * PATCHERS / PATCHES));
                while !done.load(Ordering::Relaxed) {
                    turn.tick().await;
                    patch_one(&*store, &mut random, devices).await;
                    patched.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let times = Arc::new(Mutex::new(Vec::new()));
    let callers: Vec<_> = (0..8u64)
        .map(|n| {
            let (store, times) = (store.clone(), times.clone());
            tokio::spawn(async move {
                let mut random = Random(n + 1000);
                let mut mine = Vec::new();
                while began.elapsed().as_secs_f64() < seconds {
                    let serial = random.below(devices);
                    let text = format!(
                        "SELECT * FROM devices WHERE properties.reported.device.serial = 'SN{serial:010}'"
                    );
                    let asked = Asked::new("", &text);
                    let began = Instant::now();
                    assert_eq!(asked.run(&store).await, 1);
                    mine.push(began.elapsed().as_micros() as u32);
                    tokio::task::yield_now().await;
                }
                times.lock().expect("no panics").append(&mut mine);
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panics");
    }
    done.store(true, Ordering::Relaxed);
    let took = began.elapsed().as_secs_f64();
    for patcher in patchers {
        patcher.await.expect("no panics");
    }
    let mut times = std::mem::take(&mut *times.lock().expect("no panics"));
    times.sort_unstable();
    let at = |part: f64| f64::from(times[((times.len() - 1) as f64 * part) as usize]) / 1000.0;
    say(&format!(
        "selective queries beside {:.0} patches/s: {:.0}/s  p50 {:.3} ms  p99 {:.3} ms  max {:.1} ms",
        patched.load(Ordering::Relaxed) as f64 / took,
        times.len() as f64 / took,
        at(0.5),
        at(0.99),
        at(1.0)
    ));
}
