//! The stored form of the configurations that target an entity.
//!
//! ```text
//!   varint count, and for each
//!     state   u8: 0 targeted, 1 applied
//!     id      text
//!     paths   for 1: varint count, and for each its names: varint count, texts
//! ```
//!
//! Must not know: which configuration wins, or what a path means.
//!
//! Invariant: a list without entries has no bytes, so that records of hubs without configurations are
//! what they were before there were any.

use super::header::Damage;
use super::varint::{self, Reader};
use ostler_core::configuration::{Applied, Assignment, ConfigurationId, State};
use ostler_core::json::Key;

const TARGETED: u8 = 0;
const APPLIED: u8 = 1;

pub(super) fn write(assignments: &[Assignment], out: &mut Vec<u8>) {
    if assignments.is_empty() {
        return;
    }
    varint::write(assignments.len() as u64, out);
    for assignment in assignments {
        match &assignment.state {
            State::Targeted => {
                out.push(TARGETED);
                varint::write_text(assignment.id.as_str(), out);
            }
            State::Applied(applied) => {
                out.push(APPLIED);
                varint::write_text(assignment.id.as_str(), out);
                write_paths(&applied.paths, out);
            }
        }
    }
}

fn write_paths(paths: &[Box<[Key]>], out: &mut Vec<u8>) {
    varint::write(paths.len() as u64, out);
    for path in paths {
        varint::write(path.len() as u64, out);
        path.iter().for_each(|name| varint::write_text(name, out));
    }
}

pub(super) fn read(bytes: &[u8]) -> Result<Vec<Assignment>, Damage> {
    let mut reader = Reader(bytes);
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let count = reader.length()?;
    let mut assignments = Vec::with_capacity(count.min(16));
    for _ in 0..count {
        assignments.push(read_assignment(&mut reader)?);
    }
    reader.finish()?;
    Ok(assignments)
}

fn read_assignment(reader: &mut Reader<'_>) -> Result<Assignment, Damage> {
    let state = reader.byte()?;
    let id = ConfigurationId::new(reader.text()?)
        .map_err(|_| Damage::Malformed("a configuration's id breaks the rules of ids"))?;
    let state = match state {
        TARGETED => State::Targeted,
        APPLIED => State::Applied(Applied { paths: read_paths(reader)? }),
        _ => return Err(Damage::Malformed("a configuration has an unknown state")),
    };
    Ok(Assignment { id, state })
}

fn read_paths(reader: &mut Reader<'_>) -> Result<Vec<Box<[Key]>>, Damage> {
    let mut paths = Vec::new();
    for _ in 0..reader.length()? {
        let mut path: Vec<Key> = Vec::new();
        for _ in 0..reader.length()? {
            path.push(reader.text()?.into());
        }
        paths.push(path.into());
    }
    Ok(paths)
}
