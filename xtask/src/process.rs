//! Running other programs: where the workspace is, what a program printed, and killing what we started.
//!
//! Invariant: a `Child` of this module is dead and reaped once it is dropped.

use anyhow::{bail, Context, Result};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;

/// The workspace's root folder.
pub fn root() -> PathBuf {
    // The manifest folder is compiled in; cargo sets the variable when it runs the task, and that one survives a move.
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Where cargo puts what it builds, however that was configured.
pub fn target_dir() -> Result<PathBuf> {
    let output =
        cargo().args(["metadata", "--no-deps", "--format-version=1"]).output().context("cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    Ok(metadata["target_directory"].as_str().context("cargo metadata names no target directory")?.into())
}

/// True when the program can be started at all.
pub fn available(program: &str, args: &[&str]) -> bool {
    let run = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    run.is_ok_and(|status| status.success())
}

/// Runs a command to its end; anything but success is an error that names it.
pub fn check(command: &mut Command) -> Result<()> {
    let text = spell(command);
    let status = command.status().with_context(|| format!("cannot start {text}"))?;
    if status.success() {
        Ok(())
    } else {
        bail!("{text}: {status}")
    }
}

/// The command as one would type it.
pub fn spell(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a command, passing on every line it prints, and returns the lines as well.
pub fn tee(command: &mut Command) -> Result<(ExitStatus, Vec<String>)> {
    let text = spell(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {text}"))?;
    let (sender, receiver) = mpsc::channel();
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ];
    let readers: Vec<_> = pipes
        .into_iter()
        .flatten()
        .map(|pipe| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(pipe);
                let mut line = Vec::new();
                while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    line.clear();
                    if sender.send(text).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    drop(sender);
    let mut lines = Vec::new();
    let mut out = std::io::stdout().lock();
    for line in receiver {
        writeln!(out, "{line}")?;
        lines.push(line);
    }
    for reader in readers {
        reader.join().ok();
    }
    Ok((child.wait()?, lines))
}

/// A program in the background that dies with its owner.
pub struct Server(Child);

impl Server {
    /// Starts the command with its output going to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let text = spell(command);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {text}"))?;
        Ok(Self(child))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// False once it has ended by itself.
    pub fn alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
