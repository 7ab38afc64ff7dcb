//! Queries and jobs over a whole fleet, beside PostgreSQL and DuckDB with the same data.
//!
//! The hub is asked over its REST door, one query at a time, so that its figures hold the whole way of a request. The
//! other two are timed by their own clients and give less back: DuckDB holds only the queried properties, as typed
//! columns; PostgreSQL holds each twin's JSON, as the hub gives it out, under a GIN index.
//!
//! Invariant: all three hold what one export of the hub gave.

use super::contender::{Contender, Hub, Kind};
use super::scenario::{at_least, at_most, Asked, By, Drive, Figure, Goal, HubRun, Scenario};
use super::{fleet, Bench};
use crate::process::{available, check, Server};
use anyhow::{bail, Context, Result};
use serde_json::{json, Value};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const POSTGRES_BIN: &str = "/usr/lib/postgresql/15/bin";

const BY_SITE: &str = "SELECT * FROM devices WHERE tags.site = 'plant-43'";
const BY_SITE_POSTGRES: &str =
    r#"SELECT doc FROM twins WHERE doc @> '{"tags":{"site":"plant-43"}}' ORDER BY id LIMIT 100"#;
const BY_SITE_DUCKDB: &str = "SELECT * FROM twins WHERE site = 'plant-43' ORDER BY id LIMIT 100";

/// The benchmarks of this page.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![method_job(), twin_job()];
    all.extend(queries());
    all
}

fn method_job() -> Scenario {
    Scenario {
        name: "job-method",
        about: "a method job over 10,000 connected devices, from its creation to `completed`",
        drive: Drive::Fresh {
            devices: 10_000,
            runs: vec![(
                Kind::Hub,
                "job --devices 10000 --type scheduleDeviceMethod --condition * --poll-ms 5".into(),
            )],
        },
        pinned: false,
        goals: vec![at_most(Kind::Hub, "total_s", By::Value(0.7), "seconds to completed")],
    }
}

fn twin_job() -> Scenario {
    let asked = Asked {
        hub: HubRun::Job("--type scheduleUpdateTwin --condition * --connected 0 --poll-ms 20 --limit 600"),
        postgres: Some("UPDATE twins SET doc = jsonb_set(doc, '{properties,desired,job}', '\"one\"')"),
        duckdb: None,
    };
    let rate = |by| at_least(Kind::Hub, "devices_per_s", by, "devices/s, durable");
    scenario(
        "job-twin",
        "a twin-update job over the whole fleet; PostgreSQL: one UPDATE",
        asked,
        vec![rate(By::Value(50_000.0)), rate(By::Times(3.0, Figure(Kind::Postgres, "devices_per_s")))],
    )
}

fn queries() -> Vec<Scenario> {
    let page = |hub| Asked { hub, postgres: Some(BY_SITE_POSTGRES), duckdb: Some(BY_SITE_DUCKDB) };
    vec![
        scenario(
            "query-unindexed",
            "first page of 100 twins, in the order of their ids, of a filter that 1 % of the fleet meets, by a hub \
             that may build no columns",
            page(HubRun::Unindexed(BY_SITE)),
            vec![at_most(Kind::Hub, "query_ms", By::Value(60.0), "ms, median")],
        ),
        scenario(
            "query-page",
            "the same once the hub has built its column",
            page(HubRun::Repeat(BY_SITE)),
            goals(3.0),
        ),
        scenario(
            "query-group",
            "devices counted by a tag of 97 values",
            Asked {
                hub: HubRun::Repeat("SELECT tags.site AS site, COUNT() AS n FROM devices GROUP BY tags.site"),
                postgres: Some("SELECT doc #>> '{tags,site}', count(*) FROM twins GROUP BY 1"),
                duckdb: Some("SELECT site, count(*) FROM twins GROUP BY site"),
            },
            goals(5.0),
        ),
        scenario(
            "query-range",
            "devices counted whose property of 900,000 values lies in a fifth of its range",
            Asked {
                hub: HubRun::Repeat(
                    "SELECT COUNT() AS n FROM devices WHERE properties.desired.uptimeSecs < 180000",
                ),
                postgres: Some(
                    "SELECT count(*) FROM twins WHERE (doc #>> '{properties,desired,uptimeSecs}')::float8 < 180000",
                ),
                duckdb: Some("SELECT count(*) FROM twins WHERE uptime < 180000"),
            },
            goals(3.0),
        ),
        scenario(
            "query-beside",
            "queries that one device answers, 5,000/s asked, while 200 devices report 5,000 times/s",
            Asked {
                hub: HubRun::Beside {
                    sql: "SELECT * FROM devices WHERE properties.desired.network.ip = '10.3.13.64'",
                    query: "--concurrency 16 --rate 5000",
                    patches: "reported --connections 200 --window 1 --qos 1 --size 48 --rate 5000 --prefix writer --create",
                },
                postgres: None,
                duckdb: None,
            },
            vec![
                at_least(Kind::Hub, "ops_per_s", By::Value(4_950.0), "queries/s"),
                at_least(Kind::Hub, "patches_per_s", By::Value(4_950.0), "patches/s"),
                at_most(Kind::Hub, "lat_us.p99", By::Value(10_000.0), "µs, 99th percentile"),
                at_most(Kind::Hub, "rss_mb", By::Value(900.0), "MB of server memory after all queries"),
            ],
        ),
    ]
}

fn goals(most_ms: f64) -> Vec<Goal> {
    let at_most = |by| at_most(Kind::Hub, "query_ms", by, "ms, median");
    vec![
        at_most(By::Value(most_ms)),
        at_most(By::Times(0.05, Figure(Kind::Postgres, "query_ms"))),
        at_most(By::Times(1.0, Figure(Kind::DuckDb, "query_ms"))),
    ]
}

fn scenario(name: &'static str, about: &'static str, asked: Asked, goals: Vec<Goal>) -> Scenario {
    Scenario { name, about, drive: Drive::Query(asked), pinned: false, goals }
}

/// Runs what was chosen of this page, interleaved between the three.
pub fn all(bench: &Bench, chosen: &[Scenario]) -> Result<()> {
    let asked: Vec<(&Scenario, &Asked)> = chosen
        .iter()
        .filter_map(|scenario| match &scenario.drive {
            Drive::Query(asked) => Some((scenario, asked)),
            _ => None,
        })
        .collect();
    if asked.is_empty() || bench.hub.is_none() {
        return Ok(());
    }
    let fleet = Fleet::prepare(bench)?;
    for (scenario, asked) in asked {
        println!("  {}", scenario.name);
        let hub = fleet.hub(bench, asked)?;
        for rep in 0..bench.reps {
            bench.record(scenario.name, Kind::Hub.name(), rep, ask_hub(bench, &hub, asked, rep)?)?;
            let job = matches!(asked.hub, HubRun::Job(_));
            // One UPDATE of everything takes minutes and leaves the table twice as large.
            if let Some(sql) = asked.postgres.filter(|_| !job || rep == 0) {
                let result = fleet.postgres.ask(sql, if job { Some(bench.devices) } else { None })?;
                bench.record(scenario.name, Kind::Postgres.name(), rep, result)?;
            }
            if let Some(sql) = asked.duckdb {
                bench.record(scenario.name, Kind::DuckDb.name(), rep, fleet.duckdb.ask(sql)?)?;
            }
        }
    }
    Ok(())
}

fn ask_hub(bench: &Bench, hub: &Contender, asked: &Asked, rep: u32) -> Result<Value> {
    let pid = hub.server.pid();
    let window = format!("--warmup 1 --duration {} {} --server-pid {pid}", bench.duration, hub.reach);
    let mut result = match &asked.hub {
        HubRun::Repeat(sql) | HubRun::Unindexed(sql) => {
            bench.load_with(&format!("query --concurrency 1 --page 100 {window}"), &["--sql", sql])?
        }
        HubRun::Beside { sql, query, patches } => {
            // The column of a property that was never asked for is built first.
            let warm = format!("query --concurrency 1 --page 100 --warmup 0 --duration 2 {}", hub.reach);
            bench.load_with(&warm, &["--sql", sql])?;
            let mut command = bench.command(&bench.hubload);
            let longer = bench.duration + 4.0;
            command.args(patches.split_whitespace()).args(["--duration", &longer.to_string()]);
            command.args(hub.reach.split_whitespace()).arg("--quiet").stdout(Stdio::piped());
            let writers = command.spawn().context("hubload")?;
            let asked = bench.load_with(&format!("query {query} --page 100 {window}"), &["--sql", sql]);
            let written = writers.wait_with_output()?;
            let mut asked = asked?;
            let line = String::from_utf8_lossy(&written.stdout).trim().to_owned();
            let written: Value = serde_json::from_str(&line).with_context(|| format!("hubload: {line}"))?;
            if written["ops_per_s"].is_null() || written["errors"] != 0 {
                bail!("the devices that report: {line}");
            }
            asked["patches_per_s"] = written["ops_per_s"].clone();
            asked
        }
        HubRun::Job(options) => {
            let devices = bench.devices;
            bench.load(&format!(
                "job --devices {devices} {options} {} --label rep{rep} --server-pid {pid}",
                hub.reach
            ))?
        }
    };
    if result["errors"].as_u64().is_some_and(|errors| errors > 0) {
        bail!("{} of the hub's answers were errors: {}", result["errors"], result["error_kinds"]);
    }
    if let (Some(rows), Some(ops)) = (result["rows"].as_f64(), result["ops"].as_f64()) {
        result["query_ms"] = (result["lat_us"]["p50"].as_f64().unwrap_or(0.0) / 1e3).into();
        result["rows_each"] = (rows / ops).into();
    }
    result["rss_mb"] = fleet::resident_mb(pid)?.into();
    Ok(result)
}

/// The fleet in all three places.
struct Fleet {
    data: PathBuf,
    postgres: Postgres,
    duckdb: DuckDb,
}

impl Fleet {
    fn prepare(bench: &Bench) -> Result<Self> {
        let data = bench.work.join(format!("data-query-{}", bench.devices));
        let log = bench.work.join("query.log");
        if !data.exists() {
            let unfinished = bench.work.join("data-query-unfinished");
            fleet::seed(bench, &unfinished, &log)?;
            std::fs::rename(&unfinished, &data)?;
        }
        let export = bench.work.join(format!("fleet-{}.ndjson", bench.devices));
        if !export.exists() {
            export_twins(bench, &data, &log, &export)?;
        }
        let postgres = Postgres::start(bench, &export)?;
        let duckdb = DuckDb::fill(bench, &export)?;
        Ok(Self { data, postgres, duckdb })
    }

    fn hub(&self, bench: &Bench, asked: &Asked) -> Result<Contender> {
        let log = bench.work.join("query.log");
        let none = [Path::new("--query-columns-limit"), Path::new("0")];
        let more: &[&Path] = if matches!(asked.hub, HubRun::Unindexed(_)) { &none } else { &[] };
        Ok(Hub::start_with(bench, &self.data, &log, more)?.contender(Kind::Hub))
    }
}

/// Every twin as the hub gives it out, a line each.
fn export_twins(bench: &Bench, data: &Path, log: &Path, export: &Path) -> Result<()> {
    println!("  exporting {} twins", bench.devices);
    let hub = Hub::start(bench, data, log)?;
    let unfinished = export.with_extension("unfinished");
    let mut command = Command::new(bench.hub.as_deref().context("this run is without the hub")?);
    command.args([
        "query",
        "SELECT * FROM devices",
        "--output",
        "json",
        "--lines",
        "--page-size",
        "1000",
        "--data",
    ]);
    check(command.arg(data).stdout(File::create(&unfinished)?))?;
    hub.stop()?;
    std::fs::rename(&unfinished, export)?;
    Ok(())
}

/// A PostgreSQL of our own, on a socket in the scratch folder.
struct Postgres {
    _server: Server,
    data: PathBuf,
    socket: PathBuf,
}

/// What was started is the program that changes the user; PostgreSQL is its child and would outlive it.
impl Drop for Postgres {
    fn drop(&mut self) {
        let mut stop = as_postgres("pg_ctl");
        stop.arg("-D").arg(&self.data).args(["-m", "fast", "-s", "stop"]).status().ok();
    }
}

impl Postgres {
    fn start(bench: &Bench, export: &Path) -> Result<Self> {
        if !Path::new(POSTGRES_BIN).join("postgres").exists() {
            bail!("PostgreSQL 15 is not installed: there is no {POSTGRES_BIN}/postgres");
        }
        let (data, socket) = (bench.work.join("postgres"), PathBuf::from("/tmp"));
        let is_new = !data.exists();
        if is_new {
            std::fs::create_dir_all(&data)?;
            check(Command::new("chown").arg("postgres").arg(&data))?;
            check(as_postgres("initdb").args(["--auth=trust", "-D"]).arg(&data).stdout(Stdio::null()))?;
        }
        let mut command = as_postgres("postgres");
        command.arg("-D").arg(&data).arg("-k").arg(&socket).args(["-p", "54329", "-c", "listen_addresses="]);
        for setting in [
            "shared_buffers=2GB",
            "work_mem=256MB",
            "max_wal_size=8GB",
            "effective_cache_size=8GB",
            "max_parallel_workers_per_gather=2",
            "random_page_cost=1.1",
        ] {
            command.args(["-c", setting]);
        }
        let server = Server::start(&mut command, &bench.work.join("postgres.log"))?;
        let postgres = Self { _server: server, data, socket };
        let began = std::time::Instant::now();
        while !postgres.psql().args(["-c", "SELECT 1"]).output()?.status.success() {
            if began.elapsed().as_secs() > 60 {
                bail!("PostgreSQL did not become ready; see {}", bench.work.join("postgres.log").display());
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let table = format!("loaded_{}", bench.devices);
        if !postgres.psql().args(["-c", &format!("SELECT 1 FROM {table}")]).output()?.status.success() {
            postgres.fill(export, &table)?;
        }
        Ok(postgres)
    }

    fn fill(&self, export: &Path, marker: &str) -> Result<()> {
        println!("  filling PostgreSQL");
        let copy = format!(
            "\\copy staging FROM '{}' WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')",
            export.display()
        );
        for sql in [
            "DROP TABLE IF EXISTS twins, staging",
            "CREATE UNLOGGED TABLE staging(doc jsonb)",
            &copy,
            "CREATE TABLE twins AS SELECT doc->>'deviceId' AS id, doc FROM staging ORDER BY 1",
            "DROP TABLE staging",
            "ALTER TABLE twins ADD PRIMARY KEY (id)",
            "CREATE INDEX ON twins USING gin (doc jsonb_path_ops)",
            "VACUUM ANALYZE twins",
            &format!("CREATE TABLE {marker}()"),
        ] {
            check(self.psql().args(["-q", "-c", sql]))?;
        }
        Ok(())
    }

    fn psql(&self) -> Command {
        let mut command = Command::new("psql");
        command
            .args(["-U", "postgres", "-X", "-p", "54329", "-v", "ON_ERROR_STOP=1", "-h"])
            .arg(&self.socket);
        command.stdin(Stdio::null());
        command
    }

    /// The best of a few runs, in ms as its own client sees it; an update runs once.
    fn ask(&self, sql: &str, updates: Option<u64>) -> Result<Value> {
        let runs = if updates.is_some() { 1 } else { 3 };
        let mut script = String::from("\\timing on\n\\o /dev/null\n");
        (0..runs).for_each(|_| script += &format!("{sql};\n"));
        let mut child = self.psql().arg("-q").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        child.stdin.take().context("psql")?.write_all(script.as_bytes())?;
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let times: Vec<f64> = text
            .lines()
            .filter_map(|line| line.strip_prefix("Time: ")?.split_whitespace().next()?.parse().ok())
            .collect();
        let best = times.iter().copied().min_by(f64::total_cmp);
        let best = best.with_context(|| format!("psql told no time: {text}"))?;
        Ok(match updates {
            Some(rows) => json!({ "total_s": best / 1e3, "devices_per_s": rows as f64 / best * 1e3 }),
            None => json!({ "query_ms": best }),
        })
    }
}

/// A program of PostgreSQL's, as the user it insists on.
fn as_postgres(program: &str) -> Command {
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(Path::new(POSTGRES_BIN).join(program)).current_dir("/");
    command
}

/// DuckDB inside a Python that has it.
struct DuckDb {
    python: PathBuf,
    file: PathBuf,
}

impl DuckDb {
    fn fill(bench: &Bench, export: &Path) -> Result<Self> {
        let mut python = PathBuf::from("python3");
        if !available("python3", &["-c", "import duckdb"]) {
            let environment = bench.work.join("python");
            python = environment.join("bin/python");
            if !python.exists() {
                check(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
                check(Command::new(&python).args(["-m", "pip", "install", "--quiet", "duckdb"]))?;
            }
        }
        let duckdb = Self { python, file: bench.work.join(format!("fleet-{}.duckdb", bench.devices)) };
        if !duckdb.file.exists() {
            println!("  filling DuckDB");
            duckdb.run(
                "con.execute(f\"\"\"CREATE TABLE twins AS SELECT deviceId AS id, tags.site AS site, tags.line AS line, \
                 properties.desired.uptimeSecs AS uptime, properties.desired.temperature AS temperature, \
                 properties.desired.network.ip AS ip FROM read_json(?, format='newline_delimited', columns={{ \
                 deviceId: 'VARCHAR', tags: 'STRUCT(site VARCHAR, line INTEGER)', properties: \
                 'STRUCT(desired STRUCT(uptimeSecs BIGINT, temperature DOUBLE, network STRUCT(ip VARCHAR)))' }}) \
                 ORDER BY 1\"\"\", [sys.argv[2]])\nprint('{}')",
                &export.display().to_string(),
            )?;
        }
        Ok(duckdb)
    }

    /// The best of many runs within one process.
    fn ask(&self, sql: &str) -> Result<Value> {
        self.run(
            "times = []\nfor _ in range(30):\n    t = time.perf_counter()\n    rows = con.execute(sys.argv[2]).fetchall()\n    \
             times.append(time.perf_counter() - t)\nprint(json.dumps({'query_ms': statistics.median(times) * 1e3}))",
            sql,
        )
    }

    fn run(&self, script: &str, argument: &str) -> Result<Value> {
        let script = format!(
            "import duckdb, json, statistics, sys, time\ncon = duckdb.connect(sys.argv[1])\n\
             con.execute('SET enable_progress_bar = false')\n{script}\n"
        );
        let output =
            Command::new(&self.python).args(["-c", &script]).arg(&self.file).arg(argument).output()?;
        if !output.status.success() {
            std::fs::remove_file(&self.file).ok();
            bail!("DuckDB: {}", String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).context("DuckDB's answer")
    }
}
