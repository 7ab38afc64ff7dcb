//! Carries updates out: does what the machine says, stores what it decides, asks the application where only that knows.
//!
//! Must not know: twins and methods; `attach` brings those together with this.
//!
//! Invariant: what the machine decided is durable before the next action begins.
//! Invariant: one update runs at a time, and one process works on a folder.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ostler_core::time::Timestamp;
use tokio::sync::{watch, Notify};

use super::download::{Downloader, Stop, Tuning};
use super::failure::{Code, Failure};
use super::hooks::{Hook, Install, Reboot, Trial};
use super::key::PublicKey;
use super::machine::{Accepted, Action, Boot, Machine, Rules};
use super::manifest::Downgrade;
use super::report::Reporter;
use super::state::{Image, Request, Slot, Source, State, Step, Target};
use super::store::Store;
use super::version::Version;
use crate::http::Https;

/// Largest image that is taken unless told otherwise: 4 GiB.
const MAX_SIZE: u64 = 4 << 30;

/// Settings of an [`Updater`].
///
/// ```
/// use std::time::Duration;
///
/// use ostler_device_sdk::firmware::{PlainHttp, SigningKey, Slot, Step, Tuning, Updater};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let updater = Updater::builder(folder, "pump-a1", "1.0.0".parse()?)
///     .trust(SigningKey::generate()?.public())
///     .max_boots(2)
///     .confirm_within(Duration::from_secs(60))
///     .tuning(Tuning { plain_http: PlainHttp::Anywhere, ..Tuning::default() })
///     .install(|slot| async move { std::fs::copy(&slot.image, slot.folder.join("program")).map(drop).map_err(|e| e.to_string()) })
///     .health_check(|_trial| async { Ok(()) })
///     .open()?;
/// let progress = updater.progress();
/// assert_eq!((progress.step, progress.running), (Step::StandBy, Slot::A));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Builder {
    folder: PathBuf,
    version: Version,
    rules: Rules,
    tuning: Tuning,
    confirm_within: Duration,
    step_time: Duration,
    report_every: Duration,
    names: Names,
    running: Option<Slot>,
    counts: bool,
    hooks: Hooks,
}

/// What the hub's side is called.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub method: String,
    pub property: String,
}

#[derive(Debug, Clone, Default)]
struct Hooks {
    install: Option<Hook<Install>>,
    health: Option<Hook<Trial>>,
    reboot: Option<Hook<Reboot>>,
}

impl Builder {
    /// Trusts a key. Several may be trusted, so that a new one can be rolled out before the old one is retired.
    pub fn trust(mut self, key: PublicKey) -> Self {
        self.rules.trusted.push(key);
        self
    }

    /// Whether older versions may be installed; refused by default.
    pub fn downgrade(mut self, downgrade: Downgrade) -> Self {
        self.rules.downgrade = downgrade;
        self
    }

    /// Largest image that is taken, in bytes. Default 4 GiB.
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.rules.max_size = bytes;
        self
    }

    /// How often a new image is booted before it must have confirmed. Default 3.
    pub fn max_boots(mut self, boots: u32) -> Self {
        self.rules.max_boots = boots.max(1);
        self
    }

    /// How long the health check may take. Default 5 minutes.
    pub fn confirm_within(mut self, time: Duration) -> Self {
        self.confirm_within = time;
        self
    }

    /// How downloads go about it.
    pub fn tuning(mut self, tuning: Tuning) -> Self {
        self.tuning = tuning;
        self
    }

    /// How long each step lasts at least, so that a back end that polls sees all of them. Default 0.
    pub fn step_time(mut self, time: Duration) -> Self {
        self.step_time = time;
        self
    }

    /// How often progress within a step is reported at most. Default 5 s.
    pub fn report_every(mut self, time: Duration) -> Self {
        self.report_every = time;
        self
    }

    /// The method that begins updates. Default `firmwareUpdate`, as in the tutorials.
    pub fn method(mut self, name: impl Into<String>) -> Self {
        self.names.method = name.into();
        self
    }

    /// The desired property that begins updates, and the reported one that tells of them. Default `firmware`.
    pub fn property(mut self, name: impl Into<String>) -> Self {
        self.names.property = name.into();
        self
    }

    /// The slot that runs, where a boot loader tells it. By default it is what `current` links to.
    pub fn running(mut self, slot: Slot) -> Self {
        self.running = Some(slot);
        self
    }

    /// Boots are counted by [`super::launch`] in another program, which started this one.
    pub fn launched(mut self) -> Self {
        self.counts = false;
        self
    }

    /// Makes a slot ready with its verified image, by unpacking it for example. After a power cut it is called again.
    /// What it has written is made durable before the slot is switched to.
    pub fn install<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Install) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.hooks.install = Some(Hook::new(hook));
        self
    }

    /// Finds out whether the new image works. By default it is healthy once the hub can be reached.
    pub fn health_check<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Trial) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.hooks.health = Some(Hook::new(hook));
        self
    }

    /// Boots the device. Without it, [`Updater::run`] returns and leaves that to the caller.
    pub fn reboot<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Reboot) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.hooks.reboot = Some(Hook::new(hook));
        self
    }

    /// Opens the folder and takes up what a power cut or a reboot has left. This counts as a boot: call it once per process.
    /// It reads and writes a few small files, and waits for them.
    ///
    /// # Errors
    /// [`Code::Busy`] when another process has the folder; [`Code::Storage`], [`Code::DiskFull`].
    pub fn open(self) -> Result<Updater, Failure> {
        let store = Store::open(&self.folder)?;
        self.open_on(store)
    }

    pub(super) fn open_on(self, store: Store) -> Result<Updater, Failure> {
        let linked = store.linked()?;
        let running = self.running.unwrap_or(linked);
        let stored = store.load_or_set_aside()?;
        let factory =
            || State::factory(running, Image { version: self.version.clone(), sha256: None, size: 0 });
        let state = stored.clone().unwrap_or_else(factory);
        let boot = Boot { running, linked, counts: self.counts };
        let machine = Machine::start(state, self.rules, boot, now());
        if stored.as_ref() != Some(machine.state()) {
            store.save(machine.state())?;
        }
        let mut reporter = Reporter::new(&self.names.property, self.report_every);
        reporter.handle_state(machine.state(), running, now());
        let progress = watch::Sender::new(Progress::of(&machine, 0));
        Ok(Updater {
            shared: Arc::new(Shared {
                store,
                tuning: self.tuning,
                confirm_within: self.confirm_within,
                step_time: self.step_time,
                names: self.names,
                hooks: self.hooks,
                machine: Mutex::new(machine),
                turn: tokio::sync::Mutex::new(()),
                driving: tokio::sync::Mutex::new(()),
                reporter: Mutex::new(reporter),
                news: Notify::new(),
                told: watch::Sender::new(true),
                entered: Mutex::new(Instant::now()),
                stop: watch::Sender::new(false),
                wake: Notify::new(),
                progress,
            }),
        })
    }
}

/// Updates a device's firmware. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Updater {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    store: Store,
    tuning: Tuning,
    confirm_within: Duration,
    step_time: Duration,
    pub names: Names,
    hooks: Hooks,
    machine: Mutex<Machine>,
    /// Changes of the machine, each with its store, one after the other.
    turn: tokio::sync::Mutex<()>,
    driving: tokio::sync::Mutex<()>,
    reporter: Mutex<Reporter>,
    /// There may be something to report.
    pub news: Notify,
    /// Whether the hub has been told all steps; true while nobody tells it any.
    pub told: watch::Sender<bool>,
    /// When the present step began.
    entered: Mutex<Instant>,
    /// The download that runs is not wanted any more.
    stop: watch::Sender<bool>,
    /// The machine may have something to do.
    wake: Notify,
    progress: watch::Sender<Progress>,
}

/// Where an update stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The step.
    pub step: Step,
    /// The slot that runs.
    pub running: Slot,
    /// The version that runs.
    pub version: Option<Version>,
    /// What is being installed.
    pub target: Option<Target>,
    /// Bytes of the image that are durable.
    pub bytes: u64,
    /// Everything that is stored.
    pub state: State,
}

impl Progress {
    fn of(machine: &Machine, bytes: u64) -> Self {
        let state = machine.state().clone();
        Self {
            step: state.step(),
            running: machine.running(),
            version: machine.version().cloned(),
            target: state.update.as_ref().and_then(|update| update.phase.target()).cloned(),
            bytes,
            state,
        }
    }
}

/// Why [`Updater::run`] has returned.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// The device is to be booted, or the program to be started anew from this slot.
    Boot(Reboot),
}

impl PartialEq for Reboot {
    fn eq(&self, other: &Self) -> bool {
        self.slot == other.slot && self.folder == other.folder
    }
}

impl Eq for Reboot {}

impl Updater {
    /// Settings for the firmware in `folder`. `version` is what left the factory: it counts until the first update.
    ///
    /// ```no_run
    /// use ostler_device_sdk::firmware::Updater;
    ///
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let updater = Updater::builder("/var/lib/pump/firmware", "pump-a1", "1.0.0".parse()?)
    ///     .trust("kF0…".parse()?)
    ///     .health_check(|_trial| async { Ok(()) })
    ///     .open()?;
    /// # Ok(()) }
    /// ```
    pub fn builder(folder: impl Into<PathBuf>, hardware: impl Into<String>, version: Version) -> Builder {
        Builder {
            folder: folder.into(),
            version,
            rules: Rules {
                trusted: Vec::new(),
                hardware: hardware.into(),
                downgrade: Downgrade::Refuse,
                max_size: MAX_SIZE,
                max_boots: 3,
            },
            tuning: Tuning::default(),
            confirm_within: Duration::from_secs(300),
            step_time: Duration::ZERO,
            report_every: Duration::from_secs(5),
            names: Names { method: "firmwareUpdate".to_owned(), property: "firmware".to_owned() },
            running: None,
            counts: true,
            hooks: Hooks::default(),
        }
    }

    /// Where the update stands.
    pub fn progress(&self) -> Progress {
        self.shared.progress.borrow().clone()
    }

    /// Tells whenever that changes. Steps that pass quickly may be seen as one.
    pub fn changes(&self) -> watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    /// Takes a request. When this returns, an accepted one is durable.
    ///
    /// # Errors
    /// Why it is refused: [`Code::Busy`], or what [`super::verify`] and [`super::Manifest::admit`] say.
    pub async fn request(&self, request: Request, source: Source) -> Result<Accepted, Failure> {
        let accepted = self.change(|machine, now| machine.handle_request(request, source, now)).await??;
        self.shared.wake.notify_one();
        Ok(accepted)
    }

    /// Calls an update off that has not switched slots yet; false when there is none.
    ///
    /// # Errors
    /// [`Code::Storage`], [`Code::DiskFull`].
    pub async fn cancel(&self) -> Result<bool, Failure> {
        let cancelled = self.change(|machine, now| machine.handle_cancel(now)).await?;
        if cancelled {
            self.shared.stop.send_replace(true);
            self.shared.wake.notify_one();
        }
        Ok(cancelled)
    }

    /// Carries out what is asked for until the device is to be booted. Whoever has no [`crate::Client`] uses this instead of
    /// [`Updater::run`], and [`Updater::request`].
    ///
    /// # Errors
    /// [`Code::Storage`], [`Code::DiskFull`] when the state cannot be stored; calling again goes on from there.
    pub async fn drive(&self, https: &Https) -> Result<Exit, Failure> {
        self.drive_with(https, None).await
    }

    pub(super) async fn drive_with(
        &self,
        https: &Https,
        healthy: Option<Hook<Trial>>,
    ) -> Result<Exit, Failure> {
        let shared = &self.shared;
        let _driving = shared.driving.lock().await;
        loop {
            let wake = shared.wake.notified();
            // Before the look at what is next: who calls that off afterwards is heard.
            shared.stop.send_replace(false);
            let action = self.machine().next();
            match &action {
                Action::Idle => {
                    self.tidy().await?;
                    wake.await;
                }
                Action::Fetch { uri } => match self.downloader(https).fetch(uri).await {
                    Ok(package) => self.settle(&action, |m, now| m.handle_package(Ok(package), now)).await?,
                    Err(Stop::Failed(failure)) => {
                        self.settle(&action, |m, now| m.handle_package(Err(failure), now)).await?;
                    }
                    Err(Stop::Changed | Stop::CalledOff) => {}
                },
                Action::Download { target, base } => {
                    self.download(https, &action, target, base.as_deref()).await?;
                }
                Action::Verify(target) => {
                    let wanted = target.clone();
                    let result = shared.store.on_disk(move |store| store.verify(&wanted)).await;
                    if result.is_err() {
                        self.clear(target.slot).await?;
                    }
                    self.settle(&action, |m, now| m.handle_verified(result, now)).await?;
                }
                Action::Install(target) => {
                    let result = self.run_install(target).await;
                    self.settle(&action, |m, now| m.handle_installed(result, now)).await?;
                }
                Action::Switch(slot) => {
                    let slot = *slot;
                    shared.store.on_disk(move |store| store.switch(slot)).await?;
                    self.change(|machine, now| machine.handle_switched(slot, now)).await?;
                }
                Action::Boot => return self.boot().await,
                Action::Check { boots } => {
                    let result = self.check(*boots, healthy.as_ref()).await;
                    self.settle(&action, |m, now| m.handle_health(result, now)).await?;
                }
            }
        }
    }

    fn downloader(&self, https: &Https) -> Downloader {
        let shared = &self.shared;
        let stop = shared.stop.subscribe();
        Downloader { https: https.clone(), store: shared.store.clone(), tuning: shared.tuning, stop }
    }

    async fn download(
        &self,
        https: &Https,
        action: &Action,
        target: &Target,
        base: Option<&str>,
    ) -> Result<(), Failure> {
        let progress = |bytes| {
            lock(&self.shared.reporter).handle_bytes(bytes);
            self.shared.progress.send_modify(|progress| progress.bytes = bytes);
            self.shared.news.notify_one();
        };
        let result = self.downloader(https).download(target, base, progress).await;
        if result.is_err() {
            // What failed leaves nothing behind, which also makes room on a full disk for saying so.
            self.clear(target.slot).await?;
        }
        match result {
            Ok(()) => self.settle(action, |machine, now| machine.handle_downloaded(Ok(()), now)).await,
            Err(Stop::Failed(failure)) => {
                self.settle(action, |machine, now| machine.handle_downloaded(Err(failure), now)).await
            }
            Err(Stop::Changed) => self.change(|machine, now| machine.handle_changed(now)).await,
            Err(Stop::CalledOff) => Ok(()),
        }
    }

    /// Removes what is left in a slot that holds nothing whole: of an update that failed, or was called off.
    async fn tidy(&self) -> Result<(), Failure> {
        let slot = self.machine().running().other();
        let turn = self.shared.turn.lock().await;
        let state = self.machine().state().clone();
        if state.update.is_none() && state.image(slot).is_none() && slot != state.good {
            self.shared.store.on_disk(move |store| store.tidy(slot)).await?;
        }
        drop(turn);
        Ok(())
    }

    async fn clear(&self, slot: Slot) -> Result<(), Failure> {
        self.shared.store.on_disk(move |store| store.clear(slot)).await
    }

    /// Hands the result of an action to the machine, unless the action was called off meanwhile.
    async fn settle(
        &self,
        action: &Action,
        handle: impl FnOnce(&mut Machine, Timestamp),
    ) -> Result<(), Failure> {
        self.hold().await;
        self.change(|machine, now| {
            if machine.next() == *action {
                handle(machine, now);
            }
        })
        .await
    }

    async fn run_install(&self, target: &Target) -> Result<(), Failure> {
        let Some(hook) = &self.shared.hooks.install else { return Ok(()) };
        let install = Install {
            slot: target.slot,
            folder: self.shared.store.slot(target.slot),
            image: self.shared.store.image(target.slot),
            target: target.clone(),
        };
        hook.run(install, None, Code::InstallFailed).await?;
        // Before the slot is switched to: a power cut must not leave it with half of what was unpacked.
        let slot = target.slot;
        self.shared.store.on_disk(move |store| store.sync_slot(slot)).await
    }

    async fn check(&self, boots: u32, fallback: Option<&Hook<Trial>>) -> Result<(), Failure> {
        let Some(hook) = self.shared.hooks.health.as_ref().or(fallback) else { return Ok(()) };
        let trial = Trial { slot: self.machine().running(), boots };
        hook.run(trial, Some(self.shared.confirm_within), Code::Unhealthy).await
    }

    async fn boot(&self) -> Result<Exit, Failure> {
        self.hold().await;
        self.flush().await;
        let slot = self.shared.store.linked()?;
        let reboot = Reboot { slot, folder: self.shared.store.slot(slot) };
        tracing::info!(%slot, "firmware: booting");
        if let Some(hook) = &self.shared.hooks.reboot {
            if let Err(failure) = hook.run(reboot.clone(), None, Code::BootFailed).await {
                tracing::error!(%failure, "firmware: the device could not be booted");
            }
        }
        Ok(Exit::Boot(reboot))
    }

    /// Lets the hub know of the steps so far, but not for long.
    async fn flush(&self) {
        const LINGER: Duration = Duration::from_secs(5);
        let mut told = self.shared.told.subscribe();
        // Whoever is offline boots all the same; the next report says where it stands.
        let _ = tokio::time::timeout(LINGER, told.wait_for(|told| *told)).await;
    }

    /// Waits until the present step has been visible long enough.
    async fn hold(&self) {
        let until = *lock(&self.shared.entered) + self.shared.step_time;
        tokio::time::sleep_until(until.into()).await;
    }

    /// Lets the machine decide, stores what it decided, then tells.
    pub(super) async fn change<T>(
        &self,
        decide: impl FnOnce(&mut Machine, Timestamp) -> T,
    ) -> Result<T, Failure> {
        let shared = &self.shared;
        let _turn = shared.turn.lock().await;
        let mut machine = self.machine().clone();
        let before = machine.state().clone();
        let result = decide(&mut machine, now());
        if *machine.state() != before {
            let state = machine.state().clone();
            shared.store.on_disk(move |store| store.save(&state)).await?;
        }
        if machine.state().step() != before.step() {
            tracing::info!(from = ?before.step(), to = ?machine.state().step(), "firmware");
            *lock(&shared.entered) = Instant::now();
        }
        lock(&shared.reporter).handle_state(machine.state(), machine.running(), now());
        let bytes = shared.progress.borrow().bytes;
        shared.progress.send_replace(Progress::of(&machine, bytes));
        *self.machine() = machine;
        shared.news.notify_one();
        Ok(result)
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        lock(&self.shared.machine)
    }

    pub(super) fn reporter(&self) -> MutexGuard<'_, Reporter> {
        lock(&self.shared.reporter)
    }
}

/// What a launcher does before it starts the image: counts the boot, and goes back to the old slot when the new one was booted
/// too often without confirming. Returns the slot to start. For images that may crash before they come to their updater.
///
/// # Errors
/// As [`Builder::open`].
///
/// ```
/// use ostler_device_sdk::firmware::{launch, Slot};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let boot = launch(folder, 3)?;
/// assert_eq!((boot.slot, boot.folder), (Slot::A, folder.join("a")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn launch(folder: impl Into<PathBuf>, max_boots: u32) -> Result<Reboot, Failure> {
    launch_on(&Store::open(folder)?, max_boots)
}

pub(super) fn launch_on(store: &Store, max_boots: u32) -> Result<Reboot, Failure> {
    let mut linked = store.linked()?;
    if let Some(state) = store.load().unwrap_or_default() {
        let rules = Rules {
            trusted: Vec::new(),
            hardware: String::new(),
            downgrade: Downgrade::Refuse,
            max_size: 0,
            max_boots: max_boots.max(1),
        };
        let boot = Boot { running: linked, linked, counts: true };
        let machine = Machine::start(state.clone(), rules, boot, now());
        if *machine.state() != state {
            store.save(machine.state())?;
        }
        if let Action::Switch(slot) = machine.next() {
            store.switch(slot)?;
            linked = slot;
        }
    }
    Ok(Reboot { slot: linked, folder: store.slot(linked) })
}

/// The time of day. A device without a clock of its own believes it is 1970 and nothing has expired.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ticks(i64::try_from(since.as_nanos() / 100).unwrap_or(i64::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done under these locks by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applications spawn it.
    fn is_send(_: &impl Send) {}

    #[test]
    fn an_update_may_run_in_any_task() {
        let check = |updater: &Updater, client: &crate::Client| is_send(&updater.run(client));
        let _ = check;
    }
}
