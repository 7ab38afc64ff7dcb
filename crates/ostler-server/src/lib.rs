//! The front ends of Ostler: listeners and TLS, MQTT for devices, REST for services, and the one
//! place where everything is composed.
//!
//! It translates between the wire (`ostler-wire`) and the hub (`ostler-hub`); it must not know SQL,
//! merge rules or what a query means.
//!
//! Invariant: a handler makes three moves: take off the wire, call the hub, put on the wire.

mod app;
mod backup;
pub mod config;
mod error_map;
mod files;
mod listen;
pub mod mqtt;
pub mod ops;
mod peer;
mod ready;
mod rest;
mod seed;
mod server;
mod timers;
pub mod tls;

pub use app::{App, DoorCounts};
pub use listen::{BindError, Fallback};
pub use peer::{Peer, Transport};
pub use ready::{Ready, HUB_FILE};
pub use seed::{Problem as SeedProblem, SeedError};
pub use server::{Addresses, Running, Server, StartError};
