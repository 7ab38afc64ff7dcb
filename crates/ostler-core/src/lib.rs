//! The pure core of Ostler: it decides, the edges do the work.
//!
//! Typed ids, device identities, the twin document and its merge, authentication decisions and
//! limits live here. Functions take values and the current time and return values.
//!
//! Must not know: tokio, sockets, clocks, randomness, files, SQL, HTTP, MQTT.
//!
//! Invariant: no function here awaits, locks, reads a clock, draws a random number or logs.

pub mod auth;
pub mod configuration;
pub mod file;
pub mod id;
pub mod identity;
pub mod job;
pub mod json;
pub mod limits;
pub mod message;
pub mod method;
pub mod query;
pub mod record;
pub mod sas;
pub mod time;
pub mod twin;
