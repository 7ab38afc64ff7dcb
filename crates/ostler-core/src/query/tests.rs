//! Reading, printing and judging, through the public door.

use super::*;
use crate::id::EntityId;
use crate::identity::{FreshSecrets, Identity, IdentitySpec};
use crate::json::{Object, Value};
use crate::record::Record;
use crate::time::Timestamp;
use crate::twin::{SectionPatch, Twin, TwinPatch};

const NOW: Timestamp = Timestamp::from_unix_secs(1_714_557_600);

fn record(id: &str, tags: &str, desired: &str, reported: &str) -> Record {
    let fresh = FreshSecrets { primary: [1; 32], secondary: [2; 32], etag_start: 7 };
    let identity = Identity::create(IdentitySpec::default(), &fresh, NOW).unwrap();
    let object = |text: &str| Object::parse(text.as_bytes()).unwrap();
    let patch = TwinPatch {
        tags: Some(SectionPatch::Merge(object(tags))),
        desired: Some(SectionPatch::Merge(object(desired))),
    };
    let (twin, _) = Twin::default().patch(&patch, NOW).unwrap();
    let twin = twin.report(&object(reported), NOW).unwrap();
    Record { twin, ..Record::new(EntityId::parse(id).unwrap(), identity) }
}

fn truth(condition: &str) -> Option<bool> {
    let record = record(
        "pump-01",
        r#"{"site":"Oslo","Floor":3,"critical":true,"labels":["wet",2],"sub":{"a":1,"A":2,"Only":5,"Key":1,"KEY":2}}"#,
        r#"{"interval":30}"#,
        r#"{"temp":71.5,"big":4503599627370495,"fw":{"ver":"1.10.0"}}"#,
    );
    let row = TwinRow { record: &record, presence: Presence::default() };
    let expr = Condition::parse(condition, Dialect::Extended).unwrap_or_else(|error| panic!("{error}")).0;
    expr.expect("an expression").truth(&row)
}

#[test]
fn three_values() {
    let check =
        |condition: &str, expected: Option<bool>| assert_eq!(truth(condition), expected, "{condition}");
    check("tags.site = 'Oslo'", Some(true));
    check("tags.site = 'oslo'", Some(false));
    check("tags.site = 2", None);
    check("tags.nowhere != 2", None);
    check("NOT tags.nowhere", None);
    check("tags.nowhere = 1 OR true", Some(true));
    check("tags.nowhere = 1 AND false", Some(false));
    check("null = null", Some(true));
    check("null < null", Some(false));
    check("null <= null", Some(true));
    check("null = undefined", None);
    check("false < true", Some(true));
    check("tags.sub = tags.sub", None);
    check("tags.labels = tags.labels", None);
    check("tags.site", None);
    check("(1 = 1) = true", Some(true));
    check("tags.site IN []", Some(false));
    check("tags.site NIN []", Some(true));
    check("tags.nowhere IN []", None);
    check("tags.site IN ['Bergen', 2]", None);
    check("tags.site NOT IN ['Bergen', 'Oslo']", Some(false));
    check("NOT tags.site IN ['Bergen']", Some(true));
}

#[test]
fn names_match_exactly_first() {
    let check =
        |condition: &str, expected: Option<bool>| assert_eq!(truth(condition), expected, "{condition}");
    check("tags.floor = 3", Some(true));
    check("tags.sub.a = 1", Some(true));
    check("tags.sub.A = 2", Some(true));
    check("TAGS.SUB.only = 5", Some(true));
    check("IS_DEFINED(tags.sub.key)", Some(false));
    check("PROPERTIES.Reported.FW.ver = '1.10.0'", Some(true));
    check("properties.desired.$VERSION = 2", Some(true));
    check("properties.desired.$metadata.interval.$lastUpdatedVersion = 2", Some(true));
    check("IS_DEFINED(properties.reported.$metadata.temp.$lastUpdatedVersion)", Some(false));
    check("properties.reported.$metadata.fw.ver.$lastUpdated >= '2024-05-01T10:00:00.0000000Z'", Some(true));
    check("IS_OBJECT(properties.reported.$metadata.temp)", Some(true));
}

#[test]
fn arithmetic_and_functions() {
    let check =
        |condition: &str, expected: Option<bool>| assert_eq!(truth(condition), expected, "{condition}");
    check("1 + 2 * 3 = 7", Some(true));
    check("(1 + 2) * 3 = 9", Some(true));
    check("7 % 4 - -1 = 4", Some(true));
    check("5 / 2 = 2.5", Some(true));
    check("6 / 2 = 3", Some(true));
    check("1 / 0 = 1", None);
    check("1 % 0 = 1", None);
    check("9223372036854775807 + 1 > 9223372036854775807", Some(true));
    check("-9223372036854775808 % -1 = 0", Some(true));
    check("'a' + 'b' = 'ab'", None);
    check("properties.reported.big + 1 = 4503599627370496", Some(true));
    check(
        "STARTSWITH(tags.site, 'Os') AND ends_with(tags.site, 'lo') AND CONTAINS(tags.site, 'sl')",
        Some(true),
    );
    check("STARTSWITH(tags.floor, '3')", None);
    check("ARRAY_CONTAINS(tags.labels, 'wet') AND arraycontains([null], null)", Some(true));
    check("ARRAY_CONTAINS(tags.labels, 'dry')", Some(false));
    check("ARRAY_CONTAINS(['Oslo', 'Bergen'], tags.site)", Some(true));
    check("LOWER(tags.site) = 'oslo' AND UPPER(tags.site) = 'OSLO'", Some(true));
    check("LENGTH('größe') = 5 AND INDEX_OF('größe', 'ß') = 3 AND INDEX_OF('a', 'b') = -1", Some(true));
    check("SUBSTRING('größe', 2, 2) = 'öß' AND SUBSTRING('ab', 5) = ''", Some(true));
    check("SUBSTRING('ab', -1) = ''", None);
    check("CONCAT(tags.site, '-', 'x') = 'Oslo-x' AND CONCAT('x') = 'x'", Some(true));
    check("AS_NUMBER(' 2.50 ') = 2.5 AND AS_NUMBER(2) = 2", Some(true));
    check("IS_DEFINED(AS_NUMBER('2x'))", Some(false));
    check("ABS(-2) = 2 AND SQUARE(3) = 9 AND SQRT(9) = 3 AND POWER(2, 10) = 1024", Some(true));
    check("CEILING(1.2) = 2 AND FLOOR(-1.2) = -2 AND SIGN(-3) = -1 AND EXP(0) = 1", Some(true));
    check("IS_DEFINED(SQRT(-1))", Some(false));
    check("IS_NULL(null) AND IS_BOOL(true) AND IS_NUMBER(1) AND IS_STRING('') AND IS_ARRAY([])", Some(true));
    check("IS_OBJECT(tags.sub) AND IS_PRIMITIVE(null) AND NOT IS_PRIMITIVE(undefined)", Some(true));
    check("tags.site LIKE 'O%' AND tags.site NOT LIKE '%x%'", Some(true));
    check("tags.floor LIKE '3'", None);
}

fn print(text: &str) -> String {
    let query = Query::parse(text, Dialect::Extended).unwrap_or_else(|error| panic!("{text}: {error}"));
    let printed = query.to_string();
    assert_eq!(Query::parse(&printed, Dialect::Extended), Ok(query), "{printed}");
    printed
}

#[test]
fn prints() {
    let check = |text: &str, expected: &str| assert_eq!(print(text), expected);
    check("select * from DEVICES", "SELECT * FROM devices");
    check(
        "explain SELECT top 5 DEVICEID x, tags.[[group]] FROM devices.modules WHERE devices.modules.moduleId='ui'",
        "EXPLAIN SELECT TOP 5 deviceId AS x, tags.[[group]] FROM devices.modules WHERE moduleId = 'ui'",
    );
    check(
        "SELECT COUNT(*) as count, SUM(tags.[[a b]]) FROM devices GROUP BY tags.x ORDER BY tags.x DESC LIMIT 3 OFFSET 1",
        "SELECT COUNT() AS [[count]], SUM(tags.[[a b]]) FROM devices GROUP BY tags.x ORDER BY tags.x DESC LIMIT 3 OFFSET 1",
    );
    check(
        "SELECT * FROM devices WHERE (a OR b) AND NOT (c AND d) OR -(5) < -5 - (1 - 2)",
        "SELECT * FROM devices WHERE (a OR b) AND NOT (c AND d) OR -(5) < -5 - (1 - 2)",
    );
    check(
        "SELECT * FROM devices WHERE x not in ['it''s', 0x1F, -1.50]",
        r"SELECT * FROM devices WHERE x NIN ['it\'s', 31, -1.5]",
    );
}

fn gathered(text: &str, records: &[Record]) -> String {
    let query = Query::parse(text, Dialect::Extended).unwrap_or_else(|error| panic!("{error}"));
    let row = |record| TwinRow { record, presence: Presence::default() };
    let mut whole = Groups::new(&query);
    for record in records {
        whole.add(&row(record)).unwrap();
    }
    // Divided and merged the wrong way round it must give the same.
    let (left, right) = records.split_at(records.len() / 2);
    let mut merged = Groups::new(&query);
    for half in [right, left] {
        let mut part = Groups::new(&query);
        for record in half {
            part.add(&row(record)).unwrap();
        }
        merged.merge(part).unwrap();
    }
    let text = |groups: &Groups| {
        groups.rows().into_iter().map(|row| Value::Object(row).to_string()).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(text(&whole), text(&merged));
    text(&whole)
}

#[test]
fn groups() {
    let tags = [
        r#"{"k":1,"v":2,"m":"b"}"#,
        r#"{"k":1.0,"v":3.5,"m":"a"}"#,
        r#"{"k":"x","v":"y"}"#,
        r#"{"k":true,"v":30}"#,
        r#"{"v":60}"#,
        r#"{"k":[1,2]}"#,
        r#"{"k":{"a":1}}"#,
        r#"{"k":{"a":2}}"#,
    ];
    let records: Vec<Record> =
        tags.iter().enumerate().map(|(i, tags)| record(&format!("d{i}"), tags, "{}", "{}")).collect();
    insta::assert_snapshot!(gathered("SELECT tags.k, COUNT() AS n, SUM(tags.v) FROM devices GROUP BY tags.k", &records), @r#"
    {"n":1,"sum":60}
    {"k":true,"n":1,"sum":30}
    {"k":1,"n":2,"sum":5.5}
    {"k":"x","n":1}
    {"k":[1,2],"n":1}
    {"k":{"a":1},"n":1}
    {"k":{"a":2},"n":1}
    "#);
    insta::assert_snapshot!(gathered("SELECT COUNT(), AVG(tags.v), MIN(tags.v), MAX(tags.v) AS hi, MIN(tags.m) AS m FROM devices", &records), @r#"{"count":8,"avg":23.875,"min":2,"hi":60,"m":"a"}"#);
    insta::assert_snapshot!(gathered("SELECT COUNT() AS n, SUM(tags.v) FROM devices", &[]), @r#"{"n":0}"#);
    insta::assert_snapshot!(gathered("SELECT tags.k FROM devices GROUP BY tags.k ORDER BY tags.k DESC", &records[..3]), @r#"
    {"k":"x"}
    {"k":1}
    "#);
    insta::assert_snapshot!(gathered("SELECT tags.k FROM devices GROUP BY tags.k", &[]), @"");
}

#[test]
fn groups_are_bounded() {
    let query = Query::parse("SELECT COUNT() FROM devices GROUP BY deviceId", Dialect::Strict).unwrap();
    let mut groups = Groups::new(&query);
    for i in 0..crate::limits::QUERY_GROUPS {
        groups.add_counted(&Datum::text(&i.to_string()), 1).unwrap();
    }
    assert_eq!(groups.add_counted(&Datum::text("one more"), 1), Err(GroupError::TooMany));
    assert_eq!(groups.add_counted(&Datum::text("7"), 1), Ok(()));
    let mut groups = Groups::new(&query);
    let long = "x".repeat(1 << 20);
    let added = (0..100).map(|i| groups.add_counted(&Datum::text(&format!("{i}{long}")), 1));
    assert_eq!(added.last(), Some(Err(GroupError::TooLarge)));
}

#[test]
fn trees() {
    let expr = |text: &str| Condition::parse(text, Dialect::Extended).unwrap().0.unwrap();
    let whole = expr("NOT (tags.a = 1 AND (2 < tags.b OR NOT tags.c)) AND tags.d = tags.e");
    let Tree::All(parts) = whole.tree() else { panic!("all") };
    let [Tree::Any(either), Tree::Leaf(both)] = parts.as_slice() else { panic!("{parts:?}") };
    assert_eq!((both.column, both.test()), (None, None));
    let [Tree::Leaf(a), Tree::All(rest)] = either.as_slice() else { panic!("{either:?}") };
    let one = Literal::Number(Num::Int(1));
    assert_eq!(a.test(), Some(Test::Compare(Comparison::NotEqual, &one)));
    assert!(a.holds_for(&Datum::Number(Num::Int(2))) && !a.holds_for(&Datum::Undefined));
    let [Tree::Leaf(b), Tree::Leaf(c)] = rest.as_slice() else { panic!("{rest:?}") };
    let two = Literal::Number(Num::Int(2));
    assert_eq!(b.test(), Some(Test::Compare(Comparison::LessOrEqual, &two)));
    assert_eq!(b.column.map(Column::text), Some("tags.b"));
    assert_eq!(c.test(), Some(Test::Compare(Comparison::Equal, &Literal::Bool(true))));
}

#[test]
fn leaves_as_tests_hold_for_the_same_values() {
    let data = [
        Datum::Undefined,
        Datum::Null,
        Datum::Bool(false),
        Datum::Bool(true),
        Datum::Number(Num::Int(1)),
        Datum::Number(Num::Float(1.5)),
        Datum::Number(Num::Int(2)),
        Datum::text("a"),
        Datum::text("ab"),
        Datum::Object,
    ];
    let mut leaves =
        vec!["tags.a".to_owned(), "IS_DEFINED(tags.a)".into(), "STARTSWITH(tags.a, 'ab')".into()];
    for constant in ["1.5", "'ab'", "true", "null", "undefined"] {
        for op in ["=", "!=", "<", "<=", ">", ">="] {
            leaves.extend([format!("tags.a {op} {constant}"), format!("{constant} {op} tags.a")]);
        }
        leaves.extend([format!("tags.a IN [{constant}, 2]"), format!("tags.a NIN [{constant}]")]);
    }
    for leaf in leaves.iter().flat_map(|leaf| [leaf.clone(), format!("NOT {leaf}")]) {
        let expr = Condition::parse(&leaf, Dialect::Extended).unwrap().0.unwrap();
        let Tree::Leaf(found) = expr.tree() else { panic!("{leaf}") };
        let Some(test) = found.test() else {
            assert!(leaf.starts_with("NOT STARTSWITH"), "{leaf}");
            continue;
        };
        for datum in &data {
            let tested = match test {
                Test::Compare(op, literal) => compare(op, datum, &Datum::from(literal)) == Some(true),
                Test::In { list, negated } => list.contains(datum) == Some(!negated),
                Test::StartsWith(prefix) => matches!(datum, Datum::Text(text) if text.starts_with(prefix)),
                Test::Defined(defined) => (*datum != Datum::Undefined) == defined,
            };
            assert_eq!(tested, found.holds_for(datum), "{leaf} {datum:?}");
        }
    }
}

#[test]
fn hints() {
    let check = |text: &str, expected: &[&str]| {
        let query = Query::parse(text, Dialect::Extended).unwrap_or_else(|error| panic!("{error}"));
        let hints = query.hints();
        assert_eq!(hints.len(), expected.len(), "{hints:?}");
        for (hint, part) in hints.iter().zip(expected) {
            assert!(hint.contains(part), "{hint}");
        }
    };
    check("SELECT * FROM devices WHERE tags.site = 'Oslo' AND statusReason = null", &[]);
    check("SELECT * FROM devices WHERE deviceId = pump", &["in quotes: 'pump'"]);
    check("SELECT * FROM devices WHERE tags.my-tag = 1", &["[[my-tag]]"]);
    check(
        "SELECT * FROM devices WHERE tags.a = null OR tags.b != null",
        &["NOT IS_DEFINED(tags.a)", "NOT IS_DEFINED(tags.b)"],
    );
    check("SELECT * FROM devices WHERE 'yes'", &["no row is kept"]);
    check("SELECT * FROM devices WHERE moduleId = 'ui'", &["devices.modules"]);
    check("SELECT * FROM devices.jobs WHERE jobid = 'x' AND stat = 'y'", &["its columns are"]);
}
