//! Shared access policies and the authorities of device certificates: few, read at every sign-in,
//! changed rarely.
//!
//! Invariant: readers see one consistent set; a change is durable before it counts.
//!
//! Invariant: `iothubowner` is always there with all rights, so that an operator cannot lock everybody out.

use crate::error::Error;
use crate::hub::{fill_random, Hub};
use arc_swap::ArcSwap;
use ostler_core::auth::{Policy, Rights, BUILT_IN_POLICIES};
use ostler_core::identity::SymmetricKey;
use ostler_core::json::{ObjectWriter, Value};
use ostler_core::limits::{CERTIFICATE_AUTHORITIES, POLICIES};
use ostler_store::{CommitError, Expect, Revision, Store, StoreError};
use ring::rand::SystemRandom;
use std::sync::Arc;

const POLICIES_SETTING: &str = "policies";
const AUTHORITIES_SETTING: &str = "certificate-authorities";
/// The policy that cannot be removed.
pub const OWNER: &str = "iothubowner";

/// A certificate authority that may issue device certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateAuthority {
    /// The operator's name for it.
    pub name: Box<str>,
    /// The certificate as PEM text; the front end checked that it is one.
    pub pem: Box<str>,
}

/// Which of a policy's two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichKey {
    /// The first.
    Primary,
    /// The second.
    Secondary,
}

#[derive(Debug)]
struct Versioned<T> {
    items: Vec<T>,
    revision: Option<Revision>,
}

impl<T> Versioned<T> {
    fn expect(&self) -> Expect {
        self.revision.map_or(Expect::Absent, Expect::Revision)
    }
}

/// The current sets.
#[derive(Debug)]
pub(crate) struct Policies {
    policies: ArcSwap<Versioned<Policy>>,
    authorities: ArcSwap<Versioned<CertificateAuthority>>,
    /// Writers take turns, so that each decides on what the one before it made.
    writer: tokio::sync::Mutex<()>,
}

impl Policies {
    pub(crate) async fn load(store: &dyn Store, random: &SystemRandom) -> Result<Policies, Error> {
        let policies = match store.setting(POLICIES_SETTING).await? {
            Some(setting) => {
                Versioned { items: read_policies(&setting.value)?, revision: Some(setting.revision) }
            }
            None => {
                let items = built_in(random)?;
                let text = write_policies(&items);
                let revision = put(store, POLICIES_SETTING, text, Expect::Absent).await?;
                Versioned { items, revision: Some(revision) }
            }
        };
        let authorities = match store.setting(AUTHORITIES_SETTING).await? {
            Some(setting) => {
                Versioned { items: read_authorities(&setting.value)?, revision: Some(setting.revision) }
            }
            None => Versioned { items: Vec::new(), revision: None },
        };
        Ok(Policies {
            policies: ArcSwap::from_pointee(policies),
            authorities: ArcSwap::from_pointee(authorities),
            writer: tokio::sync::Mutex::default(),
        })
    }

    /// Runs `read` on the current policies.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&[Policy]) -> T) -> T {
        read(&self.policies.load().items)
    }
}

impl Hub {
    /// All policies.
    pub fn policies(&self) -> Vec<Policy> {
        self.policies.read(<[Policy]>::to_vec)
    }

    /// One policy.
    ///
    /// # Errors
    /// [`Error::NameUnknown`].
    pub fn policy(&self, name: &str) -> Result<Policy, Error> {
        let found = self.policies.read(|all| all.iter().find(|policy| &*policy.name == name).cloned());
        found.ok_or_else(|| Error::NameUnknown(name.into()))
    }

    /// Changes with every change of the policies: what was decided under an older value must be
    /// decided again.
    pub fn policies_revision(&self) -> u64 {
        self.policies.policies.load().revision.unwrap_or(0)
    }

    /// Makes a policy. Keys not given are made at random.
    ///
    /// # Errors
    /// [`Error::NameTaken`], or [`Error::InvalidArgument`] for a bad name or too many policies.
    pub async fn create_policy(
        &self,
        name: &str,
        rights: Rights,
        primary: Option<SymmetricKey>,
        secondary: Option<SymmetricKey>,
    ) -> Result<Policy, Error> {
        check_name(name)?;
        if rights == Rights::NONE {
            return Err(Error::InvalidArgument("a policy needs at least one right".into()));
        }
        let random_key = |given: Option<SymmetricKey>| given.map_or_else(|| self.random_key(), Ok);
        let (primary, secondary) = (random_key(primary)?, random_key(secondary)?);
        let policy = Policy { name: name.into(), rights, primary, secondary };
        let made = policy.clone();
        self.change_policies(move |policies| {
            if policies.iter().any(|policy| policy.name == made.name) {
                return Err(Error::NameTaken(made.name.to_string()));
            }
            if policies.len() >= POLICIES {
                return Err(Error::InvalidArgument(format!("a hub has at most {POLICIES} policies")));
            }
            policies.push(made);
            Ok(())
        })
        .await?;
        Ok(policy)
    }

    /// Sets a policy's keys, as a seed file does.
    ///
    /// # Errors
    /// [`Error::NameUnknown`].
    pub async fn set_policy_keys(
        &self,
        name: &str,
        primary: SymmetricKey,
        secondary: SymmetricKey,
    ) -> Result<(), Error> {
        self.change_policies(|policies| {
            let policy = find(policies, name)?;
            (policy.primary, policy.secondary) = (primary, secondary);
            Ok(())
        })
        .await
    }

    /// Removes a policy.
    ///
    /// # Errors
    /// [`Error::NameUnknown`]; [`Error::InvalidArgument`] for the owner's policy.
    pub async fn delete_policy(&self, name: &str) -> Result<(), Error> {
        if name == OWNER {
            return Err(Error::InvalidArgument(format!("the policy {OWNER} cannot be deleted")));
        }
        self.change_policies(|policies| {
            find(policies, name)?;
            policies.retain(|policy| &*policy.name != name);
            Ok(())
        })
        .await
    }

    /// Replaces one key of a policy by a new random one.
    ///
    /// # Errors
    /// [`Error::NameUnknown`].
    pub async fn rotate_policy(&self, name: &str, which: WhichKey) -> Result<Policy, Error> {
        let key = self.random_key()?;
        self.change_policies(|policies| {
            let policy = find(policies, name)?;
            match which {
                WhichKey::Primary => policy.primary = key,
                WhichKey::Secondary => policy.secondary = key,
            }
            Ok(())
        })
        .await?;
        self.policy(name)
    }

    /// The authorities of device certificates.
    pub fn certificate_authorities(&self) -> Vec<CertificateAuthority> {
        self.policies.authorities.load().items.clone()
    }

    /// Changes with every change of the authorities.
    pub fn authorities_revision(&self) -> u64 {
        self.policies.authorities.load().revision.unwrap_or(0)
    }

    /// Adds an authority, or replaces the one of that name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a bad name or too many authorities.
    pub async fn put_certificate_authority(&self, authority: CertificateAuthority) -> Result<(), Error> {
        check_name(&authority.name)?;
        self.change_authorities(move |authorities| {
            authorities.retain(|known| known.name != authority.name);
            if authorities.len() >= CERTIFICATE_AUTHORITIES {
                let text = format!("a hub has at most {CERTIFICATE_AUTHORITIES} certificate authorities");
                return Err(Error::InvalidArgument(text));
            }
            authorities.push(authority);
            Ok(())
        })
        .await
    }

    /// Removes an authority.
    ///
    /// # Errors
    /// [`Error::NameUnknown`].
    pub async fn delete_certificate_authority(&self, name: &str) -> Result<(), Error> {
        self.change_authorities(|authorities| {
            let before = authorities.len();
            authorities.retain(|known| &*known.name != name);
            if authorities.len() == before {
                return Err(Error::NameUnknown(name.into()));
            }
            Ok(())
        })
        .await
    }

    async fn change_policies(
        &self,
        change: impl FnOnce(&mut Vec<Policy>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _turn = self.policies.writer.lock().await;
        let current = self.policies.policies.load_full();
        let mut items = current.items.clone();
        change(&mut items)?;
        let text = write_policies(&items);
        let revision = put(self.store.as_ref(), POLICIES_SETTING, text, current.expect()).await?;
        self.policies.policies.store(Arc::new(Versioned { items, revision: Some(revision) }));
        Ok(())
    }

    async fn change_authorities(
        &self,
        change: impl FnOnce(&mut Vec<CertificateAuthority>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _turn = self.policies.writer.lock().await;
        let current = self.policies.authorities.load_full();
        let mut items = current.items.clone();
        change(&mut items)?;
        let text = write_authorities(&items);
        let revision = put(self.store.as_ref(), AUTHORITIES_SETTING, text, current.expect()).await?;
        self.policies.authorities.store(Arc::new(Versioned { items, revision: Some(revision) }));
        Ok(())
    }

    fn random_key(&self) -> Result<SymmetricKey, Error> {
        random_key(self.random())
    }
}

fn random_key(random: &SystemRandom) -> Result<SymmetricKey, Error> {
    let mut bytes = [0u8; 32];
    fill_random(random, &mut bytes)?;
    Ok(SymmetricKey::from(bytes))
}

fn find<'a>(policies: &'a mut [Policy], name: &str) -> Result<&'a mut Policy, Error> {
    policies.iter_mut().find(|policy| &*policy.name == name).ok_or_else(|| Error::NameUnknown(name.into()))
}

fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        let text = "a name has 1 to 64 ASCII letters, digits and the characters - _ . @";
        return Err(Error::InvalidArgument(text.into()));
    }
    Ok(())
}

fn built_in(random: &SystemRandom) -> Result<Vec<Policy>, Error> {
    let make = |(name, rights): &(&str, Rights)| {
        Ok(Policy {
            name: (*name).into(),
            rights: *rights,
            primary: random_key(random)?,
            secondary: random_key(random)?,
        })
    };
    BUILT_IN_POLICIES.iter().map(make).collect()
}

async fn put(store: &dyn Store, name: &str, value: Vec<u8>, expect: Expect) -> Result<Revision, Error> {
    store.put_setting(name, value, expect).await.map_err(|error| match error {
        CommitError::Store(error) => Error::Store(error),
        _ => Error::Contended,
    })
}

fn write_policies(policies: &[Policy]) -> Vec<u8> {
    write_list(policies, |policy, mut object| {
        object
            .string("name", &policy.name)
            .integer("rights", i64::from(policy.rights.bits()))
            .string("primaryKey", &policy.primary.to_base64())
            .string("secondaryKey", &policy.secondary.to_base64());
        object.end();
    })
}

fn write_authorities(authorities: &[CertificateAuthority]) -> Vec<u8> {
    write_list(authorities, |authority, mut object| {
        object.string("name", &authority.name).string("pem", &authority.pem);
        object.end();
    })
}

fn write_list<T>(items: &[T], mut write: impl FnMut(&T, ObjectWriter<'_>)) -> Vec<u8> {
    let mut out = vec![b'['];
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(item, ObjectWriter::new(&mut out));
    }
    out.push(b']');
    out
}

fn read_policies(text: &[u8]) -> Result<Vec<Policy>, Error> {
    read_list(POLICIES_SETTING, text, |item| {
        let object = item.as_object()?;
        let field = |name: &str| object.get(name)?.as_str();
        Some(Policy {
            name: field("name")?.into(),
            rights: Rights::from_bits(u8::try_from(object.get("rights")?.as_i64()?).ok()?),
            primary: SymmetricKey::from_base64(field("primaryKey")?).ok()?,
            secondary: SymmetricKey::from_base64(field("secondaryKey")?).ok()?,
        })
    })
}

fn read_authorities(text: &[u8]) -> Result<Vec<CertificateAuthority>, Error> {
    read_list(AUTHORITIES_SETTING, text, |item| {
        let field = |name: &str| item.as_object()?.get(name)?.as_str();
        Some(CertificateAuthority { name: field("name")?.into(), pem: field("pem")?.into() })
    })
}

fn read_list<T>(name: &str, text: &[u8], read: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, Error> {
    let corrupt = |reason: String| Error::Store(StoreError::Corrupt { id: name.into(), reason });
    match Value::parse(text) {
        Ok(Value::Array(items)) => {
            let read: Option<Vec<T>> = items.iter().map(read).collect();
            read.ok_or_else(|| corrupt("an entry lacks a field".into()))
        }
        Ok(other) => Err(corrupt(format!("expected a list, found {}", other.kind()))),
        Err(error) => Err(corrupt(error.to_string())),
    }
}
