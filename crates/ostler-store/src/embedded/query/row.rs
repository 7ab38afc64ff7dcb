//! A record's bytes as a row of a query: each column is found in them without decoding the rest.
//!
//! What is asked for often has a way of its own; for the rest the part that holds it is decoded, and
//! core's own row answers.
//!
//! Must not know: conditions, plans, locks.
//!
//! Invariant: a row says of every column what [`TwinRow`] says of the decoded record.

use crate::record::header::{Damage, Head};
use crate::record::locate::{self, PathFinder};
use crate::record::shapes::Known;
use crate::record::{decode_parts, sections, Body, Parts};
use crate::Live;
use ostler_core::json::Value;
use ostler_core::query::{Column, Datum, Expr, Field, Num, Place, Presence, Row, TwinRow};
use std::borrow::Cow;

/// Bytes that memory gives at once, and how many such pieces of a section are asked for early.
const CACHE_LINE: usize = 64;
const MOST_LINES: usize = 4;

/// How the columns of one query are found. One thread's: it remembers where.
pub(crate) struct Locators {
    all: Vec<(Column, Locator)>,
    /// The columns within the query by their addresses, sorted: what an evaluator hands over.
    by_address: Vec<(*const Column, usize)>,
    /// Sections that are looked into.
    sections: Vec<Section>,
}

/// How one column is found.
pub(crate) struct Locator {
    kind: Kind,
}

enum Kind {
    DeviceId,
    ModuleId,
    Version,
    Status,
    Value(Section, PathFinder),
    SectionVersion(Section),
    /// An object that is always there.
    Object,
    Unknown,
    Decode(Parts),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Tags,
    Desired,
    Reported,
}

impl Locators {
    /// For the columns of a condition, whose addresses must stay while this is used, and others.
    pub(crate) fn new<'q>(
        condition: Option<&'q Expr>,
        others: impl IntoIterator<Item = &'q Column>,
    ) -> Locators {
        let mut locators = Locators { all: Vec::new(), by_address: Vec::new(), sections: Vec::new() };
        if let Some(condition) = condition {
            condition.visit(&mut |expr| {
                if let Expr::Column(column) = expr {
                    locators.add(column);
                }
            });
        }
        for column in others {
            locators.add(column);
        }
        locators.by_address.sort_unstable();
        for (_, locator) in &locators.all {
            if let Kind::Value(section, _) | Kind::SectionVersion(section) = &locator.kind {
                let section = *section;
                if !locators.sections.contains(&section) {
                    locators.sections.push(section);
                }
            }
        }
        locators
    }

    fn add(&mut self, column: &Column) {
        let known = self.all.iter().position(|(have, _)| have == column);
        let place = known.unwrap_or_else(|| {
            self.all.push((column.clone(), Locator::new(column)));
            self.all.len() - 1
        });
        self.by_address.push((std::ptr::from_ref(column), place));
    }

    /// Asks for the bytes of a record that its row will look at, so that they are there soon: memory is
    /// slow to answer, but answers many questions at once. The sum means nothing.
    pub(crate) fn fetch<'a>(&self, record: &'a [u8]) -> (u8, Option<Sections<'a>>) {
        if self.sections.is_empty() {
            return (0, None);
        }
        let Ok(sections) = Sections::of(record) else { return (0, None) };
        let mut sum = 0;
        for section in &self.sections {
            let bytes = sections.get(*section);
            for line in bytes.iter().step_by(CACHE_LINE).take(MOST_LINES) {
                sum ^= line;
            }
        }
        (sum, Some(sections))
    }

    fn get(&self, column: &Column) -> Option<&Locator> {
        let address = std::ptr::from_ref(column);
        let place = match self.by_address.binary_search_by_key(&address, |(have, _)| *have) {
            Ok(found) => self.by_address.get(found)?.1,
            Err(_) => self.all.iter().position(|(have, _)| have == column)?,
        };
        self.all.get(place).map(|(_, locator)| locator)
    }
}

impl Locator {
    pub(crate) fn new(column: &Column) -> Locator {
        let field = column.field();
        let section = match field {
            Field::Tags(_) => Some(Section::Tags),
            Field::Desired(_) => Some(Section::Desired),
            Field::Reported(_) => Some(Section::Reported),
            _ => None,
        };
        let kind = match (field, section, field.place()) {
            // The twin document leaves tags out when there are none.
            (Field::Tags(path), ..) if path.is_empty() => Kind::Decode(Section::Tags.part()),
            (_, Some(_), Some(Place::Value([]))) | (Field::Properties, ..) => Kind::Object,
            (_, Some(section), Some(Place::Value(path))) => Kind::Value(section, PathFinder::new(path)),
            (_, Some(section), Some(Place::Version)) => Kind::SectionVersion(section),
            (_, Some(section), _) => Kind::Decode(section.part()),
            (Field::DeviceId, ..) => Kind::DeviceId,
            (Field::ModuleId, ..) => Kind::ModuleId,
            (Field::Version, ..) => Kind::Version,
            (Field::Status, ..) => Kind::Status,
            (Field::Unknown | Field::Job(_), ..) => Kind::Unknown,
            (Field::Configurations(_), ..) => {
                Kind::Decode(Parts { configurations: true, ..Parts::default() })
            }
            _ => Kind::Decode(Parts::default()),
        };
        Locator { kind }
    }

    /// The column's value as a section would hold it, for a column that is not live; of an object only
    /// the tag, and nothing for undefined. `scratch` holds what is not found as such.
    pub(crate) fn bytes<'a>(
        &self,
        column: &Column,
        record: &'a [u8],
        shapes: &Known,
        scratch: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        if let Kind::Value(section, finder) = &self.kind {
            let found = section.of(record, None).and_then(|section| finder.find(section, shapes));
            let bytes = found.and_then(|value| match value {
                Some(value) => locate::value_bytes(value, shapes),
                None => Ok(&[][..]),
            });
            return bytes.unwrap_or_default();
        }
        scratch.clear();
        let row =
            CompactRow { bytes: record, sections: None, shapes, locators: &NOTHING, live: &NobodyLives };
        locate::write_datum(&self.datum(column, &row), scratch);
        scratch
    }

    fn datum<'a>(&self, column: &Column, row: &CompactRow<'a>) -> Datum<'a> {
        let CompactRow { bytes, sections, shapes, live, .. } = *row;
        let head = Head::trusted(bytes);
        match &self.kind {
            Kind::DeviceId => Datum::text(head.device()),
            Kind::ModuleId => head.module().map_or(Datum::Undefined, Datum::text),
            Kind::Status => Datum::text(if head.is_enabled() { "enabled" } else { "disabled" }),
            Kind::Version => Body::read(head).map_or(Datum::Undefined, |body| count(body.twin_version)),
            Kind::Value(section, finder) => {
                let found = section.of(bytes, sections.as_ref()).and_then(|section| {
                    match finder.find(section, shapes)? {
                        Some(value) => locate::datum(value, shapes),
                        None => Ok(Datum::Undefined),
                    }
                });
                found.unwrap_or(Datum::Undefined)
            }
            Kind::SectionVersion(section) => {
                section.of(bytes, sections.as_ref()).and_then(locate::version).map_or(Datum::Undefined, count)
            }
            Kind::Object => Datum::Object,
            Kind::Unknown => Datum::Undefined,
            Kind::Decode(parts) => {
                let Ok(record) = decode_parts(bytes, shapes, *parts) else { return Datum::Undefined };
                let presence = presence(head, live);
                owned(&TwinRow { record: &record, presence }.get(column))
            }
        }
    }
}

/// Where a record's sections are.
#[derive(Clone, Copy)]
pub(crate) struct Sections<'a> {
    tags: &'a [u8],
    desired: &'a [u8],
    reported: &'a [u8],
}

impl<'a> Sections<'a> {
    fn of(record: &'a [u8]) -> Result<Sections<'a>, Damage> {
        let damaged = Damage::Malformed("the parts of a record do not fit");
        let [tags, desired, reported] = sections(record).ok_or(damaged)?;
        Ok(Sections { tags, desired, reported })
    }

    fn get(&self, section: Section) -> &'a [u8] {
        match section {
            Section::Tags => self.tags,
            Section::Desired => self.desired,
            Section::Reported => self.reported,
        }
    }
}

impl Section {
    fn of<'a>(self, record: &'a [u8], known: Option<&Sections<'a>>) -> Result<&'a [u8], Damage> {
        match known {
            Some(sections) => Ok(sections.get(self)),
            None => Sections::of(record).map(|sections| sections.get(self)),
        }
    }

    fn part(self) -> Parts {
        match self {
            Section::Tags => Parts { tags: true, ..Parts::default() },
            Section::Desired => Parts { desired: true, ..Parts::default() },
            Section::Reported => Parts { reported: true, ..Parts::default() },
        }
    }
}

/// See the module documentation.
pub(crate) struct CompactRow<'a> {
    pub(crate) bytes: &'a [u8],
    /// If they were found before.
    pub(crate) sections: Option<Sections<'a>>,
    pub(crate) shapes: &'a Known,
    pub(crate) locators: &'a Locators,
    pub(crate) live: &'a dyn Live,
}

impl CompactRow<'_> {
    /// The id, as the text of an `EntityId`.
    pub(crate) fn id(&self) -> &str {
        Head::trusted(self.bytes).id()
    }
}

impl Row for CompactRow<'_> {
    fn get(&self, column: &Column) -> Datum<'_> {
        match self.locators.get(column) {
            Some(locator) => locator.datum(column, self),
            None => Locator::new(column).datum(column, self),
        }
    }

    fn value(&self, column: &Column) -> Option<Value> {
        match self.get(column) {
            Datum::Undefined => None,
            // Numbers keep their text, and objects their members: that takes more than the datum.
            Datum::Number(Num::Float(_)) | Datum::Object => {
                let record = decode_parts(self.bytes, self.shapes, Parts::ALL).ok()?;
                let presence = presence(Head::trusted(self.bytes), self.live);
                TwinRow { record: &record, presence }.value(column)
            }
            datum => datum.to_value(),
        }
    }
}

/// What is known of a record's connection.
pub(crate) fn presence(head: Head<'_>, live: &dyn Live) -> Presence {
    live.whole(head.id(), head.activity())
}

/// For a row whose locator is at hand.
const NOTHING: Locators = Locators { all: Vec::new(), by_address: Vec::new(), sections: Vec::new() };

/// For columns, which hold nothing live.
struct NobodyLives;

impl Live for NobodyLives {
    fn presence(&self, _: &str) -> Option<Presence> {
        None
    }
}

fn count(number: u64) -> Datum<'static> {
    Datum::Number(Num::Int(i64::try_from(number).unwrap_or(i64::MAX)))
}

fn owned(datum: &Datum<'_>) -> Datum<'static> {
    match datum {
        Datum::Undefined => Datum::Undefined,
        Datum::Null => Datum::Null,
        Datum::Bool(value) => Datum::Bool(*value),
        Datum::Number(number) => Datum::Number(*number),
        Datum::Text(text) => Datum::Text(Cow::Owned(text.clone().into_owned())),
        Datum::Array(elements) => Datum::Array(Cow::Owned(elements.to_vec())),
        Datum::Object => Datum::Object,
    }
}
