//! What both ends of Ostler must agree on: the MQTT codec and its client and server sessions, the IoT Hub
//! topic grammar, the REST routes and shapes, the error codes and their texts.
//!
//! Everything here is sans-IO: bytes and events go in, events and bytes come out, time is an argument. The
//! crate must not know sockets, tokio, the store or the hub; nor does it judge what is allowed or true, only
//! how it is spelled.
//!
//! Invariant: nothing in this crate reads a clock, draws a random number or blocks.
//! Invariant: no input, however malformed, makes a function of this crate panic or allocate without a bound.

pub mod mqtt;
pub mod rest;
pub mod topic;
pub mod username;
