//! What the handles of a client and its task share: the engine under a lock, and who waits for what it tells.
//!
//! An operation goes into the engine at the call, under the lock, so that it is queued in the order of the calls even if
//! its future is never polled; then the task is woken. Results come out of the engine as events, which the task hands on.
//!
//! Must not know: sockets, TLS, types of the application.
//!
//! Invariant: no waker, handler or channel of the application is touched while the lock is held.
//! Invariant: once the client is over, every waiter has been told and every stream ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, Notify};
use tokio::time::Instant;

use crate::credential::Credential;
use crate::driver;
use crate::engine::{Engine, Event, Interest, Ticket, Token, TwinFailure};
use crate::error::TwinError;
use crate::message::SendError;
use crate::messages::Mailbox;
use crate::methods::{self, Handler, MethodAnswer, MethodCall, Methods, Pending, Verdict};
use crate::queue::Fan;
use crate::status::{Cause, ConnectionStatus};
use crate::transport::Route;
use crate::twin::{DesiredUpdate, Reported, Twin};

/// Updates that one stream may leave unread. With more it gets the whole twin instead.
const MAX_UNREAD: usize = 256;
/// Changes of the status that one stream may leave unread; the oldest go.
const MAX_UNREAD_STATUS: usize = 64;

/// A client, without its handles.
pub(crate) struct Inner {
    core: Mutex<Core>,
    /// Something happened that somebody may wait for.
    changed: Notify,
    pub route: Route,
    pub username: String,
    pub credential: Arc<Credential>,
    #[cfg(feature = "http")]
    pub https: crate::http::Https,
    pub runtime: Handle,
    pub operation_timeout: Duration,
    /// Time is counted from here.
    start: Instant,
}

/// What is behind the lock.
pub(crate) struct Core {
    pub engine: Engine,
    pub mailbox: Mailbox,
    pub methods: Methods,
    life: Life,
    /// The task's, if it waits.
    waker: Option<Waker>,
    /// Something was done to the engine since the task looked last.
    dirty: bool,
    next_token: u64,
    waiters: HashMap<Token, Waiter>,
    status: ConnectionStatus,
    /// Counts the changes of the status.
    changes: u64,
    /// What went wrong last, for people.
    detail: String,
    credential: Arc<Credential>,
    statuses: Fan<ConnectionStatus>,
    desired: Fan<DesiredUpdate>,
    wants_desired: bool,
    /// A whole twin for streams that missed something is on its way.
    catching_up: bool,
    /// It may be too old for one of them.
    catch_up_again: bool,
    /// The client was asked to close.
    closing: bool,
    /// What failed since.
    unsent: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Nothing has been asked for yet.
    Fresh,
    Running,
    Over,
}

type Answer<T, E> = oneshot::Sender<Result<T, E>>;

/// Who waits for the result of an operation.
pub(crate) enum Waiter {
    Sent(Answer<(), SendError>),
    Reported(Answer<Reported, TwinError>),
    Twin(Answer<Bytes, TwinError>),
    /// For streams of desired properties that missed something.
    CatchUp,
}

/// Something to be done once the lock is given back.
enum Delivery {
    Sent(Answer<(), SendError>, Result<(), SendError>),
    Reported(Answer<Reported, TwinError>, Result<Reported, TwinError>),
    Twin(Answer<Bytes, TwinError>, Result<Bytes, TwinError>),
    Method(Verdict),
}

/// What the lock's holder leaves to do.
#[derive(Default)]
struct Chores {
    wakers: Vec<Waker>,
    deliveries: Vec<Delivery>,
    /// To be dropped.
    handlers: Vec<Handler>,
}

/// What a client is made of.
pub(crate) struct Parts {
    pub engine: Engine,
    pub route: Route,
    pub username: String,
    pub credential: Arc<Credential>,
    #[cfg(feature = "http")]
    pub https: crate::http::Https,
    pub runtime: Handle,
    pub operation_timeout: Duration,
}

impl Inner {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let core = Core {
            engine: parts.engine,
            mailbox: Mailbox::default(),
            methods: Methods::default(),
            life: Life::Fresh,
            waker: None,
            dirty: false,
            next_token: 0,
            waiters: HashMap::new(),
            status: ConnectionStatus::Idle,
            changes: 0,
            detail: String::new(),
            credential: parts.credential.clone(),
            statuses: Fan::default(),
            desired: Fan::default(),
            wants_desired: false,
            catching_up: false,
            catch_up_again: false,
            closing: false,
            unsent: 0,
        };
        Arc::new(Self {
            core: Mutex::new(core),
            changed: Notify::new(),
            route: parts.route,
            username: parts.username,
            credential: parts.credential,
            #[cfg(feature = "http")]
            https: parts.https,
            runtime: parts.runtime,
            operation_timeout: parts.operation_timeout,
            start: Instant::now(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine's time, in ms.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn instant(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// The time after a wait, in ms.
    pub(crate) fn after(&self, wait: Duration) -> u64 {
        self.now().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }

    /// Does something to the engine, and sees to it that the task looks at it. `None` if the client is over.
    pub(crate) fn operate<R>(self: &Arc<Self>, work: impl FnOnce(&mut Core, u64) -> R) -> Option<R> {
        let now = self.now();
        let (result, waker, fresh) = {
            let mut core = self.lock();
            if core.is_over() {
                return None;
            }
            let fresh = core.life == Life::Fresh;
            core.life = Life::Running;
            core.dirty = true;
            (work(&mut core, now), core.waker.take(), fresh)
        };
        if fresh {
            self.runtime.spawn(driver::run(self.clone()));
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        Some(result)
    }

    /// Like [`Inner::operate`], without waking a client that nothing has been asked of.
    pub(crate) fn adjust(&self, work: impl FnOnce(&mut Core, u64)) {
        let now = self.now();
        let waker = {
            let mut core = self.lock();
            core.dirty = true;
            work(&mut core, now);
            core.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Hands on what the engine tells.
    pub(crate) fn dispatch(self: &Arc<Self>) {
        let mut chores = Chores::default();
        let mut told = false;
        {
            let mut core = self.lock();
            let now = self.now();
            while let Some(event) = core.engine.poll_event() {
                told = true;
                core.handle(event, now, &mut chores);
            }
        }
        if told {
            self.settle(chores);
        }
    }

    fn settle(self: &Arc<Self>, chores: Chores) {
        for delivery in chores.deliveries {
            // Whoever waited may have lost interest.
            match delivery {
                Delivery::Sent(answer, result) => drop(answer.send(result)),
                Delivery::Reported(answer, result) => drop(answer.send(result)),
                Delivery::Twin(answer, result) => drop(answer.send(result)),
                Delivery::Method(verdict) => self.carry_out(verdict),
            }
        }
        for waker in chores.wakers {
            waker.wake();
        }
        drop(chores.handlers);
        self.changed.notify_waiters();
    }

    fn carry_out(self: &Arc<Self>, verdict: Verdict) {
        match verdict {
            Verdict::Run(handler, pending) => methods::run(self, handler, pending),
            Verdict::Answer(rid, answer) => self.answer(&rid, answer),
            Verdict::Wait => {}
        }
    }

    /// Sends the answer to a method call.
    pub(crate) fn answer(self: &Arc<Self>, rid: &str, answer: MethodAnswer) {
        let MethodAnswer { status, payload } = answer;
        let taken = self.operate(|core, now| core.engine.answer(rid, status, payload.into(), now));
        if let Some(Err(error)) = taken {
            tracing::warn!(%error, "the answer to a method call is lost");
        }
    }

    pub(crate) fn method_ended(self: &Arc<Self>) {
        let verdict = self.lock().methods.handle_ended();
        self.carry_out(verdict);
    }

    pub(crate) fn ack(self: &Arc<Self>, ticket: Ticket) {
        self.operate(|core, _| core.engine.ack(ticket));
    }

    /// Keeps what went wrong, for people.
    pub(crate) fn note(&self, detail: String) {
        self.lock().detail = detail;
    }

    /// Waits until `check` finds what it looks for.
    pub(crate) async fn wait_for<R>(&self, mut check: impl FnMut(&mut Core) -> Option<R>) -> R {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = check(&mut self.lock()) {
                return found;
            }
            changed.await;
        }
    }

    /// Leaves once everything is sent, or after `patience`. What fails from here on is counted.
    pub(crate) fn close(self: &Arc<Self>, patience: Duration) {
        let until = self.after(patience);
        let fresh = {
            let mut core = self.lock();
            core.closing = true;
            core.life == Life::Fresh
        };
        if fresh {
            self.finish();
        } else {
            self.operate(|core, now| core.engine.stop(until, now));
        }
    }

    /// The client is over: everybody is told.
    pub(crate) fn finish(self: &Arc<Self>) {
        let mut chores = Chores::default();
        {
            let mut core = self.lock();
            if core.is_over() {
                return;
            }
            let now = self.now();
            while let Some(event) = core.engine.poll_event() {
                core.handle(event, now, &mut chores);
            }
            core.finish(&mut chores);
        }
        self.settle(chores);
    }
}

impl Core {
    pub(crate) fn is_over(&self) -> bool {
        self.life == Life::Over
    }

    pub(crate) fn status(&self) -> ConnectionStatus {
        self.status
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn unsent(&self) -> usize {
        self.unsent
    }

    /// The task is about to look at the engine, and waits afterwards.
    pub(crate) fn look(&mut self, waker: &Waker) {
        self.dirty = false;
        if !self.waker.as_ref().is_some_and(|own| own.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// A name for an operation whose result somebody waits for.
    pub(crate) fn wait(&mut self, waiter: Waiter) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.waiters.insert(token, waiter);
        token
    }

    pub(crate) fn statuses(&mut self) -> &mut Fan<ConnectionStatus> {
        &mut self.statuses
    }

    /// Another stream of desired properties. The first one makes the engine bring the whole twin; later ones get it by a
    /// read of their own.
    pub(crate) fn subscribe_desired(&mut self, now: u64) -> Arc<crate::queue::Queue<DesiredUpdate>> {
        let first = !std::mem::replace(&mut self.wants_desired, true);
        let over = self.is_over();
        let queue = self.desired.subscribe(!first, over);
        if first {
            self.engine.listen(Interest::Desired, now);
        } else if !over {
            self.catch_up(now);
        }
        queue
    }

    fn catch_up(&mut self, now: u64) {
        if !std::mem::replace(&mut self.catching_up, true) {
            let token = self.wait(Waiter::CatchUp);
            self.engine.get_twin(token, None, now);
        }
    }

    fn handle(&mut self, event: Event, now: u64, chores: &mut Chores) {
        match event {
            Event::Status(status) => self.handle_status(status, chores),
            Event::Sent { token, result } => {
                self.count(result.is_err());
                if let Some(Waiter::Sent(answer)) = self.waiters.remove(&token) {
                    chores.deliveries.push(Delivery::Sent(answer, result));
                }
            }
            Event::Reported { token, result } => {
                self.count(result.is_err());
                if let Some(Waiter::Reported(answer)) = self.waiters.remove(&token) {
                    let result = result.map(|version| Reported { version }).map_err(failure);
                    chores.deliveries.push(Delivery::Reported(answer, result));
                }
            }
            Event::Twin { token, result } => match self.waiters.remove(&token) {
                Some(Waiter::Twin(answer)) => {
                    chores.deliveries.push(Delivery::Twin(answer, result.map_err(failure)))
                }
                Some(Waiter::CatchUp) => self.handle_caught_up(result, now, chores),
                _ => {}
            },
            Event::Desired { version, patch } => self.handle_patch(version, &patch, now, chores),
            Event::DesiredWhole { twin, .. } => self.handle_whole(&twin, chores),
            Event::Method { name, rid, payload } => {
                let payload = String::from_utf8_lossy(&payload).into_owned();
                let verdict = self.methods.handle(Pending { call: MethodCall { name, payload }, rid });
                chores.deliveries.push(Delivery::Method(verdict));
            }
            Event::Message { message, ticket } => self.mailbox.push(*message, ticket, &mut chores.wakers),
            Event::Listening(_) => {}
            Event::NotListening(interest) => {
                tracing::warn!(?interest, "the hub does not agree to a subscription");
            }
        }
    }

    fn count(&mut self, failed: bool) {
        self.unsent += usize::from(self.closing && failed);
    }

    fn handle_status(&mut self, status: ConnectionStatus, chores: &mut Chores) {
        self.status = status;
        self.changes += 1;
        match status {
            ConnectionStatus::Connected | ConnectionStatus::Connecting { .. } => self.detail.clear(),
            ConnectionStatus::Disconnected { cause, .. } | ConnectionStatus::Refused { cause }
                if matches!(cause, Cause::NotAuthorized) =>
            {
                self.detail = self.credential.hint(SystemTime::now());
            }
            _ => {}
        }
        match status {
            // A renewal is no trouble: it takes a moment, and nothing is lost.
            ConnectionStatus::Disconnected { cause, next_attempt } if cause != Cause::TokenExpired => {
                tracing::warn!(%cause, detail = self.detail, ?next_attempt, "not connected");
            }
            ConnectionStatus::Refused { cause } => {
                tracing::warn!(%cause, detail = self.detail, "not connected, and not trying again");
            }
            _ => tracing::debug!(?status, "the connection's status changed"),
        }
        self.statuses.visit(&mut chores.wakers, |state| {
            if state.items.len() >= MAX_UNREAD_STATUS {
                state.items.pop_front();
            }
            state.items.push_back(status);
        });
    }

    fn handle_patch(&mut self, version: u64, patch: &[u8], now: u64, chores: &mut Chores) {
        let json = String::from_utf8_lossy(patch).into_owned();
        let mut lagging = false;
        self.desired.visit(&mut chores.wakers, |state| {
            // The answer to a read of the twin may overtake the change that it already has.
            if version <= state.floor {
                return;
            }
            if state.items.len() >= MAX_UNREAD {
                state.items.clear();
                state.behind = true;
                lagging = true;
            }
            state.items.push_back(DesiredUpdate::Patch { version, json: json.clone() });
        });
        if lagging {
            self.catch_up_again = self.catching_up;
            self.catch_up(now);
        }
    }

    fn handle_whole(&mut self, twin: &[u8], chores: &mut Chores) {
        let twin = match Twin::parse(twin) {
            Ok(twin) => twin,
            Err(error) => return tracing::warn!(%error, "a twin of the hub is passed over"),
        };
        self.desired.visit(&mut chores.wakers, |state| {
            if state.items.len() >= MAX_UNREAD {
                // All of it is in this one.
                state.items.clear();
            }
            // Also when it went back, as it does for a device that was registered anew.
            state.floor = twin.desired().version();
            state.items.push_back(DesiredUpdate::Whole(twin.clone()));
        });
    }

    fn handle_caught_up(&mut self, result: Result<Bytes, TwinFailure>, now: u64, chores: &mut Chores) {
        self.catching_up = false;
        if std::mem::take(&mut self.catch_up_again) && result.is_ok() {
            return self.catch_up(now);
        }
        let twin = result.map_err(failure).and_then(|bytes| Twin::parse(&bytes));
        if let Err(error) = &twin {
            tracing::warn!(%error, "a stream of desired properties misses its beginning");
        }
        self.desired.visit(&mut chores.wakers, |state| {
            if !std::mem::replace(&mut state.behind, false) {
                return;
            }
            if let Ok(twin) = &twin {
                let version = twin.desired().version();
                state.items.retain(|update| update.version() > version);
                state.floor = version;
                state.items.push_front(DesiredUpdate::Whole(twin.clone()));
            }
        });
    }

    fn finish(&mut self, chores: &mut Chores) {
        self.life = Life::Over;
        self.waker = None;
        for (_, waiter) in std::mem::take(&mut self.waiters) {
            self.unsent += usize::from(!matches!(waiter, Waiter::Twin(_) | Waiter::CatchUp));
            chores.deliveries.extend(match waiter {
                Waiter::Sent(answer) => Some(Delivery::Sent(answer, Err(SendError::Closed))),
                Waiter::Reported(answer) => Some(Delivery::Reported(answer, Err(TwinError::Closed))),
                Waiter::Twin(answer) => Some(Delivery::Twin(answer, Err(TwinError::Closed))),
                Waiter::CatchUp => None,
            });
        }
        if self.status != ConnectionStatus::Closed {
            self.handle_status(ConnectionStatus::Closed, chores);
        }
        self.statuses.close(&mut chores.wakers);
        self.desired.close(&mut chores.wakers);
        self.mailbox.wake_all(&mut chores.wakers);
        // Handlers often hold the client that holds them.
        chores.handlers = self.methods.clear();
    }
}

fn failure(failure: TwinFailure) -> TwinError {
    match failure {
        TwinFailure::TimedOut => TwinError::TimedOut,
        TwinFailure::Status { status, body } => TwinError::refused(status, &body),
        TwinFailure::QueueFull(SendError::QueueFull { messages, bytes }) => {
            TwinError::QueueFull { messages, bytes }
        }
        TwinFailure::QueueFull(_) => TwinError::QueueFull { messages: 0, bytes: 0 },
        TwinFailure::TooLarge { size } => TwinError::TooLarge { size },
        TwinFailure::NotSubscribed => TwinError::Refused {
            status: 403,
            code: 0,
            message: "the hub does not let this device subscribe to its twin".to_owned(),
        },
        TwinFailure::Closed => TwinError::Closed,
        TwinFailure::Refused(cause) => TwinError::NotConnected(cause),
    }
}
