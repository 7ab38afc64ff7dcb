//! Tests of the wire through its public door.

#![allow(missing_docs, clippy::unwrap_used)]

mod codec;
mod golden;
mod pair;
mod session;
mod topics;
mod usernames;
