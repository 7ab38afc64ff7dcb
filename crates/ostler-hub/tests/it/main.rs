//! The hub through its public operations, over the engine in memory.

#![allow(clippy::unwrap_used)] // A panic is the way a test fails.

mod access;
mod configurations;
mod jobs;
mod messages;
mod messages_model;
mod methods;
mod model;
mod registry;
mod support;
mod twins;
