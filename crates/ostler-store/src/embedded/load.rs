//! Filling the memory from the disk when a store is opened.
//!
//! ```text
//!   scanning thread: sorted files and journals ──> chunks of entries ──> this thread: check, copy, index
//! ```
//!
//! Each half takes about as long as the other, so two cores open a store in half the time.
//!
//! Must not know: what a record holds beyond its head.
//!
//! Invariant: a record is in memory only if its checksum and its id are right.

use super::disk::{Disk, Entry, Kind};
use super::model::{Loader, Model};
use super::settings;
use crate::record::header::{Damage, Head};
use crate::record::shapes::Shapes;
use crate::{OpenError, Revision};
use std::sync::mpsc::{sync_channel, SyncSender};

/// Entries handed over at once.
const CHUNK: usize = 1024;
/// Chunks that may wait.
const CHUNKS_AHEAD: usize = 8;

/// Fills the memory from the disk; also the highest revision found.
pub(crate) fn load(disk: &Disk, shapes: &Shapes) -> Result<(Model, Revision), OpenError> {
    let mut filling = Filling { loader: Loader::new(), shapes, last: 0, broken: None };
    std::thread::scope(|scope| {
        let (send, chunks) = sync_channel(CHUNKS_AHEAD);
        let scanning = scope.spawn(move || scan(disk, &send));
        for chunk in chunks {
            for entry in chunk {
                filling.add(&entry);
            }
        }
        scanning.join().unwrap_or_else(|_| Err(disk.unreadable_because("the engine panicked while reading")))
    })?;
    if let Some((what, damage)) = filling.broken {
        return Err(OpenError::Damaged { path: disk.folder().into(), what, reason: damage.to_string() });
    }
    let model = filling.loader.build();
    for (id, reason) in model.damaged() {
        tracing::error!(id, reason, "a stored record is damaged and will not be served");
    }
    Ok((model, filling.last))
}

fn scan(disk: &Disk, send: &SyncSender<Vec<Entry>>) -> Result<(), OpenError> {
    let mut chunk = Vec::with_capacity(CHUNK);
    for entry in disk.entries() {
        chunk.push(entry?);
        if chunk.len() == CHUNK {
            // Fails only if the other side panicked, which ends this as well.
            let _ = send.send(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK)));
        }
    }
    let _ = send.send(chunk);
    Ok(())
}

struct Filling<'a> {
    loader: Loader,
    shapes: &'a Shapes,
    last: Revision,
    broken: Option<(String, Damage)>,
}

impl Filling<'_> {
    fn add(&mut self, entry: &Entry) {
        match entry.kind {
            Kind::Record => self.add_record(entry.name(), &entry.value),
            Kind::Setting => self.add_setting(entry.name(), &entry.value),
            Kind::Shape => self.add_shape(entry.name(), &entry.value),
            Kind::Document => {}
        }
    }

    fn add_record(&mut self, name: &[u8], value: &[u8]) {
        match Head::parse(value).map(|head| (head.revision(), head.id_as_bytes() == name)) {
            Ok((revision, true)) => {
                self.last = self.last.max(revision);
                self.loader.add(value.into());
            }
            Ok((_, false)) => self.loader.add_damaged(&text(name), "it is stored under another id".into()),
            Err(damage) => self.loader.add_damaged(&text(name), damage.to_string()),
        }
    }

    fn add_setting(&mut self, name: &[u8], value: &[u8]) {
        match settings::decode(value) {
            Ok(setting) => {
                self.last = self.last.max(setting.revision);
                self.loader.add_setting(&text(name), setting);
            }
            Err(damage) => self.broken = Some((format!("the setting {}", text(name)), damage)),
        }
    }

    fn add_shape(&mut self, name: &[u8], value: &[u8]) {
        let number = <[u8; 4]>::try_from(name).map_or(u32::MAX, u32::from_be_bytes);
        if let Err(damage) = self.shapes.load(number, value) {
            self.broken = Some((format!("the shape {number}"), damage));
        }
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
