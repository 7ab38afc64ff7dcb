//! The door as clients see it: a real hub in memory, real connections, bytes in and bytes out.

mod authorization;
mod bounds;
mod files;
mod harness;
mod jobs;
mod messages;
mod query;
mod query_fixtures;
mod routes;
mod websocket;
