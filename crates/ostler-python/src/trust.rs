//! What is wrong with the certificate authorities that the environment adds; both SDKs read the variable themselves.
//!
//! Constructors of the retired packages never failed for such a reason, and the failed handshake that follows says
//! nothing of it, so the Python side asks here and warns.
//!
//! Must not know: TLS.

use std::path::Path;

use pyo3::prelude::*;

/// Names a PEM file to trust besides what the system trusts (revival §7).
const CA_FILE: &str = "OSTLER_CA_FILE";

/// Why the file of [`CA_FILE`] is of no use, if that is so.
#[pyfunction]
pub(crate) fn trust_problem() -> Option<String> {
    let path = std::env::var_os(CA_FILE).filter(|path| !path.is_empty())?;
    let source = format!("{CA_FILE} ({})", Path::new(&path).display());
    match std::fs::read(&path) {
        Ok(pem) if contains(&pem, b"-----BEGIN CERTIFICATE-----") => None,
        Ok(_) => Some(format!("{source} holds no certificate in PEM form; no hub will be trusted")),
        Err(error) => Some(format!("{source}: {error}; no hub will be trusted")),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
