//! A look at fjall's journals before fjall opens them.
//!
//! fjall 3.1 reads a journal up to the first bytes that it cannot decode and cuts the file there. If
//! that place is the torn end of the last write, this is right; if it is a damaged byte in the
//! middle, every acknowledged batch after it is lost in silence. And when the end is torn in a way
//! that only the checksum shows (a later page reached the disk before an earlier one), it refuses to
//! open at all. Neither is what we promise, so the journals are checked here first:
//!
//! ```text
//!  journal:  batch batch batch ... batch | torn batch | zeros up to the preallocated 64 MiB
//!  batch:    01 count:u32 seqno:u64  item*  03 xxh3-of-items:u64 "FJL" 03
//!  item:     02 type:u8 compression:u8 keyspace:u64 key_len:u16 value_len:u32 stored_len:u32 key value
//!          | 04 keyspace:u64
//! ```
//!
//! - A batch must have a higher number than the one before: fjall's checksum does not cover it.
//! - Damage with no whole batch after it, in this file or a later one, is a torn end: it is cut off.
//! - Damage with a whole batch after it is reported with file and offset; nothing is changed.
//!
//! This can tell the two apart because the writer syncs every batch before it writes the next: only
//! the last batch of the last journal can be torn. A damaged byte in that very batch looks like a
//! torn end; no log without a second copy of its length can tell.
//!
//! Must not know: keyspaces, records.
//!
//! Invariant: a file is only ever shortened, and only behind its last whole batch.

use std::fs::{File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

const TRAILER: &[u8; 4] = b"FJL\x03";
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const START_BYTES: usize = 1 + 4 + 8;
const ITEM_BYTES: usize = 1 + 1 + 1 + 8 + 2 + 4 + 4;
const CLEAR_BYTES: usize = 1 + 8;
const END_BYTES: usize = 1 + 8 + 4;

/// What is wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// Bytes in the middle are damaged; what was acknowledged later lies behind them.
    #[error("the journal {} is damaged at byte {at}, before its end", .file.display())]
    Damaged { file: PathBuf, at: u64 },
    /// The journal cannot be read or cut.
    #[error("cannot read the journal {}", .file.display())]
    Io { file: PathBuf, source: io::Error },
}

/// What [`check`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Whole batches found.
    pub(crate) batches: u64,
    /// Bytes of torn batches cut off.
    pub(crate) cut: u64,
    last_seqno: Option<u64>,
}

/// Checks all journals of a database folder, and cuts what is torn.
///
/// With `keep_below`, batches of that sequence number or above are cut too: they were written
/// but never acknowledged.
pub(crate) fn check(folder: &Path, keep_below: Option<u64>) -> Result<Checked, JournalError> {
    let mut checked = Checked::default();
    let mut files = journals(folder).map_err(|source| JournalError::Io { file: folder.into(), source })?;
    let last = files.pop();
    for (file, may_be_torn) in
        files.iter().map(|file| (file, false)).chain(last.iter().map(|file| (file, true)))
    {
        check_one(file, may_be_torn, keep_below, &mut checked)?;
    }
    Ok(checked)
}

/// The journals, oldest first.
fn journals(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        files.extend(number.map(|number| (number, path)));
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn check_one(
    file: &Path,
    may_be_torn: bool,
    keep_below: Option<u64>,
    checked: &mut Checked,
) -> Result<(), JournalError> {
    let io = |source| JournalError::Io { file: file.into(), source };
    let bytes = read_without_zeros(file).map_err(io)?;
    let mut at = 0;
    while let Some(batch) = batch_at(&bytes, at) {
        if keep_below.is_some_and(|limit| batch.seqno >= limit) {
            break;
        }
        if checked.last_seqno.is_some_and(|last| batch.seqno <= last) {
            return Err(JournalError::Damaged { file: file.into(), at: at as u64 });
        }
        checked.last_seqno = Some(batch.seqno);
        at = batch.end;
        checked.batches += 1;
    }
    if at == bytes.len() {
        return Ok(());
    }
    if keep_below.is_none() && (!may_be_torn || batch_follows(&bytes, at)) {
        return Err(JournalError::Damaged { file: file.into(), at: at as u64 });
    }
    checked.cut += (bytes.len() - at) as u64;
    cut(file, at as u64).map_err(io)
}

/// The file's bytes without the zeros at its end: a batch ends with a byte that is not zero.
fn read_without_zeros(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let end = end_of_data(&file)?;
    let mut bytes = Vec::new();
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    file.take(end).read_to_end(&mut bytes)?;
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(used);
    Ok(bytes)
}

/// Where the hole starts that the preallocated rest of the file is.
fn end_of_data(file: &File) -> io::Result<u64> {
    use rustix::fs::SeekFrom::{Data, Hole};
    let mut end = 0;
    loop {
        match rustix::fs::seek(file, Data(end)) {
            Ok(data) => end = rustix::fs::seek(file, Hole(data))?,
            Err(rustix::io::Errno::NXIO) => return Ok(end),
            // A file system that knows no holes: all of it may be data.
            Err(rustix::io::Errno::INVAL) => return Ok(file.metadata()?.len()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn cut(file: &Path, length: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(file)?;
    file.set_len(length)?;
    file.flush()?;
    file.sync_all()
}

struct Batch {
    seqno: u64,
    end: usize,
}

/// The whole, intact batch that starts at `at`.
fn batch_at(bytes: &[u8], at: usize) -> Option<Batch> {
    let start = bytes.get(at..at.checked_add(START_BYTES)?)?;
    if start[0] != START {
        return None;
    }
    let count = u32_at(start, 1);
    let seqno = u64_at(start, 5);
    let items = at + START_BYTES;
    let mut next = items;
    for _ in 0..count {
        next = item_end(bytes, next)?;
    }
    let end = bytes.get(next..next.checked_add(END_BYTES)?)?;
    let mut sum = Xxh3::default();
    sum.update(&bytes[items..next]);
    let intact = end[0] == END && u64_at(end, 1) == sum.finish() && &end[9..] == TRAILER;
    intact.then_some(Batch { seqno, end: next + END_BYTES })
}

fn item_end(bytes: &[u8], at: usize) -> Option<usize> {
    match *bytes.get(at)? {
        CLEAR => Some(at + CLEAR_BYTES).filter(|end| *end <= bytes.len()),
        ITEM => {
            let item = bytes.get(at..at.checked_add(ITEM_BYTES)?)?;
            let key = usize::from(u16::from_le_bytes([item[11], item[12]]));
            let stored = u32_at(item, 17) as usize;
            Some(at + ITEM_BYTES + key + stored).filter(|end| *end <= bytes.len())
        }
        _ => None,
    }
}

/// Whether a whole batch follows damaged bytes. Lengths and trailers may be what is damaged, so every
/// byte that could be its first is tried; nearly all fail within a few more bytes.
fn batch_follows(bytes: &[u8], damaged: usize) -> bool {
    let mut starts = memchr::memchr_iter(START, &bytes[damaged..]);
    starts.any(|start| batch_at(bytes, damaged + start).is_some())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}
