//! Twins: what back ends and devices read and change of them, and what a device asks of its session.

use crate::bus::Tell;
use crate::error::Error;
use crate::events::{about, EventKind};
use crate::hub::{Hub, View};
use crate::registry::IfMatch;
use crate::session::SessionState;
use ostler_core::id::EntityId;
use ostler_core::identity::twin_etag_text;
use ostler_core::json::Object;
use ostler_core::record::{Delivery, Interest, Record};
use ostler_core::time::Timestamp;
use ostler_core::twin::{DesiredChange, SectionKind, SectionPatch, Twin, TwinContent, TwinError, TwinPatch};
use std::sync::Arc;

type Decided = Result<(Twin, Option<DesiredChange>), TwinError>;

impl Hub {
    /// A twin as a back end sees it.
    ///
    /// # Errors
    /// Not found, or the store's.
    pub async fn twin(&self, id: &EntityId) -> Result<View, Error> {
        Ok(self.view(self.load_of_device(id).await?))
    }

    /// Changes tags and desired properties (service §8.3).
    ///
    /// # Errors
    /// Not found, [`Error::PreconditionFailed`], [`Error::Twin`], or the store's.
    pub async fn patch_twin(
        &self,
        id: &EntityId,
        if_match: &IfMatch,
        patch: &TwinPatch,
    ) -> Result<View, Error> {
        if patch.is_empty() {
            let view = self.twin(id).await?;
            return if_match.check(&twin_etag_text(view.record.twin.etag)).map(|()| view);
        }
        let view = self.change_twin(id, if_match, |twin, now| twin.patch(patch, now)).await?;
        if let Some(tags) = &patch.tags {
            self.tell_section(id, SectionKind::Tags, &view.record.twin, tags);
        }
        Ok(view)
    }

    /// Replaces tags and desired properties (service §8.3).
    ///
    /// # Errors
    /// As [`Hub::patch_twin`].
    pub async fn replace_twin(
        &self,
        id: &EntityId,
        if_match: &IfMatch,
        content: &TwinContent,
    ) -> Result<View, Error> {
        let view = self.change_twin(id, if_match, |twin, now| twin.replace(content, now)).await?;
        let tags = content.tags.clone().map_or(SectionPatch::Clear, SectionPatch::Merge);
        self.tell_section(id, SectionKind::Tags, &view.record.twin, &tags);
        Ok(view)
    }

    /// Decides, commits, then tells the device; changes of one twin are told in the order of their
    /// versions, because clients drop what is older than what they have.
    async fn change_twin(
        &self,
        id: &EntityId,
        if_match: &IfMatch,
        decide: impl Fn(Twin, Timestamp) -> Decided,
    ) -> Result<View, Error> {
        let _turn = self.notify_in_order(std::iter::once(id)).await;
        let (record, told) = self
            .change(id, |mut record| {
                if_match.check(&twin_etag_text(record.twin.etag))?;
                let (twin, told) = decide(std::mem::take(&mut record.twin), self.now())?;
                record.twin = twin;
                Ok((Some(record.clone()), (record, told)))
            })
            .await?;
        self.stats().service_changes.add(1);
        if let Some(change) = told {
            let change = Arc::new(change);
            self.emit_desired(id, &change);
            self.tell(id, Tell::DesiredChanged(change));
        }
        Ok(self.view(record))
    }

    /// Puts a change of desired properties on the live stream.
    pub(crate) fn emit_desired(&self, id: &EntityId, change: &DesiredChange) {
        self.events().emit(|| {
            let (patch, version) = (change.patch.clone(), change.version);
            about(id, self.now(), EventKind::TwinChanged { section: SectionKind::Desired, version, patch })
        });
    }

    fn tell_section(&self, id: &EntityId, section: SectionKind, twin: &Twin, change: &SectionPatch) {
        self.events().emit(|| {
            let patch = match change {
                SectionPatch::Merge(patch) => patch.clone(),
                SectionPatch::Clear => Object::new(),
            };
            about(id, self.now(), EventKind::TwinChanged { section, version: twin.version, patch })
        });
    }

    /// A module's record; without its device the device is what is missing.
    pub(crate) async fn load_of_device(&self, id: &EntityId) -> Result<Record, Error> {
        match self.store.load(id).await? {
            Some(record) => Ok(record),
            None if id.is_module() && self.store.load(&id.device_id().into()).await?.is_none() => {
                Err(Error::DeviceNotFound(id.device().into()))
            }
            None => Err(Error::not_found(id)),
        }
    }

    /// Lets go on what waits for a device to take method calls or messages.
    pub(crate) fn note_arrival(&self, session: &SessionState) {
        self.bus.arrived(session.id());
        if session.delivery(Interest::Methods).is_some() {
            self.jobs.arrived(session.id());
        }
        if session.delivery(Interest::Messages).is_some() {
            self.wake_messages(session.id());
        }
    }

    /// The twin as its device sees it: JSON text of `desired` and `reported` (device §4.2).
    ///
    /// # Errors
    /// Not found when it was deleted meanwhile, or the store's.
    pub async fn device_twin(&self, session: &SessionState) -> Result<Vec<u8>, Error> {
        let record = self.load(session.id()).await?;
        let mut text = Vec::with_capacity(512);
        record.twin.write_for_device(&mut text);
        session.note_activity(self.now());
        self.stats().device_twin_reads.add(1);
        Ok(text)
    }

    /// Applies a device's patch of its reported properties; the new version comes back.
    ///
    /// `expected` is the version that the device thinks is current, when it says so.
    ///
    /// # Errors
    /// [`Error::InvalidJson`], [`Error::Twin`], [`Error::PreconditionFailed`], or the store's.
    pub async fn report(
        &self,
        session: &SessionState,
        patch: &[u8],
        expected: Option<u64>,
    ) -> Result<u64, Error> {
        let patch = Object::parse(patch)?;
        let now = self.now();
        let version = self
            .change_reported(session.id(), |reported| {
                if expected.is_some_and(|expected| expected != reported.section.version) {
                    return Err(Error::PreconditionFailed);
                }
                Ok(reported.report(&patch, now)?)
            })
            .await?;
        session.note_activity(now);
        self.stats().reported_changes.add(1);
        self.events().emit(|| {
            let section = SectionKind::Reported;
            about(session.id(), now, EventKind::TwinChanged { section, version, patch: patch.clone() })
        });
        Ok(version)
    }

    /// Adds, changes or (`None`) removes subscriptions. For a persistent session they are durable
    /// when this resolves.
    ///
    /// # Errors
    /// Not found when it was deleted meanwhile, or the store's.
    pub async fn subscribe(
        &self,
        session: &SessionState,
        wishes: &[(Interest, Option<Delivery>)],
    ) -> Result<(), Error> {
        let apply =
            |set| wishes.iter().fold(set, |set: ostler_core::record::Subscriptions, (i, d)| set.with(*i, *d));
        let subscriptions = apply(session.subscriptions());
        if session.is_persistent() && subscriptions != session.subscriptions() {
            self.change(session.id(), |mut record| {
                record.subscriptions = subscriptions;
                Ok((Some(record), ()))
            })
            .await?;
        }
        session.set_subscriptions(subscriptions);
        self.note_arrival(session);
        Ok(())
    }
}
