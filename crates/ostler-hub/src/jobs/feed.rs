//! The devices of a wave that have not begun, page by page.

use super::codec::{decode_step, Step};
use super::commit::Gone;
use super::corrupt;
use super::table::Shared;
use ostler_core::id::EntityId;
use ostler_core::job::{DeviceJobStatus, JobId};
use ostler_store::Shelf;
use tokio::sync::OwnedSemaphorePermit;

/// Device jobs read at a time.
pub(super) const PAGE: usize = 1024;

/// A device that has not begun, or is to begin again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Todo {
    pub(super) device: EntityId,
    /// Tries before this one.
    pub(super) attempts: u32,
}

/// Where the devices come from.
pub(super) struct Feed {
    prefix: Box<str>,
    wave: usize,
    /// Whether the waves follow each other in the order of the ids.
    is_ordered: bool,
    given: std::vec::IntoIter<EntityId>,
    /// Held while there are given ones.
    room: Option<OwnedSemaphorePermit>,
    after: Option<Box<str>>,
    is_done: bool,
}

impl Feed {
    /// The stored devices of a wave, behind the key `after`.
    pub(super) fn stored(job: &JobId, wave: usize, is_ordered: bool, after: Option<Box<str>>) -> Feed {
        let prefix = format!("{job}/").into();
        Feed { prefix, wave, is_ordered, given: Vec::new().into_iter(), room: None, after, is_done: false }
    }

    /// Devices that were just stored, the last of them under the key `last`.
    pub(super) fn given(devices: Vec<EntityId>, room: OwnedSemaphorePermit, last: Option<Box<str>>) -> Feed {
        Feed {
            prefix: "".into(),
            wave: 0,
            is_ordered: true,
            given: devices.into_iter(),
            room: Some(room),
            after: last,
            is_done: true,
        }
    }

    /// Whether there are no more.
    pub(super) fn is_empty(&self) -> bool {
        self.is_done && self.given.len() == 0
    }

    /// Whether the waves follow each other in the order of the ids.
    pub(super) fn is_ordered(&self) -> bool {
        self.is_ordered
    }

    /// The key behind which the next wave starts, when waves are ordered.
    pub(super) fn position(&self) -> Option<Box<str>> {
        self.after.clone().filter(|_| self.is_ordered)
    }

    /// Some more; may be none although there are more.
    pub(super) async fn next(&mut self, shared: &Shared) -> Result<Vec<(EntityId, Option<Step>)>, Gone> {
        if self.is_done {
            let some = self.given.by_ref().take(PAGE).map(|device| (device, None)).collect();
            if self.given.len() == 0 {
                (self.given, self.room) = (Vec::new().into_iter(), None);
            }
            return Ok(some);
        }
        let (prefix, after) = (&*self.prefix, self.after.as_deref());
        let page = shared.read(|| shared.store.documents(Shelf::DeviceJobs, prefix, after, PAGE)).await?;
        self.is_done = page.len() < PAGE;
        let mut found = Vec::with_capacity(page.len());
        for (key, document) in page {
            let Some((device, step)) = read_step(&key, &document.value) else { continue };
            if step.wave > self.wave && self.is_ordered {
                self.is_done = true;
                break;
            }
            if step.wave == self.wave && step.status == DeviceJobStatus::Pending {
                found.push((device, Some(step)));
            }
            self.after = Some(key);
        }
        Ok(found)
    }
}

/// A stored device job; one that cannot be read is logged and passed over.
pub(super) fn read_step(key: &str, bytes: &[u8]) -> Option<(EntityId, Step)> {
    let device = key.split_once('/').and_then(|(_, device)| EntityId::parse(device).ok())?;
    match decode_step(bytes) {
        Ok(step) => Some((device, step)),
        Err(damage) => {
            let error = corrupt(key, damage);
            tracing::error!(%error, "a device job cannot be read; it is passed over");
            None
        }
    }
}
