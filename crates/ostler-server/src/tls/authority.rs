//! The private CA and the server certificates it issues.
//!
//! It must not know rustls or listeners; it turns names and lifetimes into certificates. The time
//! is an argument.
//!
//! Invariant: a CA key on disk is readable by its owner alone.
//! Invariant: an existing CA is never replaced; devices trust it.
//! Invariant: server keys exist in memory only. Each start issues its own certificate.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use crate::files::{sync_folder, write_atomically, Lasting, Readable};

/// Name of the CA certificate in the data folder.
pub const CA_FILE: &str = "ca.pem";
/// Name of the CA's private key in the data folder.
pub const CA_KEY_FILE: &str = "ca.key";

/// Devices are set up once and stay for years; the CA must outlive them.
const CA_LIFETIME: Duration = Duration::from_secs(25 * 365 * 24 * 3600);
/// Certificates begin this long before they are made, for devices whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// The CA could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The certificate is there and its key is not. A new CA would lock out every device that
    /// trusts the old one, so none is made.
    #[error("{} is there but {} is missing; restore it, or remove both to make a new CA that every client must be told to trust", certificate.display(), key.display())]
    KeyMissing {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The files do not hold a CA this server can use.
    #[error("{}: {problem}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate could not be made.
    #[error("certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// The system gives no randomness.
    #[error("the system's random number generator failed")]
    Randomness,
}

/// A CA that can issue server certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A server certificate with its key.
pub struct Issued {
    /// Leaf, then the CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivateKeyDer<'static>,
    /// When the leaf expires.
    pub not_after: SystemTime,
}

impl Authority {
    /// A new CA, named after the hub.
    ///
    /// # Errors
    /// Only if the system gives no randomness.
    pub fn generate(hostname: &str, now: SystemTime) -> Result<Self, AuthorityError> {
        let (key, _, pem) = new_ca(hostname, now)?;
        Self::from_pem(&pem, key, Path::new(CA_FILE))
    }

    /// The CA of a data folder, made there on first start.
    ///
    /// # Errors
    /// Unreadable or unwritable files, a key that does not belong to the certificate.
    pub fn open(folder: &Path, hostname: &str, now: SystemTime) -> Result<Self, AuthorityError> {
        let (certificate, key) = (folder.join(CA_FILE), folder.join(CA_KEY_FILE));
        if certificate.exists() {
            if !key.exists() {
                return Err(AuthorityError::KeyMissing { certificate, key });
            }
            return Self::load(&certificate, &key);
        }
        let (pair, key_pem, pem) = new_ca(hostname, now)?;
        // Key first: a certificate without its key would stop the next start.
        for (path, text, readable) in [(&key, &key_pem, Readable::Owner), (&certificate, &pem, Readable::All)]
        {
            write_atomically(path, text.as_bytes(), readable, Lasting::Durable)
                .map_err(|source| AuthorityError::File { path: path.clone(), source })?;
        }
        sync_folder(folder).map_err(|source| AuthorityError::File { path: folder.to_owned(), source })?;
        Self::from_pem(&pem, pair, &certificate)
    }

    /// A CA from its certificate and key files.
    ///
    /// # Errors
    /// Unreadable files, no PEM, a key that does not belong to the certificate.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| AuthorityError::File { path: path.to_owned(), source })
        };
        let pair = KeyPair::from_pem(&read(key)?).map_err(|e| AuthorityError::Unusable {
            path: key.to_owned(),
            problem: format!("not a private key this server can use: {e}"),
        })?;
        Self::from_pem(&read(certificate)?, pair, certificate)
    }

    fn from_pem(pem: &str, key: KeyPair, path: &Path) -> Result<Self, AuthorityError> {
        let unusable =
            |problem: &str| AuthorityError::Unusable { path: path.to_owned(), problem: problem.to_owned() };
        let (_, parsed) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
            .map_err(|_| unusable("not a PEM certificate"))?;
        let certificate = parsed.parse_x509().map_err(|_| unusable("not an X.509 certificate"))?;
        if !certificate.is_ca() {
            return Err(unusable("not a CA certificate (basicConstraints CA:TRUE is missing)"));
        }
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(unusable("its key does not belong to it"));
        }
        let issuer = Issuer::from_ca_cert_der(&parsed.contents.as_slice().into(), key)?;
        Ok(Self { issuer, pem: pem.to_owned() })
    }

    /// The CA certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a server certificate for these names and addresses. A name that cannot stand in a
    /// certificate is left out, except the first.
    ///
    /// # Errors
    /// The first name cannot stand in a certificate, or the system gives no randomness.
    pub fn issue(
        &self,
        names: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Issued, AuthorityError> {
        let mut subject_alt_names = Vec::new();
        for (i, name) in names.iter().enumerate() {
            match CertificateParams::new([name.clone()]) {
                Ok(params) => subject_alt_names.extend(params.subject_alt_names),
                Err(e) if i == 0 => return Err(e.into()),
                Err(_) => {}
            }
        }
        let mut params = CertificateParams::default();
        params.subject_alt_names = subject_alt_names;
        params.distinguished_name = rcgen::DistinguishedName::new();
        // X.520 bounds a common name at 64 characters; clients look at the alternative names.
        let common_name: String = names.first().map_or("ostler", String::as_str).chars().take(64).collect();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.not_before = OffsetDateTime::from(now - BACKDATED);
        params.not_after = OffsetDateTime::from(now + lifetime);
        params.serial_number = Some(random_serial()?);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let ca = pem_der(&self.pem);
        Ok(Issued {
            chain: std::iter::once(leaf.der().clone()).chain(ca).collect(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            not_after: now + lifetime,
        })
    }
}

/// The names a server certificate carries: what the user named, the machine, the loopback.
pub fn certificate_names<'a>(given: impl Iterator<Item = &'a str>, bind: Option<IpAddr>) -> Vec<String> {
    let machine = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let mut names: Vec<String> = Vec::new();
    let more = ["localhost".to_owned(), machine, "127.0.0.1".to_owned(), "::1".to_owned()];
    let bind = bind.filter(|address| !address.is_unspecified()).map(|address| address.to_string());
    for name in given.map(str::to_owned).chain(more).chain(bind) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn new_ca(hostname: &str, now: SystemTime) -> Result<(KeyPair, String, String), AuthorityError> {
    let mut params = CertificateParams::default();
    let serial = random_serial()?;
    // Trust stores look CAs up by name: two hubs of one host name must not share it.
    let mark: String = serial.to_bytes().iter().take(4).map(|b| format!("{b:02x}")).collect();
    let host: String = hostname.chars().take(40).collect();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Ostler CA {host} {mark}"));
    params.not_before = OffsetDateTime::from(now - BACKDATED);
    params.not_after = OffsetDateTime::from(now + CA_LIFETIME);
    params.serial_number = Some(serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    let key_pem = key.serialize_pem();
    Ok((key, key_pem, pem))
}

fn random_serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AuthorityError::Randomness)?;
    // Positive and without leading zeros, as RFC 5280 §4.1.2.2 wants it.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn pem_der(pem: &str) -> Option<CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    /// Verifies as a client that trusts the CA would.
    fn verify(ca_pem: &str, issued: &Issued, name: &str, at: SystemTime) -> Result<(), String> {
        let ca = pem_der(ca_pem).unwrap();
        let anchor = webpki::anchor_from_trusted_cert(&ca).unwrap();
        let leaf = webpki::EndEntityCert::try_from(&issued.chain[0]).map_err(|e| e.to_string())?;
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &[anchor],
            &[],
            rustls::pki_types::UnixTime::since_unix_epoch(since),
            webpki::KeyUsage::server_auth(),
            None,
            None,
        )
        .map_err(|e| e.to_string())?;
        let name = rustls::pki_types::ServerName::try_from(name).map_err(|e| e.to_string())?;
        leaf.verify_is_valid_for_subject_name(&name).map_err(|e| e.to_string())
    }

    #[test]
    fn issues_what_a_client_accepts() {
        let now = SystemTime::now();
        let ca = Authority::generate("hub.example.net", now).unwrap();
        let issued = ca.issue(&names(&["hub.example.net", "127.0.0.1", "bad name"]), DAY, now).unwrap();
        verify(ca.pem(), &issued, "hub.example.net", now).unwrap();
        verify(ca.pem(), &issued, "127.0.0.1", now).unwrap();
        assert!(verify(ca.pem(), &issued, "other.example.net", now).is_err());
        assert!(verify(ca.pem(), &issued, "hub.example.net", now + 2 * DAY).is_err());
    }

    #[test]
    fn a_folder_keeps_its_ca_and_its_secret() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let first = Authority::open(folder.path(), "localhost", now).unwrap();
        let second = Authority::open(folder.path(), "localhost", now + DAY).unwrap();
        assert_eq!(first.pem(), second.pem());
        let issued = second.issue(&names(&["localhost"]), DAY, now).unwrap();
        verify(first.pem(), &issued, "localhost", now).unwrap();
        let mode = fs::metadata(folder.path().join(CA_KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_folder_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        Authority::open(folder.path(), "localhost", now).unwrap();
        let open = || Authority::open(folder.path(), "localhost", now).map(|_| ()).unwrap_err().to_string();
        fs::write(folder.path().join(CA_KEY_FILE), KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert!(open().contains("does not belong"), "{}", open());
        fs::remove_file(folder.path().join(CA_KEY_FILE)).unwrap();
        assert!(open().contains("is missing"), "{}", open());
        fs::write(folder.path().join(CA_KEY_FILE), "x").unwrap();
        assert!(open().contains("not a private key"), "{}", open());
    }

    #[test]
    fn names_are_gathered_once() {
        let names = certificate_names(["localhost", "a.b"].into_iter(), Some(IpAddr::from([192, 0, 2, 1])));
        assert_eq!(names.iter().filter(|n| *n == "localhost").count(), 1);
        assert_eq!(names[0], "localhost");
        for name in ["a.b", "127.0.0.1", "::1", "192.0.2.1"] {
            assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
        }
    }
}
