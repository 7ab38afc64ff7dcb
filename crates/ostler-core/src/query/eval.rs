//! What a condition means for a row (query §5): three truth values, an explicit undefined, no coercion.
//!
//! Must not know: what a row is made of. Whoever keeps rows in another form implements [`Row`].
//!
//! Invariant: evaluation never fails and allocates only what functions make.

use super::column::Column;
use super::expr::{Comparison, Expr, Literal, Operation};
use super::num::Num;
use crate::json::{Object, Value};
use std::borrow::Cow;
use std::cmp::Ordering;

/// What an evaluator asks of a row.
pub trait Row {
    /// The value of a column. A path that is missing anywhere or passes through something that is no object is
    /// [`Datum::Undefined`]. Names below `tags`, `desired` and `reported` match exactly first, and only where there
    /// is no exact one a unique one that differs in ASCII case.
    fn get(&self, column: &Column) -> Datum<'_>;

    /// The value as JSON, numbers as they were written, objects whole: for projection. A row that can hold objects
    /// or numbers with a text of their own implements this too.
    fn value(&self, column: &Column) -> Option<Value> {
        self.get(column).to_value()
    }
}

/// A value as an evaluator sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum<'a> {
    /// There is none.
    Undefined,
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Num),
    /// A string.
    Text(Cow<'a, str>),
    /// An array.
    Array(Cow<'a, [Value]>),
    /// An object; it compares with nothing, so its members are not asked for.
    Object,
}

impl<'a> Datum<'a> {
    /// A borrowed string.
    pub fn text(text: &'a str) -> Datum<'a> {
        Datum::Text(Cow::Borrowed(text))
    }

    /// The same value, borrowed from this one.
    pub fn borrowed(&self) -> Datum<'_> {
        match self {
            Datum::Undefined => Datum::Undefined,
            Datum::Null => Datum::Null,
            Datum::Bool(value) => Datum::Bool(*value),
            Datum::Number(num) => Datum::Number(*num),
            Datum::Text(text) => Datum::Text(Cow::Borrowed(text)),
            Datum::Array(elements) => Datum::Array(Cow::Borrowed(elements)),
            Datum::Object => Datum::Object,
        }
    }

    /// As JSON; `None` for undefined. An object comes back without its members.
    pub fn to_value(&self) -> Option<Value> {
        Some(match self {
            Datum::Undefined => return None,
            Datum::Null => Value::Null,
            Datum::Bool(value) => Value::Bool(*value),
            Datum::Number(num) => Value::Number(num.to_number()),
            Datum::Text(text) => Value::String((&**text).into()),
            Datum::Array(elements) => Value::Array(elements.to_vec()),
            Datum::Object => Value::Object(Object::new()),
        })
    }

    /// The order of `ORDER BY` over all kinds: undefined, null, booleans, numbers, texts, arrays, objects. Two arrays
    /// and two objects count as equal; whoever orders rows breaks ties by id.
    pub fn order(&self, other: &Datum<'_>) -> Ordering {
        match (self, other) {
            (Datum::Bool(left), Datum::Bool(right)) => left.cmp(right),
            (Datum::Number(left), Datum::Number(right)) => left.cmp(right),
            (Datum::Text(left), Datum::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
            (left, right) => left.rank().cmp(&right.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Datum::Undefined => 0,
            Datum::Null => 1,
            Datum::Bool(_) => 2,
            Datum::Number(_) => 3,
            Datum::Text(_) => 4,
            Datum::Array(_) => 5,
            Datum::Object => 6,
        }
    }

    fn truth(&self) -> Option<bool> {
        match self {
            Datum::Bool(value) => Some(*value),
            _ => None,
        }
    }
}

impl<'a> From<&'a Value> for Datum<'a> {
    fn from(value: &'a Value) -> Datum<'a> {
        match value {
            Value::Null => Datum::Null,
            Value::Bool(value) => Datum::Bool(*value),
            Value::Number(number) => Datum::Number(Num::from(number)),
            Value::String(text) => Datum::text(text),
            Value::Array(elements) => Datum::Array(Cow::Borrowed(elements)),
            Value::Object(_) => Datum::Object,
        }
    }
}

impl<'a> From<&'a Literal> for Datum<'a> {
    fn from(literal: &'a Literal) -> Datum<'a> {
        match literal {
            Literal::Undefined => Datum::Undefined,
            Literal::Null => Datum::Null,
            Literal::Bool(value) => Datum::Bool(*value),
            Literal::Number(num) => Datum::Number(*num),
            Literal::Text(text) => Datum::text(text),
        }
    }
}

impl From<Option<bool>> for Datum<'_> {
    fn from(truth: Option<bool>) -> Self {
        truth.map_or(Datum::Undefined, Datum::Bool)
    }
}

impl Expr {
    /// Whether it holds for a row; `None` is undefined. A row is kept only on `Some(true)`.
    pub fn truth<R: Row + ?Sized>(&self, row: &R) -> Option<bool> {
        match self {
            Expr::And(parts) => all(parts, row),
            Expr::Or(parts) => any(parts, row),
            Expr::Not(part) => part.truth(row).map(|truth| !truth),
            Expr::Compare { op, left, right } => compare(*op, &left.value(row), &right.value(row)),
            Expr::In { value, list, negated } => {
                list.contains(&value.value(row)).map(|found| found != *negated)
            }
            Expr::Like { value, pattern, negated } => match value.value(row) {
                Datum::Text(text) => Some(pattern.matches(&text) != *negated),
                _ => None,
            },
            Expr::Literal(Literal::Bool(value)) => Some(*value),
            Expr::Literal(_) | Expr::List(_) => None,
            Expr::Column(column) => row.get(column).truth(),
            Expr::Arithmetic { .. } | Expr::Minus(_) | Expr::Plus(_) => None,
            Expr::Call { .. } => self.value(row).truth(),
        }
    }

    /// Its value for a row.
    pub fn value<'a, R: Row + ?Sized>(&'a self, row: &'a R) -> Datum<'a> {
        match self {
            Expr::Literal(literal) => Datum::from(literal),
            Expr::Column(column) => row.get(column),
            Expr::List(list) => Datum::Array(Cow::Borrowed(list.values())),
            Expr::Arithmetic { op, left, right } => match (left.value(row), right.value(row)) {
                (Datum::Number(left), Datum::Number(right)) => arithmetic(*op, left, right),
                _ => Datum::Undefined,
            },
            Expr::Minus(part) => match part.value(row) {
                Datum::Number(num) => arithmetic(Operation::Subtract, Num::Int(0), num),
                _ => Datum::Undefined,
            },
            Expr::Plus(part) => match part.value(row) {
                number @ Datum::Number(_) => number,
                _ => Datum::Undefined,
            },
            Expr::Call { function, arguments } => match arguments.as_slice() {
                [one] => function.call(&[one.value(row)]),
                [first, second] => function.call(&[first.value(row), second.value(row)]),
                many => function.call(&many.iter().map(|one| one.value(row)).collect::<Vec<_>>()),
            },
            _ => self.truth(row).into(),
        }
    }
}

fn all<R: Row + ?Sized>(parts: &[Expr], row: &R) -> Option<bool> {
    let mut result = Some(true);
    for part in parts {
        match part.truth(row) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => result = None,
        }
    }
    result
}

fn any<R: Row + ?Sized>(parts: &[Expr], row: &R) -> Option<bool> {
    let mut result = Some(false);
    for part in parts {
        match part.truth(row) {
            Some(false) => {}
            Some(true) => return Some(true),
            None => result = None,
        }
    }
    result
}

/// Compares two values: undefined unless both are of one primitive kind (query §5).
pub fn compare(op: Comparison, left: &Datum<'_>, right: &Datum<'_>) -> Option<bool> {
    let order = match (left, right) {
        (Datum::Number(left), Datum::Number(right)) => left.cmp(right),
        // Equality needs no order: lengths that differ decide it.
        (Datum::Text(left), Datum::Text(right)) => match op {
            Comparison::Equal => return Some(left == right),
            Comparison::NotEqual => return Some(left != right),
            // UTF-8 orders as code points do.
            _ => left.as_bytes().cmp(right.as_bytes()),
        },
        (Datum::Bool(left), Datum::Bool(right)) => left.cmp(right),
        (Datum::Null, Datum::Null) => Ordering::Equal,
        _ => return None,
    };
    Some(op.admits(order))
}

/// Integers stay integers where the result is one that fits; otherwise doubles. By zero, or beyond the range of
/// doubles: undefined.
fn arithmetic(op: Operation, left: Num, right: Num) -> Datum<'static> {
    if let (Num::Int(left), Num::Int(right)) = (left, right) {
        let exact = match op {
            Operation::Add => left.checked_add(right),
            Operation::Subtract => left.checked_sub(right),
            Operation::Multiply => left.checked_mul(right),
            Operation::Divide if right != 0 && left.checked_rem(right) == Some(0) => left.checked_div(right),
            Operation::Divide => None,
            Operation::Remainder => left.checked_rem(right),
        };
        if let Some(value) = exact {
            return Datum::Number(Num::Int(value));
        }
    }
    let (left, right) = (left.as_f64(), right.as_f64());
    let value = match op {
        Operation::Add => left + right,
        Operation::Subtract => left - right,
        Operation::Multiply => left * right,
        Operation::Divide | Operation::Remainder if right == 0.0 => return Datum::Undefined,
        Operation::Divide => left / right,
        Operation::Remainder => left % right,
    };
    Num::finite(value).map_or(Datum::Undefined, Datum::Number)
}
