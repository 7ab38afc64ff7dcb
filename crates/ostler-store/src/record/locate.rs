//! Finding one value in a section's bytes without decoding the rest.
//!
//! ```text
//!   path ["fan","rpm"]:  shape 7 ──> its 2nd key ──> skip one member ──> shape 3 ──> its 1st key
//! ```
//!
//! Which key of a shape a name means is looked up once per shape and remembered.
//!
//! Must not know: what a path is asked for.
//!
//! Invariant: whatever the bytes, this ends in a value, nothing or a [`Damage`], never in a panic.

use super::header::Damage;
use super::section::{self, Decoder};
use super::shapes::Known;
use super::varint::{self, Quick, Reader};
use ostler_core::json::{Key, Number, Value};
use ostler_core::query::{Datum, Literal, Num};
use std::borrow::Cow;
use std::cell::RefCell;

/// All that is told of an object.
pub(crate) const OBJECT: &[u8] = &[section::OBJECT];

/// A path below a section, with what is known about it. One thread's: it remembers.
pub(crate) struct PathFinder {
    segments: Box<[Segment]>,
}

struct Segment {
    name: Key,
    /// By shape: 0 not looked up, 1 absent, else the key's place + 2.
    places: RefCell<Vec<u16>>,
}

const ABSENT: u16 = 1;
const FIRST: u16 = 2;

impl PathFinder {
    pub(crate) fn new(path: &[Key]) -> PathFinder {
        let segment = |name: &Key| Segment { name: name.clone(), places: RefCell::default() };
        PathFinder { segments: path.iter().map(segment).collect() }
    }

    /// The value's bytes, beginning at its tag and ending somewhere behind it; `None` if a name is
    /// missing or stands behind something that is not an object. The path must not be empty.
    pub(crate) fn find<'a>(&self, section: &'a [u8], shapes: &Known) -> Result<Option<&'a [u8]>, Damage> {
        self.look(section, shapes).ok_or(Damage::Malformed("a section does not hold what it says"))
    }

    fn look<'a>(&self, section: &'a [u8], shapes: &Known) -> Option<Option<&'a [u8]>> {
        let mut reader = Quick(section);
        section::skip_stamps(&mut reader)?;
        let (last, above) = self.segments.split_last()?;
        for segment in above {
            if !segment.enter(&mut reader, shapes)? || reader.byte()? != section::OBJECT {
                return Some(None);
            }
        }
        Some(last.enter(&mut reader, shapes)?.then_some(reader.0))
    }
}

impl Segment {
    /// From the start of an object to the value of this member; `false` if it has none.
    #[inline]
    fn enter(&self, reader: &mut Quick<'_>, shapes: &Known) -> Option<bool> {
        let place = match reader.number()?.checked_sub(1) {
            Some(shape) => self.place_in(shape, shapes)?,
            None => self.place_among_own(reader)?,
        };
        let Some(place) = place else { return Some(false) };
        for _ in 0..place {
            reader.skip_number()?;
            section::skip(reader, shapes, 0)?;
        }
        reader.skip_number()?;
        Some(true)
    }

    /// In an object that carries its keys itself.
    #[allow(clippy::option_option)] // "damaged" and "not there" differ
    fn place_among_own(&self, reader: &mut Quick<'_>) -> Option<Option<usize>> {
        let mut keys = Vec::new();
        for _ in 0..reader.length()? {
            let length = reader.length()?;
            keys.push(std::str::from_utf8(reader.bytes(length)?).ok()?);
        }
        Some(find_name(&self.name, keys.into_iter()))
    }

    #[allow(clippy::option_option)] // "damaged" and "not there" differ
    #[inline]
    fn place_in(&self, shape: u64, shapes: &Known) -> Option<Option<usize>> {
        let index = usize::try_from(shape).ok()?;
        match self.places.borrow().get(index) {
            None | Some(0) => {}
            Some(&ABSENT) => return Some(None),
            Some(place) => return Some(Some(usize::from(place - FIRST))),
        }
        self.learn(index, shapes)
    }

    #[allow(clippy::option_option)] // "damaged" and "not there" differ
    #[cold]
    fn learn(&self, index: usize, shapes: &Known) -> Option<Option<usize>> {
        let keys = shapes.keys(index as u64).ok()?;
        let place = find_name(&self.name, keys.iter().map(|key| &**key));
        let mut places = self.places.borrow_mut();
        if places.len() <= index {
            // Bounded: the shape exists.
            places.resize(index + 1, 0);
        }
        places[index] = place.map_or(ABSENT, |place| u16::try_from(place).map_or(0, |place| place + FIRST));
        Some(place)
    }
}

/// The place of a name: an exact match, or else a unique one without regard to ASCII case (query §4).
fn find_name<'k>(name: &str, keys: impl Iterator<Item = &'k str>) -> Option<usize> {
    let mut alike = None;
    let mut is_unique = true;
    for (place, key) in keys.enumerate() {
        if key == name {
            return Some(place);
        }
        if key.eq_ignore_ascii_case(name) {
            is_unique &= alike.is_none();
            alike = Some(place);
        }
    }
    alike.filter(|_| is_unique)
}

/// A section's `$version`.
pub(crate) fn version(section: &[u8]) -> Result<u64, Damage> {
    Reader(section).number()
}

/// The bytes of the value at the front, and nothing behind it. Of an object only the tag: that is all
/// that a query can tell of it.
pub(crate) fn value_bytes<'a>(bytes: &'a [u8], shapes: &Known) -> Result<&'a [u8], Damage> {
    if bytes.first() == Some(&section::OBJECT) {
        return Ok(&bytes[..1]);
    }
    let mut reader = Quick(bytes);
    section::skip(&mut reader, shapes, 0).ok_or(Damage::Malformed("a value is not one"))?;
    Ok(&bytes[..bytes.len() - reader.0.len()])
}

/// What a query sees in the value at the front.
pub(crate) fn datum<'a>(bytes: &'a [u8], shapes: &Known) -> Result<Datum<'a>, Damage> {
    let mut reader = Reader(bytes);
    Ok(match reader.byte()? {
        section::FALSE => Datum::Bool(false),
        section::TRUE => Datum::Bool(true),
        section::NULL => Datum::Null,
        section::OBJECT => Datum::Object,
        section::ARRAY => Datum::Array(Cow::Owned(Decoder::bare(reader, shapes).array(0)?)),
        section::TEXT => Datum::Text(Cow::Borrowed(reader.text()?)),
        section::INTEGER => Datum::Number(Num::Int(reader.signed()?)),
        section::NUMBER => {
            let number = Number::parse(reader.text()?).ok_or(Damage::Malformed("a number is not one"))?;
            Datum::Number(Num::from(&number))
        }
        tag @ section::SMALL_INTEGER..section::SHORT_TEXT => {
            Datum::Number(Num::Int(i64::from(tag - section::SMALL_INTEGER)))
        }
        tag @ section::SHORT_TEXT.. => {
            Datum::Text(Cow::Borrowed(reader.text_of(usize::from(tag - section::SHORT_TEXT))?))
        }
        tag => Datum::Number(Num::Float(decimal(reader, tag, shapes)?)),
    })
}

/// Powers of ten that doubles hold exactly.
const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
const EXACT: u64 = 1 << 53;

/// The nearest double to `digits / 10^behind`.
#[allow(clippy::cast_precision_loss)] // exact below 2^53
fn decimal(mut reader: Reader<'_>, tag: u8, shapes: &Known) -> Result<f64, Damage> {
    let whole = reader.0;
    let behind = usize::from(tag.wrapping_sub(section::DECIMAL));
    let power = POWERS.get(behind).ok_or(Damage::Malformed("a value of an unknown kind"))?;
    let digits = reader.signed()?;
    if digits.unsigned_abs() <= EXACT {
        // Both are exact, and a division is rounded correctly.
        return Ok(digits as f64 / power);
    }
    match Decoder::bare(Reader(whole), shapes).scalar(tag)? {
        Value::Number(number) => Ok(number.as_f64()),
        _ => Err(Damage::Malformed("a decimal is not one")),
    }
}

/// Appends a datum as a section would hold it. Arrays of scalars only, and an object as its tag: what
/// a record has outside its sections is no more than that.
pub(crate) fn write_datum(datum: &Datum<'_>, out: &mut Vec<u8>) {
    match datum {
        Datum::Undefined => {}
        Datum::Null => out.push(section::NULL),
        Datum::Bool(value) => out.push(if *value { section::TRUE } else { section::FALSE }),
        Datum::Number(number) => section::write_number(&number.to_number(), out),
        Datum::Text(text) => section::write_string(text, out),
        Datum::Object => out.push(section::OBJECT),
        Datum::Array(elements) => {
            out.push(section::ARRAY);
            varint::write(elements.len() as u64, out);
            for element in elements.iter() {
                match element {
                    Value::Null | Value::Array(_) | Value::Object(_) => out.push(section::NULL),
                    Value::Bool(value) => out.push(if *value { section::TRUE } else { section::FALSE }),
                    Value::Number(number) => section::write_number(number, out),
                    Value::String(text) => section::write_string(text, out),
                }
            }
        }
    }
}

/// Every way in which a section may spell a constant, but for unusual numbers; see [`is_unusual`].
/// `None` if a constant has none that can be listed.
pub(crate) fn spellings(literal: &Literal) -> Option<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    match literal {
        // Equal to nothing.
        Literal::Undefined => {}
        Literal::Null => all.push(vec![section::NULL]),
        Literal::Bool(value) => all.push(vec![if *value { section::TRUE } else { section::FALSE }]),
        Literal::Text(text) => {
            let mut spelling = Vec::with_capacity(text.len() + 2);
            section::write_string(text, &mut spelling);
            all.push(spelling);
        }
        Literal::Number(number) => match number.canonical() {
            Num::Int(integer) => {
                let mut spelling = Vec::new();
                section::write_number(&Number::from(integer), &mut spelling);
                all.push(spelling);
                all.extend(decimals(i128::from(integer), 0));
            }
            Num::Float(value) => {
                // What the shortest text says may be written longer, but other digits may mean the same double.
                let text = value.to_string();
                let (whole, fraction) = text.split_once('.')?;
                let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
                if digits == 0 || digits.unsigned_abs() > MOST_SURE_DIGITS {
                    return None;
                }
                all.extend(decimals(digits, u8::try_from(fraction.len()).ok()?));
            }
        },
    }
    Some(all)
}

/// Up to 15 significant digits, every decimal text is a double of its own.
const MOST_SURE_DIGITS: u128 = 999_999_999_999_999;

/// `digits / 10^behind` with zeros appended, in each form that a section has for it.
fn decimals(digits: i128, behind: u8) -> impl Iterator<Item = Vec<u8>> {
    let longer = std::iter::successors(Some((digits, behind)), |(digits, behind)| {
        Some((digits.checked_mul(10)?, behind.checked_add(1)?))
    });
    longer.filter(|(_, behind)| *behind > 0).map_while(|(digits, behind)| {
        let tag = section::decimal_tag(behind)?;
        let mut spelling = vec![tag];
        varint::write_signed(i64::try_from(digits).ok()?, &mut spelling);
        Some(spelling)
    })
}

/// Whether the value is a number kept by its text, such as `1e5`: it may equal a constant without being
/// among its [`spellings`]. So may a decimal of more digits than a double tells apart.
pub(crate) fn is_unusual(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(&section::NUMBER) => true,
        Some(&tag) if (section::DECIMAL..section::SMALL_INTEGER).contains(&tag) => {
            let digits = Reader(&bytes[1..]).signed().unwrap_or(i64::MAX);
            u128::from(digits.unsigned_abs()) > MOST_SURE_DIGITS
        }
        _ => false,
    }
}
