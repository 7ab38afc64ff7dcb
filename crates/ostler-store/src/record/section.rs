//! The stored form of a twin's section.
//!
//! ```text
//!   version        varint
//!   stamps         varint count, at least 1; the first is the section's own:
//!                    version   varint, signed: section version - stamp version
//!                    time      first: varint, signed, ticks; others: first time - this time
//!   members        as an object
//!
//!   object         varint shape + 1, or 0 and then: varint count, each key as a text
//!                  then for each key: stamp (index into the table, varint; absent inside arrays), value
//!   value          one byte, then what it asks for:
//!     00 false   01 true   02 null
//!     03 text, its length as a varint        04 number by its text, its length as a varint
//!     05 integer, varint, signed             06 array: varint count, values
//!     07 object
//!     10-1F decimal with 0 to 15 digits behind the point: its digits as a varint, signed
//!     40-7F the integers 0 to 63             80-FF text of 0 to 127 bytes
//! ```
//!
//! Must not know: limits and merge rules.
//!
//! Invariant: a number comes back with the text it had.

use super::header::Damage;
use super::shapes::{Known, Shapes};
use super::varint::{self, Quick, Reader};
use ostler_core::json::{Key, Number, Object, Value};
use ostler_core::time::Timestamp;
use ostler_core::twin::{Member, Node, Section, Stamp};

pub(super) const FALSE: u8 = 0x00;
pub(super) const TRUE: u8 = 0x01;
pub(super) const NULL: u8 = 0x02;
pub(super) const TEXT: u8 = 0x03;
pub(super) const NUMBER: u8 = 0x04;
pub(super) const INTEGER: u8 = 0x05;
pub(super) const ARRAY: u8 = 0x06;
pub(super) const OBJECT: u8 = 0x07;
pub(super) const DECIMAL: u8 = 0x10;
const MOST_DECIMALS: usize = 15;
pub(super) const SMALL_INTEGER: u8 = 0x40;
pub(super) const SHORT_TEXT: u8 = 0x80;

/// How deep a stored value may nest; what comes in is bounded far below.
const MOST_DEPTH: usize = 128;
/// How far back an equal stamp is looked for; one further back is stored again.
const STAMPS_BACK: usize = 16;

pub(super) fn write(section: &Section, shapes: &Shapes, out: &mut Vec<u8>) {
    let mut stamps = vec![section.stamp];
    let mut members = Vec::with_capacity(256);
    write_members(&section.members, shapes, &mut stamps, &mut members);
    varint::write(section.version, out);
    varint::write(stamps.len() as u64, out);
    let mut base = 0i64;
    for stamp in stamps {
        let ticks = stamp.updated.ticks();
        varint::write_signed(section.version.wrapping_sub(stamp.version) as i64, out);
        varint::write_signed(if base == 0 { ticks } else { base.wrapping_sub(ticks) }, out);
        if base == 0 {
            base = ticks;
        }
    }
    out.extend_from_slice(&members);
}

fn write_members(members: &[Member], shapes: &Shapes, stamps: &mut Vec<Stamp>, out: &mut Vec<u8>) {
    write_keys(members.iter().map(|member| &member.key), shapes, out);
    for member in members {
        let place = stamps.iter().rev().take(STAMPS_BACK).position(|stamp| *stamp == member.stamp);
        let index = place.map_or(stamps.len(), |back| stamps.len() - 1 - back);
        if place.is_none() {
            stamps.push(member.stamp);
        }
        varint::write(index as u64, out);
        match &member.node {
            Node::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
            Node::Number(number) => write_number(number, out),
            Node::String(text) => write_string(text, out),
            Node::Array(elements) => write_array(elements, shapes, out),
            Node::Object(members) => {
                out.push(OBJECT);
                write_members(members, shapes, stamps, out);
            }
        }
    }
}

fn write_value(value: &Value, shapes: &Shapes, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_string(text, out),
        Value::Array(elements) => write_array(elements, shapes, out),
        Value::Object(object) => {
            out.push(OBJECT);
            let keys: Vec<&Key> = object.iter().map(|(key, _)| key).collect();
            write_keys(keys.into_iter(), shapes, out);
            for (_, value) in object.iter() {
                write_value(value, shapes, out);
            }
        }
    }
}

fn write_array(elements: &[Value], shapes: &Shapes, out: &mut Vec<u8>) {
    out.push(ARRAY);
    varint::write(elements.len() as u64, out);
    for element in elements {
        write_value(element, shapes, out);
    }
}

fn write_keys<'k>(keys: impl ExactSizeIterator<Item = &'k Key> + Clone, shapes: &Shapes, out: &mut Vec<u8>) {
    if let Some(shape) = shapes.intern(keys.clone()) {
        varint::write(u64::from(shape) + 1, out);
        return;
    }
    varint::write(0, out);
    varint::write(keys.len() as u64, out);
    for key in keys {
        varint::write_text(key, out);
    }
}

pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    match u8::try_from(text.len()) {
        Ok(short) if short < SHORT_TEXT => {
            out.push(SHORT_TEXT | short);
            out.extend_from_slice(text.as_bytes());
        }
        _ => {
            out.push(TEXT);
            varint::write_text(text, out);
        }
    }
}

pub(super) fn write_number(number: &Number, out: &mut Vec<u8>) {
    match number.as_i64() {
        // Zero may be written `-0`.
        Some(integer) if integer != 0 || number.text() == "0" => match u8::try_from(integer) {
            Ok(small) if small < SHORT_TEXT - SMALL_INTEGER => out.push(SMALL_INTEGER | small),
            _ => {
                out.push(INTEGER);
                varint::write_signed(integer, out);
            }
        },
        _ => {
            let text = number.text();
            match decimal(&text) {
                Some((digits, behind)) => {
                    out.push(DECIMAL | behind);
                    varint::write_signed(digits, out);
                }
                None => {
                    out.push(NUMBER);
                    varint::write_text(&text, out);
                }
            }
        }
    }
}

/// The tag of a decimal with digits behind the point; `None` beyond what has one.
pub(super) fn decimal_tag(behind: u8) -> Option<u8> {
    (usize::from(behind) <= MOST_DECIMALS).then_some(DECIMAL | behind)
}

/// `-12.50` as `(-1250, 2)`; only what [`DecimalText`] turns back into the same text.
fn decimal(text: &str) -> Option<(i64, u8)> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |text| (-1, text));
    let (whole, fraction) = text.split_once('.')?;
    let behind = u8::try_from(fraction.len()).ok().filter(|behind| usize::from(*behind) <= MOST_DECIMALS)?;
    let mut digits = 0i64;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        digits = digits.checked_mul(10)?.checked_add(digit)?;
    }
    // Minus zero has no digits to carry its sign.
    (sign > 0 || digits != 0).then_some((sign * digits, behind))
}

/// The text of a decimal, built from its end without an allocation.
struct DecimalText {
    bytes: [u8; 24],
    start: usize,
}

impl DecimalText {
    fn new(digits: i64, behind: u8) -> DecimalText {
        let mut text = DecimalText { bytes: [0; 24], start: 24 };
        let mut rest = digits.unsigned_abs();
        let mut place = 0;
        while rest > 0 || place <= behind {
            if place == behind && behind > 0 {
                text.push(b'.');
            }
            text.push(b'0' + (rest % 10) as u8);
            rest /= 10;
            place += 1;
        }
        if digits < 0 {
            text.push(b'-');
        }
        text
    }

    fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[self.start] = byte;
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[self.start..]).unwrap_or_default()
    }
}

pub(super) fn read(bytes: &[u8], shapes: &Known) -> Result<Section, Damage> {
    let mut reader = Reader(bytes);
    let version = reader.number()?;
    let count = reader.length()?;
    let mut stamps = Vec::with_capacity(count);
    let mut base = 0i64;
    for _ in 0..count {
        let stamp_version = version.wrapping_sub(reader.signed()? as u64);
        let ticks = reader.signed()?;
        let ticks = if base == 0 { ticks } else { base.wrapping_sub(ticks) };
        if base == 0 {
            base = ticks;
        }
        stamps.push(Stamp { updated: Timestamp::from_ticks(ticks), version: stamp_version });
    }
    let stamp = *stamps.first().ok_or(Damage::Malformed("a section has no stamp"))?;
    let mut decoder = Decoder { reader, stamps: &stamps, shapes };
    let members = decoder.members(0)?;
    decoder.reader.finish()?;
    Ok(Section { version, stamp, members })
}

/// From the start of a section to its members; `None` if the bytes end before.
#[inline]
pub(super) fn skip_stamps(reader: &mut Quick<'_>) -> Option<()> {
    reader.skip_number()?;
    for _ in 0..reader.length()? {
        reader.skip_number()?;
        reader.skip_number()?;
    }
    Some(())
}

/// Skips a property's value; `None` if the bytes are not one.
#[inline]
pub(super) fn skip(reader: &mut Quick<'_>, shapes: &Known, depth: usize) -> Option<()> {
    match *reader.0.first()? {
        // Nearly all of them.
        tag @ SHORT_TEXT.. => {
            reader.0 = reader.0.get(usize::from(tag - SHORT_TEXT) + 1..)?;
            Some(())
        }
        _ => skip_longer(reader, shapes, depth),
    }
}

fn skip_longer(reader: &mut Quick<'_>, shapes: &Known, depth: usize) -> Option<()> {
    match reader.byte()? {
        FALSE | TRUE | NULL | SMALL_INTEGER..SHORT_TEXT => Some(()),
        tag @ SHORT_TEXT.. => reader.bytes(usize::from(tag - SHORT_TEXT)).map(|_| ()),
        INTEGER | DECIMAL..SMALL_INTEGER => reader.skip_number(),
        TEXT | NUMBER => {
            let length = reader.length()?;
            reader.bytes(length).map(|_| ())
        }
        ARRAY => skip_array(reader, shapes, depth + 1),
        OBJECT if depth <= MOST_DEPTH => {
            for _ in 0..skip_keys(reader, shapes)? {
                reader.skip_number()?;
                skip(reader, shapes, depth + 1)?;
            }
            Some(())
        }
        _ => None,
    }
}

/// Skips an array, within which objects have no stamps.
fn skip_array(reader: &mut Quick<'_>, shapes: &Known, depth: usize) -> Option<()> {
    for _ in 0..reader.length()? {
        skip_element(reader, shapes, depth)?;
    }
    Some(())
}

/// Skips a value within an array.
fn skip_element(reader: &mut Quick<'_>, shapes: &Known, depth: usize) -> Option<()> {
    if depth > MOST_DEPTH {
        return None;
    }
    if reader.0.first() != Some(&OBJECT) {
        return skip(reader, shapes, depth);
    }
    reader.byte()?;
    for _ in 0..skip_keys(reader, shapes)? {
        skip_element(reader, shapes, depth + 1)?;
    }
    Some(())
}

/// Skips an object's keys, and tells how many there are.
#[inline]
fn skip_keys(reader: &mut Quick<'_>, shapes: &Known) -> Option<usize> {
    match reader.number()?.checked_sub(1) {
        Some(shape) => shapes.key_count(shape),
        None => {
            let count = reader.length()?;
            for _ in 0..count {
                let length = reader.length()?;
                reader.bytes(length)?;
            }
            Some(count)
        }
    }
}

pub(super) struct Decoder<'a> {
    reader: Reader<'a>,
    stamps: &'a [Stamp],
    shapes: &'a Known,
}

impl<'a> Decoder<'a> {
    /// For a value without stamps.
    pub(super) fn bare(reader: Reader<'a>, shapes: &'a Known) -> Decoder<'a> {
        Decoder { reader, stamps: &[], shapes }
    }

    fn members(&mut self, depth: usize) -> Result<Vec<Member>, Damage> {
        check_depth(depth)?;
        match self.shape()? {
            Some(keys) => keys.iter().map(|key| self.member(key.clone(), depth)).collect(),
            None => {
                let keys = self.inline_keys()?;
                keys.into_iter().map(|key| self.member(key, depth)).collect()
            }
        }
    }

    fn member(&mut self, key: Key, depth: usize) -> Result<Member, Damage> {
        let index = usize::try_from(self.reader.number()?).unwrap_or(usize::MAX);
        let stamp = *self.stamps.get(index).ok_or(Damage::Malformed("a stamp is missing"))?;
        let node = match self.reader.byte()? {
            FALSE => Node::Bool(false),
            TRUE => Node::Bool(true),
            ARRAY => Node::Array(self.array(depth)?),
            OBJECT => Node::Object(self.members(depth + 1)?),
            tag => match self.scalar(tag)? {
                Value::Number(number) => Node::Number(number),
                Value::String(text) => Node::String(text),
                _ => return Err(Damage::Malformed("a property is null")),
            },
        };
        Ok(Member { key, stamp, node })
    }

    fn value(&mut self, depth: usize) -> Result<Value, Damage> {
        check_depth(depth)?;
        Ok(match self.reader.byte()? {
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            ARRAY => Value::Array(self.array(depth)?),
            OBJECT => Value::Object(self.object(depth)?),
            tag => self.scalar(tag)?,
        })
    }

    pub(super) fn array(&mut self, depth: usize) -> Result<Vec<Value>, Damage> {
        let count = self.reader.length()?;
        (0..count).map(|_| self.value(depth + 1)).collect()
    }

    fn object(&mut self, depth: usize) -> Result<Object, Damage> {
        match self.shape()? {
            Some(keys) => keys.iter().map(|key| Ok((key.clone(), self.value(depth + 1)?))).collect(),
            None => {
                let keys = self.inline_keys()?;
                keys.into_iter().map(|key| Ok((key, self.value(depth + 1)?))).collect()
            }
        }
    }

    /// The keys of the object that follows; `None` if it carries them itself.
    fn shape(&mut self) -> Result<Option<&'a [Key]>, Damage> {
        let shapes = self.shapes;
        match self.reader.number()?.checked_sub(1) {
            None => Ok(None),
            Some(number) => shapes.keys(number).map(|keys| Some(&**keys)),
        }
    }

    fn inline_keys(&mut self) -> Result<Vec<Key>, Damage> {
        let count = self.reader.length()?;
        (0..count).map(|_| self.reader.text().map(Key::from)).collect()
    }

    pub(super) fn scalar(&mut self, tag: u8) -> Result<Value, Damage> {
        Ok(match tag {
            NULL => Value::Null,
            TEXT => Value::String(self.reader.text()?.into()),
            NUMBER => {
                let number = Number::parse(self.reader.text()?);
                Value::Number(number.ok_or(Damage::Malformed("a number is not one"))?)
            }
            INTEGER => Value::Number(self.reader.signed()?.into()),
            DECIMAL..SMALL_INTEGER if usize::from(tag - DECIMAL) <= MOST_DECIMALS => {
                let text = DecimalText::new(self.reader.signed()?, tag - DECIMAL);
                Value::Number(Number::parse(text.as_str()).ok_or(Damage::Malformed("a decimal is not one"))?)
            }
            SMALL_INTEGER..SHORT_TEXT => Value::Number(i64::from(tag - SMALL_INTEGER).into()),
            SHORT_TEXT.. => Value::String(self.reader.text_of(usize::from(tag - SHORT_TEXT))?.into()),
            _ => return Err(Damage::Malformed("a value of an unknown kind")),
        })
    }
}

fn check_depth(depth: usize) -> Result<(), Damage> {
    if depth > MOST_DEPTH {
        return Err(Damage::Malformed("values nest too deep"));
    }
    Ok(())
}
