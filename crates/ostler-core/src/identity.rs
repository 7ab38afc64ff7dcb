//! Identities: what a back end registers, and how it changes (service §5).
//!
//! Must not know: where keys come from (the caller brings random bytes), how an identity is printed.
//!
//! Invariant: a key has 16 to 64 bytes, a thumbprint 40 or 64 hex digits.

use crate::json::write_string;
use crate::limits::{KEY_BYTES, STATUS_REASON_CHARS};
use crate::time::Timestamp;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::DecodePaddingMode;
use base64::{alphabet, Engine};
use std::fmt;

/// Keys are written by people and old tools: missing padding and loose trailing bits are forgiven.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why an identity is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A key is not base64.
    #[error("a symmetric key is not valid base64")]
    KeyEncoding,
    /// A key has too few or too many bytes.
    #[error("a symmetric key has {0} bytes after base64 decoding, allowed are 16 to 64")]
    KeyLength(usize),
    /// A thumbprint is neither SHA-1 nor SHA-256.
    #[error("a thumbprint must be 40 or 64 hexadecimal digits")]
    Thumbprint,
    /// `selfSigned` without a thumbprint.
    #[error("authentication of type selfSigned needs at least one thumbprint")]
    NoThumbprint,
    /// A reason longer than allowed.
    #[error("statusReason has {0} characters, the limit is 128")]
    StatusReason(usize),
}

/// A device's or policy's secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SymmetricKey(Box<[u8]>);

impl SymmetricKey {
    /// From raw bytes.
    ///
    /// # Errors
    /// When there are fewer than 16 or more than 64 bytes.
    pub fn new(bytes: &[u8]) -> Result<SymmetricKey, IdentityError> {
        if !KEY_BYTES.contains(&bytes.len()) {
            return Err(IdentityError::KeyLength(bytes.len()));
        }
        Ok(SymmetricKey(bytes.into()))
    }

    /// From base64, with or without padding.
    ///
    /// # Errors
    /// When the text is not base64 or its length is not allowed.
    pub fn from_base64(text: &str) -> Result<SymmetricKey, IdentityError> {
        let bytes = LENIENT.decode(text.trim()).map_err(|_| IdentityError::KeyEncoding)?;
        SymmetricKey::new(&bytes)
    }

    /// The secret.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The secret as padded base64.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.0)
    }
}

impl From<[u8; 32]> for SymmetricKey {
    fn from(bytes: [u8; 32]) -> SymmetricKey {
        SymmetricKey(bytes.into())
    }
}

/// A key is never printed by accident.
impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymmetricKey(…)")
    }
}

/// The fingerprint of a certificate, in the letters in which it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbprint(Box<str>);

impl Thumbprint {
    /// Reads 40 (SHA-1) or 64 (SHA-256) hex digits; `:` and spaces between them are left out.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Thumbprint, IdentityError> {
        let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
        let valid = matches!(digits.len(), 40 | 64) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        valid.then(|| Thumbprint(digits.into())).ok_or(IdentityError::Thumbprint)
    }

    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the fingerprint of a certificate with these digests.
    pub fn matches(&self, sha1: &[u8; 20], sha256: &[u8; 32]) -> bool {
        let digest: &[u8] = if self.0.len() == 40 { sha1 } else { sha256 };
        let hex = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        let expected = digest.iter().flat_map(|byte| [hex(byte >> 4), hex(byte & 15)]);
        self.0.chars().map(|c| c.to_ascii_lowercase()).eq(expected)
    }
}

/// How an identity proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Tokens signed with either key.
    Sas {
        /// First key.
        primary: SymmetricKey,
        /// Second key.
        secondary: SymmetricKey,
    },
    /// A certificate with either fingerprint. At least one is there.
    SelfSigned {
        /// First fingerprint.
        primary: Option<Thumbprint>,
        /// Second fingerprint.
        secondary: Option<Thumbprint>,
    },
    /// A certificate issued by a registered authority, its subject named as the identity.
    CertificateAuthority,
    /// Not at all: an identity managed from elsewhere.
    None,
}

impl Authentication {
    /// The word of the wire's `type` (service §5.4).
    pub fn type_name(&self) -> &'static str {
        match self {
            Authentication::Sas { .. } => "sas",
            Authentication::SelfSigned { .. } => "selfSigned",
            Authentication::CertificateAuthority => "certificateAuthority",
            Authentication::None => "none",
        }
    }
}

/// Whether a device may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It may.
    Enabled,
    /// It may not.
    Disabled,
}

impl Status {
    /// The wire's word.
    pub fn name(self) -> &'static str {
        match self {
            Status::Enabled => "enabled",
            Status::Disabled => "disabled",
        }
    }
}

/// A registered device or module.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Set at creation: tells a device from an earlier one of the same name. Shown as decimal text.
    pub generation_id: u64,
    /// The counter behind `etag`; grows with each write of the identity.
    pub etag: u64,
    /// Whether it may connect. Modules are always enabled.
    pub status: Status,
    /// Why, in the operator's words; at most 128 characters.
    pub status_reason: Option<Box<str>>,
    /// When the status last changed.
    pub status_updated: Timestamp,
    /// How it proves itself.
    pub authentication: Authentication,
    /// Whether it is an edge gateway.
    pub iot_edge: bool,
    /// The scope of an edge gateway, or the one a leaf belongs to.
    pub device_scope: Option<Box<str>>,
    /// The scopes above it.
    pub parent_scopes: Vec<Box<str>>,
    /// For modules: who owns it, free text.
    pub managed_by: Option<Box<str>>,
}

/// A key as a client may give it: there, or to be made.
pub type KeySpec = Option<SymmetricKey>;

/// How a client asks for authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuthenticationSpec {
    /// Nothing said: keys are made at creation, nothing changes on update.
    #[default]
    Unspecified,
    /// Keys; those not given are made.
    Sas {
        /// First key.
        primary: KeySpec,
        /// Second key.
        secondary: KeySpec,
    },
    /// Fingerprints.
    SelfSigned {
        /// First fingerprint.
        primary: Option<Thumbprint>,
        /// Second fingerprint.
        secondary: Option<Thumbprint>,
    },
    /// By registered authorities.
    CertificateAuthority,
    /// None.
    None,
}

/// What a client asks for when it creates or updates an identity. Read-only fields are not here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IdentitySpec {
    /// Enabled when not said; on update unchanged when not said.
    pub status: Option<Status>,
    /// `None`: no reason.
    pub status_reason: Option<Box<str>>,
    /// How it shall prove itself.
    pub authentication: AuthenticationSpec,
    /// Whether it is an edge gateway; on update unchanged when not said.
    pub iot_edge: Option<bool>,
    /// Edge scope.
    pub device_scope: Option<Box<str>>,
    /// Scopes above.
    pub parent_scopes: Vec<Box<str>>,
    /// For modules.
    pub managed_by: Option<Box<str>>,
}

/// The random part of a new identity, brought by the caller.
#[derive(Clone)]
pub struct FreshSecrets {
    /// For keys that the client left to us.
    pub primary: [u8; 32],
    /// For keys that the client left to us.
    pub secondary: [u8; 32],
    /// Where the etag counter starts, so that a re-created identity has another etag.
    pub etag_start: u32,
}

impl Identity {
    /// A new identity (service §5.3).
    ///
    /// # Errors
    /// [`IdentityError`] names the rule that the request breaks.
    pub fn create(
        spec: IdentitySpec,
        fresh: &FreshSecrets,
        now: Timestamp,
    ) -> Result<Identity, IdentityError> {
        check_reason(spec.status_reason.as_deref())?;
        Ok(Identity {
            generation_id: generation(now),
            etag: u64::from(fresh.etag_start) + 1,
            status: spec.status.unwrap_or(Status::Enabled),
            status_reason: spec.status_reason,
            status_updated: Timestamp::NEVER,
            authentication: authentication(spec.authentication, None, fresh)?,
            iot_edge: spec.iot_edge.unwrap_or(false),
            parent_scopes: parent_scopes(spec.parent_scopes, spec.device_scope.as_deref(), spec.iot_edge),
            device_scope: spec.device_scope,
            managed_by: spec.managed_by,
        })
    }

    /// This identity after a client's update.
    ///
    /// # Errors
    /// [`IdentityError`] names the rule that the request breaks.
    pub fn update(
        &self,
        spec: IdentitySpec,
        fresh: &FreshSecrets,
        now: Timestamp,
    ) -> Result<Identity, IdentityError> {
        check_reason(spec.status_reason.as_deref())?;
        let status = spec.status.unwrap_or(self.status);
        let iot_edge = spec.iot_edge.or(Some(self.iot_edge));
        Ok(Identity {
            generation_id: self.generation_id,
            etag: self.etag + 1,
            status,
            status_reason: spec.status_reason,
            status_updated: if status == self.status { self.status_updated } else { now },
            authentication: authentication(spec.authentication, Some(&self.authentication), fresh)?,
            iot_edge: iot_edge.unwrap_or(false),
            parent_scopes: parent_scopes(spec.parent_scopes, spec.device_scope.as_deref(), iot_edge),
            device_scope: spec.device_scope.or_else(|| self.device_scope.clone()),
            managed_by: spec.managed_by,
        })
    }

    /// Whether a connection made under `self` must end once the identity is `new`: the device is
    /// disabled, or what it proved itself with no longer counts.
    pub fn ends_connections(&self, new: &Identity) -> bool {
        new.status == Status::Disabled
            || self.generation_id != new.generation_id
            || self.authentication != new.authentication
    }

    /// The etag's text: base64 of the decimal counter (service §4).
    pub fn etag_text(&self) -> String {
        STANDARD.encode(self.etag.to_string())
    }

    /// Appends the etag as a JSON string.
    pub fn write_etag(&self, out: &mut Vec<u8>) {
        write_string(&self.etag_text(), out);
    }
}

/// A twin's etag: base64 of the big-endian counter (service §4).
pub fn twin_etag_text(etag: u64) -> String {
    STANDARD.encode(etag.to_be_bytes())
}

/// The scope of a new edge gateway (service §5.6).
pub fn edge_scope(device: &str, now: Timestamp) -> Box<str> {
    format!("ms-azure-iot-edge://{device}-{}", generation(now)).into()
}

/// Ticks since the year 1, as the service counts generations.
fn generation(now: Timestamp) -> u64 {
    u64::try_from(now.ticks() - Timestamp::NEVER.ticks()).unwrap_or(0)
}

fn check_reason(reason: Option<&str>) -> Result<(), IdentityError> {
    match reason.map(|text| text.chars().count()) {
        Some(chars) if chars > STATUS_REASON_CHARS => Err(IdentityError::StatusReason(chars)),
        _ => Ok(()),
    }
}

/// A leaf below a gateway has that gateway's scope as its parent (service §5.6).
fn parent_scopes(given: Vec<Box<str>>, scope: Option<&str>, iot_edge: Option<bool>) -> Vec<Box<str>> {
    match scope {
        Some(scope) if given.is_empty() && !scope.is_empty() && iot_edge != Some(true) => vec![scope.into()],
        _ => given,
    }
}

fn authentication(
    spec: AuthenticationSpec,
    current: Option<&Authentication>,
    fresh: &FreshSecrets,
) -> Result<Authentication, IdentityError> {
    Ok(match (spec, current) {
        (AuthenticationSpec::Unspecified, Some(current)) => current.clone(),
        (AuthenticationSpec::Unspecified, None) => {
            Authentication::Sas { primary: fresh.primary.into(), secondary: fresh.secondary.into() }
        }
        (AuthenticationSpec::Sas { primary, secondary }, _) => Authentication::Sas {
            primary: primary.unwrap_or_else(|| fresh.primary.into()),
            secondary: secondary.unwrap_or_else(|| fresh.secondary.into()),
        },
        (AuthenticationSpec::SelfSigned { primary: None, secondary: None }, _) => {
            return Err(IdentityError::NoThumbprint)
        }
        (AuthenticationSpec::SelfSigned { primary, secondary }, _) => {
            Authentication::SelfSigned { primary, secondary }
        }
        (AuthenticationSpec::CertificateAuthority, _) => Authentication::CertificateAuthority,
        (AuthenticationSpec::None, _) => Authentication::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_secs(1_714_557_600);

    fn fresh(seed: u8) -> FreshSecrets {
        FreshSecrets { primary: [seed; 32], secondary: [seed + 1; 32], etag_start: 7 }
    }

    #[test]
    fn keys() {
        assert_eq!(SymmetricKey::from_base64("AAECAwQFBgcICQoLDA0ODw==").unwrap().bytes().len(), 16);
        assert_eq!(SymmetricKey::from_base64("AAECAwQFBgcICQoLDA0ODw").unwrap().bytes().len(), 16);
        assert_eq!(SymmetricKey::from_base64("AAEC"), Err(IdentityError::KeyLength(3)));
        assert_eq!(SymmetricKey::from_base64("not base64!"), Err(IdentityError::KeyEncoding));
        assert_eq!(SymmetricKey::new(&[0; 65]), Err(IdentityError::KeyLength(65)));
        assert_eq!(format!("{:?}", SymmetricKey::from([1; 32])), "SymmetricKey(…)");
    }

    #[test]
    fn thumbprints() {
        let (sha1, sha256) = ([0xab; 20], [0xcd; 32]);
        assert!(Thumbprint::parse(&"aB:".repeat(20)).unwrap().matches(&sha1, &sha256));
        assert!(Thumbprint::parse(&"CD".repeat(32)).unwrap().matches(&sha1, &sha256));
        assert!(!Thumbprint::parse(&"CD".repeat(20)).unwrap().matches(&sha1, &sha256));
        assert_eq!(Thumbprint::parse("zz"), Err(IdentityError::Thumbprint));
        assert_eq!(Thumbprint::parse(&"é".repeat(20)), Err(IdentityError::Thumbprint));
    }

    #[test]
    fn creation_makes_keys_and_update_keeps_them() {
        let made = Identity::create(IdentitySpec::default(), &fresh(1), NOW).unwrap();
        assert_eq!(made.generation_id, 638_501_544_000_000_000);
        assert_eq!(made.etag_text(), STANDARD.encode("8"));
        let disabled = IdentitySpec { status: Some(Status::Disabled), ..IdentitySpec::default() };
        let updated = made.update(disabled, &fresh(3), NOW).unwrap();
        assert_eq!(updated.authentication, made.authentication);
        assert_eq!((updated.status_updated, updated.etag), (NOW, made.etag + 1));
        assert!(made.ends_connections(&updated));
        let keys = AuthenticationSpec::Sas { primary: None, secondary: None };
        let rolled = made
            .update(IdentitySpec { authentication: keys, ..IdentitySpec::default() }, &fresh(3), NOW)
            .unwrap();
        assert_ne!(rolled.authentication, made.authentication);
        assert!(made.ends_connections(&rolled));
        let same = made.update(IdentitySpec::default(), &fresh(3), NOW).unwrap();
        assert!(!made.ends_connections(&same));
    }

    #[test]
    fn refusals() {
        let spec = IdentitySpec { status_reason: Some("x".repeat(129).into()), ..IdentitySpec::default() };
        assert_eq!(Identity::create(spec, &fresh(1), NOW), Err(IdentityError::StatusReason(129)));
        let bare = AuthenticationSpec::SelfSigned { primary: None, secondary: None };
        let spec = IdentitySpec { authentication: bare, ..IdentitySpec::default() };
        assert_eq!(Identity::create(spec, &fresh(1), NOW), Err(IdentityError::NoThumbprint));
    }

    #[test]
    fn twin_etags() {
        assert_eq!(twin_etag_text(1), "AAAAAAAAAAE=");
    }
}
