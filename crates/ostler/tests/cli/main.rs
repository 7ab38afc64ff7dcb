//! The binary from outside: usage, exit codes, and every verb against a hub of its own process.

#![allow(clippy::unwrap_used, reason = "a failure in a helper is a failed test too")]

mod docs;
mod file;
mod firmware;
mod hub;
mod jobs;
mod query;
mod simulate;
mod support;
mod usage;
