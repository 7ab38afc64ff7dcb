//! The stored form of an identity.
//!
//! ```text
//!   flags          u8: bits 0-1 authentication (0 keys, 1 thumbprints, 2 authority, 3 none),
//!                  bit 2 edge gateway, bit 3 it has parent scopes
//!   generation     u64
//!   etag           varint
//!   status since   varint, signed, ticks
//!   reason, scope, managed by     texts that may be absent
//!   parent scopes  if flagged: varint count, then each as a text
//!   keys           two byte strings, each behind its length in one byte
//!   thumbprints    two texts, each behind its length in one byte, 0 for absent
//! ```
//!
//! Must not know: how an identity proves itself with what is stored here.

use super::header::Damage;
use super::varint::{self, Reader};
use super::{read_optional, write_optional};
use ostler_core::identity::{Authentication, Identity, Status, SymmetricKey, Thumbprint};
use ostler_core::time::Timestamp;

const SAS: u8 = 0;
const SELF_SIGNED: u8 = 1;
const AUTHORITY: u8 = 2;
const NONE: u8 = 3;
const AUTHENTICATION: u8 = 3;
const EDGE: u8 = 4;
const PARENTS: u8 = 8;

pub(super) fn write(identity: &Identity, out: &mut Vec<u8>) {
    let Identity {
        generation_id,
        etag,
        status: _, // in the head
        status_reason,
        status_updated,
        authentication,
        iot_edge,
        device_scope,
        parent_scopes,
        managed_by,
    } = identity;
    let kind = match authentication {
        Authentication::Sas { .. } => SAS,
        Authentication::SelfSigned { .. } => SELF_SIGNED,
        Authentication::CertificateAuthority => AUTHORITY,
        Authentication::None => NONE,
    };
    let parents = if parent_scopes.is_empty() { 0 } else { PARENTS };
    out.push(kind | if *iot_edge { EDGE } else { 0 } | parents);
    out.extend_from_slice(&generation_id.to_le_bytes());
    varint::write(*etag, out);
    varint::write_signed(status_updated.ticks(), out);
    for text in [status_reason, device_scope, managed_by] {
        write_optional(text.as_deref(), out);
    }
    if !parent_scopes.is_empty() {
        varint::write(parent_scopes.len() as u64, out);
        for scope in parent_scopes {
            varint::write_text(scope, out);
        }
    }
    match authentication {
        Authentication::Sas { primary, secondary } => {
            write_short(primary.bytes(), out);
            write_short(secondary.bytes(), out);
        }
        Authentication::SelfSigned { primary, secondary } => {
            for thumbprint in [primary, secondary] {
                write_short(thumbprint.as_ref().map_or(&[], |it| it.as_str().as_bytes()), out);
            }
        }
        Authentication::CertificateAuthority | Authentication::None => {}
    }
}

pub(super) fn read(bytes: &[u8], status: Status) -> Result<Identity, Damage> {
    let mut reader = Reader(bytes);
    let flags = reader.byte()?;
    let mut generation = [0; 8];
    generation.copy_from_slice(reader.bytes(8)?);
    let etag = reader.number()?;
    let status_updated = Timestamp::from_ticks(reader.signed()?);
    let status_reason = read_optional(&mut reader)?.map(Into::into);
    let device_scope = read_optional(&mut reader)?.map(Into::into);
    let managed_by = read_optional(&mut reader)?.map(Into::into);
    let mut parent_scopes = Vec::new();
    if flags & PARENTS != 0 {
        for _ in 0..reader.length()? {
            parent_scopes.push(reader.text()?.into());
        }
    }
    let authentication = match flags & AUTHENTICATION {
        SAS => Authentication::Sas { primary: read_key(&mut reader)?, secondary: read_key(&mut reader)? },
        SELF_SIGNED => Authentication::SelfSigned {
            primary: read_thumbprint(&mut reader)?,
            secondary: read_thumbprint(&mut reader)?,
        },
        AUTHORITY => Authentication::CertificateAuthority,
        _ => Authentication::None,
    };
    reader.finish()?;
    Ok(Identity {
        generation_id: u64::from_le_bytes(generation),
        etag,
        status,
        status_reason,
        status_updated,
        authentication,
        iot_edge: flags & EDGE != 0,
        device_scope,
        parent_scopes,
        managed_by,
    })
}

fn write_short(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(u8::try_from(bytes.len()).expect("keys and thumbprints have at most 64 bytes"));
    out.extend_from_slice(bytes);
}

fn read_short<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Damage> {
    let length = usize::from(reader.byte()?);
    reader.bytes(length)
}

fn read_key(reader: &mut Reader<'_>) -> Result<SymmetricKey, Damage> {
    SymmetricKey::new(read_short(reader)?).map_err(|_| Damage::Malformed("a key's length is not allowed"))
}

fn read_thumbprint(reader: &mut Reader<'_>) -> Result<Option<Thumbprint>, Damage> {
    let wrong = Damage::Malformed("a thumbprint is not one");
    match read_short(reader)? {
        [] => Ok(None),
        digits => {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong.clone())?;
            Thumbprint::parse(digits).map(Some).map_err(|_| wrong)
        }
    }
}
