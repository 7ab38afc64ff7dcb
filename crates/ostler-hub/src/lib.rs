//! The operations of the hub: registry, twins, methods, messages, jobs, device sessions, policies.
//!
//! A front end takes a request apart, calls one function here and writes down what comes back. Each
//! write loads a record, lets `ostler-core` decide, commits if the record is unchanged, and only then
//! tells whoever is connected.
//!
//! Must not know: how anything is spelled on a wire; which engine stands behind the store.
//!
//! Invariant: nothing is told before it is durable.
//!
//! Invariant: an operation acts for a principal that was signed in or authorised before.

pub mod access;
pub mod bus;
mod bytes;
pub mod configurations;
pub mod diagnosis;
mod error;
pub mod events;
pub mod files;
mod hub;
pub mod jobs;
pub mod messages;
mod methods;
pub mod policies;
pub mod query;
mod recent;
pub mod registry;
pub mod session;
pub mod stats;
mod twins;

pub use error::Error;
pub use hub::{Clock, Hub, Options, View};
pub use registry::IfMatch;
