//! A device's or module's live connection, seen from inside: who it is, what it wants to hear of, and
//! the one inbox through which news reaches it.
//!
//! The front end's connection task owns a [`Session`] and polls its inbox. Everything else holds a
//! [`SessionState`] and only adds news. Dropping the session ends it.
//!
//! Invariant: at most one session of an entity is in the table; a newer one closes the older one.
//!
//! Invariant: the inbox is bounded; a connection that does not take its news is closed.

use crate::hub::Hub;
use crate::messages::CloudMessage;
use ostler_core::auth::Grant;
use ostler_core::id::EntityId;
use ostler_core::method::MethodName;
use ostler_core::record::{Activity, Delivery, Interest, Subscriptions};
use ostler_core::time::Timestamp;
use ostler_core::twin::DesiredChange;
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU32, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// News that may wait for a connection: twice the method calls that may be in flight.
const INBOX_NEWS: usize = 2 * ostler_core::limits::METHODS_IN_FLIGHT_PER_ENTITY;

/// Names a method call in flight; unique in this hub since its start, and not used again after a
/// restart, so that a late answer never meets another call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

/// Something that a connected device must hear.
#[derive(Clone, Debug)]
pub enum News {
    /// Run a method and answer.
    Call {
        /// To be named in the answer.
        id: CallId,
        /// Which method.
        name: MethodName,
        /// JSON text.
        payload: Arc<[u8]>,
    },
    /// The desired properties changed.
    DesiredChanged(Arc<DesiredChange>),
    /// A message, to be confirmed with [`Hub::confirm_message`] once the device has it.
    Message(Arc<CloudMessage>),
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The client said goodbye.
    Client,
    /// The client went away without a word, or broke the transport.
    Lost,
    /// Nothing was heard for too long.
    KeepAlive,
    /// The client broke the protocol or a limit.
    Protocol,
    /// The same identity connected again.
    TakenOver,
    /// The device was disabled.
    Disabled,
    /// The device or module was deleted.
    Deleted,
    /// Its keys or certificates were changed.
    CredentialChanged,
    /// Its token ran out.
    TokenExpired,
    /// It did not take its news.
    SlowConsumer,
    /// The hub stops.
    Draining,
    /// The hub could not do what the client needs of it.
    Failed,
}

impl EndReason {
    /// A word for logs and tables.
    pub fn name(self) -> &'static str {
        match self {
            EndReason::Client => "client-disconnected",
            EndReason::Lost => "connection-lost",
            EndReason::KeepAlive => "keep-alive-timeout",
            EndReason::Protocol => "protocol-violation",
            EndReason::TakenOver => "taken-over",
            EndReason::Disabled => "device-disabled",
            EndReason::Deleted => "identity-deleted",
            EndReason::CredentialChanged => "credential-changed",
            EndReason::TokenExpired => "token-expired",
            EndReason::SlowConsumer => "slow-consumer",
            EndReason::Draining => "hub-stopping",
            EndReason::Failed => "hub-failure",
        }
    }
}

/// What the hub knows of a live connection.
#[derive(Debug)]
pub struct SessionState {
    id: EntityId,
    epoch: u64,
    generation_id: u64,
    grant: Grant,
    persistent: bool,
    connected_at: Timestamp,
    last_activity: AtomicI64,
    subscriptions: AtomicU16,
    calls_in_flight: AtomicU32,
    inbox: Mutex<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    queue: VecDeque<News>,
    end: Option<EndReason>,
    waker: Option<Waker>,
}

impl SessionState {
    /// Whose connection it is.
    pub fn id(&self) -> &EntityId {
        &self.id
    }

    /// Tells this connection from all others of this hub since its start.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// On what the sign-in was granted, and until when.
    pub fn grant(&self) -> Grant {
        self.grant
    }

    /// The generation of the identity that signed in (device §3.3).
    pub fn generation_id(&self) -> u64 {
        self.generation_id
    }

    /// Whether subscriptions outlive the connection.
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// When it connected.
    pub fn connected_at(&self) -> Timestamp {
        self.connected_at
    }

    /// What it wants to hear of.
    pub fn subscriptions(&self) -> Subscriptions {
        Subscriptions::from_bits(self.subscriptions.load(Ordering::Acquire))
    }

    /// How it wants to hear of something, if it does.
    pub fn delivery(&self, interest: Interest) -> Option<Delivery> {
        self.subscriptions().get(interest)
    }

    /// When it was last heard of.
    pub fn activity(&self) -> Activity {
        Activity {
            connection_updated: self.connected_at,
            last_activity: Timestamp::from_ticks(self.last_activity.load(Ordering::Relaxed)),
        }
    }

    /// Notes that it was heard of now.
    pub fn note_activity(&self, now: Timestamp) {
        self.last_activity.store(now.ticks(), Ordering::Relaxed);
    }

    pub(crate) fn set_subscriptions(&self, subscriptions: Subscriptions) {
        self.subscriptions.store(subscriptions.bits(), Ordering::Release);
    }

    /// Counts a call in; `false` when `limit` are in flight already.
    pub(crate) fn begin_call(&self, limit: u32) -> bool {
        let counted = self
            .calls_in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |calls| (calls < limit).then_some(calls + 1));
        counted.is_ok()
    }

    pub(crate) fn end_call(&self) {
        self.calls_in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// Puts news in the inbox; `false` when the connection is ending.
    pub(crate) fn deliver(&self, news: News) -> bool {
        let mut inbox = self.inbox.lock();
        if inbox.end.is_some() {
            return false;
        }
        if inbox.queue.len() >= INBOX_NEWS {
            inbox.end = Some(EndReason::SlowConsumer);
        } else {
            inbox.queue.push_back(news);
        }
        wake(inbox);
        true
    }

    /// Asks the connection to end. The first reason stands.
    pub(crate) fn end(&self, reason: EndReason) {
        let mut inbox = self.inbox.lock();
        inbox.end.get_or_insert(reason);
        wake(inbox);
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<News, EndReason>> {
        let mut inbox = self.inbox.lock();
        if let Some(reason) = inbox.end {
            return Poll::Ready(Err(reason));
        }
        if let Some(news) = inbox.queue.pop_front() {
            if inbox.queue.is_empty() {
                // An idle connection holds no buffer.
                inbox.queue = VecDeque::new();
            }
            return Poll::Ready(Ok(news));
        }
        match &mut inbox.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// Wakes after the lock is released, so that the woken task does not meet it.
fn wake(mut inbox: parking_lot::MutexGuard<'_, Inbox>) {
    let waker = inbox.waker.take();
    drop(inbox);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A live connection, owned by its front end. Dropping it takes the entity offline.
#[derive(Debug)]
pub struct Session {
    hub: Arc<Hub>,
    state: Arc<SessionState>,
    session_present: bool,
    ended: Option<EndReason>,
}

impl Session {
    pub(crate) fn new(hub: Arc<Hub>, state: Arc<SessionState>, session_present: bool) -> Session {
        Session { hub, state, session_present, ended: None }
    }

    /// What the hub knows of this connection.
    pub fn state(&self) -> &Arc<SessionState> {
        &self.state
    }

    /// Whether a stored session was found at sign-in (device §2.5).
    pub fn session_present(&self) -> bool {
        self.session_present
    }

    /// The next news, or why the connection must end.
    ///
    /// Only the task that polled last is woken.
    pub fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<Result<News, EndReason>> {
        self.state.poll(cx)
    }

    /// Takes the entity offline, saying why. Without it a drop counts as [`EndReason::Lost`].
    pub fn end(mut self, reason: EndReason) {
        self.ended = Some(reason);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub.detach(&self.state, self.ended.unwrap_or(EndReason::Lost));
    }
}

/// All live connections, by entity.
#[derive(Debug)]
pub(crate) struct Sessions {
    shards: Box<[RwLock<Shard>]>,
    hasher: foldhash::fast::RandomState,
}

type Shard = hashbrown::HashMap<EntityId, Arc<SessionState>, foldhash::fast::RandomState>;

const SHARDS: usize = 64;

impl Default for Sessions {
    fn default() -> Sessions {
        let hasher = foldhash::fast::RandomState::default();
        let shards = (0..SHARDS).map(|_| RwLock::new(Shard::with_hasher(hasher.clone()))).collect();
        Sessions { shards, hasher }
    }
}

/// What a sign-in brings to a new session.
pub(crate) struct Arrival {
    pub(crate) id: EntityId,
    pub(crate) epoch: u64,
    pub(crate) generation_id: u64,
    pub(crate) grant: Grant,
    pub(crate) persistent: bool,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) now: Timestamp,
}

impl Sessions {
    fn shard(&self, id: &EntityId) -> &RwLock<Shard> {
        // Low bits choose the bucket inside a shard; take the shard from high ones.
        let hash = self.hasher.hash_one(id);
        &self.shards[usize::try_from(hash >> 40).unwrap_or(0) % SHARDS]
    }

    /// The live connection of an entity.
    pub(crate) fn get(&self, id: &EntityId) -> Option<Arc<SessionState>> {
        self.shard(id).read().get(id).cloned()
    }

    /// When the entity of this name was last heard of, if it is connected.
    pub(crate) fn activity(&self, id: &str) -> Option<Activity> {
        // An id hashes as its text does.
        let hash = self.hasher.hash_one(id);
        let shard = &self.shards[usize::try_from(hash >> 40).unwrap_or(0) % SHARDS];
        shard.read().get(id).map(|state| state.activity())
    }

    /// Puts a new connection in the table; the one that was there before comes back.
    pub(crate) fn insert(&self, arrival: Arrival) -> (Arc<SessionState>, Option<Arc<SessionState>>) {
        let state = Arc::new(SessionState {
            epoch: arrival.epoch,
            generation_id: arrival.generation_id,
            grant: arrival.grant,
            persistent: arrival.persistent,
            connected_at: arrival.now,
            last_activity: AtomicI64::new(arrival.now.ticks()),
            subscriptions: AtomicU16::new(arrival.subscriptions.bits()),
            calls_in_flight: AtomicU32::new(0),
            inbox: Mutex::default(),
            id: arrival.id.clone(),
        });
        let before = self.shard(&arrival.id).write().insert(arrival.id, state.clone());
        (state, before)
    }

    /// Takes a connection out, unless a newer one has its place.
    pub(crate) fn remove(&self, state: &SessionState) -> bool {
        let mut shard = self.shard(&state.id).write();
        let current = shard.get(&state.id).is_some_and(|current| current.epoch == state.epoch);
        if current {
            shard.remove(&state.id);
        }
        current
    }

    /// How many devices and modules are connected.
    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Every connection, shard by shard, so that nobody waits for the entire table.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Arc<SessionState>)) {
        for shard in &self.shards {
            shard.read().values().for_each(&mut visit);
        }
    }
}
