//! Reading JSON: one cursor, two visitors (build a value, or only check it).
//!
//! Invariant: every read is bounded by the input; nesting is bounded by [`JSON_DEPTH`].

use super::{Key, Number, Object, Raw, Value};
use crate::limits::JSON_DEPTH;
use std::borrow::Cow;

/// Why a text is not JSON, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct Error {
    /// Where, in bytes from the start.
    pub offset: usize,
    /// What is wrong.
    pub kind: ErrorKind,
}

/// What is wrong with a text that should be JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The text ends too early.
    #[error("the text ends in the middle of a value")]
    UnexpectedEnd,
    /// Something else was expected here.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A value is complete, but text follows.
    #[error("text after the end of the value")]
    Trailing,
    /// Deeper than [`JSON_DEPTH`].
    #[error("nested deeper than {JSON_DEPTH} levels")]
    TooDeep,
    /// A string holds a raw control character.
    #[error("control character in a string")]
    ControlCharacter,
    /// An escape that JSON does not know, or half a surrogate pair.
    #[error("invalid escape in a string")]
    Escape,
    /// The bytes are not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// A valid value of another kind where an object is required.
    #[error("expected an object, found {0}")]
    NotAnObject(&'static str),
}

pub(super) fn document(text: &[u8]) -> Result<Value, Error> {
    let mut cursor = Cursor::checked(text)?;
    let value = cursor.value(0)?;
    cursor.end()?;
    Ok(value)
}

pub(super) fn raw_document(text: &[u8]) -> Result<&[u8], Error> {
    let mut cursor = Cursor::checked(text)?;
    let raw = cursor.raw(0)?;
    cursor.end()?;
    Ok(raw)
}

/// `text` starts with a quote and was checked before.
pub(super) fn string_document(text: &[u8]) -> Option<Cow<'_, str>> {
    Cursor { text, at: 0 }.string().ok()
}

/// The members of an object that was checked before.
pub(super) fn raw_members(text: &[u8]) -> Vec<(Cow<'_, str>, Raw<'_>)> {
    let mut members = Vec::new();
    let mut cursor = Cursor { text, at: 1 };
    let mut more = !cursor.skip_if(b'}');
    while more {
        let (Ok(key), Ok(())) = (cursor.string(), cursor.expect(b':', "':'")) else { break };
        let Ok(raw) = cursor.raw(1) else { break };
        members.push((key, Raw(raw)));
        more = cursor.skip_if(b',');
    }
    members
}

/// The elements of an array that was checked before.
pub(super) fn raw_elements(text: &[u8]) -> Vec<Raw<'_>> {
    let mut elements = Vec::new();
    let mut cursor = Cursor { text, at: 1 };
    let mut more = !cursor.skip_if(b']');
    while more {
        let Ok(raw) = cursor.raw(1) else { break };
        elements.push(Raw(raw));
        more = cursor.skip_if(b',');
    }
    elements
}

/// The length of the number at the start of `text`, when there is one.
pub(super) fn number_len(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let start = usize::from(text.first() == Some(&b'-'));
    let whole = digits(start);
    if whole == 0 || (whole > 1 && text[start] == b'0') {
        return None;
    }
    let mut at = start + whole;
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let exponent = if at + 1 + sign <= text.len() { digits(at + 1 + sign) } else { 0 };
        if exponent == 0 {
            return None;
        }
        at += 1 + sign + exponent;
    }
    Some(at)
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// UTF-8 is checked once for the entire text; strings rely on it.
    fn checked(text: &'a [u8]) -> Result<Cursor<'a>, Error> {
        match std::str::from_utf8(text) {
            Ok(_) => Ok(Cursor { text, at: 0 }),
            Err(error) => Err(Error { offset: error.valid_up_to(), kind: ErrorKind::Utf8 }),
        }
    }

    fn fail<T>(&self, kind: ErrorKind) -> Result<T, Error> {
        let kind = if self.at >= self.text.len() { ErrorKind::UnexpectedEnd } else { kind };
        Err(Error { offset: self.at, kind })
    }

    /// The next byte that is not space, not consumed.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn skip_if(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, name: &'static str) -> Result<(), Error> {
        if self.skip_if(byte) {
            return Ok(());
        }
        self.fail(ErrorKind::Expected(name))
    }

    fn end(&mut self) -> Result<(), Error> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fail(ErrorKind::Trailing),
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), Error> {
        if self.text[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        self.fail(ErrorKind::Expected("a value"))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::String(self.string()?.into())),
            Some(b't') => self.word("true").map(|()| Value::Bool(true)),
            Some(b'f') => self.word("false").map(|()| Value::Bool(false)),
            Some(b'n') => self.word("null").map(|()| Value::Null),
            Some(b'-' | b'0'..=b'9') => {
                self.number_text().map(|text| Value::Number(Number::from_checked(text)))
            }
            _ => self.fail(ErrorKind::Expected("a value")),
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize, Error> {
        if depth >= JSON_DEPTH {
            return self.fail(ErrorKind::TooDeep);
        }
        Ok(depth + 1)
    }

    fn object(&mut self, depth: usize) -> Result<Value, Error> {
        let depth = self.deeper(depth)?;
        self.at += 1;
        let mut members: Vec<(Key, Value)> = Vec::new();
        if !self.skip_if(b'}') {
            loop {
                let key: Key = self.key()?.into();
                self.expect(b':', "':'")?;
                members.push((key, self.value(depth)?));
                if !self.skip_if(b',') {
                    self.expect(b'}', "',' or '}'")?;
                    break;
                }
            }
        }
        Ok(Value::Object(Object::from_parsed(members)))
    }

    fn array(&mut self, depth: usize) -> Result<Value, Error> {
        let depth = self.deeper(depth)?;
        self.at += 1;
        let mut elements = Vec::new();
        if !self.skip_if(b']') {
            loop {
                elements.push(self.value(depth)?);
                if !self.skip_if(b',') {
                    self.expect(b']', "',' or ']'")?;
                    break;
                }
            }
        }
        Ok(Value::Array(elements))
    }

    /// The text of the next value, checked; space around it is left out.
    fn raw(&mut self, depth: usize) -> Result<&'a [u8], Error> {
        self.peek();
        let start = self.at;
        self.skip_value(depth)?;
        Ok(&self.text[start..self.at])
    }

    fn skip_value(&mut self, depth: usize) -> Result<(), Error> {
        match self.peek() {
            Some(b'{') => {
                let depth = self.deeper(depth)?;
                self.at += 1;
                if self.skip_if(b'}') {
                    return Ok(());
                }
                loop {
                    self.key()?;
                    self.expect(b':', "':'")?;
                    self.skip_value(depth)?;
                    if !self.skip_if(b',') {
                        return self.expect(b'}', "',' or '}'");
                    }
                }
            }
            Some(b'[') => {
                let depth = self.deeper(depth)?;
                self.at += 1;
                if self.skip_if(b']') {
                    return Ok(());
                }
                loop {
                    self.skip_value(depth)?;
                    if !self.skip_if(b',') {
                        return self.expect(b']', "',' or ']'");
                    }
                }
            }
            Some(b'"') => self.string().map(drop),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'-' | b'0'..=b'9') => self.number_text().map(drop),
            _ => self.fail(ErrorKind::Expected("a value")),
        }
    }

    fn number_text(&mut self) -> Result<&'a str, Error> {
        let Some(len) = number_len(&self.text[self.at..]) else {
            return Err(Error { offset: self.at, kind: ErrorKind::Expected("a number") });
        };
        let text = std::str::from_utf8(&self.text[self.at..self.at + len]).unwrap_or_default();
        self.at += len;
        Ok(text)
    }

    fn key(&mut self) -> Result<Cow<'a, str>, Error> {
        if self.peek() != Some(b'"') {
            return self.fail(ErrorKind::Expected("a member's name in quotes"));
        }
        self.string()
    }

    /// The string at the cursor, borrowed when it has no escapes.
    fn string(&mut self) -> Result<Cow<'a, str>, Error> {
        if self.peek() != Some(b'"') {
            return self.fail(ErrorKind::Expected("a string"));
        }
        self.at += 1;
        let start = self.at;
        let mut built: Option<String> = None;
        let mut run = start;
        loop {
            match self.text.get(self.at) {
                None => return self.fail(ErrorKind::UnexpectedEnd),
                Some(b'"') => {
                    let tail = self.slice(run)?;
                    self.at += 1;
                    return Ok(match built {
                        None => Cow::Borrowed(tail),
                        Some(mut text) => {
                            text.push_str(tail);
                            Cow::Owned(text)
                        }
                    });
                }
                Some(b'\\') => {
                    let head = self.slice(run)?;
                    let text = built.get_or_insert_with(String::new);
                    text.push_str(head);
                    self.at += 1;
                    text.push(self.escape()?);
                    run = self.at;
                }
                Some(0..=0x1f) => return self.fail(ErrorKind::ControlCharacter),
                Some(_) => self.at += 1,
            }
        }
    }

    fn slice(&self, from: usize) -> Result<&'a str, Error> {
        std::str::from_utf8(&self.text[from..self.at])
            .map_err(|_| Error { offset: from, kind: ErrorKind::Utf8 })
    }

    /// The character of an escape; the cursor stands behind the backslash.
    fn escape(&mut self) -> Result<char, Error> {
        let Some(byte) = self.text.get(self.at) else {
            return self.fail(ErrorKind::UnexpectedEnd);
        };
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(Error { offset: self.at - 1, kind: ErrorKind::Escape }),
        })
    }

    fn unicode_escape(&mut self) -> Result<char, Error> {
        let offset = self.at;
        let bad = Error { offset, kind: ErrorKind::Escape };
        let first = self.hex4().ok_or_else(|| bad.clone())?;
        let code = match first {
            0xd800..=0xdbff => {
                if self.text.get(self.at..self.at + 2) != Some(b"\\u") {
                    return Err(bad);
                }
                self.at += 2;
                match self.hex4() {
                    Some(second @ 0xdc00..=0xdfff) => 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                    _ => return Err(bad),
                }
            }
            other => other,
        };
        char::from_u32(code).ok_or(bad)
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        let code = digits.iter().try_fold(0, |code, b| Some(code * 16 + char::from(*b).to_digit(16)?))?;
        self.at += 4;
        Some(code)
    }
}
