//! The life of connections: making them, what is said on them, how they end, and what follows.
//!
//! ```text
//!   Idle ──▶ Waiting ──▶ Dialling ──▶ Joining ──CONNACK──▶ Up
//!               ▲            │           │                 │
//!               └──── wait ──┴───────────┴──── Closing ◀───┘
//!   Closing ──▶ Refused (final) or Closed (asked for)
//! ```
//!
//! Must not know what messages mean beyond whom they are for.
//!
//! Invariant: the driver has a transport, or makes one, exactly in Dialling, Joining, Up and Closing.
//! Invariant: [`Next::Idle`] names no time that has passed.

use std::time::Duration;

use ostler_core::id::EntityId;
use ostler_core::record::Interest as Subscription;
use ostler_wire::mqtt::client::{Answer, Connecting, Event as Heard, Limits, ProtocolError, Session};
use ostler_wire::mqtt::packet::{Connect, Login, PacketId, QoS, Refusal, SubAck, SubscribeOutcome};
use ostler_wire::mqtt::Received;
use ostler_wire::topic::{filter, DeviceRequest, HubMessage};

use super::twin::Reply;
use super::*;
use crate::retry::WhenRefused;

/// A connection that lived this long was a good one, in ms: the next attempt after it is the first again.
const STABLE: u64 = 30_000;
/// How many messages may be unconfirmed. Hubs stop reading at some number; Ostler's at 256.
const WINDOW: u16 = 128;
/// How long the hub may leave all messages unconfirmed, in ms. Longer than for answers, because hubs slow devices down
/// by confirming late (device §2.10). The C client gives up after as long (device §2.8).
const CONFIRM_PATIENCE: u64 = 120_000;
/// How long a renewal waits for confirmations, in ms.
const RENEW_PATIENCE: u64 = 5_000;
/// What may be read and not understood while reading is paused, in bytes.
const MAX_REST: usize = 1 << 20;

/// Where in its life the engine is.
#[derive(Debug)]
pub(super) enum Life {
    /// Nothing has needed a connection yet.
    Idle,
    /// The next attempt is at `until`.
    Waiting { until: u64 },
    /// The driver makes a transport.
    Dialling,
    /// CONNECT is sent.
    Joining(Connecting),
    /// The hub has let us in.
    Up(Up),
    /// The driver is to close the transport.
    Closing(Then),
    /// No further attempt is made.
    Refused(Cause),
    /// All is over.
    Closed,
}

/// What follows when the transport is closed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    Wait { until: u64 },
    Refused(Cause),
    Closed,
}

/// What past attempts teach for the next one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct History {
    /// In a row, since the last good connection.
    failures: u32,
    /// Of these, how many were CONNACK 5.
    refusals: u32,
    /// Since when the budget runs.
    trouble_since: Option<u64>,
}

/// A set of subscriptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set(u8);

impl Set {
    pub fn insert(&mut self, subscription: Subscription) {
        self.0 |= 1 << subscription as u8;
    }

    fn remove(&mut self, subscription: Subscription) {
        self.0 &= !(1 << subscription as u8);
    }

    pub fn contains(self, subscription: Subscription) -> bool {
        self.0 & (1 << subscription as u8) != 0
    }

    fn without(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    fn iter(self) -> impl Iterator<Item = Subscription> {
        Subscription::ALL.into_iter().filter(move |&subscription| self.contains(subscription))
    }
}

/// A connection that the hub has accepted.
#[derive(Debug)]
pub(super) struct Up {
    session: Session,
    since: u64,
    /// Tells tickets of this connection from those of earlier ones.
    number: u32,
    /// Asked for on this connection, whatever the answer.
    asked: Set,
    granted: Set,
    /// SUBSCRIBEs without an answer yet.
    subscribing: Vec<(PacketId, Set)>,
    /// When the hub must have answered the oldest of them.
    subscribe_by: u64,
    /// When something was confirmed last, or sent with nothing else unconfirmed.
    confirmed: u64,
    /// Messages handed out and not acknowledged.
    tickets: u32,
    /// The hub has answered something after the CONNECT: it is a hub.
    answered: bool,
    /// Reading stopped because of unacknowledged messages.
    stalled: bool,
    /// The connection is being renewed: nothing new is sent, and it ends at this time or earlier.
    leave_by: Option<u64>,
}

impl Up {
    pub fn ack(&mut self, ticket: Ticket, out: &mut Vec<u8>) {
        if ticket.connection == self.number {
            self.tickets = self.tickets.saturating_sub(1);
            self.session.ack(ticket.ticket, out);
        }
    }

    fn has(&self, subscription: Subscription) -> bool {
        self.granted.contains(subscription)
    }

    /// Whether the hub has said no.
    fn lacks(&self, subscription: Subscription) -> bool {
        self.asked.contains(subscription)
            && !self.has(subscription)
            && !self.subscribing.iter().any(|(_, set)| set.contains(subscription))
    }

    /// One SUBSCRIBE for all that is wanted and was not asked for. At quality of service 1, as current clients do
    /// (device §11).
    fn subscribe(&mut self, wanted: Set, entity: &EntityId, timeout: u64, now: u64, out: &mut Vec<u8>) {
        let missing = wanted.without(self.asked);
        let filters: Vec<String> =
            missing.iter().filter_map(|subscription| filter(subscription, entity)).collect();
        if filters.is_empty() {
            return;
        }
        let filters: Vec<(&str, QoS)> =
            filters.iter().map(|text| (text.as_str(), QoS::AtLeastOnce)).collect();
        // Cannot fail: filters are short, and there are never more packets than subscriptions.
        if let Ok(id) = self.session.subscribe(&filters, out) {
            if self.subscribing.is_empty() {
                self.subscribe_by = now.saturating_add(timeout);
            }
            self.subscribing.push((id, missing));
            self.asked = Set(self.asked.0 | missing.0);
        }
    }
}

/// Why the engine itself ends a connection.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// The other side breaks the rules.
    Protocol,
    NoAnswer,
    /// CONNACK other than 0.
    Refused(Refusal),
    /// The CONNECT cannot be written.
    Credential,
    /// The driver said so.
    Lost(Lost),
}

impl From<ProtocolError> for Failure {
    fn from(error: ProtocolError) -> Self {
        tracing::debug!(%error, "the hub broke the protocol");
        match error {
            ProtocolError::ConnectTimeout(_) | ProtocolError::PingTimeout(_) => Failure::NoAnswer,
            _ => Failure::Protocol,
        }
    }
}

/// What the driver does and sees.
impl Engine {
    /// Does what is due and says what the driver is to do.
    pub fn next(&mut self, now: u64) -> Next {
        self.handle_timeout(now);
        self.pump(now);
        self.finish_if_done(now);
        if self.output.is_empty() && self.output.capacity() > 0 {
            self.output = Vec::new();
        }
        match &self.life {
            Life::Waiting { until } if *until <= now => {
                self.life = Life::Dialling;
                let attempt = self.history.failures + 1;
                self.tell(ConnectionStatus::Connecting { attempt });
                Next::Dial
            }
            Life::Closing(_) => Next::Close,
            Life::Closed => Next::Done,
            _ => Next::Idle { until: self.deadline().map(|until| until.max(now + 1)) },
        }
    }

    /// The transport asked for with [`Next::Dial`] is up.
    pub fn handle_connected_transport(&mut self, now: u64, username: &str, password: Option<&[u8]>) {
        if !matches!(self.life, Life::Dialling) {
            return;
        }
        let limits = Limits {
            max_in_flight: WINDOW,
            connect_timeout_ms: self.settings.answer_timeout_ms,
            ..Limits::default()
        };
        let connect = Connect {
            client_id: self.settings.entity.as_str(),
            clean_session: self.settings.clean_session,
            keep_alive_secs: self.settings.keep_alive_secs,
            will: None,
            login: Some(Login { username, password }),
        };
        match Connecting::start(&connect, limits, now, &mut self.output) {
            Ok(connecting) => self.life = Life::Joining(connecting),
            Err(_) => self.fail(Failure::Credential, now),
        }
    }

    /// No transport could be made, or the one there was is broken. The driver has dropped it.
    pub fn handle_lost(&mut self, lost: Lost, now: u64) {
        match self.life {
            Life::Dialling | Life::Joining(_) | Life::Up(_) => {
                self.fail(Failure::Lost(lost), now);
                self.handle_closed(now);
            }
            Life::Closing(_) => self.handle_closed(now),
            Life::Idle | Life::Waiting { .. } | Life::Refused(_) | Life::Closed => {}
        }
    }

    /// The driver has done what [`Next::Close`] says.
    pub fn handle_closed(&mut self, now: u64) {
        let Life::Closing(then) = self.life else { return };
        self.output.clear();
        match then {
            Then::Wait { until } => self.life = Life::Waiting { until },
            Then::Refused(cause) => self.refuse(cause),
            Then::Closed => self.close(),
        }
        self.finish_if_done(now);
    }

    /// Bytes came.
    pub fn handle_input(&mut self, bytes: &[u8], now: u64) {
        if self.rest.is_empty() {
            let mut left = bytes;
            self.hear(&mut left, now);
            if !left.is_empty() && self.is_open() {
                self.rest.extend_from_slice(left);
            }
        } else {
            self.rest.extend_from_slice(bytes);
            self.hear_rest(now);
        }
        if self.rest.len() > MAX_REST {
            self.fail(Failure::Protocol, now);
        }
    }

    /// Whether reading should wait, because too many messages are unacknowledged.
    pub fn is_paused(&self) -> bool {
        matches!(&self.life, Life::Up(up) if up.session.is_paused())
    }

    /// Does what is due by time. [`Engine::next`] does it too.
    pub fn handle_timeout(&mut self, now: u64) {
        let Self { outbox, requests, events, .. } = self;
        outbox.expire(now, |token| events.push_back(Event::Sent { token, result: Err(SendError::Expired) }));
        requests.expire(now, events);
        let failure = match &mut self.life {
            Life::Joining(connecting) => connecting.check_deadline(now).err().map(Failure::from),
            Life::Up(up) => {
                if !up.subscribing.is_empty() && up.subscribe_by <= now
                    || up.session.in_flight() > 0 && up.confirmed.saturating_add(CONFIRM_PATIENCE) <= now
                {
                    Some(Failure::NoAnswer)
                } else {
                    up.session.handle_timeout(now, &mut self.output).err().map(Failure::from)
                }
            }
            _ => None,
        };
        if let Some(failure) = failure {
            self.fail(failure, now);
        }
        let renewed = matches!(&self.life, Life::Up(Up { leave_by: Some(by), .. }) if *by <= now);
        if renewed {
            self.leave(Then::Wait { until: now }, now);
        }
        if self.stopping.is_some_and(|until| until <= now) {
            self.finish(now);
        }
    }

    /// When [`Engine::handle_timeout`] or [`Engine::next`] has something to do, or earlier.
    pub fn deadline(&self) -> Option<u64> {
        let life = match &self.life {
            Life::Waiting { until } => Some(*until),
            Life::Joining(connecting) => Some(connecting.deadline()),
            Life::Up(up) => self.up_deadline(up),
            Life::Closed => return None,
            _ => None,
        };
        [life, self.stopping, self.outbox.deadline(), self.requests.deadline()].into_iter().flatten().min()
    }

    fn up_deadline(&self, up: &Up) -> Option<u64> {
        let subscribe = (!up.subscribing.is_empty()).then_some(up.subscribe_by);
        let confirm = (up.session.in_flight() > 0).then(|| up.confirmed.saturating_add(CONFIRM_PATIENCE));
        // What is due but held up is woken by what holds it up: a written output, a SUBACK.
        let can_ask =
            up.has(Subscription::TwinAnswers) && up.leave_by.is_none() && self.output.len() < HIGH_WATER;
        let [requests, desired] =
            [self.requests.due(), self.desired.due()].map(|due| due.filter(|_| can_ask));
        [up.session.deadline(), subscribe, confirm, up.leave_by, requests, desired]
            .into_iter()
            .flatten()
            .min()
    }

    /// The token is about to run out: leave in an orderly way and come back with a new one. What is unconfirmed is
    /// waited for, so that little has to be said twice.
    pub fn renew(&mut self, now: u64) {
        if let Life::Up(up) = &mut self.life {
            up.leave_by.get_or_insert(now.saturating_add(RENEW_PATIENCE));
        }
    }
}

/// What happens inside.
impl Engine {
    fn tell(&mut self, status: ConnectionStatus) {
        self.events.push_back(Event::Status(status));
    }

    fn is_open(&self) -> bool {
        matches!(self.life, Life::Joining(_) | Life::Up(_))
    }

    /// Says what there is to say.
    fn pump(&mut self, now: u64) {
        if matches!(&self.life, Life::Up(up) if up.stalled && !up.session.is_paused()) {
            self.hear_rest(now);
        }
        let Self { life, settings, wanted, outbox, requests, desired, last_rid, output, events, .. } = self;
        let Life::Up(up) = life else { return };
        if up.leave_by.is_some() {
            let quiet = outbox.is_quiet() && requests.is_quiet() && !desired.is_asking();
            if quiet && up.tickets == 0 && up.subscribing.is_empty() {
                self.leave(Then::Wait { until: now }, now);
            }
            return;
        }
        let timeout = u64::from(settings.answer_timeout_ms);
        up.subscribe(*wanted, &settings.entity, timeout, now, output);
        if up.has(Subscription::TwinAnswers) {
            if desired.due().is_some_and(|due| due <= now) && output.len() < HIGH_WATER {
                let rid = last_rid.next();
                let text = rid.text();
                let topic = DeviceRequest::TwinGet { rid: &text };
                // Cannot fail, the topic is short; if it did, the read would be repeated.
                let _ = up.session.publish(&topic.of(&settings.entity), NO_PAYLOAD, output);
                desired.handle_asked(rid, now.saturating_add(timeout));
            }
            requests.pump(&mut up.session, &settings.entity, timeout, now, output);
        } else if up.lacks(Subscription::TwinAnswers) {
            requests.fail(&TwinFailure::NotSubscribed, events);
        }
        if up.session.in_flight() == 0 {
            up.confirmed = now;
        }
        outbox.pump(&mut up.session, &settings.entity, output);
    }

    /// Understands what was kept.
    fn hear_rest(&mut self, now: u64) {
        let mut bytes = std::mem::take(&mut self.rest);
        let mut left = bytes.as_slice();
        self.hear(&mut left, now);
        let used = bytes.len() - left.len();
        if self.is_open() && used < bytes.len() {
            bytes.drain(..used);
            self.rest = bytes;
        }
    }

    /// Understands what the hub says, as far as it is whole.
    fn hear(&mut self, bytes: &mut &[u8], now: u64) {
        loop {
            let failure = match &mut self.life {
                Life::Joining(connecting) => match connecting.next(bytes, now) {
                    Ok(None) => return,
                    Ok(Some(Answer::Accepted { session, .. })) => {
                        self.join(session, now);
                        continue;
                    }
                    Ok(Some(Answer::Refused(refusal))) => Failure::Refused(refusal),
                    Err(error) => error.into(),
                },
                Life::Up(up) => match up.session.next(bytes) {
                    Ok(None) => {
                        up.stalled = up.session.is_paused();
                        return;
                    }
                    Ok(Some(Heard::Message(message))) => {
                        self.handle_message(message, now);
                        continue;
                    }
                    Ok(Some(Heard::Acked(id))) => {
                        (up.answered, up.confirmed) = (true, now);
                        if let Some(token) = self.outbox.confirm(id) {
                            self.events.push_back(Event::Sent { token, result: Ok(()) });
                        }
                        continue;
                    }
                    Ok(Some(Heard::Subscribed(answer))) => match self.handle_subscribed(&answer, now) {
                        Ok(()) => continue,
                        Err(failure) => failure,
                    },
                    Ok(Some(Heard::Unsubscribed(_))) => continue,
                    Err(error) => error.into(),
                },
                _ => return,
            };
            self.fail(failure, now);
        }
    }

    /// The hub has let us in.
    fn join(&mut self, mut session: Session, now: u64) {
        session.resume(self.outbox.ids());
        self.connections = self.connections.wrapping_add(1);
        self.life = Life::Up(Up {
            session,
            since: now,
            number: self.connections,
            asked: Set::default(),
            granted: Set::default(),
            subscribing: Vec::new(),
            subscribe_by: 0,
            confirmed: now,
            tickets: 0,
            answered: false,
            stalled: false,
            leave_by: None,
        });
        self.tell(ConnectionStatus::Connected);
    }

    fn handle_subscribed(&mut self, answer: &SubAck<'_>, now: u64) -> Result<(), Failure> {
        let Life::Up(up) = &mut self.life else { return Ok(()) };
        let Some(place) = up.subscribing.iter().position(|(id, _)| *id == answer.id) else { return Ok(()) };
        let (_, asked) = up.subscribing.remove(place);
        up.answered = true;
        up.subscribe_by = now.saturating_add(u64::from(self.settings.answer_timeout_ms));
        if answer.outcomes().count() != asked.iter().count() {
            return Err(Failure::Protocol);
        }
        for (subscription, outcome) in asked.iter().zip(answer.outcomes()) {
            let granted = outcome != SubscribeOutcome::Refused;
            if granted {
                up.granted.insert(subscription);
            }
            let Some(interest) = Interest::of(subscription) else { continue };
            if !granted {
                self.told.remove(subscription);
                self.events.push_back(Event::NotListening(interest));
            } else if !self.told.contains(subscription) {
                self.told.insert(subscription);
                self.events.push_back(Event::Listening(interest));
            }
        }
        let can_read = up.has(Subscription::TwinAnswers);
        if up.has(Subscription::DesiredChanges) && (can_read || up.lacks(Subscription::TwinAnswers)) {
            self.desired.handle_subscribed(can_read, now);
        }
        Ok(())
    }

    fn handle_message(&mut self, message: Received<'_>, now: u64) {
        let Received { topic, payload, dup, ticket, .. } = message;
        let Life::Up(up) = &mut self.life else { return };
        let heard = HubMessage::parse(topic, &self.settings.entity);
        match heard {
            Ok(HubMessage::CloudToDevice { bag }) => {
                let message = ReceivedMessage::new(bag, payload, None, dup);
                return self.hand_out(message, ticket);
            }
            Ok(HubMessage::ModuleInput { input, bag }) => {
                let message = ReceivedMessage::new(bag, payload, Some(input), dup);
                return self.hand_out(message, ticket);
            }
            Ok(HubMessage::MethodRequest { method, rid }) => {
                if self.calls.open(rid, dup) {
                    let payload = Bytes::copy_from_slice(payload);
                    self.events.push_back(Event::Method {
                        name: method.to_owned(),
                        rid: rid.into(),
                        payload,
                    });
                }
            }
            Ok(HubMessage::DesiredChanged { version }) => {
                self.desired.handle_patch(version, Bytes::copy_from_slice(payload), now, &mut self.events);
            }
            Ok(HubMessage::TwinResponse { status, rid, version }) => {
                up.answered = true;
                let Self { requests, desired, settings, random, events, .. } = self;
                let retry = (&settings.retry, random.bits());
                let reply = Reply { rid, status, version, body: payload };
                if !requests.handle_answer(&reply, retry, now, events) {
                    let retry = (&settings.retry, random);
                    // An answer to nothing is late, or a repeat.
                    let _ = desired.handle_answer(&reply, retry, now, events);
                }
            }
            Err(error) => {
                // Persistent sessions may hold filters of whoever used this identity before: not worth a connection.
                tracing::debug!(%error, topic, "a message on an unknown topic is dropped");
                if topic.starts_with("$iothub/twin/PATCH/properties/desired/") {
                    self.desired.handle_riddle(now);
                }
            }
        }
        if let (Some(ticket), Life::Up(up)) = (ticket, &mut self.life) {
            up.session.ack(ticket, &mut self.output);
        }
    }

    fn hand_out(&mut self, message: ReceivedMessage, ticket: Option<WireTicket>) {
        let Life::Up(up) = &mut self.life else { return };
        let ticket = ticket.map(|ticket| {
            up.tickets += 1;
            Ticket { connection: up.number, ticket }
        });
        self.events.push_back(Event::Message { message: Box::new(message), ticket });
    }

    /// The connection, or the attempt to make one, is at an end. The transport is to be closed.
    fn fail(&mut self, failure: Failure, now: u64) {
        self.forget_connection(now);
        let history = &mut self.history;
        history.failures = history.failures.saturating_add(1);
        let since = *history.trouble_since.get_or_insert(now);
        let policy = &self.settings.retry;
        let chance = self.random.bits();
        let (cause, mut last, mut wait) = match failure {
            Failure::Protocol => (Cause::Protocol, false, policy.wait_ms(history.failures, None, chance)),
            Failure::NoAnswer => (Cause::NoAnswer, false, policy.wait_ms(history.failures, None, chance)),
            Failure::Credential => (Cause::BadCredential, true, 0),
            Failure::Refused(Refusal::ProtocolLevel) => (Cause::Protocol, true, 0),
            Failure::Refused(Refusal::ClientId | Refusal::BadLogin) => (Cause::BadCredential, true, 0),
            Failure::Refused(Refusal::Unavailable) => {
                (Cause::Busy, false, policy.wait_ms(history.failures, None, chance))
            }
            Failure::Refused(Refusal::NotAuthorized) => {
                history.refusals += 1;
                let last = policy.when_refused == WhenRefused::GiveUp;
                // Once it may be the clock or a token that ran out on the way; a fresh one follows soon.
                let wait = match history.refusals {
                    1 => policy.wait_ms(history.failures, None, chance),
                    _ => policy.slow_wait_ms(chance),
                };
                (Cause::NotAuthorized, last, wait)
            }
            Failure::Lost(lost) => {
                let hint = if let Lost::Busy { retry_after } = lost { retry_after } else { None };
                let last = matches!(lost, Lost::Tls { last: true } | Lost::Credential);
                (lost.cause(), last, policy.wait_ms(history.failures, hint, chance))
            }
        };
        if cause != Cause::NotAuthorized {
            history.refusals = 0;
        }
        let mut refused = cause;
        match policy.budget_left_ms(now.saturating_sub(since)) {
            Some(left) => wait = wait.min(left),
            None if !last => (last, refused) = (true, Cause::RetryExpired),
            None => {}
        }
        self.life = Life::Closing(if last {
            if refused != cause {
                self.tell(ConnectionStatus::Disconnected { cause, next_attempt: None });
            }
            Then::Refused(refused)
        } else {
            let next_attempt = Some(Duration::from_millis(wait));
            self.tell(ConnectionStatus::Disconnected { cause, next_attempt });
            Then::Wait { until: now.saturating_add(wait) }
        });
    }

    /// Nothing that was said counts any more, on either side.
    fn forget_connection(&mut self, now: u64) {
        if let Life::Up(up) = &self.life {
            self.history.refusals = 0;
            if up.answered {
                self.history.trouble_since = None;
            }
            self.forget_failures(up.since, now);
        }
        self.output.clear();
        self.rest = Vec::new();
        self.outbox.handle_lost();
        self.requests.handle_lost(now);
        self.desired.handle_lost();
    }

    /// After a connection that began at `since` and was good, the next attempt is the first again.
    fn forget_failures(&mut self, since: u64, now: u64) {
        if now.saturating_sub(since) >= STABLE {
            self.history = History::default();
        }
    }

    /// Takes leave of the hub.
    fn leave(&mut self, then: Then, now: u64) {
        let mut goodbye = Vec::new();
        if let Life::Up(Up { since, .. }) = self.life {
            self.forget_failures(since, now);
        }
        if let Life::Up(up) = std::mem::replace(&mut self.life, Life::Closing(then)) {
            // What is half written has to be finished first.
            goodbye = std::mem::take(&mut self.output);
            up.session.disconnect(&mut goodbye);
            if let Then::Wait { .. } = then {
                let (cause, next_attempt) = (Cause::TokenExpired, Some(Duration::ZERO));
                self.tell(ConnectionStatus::Disconnected { cause, next_attempt });
            }
        }
        self.forget_connection(now);
        self.output = goodbye;
    }

    /// Ends, if asked to and nothing is left to wait for.
    fn finish_if_done(&mut self, now: u64) {
        if self.stopping.is_some() && (self.pending() == 0 || !self.has_hope()) {
            self.finish(now);
        }
    }

    /// Whether what waits may still be sent.
    fn has_hope(&self) -> bool {
        !matches!(self.life, Life::Idle | Life::Refused(_) | Life::Closed)
    }

    fn finish(&mut self, now: u64) {
        match &mut self.life {
            Life::Closed => {}
            Life::Closing(then) => *then = Then::Closed,
            Life::Idle | Life::Waiting { .. } | Life::Refused(_) => self.close(),
            Life::Dialling | Life::Joining(_) | Life::Up(_) => self.leave(Then::Closed, now),
        }
    }

    fn close(&mut self) {
        self.life = Life::Closed;
        self.fail_all(SendError::Closed, &TwinFailure::Closed);
        self.tell(ConnectionStatus::Closed);
    }

    fn refuse(&mut self, cause: Cause) {
        self.life = Life::Refused(cause);
        self.fail_all(SendError::Refused(cause), &TwinFailure::Refused(cause));
        self.tell(ConnectionStatus::Refused { cause });
    }

    fn fail_all(&mut self, error: SendError, failure: &TwinFailure) {
        let Self { outbox, requests, events, .. } = self;
        outbox.fail(|token| events.push_back(Event::Sent { token, result: Err(error) }));
        requests.fail(failure, events);
    }
}
