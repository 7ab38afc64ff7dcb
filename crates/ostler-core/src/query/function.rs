//! The functions (query §6, §7): their names, what they take, what they give.
//!
//! An argument that is undefined or of the wrong kind makes the result undefined; only the `IS_*` functions answer
//! for everything.
//!
//! Must not know: rows.
//!
//! Invariant: a text that a function makes has at most [`TEXT_BYTES`] bytes; a longer one is undefined.

use super::eval::{compare, Datum};
use super::expr::Comparison;
use super::num::Num;
use super::Dialect;
use std::borrow::Cow;

/// Bytes of a text that a function makes of others.
pub const TEXT_BYTES: usize = 64 * 1024;

/// Calls in one query of functions that make a text: each may cost a row as much as reading [`TEXT_BYTES`].
pub const TEXT_CALLS: usize = 64;

/// A function of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are those of the language
pub enum Function {
    IsDefined,
    IsNull,
    IsBool,
    IsNumber,
    IsString,
    IsObject,
    IsArray,
    IsPrimitive,
    StartsWith,
    EndsWith,
    Contains,
    ArrayContains,
    Lower,
    Upper,
    Length,
    Concat,
    Substring,
    IndexOf,
    AsNumber,
    Abs,
    Exp,
    Power,
    Square,
    Ceiling,
    Floor,
    Sign,
    Sqrt,
}

struct Entry {
    function: Function,
    name: &'static str,
    arguments: std::ops::RangeInclusive<usize>,
    /// Whether twin queries of the service have it (query §6).
    service: bool,
}

const fn entry(function: Function, name: &'static str, least: usize, most: usize, service: bool) -> Entry {
    Entry { function, name, arguments: least..=most, service }
}

const TABLE: [Entry; 27] = [
    entry(Function::IsDefined, "IS_DEFINED", 1, 1, true),
    entry(Function::IsNull, "IS_NULL", 1, 1, true),
    entry(Function::IsBool, "IS_BOOL", 1, 1, true),
    entry(Function::IsNumber, "IS_NUMBER", 1, 1, true),
    entry(Function::IsString, "IS_STRING", 1, 1, true),
    entry(Function::IsObject, "IS_OBJECT", 1, 1, true),
    entry(Function::IsArray, "IS_ARRAY", 1, 1, true),
    entry(Function::IsPrimitive, "IS_PRIMITIVE", 1, 1, true),
    entry(Function::StartsWith, "STARTSWITH", 2, 2, true),
    entry(Function::EndsWith, "ENDSWITH", 2, 2, true),
    entry(Function::Contains, "CONTAINS", 2, 2, false),
    entry(Function::ArrayContains, "ARRAY_CONTAINS", 2, 2, true),
    entry(Function::Lower, "LOWER", 1, 1, false),
    entry(Function::Upper, "UPPER", 1, 1, false),
    entry(Function::Length, "LENGTH", 1, 1, false),
    entry(Function::Concat, "CONCAT", 1, usize::MAX, false),
    entry(Function::Substring, "SUBSTRING", 2, 3, false),
    entry(Function::IndexOf, "INDEX_OF", 2, 2, false),
    entry(Function::AsNumber, "AS_NUMBER", 1, 1, false),
    entry(Function::Abs, "ABS", 1, 1, false),
    entry(Function::Exp, "EXP", 1, 1, false),
    entry(Function::Power, "POWER", 2, 2, false),
    entry(Function::Square, "SQUARE", 1, 1, false),
    entry(Function::Ceiling, "CEILING", 1, 1, false),
    entry(Function::Floor, "FLOOR", 1, 1, false),
    entry(Function::Sign, "SIGN", 1, 1, false),
    entry(Function::Sqrt, "SQRT", 1, 1, false),
];

/// What a name followed by a parenthesis is.
pub(super) enum Found {
    Function(Function),
    /// There is such a function, but not in strict mode under this name.
    Extension(Function),
    Unknown,
}

impl Function {
    /// Every function.
    pub fn all() -> impl Iterator<Item = Function> {
        TABLE.iter().map(|entry| entry.function)
    }

    fn entry(self) -> &'static Entry {
        // The table is in the order of the enum; a test holds it to that.
        &TABLE[self as usize]
    }

    /// The name as queries print it.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// How many arguments it takes.
    pub fn arguments(self) -> std::ops::RangeInclusive<usize> {
        self.entry().arguments.clone()
    }

    /// Whether the reference service has it in twin queries.
    pub fn is_extension(self) -> bool {
        !self.entry().service
    }

    /// Whether it makes a new text.
    pub(super) fn makes_text(self) -> bool {
        matches!(self, Function::Lower | Function::Upper | Function::Concat | Function::Substring)
    }

    pub(super) fn find(name: &str, dialect: Dialect) -> Found {
        let letters =
            |text: &str| text.bytes().filter(|b| *b != b'_').map(|b| b.to_ascii_uppercase()).collect();
        let wanted: Vec<u8> = letters(name);
        match TABLE.iter().find(|entry| letters(entry.name) == wanted) {
            None => Found::Unknown,
            Some(entry) if dialect == Dialect::Extended => Found::Function(entry.function),
            Some(entry) if entry.service && entry.name.eq_ignore_ascii_case(name) => {
                Found::Function(entry.function)
            }
            Some(entry) => Found::Extension(entry.function),
        }
    }

    /// The result.
    pub(super) fn call<'a>(self, arguments: &[Datum<'a>]) -> Datum<'a> {
        match (self, arguments) {
            (_, [one]) => self.of_one(one),
            (_, [Datum::Text(text), Datum::Text(part)]) if self != Function::Concat => match self {
                Function::StartsWith => Datum::Bool(text.starts_with(&**part)),
                Function::EndsWith => Datum::Bool(text.ends_with(&**part)),
                Function::Contains => Datum::Bool(text.contains(&**part)),
                Function::IndexOf => index_of(text, part),
                _ => Datum::Undefined,
            },
            (Function::ArrayContains, [Datum::Array(elements), wanted]) => {
                match wanted {
                    Datum::Undefined | Datum::Array(_) | Datum::Object => Datum::Undefined,
                    wanted => Datum::Bool(elements.iter().any(|element| {
                        compare(Comparison::Equal, &Datum::from(element), wanted) == Some(true)
                    })),
                }
            }
            (Function::Power, [Datum::Number(base), Datum::Number(exponent)]) => {
                number(base.as_f64().powf(exponent.as_f64()))
            }
            (Function::Concat, parts) => concat(parts),
            (Function::Substring, [Datum::Text(text), rest @ ..]) => substring(text, rest),
            _ => Datum::Undefined,
        }
    }

    fn of_one<'a>(self, datum: &Datum<'a>) -> Datum<'a> {
        match self {
            Function::IsDefined => Datum::Bool(!matches!(datum, Datum::Undefined)),
            Function::IsNull => Datum::Bool(matches!(datum, Datum::Null)),
            Function::IsBool => Datum::Bool(matches!(datum, Datum::Bool(_))),
            Function::IsNumber => Datum::Bool(matches!(datum, Datum::Number(_))),
            Function::IsString => Datum::Bool(matches!(datum, Datum::Text(_))),
            Function::IsObject => Datum::Bool(matches!(datum, Datum::Object)),
            Function::IsArray => Datum::Bool(matches!(datum, Datum::Array(_))),
            Function::IsPrimitive => {
                Datum::Bool(!matches!(datum, Datum::Undefined | Datum::Array(_) | Datum::Object))
            }
            _ => match datum {
                Datum::Text(text) => self.of_text(text),
                Datum::Number(num) => self.of_number(*num),
                _ => Datum::Undefined,
            },
        }
    }

    fn of_text<'a>(self, text: &Cow<'a, str>) -> Datum<'a> {
        match self {
            Function::Lower => made(text.to_lowercase()),
            Function::Upper => made(text.to_uppercase()),
            Function::Length => count(text.chars().count()),
            Function::Concat => Datum::Text(text.clone()),
            Function::AsNumber => Num::parse_decimal(text.trim()).map_or(Datum::Undefined, Datum::Number),
            _ => Datum::Undefined,
        }
    }

    fn of_number(self, num: Num) -> Datum<'static> {
        let float = num.as_f64();
        match (self, num) {
            (Function::AsNumber | Function::Ceiling | Function::Floor, Num::Int(_))
            | (Function::AsNumber, _) => Datum::Number(num),
            (Function::Ceiling, _) => number(float.ceil()),
            (Function::Floor, _) => number(float.floor()),
            (Function::Abs, Num::Int(int)) => int.checked_abs().map_or(number(float.abs()), integer),
            (Function::Abs, _) => number(float.abs()),
            (Function::Square, Num::Int(int)) => int.checked_mul(int).map_or(number(float * float), integer),
            (Function::Square, _) => number(float * float),
            (Function::Sign, _) => integer(i64::from(float > 0.0) - i64::from(float < 0.0)),
            (Function::Sqrt, _) => number(float.sqrt()),
            (Function::Exp, _) => number(float.exp()),
            _ => Datum::Undefined,
        }
    }
}

fn integer(value: i64) -> Datum<'static> {
    Datum::Number(Num::Int(value))
}

fn count(value: usize) -> Datum<'static> {
    i64::try_from(value).map_or(Datum::Undefined, integer)
}

/// What is no number, such as the root of a negative one, is undefined.
fn number(value: f64) -> Datum<'static> {
    Num::finite(value).map_or(Datum::Undefined, |num| Datum::Number(num.canonical()))
}

fn made(text: String) -> Datum<'static> {
    match text.len() {
        0..=TEXT_BYTES => Datum::Text(Cow::Owned(text)),
        _ => Datum::Undefined,
    }
}

fn concat(parts: &[Datum<'_>]) -> Datum<'static> {
    let mut all = String::new();
    for part in parts {
        match part {
            Datum::Text(text) if all.len() + text.len() <= TEXT_BYTES => all.push_str(text),
            _ => return Datum::Undefined,
        }
    }
    Datum::Text(Cow::Owned(all))
}

/// In characters, −1 if it is not there.
fn index_of(text: &str, part: &str) -> Datum<'static> {
    text.find(part).map_or(integer(-1), |at| count(text[..at].chars().count()))
}

/// `start` counts characters from 0; the third argument is a length (query §7).
fn substring<'a>(text: &Cow<'a, str>, rest: &[Datum<'_>]) -> Datum<'a> {
    let whole = |datum: &Datum<'_>| match datum {
        Datum::Number(num) => match num.canonical() {
            Num::Int(value) => usize::try_from(value).ok(),
            Num::Float(_) => None,
        },
        _ => None,
    };
    let (start, length) = match rest {
        [start] => (whole(start), Some(usize::MAX)),
        [start, length] => (whole(start), whole(length)),
        _ => (None, None),
    };
    let (Some(start), Some(length)) = (start, length) else { return Datum::Undefined };
    let place = |text: &str, chars: usize| text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
    let from = place(text, start);
    let to = from + place(&text[from..], length);
    match text {
        Cow::Borrowed(text) => Datum::Text(Cow::Borrowed(&text[from..to])),
        Cow::Owned(text) => Datum::Text(Cow::Owned(text[from..to].to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        for (i, entry) in TABLE.iter().enumerate() {
            assert_eq!(entry.function as usize, i, "{}", entry.name);
            assert_eq!(entry.function.name(), entry.name);
        }
    }
}
