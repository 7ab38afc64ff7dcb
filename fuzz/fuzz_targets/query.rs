//! Queries and conditions: whatever is read prints and reads back, whatever is refused has a place in the text, and
//! judging never panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_core::json::{Object, Value};
use ostler_core::query::{project_row, Column, Condition, Datum, Dialect, Groups, Query, Row, Select};

/// Every column has the same value: all kinds of it are tried.
struct Same(Value);

impl Row for Same {
    fn get(&self, _: &Column) -> Datum<'_> {
        Datum::from(&self.0)
    }
}

fn values() -> Vec<Value> {
    let texts = ["null", "true", "-3", "2.5", "\"ab\\u00e9\"", "[1,\"ab\",null]", "{\"a\":1}"];
    texts.iter().map(|text| Value::parse(text.as_bytes()).expect("JSON")).collect()
}

fn reads_back(query: &Query) {
    let text = query.to_string();
    // A printed constant may be longer than it was written.
    if let Ok(again) = Query::parse(&text, Dialect::Extended) {
        assert_eq!(again, *query, "{text}");
    } else {
        assert!(text.chars().count() > 8192, "{text}");
    }
}

fn judge(query: &Query) {
    let mut groups = Groups::new(query);
    for value in values() {
        let row = Same(value);
        if let Some(condition) = &query.condition {
            assert_eq!(condition.tree().holds(&row), condition.truth(&row) == Some(true), "{condition}");
        }
        if let Select::Items(items) = &query.select {
            let made: Object = project_row(&row, items);
            assert!(made.len() <= items.len());
        }
        groups.add(&row).expect("few groups");
    }
    assert!(query.is_grouped() || groups.len() == 1);
    let _ = (groups.rows(), query.hints());
}

fuzz_target!(|text: &str| {
    match Query::parse(text, Dialect::Extended) {
        Ok(query) => {
            reads_back(&query);
            judge(&query);
        }
        Err(error) => {
            assert!(error.line >= 1 && error.column >= 1 && !error.to_string().is_empty());
            assert!(Query::parse(text, Dialect::Strict).is_err(), "strict accepts more");
        }
    }
    let _ = Condition::parse(text, Dialect::Strict);
    let _ = Condition::parse_modules(text, Dialect::Extended);
});
