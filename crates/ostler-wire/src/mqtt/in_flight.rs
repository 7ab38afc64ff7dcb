//! Packet ids of our own, and which of them still wait for the peer's acknowledgement.
//!
//! Invariant: an id is given out again only after it was acknowledged, and no more than `limit` are out at a
//! time.

use super::packet::{EncodeError, PacketId};

/// Why a message cannot be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer has as many unacknowledged messages as it is given at a time. Try again after an
    /// acknowledgement.
    #[error("{0} messages wait for the peer's acknowledgement")]
    TooManyInFlight(u16),
    /// The message cannot be expressed in MQTT at all.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

#[derive(Debug)]
pub(super) struct InFlight {
    /// Oldest first. Short, so that a search costs less than any index would.
    ids: Vec<PacketId>,
    limit: u16,
    last: u16,
}

impl InFlight {
    pub fn new(limit: u16) -> Self {
        // A client has two tables of 65,535 ids together: with half of them each there is always a free one.
        InFlight { ids: Vec::new(), limit: limit.min(u16::MAX / 2), last: 0 }
    }

    /// Runs `send` with an id that is neither in flight nor among `taken`, and keeps it in flight if that
    /// succeeds.
    pub fn send(
        &mut self,
        taken: &[PacketId],
        send: impl FnOnce(PacketId) -> Result<(), EncodeError>,
    ) -> Result<PacketId, SendError> {
        if self.ids.len() >= usize::from(self.limit) {
            return Err(SendError::TooManyInFlight(self.limit));
        }
        let id = self.free_id(taken);
        send(id)?;
        self.last = id.get();
        self.ids.push(id);
        Ok(id)
    }

    /// Takes ids as in flight that were given out on an earlier connection.
    pub fn resume(&mut self, ids: impl IntoIterator<Item = PacketId>) {
        for id in ids {
            if !self.ids.contains(&id) {
                self.ids.push(id);
            }
        }
    }

    /// Takes an id out of flight; `false` if it was not in flight.
    pub fn acknowledge(&mut self, id: PacketId) -> bool {
        let position = self.ids.iter().position(|&waiting| waiting == id);
        if let Some(position) = position {
            self.ids.remove(position);
        }
        position.is_some()
    }

    /// The ids in flight, oldest first.
    pub fn ids(&self) -> &[PacketId] {
        &self.ids
    }

    fn free_id(&self, taken: &[PacketId]) -> PacketId {
        let mut id = PacketId::new(self.last).unwrap_or(PacketId::MAX);
        loop {
            id = id.checked_add(1).unwrap_or(PacketId::MIN);
            if !self.ids.contains(&id) && !taken.contains(&id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_use_are_skipped_when_the_numbers_come_round() {
        let mut flight = InFlight::new(3);
        let held = flight.send(&[], |_| Ok(())).unwrap();
        assert_eq!(held.get(), 1);
        for _ in 0..65_534 {
            let id = flight.send(&[], |_| Ok(())).unwrap();
            assert!(flight.acknowledge(id));
        }
        assert_eq!(flight.send(&[], |_| Ok(())).unwrap().get(), 2);
        assert!(flight.acknowledge(held));
        assert!(!flight.acknowledge(held));
    }

    #[test]
    fn ids_taken_elsewhere_are_skipped() {
        let [one, two] = [1, 2].map(|id| PacketId::new(id).unwrap());
        assert_eq!(InFlight::new(3).send(&[two, one], |_| Ok(())).unwrap().get(), 3);
    }

    #[test]
    fn resumed_ids_are_in_flight() {
        let [one, two, three] = [1, 2, 3].map(|id| PacketId::new(id).unwrap());
        let mut flight = InFlight::new(10);
        flight.resume([one, two, two]);
        assert_eq!(flight.send(&[three], |_| Ok(())).unwrap().get(), 4);
        assert!(flight.acknowledge(two) && !flight.acknowledge(two));
    }

    #[test]
    fn the_limit_holds_and_a_failed_send_costs_no_id() {
        let mut flight = InFlight::new(1);
        let failed = flight.send(&[], |_| Err(EncodeError::FieldTooLong(70_000)));
        assert_eq!(failed, Err(SendError::Encode(EncodeError::FieldTooLong(70_000))));
        let id = flight.send(&[], |_| Ok(())).unwrap();
        assert_eq!(flight.send(&[], |_| Ok(())), Err(SendError::TooManyInFlight(1)));
        flight.acknowledge(id);
        assert_eq!(flight.ids(), []);
    }
}
