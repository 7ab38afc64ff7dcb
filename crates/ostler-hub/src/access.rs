//! Sign-in of devices and back ends, and what is remembered of those that failed.
//!
//! Credentials are always judged, because judging is cheap; what an address that fails too often
//! loses is the full treatment of its failures: they are counted, not recorded one by one, and the
//! door answers less. So a device behind the same address as a broken one still gets in.
//!
//! Invariant: the memory of failures is bounded whatever comes.

use crate::error::Error;
use crate::events::{about, Event, EventKind};
use crate::hub::Hub;
use crate::recent::Recent;
use crate::session::{Arrival, EndReason, Session, SessionState};
use ostler_core::auth::{authorize, sign_in, AuthFailure, Context, Credential, Grant, Rights, ServiceGrant};
use ostler_core::id::EntityId;
use ostler_core::record::{Record, Subscriptions};
use ostler_core::time::Timestamp;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::Arc;

/// Addresses whose failures are counted.
const SOURCES: usize = 16_384;
/// Names whose last failure is remembered.
const REMEMBERED_FAILURES: usize = 10_000;

/// Who is asking, from outside.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The address, when it is known.
    pub addr: Option<IpAddr>,
    /// By which front end, such as `mqtt`, `mqtt-ws` or `https`.
    pub transport: &'static str,
}

/// What a device brings besides its credential.
#[derive(Clone, Debug)]
pub struct ConnectRequest<'a> {
    /// Whether the stored session is to be forgotten and none kept.
    pub clean_session: bool,
    /// The plug-and-play model it says it is.
    pub model_id: Option<&'a str>,
    /// From where.
    pub peer: Peer,
}

/// A refused sign-in, remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When it last failed.
    pub at: Timestamp,
    /// From where.
    pub peer: Option<IpAddr>,
    /// Why.
    pub cause: AuthFailure,
    /// How often since the first one remembered.
    pub count: u64,
}

/// What is remembered of failures.
pub(crate) struct Access {
    burst: u32,
    per_sec: u32,
    sources: Mutex<Recent<IpAddr, Bucket>>,
    failures: Mutex<Recent<String, Failure>>,
}

/// Failures that an address may still make now.
struct Bucket {
    left: f64,
    at: Timestamp,
}

impl Access {
    pub(crate) fn new((burst, per_sec): (u32, u32)) -> Access {
        Access {
            burst,
            per_sec,
            sources: Mutex::new(Recent::new(SOURCES)),
            failures: Mutex::new(Recent::new(REMEMBERED_FAILURES)),
        }
    }

    /// Counts a failure of an address; `false` when it made too many lately.
    fn spend(&self, addr: Option<IpAddr>, now: Timestamp) -> bool {
        let Some(addr) = addr else { return true };
        let burst = f64::from(self.burst);
        let mut sources = self.sources.lock();
        let Some(bucket) = sources.get_mut(&addr) else {
            sources.note(addr, Bucket { left: burst - 1.0, at: now });
            return true;
        };
        #[allow(clippy::cast_precision_loss)] // a fraction of a failure does not matter
        let secs = (now.ticks() - bucket.at.ticks()).max(0) as f64 / ostler_core::time::TICKS_PER_SEC as f64;
        bucket.left = (bucket.left + secs * f64::from(self.per_sec)).min(burst);
        bucket.at = now;
        let allowed = bucket.left >= 1.0;
        if allowed {
            bucket.left -= 1.0;
        }
        allowed
    }

    fn remember(&self, name: &str, peer: Option<IpAddr>, cause: &AuthFailure, now: Timestamp) {
        let mut failures = self.failures.lock();
        let count = failures.get(name).map_or(0, |failure| failure.count) + 1;
        failures.note(name.to_owned(), Failure { at: now, peer, cause: cause.clone(), count });
    }

    pub(crate) fn last_failure(&self, name: &str) -> Option<Failure> {
        self.failures.lock().get(name).cloned()
    }
}

impl Hub {
    /// Signs a device or module in and makes its session. An older connection of the same identity is
    /// asked to end.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] with the cause (also for unknown names), [`Error::RateLimited`], or
    /// [`Error::Store`] when it is not the client's fault.
    pub async fn connect(
        self: &Arc<Hub>,
        id: &EntityId,
        credential: Credential<'_>,
        request: ConnectRequest<'_>,
    ) -> Result<Session, Error> {
        let now = self.now();
        let (record, grant) = match self.judge(id, credential, now).await? {
            Ok(granted) => granted,
            Err(cause) => return Err(self.refuse(id.as_str(), request.peer, cause, now)),
        };
        let stored = record.subscriptions;
        let subscriptions = match request.clean_session {
            true => Subscriptions::default(),
            false if stored.is_session() => stored,
            false => Subscriptions::session(),
        };
        self.store_connect(id, &record, subscriptions, request.model_id).await?;
        let session = self.attach(id, &record, grant, request.clean_session, subscriptions, now);
        let session = Session::new(self.clone(), session, stored.is_session() && !request.clean_session);
        // The identity may have changed between the judgement and the place in the table.
        match self.store.load(id).await? {
            Some(current) if !record.identity.ends_connections(&current.identity) => {}
            Some(_) => session.state().end(EndReason::CredentialChanged),
            None => session.state().end(EndReason::Deleted),
        }
        self.stats().sign_ins.add(1);
        self.events().emit(|| {
            let Peer { addr, transport } = request.peer;
            about(id, now, EventKind::Connected { peer: addr, transport })
        });
        Ok(session)
    }

    /// Signs a device or module in for one request, without a session.
    ///
    /// # Errors
    /// As [`Hub::connect`].
    pub async fn authenticate(
        &self,
        id: &EntityId,
        credential: Credential<'_>,
        peer: Peer,
    ) -> Result<Grant, Error> {
        let now = self.now();
        match self.judge(id, credential, now).await? {
            Ok((_, grant)) => Ok(grant),
            Err(cause) => Err(self.refuse(id.as_str(), peer, cause, now)),
        }
    }

    async fn judge(
        &self,
        id: &EntityId,
        credential: Credential<'_>,
        now: Timestamp,
    ) -> Result<Result<(Record, Grant), AuthFailure>, Error> {
        let Some(record) = self.store.load(id).await? else { return Ok(Err(AuthFailure::Unknown)) };
        let device = match id.is_module() {
            false => None,
            true => match self.store.load(&id.device_id().into()).await? {
                None => return Ok(Err(AuthFailure::Unknown)),
                device => device,
            },
        };
        let device = device.as_ref().unwrap_or(&record);
        let decided = self.with_context(now, |context| {
            sign_in(id, &record.identity, &device.identity, credential, context)
        });
        Ok(decided.map(|grant| (record, grant)))
    }

    fn with_context<T>(&self, now: Timestamp, decide: impl FnOnce(Context<'_>) -> T) -> T {
        let is_host = |name: &str| self.is_host(name);
        let skew_secs = self.options.skew_secs;
        self.policies.read(|policies| decide(Context { policies, is_host: &is_host, skew_secs, now }))
    }

    /// Stores what a connect changes: the session kept or forgotten, and the model.
    async fn store_connect(
        &self,
        id: &EntityId,
        record: &Record,
        subscriptions: Subscriptions,
        model_id: Option<&str>,
    ) -> Result<(), Error> {
        let same_model = |record: &Record| model_id.is_none() || record.twin.model_id.as_deref() == model_id;
        if record.subscriptions == subscriptions && same_model(record) {
            return Ok(());
        }
        self.change(id, |mut record| {
            record.subscriptions = subscriptions;
            if let Some(model_id) = model_id {
                record.twin.model_id = Some(model_id.into());
            }
            Ok((Some(record), ()))
        })
        .await
    }

    fn attach(
        &self,
        id: &EntityId,
        record: &Record,
        grant: Grant,
        clean_session: bool,
        subscriptions: Subscriptions,
        now: Timestamp,
    ) -> Arc<SessionState> {
        let (state, before) = self.bus.sessions.insert(Arrival {
            id: id.clone(),
            epoch: self.epochs.fetch_add(1, Ordering::Relaxed),
            generation_id: record.identity.generation_id,
            grant,
            persistent: !clean_session,
            subscriptions,
            now,
        });
        if let Some(before) = before {
            self.stats().takeovers.add(1);
            before.end(EndReason::TakenOver);
        }
        self.note_arrival(&state);
        self.configurations.connection_changed(id);
        state
    }

    /// Decides a back end's request; any one of `rights` is enough. `path` is the request's path
    /// without its leading slash.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] with the cause, or [`Error::RateLimited`].
    pub fn authorize(
        &self,
        token: &str,
        path: &str,
        rights: Rights,
        peer: Peer,
    ) -> Result<ServiceGrant, Error> {
        let now = self.now();
        self.with_context(now, |context| authorize(token, path, rights, context)).map_err(|cause| {
            let name = ostler_core::sas::Token::parse(token)
                .ok()
                .and_then(|token| token.policy().map(str::to_owned));
            let name = format!("policy {}", name.as_deref().unwrap_or("(none)"));
            self.refuse(&name, peer, cause, now)
        })
    }

    /// Records a refused sign-in. To be called by a front end for refusals of its own, such as a
    /// missing `Authorization` header.
    pub fn refuse_sign_in(&self, name: &str, peer: Peer, cause: AuthFailure) -> Error {
        self.refuse(name, peer, cause, self.now())
    }

    fn refuse(&self, name: &str, peer: Peer, cause: AuthFailure, now: Timestamp) -> Error {
        self.stats().sign_in_failures.add(1);
        if !self.access.spend(peer.addr, now) {
            return Error::RateLimited;
        }
        let name: String = name.chars().take(2 * ostler_core::limits::ID_BYTES + 1).collect();
        self.access.remember(&name, peer.addr, &cause, now);
        tracing::info!(name, peer = ?peer.addr, transport = peer.transport, %cause, "sign-in refused");
        self.events().emit(|| {
            let kind = EventKind::SignInFailed { peer: peer.addr, cause: cause.to_string() };
            Event { at: now, id: name.clone(), kind }
        });
        Error::Unauthorized(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_too_often_is_held_back_and_recovers() {
        let access = Access::new((3, 2));
        let addr = Some("192.0.2.1".parse().unwrap());
        let now = Timestamp::from_unix_secs(1_800_000_000);
        assert_eq!([0; 5].map(|_| access.spend(addr, now)), [true, true, true, false, false]);
        assert!(access.spend(Some("192.0.2.2".parse().unwrap()), now));
        assert_eq!([0; 3].map(|_| access.spend(addr, now.plus_secs(1))), [true, true, false]);
        assert!(access.spend(None, now));
    }

    #[test]
    fn failures_are_counted_per_name() {
        let access = Access::new((3, 2));
        let now = Timestamp::from_unix_secs(1_800_000_000);
        access.remember("pump-7", None, &AuthFailure::WrongKey, now);
        access.remember("pump-7", None, &AuthFailure::Disabled, now.plus_secs(1));
        let failure = access.last_failure("pump-7").unwrap();
        assert_eq!((failure.count, failure.cause), (2, AuthFailure::Disabled));
    }
}
