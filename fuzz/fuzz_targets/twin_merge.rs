//! Twin patches against a model of the merge that is written in the plainest way.
//!
//! The input is a list of JSON documents with a zero byte between them, applied one after the other.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_core::json::{Key, Object, Value};
use ostler_core::time::Timestamp;
use ostler_core::twin::{Member, Node, Section, SectionKind};

const LIMIT: usize = 32 * 1024;

fuzz_target!(|data: &[u8]| {
    let mut section = Section::default();
    for (step, document) in data.split(|&byte| byte == 0).take(16).enumerate() {
        let Ok(patch) = Object::parse(document) else { continue };
        let now = Timestamp::from_unix_secs(step as i64);
        section = match section.clone().merge(SectionKind::Reported, &patch, now) {
            Ok(merged) => {
                check(&section, &patch, &merged, now);
                merged
            }
            Err(_) => section,
        };
        if let Ok(replaced) = section.clone().replace(SectionKind::Desired, &patch, now) {
            let mut expected = Object::new();
            merge(&mut expected, &own(&patch));
            assert_eq!(values(&replaced), sorted(&expected));
            check_patch_over(&section, &replaced, now);
        }
    }
});

fn check(before: &Section, patch: &Object, after: &Section, now: Timestamp) {
    let mut expected = object(before);
    merge(&mut expected, &own(patch));
    assert_eq!(values(after), sorted(&expected));
    assert_eq!(after.version, before.version + 1);
    assert_eq!(after.stamp.updated, now);
    assert!(after.size() <= LIMIT);
    assert!(newest(&after.members) <= after.version);

    let again =
        after.clone().merge(SectionKind::Reported, patch, now).expect("what was merged can be merged again");
    assert_eq!(values(&again), values(after), "merging twice is merging once");
    check_patch_over(before, after, now);

    let mut text = Vec::new();
    after.write_values(&mut text);
    let read = Object::parse(&text).expect("a section is JSON");
    assert_eq!(sorted(&own(&read)), values(after));
    assert_eq!(read.get("$version").and_then(Value::as_i64), Some(after.version as i64));
    let mut text = Vec::new();
    after.write_for_service(SectionKind::Reported, &mut text);
    assert_eq!(sorted(&own(&Object::parse(&text).expect("a section is JSON"))), values(after));
}

/// A client that merges the difference ends where the hub is.
fn check_patch_over(old: &Section, new: &Section, now: Timestamp) {
    let patch = new.as_patch_over(old);
    if let Ok(merged) = old.clone().merge(SectionKind::Reported, &patch, now) {
        assert_eq!(values(&merged), values(new));
    }
}

/// The patch without what belongs to the hub.
fn own(patch: &Object) -> Object {
    let ours = |key: &Key| !matches!(&**key, "$version" | "$metadata");
    patch.iter().filter(|(key, _)| ours(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn merge(target: &mut Object, patch: &Object) {
    for (key, value) in patch.iter() {
        match value {
            Value::Null => {
                *target = target
                    .iter()
                    .filter(|(name, _)| *name != key)
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect();
            }
            Value::Object(inner) => {
                let mut merged = match target.get(key) {
                    Some(Value::Object(existing)) => existing.clone(),
                    _ => Object::new(),
                };
                merge(&mut merged, inner);
                target.insert(key.clone(), Value::Object(merged));
            }
            other => target.insert(key.clone(), other.clone()),
        }
    }
}

fn object(section: &Section) -> Object {
    section.members.iter().map(|member| (member.key.clone(), member.node.to_value())).collect()
}

fn values(section: &Section) -> Value {
    sorted(&object(section))
}

/// Objects with their members in the order of their names: the order is kept, but it is not part of the
/// merge.
fn sorted(object: &Object) -> Value {
    let mut members: Vec<_> = object
        .iter()
        .map(|(key, value)| {
            assert!(!value.is_null(), "null is not stored");
            let value = value.as_object().map_or_else(|| value.clone(), sorted);
            (key.clone(), value)
        })
        .collect();
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    Value::Object(members.into_iter().collect())
}

fn newest(members: &[Member]) -> u64 {
    let inner = |member: &Member| match &member.node {
        Node::Object(members) => newest(members),
        _ => 0,
    };
    members.iter().map(|member| member.stamp.version.max(inner(member))).max().unwrap_or(0)
}
