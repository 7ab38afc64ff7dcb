//! Arrays of constants, as `IN` searches them and functions take them.
//!
//! Must not know: which operator asks.
//!
//! Invariant: `texts` holds every string of `items`, sorted, each once.

use super::eval::Datum;
use super::expr::Literal;
use super::num::Num;
use crate::json::Value;

/// An array of constants.
#[derive(Clone, Debug)]
pub struct List {
    items: Box<[Literal]>,
    /// The strings, sorted: a long list of ids is searched for every row.
    texts: Box<[Box<str>]>,
    numbers: Box<[Num]>,
    values: Box<[Value]>,
    only: Kind,
}

impl List {
    /// From its constants.
    pub fn new(items: Vec<Literal>) -> List {
        let mut texts: Vec<Box<str>> = Vec::new();
        let mut numbers = Vec::new();
        for item in &items {
            match item {
                Literal::Text(text) => texts.push(text.clone()),
                Literal::Number(num) => numbers.push(*num),
                _ => {}
            }
        }
        texts.sort_unstable();
        texts.dedup();
        numbers.sort_unstable();
        numbers.dedup();
        let values = items.iter().filter_map(Literal::to_value).collect();
        let only = only(&items);
        List { items: items.into(), texts: texts.into(), numbers: numbers.into(), values, only }
    }

    /// The constants as they were written.
    pub fn items(&self) -> &[Literal] {
        &self.items
    }

    /// The constants as JSON, without `undefined`.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// `datum IN list`: whether it equals any, undefined if it equals none and cannot be compared with some
    /// (query §5).
    pub fn contains(&self, datum: &Datum<'_>) -> Option<bool> {
        let (found, comparable) = match datum {
            Datum::Undefined => return None,
            Datum::Text(text) => {
                (self.texts.binary_search_by(|item| (**item).cmp(text)).is_ok(), self.only == Kind::Text)
            }
            Datum::Number(num) => (self.numbers.binary_search(num).is_ok(), self.only == Kind::Number),
            Datum::Bool(value) => (self.items.contains(&Literal::Bool(*value)), self.only == Kind::Bool),
            Datum::Null => (self.items.contains(&Literal::Null), self.only == Kind::Null),
            Datum::Array(_) | Datum::Object => (false, false),
        };
        match found {
            true => Some(true),
            false => (comparable || self.items.is_empty()).then_some(false),
        }
    }
}

/// The one kind that all constants of a list have.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Text,
    Number,
    Bool,
    Null,
    /// Several, or `undefined` among them.
    Mixed,
}

fn only(items: &[Literal]) -> Kind {
    let kind = |item: &Literal| match item {
        Literal::Text(_) => Kind::Text,
        Literal::Number(_) => Kind::Number,
        Literal::Bool(_) => Kind::Bool,
        Literal::Null => Kind::Null,
        Literal::Undefined => Kind::Mixed,
    };
    let first = items.first().map_or(Kind::Mixed, kind);
    if items.iter().all(|item| kind(item) == first) {
        first
    } else {
        Kind::Mixed
    }
}

impl PartialEq for List {
    fn eq(&self, other: &List) -> bool {
        self.items == other.items
    }
}

impl FromIterator<Literal> for List {
    fn from_iter<I: IntoIterator<Item = Literal>>(items: I) -> List {
        List::new(items.into_iter().collect())
    }
}
