//! Edge devices: their modules are made when a configuration names them, and content can be put into them by hand
//! (service §11.1).
//!
//! Must not know: which configuration wins.
//!
//! Invariant: content that is applied by hand is applied to all modules or to none.

use super::engine::edge_winner;
use super::Set;
use crate::bus::Tell;
use crate::error::Error;
use crate::hub::Hub;
use crate::registry::{Action, Operation};
use ostler_core::configuration::{settings_patch, ConfigurationError, Content, Settings};
use ostler_core::id::{DeviceId, EntityId, ModuleId};
use ostler_core::identity::IdentitySpec;
use ostler_core::json::Object;
use ostler_core::record::Record;
use ostler_core::twin::{DesiredChange, SectionPatch, TwinContent, TwinPatch};
use ostler_store::{Change, CommitError, Expect, StoreError};
use std::sync::Arc;

/// How often a change of all modules is decided again when others change one of them.
const TRIES: usize = 20;

impl Hub {
    /// Puts settings into the modules of an edge device, once; modules that are missing are made.
    ///
    /// # Errors
    /// Not found, [`Error::InvalidArgument`] for a device that is not an edge device, [`Error::Configuration`] for
    /// bad content, [`Error::Twin`], or the store's.
    pub async fn apply_configuration_content(&self, id: &DeviceId, content: &Object) -> Result<(), Error> {
        let device = self.load(&id.into()).await?;
        if !device.identity.iot_edge {
            let text = format!(
                "the device \"{id}\" is not an edge device (capabilities.iotEdge is false); change its twin instead"
            );
            return Err(Error::InvalidArgument(text));
        }
        let Content::Edge(modules) = Content::read(content)? else {
            let text = "an edge device takes modulesContent only";
            return Err(ConfigurationError::Content(text.into()).into());
        };
        self.create_missing_modules(id, modules.iter().map(|(module, _)| module)).await?;
        let modules: Vec<(EntityId, Settings)> = modules
            .into_iter()
            .map(|(module, settings)| (EntityId::of_module(id, &module), settings))
            .collect();
        for _ in 0..TRIES {
            if self.apply_to_modules(&modules).await? {
                return Ok(());
            }
            self.stats().commit_retries.add(1);
        }
        Err(Error::Contended)
    }

    /// False when another change came in between.
    async fn apply_to_modules(&self, modules: &[(EntityId, Settings)]) -> Result<bool, Error> {
        let _turns = self.notify_in_order(modules.iter().map(|(id, _)| id)).await;
        let mut changes = Vec::new();
        let mut told = Vec::new();
        for (id, settings) in modules {
            let record = self.load(id).await?;
            let expect = Expect::Revision(record.revision);
            let Some((record, change)) = self.with_settings(record, settings)? else { continue };
            told.extend(change.map(|change| (id, Arc::new(change))));
            changes.push(Change::Put { record: Box::new(record), expect });
        }
        match self.commit_one(Change::Together(changes)).await {
            Ok(()) => {}
            Err(CommitError::Conflict) => return Ok(false),
            Err(CommitError::Store(error)) => return Err(error.into()),
            Err(_) => return Err(Error::Contended),
        }
        for (id, _) in modules {
            self.configurations.record_changed(id);
        }
        for (id, change) in told {
            self.emit_desired(id, &change);
            self.tell(id, Tell::DesiredChanged(change));
        }
        Ok(true)
    }

    fn with_settings(
        &self,
        mut record: Record,
        settings: &Settings,
    ) -> Result<Option<(Record, Option<DesiredChange>)>, Error> {
        let patch = settings_patch(&record.twin.desired, settings);
        if patch.is_empty() {
            return Ok(None);
        }
        let patch = TwinPatch { tags: None, desired: Some(SectionPatch::Merge(patch)) };
        let (twin, change) = std::mem::take(&mut record.twin).patch(&patch, self.now())?;
        record.twin = twin;
        Ok(Some((record, change)))
    }

    /// Adds the modules of the devices among `ids`, because what targets an edge device changes its modules, and so
    /// does a device that is no edge device any more.
    pub(super) async fn add_edge_modules(&self, set: &Set, ids: &mut Vec<EntityId>) -> Result<(), Error> {
        if !set.edge {
            return Ok(());
        }
        let devices: Vec<EntityId> = ids.iter().filter(|id| !id.is_module()).cloned().collect();
        for id in devices {
            let device = match self.store.load(&id).await {
                Ok(Some(device)) => device,
                Ok(None) | Err(StoreError::Corrupt { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let id = id.device_id();
            if let Some(Content::Edge(modules)) =
                edge_winner(&self.matching_edge(set, &device)).map(|winner| &winner.content)
            {
                self.create_for_engine(&id, modules.iter().map(|(module, _)| module)).await?;
            }
            let modules = self.store.list_modules(&id).await?;
            ids.extend(modules.into_iter().map(|module| module.id));
        }
        // A module may have been among them already.
        ids.sort_unstable();
        ids.dedup();
        Ok(())
    }

    /// A device that has no room for more modules keeps the others.
    async fn create_for_engine(
        &self,
        device: &DeviceId,
        modules: impl Iterator<Item = &ModuleId>,
    ) -> Result<(), Error> {
        match self.create_missing_modules(device, modules).await {
            Err(Error::Store(error)) => Err(error.into()),
            Err(error) => {
                tracing::warn!(%device, %error, "a module that a configuration names cannot be made");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn create_missing_modules(
        &self,
        device: &DeviceId,
        modules: impl Iterator<Item = &ModuleId>,
    ) -> Result<(), Error> {
        for module in modules {
            let id = EntityId::of_module(device, module);
            if self.store.load(&id).await?.is_some() {
                continue;
            }
            let identity = IdentitySpec { managed_by: Some("iotEdge".into()), ..IdentitySpec::default() };
            let operation = Operation { id, action: Action::Create, identity, twin: TwinContent::default() };
            match self.apply(operation).await {
                Ok(_) | Err(Error::ModuleExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
