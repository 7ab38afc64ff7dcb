//! The simulated devices in the hub's registry: making them, finding their keys, removing them.
//!
//! Must not know: connections.
//!
//! Invariant: keys are made at random for each registration, never from the seed: who knows a scenario must not be able
//! to sign in as its devices.

use futures_util::{StreamExt, TryStreamExt};
use ostler_core::identity::SymmetricKey;
use ostler_core::time::Timestamp;
use ostler_service_sdk::{
    Authentication, BulkEntry, BulkOptions, BulkSummary, Client, DeviceId, EntityId, ErrorKind, ImportMode,
    TwinSections,
};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::device::registration;
use super::scenario::Scenario;
use crate::exit::{Exit, Failure, Result};
use crate::output::Out;

/// Identities read at once to find their keys.
const KEY_READERS: usize = 32;
/// Failed entries that are shown one by one.
const SHOWN_ERRORS: usize = 5;
/// Length of the number in a device's name. Fixed, so that a run with more devices finds those of a smaller one.
const DIGITS: usize = 6;

/// Which devices take part.
#[derive(Debug, Clone)]
pub struct Roster {
    pub prefix: String,
    /// Number of the first device.
    pub start: u64,
    pub devices: u64,
}

impl Roster {
    /// Checks that all names are legal.
    pub fn new(prefix: String, start: u64, devices: u64) -> Result<Self> {
        let roster = Self { prefix, start, devices };
        let last = roster.name(devices.saturating_sub(1));
        DeviceId::new(&last).map_err(|error| Failure::usage(format!("the device name `{last}`: {error}")))?;
        Ok(roster)
    }

    fn name(&self, index: u64) -> String {
        format!("{}{:0DIGITS$}", self.prefix, self.start.saturating_add(index))
    }

    /// The id of the device with this index, counted from 0.
    pub fn id(&self, index: u64) -> Result<EntityId> {
        EntityId::parse(&self.name(index)).map_err(|error| Failure::usage(error.to_string()))
    }

    pub fn describe(&self) -> String {
        format!("{} … {}", self.name(0), self.name(self.devices.saturating_sub(1)))
    }

    /// Creates the devices with the tags and desired properties of the scenario, or makes them as new. Returns their
    /// keys.
    pub async fn register(
        &self,
        hub: &Client,
        scenario: &Scenario,
        seed: u64,
        wall: Timestamp,
        out: &Out,
    ) -> Result<Vec<SymmetricKey>> {
        let mut secret = [0u8; 32];
        SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| Failure::failed("the system gives no random numbers for keys"))?;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let mut keys = Vec::new();
        let mut ids = Vec::new();
        for index in 0..self.devices {
            let id = self.id(index)?;
            keys.push(
                SymmetricKey::new(hmac::sign(&secret, id.as_str().as_bytes()).as_ref())
                    .map_err(|error| Failure::failed(error.to_string()))?,
            );
            ids.push(id);
        }
        let entries = ids.iter().zip(&keys).zip(0..).map(|((id, key), index)| {
            let mut entry = BulkEntry::new(ImportMode::CreateOrUpdate, id.as_str());
            let [tags, desired] = registration(scenario.group_of(index), id, index, seed, wall);
            entry.authentication =
                Some(Authentication::symmetric(Some(key.to_base64()), Some(key.to_base64())));
            entry.tags = Some(tags);
            entry.properties = Some(TwinSections { desired: Some(desired), reported: None });
            entry
        });
        let summary = self.write(hub, entries, "registering", out).await?;
        match summary.failed {
            0 => Ok(keys),
            failed => {
                Err(Failure::failed(format!("{failed} of {} devices were not registered", self.devices)))
            }
        }
    }

    /// Deletes the devices; those that are not there are as good as deleted.
    pub async fn delete(&self, hub: &Client, out: &Out) -> Result {
        let entries = (0..self.devices).map(|index| BulkEntry::new(ImportMode::Delete, self.name(index)));
        self.write(hub, entries, "deleting", out).await?;
        out.note(format_args!("deleted {}", self.describe()));
        Ok(())
    }

    async fn write(
        &self,
        hub: &Client,
        entries: impl IntoIterator<Item = BulkEntry>,
        what: &'static str,
        out: &Out,
    ) -> Result<BulkSummary> {
        let bar = out.progress(Some(self.devices), what);
        let mut shown = 0;
        let summary = hub
            .bulk_all(entries, BulkOptions::default(), |chunk| {
                bar.inc(chunk.entries as u64);
                let unexpected = chunk.errors.iter().filter(|error| error.error_code != "DeviceNotFound");
                for error in unexpected.take(SHOWN_ERRORS.saturating_sub(shown)) {
                    let text = error.error_status.as_deref().unwrap_or_default();
                    out.warn(format_args!("{}: {} {text}", error.device_id, error.error_code));
                    shown += 1;
                }
            })
            .await;
        bar.finish_and_clear();
        Ok(summary?)
    }

    /// Reads the keys of devices that are registered already.
    pub async fn keys(&self, hub: &Client, out: &Out) -> Result<Vec<SymmetricKey>> {
        let bar = out.progress(Some(self.devices), "reading keys");
        let keys = futures_util::stream::iter((0..self.devices).map(|index| {
            let bar = &bar;
            async move {
                let key = self.key(hub, &self.name(index)).await;
                bar.inc(1);
                key
            }
        }))
        .buffered(KEY_READERS)
        .try_collect()
        .await;
        bar.finish_and_clear();
        keys
    }

    async fn key(&self, hub: &Client, name: &str) -> Result<SymmetricKey> {
        let id = DeviceId::new(name).map_err(|error| Failure::usage(error.to_string()))?;
        let device = match hub.device(&id).await {
            Ok(device) => device,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Failure::new(Exit::NotFound, format!("device `{name}` is not registered"))
                    .advise("--register creates the devices first"))
            }
            Err(error) => return Err(error.into()),
        };
        let keys = device.authentication.and_then(|authentication| authentication.symmetric_key);
        let key = keys.and_then(|keys| keys.primary_key).ok_or_else(|| {
            Failure::failed(format!("device `{name}` does not sign in with a key"))
                .advise("--register makes it one that does")
        })?;
        SymmetricKey::from_base64(&key).map_err(|error| Failure::failed(format!("device `{name}`: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_depend_on_how_many_there_are() {
        let few = Roster::new("sim-".to_owned(), 1, 10).unwrap();
        let many = Roster::new("sim-".to_owned(), 1, 100_000).unwrap();
        assert_eq!(few.id(4).unwrap().as_str(), "sim-000005");
        assert_eq!(few.id(4).unwrap(), many.id(4).unwrap());
        assert_eq!(many.describe(), "sim-000001 … sim-100000");
        assert!(Roster::new("no spaces ".to_owned(), 1, 1).is_err());
    }
}
