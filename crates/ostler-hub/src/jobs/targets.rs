//! Which devices a job is about, and in which waves they come.
//!
//! Invariant: the set is that of one consistent point; it is not asked for twice.

use super::commit::{readable, Gone};
use super::feed::PAGE;
use super::table::Shared;
use crate::error::Error;
use crate::hub::Hub;
use ostler_core::id::EntityId;
use ostler_core::job::{by_shares, plan, DeviceJobStatus, DryRun, JobId, JobSpec, Wave, Waves};
use ostler_core::json::{Key, Value};
use ostler_core::limits::{JOB_CONDITION_CHARS, JOB_WAVES};
use ostler_core::query::Condition;
use ostler_core::record::Record;
use ostler_store::{Filter, Shelf, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Devices of a dry run that are named.
const SAMPLE: usize = 100;
/// Records read between two pauses for others.
const READ_AT_ONCE: usize = 256;

/// The devices in the order of their ids, each with its wave.
pub(super) struct Targets {
    pub(super) devices: Vec<EntityId>,
    /// Which wave each is in; empty when the waves follow each other in the order of the ids.
    pub(super) waves_of: Vec<u16>,
    pub(super) waves: Vec<Wave>,
}

/// Why there are no targets.
pub(super) enum NoTargets {
    /// The job cannot run; the text says why.
    Impossible(String),
    /// The store cannot say now.
    Store(StoreError),
}

impl From<StoreError> for NoTargets {
    fn from(error: StoreError) -> NoTargets {
        NoTargets::Store(error)
    }
}

impl Hub {
    /// What a job would do if it started now.
    ///
    /// # Errors
    /// [`Error::Job`], [`Error::InvalidArgument`] when the condition cannot be read, or the store's.
    pub async fn dry_run(&self, spec: &JobSpec) -> Result<DryRun, Error> {
        let spec = spec.clone().checked()?;
        let targets = self.jobs.shared.targets(&spec, None).await.map_err(|error| match error {
            NoTargets::Impossible(reason) => Error::InvalidArgument(reason),
            NoTargets::Store(error) => Error::Store(error),
        })?;
        Ok(DryRun {
            count: targets.devices.len() as u64,
            sample: targets.devices.iter().take(SAMPLE).map(EntityId::device_id).collect(),
            waves: targets.waves,
        })
    }
}

impl Shared {
    /// The devices that meet a job's condition now, or those that failed in its parent.
    pub(super) async fn targets(&self, spec: &JobSpec, parent: Option<&JobId>) -> Result<Targets, NoTargets> {
        let devices = match parent {
            Some(parent) => self.failed_of(parent).await?,
            None => self.matching(&spec.condition).await?,
        };
        let Waves::ByTag(path) = &spec.rollout.waves else {
            let waves = plan(&spec.rollout.waves, devices.len() as u64);
            return Ok(Targets { devices, waves_of: Vec::new(), waves });
        };
        self.by_tag(devices, path).await
    }

    async fn matching(&self, condition: &str) -> Result<Vec<EntityId>, NoTargets> {
        let chars = condition.chars().count();
        if chars > JOB_CONDITION_CHARS {
            let text =
                format!("PreconditionFailed: the condition has {chars} characters, the limit is {JOB_CONDITION_CHARS}");
            return Err(NoTargets::Impossible(text));
        }
        let condition = Condition::parse(condition, self.dialect)
            .map_err(|error| NoTargets::Impossible(format!("the condition cannot be read: {error}")))?;
        let filter = Arc::new(Filter { modules: false, condition: condition.0 });
        let hub = self.hub.upgrade().ok_or(StoreError::Closed)?;
        Ok(self.store.find_ids(filter, hub.live()).await?)
    }

    /// The devices that failed in an ended job.
    async fn failed_of(&self, parent: &JobId) -> Result<Vec<EntityId>, NoTargets> {
        let prefix = format!("{parent}/");
        let (mut failed, mut after) = (Vec::new(), None::<Box<str>>);
        loop {
            let page = self.store.documents(Shelf::DeviceJobs, &prefix, after.as_deref(), PAGE).await?;
            let is_last = page.len() < PAGE;
            for (key, document) in page {
                let step = super::feed::read_step(&key, &document.value);
                failed.extend(
                    step.filter(|(_, step)| step.status == DeviceJobStatus::Failed).map(|(id, _)| id),
                );
                after = Some(key);
            }
            if is_last {
                return Ok(failed);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn by_tag(&self, devices: Vec<EntityId>, path: &[Key]) -> Result<Targets, NoTargets> {
        let path: Vec<&str> = path.iter().map(|key| &**key).collect();
        let mut groups: BTreeMap<Option<String>, (u64, Vec<u32>)> = BTreeMap::new();
        for (place, device) in devices.iter().enumerate() {
            let record = readable(self.store.load(device)).await?.ok().flatten();
            let value = record.and_then(|record| tag_text(&record, &path));
            let (count, places) = groups.entry(value).or_default();
            *count += 1;
            places.push(u32::try_from(place).unwrap_or(u32::MAX));
            if groups.len() > JOB_WAVES {
                let text = format!("the tag has more than {JOB_WAVES} values; as many waves are allowed");
                return Err(NoTargets::Impossible(text));
            }
            if place % READ_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        let counts = groups.iter().map(|(value, (count, _))| (value.clone(), *count)).collect();
        let waves = by_shares(counts)
            .map_err(|count| NoTargets::Impossible(format!("{count} waves are more than {JOB_WAVES}")))?;
        let mut waves_of = vec![0u16; devices.len()];
        for (index, wave) in waves.iter().enumerate() {
            let places = groups.get(&wave.value).map(|(_, places)| places.as_slice()).unwrap_or_default();
            for place in places {
                waves_of[*place as usize] = u16::try_from(index).unwrap_or(u16::MAX);
            }
        }
        Ok(Targets { devices, waves_of, waves })
    }
}

/// The text of a tag, or nothing when the device does not have it.
fn tag_text(record: &Record, path: &[&str]) -> Option<String> {
    record.twin.tags.get(path).map(|node| match node.to_value() {
        Value::String(text) => text.into(),
        other => other.to_string(),
    })
}

impl Targets {
    /// The wave of each device, in the order of the devices.
    pub(super) fn wave_of_each(&self) -> impl Iterator<Item = usize> + '_ {
        let ordered = self.waves.iter().enumerate().flat_map(|(index, wave)| {
            std::iter::repeat_n(index, usize::try_from(wave.devices).unwrap_or(usize::MAX))
        });
        let given = self.waves_of.iter().map(|wave| usize::from(*wave));
        given.chain(ordered.take(if self.waves_of.is_empty() { usize::MAX } else { 0 }))
    }
}

/// What [`Shared::read`] needs to go on asking.
impl From<Gone> for NoTargets {
    fn from(_: Gone) -> NoTargets {
        NoTargets::Store(StoreError::Closed)
    }
}
