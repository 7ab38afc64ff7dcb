//! Twin requests: changes of the reported properties and reads, in the order asked for.
//!
//! Only the first of the queue is under way at a time. Otherwise a change that was answered 429 and is sent again
//! later would undo the one behind it. A request is repeated when its answer does not come, also over the next
//! connection: a read is harmless, and a merge done twice in order is the same as once.
//!
//! Must not know connections' lives nor the queue's bounds.
//!
//! Invariant: every request is reported exactly once.

use std::collections::VecDeque;

use bytes::Bytes;
use ostler_core::id::EntityId;
use ostler_wire::mqtt::client::Session;
use ostler_wire::topic::DeviceRequest;

use super::outbox::Load;
use super::random::Random;
use super::{Event, Token, TwinFailure, HIGH_WATER, NO_PAYLOAD};
use crate::retry::RetryPolicy;

#[derive(Debug, Default)]
pub(super) struct Requests {
    queue: VecDeque<Request>,
    load: Load,
    /// No request expires before this.
    earliest: Option<u64>,
}

#[derive(Debug)]
struct Request {
    token: Token,
    what: What,
    expires: Option<u64>,
    rid: Rid,
    state: State,
    /// How often the hub has asked to try later, and what it said last.
    refusals: u32,
    refusal: Option<Box<(u16, Bytes)>>,
}

#[derive(Debug)]
enum What {
    Report(Bytes),
    Get,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be sent at this time.
    Waiting(u64),
    /// Was sent; to be sent again at this time unless the answer comes.
    Sent(u64),
}

/// What the hub says to a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply<'a> {
    pub rid: &'a str,
    pub status: u16,
    pub version: Option<u64>,
    pub body: &'a [u8],
}

/// A request id: a number in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rid(u64);

impl Rid {
    /// Starts somewhere else in every process, so that nothing said to the last one is taken for an answer to this.
    pub fn first(random: &mut Random) -> Self {
        Rid(random.bits() >> 32)
    }

    pub fn next(&mut self) -> Rid {
        self.0 = self.0.wrapping_add(1);
        *self
    }

    pub fn text(self) -> String {
        format!("{:x}", self.0)
    }

    pub fn is(self, text: &str) -> bool {
        u64::from_str_radix(text, 16) == Ok(self.0)
    }
}

impl Request {
    fn bytes(&self) -> usize {
        match &self.what {
            What::Report(patch) => patch.len(),
            What::Get => 0,
        }
    }

    fn failed(self, failure: TwinFailure) -> Event {
        match self.what {
            What::Report(_) => Event::Reported { token: self.token, result: Err(failure) },
            What::Get => Event::Twin { token: self.token, result: Err(failure) },
        }
    }

    /// Out of time: what the hub said last is worth more than that it took too long.
    fn expired(mut self) -> Event {
        match self.refusal.take() {
            Some(refusal) => {
                let (status, body) = *refusal;
                self.failed(TwinFailure::Status { status, body })
            }
            None => self.failed(TwinFailure::TimedOut),
        }
    }
}

impl Requests {
    pub fn load(&self) -> Load {
        self.load
    }

    /// Whether nothing waits for an answer.
    pub fn is_quiet(&self) -> bool {
        !matches!(self.queue.front(), Some(Request { state: State::Sent(_), .. }))
    }

    /// `patch` is `None` for a read.
    pub fn push(&mut self, token: Token, patch: Option<Bytes>, expires: Option<u64>, rid: Rid, now: u64) {
        let what = patch.map_or(What::Get, What::Report);
        let state = State::Waiting(now);
        let request = Request { token, what, expires, rid, state, refusals: 0, refusal: None };
        self.load.add(request.bytes());
        self.queue.push_back(request);
        self.earliest = [self.earliest, expires].into_iter().flatten().min();
    }

    /// Sends the first request, if its time has come.
    pub fn pump(
        &mut self,
        session: &mut Session,
        entity: &EntityId,
        answer_timeout: u64,
        now: u64,
        out: &mut Vec<u8>,
    ) {
        let Some(request) = self.queue.front_mut() else { return };
        let (State::Waiting(due) | State::Sent(due)) = request.state;
        if due > now || out.len() >= HIGH_WATER {
            return;
        }
        let rid = request.rid.text();
        // The answer is the confirmation, so QoS 0 will do, as most devices have it (device §4.1).
        // Cannot fail, the sizes are checked at the door; if it did, the request would expire.
        let _ = match &request.what {
            What::Report(patch) => {
                let topic = DeviceRequest::ReportedPatch { rid: Some(&rid), version: None };
                session.publish(&topic.of(entity), patch, out)
            }
            What::Get => session.publish(&DeviceRequest::TwinGet { rid: &rid }.of(entity), NO_PAYLOAD, out),
        };
        request.state = State::Sent(now.saturating_add(answer_timeout));
    }

    /// An answer came. False if it was to none of these requests.
    pub fn handle_answer(
        &mut self,
        reply: &Reply<'_>,
        retry: (&RetryPolicy, u64),
        now: u64,
        events: &mut VecDeque<Event>,
    ) -> bool {
        let &Reply { rid, status, version, body } = reply;
        let Some(request) = self.queue.front_mut() else { return false };
        if !request.rid.is(rid) || !matches!(request.state, State::Sent(_)) {
            return false;
        }
        if status == 429 || status >= 500 {
            request.refusals += 1;
            request.refusal = Some(Box::new((status, Bytes::copy_from_slice(body))));
            let (policy, chance) = retry;
            request.state =
                State::Waiting(now.saturating_add(policy.wait_ms(request.refusals, None, chance)));
            return true;
        }
        let Some(request) = self.take_first() else { return false };
        let token = request.token;
        events.push_back(if !(200..300).contains(&status) {
            request.failed(TwinFailure::Status { status, body: Bytes::copy_from_slice(body) })
        } else if let What::Get = request.what {
            Event::Twin { token, result: Ok(Bytes::copy_from_slice(body)) }
        } else {
            Event::Reported { token, result: Ok(version) }
        });
        true
    }

    fn take_first(&mut self) -> Option<Request> {
        let request = self.queue.pop_front()?;
        self.load.remove(request.bytes());
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
            self.earliest = None;
        }
        Some(request)
    }

    /// The connection is gone, and with it any answer that was under way.
    pub fn handle_lost(&mut self, now: u64) {
        if let Some(Request { state: state @ State::Sent(_), .. }) = self.queue.front_mut() {
            *state = State::Waiting(now);
        }
    }

    /// When the first request is to be sent, or sent again.
    pub fn due(&self) -> Option<u64> {
        let (State::Waiting(due) | State::Sent(due)) = self.queue.front()?.state;
        Some(due)
    }

    /// When [`Self::expire`] has something to do, or earlier.
    pub fn deadline(&self) -> Option<u64> {
        self.earliest
    }

    pub fn expire(&mut self, now: u64, events: &mut VecDeque<Event>) {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return;
        }
        let mut earliest = None;
        for request in std::mem::take(&mut self.queue) {
            if request.expires.is_none_or(|expires| now < expires) {
                earliest = [earliest, request.expires].into_iter().flatten().min();
                self.queue.push_back(request);
            } else {
                self.load.remove(request.bytes());
                events.push_back(request.expired());
            }
        }
        self.earliest = earliest;
    }

    /// Gives all requests up.
    pub fn fail(&mut self, failure: &TwinFailure, events: &mut VecDeque<Event>) {
        let requests = std::mem::take(self).queue;
        events.extend(requests.into_iter().map(|request| request.failed(failure.clone())));
    }
}
