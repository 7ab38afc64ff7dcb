//! An ordered set of names, each with the slot of its record, that costs a few bytes per name.
//!
//! Listing pages need the ids in order; the hash tables of the model have none. A tree of strings
//! would cost about 60 bytes per id. Ids of a fleet share long prefixes, so the set is a row of
//! pages, each holding up to [`PAGE_NAMES`] names front-coded:
//!
//! ```text
//! BTreeMap< first name of the page  ->  page >
//!
//! page:  00 06 "dev-01" slot   05 01 "2" slot   05 01 "3" slot   04 02 "20" slot ...
//!        |  |   |
//!        |  |   the rest of the name
//!        |  bytes of the rest
//!        bytes shared with the name before
//! ```
//!
//! The slot lets a page of a query be found without a look at each record on the way.
//!
//! Must not know: what a name means; records, disks, threads.
//!
//! Invariant: names are unique, ascending by bytes, at most 255 bytes shared and 65535 bytes of rest.
//! Invariant: a page is never empty and starts with its key in the tree.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Names in a page before it is split in two.
const PAGE_NAMES: usize = 64;

/// A name and the slot of its record.
type Placed = (String, u32);

/// Names taken in order, to be looked at one after the other.
#[derive(Default)]
pub(crate) struct Stretch {
    text: Vec<u8>,
    /// Where each name ends, and its slot.
    ends: Vec<(usize, u32)>,
}

impl Stretch {
    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A name's bytes and its slot.
    pub(crate) fn get(&self, place: usize) -> (&[u8], u32) {
        let (end, slot) = self.ends[place];
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before].0);
        (&self.text[start..end], slot)
    }

    /// A name.
    pub(crate) fn name(&self, place: usize) -> &str {
        text(self.get(place).0)
    }

    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    fn push(&mut self, name: &[u8], slot: u32) {
        self.text.extend_from_slice(name);
        self.ends.push((self.text.len(), slot));
    }
}

/// See the module documentation.
#[derive(Default)]
pub(crate) struct Names {
    pages: BTreeMap<Box<str>, Page>,
    len: usize,
}

struct Page {
    names: usize,
    bytes: Box<[u8]>,
}

impl Names {
    /// Number of names.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a name, or notes its new slot; `false` if it was there.
    pub(crate) fn insert(&mut self, name: &str, slot: u32) -> bool {
        let Some(key) = self.page_key(name) else {
            self.pages.insert(name.into(), Page::of(&[(name.to_owned(), slot)]));
            self.len += 1;
            return true;
        };
        let mut names = self.pages[&key].decode();
        let at = match names.binary_search_by(|(have, _)| have.as_str().cmp(name)) {
            Ok(at) => {
                names[at].1 = slot;
                self.replace(&key, &names);
                return false;
            }
            Err(at) => at,
        };
        names.insert(at, (name.to_owned(), slot));
        self.len += 1;
        self.replace(&key, &names);
        true
    }

    /// Removes a name; `false` if it was not there.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let Some(key) = self.page_key(name) else { return false };
        let mut names = self.pages[&key].decode();
        let Ok(at) = names.binary_search_by(|(have, _)| have.as_str().cmp(name)) else { return false };
        names.remove(at);
        self.len -= 1;
        self.replace(&key, &names);
        true
    }

    /// Up to `limit` names above `after`, in order.
    pub(crate) fn above(&self, after: Option<&str>, limit: usize) -> Vec<String> {
        let mut found = Vec::with_capacity(limit.min(1024));
        self.visit(after, limit, |name, _| found.push(text(name).to_owned()));
        found
    }

    /// The same with their slots, in place of what `stretch` held.
    pub(crate) fn stretch_above(&self, after: Option<&str>, limit: usize, stretch: &mut Stretch) {
        stretch.clear();
        self.visit(after, limit, |name, slot| stretch.push(name, slot));
    }

    fn visit(&self, after: Option<&str>, limit: usize, mut take: impl FnMut(&[u8], u32)) {
        let mut left = limit;
        let start = after.and_then(|after| self.page_key(after));
        let from: Bound<&str> = start.as_deref().map_or(Bound::Unbounded, Bound::Included);
        for page in self.pages.range::<str, _>((from, Bound::Unbounded)).map(|(_, page)| page) {
            let mut reader = page.read();
            while let Some((name, slot)) = reader.next() {
                if left == 0 {
                    return;
                }
                if after.is_none_or(|after| name > after.as_bytes()) {
                    take(name, slot);
                    left -= 1;
                }
            }
        }
    }

    /// The names that start with `prefix`, in order.
    pub(crate) fn with_prefix(&self, prefix: &str) -> Vec<String> {
        let start = self.page_key(prefix);
        let from: Bound<&str> = start.as_deref().map_or(Bound::Unbounded, Bound::Included);
        let mut found = Vec::new();
        for page in self.pages.range::<str, _>((from, Bound::Unbounded)).map(|(_, page)| page) {
            let mut reader = page.read();
            while let Some((name, _)) = reader.next() {
                if name.starts_with(prefix.as_bytes()) {
                    found.push(text(name).to_owned());
                } else if name > prefix.as_bytes() {
                    return found;
                }
            }
        }
        found
    }

    /// Key of the page that holds `name`, or would.
    fn page_key(&self, name: &str) -> Option<Box<str>> {
        let upto = (Bound::Unbounded, Bound::Included(name));
        let below = self.pages.range::<str, _>(upto).next_back();
        below.or_else(|| self.pages.first_key_value()).map(|(key, _)| key.clone())
    }

    fn replace(&mut self, key: &str, names: &[Placed]) {
        self.pages.remove(key);
        self.add_pages(names);
    }

    fn add_pages(&mut self, names: &[Placed]) {
        let halves =
            if names.len() > PAGE_NAMES { names.split_at(names.len() / 2) } else { (names, &[][..]) };
        for half in [halves.0, halves.1] {
            if let Some((first, _)) = half.first() {
                self.pages.insert(first.as_str().into(), Page::of(half));
            }
        }
    }
}

/// Fills a set from an ordered source, such as a store being opened, page by page.
#[derive(Default)]
pub(crate) struct Builder {
    names: Names,
    page: Vec<Placed>,
}

impl Builder {
    /// Adds a name, which is usually above all others.
    pub(crate) fn push(&mut self, name: &str, slot: u32) {
        if self.page.last().is_some_and(|(last, _)| last.as_str() >= name) {
            self.finish_page();
            self.names.insert(name, slot);
            return;
        }
        self.page.push((name.to_owned(), slot));
        if self.page.len() == PAGE_NAMES {
            self.finish_page();
        }
    }

    /// The set.
    pub(crate) fn build(mut self) -> Names {
        self.finish_page();
        self.names
    }

    fn finish_page(&mut self) {
        let page = std::mem::take(&mut self.page);
        let above_all = self.names.pages.last_key_value().is_none_or(|(_, last)| {
            let last = last.decode().pop();
            last.as_ref().map(|(name, _)| name) < page.first().map(|(name, _)| name)
        });
        if above_all {
            self.names.len += page.len();
            self.names.add_pages(&page);
        } else {
            for (name, slot) in &page {
                self.names.insert(name, *slot);
            }
        }
    }
}

impl Page {
    fn of(names: &[Placed]) -> Page {
        let mut bytes = Vec::new();
        let mut before: &[u8] = &[];
        for (name, slot) in names {
            let name = name.as_bytes();
            let same = before.iter().zip(name).take(255).take_while(|(a, b)| a == b).count();
            let rest = &name[same..];
            let length = u16::try_from(rest.len()).expect("ids are at most 257 bytes");
            bytes.push(u8::try_from(same).expect("taken at most 255 times"));
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(rest);
            bytes.extend_from_slice(&slot.to_le_bytes());
            before = name;
        }
        Page { names: names.len(), bytes: bytes.into() }
    }

    fn decode(&self) -> Vec<Placed> {
        let mut names = Vec::with_capacity(self.names + 1);
        let mut reader = self.read();
        while let Some((name, slot)) = reader.next() {
            names.push((text(name).to_owned(), slot));
        }
        names
    }

    fn read(&self) -> Reader<'_> {
        Reader { rest: &self.bytes, name: Vec::with_capacity(64) }
    }
}

/// Goes through the names of a page.
struct Reader<'a> {
    rest: &'a [u8],
    name: Vec<u8>,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<(&[u8], u32)> {
        let (head, tail) = self.rest.split_first_chunk::<3>()?;
        let (suffix, tail) = tail.split_at_checked(usize::from(u16::from_le_bytes([head[1], head[2]])))?;
        let (slot, tail) = tail.split_first_chunk::<4>()?;
        self.name.truncate(usize::from(head[0]));
        self.name.extend_from_slice(suffix);
        self.rest = tail;
        Some((&self.name, u32::from_le_bytes(*slot)))
    }
}

fn text(name: &[u8]) -> &str {
    std::str::from_utf8(name).expect("a page holds whole UTF-8 names")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_page_full_of_names_splits_and_stays_in_order() {
        let mut names = Names::default();
        for n in (0..1000).rev() {
            assert!(names.insert(&format!("dev-{n:04}"), n));
        }
        assert!(!names.insert("dev-0500", 7));
        let mut stretch = Stretch::default();
        names.stretch_above(Some("dev-0498"), 3, &mut stretch);
        let stretch: Vec<_> =
            (0..stretch.len()).map(|place| (stretch.name(place), stretch.get(place).1)).collect();
        assert_eq!(stretch, [("dev-0499", 499), ("dev-0500", 7), ("dev-0501", 501)]);
        assert_eq!(names.len(), 1000);
        let all = names.above(None, usize::MAX);
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(names.above(Some("dev-0127"), 2), ["dev-0128", "dev-0129"]);
        assert_eq!(names.above(Some("dev-0127x"), 1), ["dev-0128"]);
        assert_eq!(names.above(Some("zzz"), 1), [""; 0]);
        assert_eq!(names.with_prefix("dev-099"), (0..10).map(|n| format!("dev-099{n}")).collect::<Vec<_>>());
    }

    #[test]
    fn building_takes_any_order() {
        let mut builder = Builder::default();
        for name in ["b", "c", "a", "b", "d"] {
            builder.push(name, 0);
        }
        assert_eq!(builder.build().above(None, 9), ["a", "b", "c", "d"]);
    }

    proptest! {
        #[test]
        fn behaves_like_an_ordered_set(steps in prop::collection::vec((any::<bool>(), "[ab/]{1,4}"), 0..600)) {
            let (mut names, mut model) = (Names::default(), BTreeSet::new());
            for (add, name) in steps {
                if add {
                    prop_assert_eq!(names.insert(&name, 0), model.insert(name.clone()));
                } else {
                    prop_assert_eq!(names.remove(&name), model.remove(&name));
                }
                prop_assert_eq!(names.len(), model.len());
                let above: Vec<_> = model.range::<str, _>((Bound::Excluded(name.as_str()), Bound::Unbounded)).take(3).cloned().collect();
                prop_assert_eq!(names.above(Some(&name), 3), above);
                let prefixed: Vec<_> = model.iter().filter(|have| have.starts_with(&name)).cloned().collect();
                prop_assert_eq!(names.with_prefix(&name), prefixed);
            }
            prop_assert_eq!(names.above(None, usize::MAX), model.into_iter().collect::<Vec<_>>());
        }
    }
}
