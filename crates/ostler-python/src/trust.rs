//! Which certificate authorities the environment adds to those of the system (revival §7).
//!
//! Must not know: TLS.
//!
//! Invariant: variables only ever add trust: with `SSL_CERT_FILE` set, the system's authorities still count.

use std::path::Path;

use pyo3::prelude::*;

/// Names a PEM file to trust besides the system's.
const CA_FILE: &str = "OSTLER_CA_FILE";

/// Understood by the loader of system authorities as "these and no others".
const REPLACING: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Where distributions keep all their authorities in one file.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

/// PEM texts to trust, for `root_ca_pem` of either SDK, and what could not be read, for people.
#[derive(Debug, Default)]
pub(crate) struct ExtraTrust {
    /// What [`CA_FILE`] names.
    pub asked_for: Option<Vec<u8>>,
    /// The system's own bundle, when a variable hides it from the loader.
    pub hidden: Option<Vec<u8>>,
    /// Why [`CA_FILE`] has no effect.
    pub problem: Option<String>,
}

impl ExtraTrust {
    /// Reads the variables and the files they name; called for each new client, because programs set variables late.
    pub(crate) fn from_environment() -> Self {
        let mut trust = Self::default();
        if let Some(path) = std::env::var_os(CA_FILE).filter(|path| !path.is_empty()) {
            match std::fs::read(&path) {
                Ok(pem) if contains(&pem, b"-----BEGIN CERTIFICATE-----") => trust.asked_for = Some(pem),
                Ok(_) => {
                    trust.problem =
                        Some(format!("{CA_FILE}={}: holds no certificate in PEM form", show(&path)))
                }
                Err(error) => trust.problem = Some(format!("{CA_FILE}={}: {error}", show(&path))),
            }
        }
        if REPLACING.iter().any(|name| std::env::var_os(name).is_some()) {
            trust.hidden = BUNDLES.iter().find_map(|path| std::fs::read(path).ok());
        }
        trust
    }
}

fn show(path: &std::ffi::OsStr) -> std::path::Display<'_> {
    Path::new(path).display()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// What [`ExtraTrust`] found wrong, if anything; the Python side warns of it.
#[pyfunction]
pub(crate) fn trust_problem() -> Option<String> {
    ExtraTrust::from_environment().problem
}
