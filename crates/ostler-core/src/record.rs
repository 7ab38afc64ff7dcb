//! What the store keeps for one device or module: identity, twin and subscriptions together.
//!
//! Must not know: how it is encoded or where it lies.

use crate::configuration::Assignment;
use crate::id::EntityId;
use crate::identity::Identity;
use crate::time::Timestamp;
use crate::twin::Twin;

/// Everything that is kept of a device or module.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Whose it is.
    pub id: EntityId,
    /// The store's revision, raised by each committed change; 0 before the first commit.
    pub revision: u64,
    /// The registered identity.
    pub identity: Identity,
    /// When it was last seen.
    pub activity: Activity,
    /// The subscriptions that outlive a connection.
    pub subscriptions: Subscriptions,
    /// The automatic configurations that target it, by id; empty for most (service §11.4).
    pub configurations: Vec<Assignment>,
    /// The twin.
    pub twin: Twin,
}

impl Record {
    /// The record of a new identity with a new twin.
    pub fn new(id: EntityId, identity: Identity) -> Record {
        Record {
            id,
            revision: 0,
            identity,
            activity: Activity::default(),
            subscriptions: Subscriptions::default(),
            configurations: Vec::new(),
            twin: Twin::default(),
        }
    }
}

/// When an entity was last seen. Kept lazily: a crash may lose the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// When it last connected or disconnected.
    pub connection_updated: Timestamp,
    /// When it last connected, disconnected or sent.
    pub last_activity: Timestamp,
}

impl Default for Activity {
    fn default() -> Activity {
        Activity { connection_updated: Timestamp::NEVER, last_activity: Timestamp::NEVER }
    }
}

/// What a device wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Interest {
    /// Direct method calls.
    Methods = 0,
    /// Answers to its twin requests.
    TwinAnswers = 1,
    /// Changes of its desired properties.
    DesiredChanges = 2,
    /// Cloud-to-device messages.
    Messages = 3,
    /// Module inputs.
    Inputs = 4,
}

impl Interest {
    /// All of them.
    pub const ALL: [Interest; 5] = [
        Interest::Methods,
        Interest::TwinAnswers,
        Interest::DesiredChanges,
        Interest::Messages,
        Interest::Inputs,
    ];
}

/// How surely a device wants to hear of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delivery {
    /// Once or not at all (MQTT quality of service 0).
    AtMostOnce,
    /// Until it is confirmed (MQTT quality of service 1).
    AtLeastOnce,
}

/// The subscriptions of a persistent session (device §2.5), two bits an interest.
///
/// An empty set with [`Subscriptions::is_session`] is a session that subscribed to nothing yet; the
/// client is told of it when it reconnects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions(u16);

impl Subscriptions {
    const SESSION: u16 = 1 << 15;

    /// A session without subscriptions.
    pub const fn session() -> Subscriptions {
        Subscriptions(Subscriptions::SESSION)
    }

    /// Whether a session is stored.
    pub const fn is_session(self) -> bool {
        self.0 & Subscriptions::SESSION != 0
    }

    /// How an interest is wanted, if it is.
    pub const fn get(self, interest: Interest) -> Option<Delivery> {
        match self.0 >> (interest as u16 * 2) & 3 {
            0 => None,
            1 => Some(Delivery::AtMostOnce),
            _ => Some(Delivery::AtLeastOnce),
        }
    }

    /// With an interest set or removed.
    #[must_use]
    pub const fn with(self, interest: Interest, delivery: Option<Delivery>) -> Subscriptions {
        let shift = interest as u16 * 2;
        let bits = match delivery {
            None => 0,
            Some(Delivery::AtMostOnce) => 1,
            Some(Delivery::AtLeastOnce) => 2,
        };
        Subscriptions(self.0 & !(3 << shift) | bits << shift)
    }

    /// The bits, for storing.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// From stored bits; unknown ones are dropped.
    pub const fn from_bits(bits: u16) -> Subscriptions {
        Subscriptions(bits & (Subscriptions::SESSION | 0x3ff))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_independent() {
        let mut set = Subscriptions::session();
        assert!(set.is_session() && Interest::ALL.iter().all(|i| set.get(*i).is_none()));
        for interest in Interest::ALL {
            set = set.with(interest, Some(Delivery::AtLeastOnce));
        }
        set = set.with(Interest::DesiredChanges, Some(Delivery::AtMostOnce)).with(Interest::Methods, None);
        assert_eq!(set.get(Interest::DesiredChanges), Some(Delivery::AtMostOnce));
        assert_eq!(set.get(Interest::Methods), None);
        assert_eq!(set.get(Interest::Inputs), Some(Delivery::AtLeastOnce));
        assert_eq!(Subscriptions::from_bits(set.bits()), set);
    }
}
