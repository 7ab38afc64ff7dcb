//! The stored form of a record, format 1: what the disk and the memory hold for each entity.
//!
//! ```text
//!  head      see `header`: format, flags, checksum, revision, activity times, id
//!  body      subscriptions    u16
//!            twin version     varint
//!            twin etag        varint
//!            model id         varint 0 for none, else length + 1, then the text
//!            lengths          varints: bytes of identity, tags, desired; if flagged, of configurations
//!            identity         see `identity`
//!            tags             see `section`
//!            desired          see `section`
//!            configurations   see `configurations`; only if flagged
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

mod configurations;
pub(crate) mod header;
mod identity;
pub(crate) mod locate;
mod section;
pub(crate) mod shapes;
pub(crate) mod varint;

#[cfg(test)]
mod tests;

use header::{Damage, Head, NewHead};
use ostler_core::id::EntityId;
use ostler_core::identity::Status;
use ostler_core::record::{Record, Subscriptions};
use ostler_core::twin::{Reported, Section, Twin};
use shapes::{Known, Shapes};
use varint::{Quick, Reader};

/// The stored form, but for revision and checksum: [`header::seal`] adds them.
pub(crate) fn encode(record: &Record, shapes: &Shapes) -> Vec<u8> {
    let Record { id, revision: _, identity, activity, subscriptions, configurations, twin } = record;
    let mut out = Vec::with_capacity(512);
    let enabled = identity.status == Status::Enabled;
    header::start(
        &NewHead {
            device: id.device(),
            module: id.module(),
            enabled,
            configured: !configurations.is_empty(),
            activity: *activity,
        },
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
    if !configurations.is_empty() {
        let before = parts.len();
        configurations::write(configurations, &mut parts);
        varint::write((parts.len() - before) as u64, &mut out);
    }
    out.extend_from_slice(&parts);
    section::write(&twin.reported, shapes, &mut out);
    out
}

/// The record that checked bytes hold.
pub(crate) fn decode(bytes: &[u8], shapes: &Known) -> Result<Record, Damage> {
    decode_parts(bytes, shapes, Parts::ALL)
}

/// The part of a record that a report changes.
pub(crate) fn decode_reported(bytes: &[u8], shapes: &Known) -> Result<Reported, Damage> {
    let body = Body::read(Head::trusted(bytes))?;
    Ok(Reported { twin_version: body.twin_version, section: section::read(body.reported, shapes)? })
}

/// A reported part, ready for [`EncodedReported::replace_in`].
pub(crate) struct EncodedReported {
    twin_version: u64,
    section: Vec<u8>,
}

impl EncodedReported {
    pub(crate) fn new(reported: &Reported, shapes: &Shapes) -> EncodedReported {
        let mut section = Vec::with_capacity(256);
        section::write(&reported.section, shapes, &mut section);
        EncodedReported { twin_version: reported.twin_version, section }
    }

    /// The record in `bytes` with this in place of its reported part, as [`encode`] would give it.
    pub(crate) fn replace_in(&self, bytes: &[u8]) -> Result<Vec<u8>, Damage> {
        let body = Body::read(Head::trusted(bytes))?;
        let before_version = bytes.len() - body.from_twin_version.len();
        let kept = body.from_twin_etag.len() - body.reported.len();
        let mut out = Vec::with_capacity(bytes.len() + self.section.len());
        out.extend_from_slice(&bytes[..before_version]);
        varint::write(self.twin_version, &mut out);
        out.extend_from_slice(&body.from_twin_etag[..kept]);
        out.extend_from_slice(&self.section);
        Ok(out)
    }
}

/// A record with only some of its parts: the others are as in a new one.
pub(crate) fn decode_parts(bytes: &[u8], shapes: &Known, parts: Parts) -> Result<Record, Damage> {
    let head = Head::trusted(bytes);
    let body = Body::read(head)?;
    let section = |wanted: bool, bytes: &[u8]| match wanted {
        true => section::read(bytes, shapes),
        false => Ok(Section::default()),
    };
    let status = if head.is_enabled() { Status::Enabled } else { Status::Disabled };
    let configurations = if parts.configurations { body.configurations } else { &[] };
    Ok(Record {
        id: EntityId::parse(head.id()).map_err(|_| Damage::Malformed("the id breaks the rules of ids"))?,
        revision: head.revision(),
        identity: identity::read(body.identity, status)?,
        activity: head.activity(),
        subscriptions: body.subscriptions,
        configurations: configurations::read(configurations)?,
        twin: Twin {
            version: body.twin_version,
            etag: body.twin_etag,
            model_id: body.model_id.map(Into::into),
            tags: section(parts.tags, body.tags)?,
            desired: section(parts.desired, body.desired)?,
            reported: section(parts.reported, body.reported)?,
        },
    })
}

/// Which parts of a record are asked for, beside its identity.
#[derive(Clone, Copy, Default)]
pub(crate) struct Parts {
    pub(crate) tags: bool,
    pub(crate) desired: bool,
    pub(crate) reported: bool,
    pub(crate) configurations: bool,
}

impl Parts {
    pub(crate) const ALL: Parts = Parts { tags: true, desired: true, reported: true, configurations: true };
}

/// Where a record's tags, desired and reported properties are; `None` if the bytes do not hold together.
pub(crate) fn sections(bytes: &[u8]) -> Option<[&[u8]; 3]> {
    let head = Head::trusted(bytes);
    let mut reader = Quick(head.body());
    reader.bytes(2)?;
    reader.skip_number()?;
    reader.skip_number()?;
    if let Some(length) = reader.number()?.checked_sub(1) {
        reader.bytes(usize::try_from(length).ok()?)?;
    }
    let [identity, tags, desired] = [reader.length()?, reader.length()?, reader.length()?];
    let configurations = if head.is_configured() { reader.length()? } else { 0 };
    reader.bytes(identity)?;
    let [tags, desired] = [reader.bytes(tags)?, reader.bytes(desired)?];
    reader.bytes(configurations)?;
    Some([tags, desired, reader.0])
}

/// A record's body in its parts.
pub(crate) struct Body<'a> {
    subscriptions: Subscriptions,
    from_twin_version: &'a [u8],
    pub(crate) twin_version: u64,
    from_twin_etag: &'a [u8],
    twin_etag: u64,
    model_id: Option<&'a str>,
    identity: &'a [u8],
    tags: &'a [u8],
    desired: &'a [u8],
    /// Empty when there are none.
    configurations: &'a [u8],
    reported: &'a [u8],
}

impl<'a> Body<'a> {
    pub(crate) fn read(head: Head<'a>) -> Result<Body<'a>, Damage> {
        let mut reader = Reader(head.body());
        let mut bits = [0; 2];
        bits.copy_from_slice(reader.bytes(2)?);
        let from_twin_version = reader.0;
        let twin_version = reader.number()?;
        let from_twin_etag = reader.0;
        let twin_etag = reader.number()?;
        let model_id = read_optional(&mut reader)?;
        let lengths = [reader.length()?, reader.length()?, reader.length()?];
        let configurations = if head.is_configured() { reader.length()? } else { 0 };
        Ok(Body {
            subscriptions: Subscriptions::from_bits(u16::from_le_bytes(bits)),
            from_twin_version,
            twin_version,
            from_twin_etag,
            twin_etag,
            model_id,
            identity: reader.bytes(lengths[0])?,
            tags: reader.bytes(lengths[1])?,
            desired: reader.bytes(lengths[2])?,
            configurations: reader.bytes(configurations)?,
            reported: reader.0,
        })
    }
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
