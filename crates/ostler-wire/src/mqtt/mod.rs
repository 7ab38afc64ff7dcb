//! MQTT 3.1.1 without sockets: a strict zero-copy codec and the two ends of a connection as state machines.
//!
//! * [`packet`] turns bytes into borrowed packets and packets into bytes; it knows no order of events.
//! * [`server`] and [`client`] know the order: who may say what when, packet ids, acknowledgements,
//!   keep-alive.
//!
//! What a topic means is said in [`crate::topic`]; nothing here looks inside one.
//!
//! Times are milliseconds (`u64`) since any instant the caller likes, as long as it is always the same one.

mod acks;
pub mod client;
mod in_flight;
pub mod packet;
pub mod server;

pub use acks::Ticket;
pub use in_flight::SendError;

use acks::Acks;
use packet::{Delivery, Publish};

/// A message from the peer, as either end hands it out.
#[derive(Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// The topic name, as sent.
    pub topic: &'a str,
    /// The message.
    pub payload: &'a [u8],
    /// The sender asked for the message to be retained (device §2.8: forwarded as `mqtt-retain`, never
    /// retained).
    pub retain: bool,
    /// The sender believes that it has sent the message before.
    pub dup: bool,
    /// QoS 1 only: to be given back through `ack` once the message is safely accepted.
    pub ticket: Option<Ticket>,
}

impl<'a> Received<'a> {
    /// Issues the ticket that a QoS 1 message needs; `None` if the message has QoS 2.
    #[inline]
    fn new(message: Publish<'a>, acks: &mut Acks) -> Option<Self> {
        let (dup, ticket) = match message.delivery {
            Delivery::AtMostOnce => (false, None),
            Delivery::AtLeastOnce { id, dup } => (dup, Some(acks.issue(id))),
            Delivery::ExactlyOnce { .. } => return None,
        };
        Some(Received { topic: message.topic, payload: message.payload, retain: message.retain, dup, ticket })
    }
}

/// Whether a QoS 1 message goes out for the first time or again after a lost connection (DUP, device §3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The message was never sent before.
    First,
    /// The message was sent on an earlier connection and not acknowledged there.
    Again,
}
