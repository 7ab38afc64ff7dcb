//! The Ostler binary: the hub (`serve`), a show of what it does (`demo`), and a command line for everything a hub holds.
//!
//! Must not know: store and hub internals. Apart from `serve` and `demo` it is a client of the REST door like any other.
//!
//! Invariant: stdout carries results only, and an exit code is one of [`exit::Exit`] or 0.

mod cli;
mod command;
mod exit;
mod hub;
mod input;
mod output;
mod when;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::output::Out;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Out::new(cli.output, cli.color);
    match cli.command.run(&out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out.error(&failure);
            failure.exit_code()
        }
    }
}
