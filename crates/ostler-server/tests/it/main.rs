//! The server as its clients meet it: real sockets, the wire crate's client session, a hub in
//! memory. Tests act through the doors; only what no door shows yet is read from the hub.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like the tests themselves")]

mod cloud_to_device;
mod drain;
mod hostile;
mod messages;
mod methods;
mod sessions;
mod sign_in;
mod support;
mod twins;
