//! The stored form of a setting, and of a document.
//!
//! ```text
//!   format 1: u8 | CRC-32 of the rest: u32 | revision: u64 | the bytes
//! ```
//!
//! Must not know: what the bytes mean.

use crate::record::header::Damage;
use crate::record::varint::Reader;
use crate::{Revision, Setting};

const FORMAT: u8 = 1;

pub(crate) fn encode(value: &[u8], revision: Revision) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(13 + value.len());
    bytes.extend_from_slice(&[FORMAT, 0, 0, 0, 0]);
    bytes.extend_from_slice(&revision.to_le_bytes());
    bytes.extend_from_slice(value);
    let sum = crc32fast::hash(&bytes[5..]);
    bytes[1..5].copy_from_slice(&sum.to_le_bytes());
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Setting, Damage> {
    let mut reader = Reader(bytes);
    let format = reader.byte()?;
    if format != FORMAT {
        return Err(Damage::Format(format));
    }
    let sum = reader.bytes(4)?;
    if sum != crc32fast::hash(reader.0).to_le_bytes() {
        return Err(Damage::Checksum);
    }
    let mut revision = [0; 8];
    revision.copy_from_slice(reader.bytes(8)?);
    Ok(Setting { revision: u64::from_le_bytes(revision), value: reader.0.into() })
}
