//! The query language as a whole: the cases of query §10, and properties over random queries and rows.

mod fixtures;
mod properties;
mod random;
mod reference;

use fixtures::{load, sorted, Case, Expected, Fixtures};
use ostler_core::json::Value;
use ostler_core::query::{project_row, Collection, Dialect, Groups, Query, Row, Select, TwinRow};

fn answer<R: Row>(query: &Query, rows: &[R], id: impl Fn(&R) -> String) -> Expected {
    let kept: Vec<&R> = rows
        .iter()
        .filter(|row| query.condition.as_ref().is_none_or(|condition| condition.truth(*row) == Some(true)))
        .collect();
    match &query.select {
        Select::All => {
            let kind = if query.from == Collection::Jobs { "DeviceJob" } else { "Twin" };
            Expected::Ids(kind.to_owned(), kept.into_iter().map(id).collect())
        }
        Select::Items(_) if query.is_grouped() => {
            let mut groups = Groups::new(query);
            for row in kept {
                groups.add(row).expect("few groups");
            }
            Expected::Rows(sorted(groups.rows().into_iter().map(|row| Value::Object(row).to_string())))
        }
        Select::Items(items) => Expected::Rows(sorted(
            kept.into_iter().map(|row| Value::Object(project_row(row, items)).to_string()),
        )),
    }
}

fn check(fixtures: &Fixtures, case: &Case, dialect: Dialect, expected: &Expected) {
    let Ok(query) = Query::parse(&case.query, dialect) else {
        assert_eq!(*expected, Expected::Refused, "{dialect:?} {}", case.query);
        return;
    };
    let twins = match query.from {
        Collection::Devices => &fixtures.devices,
        Collection::Modules => &fixtures.modules,
        Collection::Jobs => {
            let found = answer(&query, &fixtures.jobs, |job| job.id());
            assert_eq!(found, *expected, "{dialect:?} {}", case.query);
            return;
        }
    };
    let rows: Vec<TwinRow<'_>> =
        twins.iter().map(|(record, presence)| TwinRow { record, presence: *presence }).collect();
    let found = answer(&query, &rows, |row| row.record.id.to_string());
    assert_eq!(found, *expected, "{dialect:?} {}", case.query);
}

#[test]
fn all_cases_of_the_reference() {
    let fixtures = load();
    assert_eq!(fixtures.cases.len(), 68);
    for case in &fixtures.cases {
        check(&fixtures, case, Dialect::Strict, &case.strict);
        check(&fixtures, case, Dialect::Extended, &case.extended);
    }
}

#[test]
fn only_extensions_differ_between_the_dialects() {
    let differ: Vec<String> =
        load().cases.into_iter().filter(|case| case.strict != case.extended).map(|case| case.query).collect();
    assert_eq!(
        differ,
        [
            "SELECT deviceId FROM devices.jobs",
            "SELECT COUNT() AS n FROM devices.jobs",
            "SELECT * FROM devices ORDER BY deviceId",
            "SELECT * FROM devices WHERE tags.site LIKE 'O%'",
        ]
    );
}

#[test]
fn printed_cases_mean_the_same() {
    for case in load().cases {
        if let Ok(query) = Query::parse(&case.query, Dialect::Extended) {
            assert_eq!(Query::parse(&query.to_string(), Dialect::Extended), Ok(query));
        }
    }
}
