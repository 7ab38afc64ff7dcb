//! What can be checked by talking to a hub: ports, certificates, its clock, the caller's credentials.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ostler_service_sdk::{ErrorKind, RetryPolicy, Severity};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;

use super::Check;
use crate::command::ca::Certificate;
use crate::exit::{with_root_cause, Failure};
use crate::hub::Target;
use crate::when;

const TIMEOUT: Duration = Duration::from_secs(5);
/// A token made here is refused when the clocks differ by its lifetime; devices trip much earlier (device §1.4).
const SKEW_WARNING: SignedDuration = SignedDuration::from_secs(30);
const SKEW_ERROR: SignedDuration = SignedDuration::from_secs(300);
/// A certificate that expires sooner was not renewed when it should have been.
const EXPIRY_WARNING: SignedDuration = SignedDuration::from_hours(7 * 24);

pub async fn all(target: &Target) -> Vec<Check> {
    let (host, https_port) = target.https();
    let mut checks = door("https", target, &host, https_port).await;
    if let Target::Local { hub, .. } = target {
        checks.extend(door("mqtt", target, &host, hub.mqtt_port).await);
    } else {
        // What Azure's SDKs dial (device §2.1); a hub far away may well have another one for its own devices.
        checks.extend(door("mqtt", target, &host, 8883).await.into_iter().map(
            |check| match check.severity {
                Severity::Error => Check { severity: Severity::Warning, ..check },
                _ => check,
            },
        ));
    }
    checks.extend(service(target).await);
    checks
}

/// A TLS port: does it answer, and would a client trust it?
async fn door(name: &'static str, target: &Target, host: &str, port: u16) -> Vec<Check> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = match tokio::time::timeout(TIMEOUT, TcpStream::connect((bare, port))).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => {
            return vec![Check::error(name, format!("{host}:{port}: {error}"))
                .advise("Is the hub running, and is a firewall in between?")]
        }
        Err(_) => {
            return vec![Check::error(
                name,
                format!("{host}:{port}: no answer within {} s", TIMEOUT.as_secs()),
            )
            .advise("A firewall seems to swallow the packets")]
        }
    };
    let shown = handshake(tcp, bare, target).await;
    match shown {
        Err(message) => vec![Check::error(name, format!("{host}:{port}: {message}"))],
        Ok(Shown { verdict: Err(message), .. }) => {
            vec![Check::error(
                name,
                format!("{host}:{port} answers, but its certificate is refused: {message}"),
            )
            .advise("Pass the hub's CA with --ca FILE, and use a name the certificate carries")]
        }
        Ok(Shown { verdict: Ok(()), leaf }) => {
            vec![Check::ok(name, format!("{host}:{port} answers and is trusted")), expiry(name, leaf)]
        }
    }
}

/// What a server showed, and whether it is to be trusted.
struct Shown {
    leaf: Option<Certificate>,
    verdict: Result<(), String>,
}

async fn handshake(tcp: TcpStream, host: &str, target: &Target) -> Result<Shown, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let seen = Arc::new(Onlooker { provider: provider.clone(), chain: Mutex::default() });
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connect = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name.clone(), tcp);
    match tokio::time::timeout(TIMEOUT, connect).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(format!("no TLS: {error}")),
        Err(_) => return Err(format!("no TLS within {} s", TIMEOUT.as_secs())),
    }
    let chain = std::mem::take(&mut *seen.chain.lock().unwrap_or_else(PoisonError::into_inner));
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Err("it shows no certificate".to_owned());
    };
    let verdict = verify(leaf, intermediates, &name, target, provider);
    Ok(Shown { leaf: Certificate::from_der(leaf), verdict })
}

fn verify(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    target: &Target,
    provider: Arc<CryptoProvider>,
) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    match target.ca() {
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())? {
                let certificate = certificate.map_err(|error| error.to_string())?;
                roots.add(certificate).map_err(|error| error.to_string())?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| error.to_string())?;
    verifier
        .verify_server_cert(leaf, intermediates, name, &[], UnixTime::now())
        .map(drop)
        .map_err(|error| error.to_string())
}

fn expiry(name: &'static str, leaf: Option<Certificate>) -> Check {
    let title = if name == "mqtt" { "mqtt-cert" } else { "https-cert" };
    let Some(leaf) = leaf else { return Check::warning(title, "the certificate cannot be read") };
    let left = leaf.not_after.parse::<Timestamp>().map(|end| end.duration_since(Timestamp::now()));
    let message = format!("{}, valid until {}", leaf.subject, leaf.not_after);
    match left {
        Ok(left) if left < EXPIRY_WARNING => {
            Check::warning(title, format!("{message}, {} left", when::span(left)))
                .advise("Certificates the hub makes itself are renewed in time; your own are yours to renew")
        }
        _ => Check::ok(title, message),
    }
}

/// Sees which certificates a server shows and lets them pass; nothing but the handshake is sent on this connection.
#[derive(Debug)]
struct Onlooker {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(leaf).chain(intermediates).map(|c| c.clone().into_owned()).collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The REST door as a client meets it: credentials and clock.
async fn service(target: &Target) -> Vec<Check> {
    let client = match target.client(RetryPolicy::none()) {
        Ok(client) => client,
        Err(Failure::Told { message, .. }) => return vec![Check::error("rest", message)],
        Err(_) => return Vec::new(),
    };
    let probe = match client.probe().await {
        Ok(probe) => probe,
        Err(error) => return vec![Check::error("rest", with_root_cause(&error))],
    };
    let answer = match &probe.refusal {
        None => Check::ok("rest", format!("answered in {:.1} ms", probe.round_trip.as_secs_f64() * 1e3)),
        Some(error) if error.kind() == ErrorKind::Unauthorized => {
            Check::error("rest", format!("the connection string is refused: {error}")).advise(
                "Its policy or key may have been changed: `ostler policy connection-string` prints it anew",
            )
        }
        Some(error) => Check::warning("rest", error.to_string()),
    };
    let mut checks = vec![answer];
    checks.extend(probe.date.as_deref().and_then(|date| clock(date, Timestamp::now())));
    checks
}

/// Compares the hub's clock with this machine's. The header has whole seconds.
fn clock(date: &str, now: Timestamp) -> Option<Check> {
    let hub = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let skew = now.duration_since(hub);
    let message = match skew.as_secs() {
        -1..=1 => "as the hub's".to_owned(),
        ahead @ 2.. => format!("{ahead} s ahead of the hub's"),
        behind => format!("{} s behind the hub's", -behind),
    };
    let advice = "Set both by NTP: tokens and certificates depend on the time";
    Some(match skew.abs() {
        skew if skew >= SKEW_ERROR => Check::error("clock", message).advise(advice),
        skew if skew >= SKEW_WARNING => Check::warning("clock", message).advise(advice),
        _ => Check::ok("clock", message),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_with_a_tolerance() {
        let check = |now: &str| {
            let check = clock("Fri, 01 May 2026 10:00:00 GMT", now.parse().unwrap()).unwrap();
            (check.severity, check.message)
        };
        assert_eq!(check("2026-05-01T10:00:00.9Z"), (Severity::Ok, "as the hub's".into()));
        assert_eq!(check("2026-05-01T10:00:20Z"), (Severity::Ok, "20 s ahead of the hub's".into()));
        assert_eq!(check("2026-05-01T09:59:00Z"), (Severity::Warning, "60 s behind the hub's".into()));
        assert_eq!(check("2026-05-01T10:10:00Z").0, Severity::Error);
        assert_eq!(clock("yesterday", Timestamp::now()), None);
    }
}
