//! The record format: whatever goes in comes out, whatever is damaged is noticed, and what an older
//! version wrote stays readable.

use super::header::{self, Head};
use super::locate::{self, PathFinder};
use super::shapes::Shapes;
use super::{decode, decode_reported, encode, sections, EncodedReported};
use crate::contract::{at, record, rich_record};
use ostler_core::configuration::{Applied, Assignment, ConfigurationId, State};
use ostler_core::id::EntityId;
use ostler_core::identity::{Authentication, Identity, Status, SymmetricKey, Thumbprint};
use ostler_core::json::{Key, Number, Object, Value};
use ostler_core::query::{Datum, Num};
use ostler_core::record::{Activity, Record, Subscriptions};
use ostler_core::time::Timestamp;
use ostler_core::twin::{Member, Node, Section, Stamp, Twin};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn stored(record: &Record, shapes: &Shapes) -> Vec<u8> {
    let mut bytes = encode(record, shapes);
    header::seal(&mut bytes, record.revision);
    bytes
}

fn read(bytes: &[u8], shapes: &Shapes) -> Record {
    Head::parse(bytes).unwrap();
    decode(bytes, &shapes.read()).unwrap()
}

#[test]
fn a_twin_of_a_fleet_is_small() {
    let shapes = Shapes::default();
    let rich = rich_record("device-0000001");
    let bytes = stored(&rich, &shapes);
    assert!(bytes.len() < 400, "{} bytes", bytes.len());
    let bare = stored(&record("d"), &shapes);
    assert!(bare.len() < 170, "{} bytes", bare.len());
}

#[test]
fn numbers_keep_their_text() {
    let texts = [
        "0",
        "-0",
        "-0.0",
        "0.0",
        "63",
        "64",
        "-1",
        "1.50",
        "-12.050",
        "0.000000000000001",
        "1e5",
        "1E+05",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "0.1234567890123456789",
        "922337203685477580.7",
        "9223372036854775807.5",
        "-0.5",
        "10.0",
        "100000000000000000000.01",
    ];
    let list = format!(r#"{{"list":[{}]}}"#, texts.join(","));
    let mut record = record("d");
    record.twin = record.twin.report(&Object::parse(list.as_bytes()).unwrap(), at(1)).unwrap_or_default();
    // Some of these are beyond the limits of a twin, which is not the format's business.
    let numbers = texts.map(|text| Value::Number(Number::parse(text).unwrap())).to_vec();
    let stamp = Stamp { updated: at(1), version: 2 };
    record.twin.reported.members = vec![Member { key: "list".into(), stamp, node: Node::Array(numbers) }];
    let shapes = Shapes::default();
    let back = read(&stored(&record, &shapes), &shapes);
    let Some(Node::Array(numbers)) = back.twin.reported.get(&["list"]) else { panic!("it is a list") };
    let back: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    assert_eq!(back, texts);
}

#[test]
fn beyond_the_bounds_keys_are_stored_in_the_record() {
    let shapes = Shapes::default();
    let mut record = record("d");
    let stamp = Stamp { updated: at(1), version: 2 };
    let member = |n| Member { key: format!("key-{n}").into(), stamp, node: Node::Bool(true) };
    record.twin.tags.members = (0..1000).map(member).collect();
    let bytes = stored(&record, &shapes);
    assert_eq!(read(&bytes, &shapes), record);
    // Only the empty sections share a shape.
    assert_eq!(shapes.entries().len(), 1);
}

/// What version 0.1 wrote. If this fails, the format changed: give it a new number and keep reading
/// this one.
#[test]
fn format_1_stays_readable() {
    let mut expected = rich_record("device-1/module-1");
    expected.revision = 77;
    let golden = include_str!("golden-1.txt");
    let mut lines = golden.lines().filter(|line| !line.starts_with('#'));
    let shapes = Shapes::default();
    let record = from_hex(lines.next().unwrap());
    for (line, number) in lines.zip(0..) {
        shapes.load(number, &from_hex(line)).unwrap();
    }
    assert_eq!(read(&record, &shapes), expected);
    // Writing it again gives the same bytes: readers of other versions depend on them.
    assert_eq!(to_hex(&stored(&expected, &shapes)), to_hex(&record));
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn numbers() -> impl Strategy<Value = Number> {
    let text = "-?(0|[1-9][0-9]{0,18})(\\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?";
    prop_oneof![
        text.prop_map(|text| Number::parse(&text).unwrap()),
        any::<i64>().prop_map(Number::from),
        (0..100i64).prop_map(Number::from),
    ]
}

fn texts() -> impl Strategy<Value = Box<str>> {
    prop_oneof![".{0,20}", "[a-z]{120,140}"].prop_map(Into::into)
}

fn keys() -> impl Strategy<Value = Key> {
    prop_oneof!["[abc]", ".{1,8}"].prop_map(Into::into)
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        numbers().prop_map(Value::Number),
        texts().prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec((keys(), inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn stamps() -> impl Strategy<Value = Stamp> {
    let times = prop_oneof![
        Just(Timestamp::NEVER),
        (0..5i64).prop_map(at),
        any::<i64>().prop_map(Timestamp::from_ticks)
    ];
    (times, prop_oneof![0..4u64, any::<u64>()]).prop_map(|(updated, version)| Stamp { updated, version })
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Node::Bool),
        numbers().prop_map(Node::Number),
        texts().prop_map(Node::String),
        vec(values(), 0..3).prop_map(Node::Array),
    ];
    let node = leaf.prop_recursive(4, 24, 5, |inner| {
        vec((keys(), stamps(), inner), 0..5).prop_map(|members| {
            Node::Object(members.into_iter().map(|(key, stamp, node)| Member { key, stamp, node }).collect())
        })
    });
    vec((keys(), stamps(), node), 0..5).prop_map(|members| {
        members.into_iter().map(|(key, stamp, node)| Member { key, stamp, node }).collect()
    })
}

fn any_sections() -> impl Strategy<Value = Section> {
    let version = prop_oneof![0..9u64, any::<u64>()];
    (version, stamps(), members()).prop_map(|(version, stamp, members)| Section { version, stamp, members })
}

fn identities() -> impl Strategy<Value = Identity> {
    let key = || vec(any::<u8>(), 16..=64).prop_map(|bytes| SymmetricKey::new(&bytes).unwrap());
    let thumbprint = || option::of(prop_oneof!["[0-9a-fA-F]{40}", "[0-9a-fA-F]{64}"]);
    let thumbprint = move || thumbprint().prop_map(|text| text.map(|text| Thumbprint::parse(&text).unwrap()));
    let authentication = prop_oneof![
        (key(), key()).prop_map(|(primary, secondary)| Authentication::Sas { primary, secondary }),
        (thumbprint(), thumbprint())
            .prop_map(|(primary, secondary)| Authentication::SelfSigned { primary, secondary }),
        Just(Authentication::CertificateAuthority),
        Just(Authentication::None),
    ];
    let numbers = (any::<u64>(), any::<u64>(), any::<i64>(), any::<bool>(), any::<bool>());
    let texts = (option::of(texts()), option::of(texts()), vec(texts(), 0..3), option::of(texts()));
    (numbers, authentication, texts).prop_map(
        |((generation_id, etag, updated, disabled, iot_edge), authentication, texts)| {
            let (status_reason, device_scope, parent_scopes, managed_by) = texts;
            Identity {
                generation_id,
                etag,
                status: if disabled { Status::Disabled } else { Status::Enabled },
                status_reason,
                status_updated: Timestamp::from_ticks(updated),
                authentication,
                iot_edge,
                device_scope,
                parent_scopes,
                managed_by,
            }
        },
    )
}

fn assignments() -> impl Strategy<Value = Vec<Assignment>> {
    let paths = vec(vec(keys(), 1..4).prop_map(Into::into), 0..3);
    let state =
        prop_oneof![Just(State::Targeted), paths.prop_map(|paths| State::Applied(Applied { paths })),];
    let assignment = ("[a-z0-9+%_*!'-]{1,128}", state)
        .prop_map(|(id, state)| Assignment { id: ConfigurationId::new(&id).unwrap(), state });
    prop_oneof![Just(Vec::new()), vec(assignment, 0..4)]
}

fn records() -> impl Strategy<Value = Record> {
    let id = "[a-zA-Z0-9:.+%_#*?!(),=@;$'-]{1,128}(/[a-z]{1,128})?";
    let twin =
        (any::<u64>(), any::<u64>(), option::of(texts()), any_sections(), any_sections(), any_sections());
    let twin = twin.prop_map(|(version, etag, model_id, tags, desired, reported)| Twin {
        version,
        etag,
        model_id,
        tags,
        desired,
        reported,
    });
    (id, any::<u64>(), identities(), any::<[i64; 2]>(), any::<u16>(), assignments(), twin).prop_map(
        |(id, revision, identity, times, subscriptions, configurations, twin)| Record {
            id: EntityId::parse(&id).unwrap(),
            revision,
            identity,
            activity: Activity {
                connection_updated: Timestamp::from_ticks(times[0]),
                last_activity: Timestamp::from_ticks(times[1]),
            },
            subscriptions: Subscriptions::from_bits(subscriptions),
            configurations,
            twin,
        },
    )
}

/// Every path of a section that leads to its first member of that name, with what is there.
fn paths<'a>(members: &'a [Member], above: &[Key], found: &mut Vec<(Vec<Key>, &'a Node)>) {
    for (place, member) in members.iter().enumerate() {
        if members[..place].iter().any(|earlier| earlier.key == member.key) {
            continue;
        }
        let path: Vec<Key> = above.iter().chain([&member.key]).cloned().collect();
        if let Node::Object(inner) = &member.node {
            paths(inner, &path, found);
        }
        found.push((path, &member.node));
    }
}

fn seen(node: &Node) -> Datum<'_> {
    match node {
        Node::Bool(value) => Datum::Bool(*value),
        Node::Number(number) => Datum::Number(Num::from(number)),
        Node::String(text) => Datum::text(text),
        Node::Array(elements) => Datum::Array(elements.as_slice().into()),
        Node::Object(_) => Datum::Object,
    }
}

proptest! {
    /// What is found in the bytes is what decoding gives, and its bytes alone tell the same.
    #[test]
    fn every_value_is_found_where_it_is(record in records()) {
        let shapes = Shapes::default();
        let bytes = stored(&record, &shapes);
        let shapes = shapes.read();
        let all = [&record.twin.tags, &record.twin.desired, &record.twin.reported];
        for (section, bytes) in all.into_iter().zip(sections(&bytes).unwrap()) {
            prop_assert_eq!(locate::version(bytes).unwrap(), section.version);
            let mut found = Vec::new();
            paths(&section.members, &[], &mut found);
            for (path, node) in found {
                let value = PathFinder::new(&path).find(bytes, &shapes).unwrap().unwrap();
                prop_assert_eq!(locate::datum(value, &shapes).unwrap(), seen(node), "{:?}", &path);
                let own = locate::value_bytes(value, &shapes).unwrap();
                prop_assert_eq!(locate::datum(own, &shapes).unwrap(), seen(node));
                let below: Vec<Key> = path.iter().cloned().chain(["no such name".into()]).collect();
                prop_assert_eq!(PathFinder::new(&below).find(bytes, &shapes).unwrap(), None);
            }
        }
    }

    #[test]
    fn records_come_back_as_they_went_in(records in vec(records(), 1..4)) {
        let shapes = Shapes::default();
        let stored: Vec<_> = records.iter().map(|record| stored(record, &shapes)).collect();
        // The shapes as another process would load them.
        let loaded = Shapes::default();
        for (number, bytes) in shapes.entries() {
            loaded.load(number, &bytes).unwrap();
        }
        for (record, bytes) in records.iter().zip(&stored) {
            prop_assert_eq!(&read(bytes, &loaded), record);
            let reported = decode_reported(bytes, &loaded.read()).unwrap();
            prop_assert_eq!((&reported.section, reported.twin_version), (&record.twin.reported, record.twin.version));
            let mut again = EncodedReported::new(&reported, &loaded).replace_in(bytes).unwrap();
            header::seal(&mut again, record.revision);
            prop_assert_eq!(&again, bytes);
        }
    }

    /// Bytes whose checksum somebody made right.
    #[test]
    fn forged_bytes_end_in_a_record_or_damage(record in records(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8), end: prop::sample::Index) {
        let shapes = Shapes::default();
        let mut bytes = stored(&record, &shapes);
        let body = bytes.len() - Head::parse(&bytes).unwrap().body().len();
        bytes.truncate(body + end.index(bytes.len() - body + 1));
        for (place, value) in changes {
            if bytes.len() > body {
                let place = body + place.index(bytes.len() - body);
                bytes[place] = value;
            }
        }
        header::seal(&mut bytes, 1);
        let _ = decode(&bytes, &shapes.read());
        if let Some(parts) = sections(&bytes) {
            for part in parts {
                for path in [&["a".into()][..], &["b".into(), "a".into()]] {
                    if let Ok(Some(value)) = PathFinder::new(path).find(part, &shapes.read()) {
                        let _ = locate::datum(value, &shapes.read());
                        let _ = locate::value_bytes(value, &shapes.read());
                    }
                }
            }
        }
        let reported = decode_reported(&bytes, &shapes.read());
        if let Ok(reported) = reported {
            let _ = EncodedReported::new(&reported, &shapes).replace_in(&bytes);
        }
    }
}
