//! `cargo xtask bench`: the hub and its yardsticks under the same load generator, interleaved in one run.
//!
//! The load generator is a separate project that is passed in (`--hubload DIR`): a program called `hubload` with the
//! modes used in `scenario.rs`, and `rawlimit`, which holds the yardsticks: a mock hub that speaks the hub's topics
//! and calls without checking or storing anything, and a bare TLS acceptor. Mosquitto joins when it is installed.
//!
//! Invariant: a contender's figure is only ever compared with figures of the same run of this command.

mod contender;
mod fleet;
mod query;
mod report;
mod run;
mod scenario;
mod start;

use crate::args::Args;
use crate::process::{cargo, check, root, target_dir};
use anyhow::{bail, Context, Result};
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const HELP: &str = "\
usage: cargo xtask bench --hubload DIR [options]

  --hubload DIR    the load generator: a cargo project, or a folder with built `hubload` and `rawlimit`
  --hub FILE       the hub's binary; without it a release build is made
  --no-hub         only the yardsticks: what this machine can do at all
  --only NAME,..   only benchmarks whose name starts so; `--list` names them
  --reps N         repetitions, medians are reported (default 5)
  --duration S     measured seconds of a load run (default 4)
  --devices N      fleet size of the memory and start benchmarks (default 1000000)
  --nice N         priority of servers and load generator, e.g. -10 beside other work (needs root)
  --work DIR       scratch folder, on the disk to be measured (default target/bench)
  --out FILE       result lines are appended here (default DIR of --work/results.jsonl)
  --tables FILE    renew the tables of what ran in this page, between its two marker comments
";

/// What every benchmark needs to know.
pub struct Bench {
    hubload: PathBuf,
    rawlimit: PathBuf,
    hub: Option<PathBuf>,
    work: PathBuf,
    reps: u32,
    duration: f64,
    devices: u64,
    nice: Option<i32>,
    out: PathBuf,
}

/// Runs the benchmarks chosen by the arguments, then prints their medians and how they stand to their goals.
pub fn run(argv: &[String]) -> Result<()> {
    let mut args = Args::new(argv);
    if args.flag("--help") || args.flag("-h") {
        print!("{HELP}");
        return Ok(());
    }
    let (list, only) = (args.flag("--list"), args.values("--only")?);
    let tables = args.value("--tables")?;
    let chosen: Vec<_> = scenario::all()
        .into_iter()
        .filter(|one| only.is_empty() || only.iter().any(|prefix| one.name.starts_with(prefix.as_str())))
        .collect();
    if list {
        chosen.iter().for_each(|one| println!("{:18} {}", one.name, one.about));
        return Ok(());
    }
    if chosen.is_empty() {
        bail!("no benchmark starts with {}; --list names them", only.join(" or "));
    }
    let bench = Bench::from_args(args)?;
    let from = std::fs::metadata(&bench.out).map_or(0, |meta| meta.len());
    run::all(&bench, &chosen)?;
    let results = report::Results::read(&bench.out, from)?;
    let text = report::tables(&results, &chosen);
    println!("\n{text}");
    if let Some(page) = tables {
        let names: Vec<&str> = scenario::all().iter().map(|scenario| scenario.name).collect();
        report::replace(Path::new(&page), &text, &names)?;
    }
    Ok(())
}

impl Bench {
    fn from_args(mut args: Args) -> Result<Self> {
        let target = target_dir()?;
        let work = args.value("--work")?.map_or_else(|| target.join("bench"), PathBuf::from);
        std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
        let work = work.canonicalize()?;
        let source = PathBuf::from(args.value("--hubload")?.context("--hubload DIR is needed; see --help")?);
        let without = args.flag("--no-hub");
        let hub = match args.value("--hub")? {
            _ if without => None,
            Some(path) => Some(PathBuf::from(path).canonicalize().context("--hub")?),
            None => Some(release_build(&target)?),
        };
        let (hubload, rawlimit) = load_generator(&source, &target)?;
        let nice = args.value("--nice")?.map(|text| text.parse().context("--nice")).transpose()?;
        let out = args.value("--out")?.map_or_else(|| work.join("results.jsonl"), PathBuf::from);
        let bench = Self {
            hubload,
            rawlimit,
            hub,
            work,
            reps: args.number("--reps", 5)?,
            duration: args.number("--duration", 4.0)?,
            devices: args.number("--devices", 1_000_000)?,
            nice,
            out,
        };
        args.rest()?;
        Ok(bench)
    }

    /// A command at the priority asked for, in a session of its own: the scheduler groups by session, so that a
    /// priority within ours would not count against what else the machine does.
    fn command(&self, program: &Path) -> Command {
        let Some(nice) = self.nice else { return Command::new(program) };
        let mut command = Command::new("setsid");
        let script =
            format!("echo {nice} > /proc/self/autogroup 2>/dev/null; exec nice -n {nice} \"$0\" \"$@\"");
        command.args(["sh", "-c", &script]).arg(program);
        command
    }

    /// Runs the load generator once and returns its result line.
    fn load(&self, options: &str) -> Result<Value> {
        self.load_with(options, &[])
    }

    /// The same with options that hold spaces.
    fn load_with(&self, options: &str, more: &[&str]) -> Result<Value> {
        let mut command = self.command(&self.hubload);
        let output =
            command.args(options.split_whitespace()).args(more).arg("--quiet").output().context("hubload")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().last().with_context(|| format!("hubload {options}: no result"))?;
        let result: Value = serde_json::from_str(line).with_context(|| format!("hubload: {line}"))?;
        match result["failed"].as_str() {
            Some(why) => bail!("hubload {options}: {why}"),
            None => Ok(result),
        }
    }

    /// Keeps one result line.
    fn record(&self, benchmark: &str, contender: &str, rep: u32, mut result: Value) -> Result<()> {
        result["benchmark"] = benchmark.into();
        result["contender"] = contender.into();
        result["rep"] = rep.into();
        let mut out = File::options().create(true).append(true).open(&self.out)?;
        writeln!(out, "{result}")?;
        println!("{rep} {benchmark:18} {contender:20} {}", report::brief(&result));
        Ok(())
    }
}

fn release_build(target: &Path) -> Result<PathBuf> {
    check(cargo().args(["build", "--release", "--package", "ostler"]))?;
    Ok(target.join("release").join("ostler"))
}

fn load_generator(source: &Path, target: &Path) -> Result<(PathBuf, PathBuf)> {
    let source = source.canonicalize().with_context(|| format!("--hubload {}", source.display()))?;
    let built = if source.join("Cargo.toml").exists() {
        let dir = target.join("hubload");
        let manifest = source.join("Cargo.toml");
        check(
            cargo()
                .current_dir(root())
                .args(["build", "--release", "--locked", "--manifest-path"])
                .arg(manifest)
                .arg("--target-dir")
                .arg(&dir),
        )?;
        dir.join("release")
    } else {
        source
    };
    let both = (built.join("hubload"), built.join("rawlimit"));
    for program in [&both.0, &both.1] {
        if !program.exists() {
            bail!("there is no {}", program.display());
        }
    }
    Ok(both)
}
