//! The stream of desired properties: changes as they come, and the whole twin where some were missed.
//!
//! Changes are not kept for absent devices (device §4.4), so each connection begins with a read of the twin. Changes
//! that come before its answer are held back, and those that it contains already are dropped.
//!
//! Must not know connections' lives.
//!
//! Invariant: what is handed out has ever higher versions, unless the hub's own version went back (a device that was
//! deleted and created again).

use std::collections::VecDeque;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::Deserialize;

use super::random::Random;
use super::twin::{Reply, Rid};
use super::{Event, TwinSync};
use crate::retry::RetryPolicy;

/// How many changes are held back during a read. With more the oldest go, and a second read makes up for them.
const MAX_HELD: usize = 32;

#[derive(Debug)]
pub(super) struct Desired {
    sync: TwinSync,
    /// Version handed out last.
    seen: Option<u64>,
    state: State,
    /// The whole twin is due on this connection, even if it is known.
    whole_due: bool,
    held: VecDeque<(u64, Bytes)>,
    /// Reads in a row that did not settle the matter.
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody listens, or there is no connection.
    Off,
    /// All is known up to `seen`.
    Current,
    /// The twin is to be read at this time.
    Due(u64),
    /// The twin was asked for under this id; to be asked for again at this time.
    Asked(Rid, u64),
}

#[derive(Deserialize)]
struct Twin {
    desired: Section,
    #[serde(rename = "reported")]
    _reported: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Section {
    #[serde(rename = "$version")]
    version: u64,
}

impl Desired {
    pub fn new(sync: TwinSync) -> Self {
        Desired { sync, seen: None, state: State::Off, whole_due: false, held: VecDeque::new(), failures: 0 }
    }

    /// The hub tells of changes from now on. `can_read`: whether it would answer a read; without that, changes are
    /// handed out as they come.
    pub fn handle_subscribed(&mut self, can_read: bool, now: u64) {
        if self.state == State::Off {
            self.state = if can_read { State::Due(now) } else { State::Current };
            self.whole_due = self.sync == TwinSync::EveryConnect || self.seen.is_none();
        }
    }

    pub fn handle_lost(&mut self) {
        self.state = State::Off;
        self.held = VecDeque::new();
        self.failures = 0;
    }

    /// When the twin is to be read, or read again.
    pub fn due(&self) -> Option<u64> {
        match self.state {
            State::Due(at) | State::Asked(_, at) => Some(at),
            State::Off | State::Current => None,
        }
    }

    /// Whether an answer is awaited.
    pub fn is_asking(&self) -> bool {
        matches!(self.state, State::Asked(..))
    }

    /// The twin was asked for.
    pub fn handle_asked(&mut self, rid: Rid, again_at: u64) {
        self.state = State::Asked(rid, again_at);
    }

    /// A change came.
    pub fn handle_patch(&mut self, version: u64, patch: Bytes, now: u64, events: &mut VecDeque<Event>) {
        match (self.state, self.seen) {
            (State::Off, _) => {}
            (State::Current, Some(seen)) if version <= seen => {}
            (State::Current, Some(seen)) if version > seen + 1 => {
                self.hold(version, patch);
                self.state = State::Due(now);
            }
            (State::Current, _) => self.hand_out(version, patch, events),
            (State::Due(_) | State::Asked(..), _) => self.hold(version, patch),
        }
    }

    /// A change came whose topic cannot be read.
    pub fn handle_riddle(&mut self, now: u64) {
        if self.state == State::Current {
            self.state = State::Due(now);
        }
    }

    fn hold(&mut self, version: u64, patch: Bytes) {
        if self.held.len() >= MAX_HELD {
            self.held.pop_front();
        }
        self.held.push_back((version, patch));
    }

    fn hand_out(&mut self, version: u64, patch: Bytes, events: &mut VecDeque<Event>) {
        self.seen = Some(version);
        events.push_back(Event::Desired { version, patch });
    }

    /// An answer came; false if it was not to a read of this.
    pub fn handle_answer(
        &mut self,
        reply: &Reply<'_>,
        retry: (&RetryPolicy, &mut Random),
        now: u64,
        events: &mut VecDeque<Event>,
    ) -> bool {
        let &Reply { rid, status, body, .. } = reply;
        match self.state {
            State::Asked(asked, _) if asked.is(rid) => {}
            _ => return false,
        }
        let (policy, random) = retry;
        let again_at = |failures: u32, random: &mut Random| {
            now.saturating_add(policy.wait_ms(failures, None, random.bits()))
        };
        let twin = (status == 200).then(|| serde_json::from_slice::<Twin>(body).ok()).flatten();
        let Some(Twin { desired: Section { version }, .. }) = twin else {
            self.failures += 1;
            self.state = State::Due(again_at(self.failures, random));
            return true;
        };
        if self.whole_due || self.seen != Some(version) {
            self.whole_due = false;
            self.seen = Some(version);
            events.push_back(Event::DesiredWhole { version, twin: Bytes::copy_from_slice(body) });
        }
        self.state = State::Current;
        while let Some((version, patch)) = self.held.pop_front() {
            self.handle_patch(version, patch, now, events);
            if self.state != State::Current {
                // Still one missing in between. The change was put at the end of those held back: order is by version.
                self.held.make_contiguous().sort_by_key(|&(version, _)| version);
                self.failures += 1;
                self.state = State::Due(again_at(self.failures, random));
                return true;
            }
        }
        self.held = VecDeque::new();
        self.failures = 0;
        true
    }
}
