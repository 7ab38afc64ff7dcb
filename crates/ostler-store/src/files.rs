//! The bytes of uploaded files: a folder of plain files beside the store.
//!
//! ```text
//!   content/4f/4f0c…   a whole file under a random id; what it is called stands in the store's documents
//!   blocks/{upload}/   blocks of an upload that has not ended, each under the hex of its id
//!   writing/           what is being written; emptied when the folder is opened
//! ```
//!
//! All calls block and belong off the runtime's threads.
//!
//! Must not know: names of files, devices, limits, who may read what.
//!
//! Invariant: no text that came from outside is a part of a path; ids are hex.
//! Invariant: a file below `content/` or `blocks/` is whole and synced: it is written elsewhere, synced and renamed.
//! Invariant: a file below `content/` never changes, so whoever has it open reads all of it.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const CONTENT: &str = "content";
const BLOCKS: &str = "blocks";
const WRITING: &str = "writing";
/// Bytes copied at a time.
const COPY_BYTES: usize = 256 * 1024;

/// The name of a content: random, so that it says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentId([u8; 16]);

impl ContentId {
    /// From random bytes.
    pub const fn new(bytes: [u8; 16]) -> ContentId {
        ContentId(bytes)
    }

    /// Reads what [`ContentId`] prints.
    pub fn parse(text: &str) -> Option<ContentId> {
        if text.len() != 32
            || !text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| ContentId(number.to_be_bytes()))
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a folder did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The block at this place of the list is not there.
    #[error("the block at place {0} of the list is not there")]
    MissingBlock(usize),
    /// The disk is full, or the user's share of it.
    #[error("no room on the disk: {0}")]
    Full(#[source] io::Error),
    /// Anything else that the system says.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for FolderError {
    fn from(error: io::Error) -> FolderError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                FolderError::Full(error)
            }
            _ => FolderError::Io(error),
        }
    }
}

/// A folder of uploaded files.
#[derive(Debug)]
pub struct FileFolder {
    path: PathBuf,
    temporary: bool,
    /// Distinguishes what is being written.
    next: AtomicU64,
}

/// Bytes on their way into the folder; dropped, they are gone.
#[derive(Debug)]
pub struct Writing {
    file: File,
    path: PathBuf,
    kept: bool,
}

impl FileFolder {
    /// Opens a folder, or makes one that its owner alone may enter.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<FileFolder> {
        FileFolder::at(path.to_owned(), false)
    }

    /// A folder of its own among the system's temporary ones, gone when this is dropped. `token` makes its name
    /// one that nobody guesses.
    ///
    /// # Errors
    /// The system's.
    pub fn temporary(token: ContentId) -> io::Result<FileFolder> {
        let path = std::env::temp_dir().join(format!("ostler-files-{}-{token}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        FileFolder::at(path, true)
    }

    fn at(path: PathBuf, temporary: bool) -> io::Result<FileFolder> {
        let folder = FileFolder { path, temporary, next: AtomicU64::new(0) };
        for part in [CONTENT, BLOCKS, WRITING] {
            private_folder(&folder.path.join(part))?;
        }
        if !temporary {
            // A file outlives a power cut only if all of its folders do.
            sync(&folder.path)?;
            let parent = folder.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            sync(parent.unwrap_or(Path::new(".")))?;
        }
        for leftover in fs::read_dir(folder.path.join(WRITING))? {
            fs::remove_file(leftover?.path())?;
        }
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that may still be written to its disk.
    ///
    /// # Errors
    /// The system's.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.path)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Begins to write.
    ///
    /// # Errors
    /// The system's.
    pub fn begin(&self) -> Result<Writing, FolderError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(WRITING).join(format!("{number:x}"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Writing { file, path, kept: false })
    }

    /// Keeps what was written as a block of an upload; returns the bytes of the block that it replaces.
    ///
    /// # Errors
    /// The system's; nothing is kept then.
    pub fn keep_block(
        &self,
        writing: Writing,
        upload: ContentId,
        block: &[u8],
    ) -> Result<Option<u64>, FolderError> {
        let folder = self.blocks(upload);
        private_folder(&folder)?;
        let path = folder.join(hex(block));
        let before = fs::metadata(&path).ok().map(|file| file.len());
        writing.keep(&path)?;
        Ok(before)
    }

    /// Keeps what was written as a content.
    ///
    /// # Errors
    /// The system's; nothing is kept then.
    pub fn keep_content(&self, writing: Writing, id: ContentId) -> Result<(), FolderError> {
        let path = self.content(id);
        private_folder(path.parent().unwrap_or(&self.path))?;
        writing.keep(&path)
    }

    /// How many bytes these blocks of an upload have together; a block counts as often as it is named.
    ///
    /// # Errors
    /// [`FolderError::MissingBlock`], or the system's.
    pub fn measure_list(&self, upload: ContentId, blocks: &[Vec<u8>]) -> Result<u64, FolderError> {
        let folder = self.blocks(upload);
        blocks.iter().enumerate().try_fold(0u64, |sum, (place, block)| {
            let file = fs::metadata(folder.join(hex(block))).map_err(|error| no_block(place, error))?;
            Ok(sum.saturating_add(file.len()))
        })
    }

    /// Puts blocks of an upload together, in this order, into a content. `tap` sees all of the bytes before they are
    /// written, and may refuse them.
    ///
    /// # Errors
    /// [`FolderError::MissingBlock`], the system's, or `tap`'s; nothing is kept then, and the blocks stay.
    pub fn assemble<E: From<FolderError>>(
        &self,
        upload: ContentId,
        blocks: &[Vec<u8>],
        id: ContentId,
        tap: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let folder = self.blocks(upload);
        let mut writing = self.begin()?;
        let mut buffer = vec![0; COPY_BYTES];
        for (place, block) in blocks.iter().enumerate() {
            let mut file = File::open(folder.join(hex(block))).map_err(|error| no_block(place, error))?;
            loop {
                let count = file.read(&mut buffer).map_err(FolderError::from)?;
                if count == 0 {
                    break;
                }
                tap(&buffer[..count])?;
                writing.write(&buffer[..count])?;
            }
        }
        Ok(self.keep_content(writing, id)?)
    }

    /// What the blocks of an upload have: how many there are, and their bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn measure_blocks(&self, upload: ContentId) -> io::Result<(usize, u64)> {
        let mut sum = (0, 0);
        match fs::read_dir(self.blocks(upload)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(entries) => {
                for entry in entries {
                    sum = (sum.0 + 1, sum.1 + entry?.metadata()?.len());
                }
            }
        }
        Ok(sum)
    }

    /// Forgets the blocks of an upload.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_blocks(&self, upload: ContentId) -> io::Result<()> {
        absent_is_fine(fs::remove_dir_all(self.blocks(upload)))
    }

    /// A content, to be read.
    ///
    /// # Errors
    /// The system's.
    pub fn read(&self, id: ContentId) -> io::Result<File> {
        File::open(self.content(id))
    }

    /// Forgets a content.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_content(&self, id: ContentId) -> io::Result<()> {
        absent_is_fine(fs::remove_file(self.content(id)))
    }

    /// Removes contents and blocks that nobody knows, as a crash leaves them; returns how many, and the ids of contents
    /// that should be there and are not.
    ///
    /// # Errors
    /// The system's.
    pub fn tidy(
        &self,
        contents: &HashSet<ContentId>,
        uploads: &HashSet<ContentId>,
    ) -> io::Result<(usize, HashSet<ContentId>)> {
        let (mut removed, mut missing) = (0, contents.clone());
        for shard in fs::read_dir(self.path.join(CONTENT))? {
            for file in fs::read_dir(shard?.path())? {
                let file = file?;
                match file.file_name().to_str().and_then(ContentId::parse) {
                    Some(id) if contents.contains(&id) => {
                        missing.remove(&id);
                    }
                    // What is not ours by its name is left alone.
                    None => {}
                    Some(_) => {
                        fs::remove_file(file.path())?;
                        removed += 1;
                    }
                }
            }
        }
        for folder in fs::read_dir(self.path.join(BLOCKS))? {
            let folder = folder?;
            let id = folder.file_name().to_str().and_then(ContentId::parse);
            if id.is_some_and(|id| !uploads.contains(&id)) {
                fs::remove_dir_all(folder.path())?;
                removed += 1;
            }
        }
        Ok((removed, missing))
    }

    /// Copies all contents that are not there yet into another folder, by hard links where the disk is the same.
    ///
    /// # Errors
    /// The system's.
    pub fn copy_contents(from: &Path, to: &Path) -> io::Result<()> {
        let shards = match fs::read_dir(from.join(CONTENT)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            shards => shards?,
        };
        private_folder(&to.join(CONTENT))?;
        sync(to)?;
        to.parent().map_or(Ok(()), sync)?;
        for shard in shards {
            let shard = shard?;
            let target = to.join(CONTENT).join(shard.file_name());
            private_folder(&target)?;
            for file in fs::read_dir(shard.path())? {
                let file = file?;
                let copy = target.join(file.file_name());
                if !copy.exists() {
                    copy_one(&file.path(), &copy)?;
                }
            }
            sync(&target)?;
        }
        sync(&to.join(CONTENT))
    }

    fn content(&self, id: ContentId) -> PathBuf {
        let name = id.to_string();
        self.path.join(CONTENT).join(&name[..2]).join(name)
    }

    fn blocks(&self, upload: ContentId) -> PathBuf {
        self.path.join(BLOCKS).join(upload.to_string())
    }
}

/// A file may be deleted while it is copied; then the copy does not have it.
fn copy_one(from: &Path, to: &Path) -> io::Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    absent_is_fine(fs::copy(from, to).and_then(|_| File::open(to)?.sync_all()))
}

impl Drop for FileFolder {
    fn drop(&mut self) {
        if self.temporary {
            // Nobody is left to be told, and what stays is in a folder for temporary files.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Writing {
    /// Appends.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FolderError> {
        Ok(self.file.write_all(bytes)?)
    }

    /// Gives what was written its lasting name. The folder's own name is made to last each time: who made the folder
    /// may not have come to that.
    fn keep(mut self, path: &Path) -> Result<(), FolderError> {
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        self.path = path.to_owned();
        path.ancestors().skip(1).take(2).try_for_each(sync)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.kept {
            // The folder is emptied at the next start at the latest.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn no_block(place: usize, error: io::Error) -> FolderError {
    match error.kind() {
        io::ErrorKind::NotFound => FolderError::MissingBlock(place),
        _ => error.into(),
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ContentId {
        ContentId::new([number; 16])
    }

    fn write(folder: &FileFolder, text: &str) -> Writing {
        let mut writing = folder.begin().unwrap();
        writing.write(text.as_bytes()).unwrap();
        writing
    }

    fn text(folder: &FileFolder, id: ContentId) -> String {
        let mut text = String::new();
        folder.read(id).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn files(path: &Path) -> usize {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
    }

    #[test]
    fn blocks_become_a_content() {
        let place = tempfile::tempdir().unwrap();
        let folder = FileFolder::open(place.path()).unwrap();
        for (block, content) in [("b", "two"), ("a", "on"), ("a", "one")] {
            folder.keep_block(write(&folder, content), id(1), block.as_bytes()).unwrap();
        }
        assert_eq!(folder.measure_blocks(id(1)).unwrap(), (2, 6));
        let list = [b"a".to_vec(), b"b".to_vec(), b"a".to_vec()];
        assert_eq!(folder.measure_list(id(1), &list).unwrap(), 9);
        let mut seen = Vec::new();
        let mut tap = |part: &[u8]| {
            seen.extend_from_slice(part);
            Ok::<_, FolderError>(())
        };
        folder.assemble(id(1), &list, id(2), &mut tap).unwrap();
        assert_eq!(seen, b"onetwoone");
        assert_eq!(text(&folder, id(2)), "onetwoone");
        let strange = [b"a".to_vec(), b"../a".to_vec()];
        let mut tap = |_: &[u8]| Ok::<_, FolderError>(());
        let missing = folder.assemble(id(1), &strange, id(3), &mut tap);
        assert!(matches!(missing, Err(FolderError::MissingBlock(1))));
        assert!(matches!(folder.measure_list(id(1), &strange), Err(FolderError::MissingBlock(1))));
        let mut refuse = |_: &[u8]| Err(FolderError::Full(io::ErrorKind::StorageFull.into()));
        assert!(matches!(folder.assemble(id(1), &list, id(3), &mut refuse), Err(FolderError::Full(_))));
        folder.remove_blocks(id(1)).unwrap();
        folder.remove_blocks(id(1)).unwrap();
        assert_eq!(files(place.path()), 1, "the content alone is left");
    }

    #[test]
    fn what_is_not_kept_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let folder = FileFolder::open(place.path()).unwrap();
        drop(write(&folder, "half"));
        assert_eq!(files(place.path()), 0);
        std::mem::forget(write(&folder, "cut by a crash"));
        FileFolder::open(place.path()).unwrap();
        assert_eq!(files(place.path()), 0);
    }

    #[test]
    fn tidying_leaves_what_is_known() {
        let place = tempfile::tempdir().unwrap();
        let folder = FileFolder::open(place.path()).unwrap();
        for number in [1, 2] {
            folder.keep_content(write(&folder, "x"), id(number)).unwrap();
            folder.keep_block(write(&folder, "x"), id(number), b"a").unwrap();
        }
        let known: HashSet<_> = [id(1), id(3)].into();
        let (removed, missing) = folder.tidy(&known, &[id(2)].into()).unwrap();
        assert_eq!((removed, missing), (2, [id(3)].into()));
        assert!(folder.read(id(1)).is_ok() && folder.read(id(2)).is_err());
        assert_eq!(folder.measure_blocks(id(1)).unwrap().0, 0);
        assert_eq!(folder.measure_blocks(id(2)).unwrap().0, 1);
    }

    #[test]
    fn a_temporary_folder_leaves_nothing() {
        let folder = FileFolder::temporary(id(7)).unwrap();
        folder.keep_content(write(&folder, "x"), id(1)).unwrap();
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_copy_has_every_content() {
        let (place, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = FileFolder::open(place.path()).unwrap();
        folder.keep_content(write(&folder, "one"), id(1)).unwrap();
        FileFolder::copy_contents(place.path(), copy.path()).unwrap();
        folder.keep_content(write(&folder, "two"), id(2)).unwrap();
        FileFolder::copy_contents(place.path(), copy.path()).unwrap();
        let copied = FileFolder::open(copy.path()).unwrap();
        assert_eq!((text(&copied, id(1)), text(&copied, id(2))), ("one".into(), "two".into()));
    }

    #[test]
    fn ids() {
        assert_eq!(ContentId::parse(&id(0xab).to_string()), Some(id(0xab)));
        for text in ["", "ab", "../../../../../../../../../etc/pw", "+bababababababababababababababab"] {
            assert_eq!(ContentId::parse(text), None, "{text}");
        }
    }
}
