//! Files of one folder over HTTP: which file a path names, which bytes a range asks for, how they are read.
//!
//! Must not know: sockets.
//!
//! Invariant: nothing outside the folder is read, and no hidden file or secret key in it.
//! Invariant: an ETag changes whenever the file does.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// Read at once.
const PIECE: usize = 64 << 10;
/// Pieces that wait for a slow reader.
const PIECES: usize = 4;
/// Longest path that is looked at.
const MAX_PATH: usize = 1024;

/// The file that a URL's path names, if it is one to be served.
pub fn locate(folder: &Path, path: &str) -> Option<PathBuf> {
    if path.len() > MAX_PATH {
        return None;
    }
    let mut file = folder.to_owned();
    for part in path.strip_prefix('/')?.split('/') {
        let name = decoded(part)?;
        if name.contains(['/', '\\', '\0']) || !is_public(&name) {
            return None;
        }
        file.push(name);
    }
    // A link counts as what it leads to: out of the folder, or to a key.
    let (file, folder) = (file.canonicalize().ok()?, folder.canonicalize().ok()?);
    let mut names = file.strip_prefix(&folder).ok()?.iter();
    (names.all(|name| name.to_str().is_some_and(is_public)) && file.is_file()).then_some(file)
}

fn is_public(name: &str) -> bool {
    let is_key = Path::new(name).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("key"));
    !name.is_empty() && !name.starts_with('.') && !is_key
}

fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit()? << 4 | digit()?);
    }
    String::from_utf8(bytes).ok()
}

/// A strong validator: another file, length or time of change makes another.
pub fn etag(metadata: &Metadata) -> String {
    let (secs, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    format!("\"{:x}-{:x}-{secs:x}.{nanos:x}\"", metadata.ino(), metadata.len())
}

/// Which bytes are to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// First byte, and the one behind the last.
    Range(u64, u64),
    /// There is none of them.
    Outside,
}

/// Reads a `Range` header; what is not understood is the whole file, as is more than one range (RFC 9110 §14.2).
pub fn part(range: Option<&str>, if_range: Option<&str>, etag: &str, length: u64) -> Part {
    let Some(spec) = range.and_then(|range| range.strip_prefix("bytes=")) else { return Part::Whole };
    if if_range.is_some_and(|known| known != etag) {
        return Part::Whole;
    }
    let Some((first, last)) = spec.split_once('-') else { return Part::Whole };
    let number = |text: &str| text.parse::<u64>().ok();
    match (first, number(first), last, number(last)) {
        ("", _, _, Some(0)) => Part::Outside,
        ("", _, _, Some(count)) if length > 0 => Part::Range(length.saturating_sub(count), length),
        (_, Some(first), _, Some(last)) if first > last => Part::Whole,
        (_, Some(first), "", _) | (_, Some(first), _, Some(_)) if first >= length => Part::Outside,
        (_, Some(first), "", _) => Part::Range(first, length),
        (_, Some(first), _, Some(last)) => Part::Range(first, length.min(last.saturating_add(1))),
        _ => Part::Whole,
    }
}

/// A part of a file on its way.
pub struct Content {
    pieces: Option<mpsc::Receiver<io::Result<Bytes>>>,
    left: u64,
}

impl Content {
    pub fn empty() -> Self {
        Self { pieces: None, left: 0 }
    }

    /// Reads from `first` to `end` in a thread of its own, no faster than it is sent.
    pub fn read(mut file: File, first: u64, end: u64) -> Self {
        let (sender, receiver) = mpsc::channel(PIECES);
        let mut left = end - first;
        let length = left;
        tokio::task::spawn_blocking(move || {
            let mut position = Some(first);
            while left > 0 {
                let want = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
                let piece = next(&mut file, position.take(), want);
                left = left.saturating_sub(piece.as_ref().map_or(left, |piece| piece.len() as u64));
                // A device that has gone needs no more.
                if sender.blocking_send(piece).is_err() {
                    return;
                }
            }
        });
        Self { pieces: Some(receiver), left: length }
    }
}

fn next(file: &mut File, position: Option<u64>, want: usize) -> io::Result<Bytes> {
    if let Some(position) = position {
        file.seek(SeekFrom::Start(position))?;
    }
    let mut piece = vec![0; want];
    file.read_exact(&mut piece)?;
    Ok(piece.into())
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(pieces) = &mut self.pieces else { return Poll::Ready(None) };
        let piece = std::task::ready!(pieces.poll_recv(cx));
        if let Some(Ok(piece)) = &piece {
            self.left -= piece.len() as u64;
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_file() {
        for (range, expected) in [
            ("bytes=0-9", Part::Range(0, 10)),
            ("bytes=90-", Part::Range(90, 100)),
            ("bytes=90-1000", Part::Range(90, 100)),
            ("bytes=-10", Part::Range(90, 100)),
            ("bytes=-1000", Part::Range(0, 100)),
            ("bytes=0-18446744073709551615", Part::Range(0, 100)),
            ("bytes=100-", Part::Outside),
            ("bytes=200-300", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=5-3", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=-", Part::Whole),
            ("lines=0-9", Part::Whole),
        ] {
            assert_eq!(part(Some(range), None, "\"e\"", 100), expected, "{range}");
        }
        assert_eq!(part(Some("bytes=0-9"), Some("\"e\""), "\"e\"", 100), Part::Range(0, 10));
        assert_eq!(part(Some("bytes=0-9"), Some("\"f\""), "\"e\"", 100), Part::Whole);
        assert_eq!(part(None, None, "\"e\"", 100), Part::Whole);
    }

    #[test]
    fn only_files_of_the_folder_are_found() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("images");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        for name in [
            "images/a b.bin",
            "images/sub/c.bin",
            "images/.hidden",
            "images/release.key",
            "images/OLD.KEY",
            "secret",
        ] {
            std::fs::write(outer.path().join(name), "x").unwrap();
        }
        for (target, link) in
            [("../secret", "link"), ("release.key", "latest.bin"), (".hidden", "seen"), ("sub/c.bin", "c")]
        {
            std::os::unix::fs::symlink(target, folder.join(link)).unwrap();
        }
        for path in ["/a%20b.bin", "/sub/c.bin", "/c"] {
            assert!(locate(&folder, path).is_some(), "{path}");
        }
        for path in [
            "/",
            "",
            "a",
            "/sub",
            "/sub/",
            "/none",
            "/.hidden",
            "/release.key",
            "/%72elease.key",
            "/OLD.KEY",
            "/latest.bin",
            "/seen",
            "/../secret",
            "/sub/../../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/link",
            "/%",
            "/%ff",
            "//secret",
            "/a%00",
        ] {
            assert_eq!(locate(&folder, path), None, "{path}");
        }
    }
}
