//! What every front end shares: the hub, the configuration, and how the server fares.
//!
//! It is built once by [`Server::start`](crate::Server::start) and only read afterwards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ostler_core::auth::PeerCertificate;
use ostler_core::time::Timestamp;
use ostler_hub::Hub;
use parking_lot::RwLock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::listen::Gate;
use crate::mqtt;
use crate::ops::Metrics;
use crate::timers::Timers;
use crate::tls::client_certificate::{ChainError, ClientChain};
use crate::tls::Tls;

/// The parts of a running server.
pub struct App {
    /// All operations.
    pub hub: Arc<Hub>,
    /// What the server was told.
    pub config: Config,
    /// Cancelled when the server begins to stop: no new work is taken, what runs may finish.
    pub stopping: CancellationToken,
    /// When the server began to serve.
    pub started: Instant,
    /// What the doors count; see [`Metrics::text`] for all of it.
    pub metrics: Metrics,
    pub(crate) tls: Tls,
    pub(crate) gate: Arc<Gate>,
    pub(crate) timers: Arc<Timers>,
    pub(crate) mqtt: mqtt::Counters,
    pub(crate) authorities: Authorities,
}

/// How the doors fare, all listeners together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorCounts {
    /// Connections now.
    pub connections: u64,
    /// Connections there may be.
    pub max_connections: u64,
    /// Connections now that have not signed in.
    pub half_open: u64,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections closed because their source had too many that were not signed in.
    pub refused_source: u64,
    /// Accepts that failed for want of descriptors or memory.
    pub accept_errors: u64,
    /// MQTT packets read.
    pub mqtt_packets: u64,
    /// MQTT connections closed because the client broke the protocol.
    pub mqtt_violations: u64,
    /// MQTT connections closed because the client did not read.
    pub mqtt_write_timeouts: u64,
    /// Times an MQTT client was read more slowly because it sent too much.
    pub mqtt_throttled: u64,
}

impl App {
    /// How the doors fare.
    pub fn doors(&self) -> DoorCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (gate, accepts) = (&self.gate, self.gate.counters());
        DoorCounts {
            connections: gate.connections() as u64,
            max_connections: gate.max_connections() as u64,
            half_open: gate.half_open() as u64,
            accepted: count(&accepts.accepted),
            refused_source: count(&accepts.refused_source),
            accept_errors: count(&accepts.accept_errors),
            mqtt_packets: count(&self.mqtt.packets),
            mqtt_violations: count(&self.mqtt.violations),
            mqtt_write_timeouts: count(&self.mqtt.write_timeouts),
            mqtt_throttled: count(&self.mqtt.throttled),
        }
    }

    /// Describes a client certificate for sign-in: what it is, and whether a registered authority
    /// vouches for it.
    ///
    /// # Errors
    /// [`ChainError::Malformed`] if the leaf is not X.509.
    pub(crate) fn judge_certificate(&self, chain: &ClientChain) -> Result<PeerCertificate, ChainError> {
        let leaf = chain.leaf()?;
        let authorities = self.authorities.current(&self.hub);
        let trusted = chain.verify(authorities.iter().map(AsRef::as_ref), SystemTime::now());
        let secs = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            Timestamp::from_unix_secs(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
        };
        Ok(PeerCertificate {
            sha1: leaf.sha1,
            sha256: leaf.sha256,
            common_name: leaf.common_name,
            not_before: secs(leaf.not_before),
            not_after: secs(leaf.not_after),
            chain: trusted.map_err(|error| error.to_string()),
        })
    }
}

/// The hub's certificate authorities, decoded once per change.
#[derive(Default)]
pub(crate) struct Authorities(RwLock<Decoded>);

#[derive(Default)]
struct Decoded {
    revision: Option<u64>,
    certificates: Arc<[CertificateDer<'static>]>,
}

impl Authorities {
    fn current(&self, hub: &Hub) -> Arc<[CertificateDer<'static>]> {
        // Read before the list: a change in between is decoded again next time.
        let revision = hub.authorities_revision();
        {
            let decoded = self.0.read();
            if decoded.revision == Some(revision) {
                return decoded.certificates.clone();
            }
        }
        let certificates: Arc<[_]> = hub
            .certificate_authorities()
            .iter()
            .flat_map(|authority| {
                CertificateDer::pem_slice_iter(authority.pem.as_bytes()).flatten().collect::<Vec<_>>()
            })
            .collect();
        *self.0.write() = Decoded { revision: Some(revision), certificates: certificates.clone() };
        certificates
    }
}
