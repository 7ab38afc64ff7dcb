//! What a back end sees of an update in the twin: when something is told, and in which words.
//!
//! ```text
//! {"firmwareStatus":"downloading","logTime":"2026-05-01 10:00:00.123456","downloadingTime":"…",      the tutorials' flat keys
//!  "firmware":{"version":"1.0.0","slot":"a","step":"downloading","target":"2.0.0","bytes":0,"total":1048576,…}}
//! ```
//! `firmwareStatus` goes through `standBy`, `downloading`, `applying`, `completed` (revival §6.1); what the tutorials do not
//! know is `downloadFailed`, `applyFailed` and `rolledBack`.
//!
//! Must not know: connections, clocks: `now` is an argument.
//!
//! Invariant: every step is told, in order, progress within a step at most once per interval, and never more than
//! [`MAX_WAITING`] patches wait.

use std::collections::VecDeque;
use std::time::Duration;

use ostler_core::time::Timestamp;
use serde_json::{json, Value};

use super::state::{Ending, Outcome, Phase, Slot, State, Step};

/// Patches that wait for the hub; an update has eight steps at most.
pub const MAX_WAITING: usize = 32;

/// A patch of the reported properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// JSON.
    pub json: String,
    /// Whether it tells a step, and not only its progress.
    pub is_step: bool,
    /// Whether it tells how the last update ended.
    pub is_outcome: bool,
}

/// Decides what is told when.
///
/// ```
/// use ostler_device_sdk::firmware::{Image, Reporter, Slot, State, Timestamp};
///
/// let image = Image { version: "1.0.0".parse()?, sha256: None, size: 0 };
/// let now = Timestamp::from_unix_secs(1_777_629_600);
/// let mut reporter = Reporter::new("firmware", std::time::Duration::from_secs(5));
/// reporter.handle_state(&State::factory(Slot::A, image), Slot::A, now);
/// let patch = reporter.poll(now).expect("a device says that it stands by");
/// assert!(patch.json.starts_with(r#"{"firmwareStatus":"standBy","logTime":"2026-05-01 10:00:00.000000""#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Reporter {
    every: i64,
    section: String,
    waiting: VecDeque<Patch>,
    told: Option<Told>,
    bytes: u64,
    bytes_told: u64,
    /// When progress was told last, in ticks.
    progress_at: Option<i64>,
}

/// What tells one report from the next.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    step: Step,
    target: Option<String>,
    since: Timestamp,
}

impl Reporter {
    /// Tells progress at most once in `every`, and the structured section under the name `section`.
    pub fn new(section: impl Into<String>, every: Duration) -> Self {
        let every = i64::try_from(every.as_nanos() / 100).unwrap_or(i64::MAX);
        Self {
            every,
            section: section.into(),
            waiting: VecDeque::new(),
            told: None,
            bytes: 0,
            bytes_told: 0,
            progress_at: None,
        }
    }

    /// The state is now this.
    pub fn handle_state(&mut self, state: &State, running: Slot, now: Timestamp) {
        let step = state.step();
        let (target, since) = match (&state.update, &state.last) {
            (Some(update), _) => {
                (update.phase.target().map(|target| target.version.to_string()), update.since)
            }
            (None, Some(last)) => (last.version.as_ref().map(ToString::to_string), last.at),
            (None, None) => (None, Timestamp::UNIX_EPOCH),
        };
        // The outcome stays to be seen after it was told; a device that stands by says so when it starts.
        if step == Step::StandBy && self.told.is_some() {
            return;
        }
        let told = Told { step, target, since };
        if self.told.as_ref() == Some(&told) {
            return;
        }
        if self.told.as_ref().is_none_or(|before| before.step != told.step) && step == Step::Downloading {
            (self.bytes, self.bytes_told, self.progress_at) = (0, 0, None);
        }
        self.told = Some(told);
        let is_outcome = matches!(step, Step::Completed | Step::Failed | Step::RolledBack);
        let json = self.patch(state, running, step, now).to_string();
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Patch { json, is_step: true, is_outcome });
    }

    /// So many bytes of the image are durable.
    pub fn handle_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    /// What is to be told now.
    pub fn poll(&mut self, now: Timestamp) -> Option<Patch> {
        if let Some(patch) = self.waiting.pop_front() {
            return Some(patch);
        }
        if self.deadline(now)? > now {
            return None;
        }
        self.progress_at = Some(now.ticks());
        self.bytes_told = self.bytes;
        let section = &self.section;
        let json = json!({ section: { "bytes": self.bytes } }).to_string();
        Some(Patch { json, is_step: false, is_outcome: false })
    }

    /// A patch could not be told. A step is told again before those behind it; progress has moved on.
    pub fn give_back(&mut self, patch: Patch) {
        if patch.is_step && self.waiting.len() < MAX_WAITING {
            self.waiting.push_front(patch);
        }
    }

    /// When there may be something to tell without anything happening before.
    pub fn deadline(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.waiting.is_empty() {
            return Some(now);
        }
        let downloading = self.told.as_ref().is_some_and(|told| told.step == Step::Downloading);
        if !downloading || self.bytes == self.bytes_told {
            return None;
        }
        // A clock that was set back must not silence it.
        let at = self.progress_at.filter(|at| *at <= now.ticks());
        Some(at.map_or(now, |at| Timestamp::from_ticks(at.saturating_add(self.every))))
    }

    /// Whether all steps have been handed out.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn patch(&mut self, state: &State, running: Slot, step: Step, now: Timestamp) -> Value {
        let target = state.update.as_ref().and_then(|update| update.phase.target());
        let status = flat_status(step, state.last.as_ref());
        let time = spaced(now);
        let done = matches!(step, Step::Downloading | Step::StandBy);
        let bytes = if done { self.bytes } else { target.map_or(self.bytes, |target| target.size) };
        self.bytes_told = bytes;
        let boots = match state.update.as_ref().map(|update| &update.phase) {
            Some(Phase::Confirming { boots, .. }) => Some(*boots),
            _ => None,
        };
        let since = state.update.as_ref().map(|update| update.since);
        let since = since.or(state.last.as_ref().map(|last| last.at)).unwrap_or(now);
        let section = json!({
            "version": state.image(running).map(|image| image.version.to_string()),
            "slot": running.name(),
            "step": step,
            "target": target.map(|target| target.version.to_string()),
            "bytes": target.map(|_| bytes),
            "total": target.map(|target| target.size),
            "boots": boots,
            "since": since.to_string(),
            "error": error(step, state),
            "last": state.last.as_ref().filter(|_| state.update.is_none()).map(outcome),
        });
        let time_key = format!("{status}Time");
        json!({ "firmwareStatus": status, "logTime": time, time_key: time, &self.section: section })
    }
}

/// The tutorials' word for a step (revival §6.1).
fn flat_status(step: Step, last: Option<&Outcome>) -> &'static str {
    match step {
        Step::StandBy => "standBy",
        Step::Downloading | Step::Verifying => "downloading",
        Step::Applying | Step::Confirming | Step::RollingBack => "applying",
        Step::Completed => "completed",
        Step::RolledBack => "rolledBack",
        Step::Failed => match last.map(|last| &last.ending) {
            Some(Ending::Failed { downloaded: true, .. }) => "applyFailed",
            _ => "downloadFailed",
        },
    }
}

fn error(step: Step, state: &State) -> Value {
    let failure = match (step, state.update.as_ref().map(|update| &update.phase)) {
        (Step::RollingBack, Some(Phase::RollingBack { reason, .. })) => Some(reason),
        (Step::Failed | Step::RolledBack, _) => state.last.as_ref().and_then(|last| last.ending.failure()),
        _ => None,
    };
    failure.map_or(Value::Null, |failure| json!({ "code": failure.code, "text": failure.text }))
}

fn outcome(last: &Outcome) -> Value {
    let result = match last.ending {
        Ending::Completed => Step::Completed,
        Ending::Failed { .. } => Step::Failed,
        Ending::RolledBack(_) => Step::RolledBack,
    };
    json!({
        "version": last.version.as_ref().map(ToString::to_string),
        "result": result,
        "code": last.ending.code(),
        "at": last.at.to_string(),
    })
}

/// `2026-05-01 10:00:00.123456`, as the tutorials' devices write times.
fn spaced(time: Timestamp) -> String {
    let text = time.to_string().replace('T', " ");
    text.get(..26).unwrap_or(&text).to_owned()
}
