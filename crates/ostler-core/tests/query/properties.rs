//! What holds for every query and every row.

use super::random::{any_expr, any_query, known_column, record, small_expr, soup};
use super::reference;
use ostler_core::json::Value;
use ostler_core::limits::QUERY_CHARS;
use ostler_core::query::{Condition, Dialect, Groups, Num, Presence, Query, Row, TwinRow};
use ostler_core::record::Record;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn printed_reads_back(query: &Query) -> Result<(), TestCaseError> {
    let text = query.to_string();
    prop_assume!(text.chars().count() <= QUERY_CHARS);
    let again = Query::parse(&text, Dialect::Extended);
    prop_assert_eq!(again.as_ref(), Ok(query), "{}", text);
    prop_assert_eq!(again.map(|query| query.to_string()), Ok(text));
    Ok(())
}

proptest! {
    #[test]
    fn queries_print_and_read_back(query in any_query()) {
        printed_reads_back(&query)?;
    }

    #[test]
    fn conditions_print_and_read_back(expr in any_expr()) {
        let condition = Condition(Some(expr));
        let text = condition.to_string();
        prop_assume!(text.chars().count() <= QUERY_CHARS);
        prop_assert_eq!(Condition::parse(&text, Dialect::Extended), Ok(condition), "{}", text);
    }

    #[test]
    fn words_in_any_order_are_read_or_refused(text in soup()) {
        if let Ok(query) = Query::parse(&text, Dialect::Extended) {
            printed_reads_back(&query)?;
        }
        if let Ok(query) = Query::parse(&text, Dialect::Strict) {
            prop_assert_eq!(Query::parse(&text, Dialect::Extended), Ok(query));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        for dialect in [Dialect::Extended, Dialect::Strict] {
            let _ = Query::parse(&text, dialect).map_err(|error| error.to_string());
            let _ = Condition::parse(&text, dialect).map_err(|error| error.to_string());
            let _ = Condition::parse_modules(&text, dialect).map_err(|error| error.to_string());
        }
    }

    #[test]
    fn columns_are_those_of_the_document((record, presence) in record(), column in known_column()) {
        let document = reference::document(&record, presence);
        let row = TwinRow { record: &record, presence };
        let expected = reference::at(&document, column.text());
        prop_assert_eq!(row.value(&column).map(|v| v.to_string()), expected.as_ref().map(Value::to_string), "{}", column);
        let kind = |value: Option<&Value>| value.map(Value::kind);
        prop_assert_eq!(kind(row.get(&column).to_value().as_ref()), kind(expected.as_ref()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn agrees_with_the_plain_evaluator((record, presence) in record(), expr in small_expr()) {
        let document = reference::document(&record, presence);
        let row = TwinRow { record: &record, presence };
        let expected = match reference::evaluate(&expr, &document) {
            Some(Value::Bool(value)) => Some(value),
            _ => None,
        };
        prop_assert_eq!(expr.truth(&row), expected, "{}", expr);
        prop_assert_eq!(expr.tree().holds(&row), expected == Some(true), "{}", expr);
        // A leaf with one column needs no more of the row than that column's value.
        check_leaves(&expr.tree(), &row)?;
    }
}

fn check_leaves(tree: &ostler_core::query::Tree<'_>, row: &TwinRow<'_>) -> Result<(), TestCaseError> {
    use ostler_core::query::{compare, Datum, Test, Tree};
    let leaf = match tree {
        Tree::All(parts) | Tree::Any(parts) => {
            return parts.iter().try_for_each(|part| check_leaves(part, row));
        }
        Tree::Leaf(leaf) => leaf,
    };
    let Some(column) = leaf.column else { return Ok(()) };
    let datum = row.get(column);
    prop_assert_eq!(leaf.holds_for(&datum), leaf.holds(row), "{}", leaf.expr);
    let tested = match leaf.test() {
        None => return Ok(()),
        Some(Test::Compare(op, literal)) => compare(op, &datum, &Datum::from(literal)) == Some(true),
        Some(Test::In { list, negated }) => list.contains(&datum) == Some(!negated),
        Some(Test::StartsWith(prefix)) => matches!(&datum, Datum::Text(text) if text.starts_with(prefix)),
        Some(Test::Defined(defined)) => (datum != Datum::Undefined) == defined,
    };
    prop_assert_eq!(tested, leaf.holds(row), "{}", leaf.expr);
    Ok(())
}

/// How many rows have each value, counted by the document.
fn counted(records: &[(Record, Presence)], path: &str) -> BTreeMap<Option<String>, i64> {
    let mut counts = BTreeMap::new();
    for (record, presence) in records {
        let key = match reference::at(&reference::document(record, *presence), path) {
            Some(Value::Number(number)) => Some(Num::from(&number).to_number().text().into_owned()),
            other => other.map(|value| value.to_string()),
        };
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}

proptest! {
    #[test]
    fn groups_are_the_same_however_rows_are_divided(
        records in prop::collection::vec(record(), 0..12),
        column in known_column(),
        of in known_column(),
        parts in prop::collection::vec(0usize..3, 12),
    ) {
        let text = format!(
            "SELECT {column} AS key, COUNT() AS n, SUM({of}), AVG({of}), MIN({of}), MAX({of}) FROM devices GROUP BY {column}"
        );
        let query = Query::parse(&text, Dialect::Strict).expect("valid");
        let mut whole = Groups::new(&query);
        let mut divided = vec![Groups::new(&query); 3];
        for ((record, presence), part) in records.iter().zip(parts) {
            let row = TwinRow { record, presence: *presence };
            whole.add(&row).expect("few groups");
            divided[part].add(&row).expect("few groups");
        }
        let mut merged = Groups::new(&query);
        for part in divided.into_iter().rev() {
            merged.merge(part).expect("few groups");
        }
        prop_assert_eq!(merged.rows(), whole.rows());
        let found: BTreeMap<Option<String>, i64> = whole
            .rows()
            .iter()
            .map(|row| (row.get("key").map(Value::to_string), row.get("n").and_then(Value::as_i64).expect("a count")))
            .collect();
        prop_assert_eq!(found, counted(&records, column.text()));
    }
}
