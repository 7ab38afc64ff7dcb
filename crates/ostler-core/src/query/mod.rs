//! The query language: text to tree, tree to text, and what a tree means for a row.
//!
//! One grammar, one tree, one evaluator that defines the meaning (query §2 to §9). Engines may answer faster, never
//! differently: they walk the same [`Expr`], and are held to [`TwinRow`].
//!
//! ```
//! use ostler_core::query::{Dialect, Query};
//! let query = Query::parse("select * from DEVICES where tags.site = \"Oslo\"", Dialect::Strict)?;
//! assert_eq!(query.to_string(), "SELECT * FROM devices WHERE tags.site = 'Oslo'");
//! # Ok::<(), ostler_core::query::ParseError>(())
//! ```
//!
//! Must not know: where rows are kept, who asks, how pages are cut.
//!
//! Invariant: reading a printed query gives an equal one.
//!
//! Invariant: a query has at most [`QUERY_CHARS`](crate::limits::QUERY_CHARS) characters and a tree of at most
//! [`QUERY_DEPTH`](crate::limits::QUERY_DEPTH) levels, so walking it needs bounded stack.

mod column;
mod error;
mod eval;
mod expr;
mod function;
mod group;
mod hints;
mod lexer;
mod list;
mod num;
mod parser;
mod pattern;
mod print;
mod row;
mod sum;
mod tree;
mod words;

pub use column::{Column, Field, JobField, Path, Place};
pub use error::ParseError;
pub use eval::{compare, Datum, Row};
pub use expr::{Comparison, Expr, Literal, Operation};
pub use function::Function;
pub use group::{GroupError, Groups};
pub use list::List;
pub use num::Num;
pub use pattern::Pattern;
pub use row::{project, project_row, Presence, TwinRow};
pub use tree::{Leaf, Test, Tree};

use crate::json::Key;

/// Paths of `ORDER BY`.
pub const ORDER_COLUMNS: usize = 8;

/// Which language is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The service's language and what we add to it.
    #[default]
    Extended,
    /// The service's language: what it refuses is refused.
    Strict,
}

/// A query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Whether to explain it instead of answering (extension).
    pub explain: bool,
    /// What rows are made of.
    pub select: Select,
    /// `TOP`: most rows over all pages, at least 1.
    pub top: Option<u64>,
    /// What is asked.
    pub from: Collection,
    /// Which rows; `None`: all.
    pub condition: Option<Expr>,
    /// What rows are gathered by.
    pub group_by: Option<Column>,
    /// The order of the rows, first column first (extension); at most [`ORDER_COLUMNS`]. Of gathered rows it is what
    /// they are gathered by, or the name of an aggregate.
    pub order_by: Vec<(Column, Direction)>,
    /// Most rows over all pages (extension).
    pub limit: Option<u64>,
    /// Rows left out at the start (extension).
    pub offset: Option<u64>,
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// [`ParseError`] says where and why.
    pub fn parse(text: &str, dialect: Dialect) -> Result<Query, ParseError> {
        parser::query(text, dialect)
    }

    /// Whether rows are gathered: by `GROUP BY`, or into one by aggregates alone.
    pub fn is_grouped(&self) -> bool {
        let aggregate = |item: &Item| matches!(item.what, What::Aggregate(..));
        self.group_by.is_some() || matches!(&self.select, Select::Items(items) if items.iter().any(aggregate))
    }

    /// Most rows over all pages: `TOP` or `LIMIT`.
    pub fn row_limit(&self) -> Option<u64> {
        self.top.or(self.limit)
    }

    /// Every column that the query reads, each once.
    pub fn columns(&self) -> Vec<&Column> {
        let mut all: Vec<&Column> = self.condition.iter().flat_map(Expr::columns).collect();
        let items = match &self.select {
            Select::All => &[],
            Select::Items(items) => items.as_slice(),
        };
        let selected = items.iter().filter_map(Item::column);
        let ordered = self.order_by.iter().map(|(column, _)| column);
        let ordered = ordered.filter(|column| !self.is_grouped() || self.group_by.as_ref() == Some(column));
        for column in selected.chain(&self.group_by).chain(ordered) {
            if !all.contains(&column) {
                all.push(column);
            }
        }
        all
    }

    /// Whether a path of `ORDER BY` is the name of an aggregate in the select list.
    fn is_aggregate(&self, column: &Column) -> bool {
        let Select::Items(items) = &self.select else { return false };
        let is_named = |item: &Item| item.output_name() == *column.name();
        !column.text().contains('.')
            && items.iter().any(|item| matches!(item.what, What::Aggregate(..)) && is_named(item))
    }

    /// The column behind an alias of the select list, or the column itself: `ORDER BY` may name either.
    fn behind_alias(&self, column: Column) -> Column {
        let Select::Items(items) = &self.select else { return column };
        let named = |item: &&Item| item.alias.as_deref().is_some_and(|alias| alias == &**column.name());
        match (column.field(), items.iter().find(named)) {
            (Field::Unknown, Some(Item { what: What::Column(meant), .. })) => meant.clone(),
            _ => column,
        }
    }
}

/// The select list.
#[derive(Clone, Debug, PartialEq)]
pub enum Select {
    /// `*`: whole documents.
    All,
    /// These; at least one.
    Items(Vec<Item>),
}

/// One item of a select list.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What it takes.
    pub what: What,
    /// What it is called.
    pub alias: Option<Key>,
}

impl Item {
    /// The name in the answer: the alias, else the path's last segment, else the aggregate's name in lower case
    /// (query §8).
    pub fn output_name(&self) -> Key {
        match (&self.alias, &self.what) {
            (Some(alias), _) => alias.clone(),
            (None, What::Column(column)) => column.name().clone(),
            (None, What::Aggregate(aggregate, _)) => Key::from(aggregate.name().to_ascii_lowercase()),
        }
    }

    /// The column it reads.
    pub fn column(&self) -> Option<&Column> {
        match &self.what {
            What::Column(column) => Some(column),
            What::Aggregate(_, column) => column.as_ref(),
        }
    }
}

/// What an item takes.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A value.
    Column(Column),
    /// An aggregate; `COUNT` has no column, the others have one.
    Aggregate(Aggregate, Option<Column>),
}

/// How many values are made one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// How many rows.
    Count,
    /// The sum of the numbers.
    Sum,
    /// Their mean.
    Avg,
    /// The least.
    Min,
    /// The greatest.
    Max,
}

impl Aggregate {
    const ALL: [Aggregate; 5] =
        [Aggregate::Count, Aggregate::Sum, Aggregate::Avg, Aggregate::Min, Aggregate::Max];

    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Aggregate::Count => "COUNT",
            Aggregate::Sum => "SUM",
            Aggregate::Avg => "AVG",
            Aggregate::Min => "MIN",
            Aggregate::Max => "MAX",
        }
    }

    fn find(word: &str) -> Option<Aggregate> {
        Aggregate::ALL.into_iter().find(|aggregate| word.eq_ignore_ascii_case(aggregate.name()))
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Collection {
    /// Device twins.
    Devices,
    /// Module twins.
    Modules,
    /// One row for each device of each job.
    Jobs,
}

impl Collection {
    /// As queries name it.
    pub const fn name(self) -> &'static str {
        match self {
            Collection::Devices => "devices",
            Collection::Modules => "devices.modules",
            Collection::Jobs => "devices.jobs",
        }
    }
}

/// Which way a column orders rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Least first.
    Ascending,
    /// Greatest first.
    Descending,
}

/// The condition of a job or of a configuration's target: `*`, which is all, or an expression (query §11).
#[derive(Clone, Debug, PartialEq)]
pub struct Condition(pub Option<Expr>);

impl Condition {
    /// Reads what would stand behind `WHERE`, or `*`. Positions in errors count as if
    /// `SELECT * FROM devices WHERE ` stood before it.
    ///
    /// # Errors
    /// [`ParseError`] says where and why.
    pub fn parse(text: &str, dialect: Dialect) -> Result<Condition, ParseError> {
        parser::condition(text, dialect)
    }

    /// Reads `from devices.modules where …`; without `where` it is all modules.
    ///
    /// # Errors
    /// [`ParseError`] says where and why.
    pub fn parse_modules(text: &str, dialect: Dialect) -> Result<Condition, ParseError> {
        parser::modules_condition(text, dialect)
    }

    /// Whether a row is meant.
    pub fn is_met<R: Row + ?Sized>(&self, row: &R) -> bool {
        self.0.as_ref().is_none_or(|expr| expr.truth(row) == Some(true))
    }
}

impl Column {
    /// Reads a path of device twins, such as `tags.building`.
    ///
    /// # Errors
    /// [`ParseError`] says where and why.
    pub fn parse(text: &str) -> Result<Column, ParseError> {
        parser::column(text)
    }
}

#[cfg(test)]
mod tests;
