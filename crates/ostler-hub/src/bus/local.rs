//! The bus of a hub on one machine: a table of sessions and a table of open calls.
//!
//! Invariant: an open call is in the table exactly as long as somebody awaits it.
//!
//! Invariant: only the entity that was asked can answer.

use super::{AskError, BoxFuture, Bus, Tell};
use crate::session::{CallId, News, SessionState, Sessions};
use ostler_core::id::EntityId;
use ostler_core::limits::METHODS_IN_FLIGHT_PER_ENTITY;
use ostler_core::method::{MethodAnswer, MethodCall};
use ostler_core::record::Interest;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{oneshot, Notify};
use tokio::time::Instant;

const SHARDS: u64 = 32;
/// Some clients give up at the very second that they named, so the hub answers a little before it
/// (service §1.4).
const ANSWER_MARGIN: Duration = Duration::from_millis(200);

type Answer = Result<MethodAnswer, String>;

struct OpenCall {
    id: EntityId,
    answer: oneshot::Sender<Answer>,
}

type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;

/// Delivers within this process.
pub struct LocalBus {
    pub(crate) sessions: Sessions,
    calls: Box<[Mutex<Map<u64, OpenCall>>]>,
    next_call: AtomicU64,
    arrivals: Mutex<Map<EntityId, Arc<Notify>>>,
}

impl Default for LocalBus {
    fn default() -> LocalBus {
        // The count starts at the wall clock, so that numbers of an earlier run do not come again.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        LocalBus {
            sessions: Sessions::default(),
            calls: (0..SHARDS).map(|_| Mutex::default()).collect(),
            next_call: AtomicU64::new(since_epoch.as_secs() << 24),
            arrivals: Mutex::default(),
        }
    }
}

impl LocalBus {
    /// Wakes calls that wait for this entity. To be called when it has subscribed to methods.
    pub(crate) fn arrived(&self, id: &EntityId) {
        let waiting = self.arrivals.lock().get(id).cloned();
        if let Some(waiting) = waiting {
            waiting.notify_waiters();
        }
    }

    /// Hands a device's answer to whoever waits for it; `false` when nobody does.
    pub(crate) fn answer(&self, id: &EntityId, call: CallId, answer: Answer) -> bool {
        let mut calls = self.shard(call).lock();
        if calls.get(&call.0).is_none_or(|open| open.id != *id) {
            return false;
        }
        let open = calls.remove(&call.0);
        drop(calls);
        open.is_some_and(|open| open.answer.send(answer).is_ok())
    }

    fn shard(&self, call: CallId) -> &Mutex<Map<u64, OpenCall>> {
        &self.calls[usize::try_from(call.0 % SHARDS).unwrap_or(0)]
    }

    /// Whether an entity is connected and takes method calls.
    pub(crate) fn is_listening(&self, id: &EntityId) -> bool {
        self.listening(id).is_some()
    }

    /// The connection of an entity, if it takes method calls.
    fn listening(&self, id: &EntityId) -> Option<Arc<SessionState>> {
        self.sessions.get(id).filter(|session| session.delivery(Interest::Methods).is_some())
    }

    /// Waits until the entity takes method calls, at most `timeout`.
    async fn await_listening(&self, id: &EntityId, timeout: Duration) -> Option<Arc<SessionState>> {
        let deadline = Instant::now() + timeout.saturating_sub(ANSWER_MARGIN);
        let arrival = Arrival::register(self, id);
        loop {
            let notified = arrival.notify.notified();
            tokio::pin!(notified);
            // Registered before looking, so that no arrival in between is missed.
            notified.as_mut().enable();
            if let Some(session) = self.listening(id) {
                return Some(session);
            }
            if tokio::time::timeout_at(deadline, notified).await.is_err() {
                return self.listening(id);
            }
        }
    }

    async fn ask_session(
        &self,
        session: Arc<SessionState>,
        call: MethodCall,
    ) -> Option<Result<MethodAnswer, AskError>> {
        let limit = u32::try_from(METHODS_IN_FLIGHT_PER_ENTITY).unwrap_or(u32::MAX);
        if !session.begin_call(limit) {
            return Some(Err(AskError::TooMany(METHODS_IN_FLIGHT_PER_ENTITY)));
        }
        let id = CallId(self.next_call.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        self.shard(id).lock().insert(id.0, OpenCall { id: session.id().clone(), answer: sender });
        let _open = OpenGuard { bus: self, session: &session, id };
        if !session.deliver(News::Call { id, name: call.name, payload: call.payload }) {
            return None;
        }
        let timeout = call.response_timeout.saturating_sub(ANSWER_MARGIN);
        Some(match tokio::time::timeout(timeout, receiver).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(reason))) => Err(AskError::BadAnswer(reason)),
            Ok(Err(_)) | Err(_) => Err(AskError::NoAnswer),
        })
    }
}

/// Closes a call whether it was answered, timed out, or its caller went away.
struct OpenGuard<'a> {
    bus: &'a LocalBus,
    session: &'a SessionState,
    id: CallId,
}

impl Drop for OpenGuard<'_> {
    fn drop(&mut self) {
        self.bus.shard(self.id).lock().remove(&self.id.0);
        self.session.end_call();
    }
}

/// A place in the table of those who wait for an entity; the last to leave removes it.
struct Arrival<'a> {
    bus: &'a LocalBus,
    id: &'a EntityId,
    notify: Arc<Notify>,
}

impl<'a> Arrival<'a> {
    fn register(bus: &'a LocalBus, id: &'a EntityId) -> Arrival<'a> {
        let notify = bus.arrivals.lock().entry(id.clone()).or_default().clone();
        Arrival { bus, id, notify }
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let mut arrivals = self.bus.arrivals.lock();
        // One in the table, one here.
        if Arc::strong_count(&self.notify) <= 2 {
            arrivals.remove(self.id);
        }
    }
}

impl Bus for LocalBus {
    fn ask<'a>(
        &'a self,
        id: &'a EntityId,
        call: MethodCall,
    ) -> BoxFuture<'a, Result<MethodAnswer, AskError>> {
        Box::pin(async move {
            let connect_timeout = call.connect_timeout;
            let mut session = self.listening(id);
            if session.is_none() && !connect_timeout.is_zero() {
                session = self.await_listening(id, connect_timeout).await;
            }
            let offline = Err(AskError::NotOnline { waited: connect_timeout });
            match session {
                None => offline,
                // The connection may end between finding it and handing it the call.
                Some(session) => self.ask_session(session, call).await.unwrap_or(offline),
            }
        })
    }

    fn tell(&self, id: &EntityId, news: Tell) {
        let Some(session) = self.sessions.get(id) else { return };
        match news {
            Tell::DesiredChanged(change) => {
                if session.delivery(Interest::DesiredChanges).is_some() {
                    session.deliver(News::DesiredChanged(change));
                }
            }
            Tell::End(reason) => session.end(reason),
        }
    }

    fn is_connected(&self, id: &EntityId) -> bool {
        self.sessions.get(id).is_some()
    }
}
