//! Acknowledging the peer's QoS 1 messages in the order in which they came.
//!
//! Operations end in any order, but PUBACKs must leave in the order of the PUBLISHes: the standard asks for
//! it, and some devices drop the connection otherwise (device §2.8).
//!
//! A ticket carries the packet id itself, so a message that is acknowledged before the next one comes leaves
//! nothing behind here. Only acknowledgements that overtake others are remembered:
//!
//! ```text
//!   acked            next   early[0] early[1] early[2]      issued
//!   ─────────────────┬──────┬────────┬────────┬─────────────┬─────
//!                    open   done     open     done          (next ticket)
//! ```
//!
//! Invariant: `early[i]` belongs to the ticket numbered `next + 1 + i`, and `early` is never longer than
//! `issued - next - 1`.

use std::collections::VecDeque;

use super::packet::PacketId;

/// The duty to acknowledge one QoS 1 message, to be given back to the session that issued it through `ack`.
/// While one is held, no later message of the connection can be acknowledged either.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "later messages cannot be acknowledged before this one"]
pub struct Ticket {
    number: u32,
    id: PacketId,
}

#[derive(Debug, Default)]
pub(super) struct Acks {
    /// The oldest ticket that is still out.
    next: u32,
    /// The ticket to issue next. Numbers wrap around.
    issued: u32,
    /// Acknowledgements that came before their turn.
    early: VecDeque<Option<PacketId>>,
}

impl Acks {
    #[inline]
    pub fn issue(&mut self, id: PacketId) -> Ticket {
        let ticket = Ticket { number: self.issued, id };
        self.issued = self.issued.wrapping_add(1);
        ticket
    }

    /// How many messages have not been acknowledged to the peer.
    #[inline]
    pub fn outstanding(&self) -> u32 {
        self.issued.wrapping_sub(self.next)
    }

    /// Takes a ticket back and calls `send` for every id whose turn has come. A ticket that is
    /// not out is ignored.
    #[inline]
    pub fn settle(&mut self, ticket: Ticket, mut send: impl FnMut(PacketId)) {
        let ahead = ticket.number.wrapping_sub(self.next);
        if ahead >= self.outstanding() {
            return;
        }
        if ahead == 0 {
            send(ticket.id);
            self.next = self.next.wrapping_add(1);
            if !self.early.is_empty() {
                self.send_waiting(send);
            }
        } else {
            let index = ahead as usize - 1;
            if self.early.len() <= index {
                self.early.resize(index + 1, None);
            }
            self.early[index] = Some(ticket.id);
        }
    }

    /// The slot popped in each round is that of `next`; an empty one means that its ticket is still out.
    fn send_waiting(&mut self, mut send: impl FnMut(PacketId)) {
        while let Some(Some(id)) = self.early.pop_front() {
            send(id);
            self.next = self.next.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    proptest! {
        /// Whatever the order of completion, ids leave in the order of issue and as early as possible.
        #[test]
        fn in_order_for_any_completion(picks in prop::collection::vec(any::<prop::sample::Index>(), 1..60), start: u32) {
            let mut acks = Acks { next: start, issued: start, early: VecDeque::new() };
            let mut tickets: Vec<(usize, Ticket)> = Vec::new();
            for n in 0..picks.len() {
                tickets.push((n, acks.issue(id(n as u16 + 1))));
            }
            let mut done = vec![false; picks.len()];
            let mut sent = Vec::new();
            for pick in &picks {
                let (n, ticket) = tickets.swap_remove(pick.index(tickets.len()));
                done[n] = true;
                acks.settle(ticket, |id| sent.push(id.get()));
                let prefix = done.iter().take_while(|&&done| done).count();
                prop_assert_eq!(&sent, &(1..=prefix as u16).collect::<Vec<_>>());
                prop_assert_eq!(acks.outstanding() as usize, picks.len() - prefix);
            }
            prop_assert!(acks.early.is_empty());
        }
    }

    #[test]
    fn in_order_acknowledgements_allocate_nothing() {
        let mut acks = Acks::default();
        for n in 1..100 {
            let ticket = acks.issue(id(n));
            acks.settle(ticket, |_| ());
        }
        assert_eq!(acks.early.capacity(), 0);
    }

    #[test]
    fn a_strange_ticket_is_ignored() {
        let mut acks = Acks::default();
        acks.settle(Ticket { number: 7, id: id(1) }, |_| panic!("nothing was issued"));
        let ticket = acks.issue(id(1));
        acks.settle(Ticket { number: 4_000_000, id: id(2) }, |_| panic!("not issued"));
        let mut sent = 0;
        acks.settle(ticket, |_| sent += 1);
        assert_eq!(sent, 1);
    }
}
