//! Expressions: the tree that a condition is read into (query §3).
//!
//! Constants are read, patterns compiled and lists sorted once, here, so that judging a row does none of it.
//!
//! Must not know: what a row is, how the text was spelled.
//!
//! Invariant: `And` and `Or` have at least two parts, a call has the arguments its function takes.

use super::column::Column;
use super::function::Function;
use super::list::List;
use super::num::Num;
use super::pattern::Pattern;
use crate::json::Value;
use std::cmp::Ordering;

/// A condition or a value in one.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A constant.
    Literal(Literal),
    /// A value of the row.
    Column(Column),
    /// An array of constants.
    List(List),
    /// All of them.
    And(Vec<Expr>),
    /// Any of them.
    Or(Vec<Expr>),
    /// The opposite.
    Not(Box<Expr>),
    /// Two values compared.
    Compare {
        /// How.
        op: Comparison,
        /// The first.
        left: Box<Expr>,
        /// The second.
        right: Box<Expr>,
    },
    /// `IN`, and when negated `NIN` or `NOT IN`.
    In {
        /// What is looked for.
        value: Box<Expr>,
        /// Where.
        list: List,
        /// `NIN`.
        negated: bool,
    },
    /// `LIKE`, an extension.
    Like {
        /// What is looked at.
        value: Box<Expr>,
        /// How it must look.
        pattern: Pattern,
        /// `NOT LIKE`.
        negated: bool,
    },
    /// Two numbers made one.
    Arithmetic {
        /// How.
        op: Operation,
        /// The first.
        left: Box<Expr>,
        /// The second.
        right: Box<Expr>,
    },
    /// `-x`.
    Minus(Box<Expr>),
    /// `+x`: the number itself, undefined for anything else.
    Plus(Box<Expr>),
    /// A function's result.
    Call {
        /// Which.
        function: Function,
        /// Of what.
        arguments: Vec<Expr>,
    },
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `undefined`
    Undefined,
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Num),
    /// A string.
    Text(Box<str>),
}

impl Literal {
    /// The constant as JSON; `None` for `undefined`.
    pub fn to_value(&self) -> Option<Value> {
        Some(match self {
            Literal::Undefined => return None,
            Literal::Null => Value::Null,
            Literal::Bool(value) => Value::Bool(*value),
            Literal::Number(num) => Value::Number(num.to_number()),
            Literal::Text(text) => Value::String(text.clone()),
        })
    }
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=` and `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// The operator.
    pub const fn symbol(self) -> &'static str {
        match self {
            Comparison::Equal => "=",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }

    /// Whether it holds for two values that stand in this order.
    pub const fn admits(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }

    /// The same comparison with its sides exchanged: `a < b` is `b > a`.
    #[must_use]
    pub const fn flipped(self) -> Comparison {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
            same => same,
        }
    }
}

/// How two numbers are made one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

impl Operation {
    /// The operator.
    pub const fn symbol(self) -> &'static str {
        match self {
            Operation::Add => "+",
            Operation::Subtract => "-",
            Operation::Multiply => "*",
            Operation::Divide => "/",
            Operation::Remainder => "%",
        }
    }
}

impl Expr {
    /// The columns it depends on, each once, in the order of the text.
    pub fn columns(&self) -> Vec<&Column> {
        let mut found = Vec::new();
        let mut seen = std::collections::HashSet::new();
        self.visit(&mut |expr| {
            if let Expr::Column(column) = expr {
                if seen.insert(column) {
                    found.push(column);
                }
            }
        });
        found
    }

    /// Shows every part to `look`, outer before inner, left before right.
    pub fn visit<'a>(&'a self, look: &mut dyn FnMut(&'a Expr)) {
        look(self);
        match self {
            Expr::Literal(_) | Expr::Column(_) | Expr::List(_) => {}
            Expr::And(parts) | Expr::Or(parts) | Expr::Call { arguments: parts, .. } => {
                for part in parts {
                    part.visit(look);
                }
            }
            Expr::Not(part) | Expr::Minus(part) | Expr::Plus(part) => part.visit(look),
            Expr::In { value, .. } | Expr::Like { value, .. } => value.visit(look),
            Expr::Compare { left, right, .. } | Expr::Arithmetic { left, right, .. } => {
                left.visit(look);
                right.visit(look);
            }
        }
    }
}
