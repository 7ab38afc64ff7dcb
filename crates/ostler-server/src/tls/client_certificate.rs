//! Certificates that clients present: let through the handshake, judged at sign-in.
//!
//! The handshake proves possession of the private key and nothing else; which certificate belongs
//! to which device is the hub's decision (device §1.5). X.509 version 1 certificates and
//! self-signed ones are welcome there, so webpki's certificate rules must not be asked here.
//!
//! Invariant: a chain is only ever handed on after its leaf's key signed this handshake.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, SignatureScheme,
};

/// Longest chain that is looked at; the rest is ignored.
const MAX_CHAIN: usize = 8;

/// Requests a client certificate, never requires one, and accepts any whose key is proven.
#[derive(Debug)]
pub struct AnyClientCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyClientCertificate {
    /// With the signature algorithms of this provider.
    pub fn new(provider: &CryptoProvider) -> Arc<Self> {
        Arc::new(Self { algorithms: provider.signature_verification_algorithms })
    }

    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| bad())?;
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        let key = webpki::RawPublicKeyEntity::try_from(&key).map_err(|_| bad())?;
        let algorithms = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let (_, algorithms) = algorithms.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        // TLS 1.2 names a signature scheme without a curve, so several algorithms may fit it.
        for algorithm in *algorithms {
            match key.verify_signature(*algorithm, message, signed.signature()) {
                Ok(()) => return Ok(HandshakeSignatureValid::assertion()),
                Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
                Err(_) => break,
            }
        }
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }
}

impl ClientCertVerifier for AnyClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // RFC 8446 §4.2.3: these schemes sign certificates there, never a handshake.
        let legacy = [
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
        ];
        if legacy.contains(&signed.scheme) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        self.verify(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The chain a client presented, its leaf's key proven by the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientChain(Box<[CertificateDer<'static>]>);

/// What sign-in needs to know of a leaf certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// SHA-1 of the DER form.
    pub sha1: [u8; 20],
    /// SHA-256 of the DER form.
    pub sha256: [u8; 32],
    /// Common name of the subject, if it has exactly one.
    pub common_name: Option<String>,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
}

/// Why a presented chain is not trusted. The texts are for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The leaf cannot be read.
    #[error("the certificate is not valid X.509")]
    Malformed,
    /// Nobody registered a CA.
    #[error("no certificate authority is registered in this hub")]
    NoAuthorities,
    /// The chain ends at none of the registered CAs.
    #[error("the chain does not lead to a certificate authority registered in this hub")]
    UnknownIssuer,
    /// webpki refuses the chain for another reason.
    #[error("the chain is not valid: {0}")]
    Invalid(String),
}

impl ClientChain {
    /// Takes what the handshake delivered; `None` if the client presented nothing.
    pub fn from_handshake(chain: Option<&[CertificateDer<'_>]>) -> Option<Self> {
        let chain: Box<[_]> = chain?.iter().take(MAX_CHAIN).map(|c| c.clone().into_owned()).collect();
        (!chain.is_empty()).then_some(Self(chain))
    }

    /// Reads the leaf.
    ///
    /// # Errors
    /// [`ChainError::Malformed`] if it is not X.509.
    pub fn leaf(&self) -> Result<Leaf, ChainError> {
        let der = &self.0[0];
        let (_, parsed) = x509_parser::parse_x509_certificate(der).map_err(|_| ChainError::Malformed)?;
        let mut names = parsed.subject().iter_common_name();
        let common_name = match (names.next(), names.next()) {
            (Some(name), None) => name.as_str().ok().map(str::to_owned),
            _ => None,
        };
        let digest = |algorithm| ring::digest::digest(algorithm, der);
        let time = |t: &x509_parser::time::ASN1Time| match u64::try_from(t.timestamp()) {
            Ok(secs) => SystemTime::UNIX_EPOCH + Duration::from_secs(secs),
            Err(_) => SystemTime::UNIX_EPOCH,
        };
        let mut leaf = Leaf {
            sha1: [0; 20],
            sha256: [0; 32],
            common_name,
            not_before: time(&parsed.validity().not_before),
            not_after: time(&parsed.validity().not_after),
        };
        leaf.sha1.copy_from_slice(digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY).as_ref());
        leaf.sha256.copy_from_slice(digest(&ring::digest::SHA256).as_ref());
        Ok(leaf)
    }

    /// Verifies the chain against registered CA certificates (DER), at this time.
    ///
    /// # Errors
    /// Says why the chain is not trusted.
    pub fn verify<'a>(
        &self,
        authorities: impl IntoIterator<Item = &'a [u8]>,
        now: SystemTime,
    ) -> Result<(), ChainError> {
        let authorities: Vec<CertificateDer<'_>> =
            authorities.into_iter().map(CertificateDer::from).collect();
        // A CA certificate webpki cannot read was refused when it was registered.
        let anchors: Vec<_> =
            authorities.iter().filter_map(|der| webpki::anchor_from_trusted_cert(der).ok()).collect();
        if anchors.is_empty() {
            return Err(ChainError::NoAuthorities);
        }
        let leaf = webpki::EndEntityCert::try_from(&self.0[0]).map_err(|e| match e {
            webpki::Error::UnsupportedCertVersion => {
                ChainError::Invalid("X.509 version 3 is needed for a chain of trust".to_owned())
            }
            _ => ChainError::Malformed,
        })?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &self.0[1..],
            UnixTime::since_unix_epoch(since),
            webpki::KeyUsage::client_auth(),
            None,
            None,
        )
        .map(|_| ())
        .map_err(|e| match e {
            webpki::Error::UnknownIssuer => ChainError::UnknownIssuer,
            other => ChainError::Invalid(other.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    fn params(common_name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params
    }

    fn ca(name: &str) -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().clone(), Issuer::new(params, key))
    }

    #[test]
    fn a_chain_is_judged_against_the_registered_authorities() {
        let (root, issuer) = ca("root");
        let (other, _) = ca("other");
        let leaf = params("pump-7").signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        let chain = ClientChain::from_handshake(Some(&[leaf.der().clone()])).unwrap();
        let now = SystemTime::now();
        assert_eq!(chain.verify([root.as_ref()], now), Ok(()));
        assert_eq!(chain.verify([other.as_ref(), root.as_ref()], now), Ok(()));
        assert_eq!(chain.verify([other.as_ref()], now), Err(ChainError::UnknownIssuer));
        assert_eq!(chain.verify([], now), Err(ChainError::NoAuthorities));
    }

    #[test]
    fn an_intermediate_is_used_and_expiry_counts() {
        let (root, root_issuer) = ca("root");
        let mut middle = params("middle");
        middle.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let middle_key = KeyPair::generate().unwrap();
        let middle_certificate = middle.signed_by(&middle_key, &root_issuer).unwrap();
        let mut leaf = params("pump-7");
        leaf.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(middle, middle_key)).unwrap();
        let whole =
            ClientChain::from_handshake(Some(&[leaf.der().clone(), middle_certificate.der().clone()]))
                .unwrap();
        let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        assert_eq!(whole.verify([root.as_ref()], at(1_800_000_000)), Ok(()));
        let late = whole.verify([root.as_ref()], at(2_000_000_000)).unwrap_err();
        assert!(late.to_string().contains("xpired"), "{late}");
        let short = ClientChain::from_handshake(Some(&[leaf.der().clone()])).unwrap();
        assert_eq!(short.verify([root.as_ref()], at(1_800_000_000)), Err(ChainError::UnknownIssuer));
    }

    #[test]
    fn a_leaf_is_described() {
        let key = KeyPair::generate().unwrap();
        let leaf = params("pump-7/valve").self_signed(&key).unwrap();
        let chain = ClientChain::from_handshake(Some(&[leaf.der().clone()])).unwrap();
        let described = chain.leaf().unwrap();
        assert_eq!(described.common_name.as_deref(), Some("pump-7/valve"));
        assert_eq!(
            described.sha256.as_slice(),
            ring::digest::digest(&ring::digest::SHA256, leaf.der()).as_ref()
        );
        assert!(described.not_before < described.not_after);
        let junk = ClientChain::from_handshake(Some(&[CertificateDer::from(vec![0x30, 0x03, 1])])).unwrap();
        assert_eq!(junk.leaf(), Err(ChainError::Malformed));
    }
}
