//! Who may do what: policies and the decision on a sign-in (device §1, service §2).
//!
//! Must not know: the clock, how a credential came, what is answered on the wire.
//!
//! Invariant: a refusal says the cause to the operator; the door decides how little of it the caller sees.

use crate::id::EntityId;
use crate::identity::{Authentication, Identity, Status, SymmetricKey};
use crate::sas::{MatchCase, SasError, Token};
use crate::time::Timestamp;

/// What a policy allows (service §2.1). A set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// Read identities.
    pub const REGISTRY_READ: Rights = Rights(1);
    /// Create, update and delete identities; includes reading them.
    pub const REGISTRY_WRITE: Rights = Rights(3);
    /// Service endpoints: twins, methods, queries.
    pub const SERVICE_CONNECT: Rights = Rights(4);
    /// Device endpoints, for any device.
    pub const DEVICE_CONNECT: Rights = Rights(8);
    /// Everything.
    pub const ALL: Rights = Rights(15);
    /// Nothing.
    pub const NONE: Rights = Rights(0);

    /// The rights in either set.
    #[must_use]
    pub const fn union(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// Whether all of `other` are here.
    pub const fn contains(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is here.
    pub const fn intersects(self, other: Rights) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits, for storing.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From stored bits; unknown ones are dropped.
    pub const fn from_bits(bits: u8) -> Rights {
        Rights(bits & Rights::ALL.0)
    }

    const NAMES: [(Rights, &'static str); 4] = [
        (Rights::REGISTRY_WRITE, "RegistryWrite"),
        (Rights::REGISTRY_READ, "RegistryRead"),
        (Rights::SERVICE_CONNECT, "ServiceConnect"),
        (Rights::DEVICE_CONNECT, "DeviceConnect"),
    ];

    /// The rights' names as Azure writes them, without those that another one includes.
    pub fn names(self) -> Vec<&'static str> {
        let write = self.contains(Rights::REGISTRY_WRITE);
        Rights::NAMES
            .iter()
            .filter(|(right, _)| self.contains(*right) && !(write && *right == Rights::REGISTRY_READ))
            .map(|(_, name)| *name)
            .collect()
    }

    /// A right by its name, in any case.
    pub fn parse(name: &str) -> Option<Rights> {
        Rights::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(right, _)| *right)
    }
}

/// A shared access policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name, case-sensitive.
    pub name: Box<str>,
    /// What it allows.
    pub rights: Rights,
    /// First key.
    pub primary: SymmetricKey,
    /// Second key.
    pub secondary: SymmetricKey,
}

/// The policies a hub starts with, as Azure's (service §2.1).
pub const BUILT_IN_POLICIES: [(&str, Rights); 5] = [
    ("iothubowner", Rights::ALL),
    ("service", Rights::SERVICE_CONNECT),
    ("device", Rights::DEVICE_CONNECT),
    ("registryRead", Rights::REGISTRY_READ),
    ("registryReadWrite", Rights::REGISTRY_WRITE),
];

/// What a decision needs to know of the hub.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// All policies.
    pub policies: &'a [Policy],
    /// Whether a name is one of the hub's own, without regard to case.
    pub is_host: &'a dyn Fn(&str) -> bool,
    /// How far a clock may be off before a token counts as expired, in seconds (device §1.4).
    pub skew_secs: i64,
    /// The time of the decision.
    pub now: Timestamp,
}

/// A client certificate, looked at by the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// SHA-1 of the leaf.
    pub sha1: [u8; 20],
    /// SHA-256 of the leaf.
    pub sha256: [u8; 32],
    /// The leaf's subject common name.
    pub common_name: Option<String>,
    /// The leaf is valid from here.
    pub not_before: Timestamp,
    /// The leaf is valid to here.
    pub not_after: Timestamp,
    /// Whether the chain leads to a registered authority; if not, why.
    pub chain: Result<(), String>,
}

/// What a connecting client shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credential<'a> {
    /// A token.
    pub token: Option<&'a str>,
    /// A certificate.
    pub certificate: Option<&'a PeerCertificate>,
}

/// What a device's sign-in was granted on (shown as `iothub-connection-auth-method`, device §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantScope {
    /// The device's own credential.
    Device,
    /// The module's own credential.
    Module,
    /// A policy of the hub.
    Hub,
}

/// A successful sign-in of a device or module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose credential it was.
    pub scope: GrantScope,
    /// When the connection must end, for tokens; the skew allowance is included.
    pub expires: Option<Timestamp>,
}

/// A successful sign-in of a back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceGrant {
    /// The policy whose key signed.
    pub policy: Box<str>,
    /// What it allows.
    pub rights: Rights,
    /// When the token ends; the skew allowance is included.
    pub expires: Timestamp,
}

/// Why a sign-in is refused, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthFailure {
    /// Nobody of that name.
    #[error("no such device or module is registered")]
    Unknown,
    /// The device is disabled.
    #[error("the device is disabled")]
    Disabled,
    /// Neither a token nor a certificate.
    #[error("no credential was given; this identity signs in by {expected}")]
    NoCredential {
        /// What would have been right.
        expected: &'static str,
    },
    /// A token was given where something else is expected.
    #[error("a token was given, but this identity signs in by {expected}")]
    WrongType {
        /// What would have been right.
        expected: &'static str,
    },
    /// The token cannot be read.
    #[error("malformed token: {0}")]
    Malformed(#[from] SasError),
    /// The token is over.
    #[error("the token expired {by_secs} s ago")]
    Expired {
        /// How long ago, in seconds.
        by_secs: i64,
    },
    /// The signature fits neither key.
    #[error("the token is signed with neither key (wrong key, or signed text differs)")]
    WrongKey,
    /// The token is for something else.
    #[error("the token's resource (sr) does not cover this hub and identity")]
    WrongScope,
    /// The token names a policy that does not exist.
    #[error("there is no policy {0:?}")]
    UnknownPolicy(String),
    /// The policy lacks a right.
    #[error("the policy {policy:?} lacks the right {right}")]
    MissingRight {
        /// Which policy.
        policy: String,
        /// Which right.
        right: &'static str,
    },
    /// A service call with a device's token.
    #[error("a device token was given (no skn) where a policy is required")]
    NotAPolicy,
    /// The certificate's fingerprint is not registered.
    #[error("the certificate's thumbprint is not registered for this identity")]
    Thumbprint,
    /// The certificate is not valid now.
    #[error("the certificate is valid from {not_before} to {not_after} only")]
    CertificateDates {
        /// Begin.
        not_before: Timestamp,
        /// End.
        not_after: Timestamp,
    },
    /// The certificate's subject is another.
    #[error("the certificate's common name is {found:?}, expected the identity's name")]
    CommonName {
        /// What it is.
        found: String,
    },
    /// The chain does not lead to a registered authority.
    #[error("the certificate's chain is not trusted: {0}")]
    Chain(String),
    /// The source failed too often lately.
    #[error("too many failed sign-ins from this address; try again later")]
    RateLimited,
    /// The door could not make a sign-in of what the client sent.
    #[error("{0}")]
    Door(&'static str),
}

/// Decides a device's or module's sign-in. `device` is the identity of the module's device, or the
/// device itself.
///
/// # Errors
/// [`AuthFailure`] says why not.
pub fn sign_in(
    id: &EntityId,
    identity: &Identity,
    device: &Identity,
    credential: Credential<'_>,
    context: Context<'_>,
) -> Result<Grant, AuthFailure> {
    let grant = match (credential.token, credential.certificate) {
        (Some(token), _) if Token::parse(token).is_ok_and(|token| token.policy().is_some()) => {
            by_policy(id, token, context)?
        }
        (token, certificate) => by_own_credential(id, identity, token, certificate, context)?,
    };
    if device.status == Status::Disabled {
        return Err(AuthFailure::Disabled);
    }
    Ok(grant)
}

fn by_policy(id: &EntityId, text: &str, context: Context<'_>) -> Result<Grant, AuthFailure> {
    let token = Token::parse(text)?;
    let policy = signing_policy(&token, context)?;
    require(policy, Rights::DEVICE_CONNECT)?;
    if !token.covers(&resource_path(id), context.is_host, MatchCase::Exact) {
        return Err(AuthFailure::WrongScope);
    }
    Ok(Grant { scope: GrantScope::Hub, expires: Some(not_expired(&token, context)?) })
}

fn by_own_credential(
    id: &EntityId,
    identity: &Identity,
    token: Option<&str>,
    certificate: Option<&PeerCertificate>,
    context: Context<'_>,
) -> Result<Grant, AuthFailure> {
    let scope = if id.is_module() { GrantScope::Module } else { GrantScope::Device };
    let expected = match identity.authentication {
        Authentication::Sas { .. } => "a token signed with its own key (sas)",
        Authentication::SelfSigned { .. } => "a certificate with a registered thumbprint (selfSigned)",
        Authentication::CertificateAuthority => {
            "a certificate of a registered authority (certificateAuthority)"
        }
        Authentication::None => "a policy only (none)",
    };
    match (&identity.authentication, token, certificate) {
        (Authentication::Sas { primary, secondary }, Some(text), _) => {
            let token = Token::parse(text)?;
            signed_by(&token, primary, secondary)?;
            if !token.covers(&resource_path(id), context.is_host, MatchCase::Exact) {
                return Err(AuthFailure::WrongScope);
            }
            Ok(Grant { scope, expires: Some(not_expired(&token, context)?) })
        }
        (Authentication::SelfSigned { primary, secondary }, _, Some(certificate)) => {
            let known = [primary, secondary].into_iter().flatten();
            if !known.into_iter().any(|thumbprint| thumbprint.matches(&certificate.sha1, &certificate.sha256))
            {
                return Err(AuthFailure::Thumbprint);
            }
            valid_now(certificate, context).map(|()| Grant { scope, expires: None })
        }
        (Authentication::CertificateAuthority, _, Some(certificate)) => {
            certificate.chain.clone().map_err(AuthFailure::Chain)?;
            if certificate.common_name.as_deref() != Some(id.as_str()) {
                let found = certificate.common_name.clone().unwrap_or_default();
                return Err(AuthFailure::CommonName { found });
            }
            valid_now(certificate, context).map(|()| Grant { scope, expires: None })
        }
        (_, None, None) => Err(AuthFailure::NoCredential { expected }),
        (Authentication::Sas { .. }, None, Some(_)) => Err(AuthFailure::NoCredential { expected }),
        _ => Err(AuthFailure::WrongType { expected }),
    }
}

/// Decides a back end's request: any one of `rights` is enough.
///
/// # Errors
/// [`AuthFailure`] says why not.
pub fn authorize(
    text: &str,
    path: &str,
    rights: Rights,
    context: Context<'_>,
) -> Result<ServiceGrant, AuthFailure> {
    let token = Token::parse(text)?;
    if token.policy().is_none() {
        return Err(AuthFailure::NotAPolicy);
    }
    let policy = signing_policy(&token, context)?;
    if !token.covers(path, context.is_host, MatchCase::Ignore) {
        return Err(AuthFailure::WrongScope);
    }
    let expires = not_expired(&token, context)?;
    let grant = ServiceGrant { policy: policy.name.clone(), rights: policy.rights, expires };
    grant.require(rights).map(|()| grant)
}

impl ServiceGrant {
    /// Whether this grant allows what needs any one of `rights`.
    ///
    /// # Errors
    /// [`AuthFailure::MissingRight`].
    pub fn require(&self, rights: Rights) -> Result<(), AuthFailure> {
        if self.rights.intersects(rights)
            && (rights != Rights::REGISTRY_WRITE || self.rights.contains(rights))
        {
            return Ok(());
        }
        let right = rights.names().first().copied().unwrap_or("none");
        Err(AuthFailure::MissingRight { policy: self.policy.to_string(), right })
    }
}

fn require(policy: &Policy, right: Rights) -> Result<(), AuthFailure> {
    if policy.rights.contains(right) {
        return Ok(());
    }
    let right = right.names().first().copied().unwrap_or("none");
    Err(AuthFailure::MissingRight { policy: policy.name.to_string(), right })
}

fn signing_policy<'a>(token: &Token<'_>, context: Context<'a>) -> Result<&'a Policy, AuthFailure> {
    let name = token.policy().unwrap_or_default();
    let policy = context.policies.iter().find(|policy| &*policy.name == name);
    let policy = policy.ok_or_else(|| AuthFailure::UnknownPolicy(name.chars().take(64).collect()))?;
    signed_by(token, &policy.primary, &policy.secondary)?;
    Ok(policy)
}

fn signed_by(token: &Token<'_>, primary: &SymmetricKey, secondary: &SymmetricKey) -> Result<(), AuthFailure> {
    if token.is_signed_with(primary) || token.is_signed_with(secondary) {
        return Ok(());
    }
    Err(AuthFailure::WrongKey)
}

fn not_expired(token: &Token<'_>, context: Context<'_>) -> Result<Timestamp, AuthFailure> {
    let end = token.expires().plus_secs(context.skew_secs);
    if end > context.now {
        return Ok(end);
    }
    Err(AuthFailure::Expired { by_secs: context.now.unix_secs() - token.expires().unix_secs() })
}

fn valid_now(certificate: &PeerCertificate, context: Context<'_>) -> Result<(), AuthFailure> {
    let PeerCertificate { not_before, not_after, .. } = *certificate;
    let skew = context.skew_secs;
    if not_before.plus_secs(-skew) <= context.now && context.now <= not_after.plus_secs(skew) {
        return Ok(());
    }
    Err(AuthFailure::CertificateDates { not_before, not_after })
}

fn resource_path(id: &EntityId) -> String {
    match id.module() {
        None => format!("devices/{}", id.device()),
        Some(module) => format!("devices/{}/modules/{module}", id.device()),
    }
}

#[cfg(test)]
mod tests;
