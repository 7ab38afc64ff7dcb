//! Whom the client believes to be the hub: the certificate authorities of the operating system, of the environment,
//! and of the program, each added to the others.
//!
//! Must not know: where the hub is.
//!
//! Invariant: a source that was named on purpose and cannot be used is an error, never silently left out.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;
use rustls::RootCertStore;

use crate::error::Error;

/// Names a PEM file of authorities to trust besides all others: one variable makes unchanged programs work against a
/// hub with its own authority.
pub(crate) const CA_FILE: &str = "OSTLER_CA_FILE";

/// OpenSSL's variable. There it replaces what the system trusts; here it adds to it, as all of a program's connections
/// read it and only one of them may be to the hub.
const OPENSSL_FILE: &str = "SSL_CERT_FILE";

/// Where Unix systems keep all their authorities in one file; asked for when the variables above hide them.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The authorities that `pems` and the environment name, and with `system` those of the operating system too.
pub(crate) fn roots(pems: &[Vec<u8>], system: bool) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for pem in pems {
        add_pem(&mut roots, pem, "the CA file")?;
    }
    add_environment(&mut roots, |name| env::var_os(name))?;
    if system {
        // Single unreadable certificates are common and harmless; a handshake will say if one was needed.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if is_set(OPENSSL_FILE) || is_set("SSL_CERT_DIR") {
            add_hidden_system(&mut roots);
        }
    }
    Ok(roots)
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

fn add_environment(
    roots: &mut RootCertStore,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<(), Error> {
    for name in [CA_FILE, OPENSSL_FILE] {
        let Some(path) = variable(name).filter(|path| !path.is_empty()) else { continue };
        let source = format!("{name} ({})", Path::new(&path).display());
        let pem = fs::read(&path)
            .map_err(|error| Error::Setup(format!("{source}: {error}; unset it, or name a PEM file")))?;
        if name == CA_FILE {
            add_pem(roots, &pem, &source)?;
        } else {
            // A system's own bundle may well hold a certificate that is of no use here.
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
        }
    }
    Ok(())
}

/// What the system trusts by itself, which those variables make its own functions leave out.
fn add_hidden_system(roots: &mut RootCertStore) {
    let bundle = SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.is_file());
    let found = rustls_native_certs::load_certs_from_paths(bundle, None);
    roots.add_parsable_certificates(found.certs);
}

fn add_pem(roots: &mut RootCertStore, pem: &[u8], source: &str) -> Result<(), Error> {
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|error| Error::Setup(format!("{source} is not PEM: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| Error::Setup(format!("{source} holds no usable CA: {error}")))?;
    }
    if roots.len() == before {
        return Err(Error::Setup(format!("{source} holds no certificate")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(path: &Path) -> String {
        let variable = |name: &str| (name == CA_FILE).then(|| path.as_os_str().to_owned());
        let mut roots = RootCertStore::empty();
        match add_environment(&mut roots, variable) {
            Err(Error::Setup(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_that_was_named_must_be_usable() {
        let missing = refused(Path::new("/nowhere/ca.pem"));
        assert!(missing.starts_with("OSTLER_CA_FILE (/nowhere/ca.pem): "), "{missing}");
        let no_certificate = refused(Path::new("/dev/null"));
        assert_eq!(no_certificate, "OSTLER_CA_FILE (/dev/null) holds no certificate");
    }

    #[test]
    fn an_unset_or_empty_variable_adds_nothing() {
        for value in [None, Some(OsString::new())] {
            let mut roots = RootCertStore::empty();
            add_environment(&mut roots, |_| value.clone()).unwrap();
            assert!(roots.is_empty());
        }
    }
}
