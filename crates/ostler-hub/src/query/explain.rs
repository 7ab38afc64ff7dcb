//! EXPLAIN: how a query would be answered, and what looks odd about it.
//!
//! Must not know: how the store searches; it says so itself.
//!
//! Invariant: a hint never changes an answer.

use super::entities::presence;
use super::{Asked, QueryPage, Rows};
use crate::error::Error;
use crate::hub::{Hub, View};
use ostler_core::json::{Key, Number, Object, Value};
use ostler_core::query::{Collection, Column, Comparison, Datum, Expr, Field, Literal, Query, Row, TwinRow};
use ostler_store::{ColumnUse, Filter, Order};
use std::sync::Arc;

/// Records looked at to see whether a path exists.
const SAMPLE: usize = 100;
/// Hints of one query.
const MOST_HINTS: usize = 20;

impl Hub {
    pub(super) async fn explain(&self, asked: &Asked<'_>) -> Result<QueryPage, Error> {
        let query = &asked.query;
        let mut row = Object::new();
        let mut set = |name: &str, value: Value| row.insert(Key::from(name), value);
        set("query", text(Query { explain: false, ..Query::clone(query) }.to_string()));
        let mut hints = query.hints();
        if query.from == Collection::Jobs {
            set("plan", text(Hub::plan_of_device_jobs(query)));
            set("columns", list(query.columns().iter().map(ToString::to_string)));
        } else {
            let explanation = self.store.explain(&asked.filter());
            let column = |used: &ColumnUse| match used.built {
                true => format!("{} (in memory)", used.column),
                false => used.column.to_string(),
            };
            set("plan", text(explanation.plan.to_string()));
            set("columns", list(explanation.columns.iter().map(column)));
            set("rows", count(explanation.rows));
            hints.extend(self.hints(asked).await?);
        }
        hints.truncate(MOST_HINTS);
        set("hints", list(hints));
        Ok(QueryPage { rows: Rows::Raw(vec![row]), next: None })
    }

    /// What can be said only after a look at some rows, or about the words that a column may have.
    async fn hints(&self, asked: &Asked<'_>) -> Result<Vec<String>, Error> {
        let filter = Filter { modules: asked.query.from == Collection::Modules, condition: None };
        let found = self.store.find(Arc::new(filter), asked.live.clone(), Order::ById, None, SAMPLE).await?;
        let sample: Vec<View> = found.records.into_iter().map(|record| self.view(record)).collect();
        let mut hints: Vec<String> =
            asked.query.columns().into_iter().filter_map(|column| about_column(column, &sample)).collect();
        if let Some(condition) = &asked.query.condition {
            condition.visit(&mut |expr| hints.extend(about_comparison(expr)));
        }
        Ok(hints)
    }
}

/// A path that leads nowhere, and where it might have been meant to lead.
fn about_column(column: &Column, sample: &[View]) -> Option<String> {
    let has = |column: &Column| {
        sample.iter().any(|view| {
            let row = TwinRow { record: &view.record, presence: presence(view) };
            row.get(column) != Datum::Undefined
        })
    };
    match column.field() {
        Field::Unknown => {
            let places = ["tags", "properties.reported", "properties.desired"];
            let found = places
                .iter()
                .map(|place| format!("{place}.{column}"))
                .find(|path| Column::parse(path).is_ok_and(|column| has(&column)));
            let bare = format!("`{column}` is no column, so it is always undefined");
            Some(match found {
                Some(path) => format!("{bare}; did you mean {path}?"),
                None => {
                    format!("{bare}; a property needs its full path, such as properties.reported.{column}")
                }
            })
        }
        Field::Tags(path) | Field::Desired(path) | Field::Reported(path)
            if !path.is_empty() && !sample.is_empty() && !has(column) =>
        {
            Some(format!("none of the {} rows looked at has `{column}`", sample.len()))
        }
        _ => None,
    }
}

/// A comparison that cannot be true.
fn about_comparison(expr: &Expr) -> Option<String> {
    let Expr::Compare { op, left, right } = expr else { return None };
    let (column, literal) = match (&**left, &**right) {
        (Expr::Column(column), Expr::Literal(literal)) | (Expr::Literal(literal), Expr::Column(column)) => {
            (column, literal)
        }
        _ => return None,
    };
    if *literal == Literal::Undefined {
        return Some(format!(
            "nothing compares with undefined; use IS_DEFINED({column}), or NOT IS_DEFINED({column})"
        ));
    }
    let words: &[&str] = match column.field() {
        Field::ConnectionState => &["Connected", "Disconnected"],
        Field::Status => &["enabled", "disabled"],
        _ => return None,
    };
    let Literal::Text(text) = literal else { return None };
    let equality = matches!(op, Comparison::Equal | Comparison::NotEqual);
    (equality && !words.contains(&&**text)).then(|| {
        format!("{column} is '{}', never '{text}'; values are compared by case", words.join("' or '"))
    })
}

fn text(text: impl Into<Box<str>>) -> Value {
    Value::String(text.into())
}

fn count(count: u64) -> Value {
    Value::Number(Number::from(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn list(texts: impl IntoIterator<Item = String>) -> Value {
    Value::Array(texts.into_iter().map(text).collect())
}
