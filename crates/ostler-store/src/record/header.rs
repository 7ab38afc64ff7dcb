//! The head of a stored record: what the engine needs without decoding the rest.
//!
//! ```text
//!  byte  size  field
//!     0     1  format, 1
//!     1     1  flags: bit 0 a module, bit 1 disabled, bit 2 the body has configurations
//!     2     1  bytes of the device id
//!     3     1  bytes of the module id, 0 for a device
//!     4     4  CRC-32 of everything from byte 8 on and of bytes 0 to 3
//!     8     8  revision
//!    16     8  last activity, 100-ns ticks since 1970
//!    24     8  when it last connected or disconnected, same unit
//!    32     n  id: "device" or "device/module"
//!  32+n        body, see the parent module
//! ```
//!
//! All numbers are little-endian.
//!
//! Must not know: what the body holds; disks, locks, threads.
//!
//! Invariant: a [`Head`] made by [`Head::parse`] has every field in bounds and a matching checksum.

use crate::Revision;
use ostler_core::record::Activity;
use ostler_core::time::Timestamp;

/// Format number of the records this code writes.
pub(crate) const FORMAT: u8 = 1;
/// Bytes before the id.
pub(crate) const FIXED: usize = 32;

const MODULE: u8 = 1;
const DISABLED: u8 = 2;
const CONFIGURED: u8 = 4;

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    /// Fewer bytes than the record claims.
    #[error("the record is cut short")]
    Short,
    /// A format that this version cannot read.
    #[error("the record has format {0}, this version reads format {FORMAT}")]
    Format(u8),
    /// The checksum does not match.
    #[error("the checksum does not match the bytes")]
    Checksum,
    /// The bytes contradict themselves although the checksum matches.
    #[error("the record is malformed: {0}")]
    Malformed(&'static str),
}

/// What a new record's head is written from.
pub(crate) struct NewHead<'a> {
    pub(crate) device: &'a str,
    pub(crate) module: Option<&'a str>,
    pub(crate) enabled: bool,
    pub(crate) configured: bool,
    pub(crate) activity: Activity,
}

/// A record's bytes, seen through its head.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a>(&'a [u8]);

impl<'a> Head<'a> {
    /// Checks format, lengths and checksum: for bytes from a disk.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Head<'a>, Damage> {
        let format = *bytes.first().ok_or(Damage::Short)?;
        if format != FORMAT {
            return Err(Damage::Format(format));
        }
        if bytes.len() < FIXED || bytes.len() < FIXED + id_bytes(bytes) {
            return Err(Damage::Short);
        }
        if bytes[4..8] != checksum(bytes).to_le_bytes() {
            return Err(Damage::Checksum);
        }
        if std::str::from_utf8(&bytes[FIXED..FIXED + id_bytes(bytes)]).is_err() {
            return Err(Damage::Malformed("the id is not UTF-8"));
        }
        Ok(Head(bytes))
    }

    /// For bytes that were parsed or written by this process.
    pub(crate) fn trusted(bytes: &'a [u8]) -> Head<'a> {
        debug_assert!(bytes.len() >= FIXED && bytes[0] == FORMAT);
        Head(bytes)
    }

    /// The id as the text of an `EntityId`.
    pub(crate) fn id(self) -> &'a str {
        std::str::from_utf8(self.id_as_bytes()).unwrap_or_default()
    }

    /// The id's bytes, without checking that they are text.
    pub(crate) fn id_as_bytes(self) -> &'a [u8] {
        &self.0[FIXED..FIXED + id_bytes(self.0)]
    }

    /// The device's id.
    pub(crate) fn device(self) -> &'a str {
        let length = usize::from(self.0[2]);
        std::str::from_utf8(&self.0[FIXED..FIXED + length]).unwrap_or_default()
    }

    /// The module's id, when this is a module.
    pub(crate) fn module(self) -> Option<&'a str> {
        let start = FIXED + usize::from(self.0[2]) + 1;
        let length = usize::from(self.0[3]);
        self.is_module().then(|| std::str::from_utf8(&self.0[start..start + length]).unwrap_or_default())
    }

    pub(crate) fn is_module(self) -> bool {
        self.0[1] & MODULE != 0
    }

    pub(crate) fn is_enabled(self) -> bool {
        self.0[1] & DISABLED == 0
    }

    /// Whether the body has configurations.
    pub(crate) fn is_configured(self) -> bool {
        self.0[1] & CONFIGURED != 0
    }

    pub(crate) fn revision(self) -> Revision {
        u64::from_le_bytes(eight(self.0, 8))
    }

    pub(crate) fn activity(self) -> Activity {
        Activity {
            last_activity: Timestamp::from_ticks(i64::from_le_bytes(eight(self.0, 16))),
            connection_updated: Timestamp::from_ticks(i64::from_le_bytes(eight(self.0, 24))),
        }
    }

    /// What follows the id.
    pub(crate) fn body(self) -> &'a [u8] {
        &self.0[FIXED + id_bytes(self.0)..]
    }
}

/// Starts a record: the head without revision and checksum, see [`seal`].
pub(crate) fn start(head: &NewHead<'_>, out: &mut Vec<u8>) {
    let length = |id: &str| u8::try_from(id.len()).expect("an id has at most 128 bytes");
    let module = head.module.unwrap_or_default();
    let mut flags = 0;
    if head.module.is_some() {
        flags |= MODULE;
    }
    if !head.enabled {
        flags |= DISABLED;
    }
    if head.configured {
        flags |= CONFIGURED;
    }
    out.extend_from_slice(&[FORMAT, flags, length(head.device), length(module)]);
    out.extend_from_slice(&[0; FIXED - 4]);
    out.extend_from_slice(head.device.as_bytes());
    if head.module.is_some() {
        out.push(b'/');
        out.extend_from_slice(module.as_bytes());
    }
    write_activity(out, head.activity);
}

/// Puts the revision in and makes the checksum right.
pub(crate) fn seal(bytes: &mut [u8], revision: Revision) {
    bytes[8..16].copy_from_slice(&revision.to_le_bytes());
    let sum = checksum(bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
}

/// Replaces the activity times and makes the checksum right.
pub(crate) fn set_activity(bytes: &mut [u8], activity: Activity) {
    write_activity(bytes, activity);
    let sum = checksum(bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
}

fn write_activity(bytes: &mut [u8], activity: Activity) {
    bytes[16..24].copy_from_slice(&activity.last_activity.ticks().to_le_bytes());
    bytes[24..32].copy_from_slice(&activity.connection_updated.ticks().to_le_bytes());
}

fn id_bytes(bytes: &[u8]) -> usize {
    let module = if bytes[1] & MODULE != 0 { 1 + usize::from(bytes[3]) } else { 0 };
    usize::from(bytes[2]) + module
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&bytes[8..]);
    sum.update(&bytes[..4]);
    sum.finalize()
}

fn eight(bytes: &[u8], at: usize) -> [u8; 8] {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    eight
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(ticks: i64) -> Activity {
        let at = Timestamp::from_ticks(ticks);
        Activity { last_activity: at, connection_updated: at.plus_secs(1) }
    }

    fn record() -> Vec<u8> {
        let mut bytes = Vec::new();
        let head = NewHead {
            device: "press-1",
            module: Some("eye"),
            enabled: false,
            configured: true,
            activity: activity(5),
        };
        start(&head, &mut bytes);
        bytes.extend_from_slice(b"body");
        seal(&mut bytes, 7);
        bytes
    }

    #[test]
    fn a_head_reads_as_written() {
        let mut bytes = record();
        set_activity(&mut bytes, activity(9));
        let head = Head::parse(&bytes).unwrap();
        assert_eq!((head.id(), head.is_module(), head.is_enabled()), ("press-1/eye", true, false));
        assert!(head.is_configured());
        assert_eq!((head.revision(), head.activity(), head.body()), (7, activity(9), &b"body"[..]));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = record();
        for at in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(Head::parse(&bad).is_err(), "bit {at}");
        }
        for end in 0..bytes.len() {
            assert!(Head::parse(&bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
