//! A condition taken apart for engines: which leaves must hold, all or any, and which single column each needs.
//!
//! `NOT` is carried down to the leaves. In three-valued logic that changes nothing about when a condition is true, and
//! only then a row is kept: an engine may find the rows of each leaf by itself and intersect or unite them.
//!
//! Must not know: how an engine finds rows.
//!
//! Invariant: for every row, [`Tree::holds`] is whether the condition's truth is `Some(true)`.

use super::column::Column;
use super::eval::{Datum, Row};
use super::expr::{Comparison, Expr, Literal};
use super::function::Function;
use super::list::List;

/// A condition as leaves under "all" and "any".
#[derive(Clone, Debug, PartialEq)]
pub enum Tree<'a> {
    /// All must hold; at least two.
    All(Vec<Tree<'a>>),
    /// One must hold; at least two.
    Any(Vec<Tree<'a>>),
    /// A part that is not taken apart further.
    Leaf(Leaf<'a>),
}

/// A part of a condition without AND and OR at its top.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leaf<'a> {
    /// The expression.
    pub expr: &'a Expr,
    /// Whether it must be false instead of true.
    pub negated: bool,
    /// The column it depends on, if it is exactly one.
    pub column: Option<&'a Column>,
}

/// A leaf that compares its column with constants, in the forms that an index can answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Test<'a> {
    /// The column, compared with a constant on the right.
    Compare(Comparison, &'a Literal),
    /// `IN`; when negated `NIN`.
    In {
        /// Where.
        list: &'a List,
        /// `NIN`.
        negated: bool,
    },
    /// The column is a text that begins so.
    StartsWith(&'a str),
    /// The column has a value, or has none.
    Defined(bool),
}

impl Expr {
    /// Takes the condition apart.
    pub fn tree(&self) -> Tree<'_> {
        tree(self, false)
    }
}

fn tree(expr: &Expr, negated: bool) -> Tree<'_> {
    match expr {
        Expr::Not(inner) => tree(inner, !negated),
        Expr::And(parts) | Expr::Or(parts) => {
            let all = matches!(expr, Expr::And(_)) != negated;
            let parts = parts.iter().map(|part| tree(part, negated)).collect();
            if all {
                Tree::All(parts)
            } else {
                Tree::Any(parts)
            }
        }
        leaf => Tree::Leaf(Leaf { expr: leaf, negated, column: only_column(leaf) }),
    }
}

fn only_column(expr: &Expr) -> Option<&Column> {
    let (mut only, mut others) = (None, false);
    expr.visit(&mut |part| {
        if let Expr::Column(column) = part {
            others |= only.is_some_and(|only| only != column);
            only = Some(column);
        }
    });
    only.filter(|_| !others)
}

impl Tree<'_> {
    /// Whether a row is kept.
    pub fn holds<R: Row + ?Sized>(&self, row: &R) -> bool {
        match self {
            Tree::All(parts) => parts.iter().all(|part| part.holds(row)),
            Tree::Any(parts) => parts.iter().any(|part| part.holds(row)),
            Tree::Leaf(leaf) => leaf.holds(row),
        }
    }
}

impl<'a> Leaf<'a> {
    /// Whether it holds for a row.
    pub fn holds<R: Row + ?Sized>(&self, row: &R) -> bool {
        self.expr.truth(row) == Some(!self.negated)
    }

    /// Whether it holds where its one column has this value. Only for leaves that have a [`Leaf::column`].
    pub fn holds_for(&self, datum: &Datum<'_>) -> bool {
        self.holds(&OneColumn(datum))
    }

    /// The leaf as a test of its column, when it has such a form.
    pub fn test(&self) -> Option<Test<'a>> {
        let test = plain_test(self.expr)?;
        match (self.negated, test) {
            (false, test) => Some(test),
            // One of `<` and `>=` is true wherever the other is false, and both are undefined together.
            (true, Test::Compare(op, literal)) => Some(Test::Compare(opposite(op), literal)),
            (true, Test::In { list, negated }) => Some(Test::In { list, negated: !negated }),
            (true, Test::Defined(defined)) => Some(Test::Defined(!defined)),
            (true, Test::StartsWith(_)) => None,
        }
    }
}

const TRUE: &Literal = &Literal::Bool(true);

fn plain_test(expr: &Expr) -> Option<Test<'_>> {
    match expr {
        Expr::Column(_) => Some(Test::Compare(Comparison::Equal, TRUE)),
        Expr::Compare { op, left, right } => match (&**left, &**right) {
            (Expr::Column(_), Expr::Literal(literal)) => Some(Test::Compare(*op, literal)),
            (Expr::Literal(literal), Expr::Column(_)) => Some(Test::Compare(op.flipped(), literal)),
            _ => None,
        },
        Expr::In { value, list, negated } if matches!(**value, Expr::Column(_)) => {
            Some(Test::In { list, negated: *negated })
        }
        Expr::Call { function, arguments } => match (function, arguments.as_slice()) {
            (Function::IsDefined, [Expr::Column(_)]) => Some(Test::Defined(true)),
            (Function::StartsWith, [Expr::Column(_), Expr::Literal(Literal::Text(prefix))]) => {
                Some(Test::StartsWith(prefix))
            }
            _ => None,
        },
        _ => None,
    }
}

fn opposite(op: Comparison) -> Comparison {
    match op {
        Comparison::Equal => Comparison::NotEqual,
        Comparison::NotEqual => Comparison::Equal,
        Comparison::Less => Comparison::GreaterOrEqual,
        Comparison::LessOrEqual => Comparison::Greater,
        Comparison::Greater => Comparison::LessOrEqual,
        Comparison::GreaterOrEqual => Comparison::Less,
    }
}

/// A row of which one column is asked, whichever that is.
struct OneColumn<'a>(&'a Datum<'a>);

impl Row for OneColumn<'_> {
    fn get(&self, _: &Column) -> Datum<'_> {
        self.0.borrowed()
    }
}
