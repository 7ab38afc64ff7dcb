//! The hub as a process of its own.

use super::http::Http;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a start, a stop or an answer may take on a loaded machine before it counts as never.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running hub; killed when dropped.
pub struct Hub {
    child: Child,
    pub ready: Value,
}

impl Hub {
    /// Starts a hub on this data folder and waits until every listener accepts.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with more arguments to `ostler serve`.
    pub fn start_with(data: &Path, more: &[&str]) -> Self {
        let ready_file = data.with_extension("ready.json");
        std::fs::remove_file(&ready_file).ok();
        let mut command = serve(data, more);
        command.arg("--ready-file").arg(&ready_file);
        let log =
            std::fs::File::options().create(true).append(true).open(data.with_extension("log")).unwrap();
        let mut child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        wait("the hub to be ready", || {
            assert!(child.try_wait().unwrap().is_none(), "the hub ended at its start: {}", tail(data));
            ready_file.exists()
        });
        let ready = serde_json::from_slice(&std::fs::read(&ready_file).unwrap()).unwrap();
        Self { child, ready }
    }

    /// Runs a hub that is expected to refuse to start; its exit code and what it said.
    pub fn refused(data: &Path, more: &[&str]) -> (ExitStatus, String) {
        let mut child = serve(data, more).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut status = None;
        wait("the hub to refuse", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        let output = child.wait_with_output().unwrap();
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// SIGKILL, at once; dropping the hub reaps it.
    pub fn kill(&self) {
        self.signal(rustix::process::Signal::KILL);
    }

    /// SIGTERM, and the hub's own way out.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        let mut status = None;
        wait("the hub to stop", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// A line of `/proc/PID/status` in KiB.
    pub fn memory_kib(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let found = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
        found.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    }

    pub fn hostname(&self) -> &str {
        self.ready["hostname"].as_str().unwrap()
    }

    /// The address behind one of the ready-file's ports.
    pub fn address(&self, port: &str) -> SocketAddr {
        let number = self.ready[port].as_u64().unwrap_or_else(|| panic!("no {port} in {}", self.ready));
        SocketAddr::from(([127, 0, 0, 1], number as u16))
    }

    /// The service door without TLS, as `iothubowner`.
    pub fn owner(&self) -> Http {
        Http::new(self.address("plainHttpPort"), self.ready["connectionString"].as_str().unwrap())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn serve(data: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ostler"));
    command.args(["serve", "--bind", "127.0.0.1", "--data"]).arg(data).stdin(Stdio::null());
    for port in ["--mqtt-port", "--https-port", "--plain-mqtt-port", "--plain-http-port"] {
        if !more.contains(&port) {
            command.args([port, "0"]);
        }
    }
    command.args(more);
    command
}

fn tail(data: &Path) -> String {
    let log = std::fs::read_to_string(data.with_extension("log")).unwrap_or_default();
    let from = log.len().saturating_sub(2000);
    log.get(from..).unwrap_or(&log).to_owned()
}

/// Polls a condition of another process, which nothing can notify us of.
pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
