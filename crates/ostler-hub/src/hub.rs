//! The hub: what its operations share.
//!
//! Invariant: a write is load, decide, commit-if-unchanged; a lost race is decided again on what is
//! there now, a bounded number of times.

use crate::access::Access;
use crate::bus::{Bus, LocalBus};
use crate::configurations::Configurations;
use crate::error::Error;
use crate::events::{about, EventKind, Events};
use crate::files::{FileOptions, Files};
use crate::jobs::{Jobs, Shared};
use crate::messages::Messages;
use crate::policies::Policies;
use crate::query::Tokens;
use crate::recent::Recent;
use crate::session::{EndReason, SessionState};
use crate::stats::Stats;
use ostler_core::id::EntityId;
use ostler_core::identity::FreshSecrets;
use ostler_core::query::Dialect;
use ostler_core::record::{Activity, Record};
use ostler_core::time::Timestamp;
use ostler_core::twin::Reported;
use ostler_store::{Change, CommitError, Expect, Store};
use parking_lot::Mutex;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::hash::BuildHasher;
use std::sync::atomic::AtomicU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often a change is decided again before the caller is told that the record is contended.
const COMMIT_TRIES: usize = 100;
/// Entities whose last disconnect is remembered.
const REMEMBERED_ENDS: usize = 10_000;
/// Locks that keep notifications of one twin in the order of their versions.
const NOTIFY_LOCKS: usize = 8192;

/// Where a hub takes the time of day from; tests bring their own.
#[derive(Clone)]
pub struct Clock {
    read: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// How often those who wait for a time look at it again: it may be set while they wait.
    pub look_again: Duration,
}

impl Clock {
    /// A clock that `read` tells.
    pub fn new(read: impl Fn() -> Timestamp + Send + Sync + 'static, look_again: Duration) -> Clock {
        Clock { read: Arc::new(read), look_again }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        (self.read)()
    }
}

impl Default for Clock {
    /// The machine's clock, looked at again every two seconds.
    fn default() -> Clock {
        let read = || {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Timestamp::from_ticks(i64::try_from(since_epoch.as_nanos() / 100).unwrap_or(i64::MAX))
        };
        Clock::new(read, Duration::from_secs(2))
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clock").field("look_again", &self.look_again).finish_non_exhaustive()
    }
}

/// What a hub is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The names under which clients may know this hub; compared without regard to case.
    pub host_names: Vec<String>,
    /// How far clocks may be off before a token counts as expired, in seconds (device §1.4).
    pub skew_secs: i64,
    /// Devices and modules that may be registered.
    pub max_identities: u64,
    /// Failed sign-ins of one address that are answered in full before it is held back: at once, and
    /// then per second.
    pub sign_in_failures: (u32, u32),
    /// How many days an ended job is kept (service §10.5).
    pub job_retention_days: u64,
    /// How many seconds a message waits when its sender does not say (device §3.4).
    pub message_ttl_secs: i64,
    /// How often a message is handed out before it is given up (device §3.4).
    pub message_deliveries: u32,
    /// The language of job conditions.
    pub dialect: Dialect,
    /// Where uploaded files are, and how many.
    pub files: FileOptions,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            host_names: vec!["localhost".into()],
            skew_secs: 300,
            max_identities: ostler_core::limits::IDENTITIES as u64,
            sign_in_failures: (50, 5),
            job_retention_days: ostler_core::limits::JOB_RETENTION_DAYS,
            message_ttl_secs: ostler_core::limits::MESSAGE_TTL_SECS_DEFAULT,
            message_deliveries: ostler_core::limits::MESSAGE_DELIVERIES_DEFAULT,
            dialect: Dialect::Extended,
            files: FileOptions::default(),
            clock: Clock::default(),
        }
    }
}

/// A device or module as a back end sees it: the record, and whether it is connected.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// What is stored; the activity is the live one when connected.
    pub record: Record,
    /// Whether it is connected now.
    pub connected: bool,
    /// Messages that wait for it.
    pub messages: u64,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: EndReason,
}

/// All operations, shared by every front end.
pub struct Hub {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<LocalBus>,
    pub(crate) policies: Policies,
    pub(crate) tokens: Tokens,
    pub(crate) configurations: Configurations,
    pub(crate) access: Access,
    pub(crate) files: Arc<Files>,
    pub(crate) options: Options,
    pub(crate) epochs: AtomicU64,
    pub(crate) ends: Mutex<Recent<EntityId, Ended>>,
    pub(crate) jobs: Jobs,
    pub(crate) messages: Messages,
    notify_order: Box<[tokio::sync::Mutex<()>]>,
    hasher: foldhash::fast::RandomState,
    events: Arc<Events>,
    stats: Arc<Stats>,
    random: SystemRandom,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Hub {
    /// Opens a hub over a store; makes the built-in policies when there are none yet.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn open(store: Arc<dyn Store>, options: Options) -> Result<Arc<Hub>, Error> {
        let random = SystemRandom::new();
        let policies = Policies::load(store.as_ref(), &random).await?;
        let tokens = Tokens::load(store.as_ref(), &random).await?;
        let configurations = Configurations::load(store.as_ref()).await?;
        let messages = Messages::load(store.as_ref()).await?;
        let (bus, events, stats) = (Arc::<LocalBus>::default(), Arc::default(), Arc::default());
        let files = Files::load(&store, &stats, &options.files, options.clock.now()).await?;
        let hub = Arc::new_cyclic(|hub| Hub {
            jobs: Jobs::new(Shared::new(hub.clone(), &store, &bus, &events, &stats, &options)),
            store,
            bus,
            policies,
            tokens,
            configurations,
            messages,
            access: Access::new(options.sign_in_failures),
            files,
            options,
            epochs: AtomicU64::new(1),
            ends: Mutex::new(Recent::new(REMEMBERED_ENDS)),
            notify_order: (0..NOTIFY_LOCKS).map(|_| tokio::sync::Mutex::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            events,
            stats,
            random,
        });
        hub.jobs.begin().await?;
        Configurations::start(&hub);
        Files::start(&hub);
        Messages::start(&hub);
        Ok(hub)
    }

    /// The hub for a task that goes on when its caller leaves; nothing while the hub is dropped.
    pub(crate) fn itself(&self) -> Option<Arc<Hub>> {
        self.jobs.hub()
    }

    /// The time, from the hub's clock.
    pub fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// The live stream.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// What happened since the start.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The store, for health and backups.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What the hub was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// How many devices and modules are connected.
    pub fn connected_count(&self) -> usize {
        self.bus.sessions.count()
    }

    /// Whether a name is one of this hub's.
    pub fn is_host(&self, name: &str) -> bool {
        self.options.host_names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Asks every connection to end, because the hub stops.
    pub fn end_all_sessions(&self) {
        self.bus.sessions.for_each(|session| session.end(EndReason::Draining));
    }

    pub(crate) fn tell(&self, id: &EntityId, news: crate::bus::Tell) {
        self.bus.tell(id, news);
    }

    pub(crate) fn fresh_secrets(&self) -> Result<FreshSecrets, Error> {
        let mut bytes = [0u8; 68];
        fill_random(&self.random, &mut bytes)?;
        let part = |from: usize| -> [u8; 32] { std::array::from_fn(|i| bytes[from + i]) };
        let etag_start = u32::from_be_bytes(std::array::from_fn(|i| bytes[64 + i]));
        Ok(FreshSecrets { primary: part(0), secondary: part(32), etag_start })
    }

    pub(crate) fn random(&self) -> &SystemRandom {
        &self.random
    }

    /// The record of an entity.
    pub(crate) async fn load(&self, id: &EntityId) -> Result<Record, Error> {
        self.store.load(id).await?.ok_or_else(|| Error::not_found(id))
    }

    /// Changes a record: `decide` may run several times and must not have effects of its own. It
    /// returns `None` in place of a record when nothing needs to be written.
    pub(crate) async fn change<T>(
        &self,
        id: &EntityId,
        mut decide: impl FnMut(Record) -> Result<(Option<Record>, T), Error>,
    ) -> Result<T, Error> {
        for _ in 0..COMMIT_TRIES {
            let record = self.load(id).await?;
            let expect = Expect::Revision(record.revision);
            let (record, result) = decide(record)?;
            let Some(record) = record else { return Ok(result) };
            match self.commit_one(Change::Put { record: Box::new(record), expect }).await {
                Ok(()) => return Ok(result),
                Err(CommitError::Conflict) => self.stats.commit_retries.add(1),
                Err(error) => return Err(Error::commit(id, error)),
            }
        }
        Err(Error::Contended)
    }

    /// As [`Hub::change`], for what a device reports: the busiest path loads and writes no more than
    /// that. The new version of the reported properties comes back.
    pub(crate) async fn change_reported(
        &self,
        id: &EntityId,
        decide: impl Fn(Reported) -> Result<Reported, Error>,
    ) -> Result<u64, Error> {
        for _ in 0..COMMIT_TRIES {
            let found = self.store.load_reported(id).await?;
            let (expect, reported) = found.ok_or_else(|| Error::not_found(id))?;
            let reported = decide(reported)?;
            let version = reported.section.version;
            match self.commit_one(Change::PutReported { id: id.clone(), reported, expect }).await {
                Ok(()) => return Ok(version),
                Err(CommitError::Conflict) => self.stats.commit_retries.add(1),
                Err(error) => return Err(Error::commit(id, error)),
            }
        }
        Err(Error::Contended)
    }

    pub(crate) async fn commit_one(&self, change: Change) -> Result<(), CommitError> {
        let touched = self.configurations.touched(&change);
        let outcome = self.store.commit(vec![change]).await.pop();
        let outcome = outcome.unwrap_or(Err(CommitError::Store(ostler_store::StoreError::Closed)));
        outcome.map(|_| self.configurations.look_at(touched))
    }

    /// As [`Hub::commit_one`], for changes that share a durable commit and stand or fall alone.
    pub(crate) async fn commit_all(&self, changes: Vec<Change>) -> Vec<Result<u64, CommitError>> {
        let touched: Vec<_> = changes.iter().map(|change| self.configurations.touched(change)).collect();
        let outcomes = self.store.commit(changes).await;
        for (touched, outcome) in touched.into_iter().zip(&outcomes) {
            self.configurations.look_at(touched.filter(|_| outcome.is_ok()));
        }
        outcomes
    }

    /// Holds back other changes of these twins' desired properties until this one was told.
    pub(crate) async fn notify_in_order<'a>(
        &self,
        ids: impl Iterator<Item = &'a EntityId>,
    ) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
        let place = |id| usize::try_from(self.hasher.hash_one(id) >> 32).unwrap_or(0) % NOTIFY_LOCKS;
        // Always in ascending order, so that two requests never wait for each other.
        let places: std::collections::BTreeSet<usize> = ids.map(place).collect();
        let mut guards = Vec::with_capacity(places.len());
        for place in places {
            guards.push(self.notify_order[place].lock().await);
        }
        guards
    }

    /// A record as a back end sees it.
    pub(crate) fn view(&self, mut record: Record) -> View {
        let session = self.bus.sessions.get(&record.id);
        if let Some(session) = &session {
            record.activity = session.activity();
        }
        let messages = self.messages.count(record.id.as_str());
        View { connected: session.is_some(), messages, record }
    }

    /// Takes a connection out of the table and notes how it ended.
    pub(crate) fn detach(&self, state: &SessionState, reason: EndReason) {
        let now = self.now();
        if self.bus.sessions.remove(state) {
            let last_activity = state.activity().last_activity;
            self.store.touch(state.id(), Activity { connection_updated: now, last_activity });
            self.ends.lock().note(state.id().clone(), Ended { at: now, reason });
            self.configurations.connection_changed(state.id());
        }
        self.wake_messages(state.id());
        self.events.emit(|| about(state.id(), now, EventKind::Disconnected { reason }));
    }
}

/// A signing key of this hub that its store keeps; made when there is none yet.
pub(crate) async fn lasting_key(
    store: &dyn Store,
    random: &SystemRandom,
    setting: &str,
) -> Result<hmac::Key, Error> {
    let key = match store.setting(setting).await? {
        Some(setting) => setting.value,
        None => {
            let mut key = vec![0; 32];
            fill_random(random, &mut key)?;
            store.put_setting(setting, key.clone(), Expect::Absent).await.map_err(Error::plain)?;
            key
        }
    };
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &key))
}

pub(crate) fn fill_random(random: &SystemRandom, bytes: &mut [u8]) -> Result<(), Error> {
    random.fill(bytes).map_err(|_| {
        Error::Store(ostler_store::StoreError::Unavailable("the system gives no random numbers".into()))
    })
}
