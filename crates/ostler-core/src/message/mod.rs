//! Cloud-to-device messages: what may be sent, and how a device's queue moves (device §3.4–3.7).
//!
//! ```text
//!            push                 hold                    confirmed
//!   sender ───────▶ waiting ─────────────▶ handed out ─────────────────▶ Success
//!                    │  ▲                     │
//!                    │  └─────────────────────┤ its holder is gone: one delivery more
//!                    │ time over              │ and time over, or too often
//!                    ▼                        ▼
//!                 Expired            Expired, DeliveryCountExceeded
//! ```
//!
//! Purging ends all of them, wherever they are.
//!
//! Must not know: how a queue is stored, or by which protocol a device takes its messages.
//!
//! Invariant: a message that was pushed ends exactly once, with one [`Outcome`].

mod queue;
mod rules;
#[cfg(test)]
mod tests;

pub use queue::{Confirmed, Entry, Holder, Queue, Settlement, Terms};
pub use rules::{Message, MessageError};

/// Which outcomes the sender of a message wants to hear of (device §3.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Feedback {
    /// None.
    #[default]
    None,
    /// That the device took it.
    Positive,
    /// That it did not reach the device.
    Negative,
    /// Either.
    Full,
}

impl Feedback {
    /// All of them.
    pub const ALL: [Feedback; 4] = [Feedback::None, Feedback::Positive, Feedback::Negative, Feedback::Full];

    /// As devices and services write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Feedback::None => "none",
            Feedback::Positive => "positive",
            Feedback::Negative => "negative",
            Feedback::Full => "full",
        }
    }

    /// Reads what [`Feedback::as_str`] writes, in any case.
    pub fn parse(text: &str) -> Option<Feedback> {
        Feedback::ALL.into_iter().find(|feedback| text.eq_ignore_ascii_case(feedback.as_str()))
    }

    /// Whether this outcome is to be told.
    pub const fn wants(self, outcome: Outcome) -> bool {
        match self {
            Feedback::None => false,
            Feedback::Positive => matches!(outcome, Outcome::Success),
            Feedback::Negative => !matches!(outcome, Outcome::Success),
            Feedback::Full => true,
        }
    }
}

/// What becomes of a message (device §3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The device confirmed it.
    Success,
    /// Its time was over before the device confirmed it.
    Expired,
    /// It was handed out as often as it may be, and not confirmed.
    DeliveryCountExceeded,
    /// The device refused it.
    Rejected,
    /// The queue was emptied, or the device deleted.
    Purged,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 5] = [
        Outcome::Success,
        Outcome::Expired,
        Outcome::DeliveryCountExceeded,
        Outcome::Rejected,
        Outcome::Purged,
    ];

    /// The word that feedback has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Success => "Success",
            Outcome::Expired => "Expired",
            Outcome::DeliveryCountExceeded => "DeliveryCountExceeded",
            Outcome::Rejected => "Rejected",
            Outcome::Purged => "Purged",
        }
    }
}
