//! Two slots, one state file and one link in a folder, so that a power cut at any moment leaves a device that boots.
//!
//! ```text
//! <folder>/state.json          the state, replaced as a whole
//! <folder>/current -> a        the slot that boots, replaced as a whole
//! <folder>/a/image             the image of slot a
//! <folder>/b/image.part        the image of slot b as far as it has come
//! <folder>/b/image.progress    what it is a part of, and how much of it is durable
//! <folder>/lock                held by the process that updates
//! ```
//!
//! Must not know: sockets, what comes next.
//!
//! Invariant: a file that is replaced is written beside, synced, renamed and its folder synced: it is old or new, never between.
//! Invariant: a length in `image.progress` was written after the bytes it counts were synced.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{flock, FlockOperation};
use serde::{Deserialize, Serialize};

use super::digest::{Digest, Hasher};
use super::failure::{Code, Failure};
use super::files::{Disk, Files};
use super::state::{Image, Slot, State, Target};
use super::version::Version;

/// Largest state file that is read, in bytes; it holds a few texts with bounds.
const MAX_STATE: u64 = 256 << 10;
/// Largest progress file that is read: a line of at most 21 bytes for each chunk.
const MAX_PROGRESS: u64 = 4 << 20;
/// Read at once when a file is hashed.
const READ: usize = 256 << 10;
/// Kept free beside the image, for the state and for others.
const SPARE: u64 = 1 << 20;
/// What the store itself puts into a slot, in the order in which it is removed.
const LEFT: [&str; 4] = ["image.progress", "image.progress.new", "image.part", "image"];
const STATE: &str = "state.json";
const CURRENT: &str = "current";

/// The folder of a device's firmware.
///
/// ```
/// use ostler_device_sdk::firmware::{Slot, Store};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// # std::fs::write(folder.join("factory.bin"), "image")?;
/// let store = Store::open(folder.join("firmware"))?;
/// let state = store.provision(&folder.join("factory.bin"), "1.0.0".parse()?)?;
/// assert_eq!((store.linked()?, state.good), (Slot::A, Slot::A));
/// assert_eq!(std::fs::read_to_string(store.image(Slot::A))?, "image");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    files: Arc<dyn Files>,
    /// Closing it gives the lock up.
    _lock: Option<Arc<OwnedFd>>,
    /// Work that was begun is ended before other work begins, even when nobody waits for it any more.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Store {
    /// Opens the folder, making it if it is not there.
    ///
    /// # Errors
    /// [`Code::Busy`] when another process has it, [`Code::Storage`] when it cannot be used.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Failure> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder).map_err(|error| storage("make the folder", &folder, &error))?;
        let lock = lock(&folder)?;
        Self::with(folder, Arc::new(Disk), Some(Arc::new(lock)))
    }

    pub(super) fn with(
        folder: PathBuf,
        files: Arc<dyn Files>,
        lock: Option<Arc<OwnedFd>>,
    ) -> Result<Self, Failure> {
        let store = Self { folder, files, _lock: lock, turn: Arc::default() };
        store.lay_out().map_err(|error| storage("prepare", &store.folder, &error))?;
        Ok(store)
    }

    fn lay_out(&self) -> io::Result<()> {
        for slot in [Slot::A, Slot::B] {
            self.files.create_dir(&self.slot(slot))?;
        }
        if self.files.read_link(&self.path(CURRENT))?.is_none() {
            self.switch_to(Slot::A)?;
        }
        self.files.sync_dir(&self.folder)
    }

    /// Runs what waits for the disk away from the event loop, one after the other.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let turn = self.turn.clone().lock_owned().await;
        let store = self.clone();
        let work = move || {
            let result = work(&store);
            drop(turn);
            result
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|_| Err(Failure::new(Code::Storage, "the work on the disk was cut off")))
    }

    /// The folder of a slot.
    pub fn slot(&self, slot: Slot) -> PathBuf {
        self.path(slot.name())
    }

    /// The image of a slot.
    pub fn image(&self, slot: Slot) -> PathBuf {
        self.slot(slot).join("image")
    }

    /// The slot that boots.
    ///
    /// # Errors
    /// [`Code::Storage`] when the link is gone or leads elsewhere.
    pub fn linked(&self) -> Result<Slot, Failure> {
        let path = self.path(CURRENT);
        let target = self.files.read_link(&path).map_err(|error| storage("read", &path, &error))?;
        let slot = target.as_deref().and_then(Path::to_str).and_then(Slot::from_name);
        slot.ok_or_else(|| {
            Failure::new(Code::Storage, format!("{} must be a link to `a` or `b`", path.display()))
        })
    }

    /// Makes a slot the one that boots.
    ///
    /// # Errors
    /// [`Code::Storage`], [`Code::DiskFull`].
    pub fn switch(&self, slot: Slot) -> Result<(), Failure> {
        self.switch_to(slot).map_err(|error| storage("switch", &self.path(CURRENT), &error))
    }

    fn switch_to(&self, slot: Slot) -> io::Result<()> {
        let new = self.path("current.new");
        self.files.remove(&new)?;
        self.files.symlink(slot.name(), &new)?;
        self.files.rename(&new, &self.path(CURRENT))?;
        self.files.sync_dir(&self.folder)
    }

    /// The stored state; none on a device that has never stored one.
    ///
    /// # Errors
    /// [`Code::Storage`], also when the file holds something else.
    pub fn load(&self) -> Result<Option<State>, Failure> {
        self.read_state()?.transpose()
    }

    /// The same, but a file that holds something else is put aside, and counts as none. One that cannot be read just now
    /// stays where it is: it may say that the slot that boots is on trial.
    pub(super) fn load_or_set_aside(&self) -> Result<Option<State>, Failure> {
        match self.read_state()?.transpose() {
            Ok(state) => Ok(state),
            Err(failure) => {
                tracing::error!(%failure, "the state of firmware updates is lost; what runs is taken as good");
                self.set_aside().map(|()| None)
            }
        }
    }

    /// The state, or what is wrong with it; none without a file, an error when that cannot be read.
    fn read_state(&self) -> Result<Option<Result<State, Failure>>, Failure> {
        let path = self.path(STATE);
        let bytes = match self.files.read(&path, MAX_STATE) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(storage("read", &path, &error)),
        };
        let damaged = |error| Failure::new(Code::Storage, format!("{} is damaged: {error}", path.display()));
        Ok(Some(serde_json::from_slice(&bytes).map_err(damaged)))
    }

    /// It stays for whoever wants to know what happened.
    fn set_aside(&self) -> Result<(), Failure> {
        let path = self.path(STATE);
        let rename = || {
            self.files.rename(&path, &self.path("state.json.damaged"))?;
            self.files.sync_dir(&self.folder)
        };
        rename().map_err(|error| storage("put aside", &path, &error))
    }

    /// Stores the state, durably.
    ///
    /// # Errors
    /// [`Code::Storage`], [`Code::DiskFull`].
    pub fn save(&self, state: &State) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(state)
            .map_err(|error| storage("write", &self.path(STATE), &io::Error::other(error)))?;
        self.replace(&self.folder, STATE, &bytes).map_err(|error| storage("write", &self.path(STATE), &error))
    }

    fn replace(&self, folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = folder.join(format!("{name}.new"));
        self.files.write(&new, bytes)?;
        self.files.sync(&new)?;
        self.files.rename(&new, &folder.join(name))?;
        self.files.sync_dir(folder)
    }

    /// Installs what left the factory: copies `image` into slot a of a folder that has no state yet, and says so.
    ///
    /// # Errors
    /// [`Code::Storage`] also when there is a state already.
    pub fn provision(&self, image: &Path, version: Version) -> Result<State, Failure> {
        if self.load()?.is_some() {
            let text = format!("{} has been provisioned before", self.folder.display());
            return Err(Failure::new(Code::Storage, text));
        }
        let failed = |error: io::Error| storage("provision from", image, &error);
        let mut source = std::fs::File::open(image).map_err(failed)?;
        let part = self.slot(Slot::A).join("image.part");
        self.files.write(&part, &[]).map_err(failed)?;
        let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0, vec![0; READ]);
        loop {
            let count = io::Read::read(&mut source, &mut buffer).map_err(failed)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            size += count as u64;
            self.files.append(&part, &buffer[..count]).map_err(failed)?;
        }
        self.publish(Slot::A).map_err(failed)?;
        self.switch(Slot::A)?;
        let state = State::factory(Slot::A, Image { version, sha256: Some(hasher.finish()), size });
        self.save(&state)?;
        Ok(state)
    }

    /// `image.part` becomes `image`, durably.
    fn publish(&self, slot: Slot) -> io::Result<()> {
        let folder = self.slot(slot);
        self.files.sync(&folder.join("image.part"))?;
        self.files.rename(&folder.join("image.part"), &folder.join("image"))?;
        self.files.sync_dir(&folder)
    }

    /// Takes up the download of an image, or begins it; what is left of others goes first.
    ///
    /// # Errors
    /// [`Code::Storage`]; [`Code::DiskFull`] when the rest would not fit.
    pub(super) fn part(&self, target: &Target) -> Result<Part, Failure> {
        let folder = self.slot(target.slot);
        let failed = |error: io::Error| storage("prepare", &folder, &error);
        let part = match self.resumed(target).map_err(failed)? {
            Some(part) => part,
            None => {
                self.clear(target.slot)?;
                Part { target: target.clone(), origin: None, durable: 0, written: 0, hasher: Hasher::new() }
            }
        };
        let needed = (target.size - part.durable).saturating_add(SPARE);
        let available = self.files.available(&folder).map_err(failed)?;
        if available < needed {
            let text = format!(
                "the disk has {available} bytes left, the image needs {needed}: make room and try again"
            );
            return Err(Failure::new(Code::DiskFull, text));
        }
        Ok(part)
    }

    /// What an earlier process has left of this very image; its bytes are hashed again.
    fn resumed(&self, target: &Target) -> io::Result<Option<Part>> {
        let folder = self.slot(target.slot);
        let notes = folder.join("image.progress");
        let progress = match self.files.read(&notes, MAX_PROGRESS) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let path = folder.join("image.part");
        let Some(length) = self.files.len(&path)? else { return Ok(None) };
        let Some(Progress { origin, durable, read }) = Progress::read(&progress, target) else {
            return Ok(None);
        };
        if durable > length {
            return Ok(None);
        }
        // The next line must not be joined to one that a power cut has torn.
        if read < progress.len() as u64 {
            self.files.truncate(&notes, read)?;
        }
        if length > durable {
            self.files.truncate(&path, durable)?;
        }
        let Some(hasher) = self.hash(&path, durable)? else { return Ok(None) };
        Ok(Some(Part { target: target.clone(), origin: Some(origin), durable, written: durable, hasher }))
    }

    /// Hashes the first `length` bytes of a file; none when it is shorter.
    fn hash(&self, path: &Path, length: u64) -> io::Result<Option<Hasher>> {
        let (mut hasher, mut at, mut buffer) = (Hasher::new(), 0, vec![0; READ]);
        while at < length {
            let want = usize::try_from(length - at).unwrap_or(READ).min(READ);
            let count = self.files.read_at(path, at, &mut buffer[..want])?;
            if count == 0 {
                return Ok(None);
            }
            hasher.update(&buffer[..count]);
            at += count as u64;
        }
        Ok(Some(hasher))
    }

    /// Notes where a download comes from, before its first byte.
    ///
    /// # Errors
    /// [`Code::Storage`], [`Code::DiskFull`].
    pub(super) fn begin(&self, part: &mut Part, origin: Origin) -> Result<(), Failure> {
        let folder = self.slot(part.target.slot);
        let head = Head { sha256: part.target.sha256, size: part.target.size, origin: origin.clone() };
        let write = || -> io::Result<()> {
            self.files.write(&folder.join("image.part"), &[])?;
            let mut line = serde_json::to_vec(&head).map_err(io::Error::other)?;
            line.push(b'\n');
            self.replace(&folder, "image.progress", &line)
        };
        write().map_err(|error| storage("write to", &folder, &error))?;
        *part = Part {
            target: part.target.clone(),
            origin: Some(origin),
            durable: 0,
            written: 0,
            hasher: Hasher::new(),
        };
        Ok(())
    }

    /// Adds the next bytes of an image. They count once [`Store::commit`] has returned.
    ///
    /// # Errors
    /// [`Code::SizeMismatch`] when they are too many; [`Code::Storage`], [`Code::DiskFull`].
    pub(super) fn append(&self, part: &mut Part, bytes: &[u8]) -> Result<(), Failure> {
        if part.written + bytes.len() as u64 > part.target.size {
            return Err(too_long(&part.target));
        }
        let path = self.slot(part.target.slot).join("image.part");
        self.files.append(&path, bytes).map_err(|error| storage("write to", &path, &error))?;
        part.hasher.update(bytes);
        part.written += bytes.len() as u64;
        Ok(())
    }

    /// Makes what was added durable.
    ///
    /// # Errors
    /// [`Code::Storage`], [`Code::DiskFull`].
    pub(super) fn commit(&self, part: &mut Part) -> Result<(), Failure> {
        if part.written == part.durable {
            return Ok(());
        }
        let folder = self.slot(part.target.slot);
        let write = || -> io::Result<()> {
            self.files.sync(&folder.join("image.part"))?;
            let progress = folder.join("image.progress");
            self.files.append(&progress, format!("{}\n", part.written).as_bytes())?;
            self.files.sync(&progress)
        };
        write().map_err(|error| storage("write to", &folder, &error))?;
        part.durable = part.written;
        Ok(())
    }

    /// Checks the digest of a complete download, as it came.
    ///
    /// # Errors
    /// [`Code::DigestMismatch`].
    pub(super) fn check(&self, part: &Part) -> Result<(), Failure> {
        let digest = part.hasher.clone().finish();
        if part.written == part.target.size && digest == part.target.sha256 {
            return Ok(());
        }
        Err(wrong_digest(digest, &part.target))
    }

    /// Reads a downloaded image back from the disk; it becomes the slot's image if it is the right one.
    ///
    /// # Errors
    /// [`Code::DigestMismatch`]; [`Code::Storage`].
    pub(super) fn verify(&self, target: &Target) -> Result<(), Failure> {
        let folder = self.slot(target.slot);
        let failed = |error: io::Error| storage("verify", &folder, &error);
        let part = folder.join("image.part");
        // After a power cut the image may have its name already.
        let published = self.files.len(&part).map_err(failed)?.is_none();
        let path = if published { folder.join("image") } else { part };
        let length = self.files.len(&path).map_err(failed)?.unwrap_or_default();
        let hasher = self.hash(&path, length.min(target.size)).map_err(failed)?.unwrap_or_default();
        let digest = hasher.finish();
        if digest != target.sha256 || length != target.size {
            return Err(wrong_digest(digest, target));
        }
        if !published {
            self.publish(target.slot).map_err(failed)?;
        }
        self.files.remove(&folder.join("image.progress")).map_err(failed)
    }

    /// Makes durable what the application has put into a slot.
    ///
    /// # Errors
    /// [`Code::Storage`], [`Code::DiskFull`].
    pub(super) fn sync_slot(&self, slot: Slot) -> Result<(), Failure> {
        let folder = self.slot(slot);
        self.files.sync_all(&folder).map_err(|error| storage("make durable", &folder, &error))
    }

    /// Whether a slot holds just this image, read from the disk.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn holds(&self, slot: Slot, sha256: Digest, size: u64) -> Result<bool, Failure> {
        let path = self.image(slot);
        let failed = |error: io::Error| storage("read", &path, &error);
        if self.files.len(&path).map_err(failed)? != Some(size) {
            return Ok(false);
        }
        Ok(self.hash(&path, size).map_err(failed)?.is_some_and(|hasher| hasher.finish() == sha256))
    }

    /// Removes an image and what was downloaded of one. What the application put beside it stays for its install hook.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub(super) fn clear(&self, slot: Slot) -> Result<(), Failure> {
        let folder = self.slot(slot);
        let clear = || -> io::Result<()> {
            // The progress goes first: without it, what is left of a part counts for nothing.
            for name in LEFT {
                self.files.remove(&folder.join(name))?;
            }
            self.files.sync_dir(&folder)
        };
        clear().map_err(|error| storage("clear", &folder, &error))
    }

    /// The same, without a write where there is nothing to remove.
    pub(super) fn tidy(&self, slot: Slot) -> Result<(), Failure> {
        let folder = self.slot(slot);
        for name in LEFT {
            let path = folder.join(name);
            let length = self.files.len(&path).map_err(|error| storage("read", &path, &error))?;
            if length.is_some() {
                return self.clear(slot);
            }
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// An image on its way to the disk.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub target: Target,
    /// Where the bytes came from so far; none before the first answer of the server.
    pub origin: Option<Origin>,
    /// Bytes that survive a power cut.
    pub durable: u64,
    /// Bytes that were written.
    pub written: u64,
    hasher: Hasher,
}

/// What tells one content of a URL from another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Origin {
    /// The server's ETag, weak ones too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The server's Last-Modified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
}

/// The first line of a progress file.
#[derive(Serialize, Deserialize)]
struct Head {
    sha256: Digest,
    size: u64,
    #[serde(flatten)]
    origin: Origin,
}

/// What a progress file says.
struct Progress {
    origin: Origin,
    /// How much of the image is durable.
    durable: u64,
    /// How much of the file says so. A line that a power cut has torn, and all after it, do not count.
    read: u64,
}

impl Progress {
    fn read(bytes: &[u8], target: &Target) -> Option<Self> {
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').take_while(|line| line.ends_with(b"\n"));
        let first = lines.next()?;
        let head: Head = serde_json::from_slice(first).ok()?;
        if head.sha256 != target.sha256 || head.size != target.size {
            return None;
        }
        let mut progress = Self { origin: head.origin, durable: 0, read: first.len() as u64 };
        for line in lines {
            let number = std::str::from_utf8(line).ok().and_then(|text| text.trim_end().parse::<u64>().ok());
            match number {
                Some(number) if number > progress.durable && number <= target.size => {
                    progress.durable = number
                }
                _ => break,
            }
            progress.read += line.len() as u64;
        }
        Some(progress)
    }
}

pub(super) fn too_long(target: &Target) -> Failure {
    let text = format!("the server sends more than the {} bytes that were signed", target.size);
    Failure::new(Code::SizeMismatch, text)
}

fn wrong_digest(digest: Digest, target: &Target) -> Failure {
    let text = format!(
        "the image is not the one that was signed: its SHA-256 is {digest}, expected {}; it was thrown away",
        target.sha256
    );
    Failure::new(Code::DigestMismatch, text)
}

fn storage(what: &str, path: &Path, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
        _ => Code::Storage,
    };
    Failure::new(code, format!("cannot {what} {}: {error}", path.display()))
}

fn lock(folder: &Path) -> Result<OwnedFd, Failure> {
    let path = folder.join("lock");
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = OwnedFd::from(file.map_err(|error| storage("open", &path, &error))?);
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let text = format!("another process updates {}: only one may", folder.display());
            Err(Failure::new(Code::Busy, text))
        }
        Err(error) => Err(storage("lock", &path, &error.into())),
    }
}
