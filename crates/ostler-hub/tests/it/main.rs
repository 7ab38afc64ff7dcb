//! The hub through its public operations, over the engine in memory.

mod access;
mod methods;
mod model;
mod registry;
mod support;
mod twins;
