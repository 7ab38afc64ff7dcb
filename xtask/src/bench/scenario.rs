//! The benchmarks: what each loads, who takes part, and what it is to reach.
//!
//! Jobs and queries have a page of their own, `query.rs` runs the latter.
//!
//! A goal compares the hub's median with a fixed bound, or with the median of a yardstick of the same run.

use super::contender::Kind;

/// How a benchmark is driven.
pub enum Drive {
    /// Every contender is up with 1,000 devices; the load generator runs with these options against each in turn.
    Load(Vec<(Kind, String)>),
    /// A fresh contender for each run, as memory freed by an earlier one would hide the cost.
    Fresh { devices: u64, runs: Vec<(Kind, String)> },
    /// 100,000 connections that never sign in, while the load generator runs with these options.
    Flood(String),
    /// From process start to accepting, with an empty folder.
    StartEmpty,
    /// Registers a fleet, gives it 2.5 KB twins, restarts: rates, memory, time to ready.
    Fleet,
    /// The same fleet in the hub, in PostgreSQL and in DuckDB, each asked the same.
    Query(Asked),
}

/// What a benchmark asks of the fleet.
pub struct Asked {
    /// How the load generator asks the hub.
    pub hub: HubRun,
    /// The same in PostgreSQL's words over `twins(id, doc jsonb)`.
    pub postgres: Option<&'static str>,
    /// The same in DuckDB's words over `twins` with typed columns.
    pub duckdb: Option<&'static str>,
}

/// How the load generator asks the hub.
pub enum HubRun {
    /// One query again and again, one at a time.
    Repeat(&'static str),
    /// The same on a hub that may build no columns.
    Unindexed(&'static str),
    /// Queries at a rate, while devices report at another: texts of the query and of both modes' options.
    Beside { sql: &'static str, query: &'static str, patches: &'static str },
    /// A job over the whole fleet; options of the mode.
    Job(&'static str),
}

/// A figure of one contender: its dotted path in a result line.
#[derive(Clone, Copy)]
pub struct Figure(pub Kind, pub &'static str);

/// What a benchmark is to reach.
pub struct Goal {
    /// The hub's figure.
    pub figure: Figure,
    /// At most or at least.
    pub bound: Bound,
    /// What it is measured by.
    pub by: By,
    /// What the figure is, with its unit.
    pub about: &'static str,
}

/// The direction of a goal.
#[derive(Clone, Copy)]
pub enum Bound {
    AtLeast,
    AtMost,
}

/// The other side of the comparison.
#[derive(Clone, Copy)]
pub enum By {
    /// A fixed value in the figure's unit.
    Value(f64),
    /// A factor of a yardstick's figure in the same run.
    Times(f64, Figure),
}

/// One benchmark.
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub drive: Drive,
    /// Server and load generator share one core. With one call in flight nothing overlaps, and the result would
    /// otherwise depend on where the scheduler puts the two: waking the other core of a virtual machine may cost five
    /// times the call.
    pub pinned: bool,
    pub goals: Vec<Goal>,
}

pub fn at_least(kind: Kind, path: &'static str, by: By, about: &'static str) -> Goal {
    Goal { figure: Figure(kind, path), bound: Bound::AtLeast, by, about }
}

pub fn at_most(kind: Kind, path: &'static str, by: By, about: &'static str) -> Goal {
    Goal { figure: Figure(kind, path), bound: Bound::AtMost, by, about }
}

fn each(kinds: &[Kind], options: &str) -> Vec<(Kind, String)> {
    kinds.iter().map(|kind| (*kind, options.to_owned())).collect()
}

/// All benchmarks, in the order in which they run.
pub fn all() -> Vec<Scenario> {
    let mut all = starts();
    all.extend(methods());
    all.extend(devices());
    all.extend(connections());
    all.extend(service());
    all.extend(super::query::scenarios());
    all
}

fn starts() -> Vec<Scenario> {
    vec![Scenario {
        name: "start-empty",
        about: "cold start with an empty folder, keys and certificates made, until every listener accepts",
        drive: Drive::StartEmpty,
        pinned: false,
        goals: vec![at_most(Kind::Hub, "ready_ms", By::Value(100.0), "ms until ready")],
    }]
}

fn methods() -> Vec<Scenario> {
    let sixty_four = "methods --devices 1000 --concurrency 64";
    let one = "methods --devices 1000 --concurrency 1";
    let request_response =
        |k: u32, requesters: u32| format!("rpc --devices 1000 --concurrency {k} --requesters {requesters}");
    let mut runs = each(&[Kind::Hub, Kind::Mock], sixty_four);
    runs.push((Kind::Mosquitto, request_response(64, 64)));
    let mut single = each(&[Kind::Hub, Kind::Mock], one);
    single.push((Kind::Mosquitto, request_response(1, 1)));
    let rate = |kind, by| at_least(kind, "ops_per_s", by, "calls/s");
    vec![
        Scenario {
            name: "methods-64",
            about: "direct methods REST → device → REST, 64 in flight over 1,000 devices; Mosquitto: request–response",
            drive: Drive::Load(runs),
            pinned: false,
            goals: vec![
                rate(Kind::Hub, By::Times(0.7, Figure(Kind::Mock, "ops_per_s"))),
                rate(Kind::Hub, By::Times(1.0, Figure(Kind::Mosquitto, "ops_per_s"))),
            ],
        },
        Scenario {
            name: "methods-64-tls",
            about: "the same with TLS on both legs",
            drive: Drive::Load(each(&[Kind::HubTls, Kind::MockTls], sixty_four)),
            pinned: false,
            goals: vec![rate(Kind::HubTls, By::Times(0.7, Figure(Kind::MockTls, "ops_per_s")))],
        },
        Scenario {
            name: "methods-1",
            about: "one direct method at a time, both ends on one core",
            drive: Drive::Load(single),
            pinned: true,
            goals: vec![at_most(
                Kind::Hub,
                "lat_us.p50",
                By::Times(1.5, Figure(Kind::Mock, "lat_us.p50")),
                "µs, median latency",
            )],
        },
    ]
}

fn devices() -> Vec<Scenario> {
    let telemetry = "telemetry --connections 200 --size 256 --qos 1 --window 16";
    vec![
        Scenario {
            name: "reported",
            about:
                "durable reported patches from 1,000 devices, one in flight each; the mock hub keeps nothing",
            drive: Drive::Load(each(
                &[Kind::Hub, Kind::Mock],
                "reported --connections 1000 --window 1 --qos 1 --size 48",
            )),
            pinned: false,
            goals: vec![
                at_least(
                    Kind::Hub,
                    "ops_per_s",
                    By::Times(0.4, Figure(Kind::Mock, "ops_per_s")),
                    "patches/s",
                ),
                at_most(Kind::Hub, "lat_us.p99", By::Value(20_000.0), "µs, 99th percentile"),
            ],
        },
        Scenario {
            name: "twin-get",
            about: "twin GET over MQTT from 200 devices, one in flight each",
            drive: Drive::Load(each(&[Kind::Hub, Kind::Mock], "twinget --connections 200")),
            pinned: false,
            goals: vec![],
        },
        Scenario {
            name: "telemetry",
            about: "QoS 1 telemetry of 256 bytes, 200 connections, 16 in flight each",
            drive: Drive::Load(each(&[Kind::Hub, Kind::Mock, Kind::Mosquitto], telemetry)),
            pinned: false,
            goals: vec![at_least(
                Kind::Hub,
                "ops_per_s",
                By::Times(3.0, Figure(Kind::Mosquitto, "ops_per_s")),
                "messages/s",
            )],
        },
        Scenario {
            name: "telemetry-tls",
            about: "the same over TLS",
            drive: Drive::Load(each(&[Kind::HubTls, Kind::MockTls, Kind::MosquittoTls], telemetry)),
            pinned: false,
            goals: vec![],
        },
    ]
}

fn connections() -> Vec<Scenario> {
    // One process can neither hold nor open more connections than its descriptor limit allows.
    let (plain, tls) = (descriptors().min(50_000), descriptors().min(20_000));
    let hold = |n: u64| {
        format!(
            "connect --connections {n} --hold 20 --settle 5 --ping-every 60 --src 127.0.1.1 --per-src 10000"
        )
    };
    let with_subscriptions = |kind: Kind, n: u64| (kind, format!("{} --subs", hold(n)));
    vec![
        Scenario {
            name: "idle-plain",
            about: "idle connections with three subscriptions, a ping a minute",
            drive: Drive::Fresh {
                devices: plain,
                runs: vec![
                    with_subscriptions(Kind::Hub, plain),
                    with_subscriptions(Kind::Mosquitto, plain),
                    (Kind::Accept, hold(plain)),
                ],
            },
            pinned: false,
            goals: vec![
                at_most(
                    Kind::Hub,
                    "bytes_per_connection",
                    By::Value(6.0 * 1024.0),
                    "bytes of server memory each",
                ),
                at_most(Kind::Hub, "idle.server_cores", By::Value(0.05), "cores while idle"),
            ],
        },
        Scenario {
            name: "idle-tls",
            about: "the same over TLS",
            drive: Drive::Fresh {
                devices: tls,
                runs: vec![
                    with_subscriptions(Kind::HubTls, tls),
                    with_subscriptions(Kind::MosquittoTls, tls),
                    (Kind::AcceptTls, hold(tls)),
                ],
            },
            pinned: false,
            goals: vec![
                at_most(
                    Kind::HubTls,
                    "bytes_per_connection",
                    By::Value(16.0 * 1024.0),
                    "bytes of server memory each",
                ),
                at_most(Kind::HubTls, "idle.server_cores", By::Value(0.05), "cores while idle"),
            ],
        },
        Scenario {
            name: "connect-tls",
            about: "new TLS connections, full handshake, signed in; the acceptor: handshake alone",
            drive: Drive::Fresh {
                devices: 8_000,
                runs: each(
                    &[Kind::HubTls, Kind::AcceptTls, Kind::MosquittoTls],
                    "connect --connections 8000 --hold 1 --settle 0 --src 127.0.1.1 --per-src 10000",
                ),
            },
            pinned: false,
            goals: vec![at_least(
                Kind::HubTls,
                "connects_per_s",
                By::Times(0.7, Figure(Kind::AcceptTls, "connects_per_s")),
                "connections/s",
            )],
        },
    ]
}

fn service() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "flood",
            about:
                "100,000 connections that open and say nothing, and direct methods of 100 devices meanwhile",
            drive: Drive::Flood("methods --devices 100 --concurrency 8 --warmup 1 --duration 10".into()),
            pinned: false,
            goals: vec![at_most(Kind::Hub, "errors", By::Value(0.0), "failed calls")],
        },
        Scenario {
            name: "rest-twin-get",
            about: "GET /twins/{id}, 16 service connections",
            drive: Drive::Load(each(
                &[Kind::Hub, Kind::Mock],
                "rest --op get-twin --devices 1000 --concurrency 16",
            )),
            pinned: false,
            goals: vec![at_least(
                Kind::Hub,
                "ops_per_s",
                By::Times(0.5, Figure(Kind::Mock, "ops_per_s")),
                "calls/s",
            )],
        },
        Scenario {
            name: "desired",
            about: "PATCH of desired properties until answered and notified, 16 service connections",
            drive: Drive::Load(each(&[Kind::Hub, Kind::Mock], "desired --devices 1000 --concurrency 16")),
            pinned: false,
            goals: vec![],
        },
        Scenario {
            name: "fleet",
            about: "bulk registration of a fleet, then 2.5 KB twins, then a restart",
            drive: Drive::Fleet,
            pinned: false,
            goals: vec![
                at_least(Kind::Hub, "registered_per_s", By::Value(20_000.0), "devices registered/s"),
                at_most(Kind::Hub, "rss_mb", By::Value(900.0), "MB of server memory with the whole fleet"),
                at_most(Kind::Hub, "ready_ms", By::Value(3_000.0), "ms until ready with the whole fleet"),
            ],
        },
    ]
}

/// How many connections one process can hold here, less what the hub keeps for its files.
fn descriptors() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let hard = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().nth(1)?.parse::<u64>().ok());
    hard.unwrap_or(20_000).saturating_sub(1_200)
}
