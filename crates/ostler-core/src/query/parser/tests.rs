//! What is said about texts that are no queries: where, what, and what to do.

use super::super::{Condition, Dialect, Field, Query};

fn refused(text: &str) -> String {
    Query::parse(text, Dialect::Extended).map_or_else(|error| error.to_string(), |query| panic!("{query}"))
}

fn refused_condition(text: &str) -> String {
    Condition::parse(text, Dialect::Strict).map_or_else(|error| error.to_string(), |query| panic!("{query}"))
}

#[test]
fn words_and_clauses() {
    insta::assert_snapshot!(refused("SELCT * FROM devices"), @"Line 1:1 found 'SELCT', expected SELECT; did you mean SELECT?");
    insta::assert_snapshot!(refused("SELECT * FORM devices"), @"Line 1:10 found 'FORM', expected ',' or FROM; did you mean FROM?");
    insta::assert_snapshot!(refused("SELECT deviceId FORM devices"), @"Line 1:17 found 'FORM', expected ',' or FROM; did you mean FROM?");
    insta::assert_snapshot!(refused("SELECT * FROM device"), @"Line 1:15 found 'device', expected devices, devices.modules or devices.jobs; did you mean devices?");
    insta::assert_snapshot!(refused("SELECT * FROM widgets"), @"Line 1:15 found 'widgets', expected devices, devices.modules or devices.jobs");
    insta::assert_snapshot!(refused("SELECT *, deviceId FROM devices"), @"Line 1:9 '*' stands alone, other items cannot be selected beside it");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE"), @"Line 1:28 found the end of the text, expected a path, a constant, a function or '('");
    insta::assert_snapshot!(refused("SELECT * FROM devices;"), @"Line 1:22 ';' does not belong to the language; leave the ';' at the end out");
    insta::assert_snapshot!(refused("SELECT TOP 0 * FROM devices"), @"Line 1:12 found '0', expected a whole number from 1 after TOP");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE GROUP BY tags.a"), @"Line 1:29 found 'GROUP', expected a path, a constant, a function or '('; clauses stand in the order SELECT, FROM, WHERE, GROUP BY, ORDER BY, LIMIT, OFFSET, each once");
    insta::assert_snapshot!(refused("SELECT * FROM devices ODER BY deviceId"), @"Line 1:23 found 'ODER', expected WHERE, another clause or the end of the query; did you mean ORDER?");
    insta::assert_snapshot!(refused("SELECT deviceId FROM devices LIMIT 5 WHERE tags.a = 1"), @"Line 1:38 found 'WHERE', expected a later clause or the end of the query; clauses stand in the order SELECT, FROM, WHERE, GROUP BY, ORDER BY, LIMIT, OFFSET, each once");
    insta::assert_snapshot!(refused("SELECT TOP 5 deviceId FROM devices LIMIT 5"), @"Line 1:36 TOP and LIMIT say the same, give one of them");
    insta::assert_snapshot!(refused("SELECT * FROM devices.jbos"), @"Line 1:23 found 'jbos', expected modules or jobs; did you mean jobs?");
}

#[test]
fn operands_and_names() {
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.group = 'g1'"), @"Line 1:34 found 'group', expected a name; 'group' is a word of the language: as a name write [[group]]");
    insta::assert_snapshot!(refused("SELECT * FROM devices\nWHERE tags.a == 1"), @"Line 2:15 found '=', expected a path, a constant, a function or '('; equality is written with one '='");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.a = 'x"), @"Line 1:38 the string that begins here has no closing '");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.site = Oslo Bergen"), @"Line 1:46 found 'Bergen', expected an operator, a clause or the end of the query; text stands in quotes, names with other characters in [[ ]]");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.a = 1 && tags.b = 2"), @"Line 1:40 '&' does not belong to the language; did you mean AND?");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.a IN ('x')"), @"Line 1:39 found '(', expected an array such as ['a', 'b'] after IN; arrays stand in square brackets: IN ['a', 'b']");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.a IN [b]"), @"Line 1:40 found 'b', expected a constant; an array holds constants: numbers, strings in quotes, true, false, null");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.a[0] = 1"), @"Line 1:35 found '[', expected an operator, a clause or the end of the query; array elements have no index, ask ARRAY_CONTAINS(path, value); a name is escaped with two brackets");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.2nd = 1"), @"Line 1:34 'n' follows the number '2' without a space; a name that begins with a digit is written [[2nd]]");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.a BETWEEN 1 AND 2"), @"Line 1:36 found 'BETWEEN', expected an operator, a clause or the end of the query; write x >= low AND x <= high");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE 1 < tags.a < 3"), @"Line 1:40 found '<', expected AND, OR or the end; comparisons do not chain: write a < b AND b < c");
    insta::assert_snapshot!(refused("SELECT * FROM devices.jobs WHERE tags.a = 1"), @"Line 1:34 devices.jobs has no columns of twins; its columns are deviceId, jobId, jobType, status, startTimeUtc, endTimeUtc, createdDateTimeUtc, lastUpdatedDateTimeUtc, outcome, error");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.a = “x”"), @r#"Line 1:38 '“' does not belong to the language; strings stand in straight quotes: '…' or "…""#);
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE AND tags.a = 1"), @"Line 1:29 found 'AND', expected a path, a constant, a function or '('; an operand is missing before it");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.a 'x'"), @"Line 1:36 found the string 'x', expected an operator, a clause or the end of the query; an operator such as '=' is missing before the string");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.a IS NULL"), @"Line 1:36 found 'IS', expected an operator, a clause or the end of the query; write IS_NULL(x), IS_DEFINED(x) or NOT IS_DEFINED(x)");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.my tag = 1"), @"Line 1:37 found 'tag', expected an operator, a clause or the end of the query; text stands in quotes, names with other characters in [[ ]]");
    insta::assert_snapshot!(refused(r"SELECT * FROM devices WHERE tags.a = '\ud800x'"), @r#"Line 1:39 this \u escape is half of a character"#);
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.[[a = 1"), @"Line 1:34 '[[' without a closing ']]'; write an escaped name as [[name]]");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.a = 1e999"), @"Line 1:38 the number '1e999' is out of range");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE properties.reported.fw.verion = 1 ANDD tags.a = 2"), @"Line 1:63 found 'ANDD', expected an operator, a clause or the end of the query; did you mean AND?");
}

#[test]
fn functions_and_aggregates() {
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE START_WITH(deviceId, 'x')"), @"Line 1:29 there is no function START_WITH; did you mean STARTSWITH?");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE STARTSWITH(deviceId)"), @"Line 1:29 STARTSWITH takes 2 arguments, not 1");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE COUNT() > 1"), @"Line 1:29 COUNT stands only in the select list, not in a condition");
    insta::assert_snapshot!(refused("SELECT tags.a, COUNT() FROM devices"), @"Line 1:8 'tags.a' stands beside an aggregate without being grouped by; add GROUP BY tags.a");
    insta::assert_snapshot!(refused("SELECT tags.a, COUNT() FROM devices GROUP BY tags.b"), @"Line 1:8 'tags.a' is not what is grouped by, which is 'tags.b'");
    insta::assert_snapshot!(refused("SELECT DISTINCT deviceId FROM devices"), @"Line 1:8 found 'DISTINCT', expected '*', a path or an aggregate; distinct values come from GROUP BY");
    insta::assert_snapshot!(refused("SELECT LOWER(deviceId) FROM devices"), @"Line 1:8 'LOWER' cannot be selected; selected are paths, COUNT(), SUM, AVG, MIN and MAX; other functions stand behind WHERE");
    insta::assert_snapshot!(refused("SELECT COUNT(deviceId) FROM devices"), @"Line 1:14 found 'deviceId', expected ')'; COUNT() counts rows; to count those that have a value add WHERE IS_DEFINED(…)");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE ISDEFINED(tags.a, 1)"), @"Line 1:29 IS_DEFINED takes 1 argument, not 2");
    insta::assert_snapshot!(refused("SELECT * FROM devices ORDER BY deviceId, COUNT()"), @"Line 1:42 ORDER BY takes paths, not aggregates; name the aggregate in the select list, such as COUNT() AS n, and order by n");
    insta::assert_snapshot!(refused("SELECT tags.a, COUNT() AS n FROM devices GROUP BY tags.a ORDER BY m"), @"Line 1:67 'm' is neither what is grouped by nor the name of an aggregate; grouped rows are ordered by their group or by what is selected of it, such as COUNT() AS n");
}

#[test]
fn conditions_and_strictness() {
    insta::assert_snapshot!(refused_condition("SELECT * FROM devices"), @"Line 1:29 found 'SELECT', expected a path, a constant, a function or '('; a condition is only what stands behind WHERE");
    insta::assert_snapshot!(refused_condition(""), @"Line 1:29 found the end of the text, expected a path, a constant, a function or '('; '*' stands for all");
    insta::assert_snapshot!(refused_condition("tags.a LIKE 'x'"), @"Line 1:36 LIKE is not part of the service's query language; it is an extension, refused in strict mode");
    insta::assert_snapshot!(refused_condition("STARTS_WITH(deviceId, 'x')"), @"Line 1:29 there is no function STARTS_WITH; did you mean STARTSWITH? in strict mode only the service's spelling counts");
    insta::assert_snapshot!(refused_condition("LOWER(deviceId) = 'x'"), @"Line 1:29 LOWER is not part of the service's query language; it is an extension, refused in strict mode");
    insta::assert_snapshot!(refused_condition(&"(".repeat(100)), @"Line 1:94 nested deeper than 64 levels; parts joined by AND or OR need no parentheses of their own, and long lists are written with IN");
    insta::assert_snapshot!(refused_condition(&"x".repeat(8193)), @"Line 1:29 the text has 8193 characters, the limit is 8192");
    insta::assert_snapshot!(refused_condition("WHERE tags.a = 1"), @"Line 1:29 found 'WHERE', expected a path, a constant, a function or '('; a condition begins behind WHERE");
    insta::assert_snapshot!(refused_condition("IS_DEFIND(tags.a)"), @"Line 1:29 there is no function IS_DEFIND; did you mean IS_DEFINED?");
    insta::assert_snapshot!(refused_condition("*, tags"), @"Line 1:30 found ',', expected an operator or the end of the condition");
}

#[test]
fn habits_of_other_languages() {
    insta::assert_snapshot!(refused("SELECT DISTINCT tags.a FROM devices"), @"Line 1:8 found 'DISTINCT', expected '*', a path or an aggregate; distinct values come from GROUP BY");
    insta::assert_snapshot!(refused("DELETE FROM devices"), @"Line 1:1 found 'DELETE', expected SELECT");
    insta::assert_snapshot!(refused("SELECT * FROM c"), @"Line 1:15 found 'c', expected devices, devices.modules or devices.jobs");
    insta::assert_snapshot!(refused("SELECT * FROM devices d"), @"Line 1:23 found 'd', expected WHERE, another clause or the end of the query; a collection takes no other name: paths begin with tags, properties or a column");
    insta::assert_snapshot!(refused("SELECT * FROM devices AS d"), @"Line 1:23 found 'AS', expected WHERE, another clause or the end of the query; a collection takes no other name: paths begin with tags, properties or a column");
    insta::assert_snapshot!(refused("SELECT * FROM devices.modules m WHERE m.a = 1"), @"Line 1:31 found 'm', expected WHERE, another clause or the end of the query; a collection takes no other name: paths begin with tags, properties or a column");
    insta::assert_snapshot!(refused("SELECT tags.a AS s, COUNT() AS n FROM devices GROUP BY s"), @"Line 1:8 'tags.a' is not what is grouped by, which is 's'; a name given with AS is no path: GROUP BY tags.a");
    insta::assert_snapshot!(refused("SELECT * FROM devices WHERE tags.a LIKES 'x'"), @"Line 1:36 found 'LIKES', expected an operator, a clause or the end of the query; did you mean LIKE?");
    insta::assert_snapshot!(refused_condition("tags.a LIKES 'x'"), @"Line 1:36 found 'LIKES', expected an operator or the end of the condition; LIKE is an extension, refused in strict mode");
    insta::assert_snapshot!(refused_condition("tags.a = 1 LIMT 5"), @"Line 1:40 found 'LIMT', expected an operator or the end of the condition; LIMIT is an extension, refused in strict mode");
    insta::assert_snapshot!(refused_condition("select * from devices where tags.a = 1"), @"Line 1:29 found 'select', expected a path, a constant, a function or '('; a condition is only what stands behind WHERE");
}

#[test]
fn bounds() {
    let many = vec!["LOWER(a) = 'x'"; 65].join(" OR ");
    insta::assert_snapshot!(refused(&format!("SELECT * FROM devices WHERE {many}")), @"Line 1:1181 more than 64 calls of functions that make texts");
    for deep in ["NOT ", "1+", "(", "-(", "ABS("] {
        let message = refused(&format!("SELECT * FROM devices WHERE {}1", deep.repeat(65)));
        assert!(message.contains("nested deeper than 64 levels"), "{message}");
    }
    let long = vec!["deviceId = 'x'"; 300].join(" OR ");
    assert!(Query::parse(&format!("SELECT * FROM devices WHERE {long}"), Dialect::Strict).is_ok());
    assert!(refused("SELECT\u{a0}* FROM devices").contains("put a plain space in its place"));
}

#[test]
fn groups_are_ordered_by_their_value_or_an_aggregate() {
    for text in [
        "SELECT tags.a, COUNT() AS n FROM devices GROUP BY tags.a ORDER BY n DESC, tags.a",
        "SELECT tags.a, COUNT() AS version FROM devices GROUP BY tags.a ORDER BY version",
        "SELECT tags.a, MAX(version) FROM devices GROUP BY tags.a ORDER BY [[max]] LIMIT 3",
    ] {
        let query = Query::parse(text, Dialect::Extended).unwrap();
        assert_eq!(query.to_string(), text);
        assert!(query.columns().iter().all(|column| *column.field() != Field::Unknown), "{text}");
    }
}
