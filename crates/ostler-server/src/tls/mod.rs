//! TLS for every listener: one identity, swapped while running, and client certificates let
//! through to sign-in.
//!
//! It must not know which protocol runs inside.
//!
//! Invariant: TLS 1.2 and 1.3 are spoken, nothing older.
//! Invariant: a renewal that fails leaves the certificate in use untouched.

pub mod authority;
pub mod client_certificate;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rustls::crypto::ring as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::ServerConfig;

use self::authority::{certificate_names, Authority, AuthorityError};
use self::client_certificate::AnyClientCertificate;
use crate::config::{Bind, CertificateSource, Config, Data};

/// The server cannot present a certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA cannot be made, read or used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A given file cannot be read.
    #[error("{}: {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// rustls refuses the certificate or the key.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The server's identity on TLS connections.
pub struct Tls {
    source: Source,
    current: Arc<Current>,
    mqtt: Arc<ServerConfig>,
    https: Arc<ServerConfig>,
    ca_pem: Option<String>,
}

/// Where the next certificate comes from.
enum Source {
    Issued { authority: Box<Authority>, names: Vec<String>, lifetime: Duration },
    Files { certificate: PathBuf, key: PathBuf },
}

/// What a certificate in use is known by.
struct InUse {
    key: Arc<CertifiedKey>,
    not_after: SystemTime,
    /// The files' last change, for a certificate that others renew.
    changed: Option<SystemTime>,
}

/// Hands rustls the certificate in use.
struct Current(RwLock<InUse>);

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Current {
    /// One certificate for every name asked for: it carries all names of this hub, and a client
    /// that dialled another one refuses it with a clearer error than an alert would give.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().key.clone())
    }
}

impl Tls {
    /// Makes or loads what the configuration names, ready to serve.
    ///
    /// # Errors
    /// Files that cannot be read or written, keys that do not fit.
    pub fn open(config: &Config, now: SystemTime) -> Result<Self, TlsError> {
        let bind = match config.listen.bind {
            Bind::All => None,
            Bind::Address(address) => Some(address),
        };
        let issued = |authority: Authority| Source::Issued {
            authority: Box::new(authority),
            names: certificate_names(config.names(), bind),
            lifetime: config.tls.lifetime,
        };
        let (source, ca_pem) = match (&config.tls.source, &config.data) {
            (CertificateSource::OwnCa, Data::Folder(folder)) => {
                let authority = Authority::open(folder, &config.hostname, now)?;
                let pem = authority.pem().to_owned();
                (issued(authority), Some(pem))
            }
            (CertificateSource::OwnCa, Data::Memory) => {
                let authority = Authority::generate(&config.hostname, now)?;
                let pem = authority.pem().to_owned();
                (issued(authority), Some(pem))
            }
            (CertificateSource::GivenCa { certificate, key }, _) => {
                let authority = Authority::load(certificate, key)?;
                let pem = authority.pem().to_owned();
                (issued(authority), Some(pem))
            }
            (CertificateSource::Given { certificate, key, ca }, _) => {
                let pem = ca.as_ref().map(|path| read(path)).transpose()?;
                (Source::Files { certificate: certificate.clone(), key: key.clone() }, pem)
            }
        };
        let current = Arc::new(Current(RwLock::new(source.next(now)?)));
        let mqtt = server_config(current.clone())?;
        let mut https = mqtt.clone();
        https.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { source, current, mqtt: Arc::new(mqtt), https: Arc::new(https), ca_pem })
    }

    /// For MQTT: no protocol is negotiated inside the handshake, whatever the client offers.
    pub fn mqtt(&self) -> Arc<ServerConfig> {
        self.mqtt.clone()
    }

    /// For HTTPS: HTTP/1.1 only.
    pub fn https(&self) -> Arc<ServerConfig> {
        self.https.clone()
    }

    /// The CA that clients must trust, PEM; `None` if it is one they know by themselves.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// When the certificate in use expires.
    pub fn not_after(&self) -> SystemTime {
        self.current.0.read().not_after
    }

    /// Renews the certificate if it is due, or takes up given files that changed.
    ///
    /// # Errors
    /// The next certificate cannot be had; the one in use stays.
    pub fn renew_if_due(&self, now: SystemTime) -> Result<Renewal, TlsError> {
        let due = {
            let in_use = self.current.0.read();
            match &self.source {
                Source::Issued { lifetime, .. } => now + *lifetime / 3 >= in_use.not_after,
                Source::Files { certificate, .. } => last_change(certificate) != in_use.changed,
            }
        };
        if !due {
            return Ok(Renewal::NotDue);
        }
        let next = self.source.next(now)?;
        *self.current.0.write() = next;
        Ok(Renewal::Renewed)
    }
}

/// What [`Tls::renew_if_due`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// New connections get a new certificate.
    Renewed,
    /// The one in use is good for longer.
    NotDue,
}

impl Source {
    fn next(&self, now: SystemTime) -> Result<InUse, TlsError> {
        let (chain, key, not_after, changed) = match self {
            Self::Issued { authority, names, lifetime } => {
                let issued = authority.issue(names, *lifetime, now)?;
                (issued.chain, issued.key, issued.not_after, None)
            }
            Self::Files { certificate, key } => {
                let changed = last_change(certificate);
                let bad = |path: &Path, problem: String| TlsError::File { path: path.to_owned(), problem };
                let chain = CertificateDer::pem_file_iter(certificate)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|e| bad(certificate, e.to_string()))?;
                let leaf =
                    chain.first().ok_or_else(|| bad(certificate, "holds no certificate".to_owned()))?;
                let not_after =
                    expiry(leaf).ok_or_else(|| bad(certificate, "not an X.509 certificate".to_owned()))?;
                let pair = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, e.to_string()))?;
                (chain, pair, not_after, changed)
            }
        };
        let certified = CertifiedKey::from_der(chain, key, &provider::default_provider())?;
        Ok(InUse { key: Arc::new(certified), not_after, changed })
    }
}

fn server_config(resolver: Arc<Current>) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(provider::default_provider());
    let verifier = AnyClientCertificate::new(&provider);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    // Tickets carry the whole session, so nothing is remembered per client; one is enough for a
    // device that has one connection.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn read(path: &Path) -> Result<String, TlsError> {
    std::fs::read_to_string(path)
        .map_err(|e: io::Error| TlsError::File { path: path.to_owned(), problem: e.to_string() })
}

fn last_change(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

fn expiry(leaf: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let secs = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(secs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn config(set: &[(&str, &str)]) -> Config {
        let mut settings = Settings::new();
        for (name, value) in set {
            settings.set(name, *value).unwrap();
        }
        Config::from_settings(&settings).unwrap()
    }

    #[test]
    fn an_issued_certificate_is_renewed_when_a_third_is_left() {
        let now = SystemTime::now();
        let tls = Tls::open(&config(&[("ephemeral", "true"), ("certificate-lifetime", "90d")]), now).unwrap();
        let first = tls.not_after();
        assert_eq!(tls.renew_if_due(now + 59 * DAY).unwrap(), Renewal::NotDue);
        assert_eq!(tls.not_after(), first);
        assert_eq!(tls.renew_if_due(now + 60 * DAY).unwrap(), Renewal::Renewed);
        assert_eq!(tls.not_after(), first + 60 * DAY);
    }

    #[test]
    fn given_files_are_taken_up_when_they_change_and_kept_when_they_break() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        let write = |days: u32, changed: SystemTime| {
            let pair = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_after = time::OffsetDateTime::from(now + days * DAY);
            std::fs::write(&certificate, params.self_signed(&pair).unwrap().pem()).unwrap();
            std::fs::write(&key, pair.serialize_pem()).unwrap();
            std::fs::File::open(&certificate).unwrap().set_modified(changed).unwrap();
        };
        write(1, now);
        let (c, k) = (certificate.to_str().unwrap(), key.to_str().unwrap());
        let tls =
            Tls::open(&config(&[("ephemeral", "true"), ("certificate", c), ("certificate-key", k)]), now)
                .unwrap();
        assert_eq!(tls.ca_pem(), None);
        assert_eq!(tls.renew_if_due(now).unwrap(), Renewal::NotDue);
        let first = tls.not_after();
        write(9, now + DAY);
        assert_eq!(tls.renew_if_due(now).unwrap(), Renewal::Renewed);
        let second = tls.not_after();
        assert_eq!(second, first + 8 * DAY);
        std::fs::write(&certificate, "broken").unwrap();
        assert!(tls.renew_if_due(now).is_err());
        assert_eq!(tls.not_after(), second);
    }
}
