//! What the tests share: the hub as a process, small blocking clients, seeded randomness.

pub mod http;
pub mod hub;
pub mod mqtt;
pub mod random;
