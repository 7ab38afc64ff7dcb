//! `cargo xtask ci`: what a change must pass, and all that continuous integration runs.
//!
//! Invariant: every step runs even when an earlier one failed, and one failure makes the whole run fail.

use crate::args::Args;
use crate::process::{available, cargo, check, root, spell, target_dir, tee};
use anyhow::{bail, Result};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<Vec<String>>,
}

/// In the order that finds a mistake soonest; the build of one step serves the next ones.
const STEPS: &[Step] = &[
    Step { name: "setup", about: "install what the tests need", run: setup },
    Step { name: "format", about: "rustfmt, nothing to change", run: format },
    Step { name: "lint", about: "clippy, warnings are errors", run: lint },
    Step { name: "docs", about: "rustdoc, warnings are errors", run: docs },
    Step { name: "test", about: "unit, property and snapshot tests", run: test },
    Step { name: "doctest", about: "the examples in the documentation", run: doctest },
    Step { name: "contract", about: "the store's contract, on every engine", run: contract },
    Step {
        name: "system",
        about: "the built hub: command line, hostile input, 20 kills under load",
        run: system,
    },
    Step { name: "python", about: "the revived Python packages, on every Python that is here", run: python },
    Step { name: "conformance", about: "the official Azure SDKs, unmodified", run: conformance },
];

/// Packages whose tests have a step of their own.
const SEPARATE: [&str; 3] = ["ostler-store", "ostler", "ostler-samples"];

struct Outcome {
    name: &'static str,
    took: Duration,
    result: Result<Vec<String>>,
}

/// Runs the steps, prints what their runners concluded, and fails if one of them failed.
pub fn run(argv: &[String]) -> Result<()> {
    let mut args = Args::new(argv);
    let list = args.flag("--list");
    let only = args.values("--only")?;
    args.rest()?;
    if let Some(unknown) = only.iter().find(|name| !STEPS.iter().any(|step| step.name == **name)) {
        bail!("no step {unknown}; `cargo xtask ci --list` names them");
    }
    let chosen = STEPS.iter().filter(|step| only.is_empty() || only.iter().any(|name| name == step.name));
    if list {
        chosen.for_each(|step| println!("{:12} {}", step.name, step.about));
        return Ok(());
    }
    let began = Instant::now();
    let outcomes: Vec<Outcome> = chosen.map(attempt).collect();
    summarize(&outcomes, began.elapsed())
}

fn attempt(step: &Step) -> Outcome {
    println!("\n=== {}: {}", step.name, step.about);
    let began = Instant::now();
    let result = (step.run)();
    if let Err(error) = &result {
        println!("{} failed: {error:#}", step.name);
    }
    Outcome { name: step.name, took: began.elapsed(), result }
}

fn summarize(outcomes: &[Outcome], took: Duration) -> Result<()> {
    println!("\n=== summary");
    for Outcome { name, took, result } in outcomes {
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        println!("{verdict:6} {name:12} {:>6.1} s", took.as_secs_f64());
        match result {
            Ok(lines) => lines.iter().for_each(|line| println!("         {}", line.trim())),
            Err(error) => println!("         {error:#}"),
        }
    }
    let failed: Vec<_> =
        outcomes.iter().filter(|outcome| outcome.result.is_err()).map(|outcome| outcome.name).collect();
    println!("{} steps in {:.0} s", outcomes.len(), took.as_secs_f64());
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("failed: {}", failed.join(", "))
    }
}

/// Runs a tool and keeps the lines in which it sums up, recognised by `closing`.
fn tool(command: &mut Command, closing: &str) -> Result<Vec<String>> {
    println!("$ {}", spell(command));
    let (status, lines) = tee(command)?;
    let conclusions: Vec<String> = lines.into_iter().filter(|line| line.contains(closing)).collect();
    if !status.success() {
        bail!("{}: {status}; {}", spell(command), conclusions.join("; ").trim());
    }
    Ok(conclusions)
}

// ---- steps

/// What the tests call that a fresh Debian lacks: (how to see that it is there, its packages).
const TOOLS: &[(&str, &[&str], &[&str])] = &[
    ("cc", &["--version"], &["build-essential"]),
    ("python3", &["-c", "import venv, ensurepip"], &["python3", "python3-venv"]),
    ("node", &["--version"], &["nodejs"]),
    ("npm", &["--version"], &["npm"]),
    ("openssl", &["version"], &["openssl"]),
];

fn setup() -> Result<Vec<String>> {
    let missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(program, probe, _)| !available(program, probe))
        .flat_map(|(_, _, packages)| packages.iter().copied())
        .collect();
    let mut notes = Vec::new();
    if !missing.is_empty() {
        apt(&missing)?;
        notes.push(format!("installed {}", missing.join(" ")));
    }
    for (component, probe) in [("rustfmt", ["fmt", "--version"]), ("clippy", ["clippy", "--version"])] {
        if !cargo().args(probe).output().is_ok_and(|output| output.status.success()) {
            check(Command::new("rustup").args(["component", "add", component]))?;
            notes.push(format!("installed {component}"));
        }
    }
    let runner = if nextest() { "cargo-nextest" } else { "cargo test, as cargo-nextest is not installed" };
    notes.push(format!("tests run with {runner}"));
    notes.iter().for_each(|note| println!("{note}"));
    Ok(notes)
}

fn apt(packages: &[&str]) -> Result<()> {
    if !available("apt-get", &["--version"]) {
        bail!("please install {} and run this again", packages.join(", "));
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    check(apt().args(["update", "-q"]))?;
    check(apt().args(["install", "-q", "-y", "--no-install-recommends"]).args(packages))
}

fn format() -> Result<Vec<String>> {
    check(cargo().args(["fmt", "--all", "--check"]))?;
    Ok(Vec::new())
}

fn lint() -> Result<Vec<String>> {
    tool(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]), "Finished")
}

fn docs() -> Result<Vec<String>> {
    tool(cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"), "Generated")
}

fn test() -> Result<Vec<String>> {
    let excluded = SEPARATE.iter().flat_map(|package| ["--exclude", package]);
    tests(&["--workspace"].into_iter().chain(excluded).collect::<Vec<_>>())
}

fn doctest() -> Result<Vec<String>> {
    let lines = tool(cargo().args(["test", "--doc", "--workspace"]), "test result")?;
    Ok(vec![total(&lines)])
}

fn contract() -> Result<Vec<String>> {
    tests(&["--package", "ostler-store"])
}

fn system() -> Result<Vec<String>> {
    tests(&["--package", "ostler", "--package", "ostler-samples"])
}

fn python() -> Result<Vec<String>> {
    tool(cargo().args(["build", "--package", "ostler"]), "Finished")?;
    let runner = Path::new("conformance").join("revival").join("run.py");
    let mut command = Command::new("python3");
    let lines = tool(command.current_dir(root()).arg(runner).arg("--target-dir").arg(target_dir()?), "")?;
    let closing = ["Python ", "stubs ", "ostler_python"];
    Ok(lines.into_iter().filter(|line| closing.iter().any(|begin| line.starts_with(begin))).collect())
}

fn conformance() -> Result<Vec<String>> {
    tool(cargo().args(["build", "--package", "ostler"]), "Finished")?;
    let binary = target_dir()?.join("debug").join("ostler");
    let runner = Path::new("conformance").join("run.py");
    let mut lines =
        tool(Command::new("python3").current_dir(root()).arg(runner).arg("--binary").arg(binary), "")?;
    Ok(lines.split_off(lines.len().saturating_sub(4)))
}

fn nextest() -> bool {
    cargo().args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success())
}

fn tests(selection: &[&str]) -> Result<Vec<String>> {
    // Insta would otherwise write a new snapshot beside a failing one, also on a build machine.
    if nextest() {
        let mut command = cargo();
        return tool(
            command.args(["nextest", "run", "--no-fail-fast"]).args(selection).env("INSTA_UPDATE", "no"),
            "Summary [",
        );
    }
    let mut command = cargo();
    let lines = tool(
        command.args(["test", "--lib", "--bins", "--tests"]).args(selection).env("INSTA_UPDATE", "no"),
        "test result",
    )?;
    Ok(vec![total(&lines)])
}

/// Adds up the `test result: ok. 3 passed; 0 failed; …` lines that `cargo test` prints, one for each binary.
fn total(lines: &[String]) -> String {
    let sum = |word: &str| -> u64 {
        let count = |line: &String| {
            let words: Vec<&str> = line.split([' ', ';']).filter(|word| !word.is_empty()).collect();
            words
                .windows(2)
                .find(|pair| pair[1] == word)
                .and_then(|pair| pair[0].parse::<u64>().ok())
                .unwrap_or(0)
        };
        lines.iter().map(count).sum()
    };
    format!(
        "{} passed, {} failed, {} ignored in {} binaries",
        sum("passed"),
        sum("failed"),
        sum("ignored"),
        lines.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_many_binaries_add_up() {
        let line = |text: &str| text.to_owned();
        let lines = [
            line("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s"),
            line("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out"),
        ];
        assert_eq!(total(&lines), "7 passed, 2 failed, 1 ignored in 2 binaries");
    }
}
