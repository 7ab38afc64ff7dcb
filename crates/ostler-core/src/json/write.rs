//! Printing JSON: compact, UTF-8 as it is, only what must be escaped is escaped.

use super::{Number, Object, Repr, Value};
use crate::time::Timestamp;

/// Appends a string with its quotes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    // Nearly every string needs no escape. Looking at all of it without a branch per byte is what
    // the compiler can do many bytes at a time.
    let escapes = bytes.iter().fold(false, |any, byte| any | matches!(byte, 0..=0x1f | b'"' | b'\\'));
    if escapes {
        write_escaped(bytes, out);
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'"');
}

fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    let mut run = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x08 => b"\\b",
            0x0c => b"\\f",
            0..=0x1f => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[run..at]);
        if escape.is_empty() {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.extend_from_slice(escape);
        }
        run = at + 1;
    }
    out.extend_from_slice(&bytes[run..]);
}

/// Appends an integer's shortest decimal form.
pub(crate) fn write_integer(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

impl Number {
    /// Appends the text as it was written.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Repr::Integer(value) => write_integer(*value, out),
            Repr::Text(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
}

pub(super) fn value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => number.write_to(out),
        Value::String(text) => write_string(text, out),
        Value::Array(elements) => array(elements, out),
        Value::Object(members) => object(members, out),
    }
}

pub(super) fn array(elements: &[Value], out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, element) in elements.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        value(element, out);
    }
    out.push(b']');
}

pub(super) fn object(object: &Object, out: &mut Vec<u8>) {
    let mut writer = ObjectWriter::new(out);
    for (key, member) in object.iter() {
        value(member, writer.key(key));
    }
    writer.end();
}

/// Writes an object member by member, straight into a buffer.
///
/// ```
/// use ostler_core::json::ObjectWriter;
/// let mut out = Vec::new();
/// let mut object = ObjectWriter::new(&mut out);
/// object.string("deviceId", "pump-7").integer("version", 2).null("statusReason");
/// object.end();
/// assert_eq!(out, br#"{"deviceId":"pump-7","version":2,"statusReason":null}"#);
/// ```
#[must_use = "an object is complete only after `end`"]
pub struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Opens an object.
    pub fn new(out: &'a mut Vec<u8>) -> ObjectWriter<'a> {
        out.push(b'{');
        ObjectWriter { out, first: true }
    }

    /// Writes a member's name; the caller appends its value to the buffer that comes back.
    pub fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        write_string(key, self.out);
        self.out.push(b':');
        self.out
    }

    /// A string member.
    pub fn string(&mut self, key: &str, text: &str) -> &mut Self {
        write_string(text, self.key(key));
        self
    }

    /// A string member, or `null`.
    pub fn string_or_null(&mut self, key: &str, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.string(key, text),
            None => self.null(key),
        }
    }

    /// A `null` member.
    pub fn null(&mut self, key: &str) -> &mut Self {
        self.raw(key, b"null")
    }

    /// A boolean member.
    pub fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        self.raw(key, if value { b"true" } else { b"false" })
    }

    /// An integer member.
    pub fn integer(&mut self, key: &str, value: i64) -> &mut Self {
        write_integer(value, self.key(key));
        self
    }

    /// A count; values beyond 63 bits are written as the largest.
    pub fn count(&mut self, key: &str, value: u64) -> &mut Self {
        self.integer(key, i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// A time, as a string.
    pub fn time(&mut self, key: &str, time: Timestamp) -> &mut Self {
        let out = self.key(key);
        out.push(b'"');
        time.write_to(out);
        out.push(b'"');
        self
    }

    /// A member whose value is JSON text already.
    pub fn raw(&mut self, key: &str, json: &[u8]) -> &mut Self {
        self.key(key).extend_from_slice(json);
        self
    }

    /// Opens an object as a member; end it before writing on.
    pub fn object(&mut self, key: &str) -> ObjectWriter<'_> {
        ObjectWriter::new(self.key(key))
    }

    /// Closes the object.
    pub fn end(self) {
        self.out.push(b'}');
    }
}
