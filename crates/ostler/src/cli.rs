//! The command line as a whole: the verbs, the options all share, and how a verb is run.
//!
//! Invariant: every verb is one module of [`crate::command`] with its own arguments and one `run`.

use clap::{Parser, Subcommand};

use crate::command::{
    backup, ca, completions, config, demo, device, doctor, file, firmware, job, message, method, module,
    monitor, policy, query, serve, simulate, status, twin,
};
use crate::exit::{Failure, Result, EXIT_CODES};
use crate::output::{ColorChoice, Format, Out};

/// A self-hosted hub that speaks Azure IoT Hub's protocols, and the command line for it.
#[derive(Debug, Parser)]
#[command(name = "ostler", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    /// Tables for people, or JSON for scripts: one document, or one line per event for streams; CSV of query results
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORM",
        help_heading = "Output"
    )]
    pub output: Format,

    /// When to use colours; `auto` is on terminals, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Output")]
    pub color: ColorChoice,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the hub
    Serve(serve::Args),
    /// Show what a hub does: a device reports, is rebooted, and reports again
    Demo(demo::Args),
    /// Create, list, change and delete devices
    #[command(visible_alias = "devices")]
    Device(device::Args),
    /// Create, list, change and delete modules of devices
    #[command(visible_alias = "modules")]
    Module(module::Args),
    /// Read and write twins: tags, desired and reported properties
    #[command(visible_alias = "twins")]
    Twin(twin::Args),
    /// Ask for devices, modules and device jobs in the query language
    Query(query::Args),
    /// Call methods of devices
    Method(method::Args),
    /// Send messages to devices that wait for them, and read what became of these
    #[command(visible_alias = "messages")]
    Message(message::Args),
    /// Automatic configurations: settings that every twin gets that meets a condition
    #[command(visible_alias = "configs")]
    Config(config::Args),
    /// Do one thing to many devices, now or later, and follow it
    #[command(visible_alias = "jobs")]
    Job(job::Args),
    /// Sign firmware for devices, check it, and serve it to them
    Firmware(firmware::Args),
    /// Files that devices uploaded
    #[command(visible_alias = "files")]
    File(file::Args),
    /// Manage shared access policies and their keys
    #[command(visible_alias = "policies")]
    Policy(policy::Args),
    /// Print the hub's CA and how each SDK is made to trust it; manage CAs of device certificates
    Ca(ca::Args),
    /// Watch what happens: connections, twin changes, methods, telemetry
    Monitor(monitor::Args),
    /// Run many devices from a scenario, to see a back end under load
    Simulate(simulate::Args),
    /// Check this machine and the hub, or why a device is offline
    Doctor(doctor::Args),
    /// Show how the hub is doing
    #[command(visible_alias = "stats")]
    Status(status::Args),
    /// Copy the hub's data to a folder while it serves
    Backup(backup::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

impl Command {
    pub fn run(self, out: &Out) -> Result {
        if out.format == Format::Csv && !matches!(self, Self::Query(_)) {
            return Err(Failure::usage("only `ostler query` writes CSV"));
        }
        match self {
            Self::Serve(args) => serve::run(args, out),
            Self::Demo(args) => demo::run(args, out),
            Self::Completions(args) => completions::run(args, out),
            Self::Device(args) => block_on(device::run(args, out)),
            Self::Module(args) => block_on(module::run(args, out)),
            Self::Twin(args) => block_on(twin::run(args, out)),
            Self::Query(args) => block_on(query::run(args, out)),
            Self::Method(args) => block_on(method::run(args, out)),
            Self::Message(args) => block_on(message::run(args, out)),
            Self::Config(args) => block_on(config::run(args, out)),
            Self::Job(args) => block_on(job::run(args, out)),
            Self::Firmware(args) => block_on(firmware::run(args, out)),
            Self::File(args) => block_on(file::run(args, out)),
            Self::Policy(args) => block_on(policy::run(args, out)),
            Self::Ca(args) => block_on(ca::run(args, out)),
            Self::Monitor(args) => block_on(monitor::run(args, out)),
            Self::Simulate(args) => block_on(simulate::run(args, out)),
            Self::Doctor(args) => block_on(doctor::run(args, out)),
            Self::Status(args) => block_on(status::run(args, out)),
            Self::Backup(args) => block_on(backup::run(args, out)),
        }
    }
}

/// Runs a client command; one thread is plenty for it and starts fastest.
fn block_on(command: impl std::future::Future<Output = Result>) -> Result {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?
        .block_on(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
