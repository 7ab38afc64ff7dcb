//! What a query asks of a store: which records, in which order, with what known about their
//! connections.
//!
//! Must not know: how a query is written, how an engine finds its answer.
//!
//! Invariant: an order is total: rows that are equal in every column are ordered by their ids.

use ostler_core::json::Value;
use ostler_core::query::{Column, Datum, Direction, Expr, Presence, Row};
use ostler_core::record::{Activity, Record};
use std::cmp::Ordering;
use std::fmt;

/// Which records are meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Modules, or else devices.
    pub modules: bool,
    /// What must be exactly true of them; `None`: all.
    pub condition: Option<Expr>,
}

impl Filter {
    /// Whether a row is meant.
    pub fn keeps<R: Row + ?Sized>(&self, row: &R) -> bool {
        self.condition.as_ref().is_none_or(|condition| condition.truth(row) == Some(true))
    }
}

/// What is known of connections and queues now. Asked while a record is looked at: it must answer at once, and must
/// not ask the store.
pub trait Live: Send + Sync {
    /// Of the entity with this id (`device` or `device/module`). `None`: it is not connected, and the
    /// stored times count.
    fn presence(&self, id: &str) -> Option<Presence>;

    /// How many messages wait for the entity with this id, connected or not.
    fn messages(&self, _id: &str) -> u64 {
        0
    }

    /// All that is known of the entity with this id; `stored` is when it was last seen if it is not connected.
    fn whole(&self, id: &str, stored: Activity) -> Presence {
        let presence = self.presence(id).unwrap_or(Presence { activity: stored, ..Presence::default() });
        Presence { messages: self.messages(id), ..presence }
    }
}

/// Nobody is connected.
#[derive(Clone, Copy, Debug, Default)]
pub struct NobodyConnected;

impl Live for NobodyConnected {
    fn presence(&self, _: &str) -> Option<Presence> {
        None
    }
}

/// How records are ordered.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// By the text of their ids, as bytes.
    ById,
    /// By these columns, see [`Datum::order`]; where they are equal by id.
    By(Vec<(Column, Direction)>),
}

/// The last record of the page before.
#[derive(Clone, Debug, PartialEq)]
pub struct After {
    /// What it had in the columns of the order, `None` for undefined; of an object any object will do.
    pub values: Vec<Option<Value>>,
    /// Its id.
    pub id: Box<str>,
}

/// A page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The records, in order.
    pub records: Vec<Record>,
    /// Whether there are more behind them.
    pub more: bool,
}

/// How an engine would answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// How it finds the records.
    pub plan: Plan,
    /// Paths for which it could keep a column, and whether it does.
    pub columns: Vec<ColumnUse>,
    /// Records there are.
    pub rows: u64,
}

/// How records are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// By so many ids.
    Ids(usize),
    /// In the order of the ids, those with this prefix.
    Prefix(Box<str>),
    /// By columns alone.
    Columns,
    /// By columns as far as they go, and then by the records.
    ColumnsThenRows,
    /// By looking at every record.
    Scan,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plan::Ids(1) => f.write_str("look up 1 id"),
            Plan::Ids(count) => write!(f, "look up {count} ids"),
            Plan::Prefix(prefix) => write!(f, "go through the ids that start with {prefix:?}"),
            Plan::Columns => f.write_str("judge columns in memory"),
            Plan::ColumnsThenRows => f.write_str("judge columns in memory, then the records that are left"),
            Plan::Scan => f.write_str("look at every record"),
        }
    }
}

/// A path and its column.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnUse {
    /// The path.
    pub column: Column,
    /// Whether the engine has it in memory.
    pub built: bool,
}

/// Where a row stands in an order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) values: Vec<Datum<'static>>,
    pub(crate) id: Box<str>,
}

impl Standing {
    /// Of a row.
    pub(crate) fn of<R: Row + ?Sized>(row: &R, id: &str, order: &Order) -> Standing {
        let columns = match order {
            Order::ById => &[],
            Order::By(columns) => columns.as_slice(),
        };
        let values = columns.iter().map(|(column, _)| owned(&row.get(column))).collect();
        Standing { values, id: id.into() }
    }

    /// Of the last row of the page before.
    pub(crate) fn after(after: &After) -> Standing {
        let datum =
            |value: &Option<Value>| value.as_ref().map_or(Datum::Undefined, |it| owned(&Datum::from(it)));
        Standing { values: after.values.iter().map(datum).collect(), id: after.id.clone() }
    }

    /// Which comes first.
    pub(crate) fn compare(&self, other: &Standing, order: &Order) -> Ordering {
        let columns = match order {
            Order::ById => &[],
            Order::By(columns) => columns.as_slice(),
        };
        for ((_, direction), (left, right)) in columns.iter().zip(self.values.iter().zip(&other.values)) {
            let by_value = left.order(right);
            let by_value = if *direction == Direction::Descending { by_value.reverse() } else { by_value };
            if by_value.is_ne() {
                return by_value;
            }
        }
        self.id.cmp(&other.id)
    }
}

/// A datum that borrows nothing.
pub(crate) fn owned(datum: &Datum<'_>) -> Datum<'static> {
    match datum {
        Datum::Undefined => Datum::Undefined,
        Datum::Null => Datum::Null,
        Datum::Bool(value) => Datum::Bool(*value),
        Datum::Number(number) => Datum::Number(*number),
        Datum::Text(text) => Datum::Text(text.clone().into_owned().into()),
        Datum::Array(elements) => Datum::Array(elements.to_vec().into()),
        Datum::Object => Datum::Object,
    }
}
