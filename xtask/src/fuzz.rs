//! `cargo xtask fuzz`: runs the libFuzzer targets of `fuzz/` with the compiler the workspace uses anyway.
//!
//! The flags below are what cargo-fuzz passes as well, less the address sanitizer: that one needs a nightly compiler
//! and finds memory errors, of which a workspace without `unsafe` has none.

use crate::args::Args;
use crate::process::{cargo, check, root};
use anyhow::{bail, Context, Result};
use std::path::Path;
use std::process::Command;

const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

/// Runs every target, or those named, for some minutes each; a crash is an error at the end.
pub fn run(argv: &[String]) -> Result<()> {
    let mut args = Args::new(argv);
    let minutes: f64 = args.number("--minutes", 10.0)?;
    let wanted = args.rest()?;
    let fuzz = root().join("fuzz");
    let targets = targets(&fuzz)?;
    if let Some(unknown) = wanted.iter().find(|name| !targets.contains(name)) {
        bail!("no fuzz target {unknown}; there are {}", targets.join(", "));
    }
    let triple = host()?;
    let manifest = fuzz.join("Cargo.toml");
    let build = ["build", "--release", "--target", &triple, "--target-dir", "fuzz/target", "--manifest-path"];
    check(cargo().args(build).arg(&manifest).env("RUSTFLAGS", COVERAGE))?;

    let chosen: Vec<_> = targets.iter().filter(|name| wanted.is_empty() || wanted.contains(name)).collect();
    let mut crashed = Vec::new();
    for name in &chosen {
        println!("\n== {name}, {minutes} minutes");
        let binary = fuzz.join("target").join(&triple).join("release").join(name);
        if let Err(error) = check(&mut fuzzer(&binary, &fuzz, name, minutes)?) {
            println!("{error:#}");
            crashed.push(name.as_str());
        }
    }
    if !crashed.is_empty() {
        bail!("{} crashed; the inputs are in fuzz/artifacts", crashed.join(", "));
    }
    println!("\n{} targets, {minutes} minutes each, no crash", chosen.len());
    Ok(())
}

fn fuzzer(binary: &Path, fuzz: &Path, name: &str, minutes: f64) -> Result<Command> {
    let (corpus, artifacts) = (fuzz.join("corpus").join(name), fuzz.join("artifacts").join(name));
    std::fs::create_dir_all(&corpus)?;
    std::fs::create_dir_all(&artifacts)?;
    let mut command = Command::new(binary);
    command
        .current_dir(fuzz)
        .arg(&corpus)
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={}", (minutes * 60.0).ceil() as u64))
        .args(["-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1", "-verbosity=0"]);
    Ok(command)
}

fn targets(fuzz: &Path) -> Result<Vec<String>> {
    let folder = fuzz.join("fuzz_targets");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("no fuzz targets in {}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            entry.ok()?.file_name().into_string().ok()?.strip_suffix(".rs").map(str::to_owned)
        })
        .collect();
    names.sort();
    Ok(names)
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc -vV")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}
