//! The rules for what may stand in a twin (device §5.1, service §8.4).

use super::{Member, Node, SectionKind};
use crate::json::{Number, Object, Value};
use crate::limits::{
    DESIRED_BYTES, REPORTED_BYTES, TAGS_BYTES, TWIN_DEPTH, TWIN_INTEGER, TWIN_KEY_BYTES, TWIN_STRING_BYTES,
};

/// Characters of a number's text: no double needs more, and a number counts as 8 bytes whatever its text.
const NUMBER_TEXT_CHARS: usize = 64;

/// Why a twin change is refused. The text names the property by its path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TwinError {
    /// A key breaks a rule.
    #[error("the name {path:?} {rule}")]
    Key {
        /// Path of the property.
        path: String,
        /// The rule, as the end of a sentence.
        rule: &'static str,
    },
    /// A value breaks a rule.
    #[error("the value of {path:?} {rule}")]
    Value {
        /// Path of the property.
        path: String,
        /// The rule, as the end of a sentence.
        rule: &'static str,
    },
    /// A section would be larger than allowed.
    #[error("{} would have {size} bytes, the limit is {limit}", kind.name())]
    Size {
        /// Which section.
        kind: SectionKind,
        /// Its counted size after the change.
        size: usize,
        /// The most allowed.
        limit: usize,
    },
}

/// The class of a refusal, for error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// A name or value is not allowed.
    Content,
    /// A section is too large.
    Size,
}

impl TwinError {
    /// The class of this refusal.
    pub fn kind(&self) -> LimitKind {
        match self {
            TwinError::Size { .. } => LimitKind::Size,
            _ => LimitKind::Content,
        }
    }
}

/// What `null` means where a check meets it.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Nulls {
    /// It removes a member.
    Remove,
    /// It is refused: inside an array there is nothing to remove.
    Refuse,
}

/// `$version` and `$metadata` at a section's top: clients send back what they read.
pub(super) fn is_service_key(key: &str) -> bool {
    key == "$version" || key == "$metadata"
}

/// Checks a patch without its service keys.
pub(super) fn patch(patch: &Object, nulls: Nulls) -> Result<(), TwinError> {
    let mut path = Path::default();
    for (key, value) in patch.iter().filter(|(key, _)| !is_service_key(key)) {
        path.within(key, |path| member(key, value, path, nulls))?;
    }
    Ok(())
}

fn member<'a>(name: &'a str, value: &'a Value, path: &mut Path<'a>, nulls: Nulls) -> Result<(), TwinError> {
    key(name, path)?;
    check_value(value, path, nulls)
}

fn key(key: &str, path: &Path<'_>) -> Result<(), TwinError> {
    let refuse = |rule| Err(TwinError::Key { path: path.text(), rule });
    if key.len() > TWIN_KEY_BYTES {
        return refuse("is longer than 1024 bytes");
    }
    match key.chars().find(|c| matches!(c, '.' | '$' | ' ') || c.is_control()) {
        Some('.') => refuse("contains '.', which is not allowed"),
        Some('$') => refuse("contains '$', which is not allowed"),
        Some(' ') => refuse("contains a space, which is not allowed"),
        Some(_) => refuse("contains a control character, which is not allowed"),
        None => Ok(()),
    }
}

fn check_value<'a>(value: &'a Value, path: &mut Path<'a>, nulls: Nulls) -> Result<(), TwinError> {
    match value {
        Value::Null if nulls == Nulls::Refuse => path.refuse("is null inside an array, which is not allowed"),
        Value::Null | Value::Bool(_) => Ok(()),
        Value::String(text) if text.len() > TWIN_STRING_BYTES => {
            path.refuse("is a string longer than 4096 bytes")
        }
        Value::String(_) => Ok(()),
        Value::Number(value) => number(value, path),
        // An array is a level too, so that nesting is bounded whatever it is made of.
        Value::Array(elements) => path
            .deeper(|path| elements.iter().try_for_each(|element| check_value(element, path, Nulls::Refuse))),
        Value::Object(object) => path.deeper(|path| {
            object
                .iter()
                .try_for_each(|(key, value)| path.within(key, |path| member(key, value, path, nulls)))
        }),
    }
}

fn number(number: &Number, path: &Path<'_>) -> Result<(), TwinError> {
    if number.is_integer() {
        return match number.as_i64() {
            Some(value) if (-TWIN_INTEGER..TWIN_INTEGER).contains(&value) => Ok(()),
            _ => path.refuse("is an integer outside -4503599627370496 to 4503599627370495"),
        };
    }
    if number.text().len() > NUMBER_TEXT_CHARS || !number.as_f64().is_finite() {
        return path.refuse("is a number that a double cannot hold");
    }
    Ok(())
}

/// Where a check stands, for its message.
#[derive(Default)]
struct Path<'a> {
    names: Vec<&'a str>,
    depth: usize,
}

impl<'a> Path<'a> {
    fn within<T>(&mut self, name: &'a str, check: impl FnOnce(&mut Path<'a>) -> T) -> T {
        self.names.push(name);
        let result = check(self);
        self.names.pop();
        result
    }

    fn deeper(
        &mut self,
        check: impl FnOnce(&mut Path<'a>) -> Result<(), TwinError>,
    ) -> Result<(), TwinError> {
        if self.depth >= TWIN_DEPTH {
            return self.refuse("is nested deeper than 10 levels");
        }
        self.depth += 1;
        let result = check(self);
        self.depth -= 1;
        result
    }

    /// Names may be hostile and long; a message needs only their beginning.
    fn text(&self) -> String {
        let shown = self.names.iter().map(|name| name.chars().take(64).collect::<String>());
        shown.collect::<Vec<_>>().join(".")
    }

    fn refuse(&self, rule: &'static str) -> Result<(), TwinError> {
        Err(TwinError::Value { path: self.text(), rule })
    }
}

pub(super) fn size(kind: SectionKind, members: &[Member]) -> Result<(), TwinError> {
    let limit = match kind {
        SectionKind::Tags => TAGS_BYTES,
        SectionKind::Desired => DESIRED_BYTES,
        SectionKind::Reported => REPORTED_BYTES,
    };
    let size = members_size(members);
    if size > limit {
        return Err(TwinError::Size { kind, size, limit });
    }
    Ok(())
}

pub(super) fn members_size(members: &[Member]) -> usize {
    members.iter().map(|member| text_size(&member.key) + node_size(&member.node)).sum()
}

fn node_size(node: &Node) -> usize {
    match node {
        Node::Bool(_) => 4,
        Node::Number(_) => 8,
        Node::String(text) => text_size(text),
        Node::Array(elements) => elements.iter().map(value_size).sum(),
        Node::Object(members) => members_size(members),
    }
}

fn value_size(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text_size(text),
        Value::Array(elements) => elements.iter().map(value_size).sum(),
        Value::Object(object) => object.iter().map(|(key, value)| text_size(key) + value_size(value)).sum(),
    }
}

/// UTF-8 bytes without those of control characters (C0, DEL and C1).
fn text_size(text: &str) -> usize {
    if text.is_ascii() {
        return text.bytes().filter(|b| !b.is_ascii_control()).count();
    }
    text.chars().filter(|c| !c.is_control()).map(char::len_utf8).sum()
}
