//! Programs whose output is recorded with the time of each line.
//!
//! Invariant: a program is dead and reaped once its `Program` is dropped.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

/// A line of output.
#[derive(Clone, Debug)]
pub struct Line {
    /// Since the recording started.
    pub at: Duration,
    pub text: String,
}

/// A program in the background.
pub struct Program {
    child: Mutex<Child>,
    stdout: Arc<Mutex<Vec<Line>>>,
    stderr: Arc<Mutex<Vec<Line>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Program {
    /// Starts it; times count from `started`.
    pub fn start(command: &mut Command, started: Instant) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let mut readers = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            readers.push(follow(pipe, Arc::clone(&stdout), started));
        }
        if let Some(pipe) = child.stderr.take() {
            readers.push(follow(pipe, Arc::clone(&stderr), started));
        }
        Ok(Self { child: Mutex::new(child), stdout, stderr, readers })
    }

    /// What it has printed on its standard output so far.
    pub fn lines(&self) -> Vec<Line> {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has said on its standard error so far.
    pub fn told(&self) -> String {
        let lines = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n")
    }

    /// False once it has ended.
    pub fn is_alive(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(child.try_wait(), Ok(None))
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        let pid = self.child.lock().unwrap_or_else(PoisonError::into_inner).id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().ok();
    }

    /// Waits for its end and for the end of its output; anything but success is an error.
    pub fn wait(&mut self, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()? {
                break status;
            }
            if Instant::now() > end {
                bail!("it did not end within {} s", patience.as_secs());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        for reader in self.readers.drain(..) {
            reader.join().ok();
        }
        if status.success() {
            Ok(())
        } else {
            bail!("{status}: {}", self.told())
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.kill().ok();
        child.wait().ok();
    }
}

fn follow(
    pipe: impl Read + Send + 'static,
    lines: Arc<Mutex<Vec<Line>>>,
    started: Instant,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for text in BufReader::new(pipe).lines().map_while(Result::ok) {
            let line = Line { at: started.elapsed(), text };
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    })
}
