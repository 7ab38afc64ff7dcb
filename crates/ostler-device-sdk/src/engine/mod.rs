//! The heart of the client: when to connect, what to say, what to say again; without sockets, clocks or threads.
//!
//! # How to drive it
//!
//! One task owns the engine and at most one transport. Whatever happens, it tells the engine, then asks [`Engine::next`]
//! what to do, until the answer is [`Next::Idle`]; then it hands out the events and waits.
//!
//! ```text
//!   loop {
//!       match engine.next(now) {
//!           Next::Dial  => begin to make a transport: DNS, TCP, TLS, WebSocket, all within a time limit.
//!                          When it is up:  engine.handle_connected_transport(now, username, password)
//!                          When it failed: engine.handle_lost(why, now)
//!                          Keep calling `next` meanwhile: it may say `Close`, which cancels the dialling.
//!           Next::Close => write out what is left in engine.output() (with patience of a second or so, errors do
//!                          not matter), shut the transport down, drop it; then engine.handle_closed(now)
//!           Next::Done  => hand out the last events; the task is over
//!           Next::Idle { until } => hand out all events of engine.poll_event(), then wait for whatever is first:
//!               transport readable, unless engine.is_paused()  -> engine.handle_input(bytes, now)
//!               transport writable and engine.output() filled  -> write, and drain what was written from its front
//!               transport broken or at its end                 -> engine.handle_lost(why, now); drop it
//!               a command of the application                   -> engine.send(…) and the others
//!               `until`                                        -> nothing to tell
//!       }
//!   }
//! ```
//!
//! `next` does what is due and fills the output, so it is to be called after each of these, always with a `now` that
//! never goes back: milliseconds since any instant. The output may be written in pieces; the engine adds to it
//! only while less than 64 KiB wait there, except for acknowledgements. After `Close` was answered by
//! `handle_closed`, or after `handle_lost`, whatever the output held is gone, and so must be the transport: the engine
//! never thinks of two.
//!
//! The password is asked for with every transport, so a fresh token can be made each time. Shortly before a token runs
//! out, call [`Engine::renew`].
//!
//! Must not know sockets, TLS, HTTP, tokio, the time of day, or what payloads mean (save the `$version` of a twin).
//!
//! Invariant: every token is reported exactly once, by an event, whatever happens.
//! Invariant: telemetry is confirmed only after the hub has acknowledged it, and is sent in the order accepted.
//! Invariant: no two attempts to connect follow each other without a wait, except once after an orderly renewal.
//! Invariant: an idle engine owns no buffers.

mod calls;
mod connection;
mod desired;
mod outbox;
mod random;
#[cfg(test)]
mod tests;
mod twin;

use std::collections::VecDeque;

use bytes::Bytes;
use ostler_core::id::EntityId;
use ostler_core::record::Interest as Subscription;
use ostler_wire::mqtt::Ticket as WireTicket;

use crate::message::{Prepared, ReceivedMessage, SendError};
use crate::retry::RetryPolicy;
use crate::status::{Cause, ConnectionStatus};
use connection::Life;
use outbox::Load;

/// Nothing is added to the output while this much waits in it, in bytes.
const HIGH_WATER: usize = 64 << 10;
/// Reads of the twin have no body.
const NO_PAYLOAD: &[u8] = b"";
/// A service waits no longer for the answer to a call, in ms (device §6).
const ANSWER_LIFETIME: u64 = 300_000;
/// The longest answer to a method call, in bytes (device §6).
const MAX_ANSWER: usize = 128 << 10;
/// The longest change of the reported properties that is sent at all, in bytes: what a message may hold. The hub's own
/// limits are lower and depend on the twin.
const MAX_PATCH: usize = 256 << 10;

/// What an engine is made with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The device, or the module: also its MQTT client id.
    pub entity: EntityId,
    /// The promise to be heard of; 0 for none. A ping goes out every half of it.
    pub keep_alive_secs: u16,
    /// Ask the hub to forget subscriptions from before.
    pub clean_session: bool,
    pub retry: RetryPolicy,
    pub queue: QueueLimits,
    /// How long the hub may take to answer CONNECT and SUBSCRIBE before the connection is given up, and a twin request
    /// before it is sent again, in ms.
    pub answer_timeout_ms: u32,
    pub twin_sync: TwinSync,
    /// For the jitter. Must differ between clients that start together.
    pub seed: u64,
}

impl Settings {
    pub fn new(entity: EntityId) -> Self {
        Settings {
            entity,
            keep_alive_secs: 240,
            clean_session: false,
            retry: RetryPolicy::default(),
            queue: QueueLimits::default(),
            answer_timeout_ms: 30_000,
            twin_sync: TwinSync::WhenChanged,
            seed: 0,
        }
    }
}

/// How much may wait to be sent or confirmed: telemetry and twin requests together.
///
/// ```
/// use ostler_device_sdk::QueueLimits;
///
/// let small = QueueLimits { messages: 100, ..QueueLimits::default() };
/// # assert_eq!(small.bytes, 16 << 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// How many. Default 10,000.
    pub messages: usize,
    /// How many bytes, of bodies and encoded properties. Default 16 MiB.
    pub bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        QueueLimits { messages: 10_000, bytes: 16 << 20 }
    }
}

/// When the whole twin is handed to who listens for desired properties.
///
/// ```
/// # fn example(builder: ostler_device_sdk::Builder) {
/// let builder = builder.twin_sync(ostler_device_sdk::TwinSync::EveryConnect);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TwinSync {
    /// At first, and after a reconnect if the desired properties have changed meanwhile.
    #[default]
    WhenChanged,
    /// After every connect.
    EveryConnect,
}

/// What the driver is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Make a transport. Said once for each attempt.
    Dial,
    /// Wait for something to happen, no longer than `until`.
    Idle { until: Option<u64> },
    /// Write out the output, close the transport or stop dialling, then [`Engine::handle_closed`].
    Close,
    /// The engine has nothing more to say.
    Done,
}

/// What became of a transport, as the driver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The host name cannot be resolved.
    Dns,
    /// Nobody listens there, or there is no way to it.
    Refused,
    /// Dialling, TLS and WebSocket took too long together.
    Timeout,
    /// TLS failed. `last`: trying again cannot help.
    Tls { last: bool },
    /// The other side is no hub: the answer to the WebSocket request was none, for example.
    Protocol,
    /// HTTP 429 or 503, with its `Retry-After` in ms.
    Busy { retry_after: Option<u64> },
    /// No password can be made. Final.
    Credential,
    /// An error while reading or writing.
    Reset,
    /// The other side closed the transport.
    Closed,
}

impl Lost {
    fn cause(self) -> Cause {
        match self {
            Lost::Dns | Lost::Refused | Lost::Timeout => Cause::NoNetwork,
            Lost::Tls { .. } => Cause::Tls,
            Lost::Protocol => Cause::Protocol,
            Lost::Busy { .. } => Cause::Busy,
            Lost::Credential => Cause::BadCredential,
            Lost::Reset | Lost::Closed => Cause::Closed,
        }
    }
}

/// Chosen by the caller to recognise the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token(pub u64);

/// What the application wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Interest {
    /// Changes of the desired properties.
    Desired,
    /// Direct method calls.
    Methods,
    /// Cloud-to-device messages; devices only.
    Messages,
    /// Messages to the inputs of a module; modules only.
    Inputs,
}

impl Interest {
    fn subscription(self) -> Subscription {
        match self {
            Interest::Desired => Subscription::DesiredChanges,
            Interest::Methods => Subscription::Methods,
            Interest::Messages => Subscription::Messages,
            Interest::Inputs => Subscription::Inputs,
        }
    }

    fn of(subscription: Subscription) -> Option<Interest> {
        match subscription {
            Subscription::DesiredChanges => Some(Interest::Desired),
            Subscription::Methods => Some(Interest::Methods),
            Subscription::Messages => Some(Interest::Messages),
            Subscription::Inputs => Some(Interest::Inputs),
            Subscription::TwinAnswers => None,
        }
    }
}

/// The duty to acknowledge a message through [`Engine::ack`]. Later ones are acknowledged after it.
#[derive(Debug)]
#[must_use = "later messages cannot be acknowledged before this one"]
pub(crate) struct Ticket {
    connection: u32,
    ticket: WireTicket,
}

/// What the engine has to tell.
#[derive(Debug)]
#[allow(dead_code, reason = "the driver needs less of it than the tests look at")]
pub(crate) enum Event {
    /// The connection's state changed.
    Status(ConnectionStatus),
    /// What became of a message.
    Sent { token: Token, result: Result<(), SendError> },
    /// What became of a change of the reported properties; their version after it, if the hub says.
    Reported { token: Token, result: Result<Option<u64>, TwinFailure> },
    /// The answer to a read of the twin, as received.
    Twin { token: Token, result: Result<Bytes, TwinFailure> },
    /// Desired properties changed: the change, as received.
    Desired { version: u64, patch: Bytes },
    /// Changes were missed, or it is the first time: the whole twin, as received, and the version of its desired
    /// properties.
    DesiredWhole { version: u64, twin: Bytes },
    /// A method is called; [`Engine::answer`] is due with this id, be it over a later connection.
    Method { name: String, rid: Box<str>, payload: Bytes },
    /// A message came. Without a ticket it needs no acknowledgement. It may come although nobody listens: hubs remember
    /// subscriptions of the process that ran before. Whoever is not ready for it keeps the ticket.
    Message { message: Box<ReceivedMessage>, ticket: Option<Ticket> },
    /// The hub now tells what was asked for with [`Engine::listen`].
    Listening(Interest),
    /// The hub refuses to tell it, on this connection. The next one asks again.
    NotListening(Interest),
}

/// Why a twin request brought no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TwinFailure {
    /// No answer came in time. A change may have been made all the same.
    TimedOut,
    /// The hub said no.
    Status {
        /// As HTTP means it, 300 and above.
        status: u16,
        /// The error body, as received.
        body: Bytes,
    },
    /// Too much waits already; see [`QueueLimits`].
    QueueFull(SendError),
    /// Longer than any hub accepts, in bytes.
    TooLarge { size: usize },
    /// The hub does not let this client subscribe to the answers.
    NotSubscribed,
    /// The client was closed. A change may have been made all the same.
    Closed,
    /// The hub is out of reach for good.
    Refused(Cause),
}

/// Why an answer was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The call was answered before, or is not known.
    #[error("the call was answered before, or is not known any more")]
    NotOpen,
    /// Longer than a hub accepts. The call is still open.
    #[error("the answer has {0} bytes, and a hub accepts {MAX_ANSWER}")]
    TooLarge(usize),
    /// The client is closed or has given up.
    #[error("the client is closed")]
    Closed,
}

/// A device's or module's side of the conversation with its hub. See the module's text for how to drive it.
#[derive(Debug)]
pub(crate) struct Engine {
    settings: Settings,
    random: random::Random,
    life: Life,
    history: connection::History,
    /// How many there were, this one included.
    connections: u32,
    /// When to leave at the latest, once asked to.
    stopping: Option<u64>,
    wanted: connection::Set,
    /// What [`Event::Listening`] was told of.
    told: connection::Set,
    outbox: outbox::Outbox,
    requests: twin::Requests,
    last_rid: twin::Rid,
    desired: desired::Desired,
    calls: calls::Calls,
    output: Vec<u8>,
    /// Read and not yet understood: an incomplete packet, or what came after reading was paused.
    rest: Vec<u8>,
    events: VecDeque<Event>,
}

impl Engine {
    pub fn new(settings: Settings) -> Self {
        let mut random = random::Random::new(settings.seed);
        Engine {
            last_rid: twin::Rid::first(&mut random),
            random,
            life: Life::Idle,
            history: connection::History::default(),
            connections: 0,
            stopping: None,
            wanted: connection::Set::default(),
            told: connection::Set::default(),
            outbox: outbox::Outbox::default(),
            requests: twin::Requests::default(),
            desired: desired::Desired::new(settings.twin_sync),
            calls: calls::Calls::default(),
            output: Vec::new(),
            rest: Vec::new(),
            events: VecDeque::new(),
            settings,
        }
    }

    /// Connect, and stay connected. Also makes another attempt after [`ConnectionStatus::Refused`]. All of the
    /// operations below do this by themselves the first time.
    pub fn start(&mut self, now: u64) {
        if self.stopping.is_none() && matches!(self.life, Life::Idle | Life::Refused(_)) {
            self.history = connection::History::default();
            self.life = Life::Waiting { until: now };
        }
    }

    /// Leave, as soon as nothing waits to be sent or confirmed, and no later than `until`. What waits then, fails.
    /// Nothing new is accepted from here on.
    pub fn stop(&mut self, until: u64, now: u64) {
        let until = self.stopping.map_or(until, |earlier| earlier.min(until));
        self.stopping = Some(until.max(now));
    }

    /// How many messages, twin requests and answers wait to be sent or confirmed.
    pub fn pending(&self) -> usize {
        self.outbox.len() + self.requests.load().items
    }

    /// From the next attempt to connect on. A wait that is longer than the new longest one is shortened.
    pub fn set_retry(&mut self, retry: RetryPolicy, now: u64) {
        if let Life::Waiting { until } = &mut self.life {
            *until = (*until).min(now.saturating_add(retry.max_wait_ms()));
        }
        self.settings.retry = retry;
    }

    /// Accepts telemetry; [`Event::Sent`] will tell what became of it. `expires` is when to give up.
    pub fn send(&mut self, token: Token, message: Prepared, expires: Option<u64>, now: u64) {
        let refusal =
            self.closed_to_new(now).map(|cause| cause.map_or(SendError::Closed, SendError::Refused));
        match refusal.or_else(|| self.full(message.size())) {
            Some(error) => self.events.push_back(Event::Sent { token, result: Err(error) }),
            None => self.outbox.push_telemetry(token, message, expires),
        }
    }

    /// Accepts a change of the reported properties; [`Event::Reported`] will tell what became of it. It may be sent
    /// more than once, which does no harm as long as nobody else reports for this device.
    pub fn report(&mut self, token: Token, patch: Bytes, expires: Option<u64>, now: u64) {
        let size = patch.len();
        let failure = if size > MAX_PATCH {
            Some(TwinFailure::TooLarge { size })
        } else {
            self.accept_request(Some(patch), token, expires, now).err()
        };
        if let Some(failure) = failure {
            self.events.push_back(Event::Reported { token, result: Err(failure) });
        }
    }

    /// Accepts a request for the twin; [`Event::Twin`] will bring it. It shows the changes reported before.
    pub fn get_twin(&mut self, token: Token, expires: Option<u64>, now: u64) {
        if let Err(failure) = self.accept_request(None, token, expires, now) {
            self.events.push_back(Event::Twin { token, result: Err(failure) });
        }
    }

    fn accept_request(
        &mut self,
        patch: Option<Bytes>,
        token: Token,
        expires: Option<u64>,
        now: u64,
    ) -> Result<(), TwinFailure> {
        if let Some(cause) = self.closed_to_new(now) {
            return Err(cause.map_or(TwinFailure::Closed, TwinFailure::Refused));
        }
        if let Some(full) = self.full(patch.as_ref().map_or(0, Bytes::len)) {
            return Err(TwinFailure::QueueFull(full));
        }
        self.wanted.insert(Subscription::TwinAnswers);
        self.requests.push(token, patch, expires, self.last_rid.next(), now);
        Ok(())
    }

    /// Why nothing new is accepted: the client is closed, or has given up for the cause named.
    fn closed_to_new(&mut self, now: u64) -> Option<Option<Cause>> {
        match self.life {
            _ if self.stopping.is_some() => Some(None),
            Life::Refused(cause) => Some(Some(cause)),
            Life::Idle => {
                self.start(now);
                None
            }
            _ => None,
        }
    }

    fn full(&self, bytes: usize) -> Option<SendError> {
        let QueueLimits { messages: max_items, bytes: max_bytes } = self.settings.queue;
        let [a, b] = [self.outbox.telemetry(), self.requests.load()];
        let load = Load { items: a.items + b.items, bytes: a.bytes + b.bytes };
        // One that is larger than the whole queue may still go alone.
        let is_full = load.items >= max_items || (load.items > 0 && load.bytes + bytes > max_bytes);
        is_full.then_some(SendError::QueueFull { messages: load.items, bytes: load.bytes })
    }

    /// Asks the hub for something from now on, over this and all later connections. [`Event::Listening`] or
    /// [`Event::NotListening`] tells the outcome.
    pub fn listen(&mut self, interest: Interest, now: u64) {
        if self.stopping.is_some() {
            return;
        }
        if self.settings.entity.is_module() == (interest == Interest::Messages)
            && matches!(interest, Interest::Messages | Interest::Inputs)
        {
            // There is no such thing for this identity.
            self.events.push_back(Event::NotListening(interest));
            return;
        }
        self.wanted.insert(interest.subscription());
        if interest == Interest::Desired {
            self.wanted.insert(Subscription::TwinAnswers);
        }
        if matches!(self.life, Life::Idle) {
            self.start(now);
        }
    }

    /// Answers a method call. The hub closes the call at the first answer, so only the first is sent.
    ///
    /// # Errors
    /// If the call is not open, if the payload is too long, or if there will be no connection any more.
    pub fn answer(&mut self, rid: &str, status: i32, payload: Bytes, now: u64) -> Result<(), AnswerError> {
        if matches!(self.life, Life::Refused(_) | Life::Closed) {
            return Err(AnswerError::Closed);
        }
        if payload.len() > MAX_ANSWER {
            return Err(AnswerError::TooLarge(payload.len()));
        }
        let rid = self.calls.answer(rid).ok_or(AnswerError::NotOpen)?;
        self.outbox.push_answer(rid, status, payload, now.saturating_add(ANSWER_LIFETIME));
        Ok(())
    }

    /// The message of this ticket is taken care of. Without effect if it came over an earlier connection: the hub sends
    /// it again.
    pub fn ack(&mut self, ticket: Ticket) {
        if let Life::Up(up) = &mut self.life {
            up.ack(ticket, &mut self.output);
        }
    }

    /// Takes what is to be told, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > 16 {
            self.events = VecDeque::new();
        }
        event
    }

    /// What is to be written to the transport. The driver removes from the front what it has written.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }
}
