//! Whom clients trust, and the certificate they show: one `rustls::ClientConfig` for all clients of the process that
//! agree on both (device §1.5, §1.6).
//!
//! Trust adds up: the system's authorities (unless switched off), those of `SSL_CERT_FILE`, those of `OSTLER_CA_FILE`,
//! and those given in the program.
//!
//! Must not know: sockets, MQTT.
//!
//! Invariant: two clients share a configuration, and with it the memory for TLS sessions, only if they trust the same
//! authorities and show the same certificate.
//! Invariant: at most [`KEPT`] configurations outlive the clients that use them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ring::digest::{Context, SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use crate::error::SetupError;

/// Further authorities, for clients of a hub with one of its own.
const OSTLER_CA_FILE: &str = "OSTLER_CA_FILE";
const SSL_CERT_FILE: &str = "SSL_CERT_FILE";
/// Kept alive without clients, so that a program that opens one client after another reads the authorities once.
const KEPT: usize = 4;
/// Larger files are no list of authorities.
const MAX_PEM_BYTES: u64 = 8 << 20;

/// Where authorities come from.
#[derive(Clone, Default)]
pub(crate) struct Trust {
    pub pems: Vec<Vec<u8>>,
    pub without_system: bool,
}

/// A certificate chain and its key.
pub(crate) struct Identity {
    certified: Arc<CertifiedKey>,
    digest: [u8; 32],
}

impl Identity {
    /// Reads both from PEM. The key may be PKCS#8, PKCS#1 or SEC1.
    pub(crate) fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, SetupError> {
        let bad = |what: &str, error: &dyn fmt::Display| SetupError::Certificate(format!("{what}: {error}"));
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| bad("the certificate is not PEM", &error))?;
        if certificates.is_empty() {
            return Err(SetupError::Certificate("there is no certificate in the PEM text".to_owned()));
        }
        let private = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| bad("there is no private key in the PEM text", &error))?;
        let signer = rustls::crypto::ring::sign::any_supported_type(&private)
            .map_err(|error| bad("the private key cannot be used", &error))?;
        let certified = CertifiedKey::new(certificates, signer);
        // A certificate of X.509 version 1 cannot be looked into here, and hubs take it.
        if let Err(error @ rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) =
            certified.keys_match()
        {
            return Err(bad("the private key is not that of the first certificate", &error));
        }
        let mut hash = Context::new(&SHA256);
        for certificate in &certified.cert {
            hash.update(certificate);
        }
        hash.update(key);
        Ok(Self { certified: Arc::new(certified), digest: digest(hash) })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.certified.cert.len())
    }
}

/// What a configuration was made of.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    trust: [u8; 32],
    identity: Option<[u8; 32]>,
}

struct Cache {
    known: Vec<(Key, Weak<ClientConfig>)>,
    /// The latest ones without a certificate; those with one belong to one device each.
    kept: Vec<Arc<ClientConfig>>,
}

static CACHE: Mutex<Cache> = Mutex::new(Cache { known: Vec::new(), kept: Vec::new() });

/// The configuration for this trust and certificate, from the cache if possible.
pub(crate) fn client_config(
    trust: &Trust,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, SetupError> {
    let files: Vec<PathBuf> = [SSL_CERT_FILE, OSTLER_CA_FILE].into_iter().filter_map(environment).collect();
    let key = Key { trust: fingerprint(trust, &files), identity: identity.map(|identity| identity.digest) };
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(config) =
        cache.known.iter().find(|(known, _)| *known == key).and_then(|(_, config)| config.upgrade())
    {
        return Ok(config);
    }
    let config = Arc::new(make(trust, &files, identity)?);
    cache.known.retain(|(_, config)| config.strong_count() > 0);
    if identity.is_none() {
        if cache.kept.len() == KEPT {
            cache.kept.remove(0);
        }
        cache.kept.push(config.clone());
    }
    cache.known.push((key, Arc::downgrade(&config)));
    Ok(config)
}

fn environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A file counts by its name, length and time of change, so that a renewed CA file is read anew.
fn fingerprint(trust: &Trust, files: &[PathBuf]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(&[u8::from(trust.without_system)]);
    for pem in &trust.pems {
        hash.update(&(pem.len() as u64).to_be_bytes());
        hash.update(pem);
    }
    for file in files {
        hash.update(file.as_os_str().as_encoded_bytes());
        if let Ok(meta) = std::fs::metadata(file) {
            hash.update(format!("{:?} {}", meta.modified().ok(), meta.len()).as_bytes());
        }
    }
    digest(hash)
}

fn digest(hash: Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}

fn make(trust: &Trust, files: &[PathBuf], identity: Option<&Identity>) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore::empty();
    if !trust.without_system {
        add_system(&mut roots);
    }
    for file in files {
        let pem = read(file)?;
        add(&mut roots, &pem, &file.display().to_string())?;
    }
    for pem in &trust.pems {
        add(&mut roots, pem, "root_ca_pem")?;
    }
    if roots.is_empty() {
        return Err(SetupError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SetupError::Certificate(error.to_string()))?
        .with_root_certificates(roots);
    Ok(match identity {
        None => builder.with_no_client_auth(),
        // Not by `with_client_auth_cert`, which refuses X.509 version 1.
        Some(identity) => {
            let resolver = SingleCertAndKey::from(identity.certified.clone());
            builder.with_client_cert_resolver(Arc::new(resolver))
        }
    })
}

fn read(file: &Path) -> Result<Vec<u8>, SetupError> {
    let failed = |why: String| SetupError::Roots { origin: file.display().to_string(), why };
    let meta = std::fs::metadata(file).map_err(|error| failed(error.to_string()))?;
    if meta.len() > MAX_PEM_BYTES {
        return Err(failed(format!("it has {} bytes, which is too much for certificates", meta.len())));
    }
    std::fs::read(file).map_err(|error| failed(error.to_string()))
}

/// Adds what can be used; nothing usable at all is an error.
fn add(roots: &mut RootCertStore, pem: &[u8], origin: &str) -> Result<(), SetupError> {
    let failed = |why: String| SetupError::Roots { origin: origin.to_owned(), why };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| failed(format!("it is not PEM: {error}")))?;
    let (added, ignored) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(failed(if ignored == 0 {
            "there is no certificate in it".to_owned()
        } else {
            "none of its certificates can be read".to_owned()
        }));
    }
    Ok(())
}

#[cfg(feature = "native-roots")]
fn add_system(roots: &mut RootCertStore) {
    let found = system_certificates();
    for error in &found.errors {
        tracing::debug!(%error, "a certificate of the system cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
}

/// The variables that the loader knows replace the system's list; here they add to it.
#[cfg(feature = "native-roots")]
fn system_certificates() -> rustls_native_certs::CertificateResult {
    let replaced = environment(SSL_CERT_FILE).is_some() || environment("SSL_CERT_DIR").is_some();
    let mut found = rustls_native_certs::load_native_certs();
    let bundle = BUNDLES.iter().map(Path::new).find(|bundle| bundle.exists());
    if let Some(bundle) = bundle.filter(|_| replaced) {
        let mut of_system = rustls_native_certs::load_certs_from_paths(Some(bundle), None);
        found.certs.append(&mut of_system.certs);
        found.errors.append(&mut of_system.errors);
    }
    found
}

/// Where Linux distributions and BSDs keep their authorities.
#[cfg(feature = "native-roots")]
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

#[cfg(not(feature = "native-roots"))]
fn add_system(_roots: &mut RootCertStore) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn trust(pem: &str) -> Trust {
        Trust { pems: vec![pem.as_bytes().to_vec()], without_system: true }
    }

    #[test]
    fn clients_that_agree_share_one_configuration() {
        let ((one, key), (other, _)) = (authority("a"), authority("b"));
        let first = client_config(&trust(&one), None).unwrap();
        assert!(Arc::ptr_eq(&first, &client_config(&trust(&one), None).unwrap()));
        assert!(!Arc::ptr_eq(&first, &client_config(&trust(&other), None).unwrap()));
        let identity = Identity::from_pem(one.as_bytes(), key.as_bytes()).unwrap();
        let with = client_config(&trust(&one), Some(&identity)).unwrap();
        assert!(!Arc::ptr_eq(&first, &with), "what one device resumes is not another's");
        let weak = Arc::downgrade(&with);
        drop(with);
        assert!(weak.upgrade().is_none(), "a device's certificate goes with it");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let (pem, key) = authority("a");
        let (_, other_key) = authority("b");
        let check = |result: Result<Identity, SetupError>, expected: &str| {
            let text = result.unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        };
        check(Identity::from_pem(b"", key.as_bytes()), "no certificate");
        check(Identity::from_pem(pem.as_bytes(), b""), "no private key");
        check(Identity::from_pem(pem.as_bytes(), other_key.as_bytes()), "not that of the first certificate");
        for bad in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let text = client_config(&trust(bad), None).unwrap_err().to_string();
            assert!(text.contains("root_ca_pem"), "{text}");
        }
    }
}
