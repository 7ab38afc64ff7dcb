//! Rounds: what follows for one device's queue, done.
//!
//! Must not know: how a message travels to a device.
//!
//! Invariant: a round that cannot be finished leaves everything as it is, and another one follows.

use super::{deletions, document, CloudMessage, FeedbackRecord, Messages};
use crate::error::Error;
use crate::hub::Hub;
use crate::messages::table::Turn;
use crate::session::{News, SessionState};
use ostler_core::id::EntityId;
use ostler_core::limits::MESSAGES_IN_FLIGHT_PER_CONNECTION;
use ostler_core::message::{Confirmed, Entry, Holder, Outcome, Settlement, Terms};
use ostler_core::record::Interest;
use ostler_core::time::{Timestamp, TICKS_PER_SEC};
use ostler_store::{Change, Shelf, StoreError};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// Seconds until a round that the store refused is tried again.
const RETRY_SECS: i64 = 1;

impl Hub {
    /// Something happened that may matter to a device's queue. Costs next to nothing when it has none.
    pub(crate) fn wake_messages(&self, id: &EntityId) {
        if !self.messages.table.schedule(id) {
            return;
        }
        let (Some(hub), id) = (self.itself(), id.clone()) else { return };
        self.messages.runtime.spawn(async move { hub.message_round(&id).await });
    }

    async fn message_round(&self, id: &EntityId) {
        let Messages { table, .. } = &self.messages;
        let turn = table.turn(id).await;
        table.begin_round(id, &turn);
        let done = match self.settle_messages(id, None, &turn).await {
            Ok(()) => self.hand_out(id, &turn).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => table.end_round(id, &turn),
            Err(Error::Store(StoreError::Closed)) => {}
            Err(error) => {
                // What is due stays due, so its own timer would have the store asked without a pause.
                tracing::debug!(device = %id, %error, "messages wait for the store");
                table.look_again(id, self.now().plus_secs(RETRY_SECS));
            }
        }
    }

    /// Ends and returns what has to be, by what was confirmed up to now, what the caller knows, who is gone, and the
    /// time.
    pub(super) async fn settle_messages(
        &self,
        id: &EntityId,
        said: Option<Confirmed>,
        turn: &Turn,
    ) -> Result<(), Error> {
        let table = &self.messages.table;
        // Who is gone is looked up first: what a connection that is gone had confirmed has all been noted then.
        let terms = Terms {
            connection: self.bus.sessions.get(id).map(|session| session.epoch()),
            now: self.now(),
            max_deliveries: self.options().message_deliveries,
        };
        let mut confirmed = table.take_confirmed(id, turn);
        let noted = confirmed.len();
        confirmed.extend(said);
        let decided = table.read(id, |slot| slot.queue.settle(&confirmed, terms));
        let done = self.carry_out(id, decided.unwrap_or_default(), turn).await;
        if done.is_err() {
            confirmed.truncate(noted);
            table.put_back(id, confirmed);
        }
        done
    }

    /// Ends all messages of a queue that were not confirmed; how many there were.
    pub(super) async fn end_messages(
        &self,
        id: &EntityId,
        outcome: Outcome,
        turn: &Turn,
    ) -> Result<u64, Error> {
        self.settle_messages(id, None, turn).await?;
        let decided = self.messages.table.read(id, |slot| slot.queue.end_all(outcome)).unwrap_or_default();
        let count = decided.ended.len() as u64;
        self.carry_out(id, decided, turn).await?;
        Ok(count)
    }

    /// Ends what was sent to an earlier device of the same name. Its messages go with a device, unless whoever deleted
    /// it was cut off in between.
    pub(super) async fn end_inherited(
        &self,
        id: &EntityId,
        generation_id: u64,
        turn: &Turn,
    ) -> Result<(), Error> {
        if self.messages.table.read(id, |slot| slot.generation_id != generation_id) == Some(true) {
            self.end_messages(id, Outcome::Purged, turn).await?;
        }
        Ok(())
    }

    /// Makes a settlement durable, with the feedback that was asked for, then does it.
    async fn carry_out(&self, id: &EntityId, settlement: Settlement, turn: &Turn) -> Result<(), Error> {
        if settlement.is_empty() {
            return Ok(());
        }
        let Messages { table, feedback, .. } = &self.messages;
        let (changes, told) = table
            .read(id, |slot| {
                let mut changes = Vec::new();
                let mut told = Vec::new();
                for (sequence, outcome) in &settlement.ended {
                    changes.extend(deletions(&document::key(id, *sequence)));
                    if let Some(entry) =
                        slot.queue.get(*sequence).filter(|entry| entry.feedback.wants(*outcome))
                    {
                        told.push(self.outcome_of(id, slot.generation_id, entry, *outcome));
                    }
                }
                for (sequence, deliveries) in &settlement.returned {
                    if let Some(entry) = slot.queue.get(*sequence) {
                        let entry = Entry { deliveries: *deliveries, ..entry.clone() };
                        let value = document::write_entry(&entry, slot.generation_id);
                        let key = document::key(id, *sequence);
                        changes.push(Change::PutDocument {
                            shelf: Shelf::Messages,
                            key,
                            value,
                            expect: None,
                        });
                    }
                }
                (changes, told)
            })
            .unwrap_or_default();
        let mut changes = changes;
        let told: Vec<(u64, FeedbackRecord)> = if feedback.has_room(told.len()) {
            told.into_iter().map(|record| (feedback.sequence(), record)).collect()
        } else {
            self.stats().feedback_dropped.add(told.len() as u64);
            Vec::new()
        };
        for (sequence, record) in &told {
            let (key, value) = (document::feedback_key(*sequence), document::write_feedback(record));
            changes.push(Change::PutDocument { shelf: Shelf::Feedback, key, value, expect: None });
        }
        self.commit_one(Change::Together(changes)).await.map_err(|error| Error::commit(id, error))?;
        if !told.is_empty() {
            feedback.publish(told);
            // Outcomes have timers too.
            table.wake.notify_one();
        }
        self.count_outcomes(&settlement);
        table.change(id, turn, |queue| queue.apply(&settlement));
        Ok(())
    }

    fn outcome_of(
        &self,
        id: &EntityId,
        generation_id: u64,
        entry: &Entry,
        outcome: Outcome,
    ) -> FeedbackRecord {
        let message_id = entry.message_id.clone().unwrap_or_default();
        FeedbackRecord { message_id, device: id.as_str().into(), generation_id, at: self.now(), outcome }
    }

    fn count_outcomes(&self, settlement: &Settlement) {
        let stats = self.stats();
        for (_, outcome) in &settlement.ended {
            match outcome {
                Outcome::Success => &stats.messages_completed,
                Outcome::Expired => &stats.messages_expired,
                Outcome::DeliveryCountExceeded => &stats.messages_undeliverable,
                Outcome::Rejected => &stats.messages_rejected,
                Outcome::Purged => &stats.messages_purged,
            }
            .add(1);
        }
        stats.messages_returned.add(settlement.returned.len() as u64);
    }

    /// Puts the next messages into the inbox of the device's connection, if it wants them.
    async fn hand_out(&self, id: &EntityId, turn: &Turn) -> Result<(), Error> {
        let wants = |session: &Arc<SessionState>| session.delivery(Interest::Messages).is_some();
        let Some(session) = self.bus.sessions.get(id).filter(wants) else { return Ok(()) };
        let Some(sent_to) = self.messages.table.read(id, |slot| slot.generation_id) else { return Ok(()) };
        if sent_to != session.generation_id() {
            // One of the two is of an earlier device.
            return match self.store.load(id).await? {
                Some(record) => self.end_inherited(id, record.identity.generation_id, turn).await,
                None => self.end_messages(id, Outcome::Purged, turn).await.map(drop),
            };
        }
        let (connection, window) = (session.epoch(), MESSAGES_IN_FLIGHT_PER_CONNECTION);
        let next = |queue: &ostler_core::message::Queue| {
            queue.next_for(connection, window).cloned().collect::<Vec<Entry>>()
        };
        let entries = self.messages.table.read(id, |slot| next(&slot.queue)).unwrap_or_default();
        for entry in entries {
            let sequence = entry.sequence;
            let Some(message) = self.readable_message(id, entry, turn).await? else {
                // There is room for another one.
                self.wake_messages(id);
                continue;
            };
            // Held before it is handed over, so that a quick confirmation finds its holder.
            let hold = |queue: &mut ostler_core::message::Queue| {
                queue.hold(sequence, Holder::Connection(connection));
            };
            self.messages.table.change(id, turn, hold);
            if !session.deliver(News::Message(Arc::new(message))) {
                break;
            }
            self.stats().messages_delivered.add(1);
        }
        Ok(())
    }

    /// A message with what it says; nothing, and its end, if that is lost for good.
    pub(super) async fn readable_message(
        &self,
        id: &EntityId,
        entry: Entry,
        turn: &Turn,
    ) -> Result<Option<CloudMessage>, Error> {
        let Entry { sequence, deliveries, enqueued, expires, .. } = entry;
        match self.content_of(id, sequence).await? {
            Some(content) => Ok(Some(CloudMessage { sequence, deliveries, enqueued, expires, content })),
            None => {
                let ended = vec![(sequence, Outcome::DeliveryCountExceeded)];
                self.carry_out(id, Settlement { ended, returned: Vec::new() }, turn).await?;
                Ok(None)
            }
        }
    }

    /// What a message says; nothing if that is lost for good.
    async fn content_of(
        &self,
        id: &EntityId,
        sequence: u64,
    ) -> Result<Option<ostler_core::message::Message>, Error> {
        let key = document::key(id, sequence);
        let reason = match self.store.document(Shelf::MessageBodies, &key).await {
            Ok(Some(stored)) => match document::read_message(&stored.value) {
                Ok(message) => return Ok(Some(message)),
                Err(damage) => damage.0.to_owned(),
            },
            Ok(None) => "it is not there".to_owned(),
            Err(StoreError::Corrupt { reason, .. }) => reason,
            Err(error) => return Err(error.into()),
        };
        tracing::error!(key = &*key, reason, "a stored message cannot be read; it counts as undeliverable");
        Ok(None)
    }
}

/// Starts rounds whose time has come, and removes outcomes that nobody read, until the hub is dropped.
pub(super) async fn look_after_timers(hub: Weak<Hub>, wake: Arc<Notify>) {
    loop {
        let Some(hub) = hub.upgrade() else { return };
        let now = hub.now();
        let (due, next) = hub.messages.table.due(now);
        for id in due {
            hub.wake_messages(&id);
        }
        let (over, next_feedback) = hub.messages.feedback.over(now);
        let mut next = next.into_iter().chain(next_feedback).min();
        if !over.is_empty() {
            let count = over.len() as u64;
            match hub.forget_feedback(over).await {
                Ok(()) => hub.stats().feedback_expired.add(count),
                Err(_) => next = Some(now.plus_secs(RETRY_SECS)),
            }
        }
        let wait = next.map(|at| until(at, now, hub.options().clock.look_again));
        drop(hub);
        match wait {
            None => wake.notified().await,
            Some(wait) => {
                // Woken or not: what is due is looked at.
                let _ = tokio::time::timeout(wait, wake.notified()).await;
            }
        }
    }
}

/// How long to wait for a time before the clock is looked at again.
fn until(at: Timestamp, now: Timestamp, look_again: Duration) -> Duration {
    let ticks = at.ticks().saturating_sub(now.ticks()).max(0);
    let (secs, rest) = (ticks / TICKS_PER_SEC, ticks % TICKS_PER_SEC);
    let wait = Duration::new(secs.unsigned_abs(), u32::try_from(rest * 100).unwrap_or(0));
    // A little more, so that the time has come when the timer ends.
    (wait + Duration::from_micros(100)).min(look_again)
}
