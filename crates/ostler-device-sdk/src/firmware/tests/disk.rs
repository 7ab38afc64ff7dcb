//! File systems that fail: one in memory that loses power and forgets what was not synced, one on the disk that kills the
//! process.
//!
//! What is not synced is lost in any of the ways in which real ones lose it: not at all, wholly, or in part, file contents
//! and names apart from each other.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::firmware::files::{Disk, Files};

/// A small generator; the same seed loses the same things.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    File(usize),
    Link(String),
    Folder,
}

#[derive(Debug, Clone, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
}

type Names = BTreeMap<PathBuf, Node>;

#[derive(Debug, Default)]
struct Memory {
    files: Vec<File>,
    names: Names,
    /// What each folder durably names.
    durable: Names,
    /// What each folder has named since, in order.
    unsynced: Vec<(PathBuf, Names)>,
    /// Operations so far, and at which one the power goes.
    operations: u64,
    cut_at: u64,
    off: bool,
    capacity: usize,
}

/// A disk in memory.
#[derive(Debug)]
pub struct Ram(Mutex<Memory>);

impl Ram {
    pub fn new() -> Self {
        Self(Mutex::new(Memory { cut_at: u64::MAX, capacity: usize::MAX, ..Memory::default() }))
    }

    /// A disk that holds no more than so many bytes.
    pub fn small(capacity: usize) -> Self {
        let ram = Self::new();
        ram.memory().capacity = capacity;
        ram
    }

    pub fn operations(&self) -> u64 {
        self.memory().operations
    }

    /// The power goes at operation `number`, half of which may still happen.
    pub fn cut_at(&self, number: u64) {
        self.memory().cut_at = number;
    }

    /// Looks at the disk without that counting, or losing power.
    pub fn aside<T>(&self, look: impl FnOnce() -> T) -> T {
        let (operations, cut_at) = {
            let mut memory = self.memory();
            (memory.operations, std::mem::replace(&mut memory.cut_at, u64::MAX))
        };
        let result = look();
        let mut memory = self.memory();
        (memory.operations, memory.cut_at) = (operations, cut_at);
        result
    }

    pub fn is_off(&self) -> bool {
        self.memory().off
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap()
    }

    /// The power comes back: what was not synced is there, or not.
    pub fn power_on(&self, random: &mut Random) {
        let mut memory = self.memory();
        let memory = &mut *memory;
        // Of the changes of each folder, a first part has come to the disk.
        let mut names = memory.durable.clone();
        let mut folders: Vec<PathBuf> = memory.unsynced.iter().map(|(folder, _)| folder.clone()).collect();
        folders.sort();
        folders.dedup();
        for folder in folders {
            let steps: Vec<&Names> =
                memory.unsynced.iter().filter(|(of, _)| *of == folder).map(|(_, names)| names).collect();
            if let Some(step) = random.below(steps.len() + 1).checked_sub(1) {
                names.retain(|path, _| path.parent() != Some(&folder));
                names.extend(steps[step].clone());
            }
        }
        for file in &mut memory.files {
            file.now = survivor(file, random);
            file.durable = file.now.clone();
        }
        (memory.durable, memory.names) = (names.clone(), names);
        memory.unsynced.clear();
        (memory.off, memory.cut_at) = (false, u64::MAX);
    }
}

/// What a power cut leaves of a file.
fn survivor(file: &File, random: &mut Random) -> Vec<u8> {
    let File { now, durable } = file;
    if now == durable {
        return now.clone();
    }
    let common = now.iter().zip(durable).take_while(|(now, durable)| now == durable).count();
    match random.below(4) {
        0 => durable.clone(),
        1 => now.clone(),
        // A part of the new bytes.
        2 => now[..common + random.below(now.len() - common + 1)].to_vec(),
        // The new length without the new bytes.
        _ => now[..common].iter().copied().chain(std::iter::repeat_n(0, now.len() - common)).collect(),
    }
}

impl Memory {
    /// Counts an operation; false when the power goes amid it.
    fn operate(&mut self) -> io::Result<bool> {
        if self.off {
            return Err(io::Error::other("the power is off"));
        }
        self.operations += 1;
        self.off = self.operations > self.cut_at;
        Ok(!self.off)
    }

    fn file(&mut self, path: &Path) -> io::Result<&mut File> {
        match self.names.get(path) {
            Some(Node::File(id)) => Ok(&mut self.files[*id]),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn name(&mut self, path: &Path, node: Option<Node>) {
        match node {
            Some(node) => drop(self.names.insert(path.to_owned(), node)),
            None => drop(self.names.remove(path)),
        }
        let folder = path.parent().unwrap_or(path).to_owned();
        let names = self.names.iter().filter(|(path, _)| path.parent() == Some(&folder));
        let names = names.map(|(path, node)| (path.clone(), node.clone())).collect();
        self.unsynced.push((folder, names));
    }

    fn grow(&mut self, bytes: usize) -> io::Result<()> {
        let named = self.names.values().filter_map(|node| match node {
            Node::File(id) => Some(self.files[*id].now.len()),
            _ => None,
        });
        if named.sum::<usize>() + bytes > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn made(&mut self, path: &Path) -> usize {
        if let Some(Node::File(id)) = self.names.get(path) {
            return *id;
        }
        self.files.push(File::default());
        let id = self.files.len() - 1;
        self.name(path, Some(Node::File(id)));
        id
    }
}

/// What became of an operation when the power went amid it.
fn done(whole: bool) -> io::Result<()> {
    if whole {
        Ok(())
    } else {
        Err(io::Error::other("the power went"))
    }
}

impl Files for Ram {
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        let mut memory = self.memory();
        done(!memory.off)?;
        let bytes = &memory.file(path)?.now;
        Ok(bytes[..bytes.len().min(max as usize)].to_vec())
    }

    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut memory = self.memory();
        done(!memory.off)?;
        let bytes = memory.file(path)?.now.get(offset as usize..).unwrap_or_default();
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        let mut memory = self.memory();
        done(!memory.off)?;
        Ok(memory.file(path).ok().map(|file| file.now.len() as u64))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut memory = self.memory();
        let whole = memory.operate()?;
        memory.grow(bytes.len())?;
        let id = memory.made(path);
        memory.files[id].now = bytes[..if whole { bytes.len() } else { bytes.len() / 2 }].to_vec();
        done(whole)
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut memory = self.memory();
        let whole = memory.operate()?;
        memory.grow(bytes.len())?;
        let id = memory.made(path);
        memory.files[id].now.extend_from_slice(&bytes[..if whole { bytes.len() } else { bytes.len() / 2 }]);
        done(whole)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut memory = self.memory();
        let whole = memory.operate()?;
        memory.file(path)?.now.truncate(len as usize);
        done(whole)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut memory = self.memory();
        let whole = memory.operate()?;
        if whole {
            let file = memory.file(path)?;
            file.durable = file.now.clone();
        }
        done(whole)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut memory = self.memory();
        let whole = memory.operate()?;
        if whole {
            let Memory { names, durable, unsynced, .. } = &mut *memory;
            durable.retain(|name, _| name.parent() != Some(path));
            durable.extend(
                names
                    .iter()
                    .filter(|(name, _)| name.parent() == Some(path))
                    .map(|(name, node)| (name.clone(), node.clone())),
            );
            unsynced.retain(|(folder, _)| folder != path);
        }
        done(whole)
    }

    fn sync_all(&self, _: &Path) -> io::Result<()> {
        let mut memory = self.memory();
        let whole = memory.operate()?;
        if whole {
            for file in &mut memory.files {
                file.durable = file.now.clone();
            }
            memory.durable = memory.names.clone();
            memory.unsynced.clear();
        }
        done(whole)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut memory = self.memory();
        let whole = memory.operate()?;
        if memory.names.get(path) != Some(&Node::Folder) {
            memory.name(path, Some(Node::Folder));
        }
        done(whole)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut memory = self.memory();
        let whole = memory.operate()?;
        if whole {
            let node = memory.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            memory.name(to, Some(node));
        }
        done(whole)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut memory = self.memory();
        let whole = memory.operate()?;
        if whole && memory.names.contains_key(path) {
            memory.name(path, None);
        }
        done(whole)
    }

    fn symlink(&self, target: &str, path: &Path) -> io::Result<()> {
        let mut memory = self.memory();
        let whole = memory.operate()?;
        if memory.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        memory.name(path, Some(Node::Link(target.to_owned())));
        done(whole)
    }

    fn read_link(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let memory = self.memory();
        done(!memory.off)?;
        match memory.names.get(path) {
            Some(Node::Link(target)) => Ok(Some(target.into())),
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
            None => Ok(None),
        }
    }

    fn available(&self, _: &Path) -> io::Result<u64> {
        done(!self.memory().off)?;
        Ok(u64::MAX)
    }
}

/// The disk, in a process that kills itself at a certain operation, or amid it.
#[derive(Debug)]
pub struct Killer {
    /// Points passed so far. A write has two: before it, and amid it.
    points: AtomicU64,
    kill_at: u64,
    /// Told about every byte of an image before it is written.
    received: PathBuf,
}

impl Killer {
    pub fn new(kill_at: u64, received: PathBuf) -> Self {
        Self { points: AtomicU64::new(0), kill_at, received }
    }

    pub fn points(&self) -> u64 {
        self.points.load(Ordering::SeqCst)
    }

    fn point(&self) {
        if self.points.fetch_add(1, Ordering::SeqCst) == self.kill_at {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
        }
    }

    fn half(&self, bytes: &[u8], write: impl Fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.point();
        if self.points() == self.kill_at {
            write(&bytes[..bytes.len() / 2])?;
        }
        self.point();
        write(bytes)
    }
}

impl Files for Killer {
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        Disk.read(path, max)
    }

    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Disk.read_at(path, offset, buffer)
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        Disk.len(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.half(bytes, |bytes| Disk.write(path, bytes))
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if path.ends_with("image.part") {
            let received = Disk.len(path)?.unwrap_or_default() + bytes.len() as u64;
            std::fs::write(&self.received, received.to_string())?;
        }
        self.half(bytes, |bytes| Disk.append(path, bytes))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.point();
        Disk.truncate(path, len)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.point();
        Disk.sync(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.point();
        Disk.sync_dir(path)
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.point();
        Disk.sync_all(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.point();
        Disk.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.point();
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.point();
        Disk.remove(path)
    }

    fn symlink(&self, target: &str, path: &Path) -> io::Result<()> {
        self.point();
        Disk.symlink(target, path)
    }

    fn read_link(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        Disk.read_link(path)
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        Disk.available(path)
    }
}
