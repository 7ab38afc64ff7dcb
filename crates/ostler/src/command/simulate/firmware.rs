//! A firmware update as devices do it: told by a method, reported step by step, ended by a reboot.
//!
//! ```text
//!   downloading 0 … 100 % ──> applying ──> rebooting ══ reboot ══> applied
//!          └─> downloadFailed     └─> applyFailed
//! ```
//!
//! Must not know: connections, clocks.

use ostler_core::time::Timestamp;
use serde_json::{json, Value};

use super::device::nested;
use super::random::Random;
use super::scenario::Firmware;

/// Longest URI that is repeated in reports: a twin's value must stay below 4 KiB.
const MAX_URI: usize = 2048;

/// An update under way.
#[derive(Debug)]
pub struct Update {
    settings: Firmware,
    uri: String,
    version: String,
    stage: Stage,
    /// Between two progress reports of the download, in ms.
    pace: u64,
    failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// So many of the download's steps are done.
    Downloading(u32),
    Applying,
    Rebooting,
}

/// Where it will fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Download { at: u32 },
    Apply,
}

/// What comes of one step.
#[derive(Debug)]
pub struct Step {
    pub report: Vec<u8>,
    /// When the next step is due, in ms from now.
    pub next_after: Option<u64>,
    /// The device reboots now, and is away for so many ms.
    pub reboot_for: Option<u64>,
    /// The update has failed.
    pub ended: bool,
}

impl Update {
    /// Reads the call's payload, `{"fwPackageUri":…}`, perhaps with `version` or `fwVersion`, and decides how it will go.
    ///
    /// # Errors
    /// What is wrong with the payload.
    pub fn start(settings: &Firmware, payload: &[u8], random: &mut Random) -> Result<Self, &'static str> {
        let payload: Value = serde_json::from_slice(payload).map_err(|_| "the payload is not JSON")?;
        let uri = payload["fwPackageUri"].as_str().filter(|uri| !uri.is_empty() && uri.len() <= MAX_URI);
        let uri = uri.ok_or("the payload must hold fwPackageUri, a URI of at most 2048 characters")?;
        let named = payload["fwVersion"].as_str().or_else(|| payload["version"].as_str());
        let version = named.map_or_else(|| version_in(uri), str::to_owned);
        let steps = settings.steps.max(1);
        let failure = if random.chance(settings.fail_download) {
            Some(Failure::Download { at: 1 + random.below(u64::from(steps)) as u32 })
        } else {
            random.chance(settings.fail_apply).then_some(Failure::Apply)
        };
        let pace = settings.download.draw(random) / u64::from(steps);
        let (settings, uri) = (settings.clone(), uri.to_owned());
        Ok(Self { settings, uri, version, stage: Stage::Downloading(0), pace, failure })
    }

    /// The payload of the answer to the call.
    pub fn started(&self) -> Vec<u8> {
        let answer = json!({ "status": "started", "fwPackageUri": self.uri, "version": self.version });
        answer.to_string().into_bytes()
    }

    /// The payload of the answer to a second call.
    pub fn is_running(&self) -> Value {
        json!({ "error": "an update is running", "fwPackageUri": self.uri })
    }

    /// Whether the next connection is the first with the new firmware.
    pub fn is_rebooting(&self) -> bool {
        self.stage == Stage::Rebooting
    }

    /// What is reported after the reboot.
    pub fn applied(&self, now: Timestamp) -> Vec<u8> {
        self.report(json!({
            "status": "applied", "progress": 100, "version": self.version, "error": null,
            "lastUpdate": now.to_string(),
        }))
    }

    /// Goes one step further.
    pub fn step(&mut self, now: Timestamp, random: &mut Random) -> Step {
        let steps = self.settings.steps.max(1);
        match self.stage {
            Stage::Downloading(done) if self.failure == Some(Failure::Download { at: done }) => {
                self.failed("downloadFailed", "the connection to the package server broke", now)
            }
            Stage::Downloading(done) if done < steps => {
                self.stage = Stage::Downloading(done + 1);
                let report = self.report(json!({
                    "status": "downloading", "progress": done * 100 / steps, "fwPackageUri": self.uri,
                    "error": null, "since": now.to_string(),
                }));
                Step { report, next_after: Some(self.pace), reboot_for: None, ended: false }
            }
            Stage::Downloading(_) => {
                self.stage = Stage::Applying;
                let report = self.report(json!({
                    "status": "applying", "progress": 100, "since": now.to_string(),
                }));
                let next_after = Some(self.settings.apply.draw(random));
                Step { report, next_after, reboot_for: None, ended: false }
            }
            Stage::Applying | Stage::Rebooting if self.failure == Some(Failure::Apply) => {
                self.failed("applyFailed", "the package does not fit this device", now)
            }
            Stage::Applying | Stage::Rebooting => {
                self.stage = Stage::Rebooting;
                let report = self.report(json!({ "status": "rebooting", "since": now.to_string() }));
                let reboot_for = Some(self.settings.down.draw(random));
                Step { report, next_after: None, reboot_for, ended: false }
            }
        }
    }

    fn failed(&self, status: &str, error: &str, now: Timestamp) -> Step {
        let report = self.report(json!({ "status": status, "error": error, "since": now.to_string() }));
        Step { report, next_after: None, reboot_for: None, ended: true }
    }

    fn report(&self, value: Value) -> Vec<u8> {
        nested(&self.settings.property, value)
    }
}

/// `2.1` for `https://fw.example.net/pump-2.1.bin`; the last part of the path if there is no number in it.
fn version_in(uri: &str) -> String {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let number = name.find(|c: char| c.is_ascii_digit()).map(|start| {
        let rest = &name[start..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        rest[..end].trim_end_matches('.')
    });
    number.unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::delay::Delay;
    use super::super::random::Stream;
    use super::*;

    fn settings() -> Firmware {
        Firmware { download: Delay::Fixed(400), apply: Delay::Fixed(50), ..Firmware::default() }
    }

    /// The statuses reported until it is over, and whether it ended in a reboot.
    fn play(settings: &Firmware) -> (Vec<String>, bool) {
        let mut random = Random::new(1, 1, Stream::Firmware);
        let payload = br#"{"fwPackageUri":"https://fw.example.net/pump-2.1.bin"}"#;
        let mut update = Update::start(settings, payload, &mut random).unwrap();
        let mut statuses = Vec::new();
        loop {
            let step = update.step(Timestamp::from_unix_secs(0), &mut random);
            let report: Value = serde_json::from_slice(&step.report).unwrap();
            let firmware = &report["firmware"];
            statuses.push(format!("{} {}", firmware["status"].as_str().unwrap(), firmware["progress"]));
            if step.ended || step.reboot_for.is_some() {
                return (statuses, step.reboot_for.is_some());
            }
        }
    }

    #[test]
    fn an_update_tells_how_it_goes() {
        let (statuses, rebooted) = play(&settings());
        assert!(rebooted);
        let expected = [
            "downloading 0",
            "downloading 25",
            "downloading 50",
            "downloading 75",
            "applying 100",
            "rebooting null",
        ];
        assert_eq!(statuses, expected);
    }

    #[test]
    fn failures_are_reported_and_end_it() {
        let (statuses, rebooted) = play(&Firmware { fail_download: 1.0, ..settings() });
        assert!(
            !rebooted && statuses.last().is_some_and(|status| status == "downloadFailed null"),
            "{statuses:?}"
        );
        let (statuses, rebooted) = play(&Firmware { fail_apply: 1.0, ..settings() });
        assert!(
            !rebooted && statuses.last().is_some_and(|status| status == "applyFailed null"),
            "{statuses:?}"
        );
    }

    #[test]
    fn the_version_is_named_or_guessed() {
        for (payload, expected) in [
            (r#"{"fwPackageUri":"https://x.example/pump-2.1.bin"}"#, "2.1"),
            (r#"{"fwPackageUri":"https://x.example/pump-2.1.bin?sig=9"}"#, "2.1"),
            (r#"{"fwPackageUri":"https://x.example/latest/"}"#, "latest"),
            (r#"{"fwPackageUri":"x","fwVersion":"3"}"#, "3"),
            (r#"{"fwPackageUri":"x","version":"4"}"#, "4"),
        ] {
            let mut random = Random::new(1, 1, Stream::Firmware);
            let update = Update::start(&settings(), payload.as_bytes(), &mut random).unwrap();
            assert_eq!(update.version, expected, "{payload}");
        }
        for payload in ["", "{}", r#"{"fwPackageUri":""}"#, r#"{"fwPackageUri":5}"#, "[]"] {
            let mut random = Random::new(1, 1, Stream::Firmware);
            assert!(Update::start(&settings(), payload.as_bytes(), &mut random).is_err(), "{payload}");
        }
    }
}
