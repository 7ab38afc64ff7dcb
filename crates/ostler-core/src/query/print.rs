//! Queries as text again.
//!
//! Must not know: how the text is read.
//!
//! Invariant: reading the printed text gives an equal query; parentheses stand only where reading needs them.

use super::expr::{Expr, Literal, Operation};
use super::list::List;
use super::words::write_name;
use super::{Collection, Condition, Direction, Item, Query, Select, What};
use std::fmt::{self, Display, Formatter, Write};

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.explain {
            f.write_str("EXPLAIN ")?;
        }
        f.write_str("SELECT ")?;
        if let Some(top) = self.top {
            write!(f, "TOP {top} ")?;
        }
        match &self.select {
            Select::All => f.write_char('*')?,
            Select::Items(items) => separated(f, items)?,
        }
        write!(f, " FROM {}", self.from)?;
        if let Some(condition) = &self.condition {
            write!(f, " WHERE {condition}")?;
        }
        if let Some(column) = &self.group_by {
            write!(f, " GROUP BY {column}")?;
        }
        for (i, (column, direction)) in self.order_by.iter().enumerate() {
            f.write_str(if i == 0 { " ORDER BY " } else { ", " })?;
            Display::fmt(column, f)?;
            if *direction == Direction::Descending {
                f.write_str(" DESC")?;
            }
        }
        if let Some(limit) = self.limit {
            write!(f, " LIMIT {limit}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " OFFSET {offset}")?;
        }
        Ok(())
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_char('*'),
            Some(expr) => Display::fmt(expr, f),
        }
    }
}

impl Display for Collection {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Display for Item {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Column(column) => Display::fmt(column, f)?,
            What::Aggregate(aggregate, None) => write!(f, "{}()", aggregate.name())?,
            What::Aggregate(aggregate, Some(column)) => write!(f, "{}({column})", aggregate.name())?,
        }
        match &self.alias {
            None => Ok(()),
            Some(alias) => {
                let mut text = String::new();
                write_name(alias, &mut text);
                write!(f, " AS {text}")
            }
        }
    }
}

/// How tightly an expression binds; each rule of the grammar takes what binds at least as tightly as it asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Or,
    And,
    Not,
    Comparison,
    Sum,
    Product,
    Signed,
    Primary,
}

fn level(expr: &Expr) -> Level {
    match expr {
        Expr::Or(_) => Level::Or,
        Expr::And(_) => Level::And,
        Expr::Not(_) => Level::Not,
        Expr::Compare { .. } | Expr::In { .. } | Expr::Like { .. } => Level::Comparison,
        Expr::Arithmetic { op: Operation::Add | Operation::Subtract, .. } => Level::Sum,
        Expr::Arithmetic { .. } => Level::Product,
        // A number under a sign would be read as one constant; parentheses keep them apart.
        Expr::Minus(_) | Expr::Plus(_) | Expr::Literal(Literal::Number(_)) => Level::Signed,
        Expr::Literal(_) | Expr::Column(_) | Expr::List(_) | Expr::Call { .. } => Level::Primary,
    }
}

/// Writes a part of an expression where the grammar asks for something of a level.
struct Part<'a>(&'a Expr, Level);

impl Display for Part<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match level(self.0) < self.1 {
            true => write!(f, "({})", self.0),
            false => Display::fmt(self.0, f),
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Literal(literal) => Display::fmt(literal, f),
            Expr::Column(column) => Display::fmt(column, f),
            Expr::List(list) => Display::fmt(list, f),
            Expr::Or(parts) => joined(f, parts, " OR ", Level::And),
            Expr::And(parts) => joined(f, parts, " AND ", Level::Not),
            Expr::Not(part) => write!(f, "NOT {}", Part(part, Level::Not)),
            Expr::Compare { op, left, right } => {
                write!(f, "{} {} {}", Part(left, Level::Sum), op.symbol(), Part(right, Level::Sum))
            }
            Expr::In { value, list, negated } => {
                write!(f, "{} {} {list}", Part(value, Level::Sum), if *negated { "NIN" } else { "IN" })
            }
            Expr::Like { value, pattern, negated } => {
                let not = if *negated { "NOT " } else { "" };
                write!(f, "{} {not}LIKE ", Part(value, Level::Sum))?;
                quoted(f, pattern.text())
            }
            Expr::Arithmetic { op, left, right } => {
                let (least, more) = match op {
                    Operation::Add | Operation::Subtract => (Level::Sum, Level::Product),
                    _ => (Level::Product, Level::Signed),
                };
                write!(f, "{} {} {}", Part(left, least), op.symbol(), Part(right, more))
            }
            Expr::Minus(part) => write!(f, "-{}", Part(part, Level::Primary)),
            Expr::Plus(part) => write!(f, "+{}", Part(part, Level::Primary)),
            Expr::Call { function, arguments } => {
                write!(f, "{}(", function.name())?;
                separated(f, arguments)?;
                f.write_char(')')
            }
        }
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Undefined => f.write_str("undefined"),
            Literal::Null => f.write_str("null"),
            Literal::Bool(value) => write!(f, "{value}"),
            Literal::Number(num) => write!(f, "{num}"),
            Literal::Text(text) => quoted(f, text),
        }
    }
}

impl Display for List {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('[')?;
        separated(f, self.items())?;
        f.write_char(']')
    }
}

fn joined(f: &mut Formatter<'_>, parts: &[Expr], word: &str, least: Level) -> fmt::Result {
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            f.write_str(word)?;
        }
        Part(part, least).fmt(f)?;
    }
    Ok(())
}

fn separated<T: Display>(f: &mut Formatter<'_>, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('\'')?;
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('\'')
}
