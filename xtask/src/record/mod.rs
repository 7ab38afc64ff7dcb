//! `cargo xtask record`: the scenario that Azure's tutorial promises, played and recorded: a reboot of ten thousand
//! devices, found by a twin query, scheduled for later, with its progress and each device's result.
//!
//! It runs the binary as a user would, with a hub of its own, and writes what was typed and printed (text), and how it went
//! on (SVG: frames of the terminal, and the devices over time).
//!
//! Must not know: the hub's insides; it reads what the command line prints.
//!
//! Invariant: nothing in the record is made up: every line was printed, every point was read from the hub or the
//! simulator while they ran.

mod chart;
mod run;
mod screen;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use serde_json::Value;

use self::chart::{Picture, Point};
use self::run::{Line, Program};
use crate::args::Args;
use crate::process::{root, target_dir};

const HELP: &str = "\
usage: cargo xtask record [options]

  --ostler PATH    the binary (default: the release build; `cargo build --release` makes it)
  --devices N      simulated devices (default 10000)
  --ahead SECONDS  how far ahead the job is scheduled (default 10)
  --out FOLDER     where the record goes (default docs/recordings)
";
const JOB: &str = "reboot-tonight";
const CONDITION: &str = "tags.building IN [42, 43]";
/// How long anything may take before the recording is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// Plays the scenario and writes the record.
pub fn run(argv: &[String]) -> Result<()> {
    let mut args = Args::new(argv);
    if args.flag("--help") {
        print!("{HELP}");
        return Ok(());
    }
    let ostler = match args.value("--ostler")? {
        Some(path) => std::fs::canonicalize(&path).with_context(|| path)?,
        None => target_dir()?.join("release/ostler"),
    };
    if !ostler.exists() {
        bail!("{} is not there: build it, or name another with --ostler", ostler.display());
    }
    let devices: u64 = args.number("--devices", 10_000)?;
    let ahead: u64 = args.number("--ahead", 10)?;
    let out = args.value("--out")?.map_or_else(|| root().join("docs/recordings"), PathBuf::from);
    args.rest()?;
    let work = std::env::temp_dir().join(format!("ostler-record-{}", std::process::id()));
    std::fs::create_dir_all(&work)?;
    let played = Stage { ostler, work: work.clone(), started: Instant::now(), transcript: String::new() }
        .play(devices, ahead);
    let record = match played {
        Ok(record) => record,
        Err(error) => return Err(error.context(format!("logs are in {}", work.display()))),
    };
    std::fs::create_dir_all(&out)?;
    std::fs::write(out.join("reboot.txt"), &record.transcript)?;
    std::fs::write(out.join("reboot.svg"), record.picture.svg())?;
    std::fs::remove_dir_all(&work).ok();
    println!("{}\nwritten to {}", record.transcript, out.display());
    Ok(())
}

/// What was recorded.
struct Record {
    transcript: String,
    picture: Picture,
}

/// How the job went on.
struct Watched {
    /// When it was seen running first, in seconds.
    started: f64,
    /// Devices on which it succeeded.
    points: Vec<Point>,
    frames: Vec<screen::Frame>,
}

/// Where the scenario is played.
struct Stage {
    ostler: PathBuf,
    work: PathBuf,
    started: Instant,
    transcript: String,
}

impl Stage {
    fn play(mut self, devices: u64, ahead: u64) -> Result<Record> {
        self.preface(devices)?;
        let hub = self.start_hub()?;
        let fleet = self.start_fleet(devices)?;
        self.say("ostler", &["status"])?;
        let by_building = "SELECT tags.building AS building, COUNT() AS devices FROM devices \
                           WHERE connectionState = 'Connected' GROUP BY tags.building";
        self.say("ostler", &["query", by_building])?;
        self.say("ostler", &["job", "create", "method", "reboot", "--query", CONDITION, "--dry-run"])?;
        let start = format!("+{ahead}s");
        let create =
            ["job", "create", "method", "reboot", "--query", CONDITION, "--start", &start, "--id", JOB];
        let scheduled = self.started.elapsed();
        self.say("ostler", &create)?;
        let Watched { started, points, frames } = self.watch()?;
        self.say("ostler", &["job", "show", JOB])?;
        self.say("ostler", &["job", "devices", JOB, "--top", "5"])?;
        let by_status = format!(
            "SELECT status, COUNT() AS devices FROM devices.jobs WHERE jobId = '{JOB}' GROUP BY status"
        );
        self.say("ostler", &["query", &by_status])?;
        let connected = self.wait_for_return(&fleet, devices)?;
        let back =
            "SELECT COUNT() AS rebooted FROM devices WHERE is_defined(properties.reported.lastReboot) \
                    AND connectionState = 'Connected'";
        self.say("ostler", &["query", back])?;
        self.say("ostler", &["twin", "show", "sim-000042"])?;
        self.end(fleet, hub)?;
        let picture = Picture {
            title: format!("{devices} devices rebooted by a job, scheduled {ahead} s ahead by a twin query"),
            devices,
            scheduled: scheduled.as_secs_f64(),
            started,
            succeeded: points,
            connected,
            frames,
        };
        Ok(Record { transcript: self.transcript, picture })
    }

    fn preface(&mut self, devices: u64) -> Result<()> {
        let version = Command::new(&self.ostler).arg("--version").output()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        writeln!(
            self.transcript,
            "# {}, hub and {devices} simulated devices together on {cores} cores, MQTT and HTTPS over TLS.\n\
             # Recorded by `cargo xtask record`. The number in front of a line is the time in seconds.\n",
            String::from_utf8_lossy(&version.stdout).trim()
        )?;
        Ok(())
    }

    fn start_hub(&mut self) -> Result<Program> {
        let ready = self.work.join("hub-ready.json");
        let mut command =
            self.ostler(&["serve", "--bind", "127.0.0.1", "--mqtt-port", "0", "--https-port", "0"]);
        command.arg("--data").arg(self.work.join("data")).arg("--ready-file").arg(&ready);
        self.typed("ostler serve &");
        let hub = Program::start(&mut command, self.started)?;
        wait_for(|| ready.exists(), &hub, "the hub to be ready")?;
        Ok(hub)
    }

    /// Its samples are read by this program and not shown: every tenth of a second is for the picture.
    fn start_fleet(&mut self, devices: u64) -> Result<Program> {
        let ready = self.work.join("fleet-ready.json");
        let count = devices.to_string();
        self.typed(&format!("ostler simulate --scenario reboot --devices {devices} --register &"));
        let mut command =
            self.ostler(&["simulate", "--scenario", "reboot", "--devices", &count, "--register"]);
        command.args(["-o", "json", "--interval", "100ms", "--ready-file"]).arg(&ready);
        let fleet = Program::start(&mut command, self.started)?;
        wait_for(|| ready.exists(), &fleet, "the devices to be connected")?;
        let told: Value = serde_json::from_str(&std::fs::read_to_string(&ready)?)?;
        let line =
            format!("all {devices} devices connected after {:.1} s", told["seconds"].as_f64().unwrap_or(0.0));
        self.printed(&[Line { at: self.started.elapsed(), text: line }]);
        Ok(fleet)
    }

    /// Follows the job three times at once: as lines for the transcript, as JSON for the picture, and on a terminal.
    fn watch(&mut self) -> Result<Watched> {
        self.typed(&format!("ostler job watch {JOB}"));
        let mut lines = Program::start(&mut self.ostler(&["job", "watch", JOB]), self.started)?;
        let mut json = Program::start(&mut self.ostler(&["job", "watch", JOB, "-o", "json"]), self.started)?;
        let terminal = screen::record(&self.ostler, &["job", "watch", JOB], &self.data(), self.started);
        lines.wait(PATIENCE)?;
        json.wait(PATIENCE)?;
        self.printed(&lines.lines());
        let jobs: Vec<(f64, Value)> = json
            .lines()
            .iter()
            .filter_map(|line| Some((line.at.as_secs_f64(), serde_json::from_str(&line.text).ok()?)))
            .collect();
        let started = jobs.iter().find(|(_, job)| job["status"] == "running").map_or(0.0, |(at, _)| *at);
        let point = |(at, job): &(f64, Value)| {
            let done = job["deviceJobStatistics"]["succeededCount"].as_u64().unwrap_or(0);
            Point { at: *at, value: done as f64 }
        };
        Ok(Watched { started, points: jobs.iter().map(point).collect(), frames: terminal.finish() })
    }

    /// Waits until every device is connected again, and returns how many were over time.
    fn wait_for_return(&mut self, fleet: &Program, devices: u64) -> Result<Vec<Point>> {
        let samples = |fleet: &Program| -> Vec<(Duration, Value)> {
            let parsed = |line: Line| Some((line.at, serde_json::from_str(&line.text).ok()?));
            fleet.lines().into_iter().filter_map(parsed).collect()
        };
        let is_back = |sample: &Value| {
            sample["connected"] == devices
                && sample["leaves"].as_u64().is_some_and(|leaves| leaves >= devices)
        };
        wait_for(
            || samples(fleet).last().is_some_and(|(_, sample)| is_back(sample)),
            fleet,
            "the devices to be back",
        )?;
        let all = samples(fleet);
        if let Some((at, _)) = all.iter().find(|(_, sample)| is_back(sample)) {
            let text = format!(
                "# {:.1} s: all {devices} devices have rebooted and are connected again\n",
                at.as_secs_f64()
            );
            self.transcript.push_str(&format!("{text}\n"));
        }
        let point = |(at, sample): &(Duration, Value)| {
            Some(Point { at: at.as_secs_f64(), value: sample["connected"].as_f64()? })
        };
        Ok(all.iter().filter_map(point).collect())
    }

    fn end(&mut self, mut fleet: Program, mut hub: Program) -> Result<()> {
        fleet.terminate();
        fleet.wait(PATIENCE)?;
        hub.terminate();
        hub.wait(PATIENCE)?;
        Ok(())
    }

    /// Runs a command to its end and records what was typed and printed.
    fn say(&mut self, program: &str, args: &[&str]) -> Result<()> {
        let words: Vec<String> = args.iter().map(|arg| shell_word(arg)).collect();
        self.typed(&format!("{program} {}", words.join(" ")));
        let mut ran = Program::start(&mut self.ostler(args), self.started)?;
        let ended = ran.wait(PATIENCE);
        self.printed(&ran.lines());
        ended.with_context(|| format!("ostler {}", words.join(" ")))
    }

    fn typed(&mut self, text: &str) {
        self.transcript.push_str(&format!("$ {text}\n"));
    }

    fn printed(&mut self, lines: &[Line]) {
        for line in lines {
            let text = format!("{:>8.3}  {}", line.at.as_secs_f64(), line.text);
            self.transcript.push_str(&format!("{}\n", text.trim_end()));
        }
        self.transcript.push('\n');
    }

    fn ostler(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.ostler);
        command.args(args).env("OSTLER_DATA", self.data()).env_remove("OSTLER_CONNECTION_STRING");
        command.env("NO_COLOR", "1").current_dir(&self.work);
        command
    }

    fn data(&self) -> PathBuf {
        self.work.join("data")
    }
}

/// A word as a shell takes it.
fn shell_word(word: &str) -> String {
    let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./+=".contains(&b));
    match (plain, word.contains('\'')) {
        (true, _) => word.to_owned(),
        (false, false) => format!("'{word}'"),
        (false, true) => format!("\"{word}\""),
    }
}

fn wait_for(mut condition: impl FnMut() -> bool, program: &Program, what: &str) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > end || !program.is_alive() {
            bail!("waited in vain for {what}:\n{}", program.told());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_a_shell_needs_it() {
        assert_eq!(shell_word("--start"), "--start");
        assert_eq!(shell_word("tags.building IN [42, 43]"), "'tags.building IN [42, 43]'");
        assert_eq!(shell_word("jobId = 'x'"), "\"jobId = 'x'\"");
    }
}
