//! The built hub as its users meet it: a process with ports, driven over the wire alone.
//!
//! The clients in `support` are written from the protocol, not from the product's crates: an encoder that judges
//! itself finds nothing, and hostile bytes are what no honest encoder produces.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails, and it says what it saw"
)]

mod crash;
mod faults;
mod hostile;
mod jobs;
mod messages;
mod operations;
mod support;
