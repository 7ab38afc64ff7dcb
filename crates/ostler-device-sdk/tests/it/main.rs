//! The device SDK against a real hub in this process: over TLS, WebSocket, proxies and broken lines.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like the tests themselves")]

mod cloud_to_device;
mod hostile;
#[cfg(feature = "http")]
mod http;
mod messages;
mod methods;
mod outages;
mod sign_in;
mod support;
mod twins;
#[cfg(feature = "upload")]
mod upload;
