//! A bounded memory of the latest per key.
//!
//! Invariant: it holds at most its capacity; the key that was first noted goes first.

use hashbrown::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;

/// The latest value of each of the last `capacity` keys.
pub(crate) struct Recent<K, V> {
    capacity: usize,
    order: VecDeque<K>,
    values: HashMap<K, V>,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    pub(crate) fn new(capacity: usize) -> Recent<K, V> {
        Recent { capacity, order: VecDeque::new(), values: HashMap::new() }
    }

    pub(crate) fn note(&mut self, key: K, value: V) {
        if self.values.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.capacity {
            if let Some(oldest) = self.order.pop_front() {
                self.values.remove(&oldest);
            }
        }
    }

    pub(crate) fn get<Q: Hash + hashbrown::Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<&V> {
        self.values.get(key)
    }

    pub(crate) fn get_mut<Q: Hash + hashbrown::Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<&mut V> {
        self.values.get_mut(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest_key() {
        let mut recent = Recent::new(2);
        recent.note("a", 1);
        recent.note("b", 2);
        recent.note("a", 3);
        assert_eq!(recent.get("a"), Some(&3));
        recent.note("c", 4);
        assert_eq!((recent.get("a"), recent.get("b"), recent.get("c")), (None, Some(&2), Some(&4)));
    }
}
