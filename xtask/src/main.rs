//! `cargo xtask TASK`: the daily door of the workspace.
//!
//! Builds with anyhow and serde_json alone, so that the first run on a fresh machine starts in seconds. It knows how
//! to call the other tools and how to read what they print; it must not know anything about the hub's insides, and
//! no crate may depend on it.
//!
//! Invariant: a task leaves no process behind, whatever fails.
#![allow(clippy::print_stdout, reason = "a command-line tool talks through its standard output")]

mod args;
mod bench;
mod ci;
mod demo;
mod fuzz;
mod process;
mod record;

use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask TASK [options]

  demo  [--keep] [...]          build the hub and run `ostler demo` with these arguments
  ci    [--list] [--only STEP]  everything a change must pass; --only may be repeated
  fuzz  [--minutes N] [TARGET]  run the fuzz targets, N minutes each (default 10), keeping the corpus
  record [...]                  play and record a reboot of 10,000 devices; `cargo xtask record --help` says more
  bench --hubload DIR [...]     measure the hub against its yardsticks; `cargo xtask bench --help` says more
";

fn main() -> ExitCode {
    let mut argv = std::env::args().skip(1);
    let task = argv.next().unwrap_or_default();
    let rest: Vec<String> = argv.collect();
    let outcome = match task.as_str() {
        "demo" => demo::run(&rest),
        "ci" => ci::run(&rest),
        "fuzz" => fuzz::run(&rest),
        "record" => record::run(&rest),
        "bench" => bench::run(&rest),
        "" | "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(anyhow::anyhow!("no task named {other:?}\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
