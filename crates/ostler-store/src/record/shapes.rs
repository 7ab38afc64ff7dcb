//! The key lists of objects, each stored once: a fleet's twins share a few.
//!
//! ```text
//!   {"temp":21.5,"fan":{"rpm":900}}   ->   shape 7, 21.5, (shape 3, 900)
//!   shape 7 = ["temp","fan"]    shape 3 = ["rpm"]
//! ```
//!
//! A shape is written in the batch of the first record that uses it. Shapes are never removed, so
//! their number and bytes are bounded; beyond the bounds a record carries its keys itself.
//!
//! Stored form: format 1, CRC-32 of the rest (little-endian), then a varint count and each key as a
//! varint length and its bytes.
//!
//! Must not know: records, disks.
//!
//! Invariant: a number means the same key list for ever.
//! Invariant: [`Shapes::take_new`] hands out a shape before any record that uses it is written.

use super::header::Damage;
use super::varint::{self, Reader};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use ostler_core::json::Key;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

const FORMAT: u8 = 1;
/// Shapes of one store.
const MOST_SHAPES: usize = 64 * 1024;
/// Bytes of all keys of all shapes.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// Keys of one shape; a larger object carries its keys itself.
const MOST_KEYS: usize = 256;
/// Bytes of the keys of one shape.
const MOST_KEY_BYTES: usize = 8 * 1024;

/// See the module documentation.
#[derive(Default)]
pub(crate) struct Shapes {
    known: RwLock<Known>,
    new: Mutex<Vec<NewShape>>,
}

/// A shape that is not durable yet.
pub(crate) struct NewShape {
    pub(crate) number: u32,
    pub(crate) bytes: Vec<u8>,
}

/// The shapes, for reading.
#[derive(Default)]
pub(crate) struct Known {
    by_number: Vec<Option<Arc<[Key]>>>,
    by_keys: HashTable<u32>,
    hasher: RandomState,
    bytes: usize,
}

impl Shapes {
    /// All shapes; holding this keeps others from adding one.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read()
    }

    /// The number of the shape with these keys, known or made now; `None` beyond the bounds.
    pub(crate) fn intern<'k>(&self, keys: impl ExactSizeIterator<Item = &'k Key> + Clone) -> Option<u32> {
        if keys.len() > MOST_KEYS {
            return None;
        }
        if let Some(number) = self.known.read().find(keys.clone()) {
            return Some(number);
        }
        let key_bytes: usize = keys.clone().map(|key| key.len()).sum();
        let mut known = self.known.write();
        // Someone may have been faster.
        if let Some(number) = known.find(keys.clone()) {
            return Some(number);
        }
        if key_bytes > MOST_KEY_BYTES
            || known.by_number.len() >= MOST_SHAPES
            || known.bytes + key_bytes > MOST_BYTES
        {
            return None;
        }
        let keys: Arc<[Key]> = keys.cloned().collect();
        let number = u32::try_from(known.by_number.len()).ok()?;
        // Noted as new before anyone can find it, so that it is written before it is used.
        self.new.lock().push(NewShape { number, bytes: encode(&keys) });
        known.add(number, keys);
        Some(number)
    }

    /// The shapes that the next batch must hold.
    pub(crate) fn take_new(&self) -> Vec<NewShape> {
        std::mem::take(&mut self.new.lock())
    }

    /// The batch failed.
    pub(crate) fn put_back(&self, mut shapes: Vec<NewShape>) {
        self.new.lock().append(&mut shapes);
    }

    /// Adds a shape from the disk.
    pub(crate) fn load(&self, number: u32, bytes: &[u8]) -> Result<(), Damage> {
        if number as usize >= MOST_SHAPES {
            return Err(Damage::Malformed("a shape's number is out of bounds"));
        }
        let keys = decode(bytes)?;
        self.known.write().add(number, keys);
        Ok(())
    }

    /// Every shape in its stored form, in order of the numbers.
    pub(crate) fn entries(&self) -> Vec<(u32, Vec<u8>)> {
        let known = self.known.read();
        let numbered = known.by_number.iter().zip(0..);
        numbered.filter_map(|(keys, number)| Some((number, encode(keys.as_ref()?)))).collect()
    }
}

impl Known {
    /// The keys of a shape.
    pub(crate) fn keys(&self, number: u64) -> Result<&Arc<[Key]>, Damage> {
        let shape = usize::try_from(number).ok().and_then(|number| self.by_number.get(number)?.as_ref());
        shape.ok_or(Damage::Malformed("a shape is missing"))
    }

    /// How many keys a shape has.
    #[inline]
    pub(crate) fn key_count(&self, number: u64) -> Option<usize> {
        let keys = self.by_number.get(usize::try_from(number).ok()?)?.as_ref()?;
        Some(keys.len())
    }

    fn find<'k>(&self, keys: impl ExactSizeIterator<Item = &'k Key> + Clone) -> Option<u32> {
        let hash = self.hash(keys.clone());
        let same = |number: &u32| {
            let known = self.by_number[*number as usize].as_deref().unwrap_or_default();
            known.len() == keys.len() && known.iter().zip(keys.clone()).all(|(a, b)| a == b)
        };
        self.by_keys.find(hash, same).copied()
    }

    fn add(&mut self, number: u32, keys: Arc<[Key]>) {
        let place = number as usize;
        if self.by_number.len() <= place {
            self.by_number.resize(place + 1, None);
        }
        self.bytes += keys.iter().map(|key| key.len()).sum::<usize>();
        let hash = self.hash(keys.iter());
        self.by_number[place] = Some(keys);
        let Known { by_number, by_keys, hasher, .. } = self;
        by_keys.insert_unique(hash, number, |number| {
            hash_keys(hasher, by_number[*number as usize].as_deref().unwrap_or_default().iter())
        });
    }

    fn hash<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> u64 {
        hash_keys(&self.hasher, keys)
    }
}

fn hash_keys<'k>(hasher: &RandomState, keys: impl Iterator<Item = &'k Key>) -> u64 {
    let mut state = hasher.build_hasher();
    for key in keys {
        key.hash(&mut state);
    }
    state.finish()
}

fn encode(keys: &[Key]) -> Vec<u8> {
    let mut list = Vec::new();
    varint::write(keys.len() as u64, &mut list);
    for key in keys {
        varint::write_text(key, &mut list);
    }
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&crc32fast::hash(&list).to_le_bytes());
    bytes.append(&mut list);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Arc<[Key]>, Damage> {
    let mut reader = Reader(bytes);
    let format = reader.byte()?;
    if format != FORMAT {
        return Err(Damage::Format(format));
    }
    let sum = reader.bytes(4)?;
    if sum != crc32fast::hash(reader.0).to_le_bytes() {
        return Err(Damage::Checksum);
    }
    let count = reader.length()?;
    let keys = (0..count).map(|_| reader.text().map(Key::from)).collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<Key> {
        names.iter().map(|name| Key::from(*name)).collect()
    }

    #[test]
    fn the_same_keys_in_the_same_order_are_one_shape() {
        let shapes = Shapes::default();
        let [ab, ba] = [keys(&["a", "b"]), keys(&["b", "a"])];
        let first = shapes.intern(ab.iter()).unwrap();
        assert_eq!(shapes.intern(ab.iter()), Some(first));
        assert_ne!(shapes.intern(ba.iter()), Some(first));
        assert_eq!(shapes.take_new().len(), 2);
        assert_eq!(shapes.take_new().len(), 0);
    }

    #[test]
    fn shapes_survive_their_stored_form() {
        let shapes = Shapes::default();
        let number = shapes.intern(keys(&["a", "", "é"]).iter()).unwrap();
        let again = Shapes::default();
        for (number, bytes) in shapes.entries() {
            again.load(number, &bytes).unwrap();
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 1;
                assert!(Shapes::default().load(number, &bad).is_err(), "byte {at}");
            }
        }
        assert_eq!(again.intern(keys(&["a", "", "é"]).iter()), Some(number));
        assert!(again.take_new().is_empty());
    }

    #[test]
    fn the_number_of_shapes_is_bounded() {
        let shapes = Shapes::default();
        assert_eq!(shapes.intern(keys(&["x"; MOST_KEYS + 1]).iter()), None);
        for n in 0..MOST_SHAPES {
            assert!(shapes.intern(keys(&[&n.to_string()]).iter()).is_some());
        }
        assert_eq!(shapes.intern(keys(&["one more"]).iter()), None);
        assert!(shapes.intern(keys(&["0"]).iter()).is_some());
    }
}
