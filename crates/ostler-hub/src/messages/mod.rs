//! Cloud-to-device messages: a durable queue for each device that has any, and what became of the messages
//! (device §3.4–3.7, service §12).
//!
//! ```text
//!   back end ─send─▶ commit ─▶ queue ─┐
//!   connect, subscribe ───────────────┤        ┌ settle: commit what ended, with its feedback
//!   confirm, disconnect ──────────────┼▶ round ┤
//!   timer ────────────────────────────┘        └ hand out: the next messages into the connection's inbox
//! ```
//!
//! A round (`round`) takes no input: it looks at what is there and does what follows, so that a wake-up too many does
//! no harm. There is at most one at a time for a device, and one more that waits for it.
//!
//! Must not know: how a message travels to a device.
//!
//! Invariant: what a sender was told to be accepted is durable, and ends with exactly one outcome.
//!
//! Invariant: memory follows the store: a queue changes after the commit that says so, whatever becomes of the caller.

mod document;
mod feedback;
mod lease;
mod round;
mod table;

pub use document::FeedbackRecord;
pub use feedback::{FeedbackBatch, FeedbackLock};

use crate::error::Error;
use crate::hub::{fill_random, Hub};
use crate::session::SessionState;
use feedback::FeedbackQueue;
use ostler_core::id::{DeviceId, EntityId};
use ostler_core::limits::MESSAGES;
use ostler_core::message::{Confirmed, Entry, Feedback, Holder, Message, Outcome};
use ostler_core::time::Timestamp;
use ostler_store::{Change, Shelf, Store, StoreError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
pub(crate) use table::Table;
use table::Turn;
use tokio::runtime::Handle;

/// Documents read at once at the start.
const PAGE: usize = 1000;

/// A message on its way to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudMessage {
    /// Names it when it is confirmed.
    pub sequence: u64,
    /// How often it was handed out before.
    pub deliveries: u32,
    /// When it was accepted.
    pub enqueued: Timestamp,
    /// When its time is over.
    pub expires: Timestamp,
    /// What it says.
    pub content: Message,
}

/// Names a message that is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLock(pub u128);

/// A message that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its place in the order of the queue.
    pub sequence: u64,
    /// Its id, if it has one.
    pub message_id: Option<Box<str>>,
    /// When it was accepted.
    pub enqueued: Timestamp,
    /// When its time is over.
    pub expires: Timestamp,
}

/// The messages of a hub.
pub(crate) struct Messages {
    table: Arc<Table>,
    feedback: FeedbackQueue,
    next: AtomicU64,
    /// For rounds that begin where there is no runtime at hand.
    runtime: Handle,
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.table.wake.notify_one();
    }
}

impl Messages {
    /// Reads the queues of a store; messages to devices that are gone are removed.
    pub(crate) async fn load(store: &dyn Store) -> Result<Messages, Error> {
        let feedback = FeedbackQueue::load(store).await?;
        let messages =
            Messages { table: Arc::default(), feedback, next: AtomicU64::new(1), runtime: Handle::current() };
        let mut after: Option<Box<str>> = None;
        let mut known: Option<(EntityId, Option<u64>)> = None;
        loop {
            let page = store.documents(Shelf::Messages, "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(messages) };
            after = Some(last.clone());
            let mut orphans = Vec::new();
            for (key, stored) in &page {
                let read = document::parse_key(key)
                    .and_then(|(id, sequence)| Ok((id, document::read_entry(sequence, &stored.value)?)));
                let (id, (entry, generation_id)) = match read {
                    Ok(read) => read,
                    Err(damage) => {
                        tracing::error!(key = &**key, reason = damage.0, "a stored message cannot be read");
                        continue;
                    }
                };
                messages.next.fetch_max(entry.sequence + 1, Ordering::Relaxed);
                if known.as_ref().is_none_or(|(known, _)| *known != id) {
                    let record = store.load(&id).await?;
                    known = Some((id.clone(), record.map(|record| record.identity.generation_id)));
                }
                if known.as_ref().is_some_and(|(_, current)| *current == Some(generation_id)) {
                    messages.table.push(&id, generation_id, entry);
                } else {
                    orphans.extend(deletions(key));
                }
            }
            // What cannot be removed now is removed at the next start.
            drop(store.commit(orphans).await);
        }
    }

    /// Looks after timers until the hub is dropped.
    pub(crate) fn start(hub: &Arc<Hub>) {
        let wake = hub.messages.table.wake.clone();
        tokio::spawn(round::look_after_timers(Weak::clone(&Arc::downgrade(hub)), wake));
    }

    /// The queues, for whoever counts what is in them.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.clone()
    }

    /// Messages that wait for the entity of this name.
    pub(crate) fn count(&self, id: &str) -> u64 {
        self.table.count(id) as u64
    }
}

/// The changes that remove a message.
fn deletions(key: &str) -> [Change; 2] {
    [Shelf::Messages, Shelf::MessageBodies].map(|shelf| Change::DeleteDocument { shelf, key: key.into() })
}

impl Hub {
    /// Puts a message into a device's queue. It is durable when this resolves, and the device gets it as soon as it is
    /// connected and wants messages. A message that asks for feedback and has no id is given one.
    ///
    /// # Errors
    /// Not found, [`Error::Message`] with the rule that is broken, [`Error::TooManyMessages`], or the store's.
    pub async fn send_message(&self, device: &DeviceId, mut message: Message) -> Result<Accepted, Error> {
        let now = self.now();
        message.check(now)?;
        if message.feedback != Feedback::None && message.message_id.is_none() {
            let mut id = [0; 16];
            fill_random(self.random(), &mut id)?;
            message.message_id = Some(format!("{:032x}", u128::from_be_bytes(id)).into());
        }
        if self.messages.table.total() >= MESSAGES {
            return Err(Error::TooManyMessages(MESSAGES));
        }
        let hub = self.itself().ok_or(StoreError::Closed)?;
        let id = EntityId::from(device);
        // In a task, so that the queue follows the store also when the caller leaves in between.
        let sent = tokio::spawn(async move { hub.enqueue(id, message, now).await });
        sent.await.unwrap_or(Err(Error::Store(StoreError::Closed)))
    }

    async fn enqueue(&self, id: EntityId, message: Message, now: Timestamp) -> Result<Accepted, Error> {
        let turn = self.messages.table.turn(&id).await;
        let generation_id = self.load(&id).await?.identity.generation_id;
        self.make_room(&id, generation_id, &turn).await?;
        let sequence = self.messages.next.fetch_add(1, Ordering::Relaxed);
        let entry = Entry {
            sequence,
            message_id: message.message_id.clone(),
            enqueued: now,
            expires: message.expiry.unwrap_or_else(|| now.plus_secs(self.options().message_ttl_secs)),
            deliveries: 0,
            feedback: message.feedback,
            holder: None,
        };
        let key = document::key(&id, sequence);
        let put = |shelf, value| Change::PutDocument { shelf, key: key.clone(), value, expect: None };
        let stored = Change::Together(vec![
            put(Shelf::Messages, document::write_entry(&entry, generation_id)),
            put(Shelf::MessageBodies, document::write_message(&message)),
        ]);
        self.commit_one(stored).await.map_err(|error| Error::commit(&id, error))?;
        let (enqueued, expires) = (entry.enqueued, entry.expires);
        self.messages.table.push(&id, generation_id, entry);
        self.stats().messages_accepted.add(1);
        drop(turn);
        self.wake_messages(&id);
        Ok(Accepted { sequence, message_id: message.message_id, enqueued, expires })
    }

    /// Sees to it that one more message fits: what is over counts no more, nor what was sent to an earlier device of
    /// the same name.
    async fn make_room(&self, id: &EntityId, generation_id: u64, turn: &Turn) -> Result<(), Error> {
        let table = &self.messages.table;
        self.end_inherited(id, generation_id, turn).await?;
        if table.read(id, |slot| slot.queue.check_room().is_err()) == Some(true) {
            self.settle_messages(id, None, turn).await?;
        }
        Ok(table.read(id, |slot| slot.queue.check_room()).unwrap_or(Ok(()))?)
    }

    /// Removes all messages from a device's queue, also those that it was handed and has not confirmed; how many there
    /// were. A module has no queue: it counts none.
    ///
    /// # Errors
    /// Not found, or the store's.
    pub async fn purge_messages(&self, id: &EntityId) -> Result<u64, Error> {
        self.load_of_device(id).await?;
        self.remove_messages(id).await
    }

    /// As [`Hub::purge_messages`], of a device that may be gone.
    pub(crate) async fn remove_messages(&self, id: &EntityId) -> Result<u64, Error> {
        let hub = self.itself().ok_or(StoreError::Closed)?;
        let id = id.clone();
        let purged = tokio::spawn(async move {
            // Whoever sends at this moment has the turn: what it sends is removed too.
            let turn = hub.messages.table.turn(&id).await;
            hub.end_messages(&id, Outcome::Purged, &turn).await
        });
        purged.await.unwrap_or(Err(Error::Store(StoreError::Closed)))
    }

    /// A device has confirmed a message that this connection was handed. What it confirms too late, or without having
    /// been handed it, means nothing.
    pub fn confirm_message(&self, session: &SessionState, sequence: u64) {
        self.said(session, sequence, Some(Outcome::Success));
    }

    /// A message that this connection was handed cannot be sent on it: it waits again, one delivery more.
    pub fn give_back_message(&self, session: &SessionState, sequence: u64) {
        self.said(session, sequence, None);
    }

    fn said(&self, session: &SessionState, sequence: u64, outcome: Option<Outcome>) {
        let by = Holder::Connection(session.epoch());
        let said = Confirmed { sequence, by, outcome };
        self.messages.table.confirm(session.id(), said);
        session.note_activity(self.now());
        self.wake_messages(session.id());
    }

    /// How many messages wait for all devices.
    pub fn queued_messages(&self) -> usize {
        self.messages.table.total()
    }

    /// How many outcomes wait to be read.
    pub fn waiting_feedback(&self) -> usize {
        self.messages.feedback.len()
    }

    /// The oldest outcomes that nobody holds, held for a minute from now on; nothing when there are none.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn take_feedback(&self) -> Result<Option<FeedbackBatch>, Error> {
        let mut lock = [0; 16];
        fill_random(self.random(), &mut lock)?;
        let batch = self.messages.feedback.take(FeedbackLock(u128::from_be_bytes(lock)), self.now());
        if batch.is_some() {
            // The lock has a timer.
            self.messages.table.wake.notify_one();
        }
        Ok(batch)
    }

    /// The outcomes of a batch are dealt with.
    ///
    /// # Errors
    /// [`Error::LockLost`] when nobody holds it, or the store's: then it comes again.
    pub async fn complete_feedback(&self, lock: FeedbackLock) -> Result<(), Error> {
        let sequences = self.messages.feedback.complete(lock, self.now()).ok_or(Error::LockLost)?;
        let hub = self.itself().ok_or(StoreError::Closed)?;
        let done = tokio::spawn(async move { hub.forget_feedback(sequences).await });
        done.await.unwrap_or(Err(Error::Store(StoreError::Closed)))
    }

    /// Deletes outcomes that are held.
    async fn forget_feedback(&self, sequences: Vec<u64>) -> Result<(), Error> {
        match self.commit_one(feedback::deletion(&sequences)).await {
            Ok(()) => {
                self.messages.feedback.forget(&sequences);
                Ok(())
            }
            Err(error) => {
                self.messages.feedback.give_back(sequences);
                Err(Error::plain(error))
            }
        }
    }

    /// Gives a batch back at once.
    ///
    /// # Errors
    /// [`Error::LockLost`] when nobody holds it.
    pub fn abandon_feedback(&self, lock: FeedbackLock) -> Result<(), Error> {
        match self.messages.feedback.abandon(lock, self.now()) {
            true => Ok(()),
            false => Err(Error::LockLost),
        }
    }
}
