//! The service's REST interface as text: routes, error codes, bodies and headers, and their conversion from and to the
//! types of `ostler-core`.
//!
//! Must not know hyper, sockets or the hub: it spells and parses, it never serves.

pub mod bulk;
pub mod configuration;
pub mod error;
pub mod etag;
pub mod extension;
mod fields;
pub mod file;
pub mod identity;
pub mod job;
pub mod message;
pub mod method;
pub mod page;
pub mod query;
mod rollout;
pub mod route;
pub mod storage;
#[cfg(test)]
mod testing;
pub mod twin;
pub mod twin_query;

pub use fields::InvalidBody;
