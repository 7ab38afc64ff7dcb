//! What goes to the hub with a confirmation: telemetry and the answers to method calls, at quality of service 1.
//!
//! ```text
//!   0               sent          repeats                          items
//!   ├───────────────┼─────────────┼─────────────────┬──────────────┤
//!    sent here,      sent on an    answers, never    telemetry,
//!    unconfirmed     earlier       sent              never sent
//!                    connection
//! ```
//!
//! Must not know connections' lives nor when to try again.
//!
//! Invariant: items with a packet id stand before those without, each part in the order of acceptance, except that
//! an answer overtakes telemetry that was never sent: somebody waits for it.
//! Invariant: an item leaves by exactly one of confirmation, expiry and failure, and telemetry is reported once then.

use std::collections::VecDeque;

use bytes::Bytes;
use ostler_core::id::EntityId;
use ostler_wire::mqtt::client::Session;
use ostler_wire::mqtt::packet::PacketId;
use ostler_wire::mqtt::{Attempt, SendError as WireError};
use ostler_wire::topic::{Bag, DeviceRequest};

use super::{Token, HIGH_WATER};
use crate::message::Prepared;

/// Room for so many items is kept while there are none.
const KEPT: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    items: VecDeque<Item>,
    /// How many were sent on this connection.
    sent: usize,
    telemetry: Load,
    /// No item expires before this.
    earliest: Option<u64>,
}

/// What waits, for the bounds of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub items: usize,
    pub bytes: usize,
}

impl Load {
    pub fn add(&mut self, bytes: usize) {
        self.items += 1;
        self.bytes += bytes;
    }

    pub fn remove(&mut self, bytes: usize) {
        self.items -= 1;
        self.bytes -= bytes;
    }
}

#[derive(Debug)]
struct Item {
    what: What,
    body: Bytes,
    expires: Option<u64>,
    /// That of its last sending. Kept, since repeats carry it again.
    id: Option<PacketId>,
}

#[derive(Debug)]
enum What {
    Telemetry { token: Token, bag: Box<str> },
    Answer { rid: Box<str>, status: i32 },
}

impl Item {
    /// The token to report to, if it is telemetry, and what it counted for.
    fn account(&self) -> Option<(Token, usize)> {
        match &self.what {
            What::Telemetry { token, bag } => Some((*token, bag.len() + self.body.len())),
            What::Answer { .. } => None,
        }
    }
}

impl Outbox {
    /// The telemetry that waits or is unconfirmed.
    pub fn telemetry(&self) -> Load {
        self.telemetry
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.items.capacity()
    }

    /// Whether nothing sent on this connection is unconfirmed.
    pub fn is_quiet(&self) -> bool {
        self.sent == 0
    }

    pub fn push_telemetry(&mut self, token: Token, message: Prepared, expires: Option<u64>) {
        self.telemetry.add(message.size());
        let Prepared { bag, body } = message;
        self.items.push_back(Item { what: What::Telemetry { token, bag }, body, expires, id: None });
        self.expect(expires);
    }

    pub fn push_answer(&mut self, rid: Box<str>, status: i32, body: Bytes, expires: u64) {
        let waits = |item: &Item| item.id.is_none() && item.account().is_some();
        // What has an id is a prefix; so is what comes before the first unsent telemetry.
        let place = self.items.partition_point(|item| !waits(item));
        let item = Item { what: What::Answer { rid, status }, body, expires: Some(expires), id: None };
        self.items.insert(place, item);
        self.expect(Some(expires));
    }

    fn expect(&mut self, expires: Option<u64>) {
        self.earliest = [self.earliest, expires].into_iter().flatten().min();
    }

    /// When [`Self::expire`] has something to do, or earlier.
    pub fn deadline(&self) -> Option<u64> {
        self.earliest
    }

    /// The ids under which something unconfirmed was sent, oldest first.
    pub fn ids(&self) -> impl Iterator<Item = PacketId> + '_ {
        self.items.iter().map_while(|item| item.id)
    }

    /// Sends until the window is full or enough waits to be written.
    pub fn pump(&mut self, session: &mut Session, entity: &EntityId, out: &mut Vec<u8>) {
        while out.len() < HIGH_WATER {
            let Some(item) = self.items.get_mut(self.sent) else { return };
            let request = match &item.what {
                What::Telemetry { bag, .. } => DeviceRequest::Telemetry { bag: Bag::from_encoded(bag) },
                What::Answer { rid, status } => DeviceRequest::MethodResponse { status: *status, rid },
            };
            let topic = request.of(entity);
            let sent = match item.id {
                Some(id) => {
                    session.publish_again(id, &topic, &item.body, out).map(|()| id).map_err(WireError::from)
                }
                None => session.publish_acked(&topic, &item.body, Attempt::First, out),
            };
            match sent {
                Ok(id) => item.id = Some(id),
                Err(WireError::TooManyInFlight(_)) => return,
                // Cannot be: sizes are checked at the door. It stays and expires or fails with the rest.
                Err(WireError::Encode(_)) => return,
            }
            self.sent += 1;
        }
    }

    /// The hub has confirmed `id`. Returns the token of what it was, if that was telemetry.
    pub fn confirm(&mut self, id: PacketId) -> Option<Token> {
        let place = self.items.iter().take(self.sent).position(|item| item.id == Some(id))?;
        let item = self.items.remove(place)?;
        self.sent -= 1;
        self.tidy();
        let (token, bytes) = item.account()?;
        self.telemetry.remove(bytes);
        Some(token)
    }

    /// The connection is gone: what was sent and not confirmed has to be sent again.
    pub fn handle_lost(&mut self) {
        self.sent = 0;
    }

    /// An empty outbox keeps no memory for what a burst once needed.
    fn tidy(&mut self) {
        if self.items.is_empty() {
            self.earliest = None;
            if self.items.capacity() > KEPT {
                self.items = VecDeque::new();
            }
        }
    }

    /// Drops what has expired and calls `report` for each piece of telemetry among it.
    pub fn expire(&mut self, now: u64, mut report: impl FnMut(Token)) {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return;
        }
        let (mut place, mut sent, mut earliest) = (0, self.sent, None);
        let Self { items, telemetry, .. } = self;
        items.retain(|item| {
            let was_sent = place < self.sent;
            place += 1;
            if item.expires.is_none_or(|expires| now < expires) {
                earliest = [earliest, item.expires].into_iter().flatten().min();
                return true;
            }
            sent -= usize::from(was_sent);
            if let Some((token, bytes)) = item.account() {
                telemetry.remove(bytes);
                report(token);
            }
            false
        });
        self.sent = sent;
        self.earliest = earliest;
        self.tidy();
    }

    /// Gives everything up and calls `report` for each piece of telemetry.
    pub fn fail(&mut self, mut report: impl FnMut(Token)) {
        let items = std::mem::take(self).items;
        items.iter().filter_map(Item::account).for_each(|(token, _)| report(token));
    }
}
