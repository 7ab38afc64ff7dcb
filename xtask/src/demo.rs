//! `cargo xtask demo`: from a checkout to a rebooted device in one command.

use crate::process::{cargo, check};
use anyhow::Result;

/// Builds the hub and runs `ostler demo` with the given arguments.
///
/// The development profile is used: it builds in a third of the time of a release, its dependencies are optimised,
/// and one simulated device does not need more.
pub fn run(argv: &[String]) -> Result<()> {
    println!("Building the hub (the first build takes a few minutes) ...");
    check(cargo().args(["build", "--quiet", "--package", "ostler"]))?;
    check(cargo().args(["run", "--quiet", "--package", "ostler", "--", "demo"]).args(argv))
}
