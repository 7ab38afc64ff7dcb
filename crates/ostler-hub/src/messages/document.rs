//! The stored form of messages and of outcomes that were not told yet.
//!
//! A message stands under `device/sequence` on two shelves: what the queue needs to know on one, what the message
//! says on the other, so that a start reads little. The sequence is printed with leading zeros: keys sort as numbers.
//!
//! Must not know: what follows from a queue's state.
//!
//! Invariant: what was written by any version is read by every later one.

use crate::bytes::{Damaged, In, Out};
use ostler_core::id::EntityId;
use ostler_core::message::{Entry, Feedback, Message, Outcome};
use ostler_core::time::Timestamp;

const VERSION: u8 = 1;

/// What became of a message, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedbackRecord {
    /// The id of the message.
    pub message_id: Box<str>,
    /// To whom it was sent.
    pub device: Box<str>,
    /// Which registration of that name was meant.
    pub generation_id: u64,
    /// When it became so.
    pub at: Timestamp,
    /// What became of it.
    pub outcome: Outcome,
}

/// Where a message stands on both shelves.
pub(super) fn key(device: &EntityId, sequence: u64) -> Box<str> {
    format!("{device}/{sequence:016x}").into()
}

/// Reads what [`key`] wrote.
pub(super) fn parse_key(key: &str) -> Result<(EntityId, u64), Damaged> {
    let (device, sequence) = key.split_once('/').ok_or(Damaged("its key has no sequence"))?;
    let device = EntityId::parse(device).map_err(|_| Damaged("its key names no device"))?;
    let sequence = u64::from_str_radix(sequence, 16).map_err(|_| Damaged("its key has no sequence"))?;
    Ok((device, sequence))
}

/// What the queue needs to know of a message; who holds it is forgotten.
pub(super) fn write_entry(entry: &Entry, generation_id: u64) -> Vec<u8> {
    let mut out = Out::default();
    out.byte(VERSION);
    out.number(generation_id);
    out.option(entry.message_id.as_deref(), Out::text);
    out.time(entry.enqueued);
    out.time(entry.expires);
    out.number(entry.deliveries.into());
    out.byte(match entry.feedback {
        Feedback::None => 0,
        Feedback::Positive => 1,
        Feedback::Negative => 2,
        Feedback::Full => 3,
    });
    out.0
}

/// Reads an entry and the generation of the device that it was sent to.
pub(super) fn read_entry(sequence: u64, bytes: &[u8]) -> Result<(Entry, u64), Damaged> {
    let mut input = In(bytes);
    version(&mut input)?;
    let generation_id = input.number()?;
    let entry = Entry {
        sequence,
        message_id: input.option(In::text)?.map(Into::into),
        enqueued: input.time()?,
        expires: input.time()?,
        deliveries: input.small()?,
        feedback: *Feedback::ALL
            .get(usize::from(input.byte()?))
            .ok_or(Damaged("its feedback is none that is known"))?,
        holder: None,
    };
    Ok((entry, generation_id))
}

/// What a message says.
pub(super) fn write_message(message: &Message) -> Vec<u8> {
    let mut out = Out(Vec::with_capacity(64 + message.size()));
    out.byte(VERSION);
    for text in [
        &message.message_id,
        &message.correlation_id,
        &message.user_id,
        &message.content_type,
        &message.content_encoding,
    ] {
        out.option(text.as_deref(), Out::text);
    }
    out.option(message.expiry, Out::time);
    out.byte(match message.feedback {
        Feedback::None => 0,
        Feedback::Positive => 1,
        Feedback::Negative => 2,
        Feedback::Full => 3,
    });
    out.number(message.properties.len() as u64);
    for (name, value) in &message.properties {
        out.text(name);
        out.option(value.as_deref(), Out::text);
    }
    out.bytes(&message.body);
    out.0
}

/// Reads what [`write_message`] wrote.
pub(super) fn read_message(bytes: &[u8]) -> Result<Message, Damaged> {
    let mut input = In(bytes);
    let input = &mut input;
    version(input)?;
    let mut text = || Ok(input.option(In::text)?.map(Into::into));
    let [message_id, correlation_id, user_id, content_type, content_encoding] =
        [text()?, text()?, text()?, text()?, text()?];
    Ok(Message {
        message_id,
        correlation_id,
        user_id,
        content_type,
        content_encoding,
        expiry: input.option(In::time)?,
        feedback: *Feedback::ALL
            .get(usize::from(input.byte()?))
            .ok_or(Damaged("its feedback is none that is known"))?,
        properties: input.list(|input| {
            let name = input.text()?.into();
            Ok((name, input.option(In::text)?.map(Into::into)))
        })?,
        body: input.bytes()?.into(),
    })
}

/// Where an outcome stands on its shelf.
pub(super) fn feedback_key(sequence: u64) -> Box<str> {
    format!("{sequence:016x}").into()
}

/// Reads what [`feedback_key`] wrote.
pub(super) fn parse_feedback_key(key: &str) -> Result<u64, Damaged> {
    u64::from_str_radix(key, 16).map_err(|_| Damaged("its key is no sequence"))
}

pub(super) fn write_feedback(record: &FeedbackRecord) -> Vec<u8> {
    let mut out = Out::default();
    out.byte(VERSION);
    out.text(&record.message_id);
    out.text(&record.device);
    out.number(record.generation_id);
    out.time(record.at);
    out.byte(match record.outcome {
        Outcome::Success => 0,
        Outcome::Expired => 1,
        Outcome::DeliveryCountExceeded => 2,
        Outcome::Rejected => 3,
        Outcome::Purged => 4,
    });
    out.0
}

pub(super) fn read_feedback(bytes: &[u8]) -> Result<FeedbackRecord, Damaged> {
    let mut input = In(bytes);
    version(&mut input)?;
    Ok(FeedbackRecord {
        message_id: input.text()?.into(),
        device: input.text()?.into(),
        generation_id: input.number()?,
        at: input.time()?,
        outcome: *Outcome::ALL
            .get(usize::from(input.byte()?))
            .ok_or(Damaged("its outcome is none that is known"))?,
    })
}

fn version(input: &mut In<'_>) -> Result<(), Damaged> {
    match input.byte()? {
        VERSION => Ok(()),
        _ => Err(Damaged("its version is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_sort_as_numbers_and_come_back() {
        let device = EntityId::parse("pump-7").unwrap();
        let [nine, ten] = [9, 16].map(|sequence| key(&device, sequence));
        assert!(nine < ten);
        assert_eq!(parse_key(&ten), Ok((device, 16)));
        for bad in ["", "d", "d/", "d/x", "/1"] {
            assert!(parse_key(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_feedback_key(&feedback_key(u64::MAX)), Ok(u64::MAX));
    }

    #[test]
    fn every_word_comes_back() {
        for feedback in Feedback::ALL {
            let message = Message { feedback, ..Message::default() };
            assert_eq!(read_message(&write_message(&message)), Ok(message));
        }
        for outcome in Outcome::ALL {
            let record = FeedbackRecord {
                message_id: "m".into(),
                device: "d".into(),
                generation_id: 7,
                at: Timestamp::from_ticks(5),
                outcome,
            };
            assert_eq!(read_feedback(&write_feedback(&record)), Ok(record));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            id in proptest::option::of("[a-z]{1,9}"),
            properties in prop::collection::vec(("\\PC{1,9}", proptest::option::of("\\PC{0,9}")), 0..4),
            body in prop::collection::vec(any::<u8>(), 0..200),
            deliveries in any::<u32>(),
        ) {
            let message = Message {
                message_id: id.as_deref().map(Into::into),
                properties: properties
                    .iter()
                    .map(|(name, value)| (name.as_str().into(), value.as_deref().map(Into::into)))
                    .collect(),
                expiry: Some(Timestamp::from_ticks(77)),
                body: body.into(),
                ..Message::default()
            };
            let written = write_message(&message);
            prop_assert_eq!(read_message(&written), Ok(message));
            let entry = Entry {
                sequence: 5,
                message_id: id.as_deref().map(Into::into),
                enqueued: Timestamp::from_ticks(1),
                expires: Timestamp::from_ticks(2),
                deliveries,
                feedback: Feedback::Negative,
                holder: None,
            };
            prop_assert_eq!(read_entry(5, &write_entry(&entry, 9)), Ok((entry, 9)));
            for cut in 0..written.len() {
                prop_assert!(read_message(&written[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = (read_message(&bytes), read_entry(1, &bytes), read_feedback(&bytes));
        }
    }
}
