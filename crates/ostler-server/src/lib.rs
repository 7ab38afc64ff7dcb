//! The front ends of Ostler: listeners and TLS, MQTT for devices, REST for services, and the one
//! place where everything is composed.
//!
//! It translates between the wire (`ostler-wire`) and the hub (`ostler-hub`); it must not know SQL,
//! merge rules or what a query means.
//!
//! Invariant: a handler makes three moves: take off the wire, call the hub, put on the wire.

pub mod config;
mod files;
mod listen;
mod timers;
pub mod tls;
