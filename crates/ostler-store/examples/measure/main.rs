//! Measures the embedded store on this machine: `measure [query] [devices] [seconds] [folder]
//! [only]`.
//!
//! Registers devices with twins of about 2.5 KB of JSON, reopens the store, and patches three
//! reported properties of random twins with 1, 64 and 1,024 commits waiting; with `query` it asks
//! queries instead, without columns, with them, and beside writers. The raw rate of
//! fdatasync on the same disk is measured between the runs: compare ratios, not figures of different
//! runs.

mod query;

use ostler_core::id::EntityId;
use ostler_core::identity::{FreshSecrets, Identity, IdentitySpec};
use ostler_core::json::Object;
use ostler_core::record::Record;
use ostler_core::time::Timestamp;
use ostler_core::twin::{SectionKind, SectionPatch, TwinPatch};
use ostler_store::{Change, Embedded, Expect, Options, Store};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

// The allocator of the hub.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// CPU time of this thread: what something costs, whatever else the machine does.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0))
}

fn mib(bytes: u64) -> u64 {
    bytes / 1024 / 1024
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A generator that needs no dependency: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

fn id(n: u64) -> EntityId {
    EntityId::parse(&format!("device-{n:07}")).expect("valid")
}

fn json(text: &str) -> Object {
    Object::parse(text.as_bytes()).expect("valid")
}

fn now() -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ticks(i64::try_from(now.as_nanos() / 100).unwrap_or(i64::MAX))
}

fn record(n: u64) -> Record {
    let mut random = Random(n);
    let mut key = || std::array::from_fn(|_| random.below(256) as u8);
    let fresh = FreshSecrets { primary: key(), secondary: key(), etag_start: 17 };
    let identity = Identity::create(IdentitySpec::default(), &fresh, now()).expect("allowed");
    let mut record = Record::new(id(n), identity);
    let tags = format!(
        r#"{{"location":{{"site":"plant-{}","hall":"H{}","line":{}}},"owner":"operations","model":"PX-{}"}}"#,
        n % 40,
        n % 9,
        n % 25,
        n % 5
    );
    let desired = format!(
        r#"{{"telemetry":{{"intervalSeconds":60,"enabled":true,"batch":20}},"limits":{{"temperatureHigh":85.5,"temperatureLow":-10.0,"vibration":4.2}},"firmware":{{"version":"3.{}.1","url":"https://updates.example.com/px/3.{}.1.bin"}}}}"#,
        n % 7,
        n % 7
    );
    let patch = TwinPatch {
        tags: Some(SectionPatch::Merge(json(&tags))),
        desired: Some(SectionPatch::Merge(json(&desired))),
    };
    let (twin, _) = record.twin.patch(&patch, now()).expect("allowed");
    let reported = format!(
        r#"{{"firmware":{{"version":"3.{}.1","state":"idle"}},"network":{{"ip":"10.{}.{}.{}","rssi":-{},"operator":"example-mobile"}},"device":{{"uptimeSeconds":{},"restarts":{},"serial":"SN{:010}"}},"temperature":{}.{},"vibration":1.25,"battery":{},"state":"running"}}"#,
        n % 7,
        n % 200,
        n % 250,
        n % 240,
        n % 90 + 20,
        n * 37 % 1_000_000,
        n % 50,
        n,
        n % 60,
        n % 10,
        n % 100
    );
    record.twin = twin.report(&json(&reported), now()).expect("allowed");
    record
}

fn raw_sync_rate(folder: &Path) -> f64 {
    let path = folder.join("raw-sync");
    let Ok(mut file) = std::fs::File::create(&path) else { return 0.0 };
    let block = [7u8; 4096];
    let began = Instant::now();
    let mut count = 0u32;
    while began.elapsed() < Duration::from_secs(1) {
        if file.write_all(&block).and_then(|()| file.sync_data()).is_err() {
            return 0.0;
        }
        count += 1;
    }
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    let _ = std::fs::remove_file(path);
    rate
}

async fn fill(store: &Embedded, devices: u64) {
    const CHUNK: u64 = 100;
    let began = Instant::now();
    let mut waiting = std::collections::VecDeque::new();
    for first in (0..devices).step_by(CHUNK as usize) {
        let put = |n| Change::Put { record: Box::new(record(n)), expect: Expect::Absent };
        let changes = (first..devices.min(first + CHUNK)).map(put).collect();
        let mut commit = store.commit(changes);
        // Poll once: the changes are handed over, and the next are made while these are written.
        if futures_util::FutureExt::now_or_never(&mut commit).is_none() {
            waiting.push_back(commit);
        }
        if waiting.len() > 50 {
            let outcomes = waiting.pop_front().expect("just pushed").await;
            assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        }
    }
    for commit in waiting {
        assert!(commit.await.iter().all(Result::is_ok));
    }
    let took = began.elapsed().as_secs_f64();
    say(&format!("register {devices} in requests of 100: {took:.1} s, {:.0}/s", devices as f64 / took));
}

async fn patch_one(store: &dyn Store, random: &mut Random, devices: u64) {
    let id = id(random.below(devices));
    let patch = json(&format!(
        r#"{{"temperature":{}.{},"battery":{},"device":{{"uptimeSeconds":{}}}}}"#,
        random.below(60),
        random.below(10),
        random.below(100),
        random.below(1_000_000)
    ));
    loop {
        let found = store.load_reported(&id).await.expect("readable");
        let (expect, reported) = found.expect("registered");
        let reported = reported.report(&patch, now()).expect("allowed");
        let change = Change::PutReported { id: id.clone(), reported, expect };
        let outcome = store.commit(vec![change]).await.remove(0);
        match outcome {
            Ok(_) => return,
            Err(ostler_store::CommitError::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn patches(store: Arc<Embedded>, devices: u64, waiting: u64, seconds: f64, raw: f64) {
    let done = Arc::new(AtomicU64::new(0));
    let times = Arc::new(Mutex::new(Vec::new()));
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let before = store.status();
    let tasks: Vec<_> = (0..waiting)
        .map(|n| {
            let (store, done, times) = (store.clone(), done.clone(), times.clone());
            tokio::spawn(async move {
                let mut random = Random(n ^ until.elapsed().as_nanos() as u64 ^ (n << 32));
                let mut mine = Vec::new();
                while Instant::now() < until {
                    let began = Instant::now();
                    patch_one(&*store, &mut random, devices).await;
                    mine.push(began.elapsed().as_micros() as u32);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                times.lock().expect("no panics").append(&mut mine);
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panics");
    }
    let after = store.status();
    let mut times = std::mem::take(&mut *times.lock().expect("no panics"));
    times.sort_unstable();
    let at = |part: f64| f64::from(times[((times.len() - 1) as f64 * part) as usize]) / 1000.0;
    let rate = done.load(Ordering::Relaxed) as f64 / seconds;
    let batches = (after.commits - before.commits).max(1);
    say(&format!(
        "patches, {waiting:>4} waiting: {rate:>8.0}/s  p50 {:.2} ms  p99 {:.2} ms  max {:.1} ms  {:.0} a batch, {:.0} batches/s, raw fdatasync {raw:.0}/s",
        at(0.5), at(0.99), at(1.0),
        (after.changes - before.changes) as f64 / batches as f64,
        batches as f64 / seconds,
    ));
}

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    let is_query = arguments.next_if(|word| word == "query").is_some();
    let devices: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let seconds: f64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(5.0);
    let folder = arguments.next().map_or_else(|| std::env::temp_dir().join("ostler-measure"), PathBuf::from);
    let data = folder.join(format!("store-{devices}"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("runtime");
    let sample = record(7);
    let mut text = Vec::new();
    let twin = &sample.twin;
    for (kind, section) in [
        (SectionKind::Tags, &twin.tags),
        (SectionKind::Desired, &twin.desired),
        (SectionKind::Reported, &twin.reported),
    ] {
        section.write_for_service(kind, &mut text);
    }
    say(&format!("twin: {} bytes of JSON with metadata", text.len()));
    let mut options = Options::default();
    if let Ok(workers) = std::env::var("WORKERS") {
        options.workers = workers.parse().expect("a number");
    }
    if let Ok(memtable) = std::env::var("MEMTABLE_MIB") {
        options.memtable_bytes = memtable.parse::<u64>().expect("a number") << 20;
    }
    if !data.exists() {
        let began = Instant::now();
        let store = Embedded::open(&data, &options).expect("opens");
        say(&format!("open, empty: {:.1} ms", began.elapsed().as_secs_f64() * 1e3));
        runtime.block_on(fill(&store, devices));
        runtime.block_on(store.close());
    }
    if is_query {
        query::measure(&data, devices, seconds, arguments.next().as_deref(), &runtime);
        return;
    }
    let rss = memory("VmRSS");
    let began = Instant::now();
    let store = Arc::new(Embedded::open(&data, &options).expect("opens"));
    let took = began.elapsed().as_secs_f64();
    let bytes = store.status().memory_bytes;
    say(&format!(
        "open, {devices} devices: {took:.2} s; records {} MiB ({} bytes each), process {} -> {} MiB, peak {} MiB",
        mib(bytes), bytes / devices.max(1), mib(rss), mib(memory("VmRSS")), mib(memory("VmHWM"))
    ));
    let mut random = Random(1);
    let began = cpu();
    for _ in 0..200_000 {
        let record = futures_util::FutureExt::now_or_never(store.load(&id(random.below(devices.max(1)))));
        std::hint::black_box(record.expect("memory answers at once").expect("readable"));
    }
    say(&format!("load: {:.2} us each, decoded whole", (cpu() - began).as_secs_f64() * 5.0));
    let began = cpu();
    for _ in 0..200_000 {
        let id = id(random.below(devices.max(1)));
        let found = futures_util::FutureExt::now_or_never(store.load_reported(&id));
        std::hint::black_box(found.expect("memory answers at once").expect("readable"));
    }
    say(&format!("load: {:.2} us each, the reported part", (cpu() - began).as_secs_f64() * 5.0));
    let began = cpu();
    for _ in 0..200_000 {
        let id = id(random.below(devices.max(1)));
        let found = futures_util::FutureExt::now_or_never(store.load_reported(&id));
        let (expect, reported) = found.expect("in memory").expect("readable").expect("registered");
        drop(std::hint::black_box(store.commit(vec![Change::PutReported { id, reported, expect }])));
    }
    say(&format!("load and encode: {:.2} us each, the reported part", (cpu() - began).as_secs_f64() * 5.0));
    let mut other = record(1);
    let began = cpu();
    for n in 0..200_000u64 {
        other.twin.version = n;
        let change = Change::Put { record: Box::new(other.clone()), expect: Expect::Absent };
        drop(std::hint::black_box(store.commit(vec![change])));
    }
    say(&format!("clone and encode: {:.2} us each", (cpu() - began).as_secs_f64() * 5.0));
    for waiting in [1, 64, 1024] {
        let raw = raw_sync_rate(&folder);
        runtime.block_on(patches(store.clone(), devices, waiting, seconds, raw));
    }
    say(&format!(
        "after the patches: process {} MiB, peak {} MiB",
        mib(memory("VmRSS")),
        mib(memory("VmHWM"))
    ));
    let began = Instant::now();
    drop(store);
    say(&format!("close: {:.2} s", began.elapsed().as_secs_f64()));
    let began = Instant::now();
    let store = Embedded::open(&data, &options).expect("opens");
    say(&format!("open again: {:.2} s", began.elapsed().as_secs_f64()));
    drop(store);
}
