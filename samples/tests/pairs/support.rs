//! A hub, its command line and the samples, each a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{channel, Receiver};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a loaded machine before it counts as never.
const PATIENCE: Duration = Duration::from_secs(90);

/// A hub with a loopback address of its own, so that devices find MQTT where they always do: on port 8883.
pub struct Hub {
    _serve: Program,
    folder: TempDir,
    ready: Value,
    /// The variable that tells programs whom to believe to be the hub.
    pub trusted_by: &'static str,
}

impl Hub {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments to `ostler serve`.
    pub fn start_with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (data, ready_file) = (folder.path().join("data"), folder.path().join("ready.json"));
        let address = own_address().to_string();
        let mut serve = Command::new(ostler());
        serve.args(["serve", "--https-port", "0", "--hostname", &address, "--bind", &address, "--data"]);
        serve.arg(&data).arg("--ready-file").arg(&ready_file).args(more);
        let mut serve = Program::start("ostler serve", serve);
        until("the hub is ready", || {
            assert!(serve.child.try_wait().unwrap().is_none(), "the hub ended at its start");
            ready_file.exists()
        });
        let ready = serde_json::from_slice(&std::fs::read(&ready_file).unwrap()).unwrap();
        Self { _serve: serve, folder, ready, trusted_by: "OSTLER_CA_FILE" }
    }

    /// A folder that lives as long as the hub.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn hostname(&self) -> &str {
        self.ready["hostname"].as_str().unwrap()
    }

    pub fn ca_file(&self) -> &str {
        self.ready["caFile"].as_str().unwrap()
    }

    /// Runs a command of `ostler` to its end; what it printed.
    pub fn ostler(&self, args: &[&str]) -> String {
        let mut command = Command::new(ostler());
        output(command.args(args).arg("--data").arg(self.folder.path().join("data")))
    }

    /// Creates a device; its connection string.
    pub fn device(&self, id: &str) -> String {
        let printed = self.ostler(&["device", "create", id]);
        printed.lines().find(|line| line.starts_with("HostName=")).unwrap().to_owned()
    }

    /// Starts a device's program.
    pub fn start_device(&self, program: &str, connection_string: &str, args: &[&str]) -> Program {
        let mut command = self.sample(program);
        command.env("IOTHUB_DEVICE_CONNECTION_STRING", connection_string).args(args);
        Program::start(program, command)
    }

    /// Starts a back end's program.
    pub fn start_service(&self, program: &str, args: &[&str]) -> Program {
        let mut command = self.sample(program);
        let port = self.ready["httpsPort"].as_u64().unwrap();
        let owner = self.ready["connectionString"].as_str().unwrap();
        let host = format!("HostName={}", self.hostname());
        let owner = owner.replacen(&host, &format!("{host}:{port}"), 1);
        command.env("IOTHUB_CONNECTION_STRING", owner).args(args);
        Program::start(program, command)
    }

    fn sample(&self, program: &str) -> Command {
        let mut command = Command::new(built(program));
        command.env(self.trusted_by, self.ca_file());
        command
    }
}

/// Runs a command of `ostler` that needs no hub.
pub fn tool(args: &[&str]) -> String {
    output(Command::new(ostler()).args(args))
}

fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {err}");
    out.trim().to_owned()
}

/// Looks at a condition of other processes, which nothing can notify us of.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running program; killed when dropped.
pub struct Program {
    name: String,
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    /// Reads standard error to its end, so that no program ever waits for a reader.
    complaints: Option<JoinHandle<String>>,
}

impl Program {
    pub fn start(name: &str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Whoever has seen enough has gone; the program must not notice.
                sender.send(line).ok();
            }
        });
        let mut errors = child.stderr.take().unwrap();
        let complaints = std::thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).ok();
            text
        });
        Self { name: name.to_owned(), child, lines, seen: Vec::new(), complaints: Some(complaints) }
    }

    /// Starts a command of `ostler` that needs no hub.
    pub fn ostler(args: &[&str]) -> Self {
        let mut command = Command::new(ostler());
        command.args(args);
        Self::start("ostler", command)
    }

    /// Waits for a line that has this text in it, and returns it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(error) => {
                    self.child.kill().ok();
                    let errors = self.errors();
                    panic!("{}: {error} before {text:?}; it said {:#?}\n{errors}", self.name, self.seen);
                }
            }
            let line = self.seen.last().unwrap();
            if line.contains(text) {
                return line.clone();
            }
        }
    }

    /// What it said on standard error, once it has ended.
    fn errors(&mut self) -> String {
        self.complaints.take().map(|reader| reader.join().unwrap()).unwrap_or_default()
    }

    /// Waits for its end, which must be a failure that says this on standard error.
    #[track_caller]
    pub fn fails_with(mut self, text: &str) {
        while self.lines.recv_timeout(PATIENCE).is_ok() {}
        assert!(!self.child.wait().unwrap().success(), "{} succeeded", self.name);
        let errors = self.errors();
        assert!(errors.contains(text), "{} said {errors}", self.name);
    }

    /// Waits for its end, which must be a success; everything it said.
    #[track_caller]
    pub fn finish(mut self) -> Vec<String> {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        let status = self.child.wait().unwrap();
        let errors = self.errors();
        assert!(status.success(), "{} ended with {status}; it said {:#?}\n{errors}", self.name, self.seen);
        std::mem::take(&mut self.seen)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An address of 127.0.0.0/8 that no other test uses at the same time.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + (high & 0x3f), low.max(1), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The folder that cargo builds programs into.
fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().to_owned()
}

fn built(program: &str) -> PathBuf {
    target().join(program)
}

/// The hub's program, which is another package's. Tests of both packages together find it fresh; for these alone it is
/// built if it is not there, and otherwise taken as it is.
fn ostler() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = built("ostler");
        if !program.exists() {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--package", "ostler", "--bin", "ostler", "--target-dir"]);
            cargo.arg(target().parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
            if target().ends_with("release") {
                cargo.arg("--release");
            }
            assert!(cargo.status().unwrap().success(), "the hub's program does not build");
        }
        program
    })
}
