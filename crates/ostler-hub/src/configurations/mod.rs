//! Automatic configurations (service §11): kept in memory and on their shelf, applied by an engine in the background.
//!
//! A change of a configuration is durable when its call returns; twins follow. The engine (`engine`) looks at
//! each twin that changed, at all that a changed configuration may concern, and every few minutes at all of them.
//! What it did is in the twins' records, so it may stop at any point and begin anew.
//!
//! Invariant: a configuration is in memory exactly if it is on the shelf. So what is written is taken in also when the
//! caller leaves in between.

mod document;
mod edge;
mod engine;
mod metrics;
mod work;

pub use metrics::{Measured, MeasuredMetric, QueryTest, QueryTestOutcome};

use crate::error::Error;
use crate::hub::Hub;
use crate::registry::IfMatch;
use arc_swap::ArcSwap;
use ostler_core::configuration::{Configuration, ConfigurationId, ConfigurationSpec, Scope};
use ostler_core::id::EntityId;
use ostler_core::limits::CONFIGURATIONS;
use ostler_core::query::{Dialect, Field};
use ostler_store::{Change, CommitError, Expect, Shelf, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use work::{Sweep, Triggers, Work};

type All = BTreeMap<ConfigurationId, Arc<Configuration>>;
/// A writer's turn.
type Turn = tokio::sync::OwnedMutexGuard<()>;

/// All configurations at one time.
#[derive(Debug, Default)]
struct Set {
    all: All,
    /// Whether any is about edge devices: then modules depend on their device.
    edge: bool,
    /// Whether a condition asks for what configurations change: then a twin that was changed must be looked at again.
    reflexive: bool,
}

impl Set {
    fn new(all: All) -> Set {
        let edge = all.values().any(|configuration| configuration.target.scope() == Scope::EdgeDevices);
        let changed = |field: &Field| {
            use Field::{Configurations, Desired, Etag, Properties, Version};
            matches!(field, Configurations(_) | Desired(_) | Etag | Properties | Version)
        };
        let reflexive = all.values().flat_map(|configuration| configuration.target.fields()).any(changed);
        Set { all, edge, reflexive }
    }

    /// What could matter to any of them. A winner's settings are enforced, so back ends' changes always do.
    fn triggers(&self) -> Triggers {
        let one = |triggers: Triggers, field: &Field| match field {
            Field::Reported(_) | Field::Properties | Field::Version => triggers.with(Triggers::REPORTED),
            field if field.is_live() => triggers.with(Triggers::LIVE),
            _ => triggers,
        };
        let start = if self.all.is_empty() { Triggers::default() } else { Triggers::RECORD };
        self.all.values().flat_map(|configuration| configuration.target.fields()).fold(start, one)
    }
}

/// The configurations of a hub, and what is to be done about them.
#[derive(Debug)]
pub(crate) struct Configurations {
    set: ArcSwap<Set>,
    work: Arc<Work>,
    /// Writers take turns, so that each decides on what the one before it made.
    writer: Arc<tokio::sync::Mutex<()>>,
}

impl Configurations {
    pub(crate) async fn load(store: &dyn Store) -> Result<Configurations, Error> {
        // Twice what may be there: more than that is not ours.
        let documents = store.documents(Shelf::Configurations, "", None, 2 * CONFIGURATIONS).await?;
        let mut all = BTreeMap::new();
        for (key, document) in documents {
            let configuration = document::read(&key, &document.value)?;
            all.insert(configuration.id.clone(), Arc::new(configuration));
        }
        let set = Set::new(all);
        let work = Work::default();
        work.set_triggers(set.triggers());
        Ok(Configurations {
            set: ArcSwap::from_pointee(set),
            work: Arc::new(work),
            writer: Default::default(),
        })
    }

    /// Starts the engine; it ends when the hub is dropped or its store closed.
    pub(crate) fn start(hub: &Arc<Hub>) {
        hub.configurations.work.sweep(Sweep::All);
        let work = hub.configurations.work.clone();
        tokio::spawn(engine::run(Weak::clone(&Arc::downgrade(hub)), work));
    }

    /// Whose record a change touches, if that could matter to a configuration; of changes that stand together, the
    /// first one's.
    pub(crate) fn touched(&self, change: &Change) -> Option<EntityId> {
        match change {
            Change::Together(changes) => changes.iter().find_map(|change| self.touched(change)),
            Change::Put { record, .. } if self.work.cares(Triggers::RECORD) => Some(record.id.clone()),
            Change::PutReported { id, .. } if self.work.cares(Triggers::REPORTED) => Some(id.clone()),
            _ => None,
        }
    }

    /// A twin that changed, as [`Configurations::touched`] said.
    pub(crate) fn look_at(&self, id: Option<EntityId>) {
        if let Some(id) = id {
            self.work.look_at(id);
        }
    }

    /// A record was changed past [`Configurations::touched`].
    fn record_changed(&self, id: &EntityId) {
        if self.work.cares(Triggers::RECORD) {
            self.work.look_at(id.clone());
        }
    }

    /// A device or module connected or went away.
    pub(crate) fn connection_changed(&self, id: &EntityId) {
        if self.work.cares(Triggers::LIVE) {
            self.work.look_at(id.clone());
        }
    }

    fn replace(&self, change: impl FnOnce(&mut All)) {
        let mut all = self.set.load().all.clone();
        change(&mut all);
        let set = Set::new(all);
        // A sweep follows, so a twin that changes in between is seen either way.
        self.work.set_triggers(set.triggers());
        self.set.store(Arc::new(set));
    }
}

impl Hub {
    /// Configurations in the order of their ids, at most `limit`.
    pub fn configurations(&self, limit: usize) -> Vec<Arc<Configuration>> {
        self.configurations.set.load().all.values().take(limit).cloned().collect()
    }

    /// One configuration.
    ///
    /// # Errors
    /// [`Error::ConfigurationNotFound`].
    pub fn configuration(&self, id: &ConfigurationId) -> Result<Arc<Configuration>, Error> {
        let found = self.configurations.set.load().all.get(id).cloned();
        found.ok_or_else(|| Error::ConfigurationNotFound(id.to_string()))
    }

    /// Makes a configuration; twins that meet its condition follow within a second or so.
    ///
    /// # Errors
    /// [`Error::ConfigurationExists`], [`Error::TooManyConfigurations`], [`Error::Configuration`], or the store's.
    pub async fn create_configuration(
        &self,
        id: &ConfigurationId,
        spec: ConfigurationSpec,
        dialect: Dialect,
    ) -> Result<Arc<Configuration>, Error> {
        let turn = self.configurations.writer.clone().lock_owned().await;
        let count = {
            let set = self.configurations.set.load();
            if set.all.contains_key(id) {
                return Err(Error::ConfigurationExists(id.to_string()));
            }
            set.all.len()
        };
        if count >= CONFIGURATIONS {
            return Err(Error::TooManyConfigurations);
        }
        let start = self.fresh_secrets()?.etag_start;
        let made = Configuration::create(id.clone(), spec, dialect, start, self.now())?;
        self.keep_configuration(turn, made, Some(Expect::Absent)).await
    }

    /// Changes a configuration; what `spec` leaves out stays.
    ///
    /// # Errors
    /// [`Error::ConfigurationNotFound`], [`Error::PreconditionFailed`], [`Error::Configuration`], or the store's.
    pub async fn update_configuration(
        &self,
        id: &ConfigurationId,
        if_match: &IfMatch,
        spec: ConfigurationSpec,
        dialect: Dialect,
    ) -> Result<Arc<Configuration>, Error> {
        let turn = self.configurations.writer.clone().lock_owned().await;
        let current = self.configuration(id)?;
        if_match.check(&current.etag_text())?;
        let updated = current.update(spec, dialect, self.now())?;
        self.keep_configuration(turn, updated, None).await
    }

    async fn keep_configuration(
        &self,
        turn: Turn,
        configuration: Configuration,
        expect: Option<Expect>,
    ) -> Result<Arc<Configuration>, Error> {
        let id = configuration.id.clone();
        let change = Change::PutDocument {
            shelf: Shelf::Configurations,
            key: id.as_str().into(),
            value: document::write(&configuration),
            expect,
        };
        let configuration = Arc::new(configuration);
        let kept = configuration.clone();
        let taken_in = id.clone();
        self.write_configuration(turn, id, change, move |all| drop(all.insert(taken_in, kept))).await?;
        Ok(configuration)
    }

    /// Writes to the shelf, then changes what is in memory, whatever becomes of the caller.
    async fn write_configuration(
        &self,
        turn: Turn,
        id: ConfigurationId,
        change: Change,
        take_in: impl FnOnce(&mut All) + Send + 'static,
    ) -> Result<(), Error> {
        let hub = self.itself().ok_or(StoreError::Closed)?;
        let written = tokio::spawn(async move {
            let _turn = turn;
            hub.commit_one(change).await.map_err(|error| configuration_error(&id, error))?;
            hub.configurations.replace(take_in);
            hub.configurations.work.sweep(Sweep::One(id));
            Ok(())
        });
        written.await.unwrap_or(Err(Error::Store(StoreError::Closed)))
    }

    /// Deletes a configuration; its settings are removed from twins, and the next-best one is applied.
    ///
    /// # Errors
    /// [`Error::ConfigurationNotFound`], [`Error::PreconditionFailed`], or the store's.
    pub async fn delete_configuration(&self, id: &ConfigurationId, if_match: &IfMatch) -> Result<(), Error> {
        let turn = self.configurations.writer.clone().lock_owned().await;
        if_match.check(&self.configuration(id)?.etag_text())?;
        let change = Change::DeleteDocument { shelf: Shelf::Configurations, key: id.as_str().into() };
        let gone = id.clone();
        self.write_configuration(turn, id.clone(), change, move |all| drop(all.remove(&gone))).await
    }

    /// Waits until the engine has looked at everything that it was told of so far: what tests and measurements
    /// wait for in place of a time.
    pub async fn configurations_settled(&self) {
        self.configurations.work.idle().await;
    }
}

fn configuration_error(id: &ConfigurationId, error: CommitError) -> Error {
    match error {
        CommitError::Exists => Error::ConfigurationExists(id.to_string()),
        CommitError::Missing => Error::ConfigurationNotFound(id.to_string()),
        CommitError::Store(error) => Error::Store(error),
        CommitError::Conflict | CommitError::NoDevice => Error::Contended,
    }
}
