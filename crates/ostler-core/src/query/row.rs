//! Records as rows: the meaning of every column of a twin (query §4), and projection.
//!
//! Other rows over the same data, such as a store's compact ones, are tested against this one.
//!
//! Must not know: how records are kept.
//!
//! Invariant: a column has the value that the service's twin document shows at that path (service §8.1).

use super::column::{Column, Field, Place, LAST_UPDATED, LAST_UPDATED_VERSION};
use super::eval::{Datum, Row};
use super::num::Num;
use super::{Item, What};
use crate::configuration::Assignment;
use crate::identity::{twin_etag_text, Authentication, Thumbprint};
use crate::json::{Key, Number, Object, Value};
use crate::record::{Activity, Record};
use crate::time::Timestamp;
use crate::twin::{Member, Node, Section, SectionKind, Stamp};
use std::borrow::Cow;

/// The only member of a configuration in a twin.
const STATUS: &str = "status";

/// What is known of a device now that is not in its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// Whether it is connected.
    pub connected: bool,
    /// When it was last seen.
    pub activity: Activity,
    /// Messages that wait for it.
    pub messages: u64,
}

/// A record as a row.
#[derive(Clone, Copy, Debug)]
pub struct TwinRow<'a> {
    /// Identity and twin.
    pub record: &'a Record,
    /// Its connection.
    pub presence: Presence,
}

impl Row for TwinRow<'_> {
    fn get(&self, column: &Column) -> Datum<'_> {
        let (record, identity, twin) = (self.record, &self.record.identity, &self.record.twin);
        let section =
            |section, kind| column.field().place().map_or(Datum::Undefined, |place| at(section, kind, place));
        match column.field() {
            Field::DeviceId => Datum::text(record.id.device()),
            Field::ModuleId => record.id.module().map_or(Datum::Undefined, Datum::text),
            Field::Etag => made(twin_etag_text(twin.etag)),
            Field::DeviceEtag => made(identity.etag_text()),
            Field::Version => count(twin.version),
            Field::Status => Datum::text(identity.status.name()),
            Field::StatusReason => text_or_null(identity.status_reason.as_deref()),
            Field::StatusUpdateTime => time(identity.status_updated),
            Field::ConnectionState => Datum::text(self.presence.connection_state()),
            Field::LastActivityTime => time(self.presence.activity.last_activity),
            Field::C2dCount => count(self.presence.messages),
            Field::AuthenticationType => Datum::text(identity.authentication.type_name()),
            Field::X509Thumbprint(path) => thumbprint(&identity.authentication, path),
            Field::ModelId => Datum::text(twin.model_id.as_deref().unwrap_or_default()),
            Field::Capabilities(path) => self.capabilities(path),
            Field::DeviceScope if !record.id.is_module() => {
                identity.device_scope.as_deref().map_or(Datum::Undefined, Datum::text)
            }
            Field::ParentScopes if !record.id.is_module() && !identity.parent_scopes.is_empty() => {
                let scopes = identity.parent_scopes.iter().map(|scope| Value::String(scope.clone()));
                Datum::Array(Cow::Owned(scopes.collect()))
            }
            // The twin document leaves tags out when there are none.
            Field::Tags(path) if path.is_empty() && twin.tags.members.is_empty() => Datum::Undefined,
            Field::Tags(_) => section(&twin.tags, SectionKind::Tags),
            Field::Desired(_) => section(&twin.desired, SectionKind::Desired),
            Field::Reported(_) => section(&twin.reported, SectionKind::Reported),
            Field::Properties => Datum::Object,
            Field::Configurations(path) => configurations(&self.record.configurations, path),
            Field::DeviceScope | Field::ParentScopes | Field::Job(_) | Field::Unknown => Datum::Undefined,
        }
    }

    fn value(&self, column: &Column) -> Option<Value> {
        let twin = &self.record.twin;
        match column.field() {
            Field::Tags(path) => match self.get(column) {
                Datum::Undefined => None,
                _ => value_at(&twin.tags, SectionKind::Tags, Place::Value(path)),
            },
            field @ Field::Desired(_) => value_at(&twin.desired, SectionKind::Desired, field.place()?),
            field @ Field::Reported(_) => value_at(&twin.reported, SectionKind::Reported, field.place()?),
            Field::Properties => Some(Value::Object(
                [
                    (Key::from("desired"), whole(&twin.desired, SectionKind::Desired)),
                    (Key::from("reported"), whole(&twin.reported, SectionKind::Reported)),
                ]
                .into_iter()
                .collect(),
            )),
            Field::X509Thumbprint(path) if path.is_empty() => {
                let member = |name: &str| {
                    let name = Key::from(name);
                    let value = thumbprint(&self.record.identity.authentication, std::slice::from_ref(&name));
                    value.to_value().map(|value| (name, value))
                };
                let names = ["primaryThumbprint", "secondaryThumbprint"];
                Some(Value::Object(names.into_iter().filter_map(member).collect()))
            }
            Field::Capabilities(path) if path.is_empty() && !self.record.id.is_module() => {
                let member = (Key::from("iotEdge"), Value::Bool(self.record.identity.iot_edge));
                Some(Value::Object([member].into_iter().collect()))
            }
            Field::Configurations(path) => configurations_value(&self.record.configurations, path),
            _ => self.get(column).to_value(),
        }
    }
}

impl TwinRow<'_> {
    fn capabilities(&self, path: &[Key]) -> Datum<'static> {
        match path {
            _ if self.record.id.is_module() => Datum::Undefined,
            [] => Datum::Object,
            [name] if &**name == "iotEdge" => Datum::Bool(self.record.identity.iot_edge),
            _ => Datum::Undefined,
        }
    }
}

impl Presence {
    /// The wire's word.
    pub fn connection_state(self) -> &'static str {
        if self.connected {
            "Connected"
        } else {
            "Disconnected"
        }
    }
}

fn made(text: String) -> Datum<'static> {
    Datum::Text(Cow::Owned(text))
}

fn time(time: Timestamp) -> Datum<'static> {
    made(time.to_string())
}

fn count(value: u64) -> Datum<'static> {
    Datum::Number(Num::Int(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn text_or_null(text: Option<&str>) -> Datum<'_> {
    text.map_or(Datum::Null, Datum::text)
}

fn thumbprint<'a>(authentication: &'a Authentication, path: &[Key]) -> Datum<'a> {
    let (primary, secondary) = match authentication {
        Authentication::SelfSigned { primary, secondary } => (primary.as_ref(), secondary.as_ref()),
        _ => (None, None),
    };
    match path {
        [] => Datum::Object,
        [name] if &**name == "primaryThumbprint" => text_or_null(primary.map(Thumbprint::as_str)),
        [name] if &**name == "secondaryThumbprint" => text_or_null(secondary.map(Thumbprint::as_str)),
        _ => Datum::Undefined,
    }
}

/// The twin document leaves configurations out when there are none.
fn configurations<'a>(all: &'a [Assignment], path: &[Key]) -> Datum<'a> {
    match path {
        [] if all.is_empty() => Datum::Undefined,
        [] => Datum::Object,
        [id, rest @ ..] => match (assignment(all, id), rest) {
            (Some(_), []) => Datum::Object,
            (Some(found), [name]) if &**name == STATUS => Datum::text(found.state.name()),
            _ => Datum::Undefined,
        },
    }
}

/// Ids of configurations are in lower case, so another spelling can mean only one of them.
fn assignment<'a>(all: &'a [Assignment], id: &str) -> Option<&'a Assignment> {
    all.iter().find(|assignment| assignment.id.as_str().eq_ignore_ascii_case(id))
}

fn configurations_value(all: &[Assignment], path: &[Key]) -> Option<Value> {
    let one = |assignment: &Assignment| {
        let status = Value::String(assignment.state.name().into());
        Value::Object([(Key::from(STATUS), status)].into_iter().collect())
    };
    match path {
        [] if all.is_empty() => None,
        [] => {
            let members = all.iter().map(|assignment| (Key::from(assignment.id.as_str()), one(assignment)));
            Some(Value::Object(members.collect()))
        }
        [id] => assignment(all, id).map(one),
        path => configurations(all, path).to_value(),
    }
}

/// A member by its name: exactly, or else the only one that differs in ASCII case (query §4).
fn member<'a>(members: &'a [Member], name: &str) -> Option<&'a Member> {
    if let Some(member) = members.iter().find(|member| &*member.key == name) {
        return Some(member);
    }
    let mut similar = members.iter().filter(|member| member.key.eq_ignore_ascii_case(name));
    match (similar.next(), similar.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// What stands at a path: the section, a member of it, or nothing.
enum Spot<'a> {
    Section,
    Member(&'a Member),
    Nothing,
}

fn spot<'a>(section: &'a Section, path: &[Key]) -> Spot<'a> {
    let Some((last, parents)) = path.split_last() else { return Spot::Section };
    let mut members = section.members.as_slice();
    for name in parents {
        match member(members, name).map(|member| &member.node) {
            Some(Node::Object(inner)) => members = inner,
            _ => return Spot::Nothing,
        }
    }
    member(members, last).map_or(Spot::Nothing, Spot::Member)
}

fn stamp(section: &Section, path: &[Key]) -> Option<Stamp> {
    match spot(section, path) {
        Spot::Section => Some(section.stamp),
        Spot::Member(member) => Some(member.stamp),
        Spot::Nothing => None,
    }
}

fn at<'a>(section: &'a Section, kind: SectionKind, place: Place<'_>) -> Datum<'a> {
    match place {
        Place::Value(path) => match spot(section, path) {
            Spot::Section => Datum::Object,
            Spot::Member(member) => datum(&member.node),
            Spot::Nothing => Datum::Undefined,
        },
        Place::Version => count(section.version),
        Place::Metadata(path) => stamp(section, path).map_or(Datum::Undefined, |_| Datum::Object),
        Place::LastUpdated(path) => {
            stamp(section, path).map_or(Datum::Undefined, |stamp| time(stamp.updated))
        }
        // Only desired properties say in which version they changed (service §8.1).
        Place::LastUpdatedVersion(path) => match stamp(section, path) {
            Some(stamp) if kind == SectionKind::Desired && stamp.version > 0 => count(stamp.version),
            _ => Datum::Undefined,
        },
    }
}

fn datum(node: &Node) -> Datum<'_> {
    match node {
        Node::Bool(value) => Datum::Bool(*value),
        Node::Number(number) => Datum::Number(Num::from(number)),
        Node::String(text) => Datum::text(text),
        Node::Array(elements) => Datum::Array(Cow::Borrowed(elements)),
        Node::Object(_) => Datum::Object,
    }
}

/// A section as the service shows it.
fn whole(section: &Section, kind: SectionKind) -> Value {
    let mut text = Vec::new();
    section.write_for_service(kind, &mut text);
    Value::parse(&text).unwrap_or(Value::Null)
}

fn value_at(section: &Section, kind: SectionKind, place: Place<'_>) -> Option<Value> {
    match place {
        Place::Value([]) => Some(whole(section, kind)),
        Place::Value(path) => match spot(section, path) {
            Spot::Member(member) => Some(member.node.to_value()),
            Spot::Section | Spot::Nothing => None,
        },
        Place::Metadata(path) => Some(match spot(section, path) {
            Spot::Section => metadata(&section.members, section.stamp, kind),
            Spot::Member(member) => metadata(inner(member), member.stamp, kind),
            Spot::Nothing => return None,
        }),
        place => at(section, kind, place).to_value(),
    }
}

fn inner(member: &Member) -> &[Member] {
    match &member.node {
        Node::Object(inner) => inner,
        _ => &[],
    }
}

fn metadata(members: &[Member], stamp: Stamp, kind: SectionKind) -> Value {
    let time = (Key::from(LAST_UPDATED), Value::String(stamp.updated.to_string().into()));
    let version = (kind == SectionKind::Desired && stamp.version > 0).then(|| {
        let version = i64::try_from(stamp.version).unwrap_or(i64::MAX);
        (Key::from(LAST_UPDATED_VERSION), Value::Number(Number::from(version)))
    });
    let below = members.iter().map(|m| (m.key.clone(), metadata(inner(m), m.stamp, kind)));
    Value::Object(std::iter::once(time).chain(version).chain(below).collect())
}

/// A projected row of a record: see [`project_row`].
pub fn project(record: &Record, presence: Presence, items: &[Item]) -> Object {
    project_row(&TwinRow { record, presence }, items)
}

/// The row that a select list makes of a row: members in the order of the list, undefined values left out, the last
/// of two items with one name (query §8). Aggregates are not of one row and left out.
pub fn project_row<R: Row + ?Sized>(row: &R, items: &[Item]) -> Object {
    let mut object = Object::new();
    for item in items {
        if let What::Column(column) = &item.what {
            if let Some(value) = row.value(column) {
                object.insert(item.output_name(), value);
            }
        }
    }
    object
}
