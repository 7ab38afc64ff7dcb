//! The verbs, one module each.

pub mod backup;
pub mod ca;
pub mod completions;
pub mod config;
pub mod demo;
pub mod device;
pub mod doctor;
pub mod file;
pub mod firmware;
pub mod job;
pub mod message;
pub mod method;
pub mod module;
pub mod monitor;
pub mod policy;
pub mod query;
pub mod serve;
pub mod simulate;
pub mod status;
pub mod twin;

mod identity;
