//! Behaviour of twins.

use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_unix_secs(1_714_557_600);

fn object(text: &str) -> Object {
    Object::parse(text.as_bytes()).unwrap()
}

fn section(text: &str) -> Section {
    Section::default().merge(SectionKind::Reported, &object(text), NOW).unwrap()
}

fn values(section: &Section) -> String {
    let mut out = Vec::new();
    section.write_for_service(SectionKind::Tags, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn merging() {
    let check = |base: &str, patch: &str, expected: &str| {
        let merged = section(base).merge(SectionKind::Reported, &object(patch), NOW).unwrap();
        assert_eq!((values(&merged).as_str(), merged.version), (expected, 3), "{base} + {patch}");
    };
    check(
        r#"{"a":{"x":1,"y":2},"b":3}"#,
        r#"{"a":{"y":null,"z":5},"b":{"c":1}}"#,
        r#"{"a":{"x":1,"z":5},"b":{"c":1}}"#,
    );
    check(r#"{"a":1}"#, r#"{"a":null,"b":null}"#, "{}");
    check(r#"{"a":{"b":1}}"#, r#"{"a":{"b":null}}"#, r#"{"a":{}}"#);
    check(r#"{"a":[1,2]}"#, r#"{"a":[3]}"#, r#"{"a":[3]}"#);
    check(r#"{"a":{"b":1}}"#, r#"{"a":7}"#, r#"{"a":7}"#);
    check("{}", r#"{"a":{"b":null,"c":{"d":null}}}"#, r#"{"a":{"c":{}}}"#);
    check(
        r#"{"z":1,"a":2}"#,
        r#"{"m":1.50,"z":9007199254740.25}"#,
        r#"{"z":9007199254740.25,"a":2,"m":1.50}"#,
    );
    check("{}", r#"{"$version":9,"$metadata":{"x":{}},"a":1}"#, r#"{"a":1}"#);
    check(r#"{"a":1}"#, "{}", r#"{"a":1}"#);
}

#[test]
fn merging_many_members_keeps_their_order() {
    let text = |from: usize, to: usize, value: &str| {
        (from..to).map(|i| format!(r#""k{i}":{value}"#)).collect::<Vec<_>>().join(",")
    };
    let base = section(&format!("{{{}}}", text(0, 100, "1")));
    let patch =
        object(&format!("{{{},{},{}}}", text(90, 110, "2"), text(10, 20, "null"), text(200, 210, "null")));
    let merged = base.merge(SectionKind::Reported, &patch, NOW).unwrap();
    let expected = [text(0, 10, "1"), text(20, 90, "1"), text(90, 110, "2")].join(",");
    assert_eq!(values(&merged), format!("{{{expected}}}"));
}

#[test]
fn refusals() {
    let check = |patch: &str, expected: &str| {
        let error = Section::default().merge(SectionKind::Tags, &object(patch), NOW).unwrap_err();
        assert!(error.to_string().contains(expected), "{patch}: {error}");
    };
    check(r#"{"a.b":1}"#, "contains '.'");
    check(r#"{"a":{"$x":1}}"#, r#""a.$x" contains '$'"#);
    check(r#"{"a":{"$version":1}}"#, "contains '$'");
    check(r#"{"a b":1}"#, "space");
    check(r#"{"a\u0085b":1}"#, "control");
    check(&format!(r#"{{"{}":1}}"#, "k".repeat(1025)), "1024 bytes");
    check(&format!(r#"{{"a":"{}"}}"#, "x".repeat(4097)), "4096 bytes");
    check(r#"{"a":4503599627370496}"#, "integer outside");
    check(r#"{"a":-4503599627370497}"#, "integer outside");
    check(r#"{"a":99999999999999999999}"#, "integer outside");
    check(r#"{"a":1e999}"#, "double");
    check(r#"{"a":[1,null]}"#, "null inside an array");
    check(&format!(r#"{{"a":{}1{}}}"#, r#"{"o":"#.repeat(11), "}".repeat(11)), "10 levels");
    check(&format!(r#"{{"a":{}1{}}}"#, "[".repeat(11), "]".repeat(11)), "10 levels");
    let big: Vec<String> = (0..3).map(|i| format!(r#""k{i}":"{}""#, "x".repeat(3000))).collect();
    check(&format!("{{{}}}", big.join(",")), "tags would have 9006 bytes, the limit is 8192");
    for fine in [r#"{"a":4503599627370495,"b":-4503599627370496}"#, &{
        format!(r#"{{"a":{}1{}}}"#, r#"{"o":"#.repeat(10), "}".repeat(10))
    }] {
        assert!(Section::default().merge(SectionKind::Tags, &object(fine), NOW).is_ok(), "{fine}");
    }
}

#[test]
fn sizes() {
    let check = |text: &str, size: usize| assert_eq!(section(text).size(), size, "{text}");
    check("{}", 0);
    check(r#"{"ab":true,"c":1.5}"#, 2 + 4 + 1 + 8);
    check(r#"{"é":"a\u0001b"}"#, 2 + 2);
    check(r#"{"a":[1,"xyz",{"b":false}],"o":{"p":"q"}}"#, 1 + 8 + 3 + 1 + 4 + 1 + 1 + 1);
}

#[test]
fn service_form() {
    let later = NOW.plus_secs(1);
    let desired = Section::default()
        .merge(SectionKind::Desired, &object(r#"{"interval":30,"mode":{"eco":true}}"#), NOW)
        .unwrap()
        .merge(SectionKind::Desired, &object(r#"{"mode":{"night":1}}"#), later)
        .unwrap();
    let mut out = Vec::new();
    desired.write_for_service(SectionKind::Desired, &mut out);
    insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"{"interval":30,"mode":{"eco":true,"night":1},"$metadata":{"$lastUpdated":"2024-05-01T10:00:01.0000000Z","$lastUpdatedVersion":3,"interval":{"$lastUpdated":"2024-05-01T10:00:00.0000000Z","$lastUpdatedVersion":2},"mode":{"$lastUpdated":"2024-05-01T10:00:01.0000000Z","$lastUpdatedVersion":3,"eco":{"$lastUpdated":"2024-05-01T10:00:00.0000000Z","$lastUpdatedVersion":2},"night":{"$lastUpdated":"2024-05-01T10:00:01.0000000Z","$lastUpdatedVersion":3}}},"$version":3}"#);
    let mut out = Vec::new();
    Section::default().write_for_service(SectionKind::Reported, &mut out);
    insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"{"$metadata":{"$lastUpdated":"0001-01-01T00:00:00Z"},"$version":1}"#);
}

#[test]
fn counters() {
    let twin = Twin::default();
    assert_eq!((twin.version, twin.etag, twin.desired.version, twin.reported.version), (2, 1, 1, 1));
    let tags = TwinPatch { tags: Some(SectionPatch::Merge(object(r#"{"site":"A"}"#))), desired: None };
    let (twin, told) = twin.patch(&tags, NOW).unwrap();
    assert_eq!((twin.version, twin.etag, twin.desired.version, told), (3, 2, 1, None));
    let same = TwinPatch { tags: None, desired: Some(SectionPatch::Merge(object(r#"{"a":1}"#))) };
    let (twin, _) = twin.patch(&same, NOW).unwrap();
    let (twin, told) = twin.patch(&same, NOW).unwrap();
    assert_eq!((twin.version, twin.etag, twin.desired.version), (5, 4, 3));
    assert_eq!(told, Some(DesiredChange { patch: object(r#"{"a":1}"#), version: 3 }));
    let twin = twin.report(&object(r#"{"fw":"1"}"#), NOW).unwrap();
    assert_eq!((twin.version, twin.etag, twin.reported.version), (6, 4, 2));
    let (same, told) = twin.clone().patch(&TwinPatch::default(), NOW).unwrap();
    assert_eq!((same, told), (twin, None));
}

#[test]
fn replacement_tells_removals() {
    let patch =
        TwinPatch { tags: None, desired: Some(SectionPatch::Merge(object(r#"{"a":1,"o":{"x":1,"y":2}}"#))) };
    let (twin, _) = Twin::default().patch(&patch, NOW).unwrap();
    let content = TwinContent { tags: None, desired: Some(object(r#"{"o":{"y":3},"n":null}"#)) };
    let (replaced, told) = twin.clone().replace(&content, NOW).unwrap();
    assert_eq!(values(&replaced.desired), r#"{"o":{"y":3}}"#);
    assert_eq!(told.unwrap().patch, object(r#"{"o":{"y":3,"x":null},"a":null}"#));
    let (cleared, told) = twin.replace(&TwinContent::default(), NOW).unwrap();
    assert_eq!(values(&cleared.desired), "{}");
    assert_eq!(told.unwrap().patch, object(r#"{"a":null,"o":null}"#));
}

/// Patches over a small set of keys, so that they meet.
fn any_patch() -> impl Strategy<Value = Object> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-1000i64..1000).prop_map(|n| Value::Number(n.into())),
        "[a-z]{0,4}".prop_map(|text| Value::String(text.into())),
        Just(Value::Array(vec![Value::Bool(true)])),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop::collection::vec(("[a-d]", inner), 0..4)
            .prop_map(|members| Value::Object(members.into_iter().map(|(k, v)| (k.into(), v)).collect()))
    });
    prop::collection::vec(("[a-d]", value), 0..5)
        .prop_map(|members| members.into_iter().map(|(k, v)| (k.into(), v)).collect())
}

/// The rule of device §5.2 in its plainest form, over bare JSON.
fn reference_merge(base: &Object, patch: &Object) -> Object {
    let mut merged = base.clone();
    for (key, value) in patch.iter() {
        match value {
            Value::Null => merged = merged.into_iter().filter(|(k, _)| k != key).collect(),
            Value::Object(inner) => {
                let below = merged.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
                merged.insert(key.clone(), Value::Object(reference_merge(&below, inner)));
            }
            other => merged.insert(key.clone(), other.clone()),
        }
    }
    merged
}

fn plain(section: &Section) -> Object {
    section.members.iter().map(|m| (m.key.clone(), m.node.to_value())).collect()
}

/// The same object with its keys sorted at every level: a patch may reorder keys.
fn canonical(object: Object) -> Object {
    let mut members: Vec<(Key, Value)> = object
        .into_iter()
        .map(|(key, value)| match value {
            Value::Object(inner) => (key, Value::Object(canonical(inner))),
            other => (key, other),
        })
        .collect();
    members.sort_by(|a, b| a.0.cmp(&b.0));
    members.into_iter().collect()
}

proptest! {
    #[test]
    fn merge_agrees_with_the_reference(patches in prop::collection::vec(any_patch(), 1..6)) {
        let mut merged = Section::default();
        let mut reference = Object::new();
        for patch in &patches {
            merged = merged.merge(SectionKind::Reported, patch, NOW).unwrap();
            reference = reference_merge(&reference, patch);
            prop_assert_eq!(plain(&merged), reference.clone());
        }
    }

    #[test]
    fn a_replacement_told_as_patch_reaches_the_same_state(old in any_patch(), new in any_patch()) {
        let old = Section::default().merge(SectionKind::Desired, &old, NOW).unwrap();
        let new = old.clone().replace(SectionKind::Desired, &new, NOW).unwrap();
        let patched = old.clone().merge(SectionKind::Desired, &new.as_patch_over(&old), NOW).unwrap();
        prop_assert_eq!(canonical(plain(&patched)), canonical(plain(&new)));
    }
}
