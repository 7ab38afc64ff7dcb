//! What comes next in an update: decided from the stored state and from facts, nothing else.
//!
//! ```text
//!  idle ─request─> fetching ─> downloading ─> verifying ─> applying ─> switching ══ boot ══> confirming ─healthy─> idle, completed
//!                      └────────────┴─────────────┴───────────┴─> idle, failed                   │ unhealthy, too many boots
//!                                                                                                 v
//!                                            idle, rolled back <══ boot ══ rolling back <─────────┘
//! ```
//!
//! Whoever drives the machine stores [`Machine::state`] durably after each `handle_*` and before it does what
//! [`Machine::next`] says. Each action may be done twice: a power cut before the next store repeats it.
//!
//! Must not know: files, sockets, clocks: facts and `now` are arguments.
//!
//! Invariant: an action that writes to a slot never names the slot that runs or the one that is good.
//! Invariant: an update is completed only by [`Machine::handle_health`] with a healthy image that runs from the new slot.

use ostler_core::time::Timestamp;

use super::failure::{Code, Failure};
use super::key::PublicKey;
use super::manifest::{verify, Device, Downgrade, Package};
use super::state::{Ending, Image, Outcome, Phase, Request, Slot, Source, State, Target, Update};
use super::version::Version;

/// How often what the server sends may change during one download.
pub const MAX_CHANGES: u32 = 3;

/// What the machine decides by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Whose signatures count.
    pub trusted: Vec<PublicKey>,
    /// The device's hardware name.
    pub hardware: String,
    /// Whether older versions may be installed.
    pub downgrade: Downgrade,
    /// Largest image that is taken, in bytes.
    pub max_size: u64,
    /// How often a new image is booted before it must have confirmed.
    pub max_boots: u32,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing, until a request comes.
    Idle,
    /// Fetch the package, then [`Machine::handle_package`].
    Fetch {
        /// Where it is.
        uri: String,
    },
    /// Download the image, then [`Machine::handle_downloaded`].
    Download {
        /// What to download, and to which slot.
        target: Target,
        /// What `url` is relative to.
        base: Option<String>,
    },
    /// Read the image back, then [`Machine::handle_verified`].
    Verify(Target),
    /// Let the application prepare the slot, then [`Machine::handle_installed`].
    Install(Target),
    /// Make the slot the one that boots, then [`Machine::handle_switched`].
    Switch(Slot),
    /// Boot.
    Boot,
    /// Find out whether the new image is healthy, then [`Machine::handle_health`].
    Check {
        /// How often it was booted.
        boots: u32,
    },
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// The update has begun.
    Started,
    /// Just this update is under way already.
    Running,
    /// Just this image runs already.
    Installed,
    /// This desired property was tried before and failed; it is tried again when it changes, or by a call.
    FailedBefore,
}

/// How the device came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// The slot that runs.
    pub running: Slot,
    /// The slot that would be booted next.
    pub linked: Slot,
    /// Whether this boot counts; not if a launcher has counted it.
    pub counts: bool,
}

/// The machine.
///
/// ```
/// use ostler_device_sdk::firmware::{Action, Boot, Downgrade, Image, Machine, Request, Rules, Slot, Source, State, Timestamp};
///
/// let rules = Rules {
///     trusted: Vec::new(),
///     hardware: "pump-a1".to_owned(),
///     downgrade: Downgrade::Refuse,
///     max_size: 1 << 20,
///     max_boots: 3,
/// };
/// let image = Image { version: "1.0.0".parse()?, sha256: None, size: 0 };
/// let boot = Boot { running: Slot::A, linked: Slot::A, counts: true };
/// let now = Timestamp::from_unix_secs(1_777_629_600);
/// let mut machine = Machine::start(State::factory(Slot::A, image), rules, boot, now);
/// assert_eq!(machine.next(), Action::Idle);
/// let uri = "https://files.example.net/pump-2.1.json".to_owned();
/// machine.handle_request(Request::Uri(uri.clone()), Source::Call, now)?;
/// assert_eq!(machine.next(), Action::Fetch { uri });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Machine {
    rules: Rules,
    state: State,
    running: Slot,
    linked: Slot,
}

impl Machine {
    /// Takes the stored state up after a boot. Store [`Machine::state`] before anything else is done.
    pub fn start(state: State, rules: Rules, boot: Boot, now: Timestamp) -> Self {
        let mut machine = Self { rules, state, running: boot.running, linked: boot.linked };
        machine.handle_boot(boot.counts, now);
        machine
    }

    fn handle_boot(&mut self, counts: bool, now: Timestamp) {
        let Some(update) = self.state.update.take() else { return self.adopt() };
        let there = |target: &Target| target.slot == self.running;
        let fell_back = |slot: Slot, boots: u32| {
            let text =
                format!("the device came up from slot {} after {boots} boots from slot {slot}", slot.other());
            Failure::new(Code::BootFailed, text)
        };
        let phase = match update.phase.clone() {
            Phase::Switching(target) if there(&target) => Phase::Confirming { target, boots: 1 },
            // The link says the new slot and the old one runs: a boot loader gave the new one up.
            Phase::Switching(target) if self.linked == target.slot => {
                Phase::RollingBack { reason: fell_back(target.slot, 1), target }
            }
            Phase::Confirming { target, boots } if !there(&target) => {
                Phase::RollingBack { reason: fell_back(target.slot, boots), target }
            }
            Phase::Confirming { target, boots } if counts && boots >= self.rules.max_boots => {
                let text = format!("version {} did not confirm within {boots} boots", target.version);
                Phase::RollingBack { target, reason: Failure::new(Code::BootFailed, text) }
            }
            Phase::Confirming { target, boots } => {
                Phase::Confirming { target, boots: if counts { boots + 1 } else { boots } }
            }
            Phase::Downloading(target) | Phase::Verifying(target) | Phase::Applying(target)
                if there(&target) =>
            {
                self.state.update = Some(update);
                let text = "the device was booted from the slot that the update was writing to";
                self.fail(Failure::new(Code::Storage, text), now);
                return self.adopt();
            }
            phase => phase,
        };
        let since = if phase == update.phase { update.since } else { now };
        self.state.update = Some(Update { phase, since, ..update });
        self.finish_rollback(now);
    }

    /// Without an update under way, what runs is good: whoever switched slots by hand has decided so.
    fn adopt(&mut self) {
        self.state.good = self.running;
    }

    /// What to store.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The slot that runs.
    pub fn running(&self) -> Slot {
        self.running
    }

    /// The version that runs.
    pub fn version(&self) -> Option<&Version> {
        self.state.image(self.running).map(|image| &image.version)
    }

    /// What is to be done now.
    pub fn next(&self) -> Action {
        let Some(update) = &self.state.update else { return Action::Idle };
        match &update.phase {
            Phase::Fetching { uri } => Action::Fetch { uri: uri.clone() },
            Phase::Downloading(target) => {
                Action::Download { target: target.clone(), base: update.base.clone() }
            }
            Phase::Verifying(target) => Action::Verify(target.clone()),
            Phase::Applying(target) => Action::Install(target.clone()),
            Phase::Switching(target) if self.linked != target.slot => Action::Switch(target.slot),
            Phase::RollingBack { target, .. } if self.linked == target.slot => {
                Action::Switch(target.slot.other())
            }
            Phase::Switching(_) | Phase::RollingBack { .. } => Action::Boot,
            Phase::Confirming { boots, .. } => Action::Check { boots: *boots },
        }
    }

    /// Takes a request.
    ///
    /// # Errors
    /// [`Code::Busy`] while another update runs; what [`verify`] and [`super::Manifest::admit`] say. All but the first
    /// are the last outcome from then on.
    pub fn handle_request(
        &mut self,
        request: Request,
        source: Source,
        now: Timestamp,
    ) -> Result<Accepted, Failure> {
        let asked = request.fingerprint();
        if let Some(update) = &self.state.update {
            if update.asked == asked {
                return Ok(Accepted::Running);
            }
            return Err(Failure::new(Code::Busy, "another update is running"));
        }
        let failed_before = |last: &Outcome| last.asked == Some(asked) && last.ending.failure().is_some();
        if source == Source::Desired && self.state.last.as_ref().is_some_and(failed_before) {
            return Ok(Accepted::FailedBefore);
        }
        let (phase, base) = match request {
            Request::Uri(uri) => {
                // What was installed from a URI is not fetched again because a desired property still names it.
                let done = |last: &Outcome| last.asked == Some(asked) && last.ending == Ending::Completed;
                if source == Source::Desired && self.state.last.as_ref().is_some_and(done) {
                    return Ok(Accepted::Installed);
                }
                (Phase::Fetching { uri }, None)
            }
            Request::Package(package) => match self.admit(&package, now) {
                Ok(Some(target)) => (Phase::Downloading(target), None),
                Ok(None) => return Ok(Accepted::Installed),
                Err(failure) => {
                    let ending = Ending::Failed { failure: failure.clone(), downloaded: false };
                    self.state.last =
                        Some(Outcome { asked: Some(asked), version: None, ending, at: now, told: false });
                    return Err(failure);
                }
            },
        };
        let update = Update { asked, source, base, began: now, since: now, changes: 0, phase };
        self.begin(update);
        Ok(Accepted::Started)
    }

    /// The package was fetched, or not.
    pub fn handle_package(&mut self, result: Result<Package, Failure>, now: Timestamp) {
        let Some(Update { phase: Phase::Fetching { uri }, .. }) = &self.state.update else { return };
        let uri = uri.clone();
        match result.and_then(|package| self.admit(&package, now)) {
            Ok(Some(target)) => {
                if let Some(update) = self.state.update.take() {
                    let phase = Phase::Downloading(target);
                    self.begin(Update { phase, base: Some(uri), since: now, ..update });
                }
            }
            Ok(None) => self.end(Ending::Completed, now),
            Err(failure) => self.fail(failure, now),
        }
    }

    /// The image was downloaded, or never will be.
    pub fn handle_downloaded(&mut self, result: Result<(), Failure>, now: Timestamp) {
        if let Some(Phase::Downloading(target)) = self.phase() {
            match result {
                Ok(()) => self.enter(Phase::Verifying(target), now),
                Err(failure) => self.fail(failure, now),
            }
        }
    }

    /// What the server sends is not what it sent before: the download starts again, a few times.
    pub fn handle_changed(&mut self, now: Timestamp) {
        let Some(update) = &mut self.state.update else { return };
        update.changes += 1;
        if update.changes > MAX_CHANGES {
            let text = format!("what the server sends changed {} times during the download", update.changes);
            self.fail(Failure::new(Code::Changed, text), now);
        }
    }

    /// The image in the slot was held against its digest.
    pub fn handle_verified(&mut self, result: Result<(), Failure>, now: Timestamp) {
        let Some(Phase::Verifying(target)) = self.phase() else { return };
        let expired = target.expires.is_some_and(|expires| expires <= now);
        match result {
            Ok(()) if expired => {
                let text = "the manifest has expired during the download: sign it again with a later time";
                self.fail(Failure::new(Code::Expired, text), now);
            }
            Ok(()) => {
                let Target { slot, version, size, sha256, .. } = target.clone();
                self.state.set(slot, Some(Image { version, size, sha256: Some(sha256) }));
                self.enter(Phase::Applying(target), now);
            }
            Err(failure) => self.fail(failure, now),
        }
    }

    /// The application has prepared the slot, or could not.
    pub fn handle_installed(&mut self, result: Result<(), Failure>, now: Timestamp) {
        if let Some(Phase::Applying(target)) = self.phase() {
            match result {
                Ok(()) => self.enter(Phase::Switching(target), now),
                Err(failure) => self.fail(failure, now),
            }
        }
    }

    /// The slot is the one that boots, durably.
    pub fn handle_switched(&mut self, slot: Slot, now: Timestamp) {
        self.linked = slot;
        self.finish_rollback(now);
    }

    /// The new image is healthy, or not.
    pub fn handle_health(&mut self, result: Result<(), Failure>, now: Timestamp) {
        let Some(Phase::Confirming { target, .. }) = self.phase() else { return };
        match result {
            Ok(()) if target.slot == self.running => {
                self.state.good = target.slot;
                self.end(Ending::Completed, now);
            }
            Ok(()) => {}
            Err(reason) => self.enter(Phase::RollingBack { target, reason }, now),
        }
    }

    /// Gives an update up that has not switched yet; false when there is none.
    pub fn handle_cancel(&mut self, now: Timestamp) -> bool {
        let early = matches!(
            self.phase(),
            Some(Phase::Fetching { .. } | Phase::Downloading(_) | Phase::Verifying(_) | Phase::Applying(_))
        );
        if early {
            self.fail(Failure::new(Code::Cancelled, "the update was called off"), now);
        }
        early
    }

    /// The hub knows how the last update ended.
    pub fn handle_told(&mut self) {
        if let Some(last) = &mut self.state.last {
            last.told = true;
        }
    }

    /// Checks a package: none if just this image runs already.
    fn admit(&self, package: &Package, now: Timestamp) -> Result<Option<Target>, Failure> {
        let manifest = verify(package, &self.rules.trusted)?;
        let image = self.state.image(self.running);
        if image
            .is_some_and(|image| image.sha256 == Some(manifest.sha256) && image.version == manifest.version)
        {
            return Ok(None);
        }
        let lowest = "0".parse().expect("`0` is a version");
        let device = Device {
            hardware: self.rules.hardware.clone(),
            version: self.version().cloned().unwrap_or(lowest),
            downgrade: self.rules.downgrade,
            max_size: self.rules.max_size,
        };
        manifest.admit(&device, now)?;
        Ok(Some(Target {
            slot: self.running.other(),
            url: package.url.clone(),
            version: manifest.version,
            size: manifest.size,
            sha256: manifest.sha256,
            expires: manifest.expires,
        }))
    }

    fn phase(&self) -> Option<Phase> {
        self.state.update.as_ref().map(|update| update.phase.clone())
    }

    fn begin(&mut self, update: Update) {
        if let Some(target) = update.phase.target() {
            self.state.set(target.slot, None);
        }
        self.state.update = Some(update);
    }

    fn enter(&mut self, phase: Phase, now: Timestamp) {
        if let Some(update) = &mut self.state.update {
            update.phase = phase;
            update.since = now;
        }
    }

    /// A rollback is over when the old slot runs and will be booted again.
    fn finish_rollback(&mut self, now: Timestamp) {
        let Some(Phase::RollingBack { target, reason }) = self.phase() else { return };
        if self.running != target.slot && self.linked != target.slot {
            self.end(Ending::RolledBack(reason), now);
        }
    }

    fn fail(&mut self, failure: Failure, now: Timestamp) {
        let mut downloaded = false;
        if let Some(Phase::Applying(target)) = self.phase() {
            // What was begun with the slot may have changed it.
            self.state.set(target.slot, None);
            downloaded = true;
        }
        self.end(Ending::Failed { failure, downloaded }, now);
    }

    fn end(&mut self, ending: Ending, now: Timestamp) {
        if let Some(update) = self.state.update.take() {
            let version = update.phase.target().map(|target| target.version.clone());
            let asked = Some(update.asked);
            self.state.last = Some(Outcome { asked, version, ending, at: now, told: false });
        }
    }
}
