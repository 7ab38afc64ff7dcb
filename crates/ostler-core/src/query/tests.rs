//! Reading, printing and judging, through the public door.

use super::*;
use crate::id::EntityId;
use crate::identity::{FreshSecrets, Identity, IdentitySpec};
use crate::json::Object;
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
        r#"{"site":"Oslo","Floor":3,"critical":true,"labels":["wet",2],"sub":{"a":1,"A":2,"Only":5}}"#,
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
