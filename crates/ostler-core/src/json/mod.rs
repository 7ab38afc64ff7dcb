//! JSON that comes back as it came in.
//!
//! Numbers keep their text (`1.0` stays `1.0`, 64-bit integers stay exact), objects keep the order of
//! their keys, and the printed form is compact. A value that the hub only hands on, such as a
//! method's payload, is checked and kept as text ([`Raw`]) instead of being built.
//!
//! Must not know: what the values mean.
//!
//! Invariant: parsing is bounded by the input's length and a depth; it never recurses deeper than
//! [`crate::limits::JSON_DEPTH`].
//!
//! Invariant: `parse(print(v)) == v`, and printing a parsed compact text gives that text again, save
//! for string escapes and repeated keys.

mod parse;
mod write;

pub use parse::{Error, ErrorKind};
pub use write::{write_string, ObjectWriter};

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A member's name. Shared, because a fleet's twins have the same few names.
pub type Key = Arc<str>;

/// Any JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, with its text.
    Number(Number),
    /// A string.
    String(Box<str>),
    /// An array.
    Array(Vec<Value>),
    /// An object.
    Object(Object),
}

impl Value {
    /// Reads one JSON document.
    ///
    /// # Errors
    /// [`Error`] says what is wrong and at which byte.
    pub fn parse(text: &[u8]) -> Result<Value, Error> {
        parse::document(text)
    }

    /// Appends the compact text.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        write::value(self, out);
    }

    /// The object, when this is one.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The string, when this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The boolean, when this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, when this is one in the range of 64 bits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The kind's name, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        self.write_to(&mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// An object whose members keep their order; a repeated key keeps its first place and its last value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    members: Vec<(Key, Value)>,
}

impl Object {
    /// No members.
    pub fn new() -> Object {
        Object::default()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A member's value.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.members.iter().find(|(name, _)| &**name == key).map(|(_, value)| value)
    }

    /// Sets a member: in place when it exists, else at the end.
    pub fn insert(&mut self, key: Key, value: Value) {
        match self.members.iter_mut().find(|(name, _)| *name == key) {
            Some(member) => member.1 = value,
            None => self.members.push((key, value)),
        }
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.members.iter().map(|(key, value)| (key, value))
    }

    /// Reads one JSON document that must be an object.
    ///
    /// # Errors
    /// [`Error`] says what is wrong and at which byte; another kind of value is an error too.
    pub fn parse(text: &[u8]) -> Result<Object, Error> {
        match Value::parse(text)? {
            Value::Object(object) => Ok(object),
            other => Err(Error { offset: 0, kind: ErrorKind::NotAnObject(other.kind()) }),
        }
    }

    /// Appends the compact text.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        write::object(self, out);
    }

    fn from_parsed(members: Vec<(Key, Value)>) -> Object {
        Object { members: dedup(members) }
    }
}

impl IntoIterator for Object {
    type Item = (Key, Value);
    type IntoIter = std::vec::IntoIter<(Key, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.members.into_iter()
    }
}

impl FromIterator<(Key, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (Key, Value)>>(members: I) -> Object {
        Object::from_parsed(members.into_iter().collect())
    }
}

/// The last value of a repeated key wins, at the key's first place. Linear for small objects, hashed
/// for large ones, so that a hostile document cannot make it quadratic.
fn dedup<K: AsRef<str> + Clone + std::hash::Hash + Eq, V>(members: Vec<(K, V)>) -> Vec<(K, V)> {
    const SMALL: usize = 12;
    let repeated = if members.len() <= SMALL {
        members.iter().enumerate().any(|(i, (key, _))| members[..i].iter().any(|(other, _)| other == key))
    } else {
        let mut seen = std::collections::HashSet::with_capacity(members.len());
        members.iter().any(|(key, _)| !seen.insert(key.as_ref()))
    };
    if !repeated {
        return members;
    }
    let mut places: std::collections::HashMap<K, usize> = std::collections::HashMap::new();
    let mut kept: Vec<(K, V)> = Vec::with_capacity(members.len());
    for (key, value) in members {
        match places.get(&key) {
            Some(place) => kept[*place].1 = value,
            None => {
                places.insert(key.clone(), kept.len());
                kept.push((key, value));
            }
        }
    }
    kept
}

/// A JSON number with the text it was written in.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Number(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    /// An integer whose shortest decimal form is the text.
    Integer(i64),
    /// Everything else, as written.
    Text(Box<str>),
}

impl Number {
    /// Reads a number of the JSON grammar.
    pub fn parse(text: &str) -> Option<Number> {
        (parse::number_len(text.as_bytes()) == Some(text.len())).then(|| Number::from_checked(text))
    }

    /// `text` obeys the JSON grammar.
    fn from_checked(text: &str) -> Number {
        match text.parse::<i64>() {
            Ok(value) if text != "-0" => Number(Repr::Integer(value)),
            _ => Number(Repr::Text(text.into())),
        }
    }

    /// The integer, when the number is written as one and fits 64 bits.
    pub fn as_i64(&self) -> Option<i64> {
        match &self.0 {
            Repr::Integer(value) => Some(*value),
            Repr::Text(text) => (&**text == "-0").then_some(0),
        }
    }

    /// The nearest double.
    pub fn as_f64(&self) -> f64 {
        match &self.0 {
            #[allow(clippy::cast_precision_loss)] // "nearest" is the promise
            Repr::Integer(value) => *value as f64,
            Repr::Text(text) => text.parse().unwrap_or(f64::NAN),
        }
    }

    /// Whether the number is written without fraction and exponent.
    pub fn is_integer(&self) -> bool {
        match &self.0 {
            Repr::Integer(_) => true,
            Repr::Text(text) => !text.contains(['.', 'e', 'E']),
        }
    }

    /// The text as it was written.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Repr::Integer(value) => Cow::Owned(value.to_string()),
            Repr::Text(text) => Cow::Borrowed(text),
        }
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Number {
        Number(Repr::Integer(value))
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// The text of one JSON value, checked but not built.
///
/// Invariant: the text is one valid JSON value without space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(&'a [u8]);

impl<'a> Raw<'a> {
    /// `null`.
    pub const NULL: Raw<'static> = Raw(b"null");

    /// Checks that the text is one JSON value, with or without space around it.
    ///
    /// # Errors
    /// [`Error`] says what is wrong and at which byte.
    pub fn parse(text: &'a [u8]) -> Result<Raw<'a>, Error> {
        parse::raw_document(text).map(Raw)
    }

    /// The text.
    pub fn text(self) -> &'a [u8] {
        self.0
    }

    /// Whether this is `null`.
    pub fn is_null(self) -> bool {
        self.0 == b"null"
    }

    /// Builds the value.
    ///
    /// # Errors
    /// None in practice, since the text is checked; the type keeps callers honest.
    pub fn value(self) -> Result<Value, Error> {
        Value::parse(self.0)
    }

    /// The string, when this is one.
    pub fn as_string(self) -> Option<Cow<'a, str>> {
        (self.0.first() == Some(&b'"')).then(|| parse::string_document(self.0)).flatten()
    }

    /// The integer, when this is one in the range of 64 bits.
    pub fn as_i64(self) -> Option<i64> {
        std::str::from_utf8(self.0).ok().and_then(Number::parse).and_then(|number| number.as_i64())
    }

    /// The members of an object, in order, each still as text; `None` for other values.
    ///
    /// A repeated key keeps its first place and its last value.
    pub fn members(self) -> Option<Vec<(Cow<'a, str>, Raw<'a>)>> {
        (self.0.first() == Some(&b'{')).then(|| dedup(parse::raw_members(self.0)))
    }

    /// The elements of an array, each still as text; `None` for other values.
    pub fn elements(self) -> Option<Vec<Raw<'a>>> {
        (self.0.first() == Some(&b'[')).then(|| parse::raw_elements(self.0))
    }
}

#[cfg(test)]
mod tests;
