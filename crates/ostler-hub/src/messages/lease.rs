//! Messages for devices that ask for one at a time: each is lent for a minute (device §8.1).
//!
//! Must not know: how a lock is spelled.
//!
//! Invariant: what is lent and not settled in time waits again, one delivery more.

use super::{CloudMessage, MessageLock};
use crate::error::Error;
use crate::hub::{fill_random, Hub};
use ostler_core::id::{DeviceId, EntityId};
use ostler_core::limits::MESSAGE_LEASE_SECS;
use ostler_core::message::{Confirmed, Holder, Outcome};
use ostler_core::record::Activity;
use ostler_core::time::Timestamp;
use ostler_store::StoreError;

impl Hub {
    /// Lends a device its oldest message that nobody holds, for a minute; nothing when there is none. The caller has
    /// signed the device in.
    ///
    /// # Errors
    /// The store's.
    pub async fn lend_message(
        &self,
        device: &DeviceId,
    ) -> Result<Option<(MessageLock, CloudMessage)>, Error> {
        let id = EntityId::from(device);
        self.note_request(&id);
        let mut token = [0; 16];
        fill_random(self.random(), &mut token)?;
        let lock = MessageLock(u128::from_be_bytes(token));
        let hub = self.itself().ok_or(StoreError::Closed)?;
        // In a task, so that the queue follows the store also when the caller leaves in between.
        let lent = tokio::spawn(async move { hub.lend(&id, lock).await });
        let lent = lent.await.unwrap_or(Err(Error::Store(StoreError::Closed)))?;
        Ok(lent.map(|message| (lock, message)))
    }

    async fn lend(&self, id: &EntityId, lock: MessageLock) -> Result<Option<CloudMessage>, Error> {
        let turn = self.messages.table.turn(id).await;
        if self.messages.table.read(id, |_| ()).is_none() {
            return Ok(None);
        }
        self.end_inherited(id, self.load(id).await?.identity.generation_id, &turn).await?;
        self.settle_messages(id, None, &turn).await?;
        let free =
            |queue: &ostler_core::message::Queue| queue.iter().find(|entry| entry.holder.is_none()).cloned();
        loop {
            let Some(entry) = self.messages.table.read(id, |slot| free(&slot.queue)).flatten() else {
                return Ok(None);
            };
            let Some(message) = self.readable_message(id, entry, &turn).await? else { continue };
            let until = self.now().plus_secs(MESSAGE_LEASE_SECS);
            let holder = Holder::Lease { token: lock.0, until };
            self.messages.table.change(id, &turn, |queue| queue.hold(message.sequence, holder));
            self.stats().messages_delivered.add(1);
            return Ok(Some(message));
        }
    }

    /// Ends a message that was lent, or with `None` gives it back.
    ///
    /// # Errors
    /// [`Error::LockLost`] when the minute is over, or the store's.
    pub async fn settle_lent_message(
        &self,
        device: &DeviceId,
        lock: MessageLock,
        outcome: Option<Outcome>,
    ) -> Result<(), Error> {
        let id = EntityId::from(device);
        self.note_request(&id);
        let hub = self.itself().ok_or(StoreError::Closed)?;
        // In a task, so that the queue follows the store also when the caller leaves in between.
        let settled = tokio::spawn(async move {
            let turn = hub.messages.table.turn(&id).await;
            let now = hub.now();
            let lent = hub.messages.table.read(&id, |slot| {
                let entry = slot.queue.leased(lock.0)?;
                let by = entry.holder.filter(|holder| !is_over(*holder, now))?;
                Some(Confirmed { sequence: entry.sequence, by, outcome })
            });
            let said = lent.flatten().ok_or(Error::LockLost)?;
            hub.settle_messages(&id, Some(said), &turn).await?;
            drop(turn);
            hub.wake_messages(&id);
            Ok(())
        });
        settled.await.unwrap_or(Err(Error::Store(StoreError::Closed)))
    }

    /// A device was heard of that has no connection.
    pub(crate) fn note_request(&self, id: &EntityId) {
        let activity = Activity { connection_updated: Timestamp::NEVER, last_activity: self.now() };
        self.store.touch(id, activity);
    }
}

fn is_over(holder: Holder, now: Timestamp) -> bool {
    matches!(holder, Holder::Lease { until, .. } if until <= now)
}
