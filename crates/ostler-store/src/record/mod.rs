//! The stored form of a record, format 1: what the disk and the memory hold for each entity.
//!
//! ```text
//!  head      see `header`: format, flags, checksum, revision, activity times, id
//!  body      subscriptions    u16
//!            twin version     varint
//!            twin etag        varint
//!            model id         varint 0 for none, else length + 1, then the text
//!            lengths          varints: bytes of identity, tags, desired
//!            identity         see `identity`
//!            tags             see `section`
//!            desired          see `section`
//!            reported         see `section`, up to the end
//! ```
//!
//! The lengths come before the parts, so that one part can be decoded without the others.
//! `docs/store-format.md` is the reference for other readers of the format.
//!
//! Must not know: disks, locks, revision checks; which changes are allowed.
//!
//! Invariant: `decode(encode(record)) == record`, numbers by text and keys in order.
//! Invariant: whatever the bytes, decoding ends in a record or a [`Damage`], never in a panic.

pub(crate) mod header;
mod identity;
mod section;
pub(crate) mod shapes;
pub(crate) mod varint;

#[cfg(test)]
mod tests;

use header::{Damage, Head, NewHead};
use ostler_core::id::EntityId;
use ostler_core::identity::Status;
use ostler_core::record::{Record, Subscriptions};
use ostler_core::twin::Twin;
use shapes::{Known, Shapes};
use varint::Reader;

/// The stored form, but for revision and checksum: [`header::seal`] adds them.
pub(crate) fn encode(record: &Record, shapes: &Shapes) -> Vec<u8> {
    let Record { id, revision: _, identity, activity, subscriptions, twin } = record;
    let mut out = Vec::with_capacity(512);
    let enabled = identity.status == Status::Enabled;
    header::start(
        &NewHead { device: id.device(), module: id.module(), enabled, activity: *activity },
        &mut out,
    );
    out.extend_from_slice(&subscriptions.bits().to_le_bytes());
    varint::write(twin.version, &mut out);
    varint::write(twin.etag, &mut out);
    write_optional(twin.model_id.as_deref(), &mut out);
    let mut parts = Vec::with_capacity(512);
    identity::write(identity, &mut parts);
    varint::write(parts.len() as u64, &mut out);
    for part in [&twin.tags, &twin.desired] {
        let before = parts.len();
        section::write(part, shapes, &mut parts);
        varint::write((parts.len() - before) as u64, &mut out);
    }
    out.extend_from_slice(&parts);
    section::write(&twin.reported, shapes, &mut out);
    out
}

/// The record that checked bytes hold.
pub(crate) fn decode(bytes: &[u8], shapes: &Known) -> Result<Record, Damage> {
    let head = Head::trusted(bytes);
    let mut reader = Reader(head.body());
    let mut bits = [0; 2];
    bits.copy_from_slice(reader.bytes(2)?);
    let (version, etag) = (reader.number()?, reader.number()?);
    let model_id = read_optional(&mut reader)?.map(Into::into);
    let lengths = [reader.length()?, reader.length()?, reader.length()?];
    let status = if head.is_enabled() { Status::Enabled } else { Status::Disabled };
    let identity = identity::read(reader.bytes(lengths[0])?, status)?;
    let tags = section::read(reader.bytes(lengths[1])?, shapes)?;
    let desired = section::read(reader.bytes(lengths[2])?, shapes)?;
    let reported = section::read(reader.0, shapes)?;
    Ok(Record {
        id: EntityId::parse(head.id()).map_err(|_| Damage::Malformed("the id breaks the rules of ids"))?,
        revision: head.revision(),
        identity,
        activity: head.activity(),
        subscriptions: Subscriptions::from_bits(u16::from_le_bytes(bits)),
        twin: Twin { version, etag, model_id, tags, desired, reported },
    })
}

/// Appends a text that may be absent.
fn write_optional(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        None => varint::write(0, out),
        Some(text) => {
            varint::write(text.len() as u64 + 1, out);
            out.extend_from_slice(text.as_bytes());
        }
    }
}

fn read_optional<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a str>, Damage> {
    match reader.number()?.checked_sub(1) {
        None => Ok(None),
        Some(length) => {
            let length = usize::try_from(length).map_err(|_| Damage::Short)?;
            reader.text_of(length).map(Some)
        }
    }
}
