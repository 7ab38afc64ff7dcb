//! Runs the binary: once, or as a hub that is ready when the constructor returns.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Long enough for a loaded machine; a healthy hub is ready in a fraction of a second.
const DEADLINE: Duration = Duration::from_secs(30);

pub fn binary() -> PathBuf {
    assert_cmd::cargo::cargo_bin!("ostler").to_path_buf()
}

/// The binary in an environment without any of its own variables.
pub fn ostler(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OSTLER_") || name == "NO_COLOR") {
        command.env_remove(name);
    }
    command
}

/// What a finished run left behind.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn fails(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// A hub in a process of its own, with a data folder that goes away with it.
pub struct Hub {
    process: Child,
    folder: TempDir,
    data: PathBuf,
}

impl Hub {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further flags.
    pub fn start_with(flags: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        Self::start_in(folder, data, flags)
    }

    /// A hub on a data folder that is there already.
    pub fn start_on(data: &Path) -> Self {
        Self::start_in(TempDir::new().unwrap(), data.to_owned(), &[])
    }

    /// The same, reached through a certain port, where an earlier hub was reached.
    pub fn start_on_port(data: &Path, https_port: &str) -> Self {
        Self::start_at(TempDir::new().unwrap(), data.to_owned(), https_port, &[])
    }

    fn start_in(folder: TempDir, data: PathBuf, flags: &[&str]) -> Self {
        Self::start_at(folder, data, "0", flags)
    }

    fn start_at(folder: TempDir, data: PathBuf, https_port: &str, flags: &[&str]) -> Self {
        let ready = folder.path().join("ready.json");
        let process =
            ostler(&["serve", "--bind", "127.0.0.1", "--mqtt-port", "0", "--https-port", https_port])
                .arg("--data")
                .arg(&data)
                .arg("--ready-file")
                .arg(&ready)
                .args(flags)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
        let mut hub = Self { process, folder, data };
        wait_for(|| {
            if let Some(status) = hub.process.try_wait().unwrap() {
                let mut stderr = String::new();
                hub.process.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
                panic!("the hub ended with {status}: {stderr}");
            }
            ready.exists()
        });
        hub
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command that finds this hub through its data folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = ostler(args);
        command.env("OSTLER_DATA", self.data()).current_dir(self.folder());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// What the hub told on stderr, once it has stopped.
    pub fn told(mut self) -> String {
        assert_eq!(self.stop(), Some(0));
        let mut told = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        told
    }

    /// Sends a signal and waits for the end.
    pub fn stop(&mut self) -> Option<i32> {
        let pid = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        let mut code = None;
        wait_for(|| match self.process.try_wait().unwrap() {
            Some(status) => {
                code = status.code();
                true
            }
            None => false,
        });
        code
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Polls until something holds, and fails when it does not in time.
#[track_caller]
pub fn wait_for(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "what was waited for did not happen within {DEADLINE:?}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
