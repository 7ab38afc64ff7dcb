//! What is allowed but rarely meant: hints for whoever asks to explain a query. Those that need a look at rows, such
//! as where a misplaced property really is, are the hub's.
//!
//! Must not know: rows, plans.
//!
//! Invariant: a hint is given only for what can never be true or never has a value.

use super::column::{Column, Field, JOB_COLUMNS};
use super::expr::{Comparison, Expr, Literal, Operation};
use super::words;
use super::{Collection, Query};

/// Hints of one query.
const HINTS: usize = 16;

impl Query {
    /// What looks like a mistake in a query that is valid, in the order of the text; at most 16.
    pub fn hints(&self) -> Vec<String> {
        let mut hints = Vec::new();
        let mut told: Vec<&Column> = Vec::new();
        if let Some(condition) = &self.condition {
            if matches!(condition, Expr::Literal(literal) if *literal != Literal::Bool(true)) {
                hints.push(format!("the condition is the constant {condition}, so no row is kept"));
            }
            condition.visit(&mut |part| hints.extend(of_expr(part, &mut told)));
        }
        for column in self.columns() {
            if !told.contains(&column) {
                hints.extend(of_column(column, self.from));
            }
        }
        hints.truncate(HINTS);
        hints
    }
}

/// A hint about the form of an expression. Columns that it explains need no hint of their own.
fn of_expr<'a>(expr: &'a Expr, told: &mut Vec<&'a Column>) -> Option<String> {
    match expr {
        Expr::Compare { op, left, right } => match (&**left, &**right) {
            (Expr::Column(column), Expr::Literal(literal))
            | (Expr::Literal(literal), Expr::Column(column)) => of_constant(column, *op, literal),
            (Expr::Column(known), Expr::Column(column)) if is_name(column) && !is_name(known) => {
                told.push(column);
                Some(format!(
                    "'{column}' is read as a path without a value; a text is written in quotes: '{}'",
                    column.name()
                ))
            }
            _ => None,
        },
        // `tags.my-tag` is a subtraction (query §2).
        Expr::Arithmetic { op: Operation::Subtract, left, right } => {
            match (&**left, &**right) {
                (Expr::Column(left), Expr::Column(right)) if is_name(right) => {
                    told.extend([left, right]);
                    let name = format!("{}-{}", left.name(), right.name());
                    Some(format!("'{left} - {right}' is read as a subtraction; a name with a hyphen is written [[{name}]]"))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn of_constant(column: &Column, op: Comparison, literal: &Literal) -> Option<String> {
    let absent = format!("to find rows without it write NOT IS_DEFINED({column})");
    match literal {
        Literal::Null if column.field().place().is_some() => {
            Some(format!("twins hold no null, so '{column} {} null' is never true; {absent}", op.symbol()))
        }
        _ => None,
    }
}

/// Whether it is one word that is no column.
fn is_name(column: &Column) -> bool {
    *column.field() == Field::Unknown && !column.text().contains('.')
}

fn of_column(column: &Column, from: Collection) -> Option<String> {
    match (column.field(), from) {
        (Field::Unknown, Collection::Jobs) => Some(format!(
            "'{column}' is no column of devices.jobs and has no value{}; its columns are {}",
            meant(column),
            JOB_COLUMNS.join(", ")
        )),
        (Field::ModuleId, Collection::Devices) => {
            Some("devices have no moduleId; ask FROM devices.modules".to_owned())
        }
        _ => None,
    }
}

fn meant(column: &Column) -> String {
    let first = column.text().split('.').next().unwrap_or_default();
    words::nearest(first, JOB_COLUMNS.iter().copied())
        .map_or_else(String::new, |near| format!("; did you mean {near}?"))
}
