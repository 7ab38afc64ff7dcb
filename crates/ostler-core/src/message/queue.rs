//! A device's queue: which messages wait, who holds which, and what follows when something happens.
//!
//! Deciding and applying are apart, because what was decided is made durable in between: [`Queue::settle`] and
//! [`Queue::end_all`] only look, [`Queue::apply`] does what they said.
//!
//! Must not know: what a message says.
//!
//! Invariant: entries stand in the order of their sequence numbers, and are handed to one holder in that order.
//!
//! Invariant: what is handed out does not expire until its holder has gone: the device may be about to confirm it.

use super::{Feedback, MessageError, Outcome};
use crate::limits::MESSAGES_PER_DEVICE;
use crate::time::Timestamp;
use std::collections::VecDeque;

/// Who has a message in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A connection, for as long as it lives.
    Connection(u64),
    /// Who can show this token, for a time.
    Lease {
        /// Names the lease.
        token: u128,
        /// When it ends.
        until: Timestamp,
    },
}

/// A message in a queue, without what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the order.
    pub sequence: u64,
    /// Its id, for feedback.
    pub message_id: Option<Box<str>>,
    /// When it was accepted.
    pub enqueued: Timestamp,
    /// When its time is over.
    pub expires: Timestamp,
    /// How often it was handed out and not confirmed.
    pub deliveries: u32,
    /// What its sender wants to hear of.
    pub feedback: Feedback,
    /// Who has it in hand.
    pub holder: Option<Holder>,
}

/// What a holder says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Which one.
    pub sequence: u64,
    /// By whom; who is not its holder any more says nothing.
    pub by: Holder,
    /// [`Outcome::Success`] or [`Outcome::Rejected`]; `None` gives it back.
    pub outcome: Option<Outcome>,
}

/// On what a settlement depends besides the queue.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The connection of the device that lives now.
    pub connection: Option<u64>,
    /// The time.
    pub now: Timestamp,
    /// How often a message may be handed out.
    pub max_deliveries: u32,
}

/// What follows for the messages of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Those that end, and how.
    pub ended: Vec<(u64, Outcome)>,
    /// Those that wait again, and how often they were handed out by now.
    pub returned: Vec<(u64, u32)>,
}

impl Settlement {
    /// Whether nothing follows.
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.returned.is_empty()
    }
}

/// See the module documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue(VecDeque<Entry>);

impl Queue {
    /// How many messages have not ended.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether all messages have ended.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The messages, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// One message.
    pub fn get(&self, sequence: u64) -> Option<&Entry> {
        self.place(sequence).map(|place| &self.0[place])
    }

    fn place(&self, sequence: u64) -> Option<usize> {
        self.0.binary_search_by_key(&sequence, |entry| entry.sequence).ok()
    }

    /// Whether there is room for one more.
    ///
    /// # Errors
    /// [`MessageError::QueueFull`].
    pub fn check_room(&self) -> Result<(), MessageError> {
        if self.0.len() < MESSAGES_PER_DEVICE {
            Ok(())
        } else {
            Err(MessageError::QueueFull)
        }
    }

    /// Adds a message. Its sequence number is higher than all before it; one that is not stands where it belongs.
    pub fn push(&mut self, entry: Entry) {
        let place = self.0.partition_point(|other| other.sequence < entry.sequence);
        self.0.insert(place, entry);
    }

    /// What a connection may be handed now, oldest first, so that it holds `window` messages at most.
    pub fn next_for(&self, connection: u64, window: usize) -> impl Iterator<Item = &Entry> {
        let holder = Some(Holder::Connection(connection));
        let held = self.0.iter().filter(|entry| entry.holder == holder).count();
        self.0.iter().filter(|entry| entry.holder.is_none()).take(window.saturating_sub(held))
    }

    /// Hands a message out.
    pub fn hold(&mut self, sequence: u64, holder: Holder) {
        if let Some(place) = self.place(sequence) {
            self.0[place].holder = Some(holder);
        }
    }

    /// The message that a lease holds.
    pub fn leased(&self, lease: u128) -> Option<&Entry> {
        self.0
            .iter()
            .find(|entry| matches!(entry.holder, Some(Holder::Lease { token, .. }) if token == lease))
    }

    /// When [`Queue::settle`] is due even if nothing happens.
    pub fn due(&self) -> Option<Timestamp> {
        let due = |entry: &Entry| match entry.holder {
            None => Some(entry.expires),
            Some(Holder::Lease { until, .. }) => Some(until),
            Some(Holder::Connection(_)) => None,
        };
        self.0.iter().filter_map(due).min()
    }

    /// What follows from what was confirmed, from who is gone, and from the time.
    pub fn settle(&self, confirmed: &[Confirmed], terms: Terms) -> Settlement {
        let mut settlement = Settlement::default();
        for entry in &self.0 {
            let sequence = entry.sequence;
            match follow(entry, confirmed, terms) {
                Step::Stay => {}
                Step::End(outcome) => settlement.ended.push((sequence, outcome)),
                Step::Return(deliveries) => settlement.returned.push((sequence, deliveries)),
            }
        }
        settlement
    }

    /// The end of all messages.
    pub fn end_all(&self, outcome: Outcome) -> Settlement {
        let ended = self.0.iter().map(|entry| (entry.sequence, outcome)).collect();
        Settlement { ended, returned: Vec::new() }
    }

    /// Does what was decided.
    pub fn apply(&mut self, settlement: &Settlement) {
        for (sequence, deliveries) in &settlement.returned {
            if let Some(place) = self.place(*sequence) {
                let entry = &mut self.0[place];
                (entry.deliveries, entry.holder) = (*deliveries, None);
            }
        }
        for (sequence, _) in &settlement.ended {
            if let Some(place) = self.place(*sequence) {
                self.0.remove(place);
            }
        }
    }
}

enum Step {
    Stay,
    End(Outcome),
    Return(u32),
}

fn follow(entry: &Entry, confirmed: &[Confirmed], terms: Terms) -> Step {
    let Some(holder) = entry.holder else {
        return if entry.expires <= terms.now { Step::End(Outcome::Expired) } else { Step::Stay };
    };
    let said = confirmed.iter().find(|said| said.sequence == entry.sequence && said.by == holder);
    let gone = match (said, holder) {
        (Some(Confirmed { outcome: Some(outcome), .. }), _) => return Step::End(*outcome),
        (Some(_), _) => true,
        (None, Holder::Connection(connection)) => terms.connection != Some(connection),
        (None, Holder::Lease { until, .. }) => until <= terms.now,
    };
    if !gone {
        return Step::Stay;
    }
    let deliveries = entry.deliveries.saturating_add(1);
    if entry.expires <= terms.now {
        Step::End(Outcome::Expired)
    } else if deliveries >= terms.max_deliveries {
        Step::End(Outcome::DeliveryCountExceeded)
    } else {
        Step::Return(deliveries)
    }
}
