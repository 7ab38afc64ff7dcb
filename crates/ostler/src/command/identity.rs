//! What devices and modules have in common: how they sign in, their keys and their connection strings.
//!
//! Must not know: whether it is a device or a module.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use clap::{Args, ValueEnum};
use ostler_service_sdk::{Authentication, EntityId, KeySlot};
use ring::rand::{SecureRandom, SystemRandom};

use crate::exit::{Failure, Result};

/// Bytes of a generated key; Azure's have as many.
const KEY_LEN: usize = 32;

/// How the identity signs in.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Sign-in")]
pub struct SignIn {
    /// Primary symmetric key, base64 of 16 to 64 bytes; made by the hub if not given
    #[arg(long, value_name = "BASE64", conflicts_with_all = ["x509_thumbprint", "x509_ca"])]
    pub key: Option<String>,

    /// Secondary symmetric key
    #[arg(long, value_name = "BASE64", conflicts_with_all = ["x509_thumbprint", "x509_ca"])]
    pub secondary_key: Option<String>,

    /// Thumbprint of a certificate (SHA-1 or SHA-256, hex) that signs in instead of a key
    #[arg(long, value_name = "HEX", conflicts_with = "x509_ca")]
    pub x509_thumbprint: Option<String>,

    /// Thumbprint of a second certificate
    #[arg(long, value_name = "HEX", requires = "x509_thumbprint")]
    pub secondary_thumbprint: Option<String>,

    /// Sign in with a certificate that a registered CA issued to the id (see `ostler ca device`)
    #[arg(long)]
    pub x509_ca: bool,
}

impl SignIn {
    /// None leaves the choice to the hub, which makes two keys.
    pub fn authentication(&self) -> Option<Authentication> {
        if self.x509_ca {
            Some(Authentication::certificate_authority())
        } else if self.x509_thumbprint.is_some() {
            let thumbprints = (self.x509_thumbprint.clone(), self.secondary_thumbprint.clone());
            Some(Authentication::self_signed(thumbprints.0, thumbprints.1))
        } else if self.key.is_some() || self.secondary_key.is_some() {
            Some(Authentication::symmetric(self.key.clone(), self.secondary_key.clone()))
        } else {
            None
        }
    }
}

/// Which of two keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Slot {
    #[default]
    Primary,
    Secondary,
}

/// What rotating does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rotation {
    /// Make a new primary key
    Primary,
    /// Make a new secondary key
    Secondary,
    /// Make both anew
    Both,
    /// Exchange the two
    Swap,
}

impl Rotation {
    /// Applies it to an identity's keys.
    pub fn apply(self, authentication: Option<Authentication>, id: &EntityId) -> Result<Authentication> {
        let mut authentication = authentication.unwrap_or_default();
        let Some(keys) = authentication.symmetric_key.as_mut().filter(|keys| keys.primary_key.is_some())
        else {
            return Err(Failure::failed(format!("{id} signs in with certificates and has no keys")));
        };
        if matches!(self, Self::Primary | Self::Both) {
            keys.primary_key = Some(new_key()?);
        }
        if matches!(self, Self::Secondary | Self::Both) {
            keys.secondary_key = Some(new_key()?);
        }
        if self == Self::Swap {
            std::mem::swap(&mut keys.primary_key, &mut keys.secondary_key);
        }
        Ok(authentication)
    }
}

fn new_key() -> Result<String> {
    let mut key = [0; KEY_LEN];
    SystemRandom::new().fill(&mut key).map_err(|_| Failure::failed("the system gives no randomness"))?;
    Ok(STANDARD.encode(key))
}

/// `HostName=…;DeviceId=…;…` as Azure writes it (device §1.1).
pub fn connection_string(
    hostname: &str,
    id: &EntityId,
    authentication: Option<&Authentication>,
    slot: Slot,
) -> Result<String> {
    let which = match slot {
        Slot::Primary => KeySlot::Primary,
        Slot::Secondary => KeySlot::Secondary,
    };
    authentication
        .and_then(|authentication| authentication.connection_string(hostname, id, which))
        .ok_or_else(|| Failure::failed(format!("{id} has no {} key", which.as_str())))
}

/// The sign-in of an identity in one word, as the hub names it.
pub fn sign_in_name(authentication: Option<&Authentication>) -> String {
    authentication
        .and_then(|authentication| authentication.kind.as_ref())
        .map_or_else(|| "–".to_owned(), ToString::to_string)
}

/// Keys and thumbprints as name and value; keys only if asked for.
pub fn secrets(authentication: Option<&Authentication>, show_keys: bool) -> Vec<(&'static str, String)> {
    let Some(authentication) = authentication else { return Vec::new() };
    let mut pairs = Vec::new();
    if let (true, Some(keys)) = (show_keys, &authentication.symmetric_key) {
        pairs.push(("primary key", keys.primary_key.clone()));
        pairs.push(("secondary key", keys.secondary_key.clone()));
    }
    if let Some(thumbprints) = &authentication.x509_thumbprint {
        pairs.push(("primary thumbprint", thumbprints.primary_thumbprint.clone()));
        pairs.push(("secondary thumbprint", thumbprints.secondary_thumbprint.clone()));
    }
    pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_are_written_as_azure_writes_them() {
        let keys = Authentication::symmetric(Some("AAE=".into()), Some("AAI=".into()));
        let write = |id: &str, authentication: &Authentication, slot| {
            connection_string("h", &EntityId::parse(id).unwrap(), Some(authentication), slot).unwrap()
        };
        assert_eq!(write("d", &keys, Slot::Primary), "HostName=h;DeviceId=d;SharedAccessKey=AAE=");
        assert_eq!(
            write("d/m", &keys, Slot::Secondary),
            "HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey=AAI="
        );
        let ca = Authentication::certificate_authority();
        assert_eq!(write("d", &ca, Slot::Primary), "HostName=h;DeviceId=d;x509=true");
    }

    #[test]
    fn rotating_touches_the_chosen_key_only() {
        let id = EntityId::parse("d").unwrap();
        let keys = || Some(Authentication::symmetric(Some("AAE=".into()), Some("AAI=".into())));
        let rotated = Rotation::Primary.apply(keys(), &id).unwrap();
        assert_ne!(rotated.primary_key(), Some("AAE="));
        assert_eq!(rotated.secondary_key(), Some("AAI="));
        assert_eq!(STANDARD.decode(rotated.primary_key().unwrap()).unwrap().len(), KEY_LEN);
        let swapped = Rotation::Swap.apply(keys(), &id).unwrap();
        assert_eq!((swapped.primary_key(), swapped.secondary_key()), (Some("AAI="), Some("AAE=")));
        assert!(Rotation::Both.apply(Some(Authentication::certificate_authority()), &id).is_err());
    }
}
