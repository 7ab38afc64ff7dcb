//! How a condition is answered: which ids it can be about at all, and which of its parts a column can
//! judge.
//!
//! Must not know: records, shards; how many rows there are.
//!
//! Invariant: [`Access`] leaves out no id for which the condition can be true. Whoever follows it still
//! judges each row by the whole condition.
//! Invariant: a [`Node`] is exactly true for a row if and only if its expression is: `AND` and `OR` are
//! true when all or any of their parts are, whatever the others; everything else stays whole.

use super::registry::Tracked;
use ostler_core::query::{Column, Comparison, Expr, Field, Leaf, Literal, Test, Tree};
use std::sync::Arc;

/// Ids that are looked up one by one; beyond this a scan is as good.
const MOST_IDS: usize = 4096;

/// Which device ids a condition can be about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// These; sorted, each once.
    Ids(Vec<Box<str>>),
    /// Those that start so.
    Prefix(Box<str>),
    /// Any.
    All,
}

impl Access {
    pub(crate) fn of(condition: Option<&Expr>) -> Access {
        let mut access = condition.map_or(Access::All, |condition| of(&condition.tree()));
        if let Access::Ids(ids) = &mut access {
            ids.sort_unstable();
            ids.dedup();
            if ids.len() > MOST_IDS {
                return Access::All;
            }
        }
        access
    }

    fn rank(&self) -> (u8, usize) {
        match self {
            Access::Ids(ids) => (0, ids.len()),
            Access::Prefix(prefix) => (1, usize::MAX - prefix.len()),
            Access::All => (2, 0),
        }
    }
}

fn of(tree: &Tree<'_>) -> Access {
    match tree {
        Tree::All(parts) => parts.iter().map(of).min_by_key(Access::rank).unwrap_or(Access::All),
        Tree::Any(parts) => {
            let mut ids = Vec::new();
            for part in parts {
                match of(part) {
                    Access::Ids(mut more) => ids.append(&mut more),
                    _ => return Access::All,
                }
            }
            Access::Ids(ids)
        }
        Tree::Leaf(leaf) if leaf.column.is_some_and(|column| *column.field() == Field::DeviceId) => {
            match leaf.test() {
                Some(Test::Compare(Comparison::Equal, literal)) => {
                    Access::Ids(text(literal).into_iter().collect())
                }
                Some(Test::In { list, negated: false }) => {
                    Access::Ids(list.items().iter().filter_map(text).collect())
                }
                Some(Test::StartsWith(prefix)) => Access::Prefix(prefix.into()),
                _ => Access::All,
            }
        }
        Tree::Leaf(_) => Access::All,
    }
}

fn text(literal: &Literal) -> Option<Box<str>> {
    match literal {
        Literal::Text(text) => Some(text.clone()),
        _ => None,
    }
}

/// A condition in parts.
pub(crate) enum Node<'q> {
    /// True when all are; parts that columns judge come first.
    All(Vec<Node<'q>>),
    /// True when any is.
    Any(Vec<Node<'q>>),
    /// About one column alone, by its place among the leaves.
    Leaf(usize, Leaf<'q>),
    /// To be judged row by row.
    Rows(Tree<'q>),
}

/// A part that a column can judge.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'q> {
    /// The column's number.
    pub(crate) number: u32,
    pub(crate) leaf: Leaf<'q>,
}

impl<'q> Node<'q> {
    /// The parts of a condition, of which columns with these numbers can judge some.
    pub(crate) fn of(tree: Tree<'q>, columns: &[Arc<Tracked>], judges: &mut Vec<Judge<'q>>) -> Node<'q> {
        if !has_column(&tree, columns) {
            return Node::Rows(tree);
        }
        let mut nodes = |parts: Vec<Tree<'q>>| {
            let mut nodes: Vec<_> = parts.into_iter().map(|part| Node::of(part, columns, judges)).collect();
            nodes.sort_by_key(Node::cost);
            nodes
        };
        match tree {
            Tree::All(parts) => Node::All(nodes(parts)),
            Tree::Any(parts) => Node::Any(nodes(parts)),
            Tree::Leaf(leaf) => match known(leaf, columns) {
                Some(known) => {
                    judges.push(Judge { number: known.number, leaf });
                    Node::Leaf(judges.len() - 1, leaf)
                }
                None => Node::Rows(tree),
            },
        }
    }

    /// Whether columns judge all of it.
    pub(crate) fn is_columns_only(&self) -> bool {
        match self {
            Node::All(parts) | Node::Any(parts) => parts.iter().all(Node::is_columns_only),
            Node::Leaf(..) => true,
            Node::Rows(_) => false,
        }
    }

    /// The leaf's place, when this is one.
    pub(crate) fn leaf(&self) -> Option<usize> {
        match self {
            Node::Leaf(place, _) => Some(*place),
            _ => None,
        }
    }

    /// Leaves of which all must be true.
    pub(crate) fn required(&self) -> Vec<usize> {
        match self {
            Node::Leaf(place, _) => vec![*place],
            Node::All(parts) => parts.iter().filter_map(Node::leaf).collect(),
            _ => Vec::new(),
        }
    }

    fn cost(&self) -> u8 {
        match self {
            Node::Leaf(..) => 0,
            Node::All(_) | Node::Any(_) => 1,
            Node::Rows(_) => 2,
        }
    }
}

fn known<'c>(leaf: Leaf<'_>, columns: &'c [Arc<Tracked>]) -> Option<&'c Arc<Tracked>> {
    let column = leaf.column?;
    columns.iter().find(|known| known.column == *column)
}

fn has_column(tree: &Tree<'_>, columns: &[Arc<Tracked>]) -> bool {
    match tree {
        Tree::All(parts) | Tree::Any(parts) => parts.iter().any(|part| has_column(part, columns)),
        Tree::Leaf(leaf) => known(*leaf, columns).is_some(),
    }
}

/// The columns by which parts of a condition could be judged.
pub(crate) fn useful_columns(condition: Option<&Expr>) -> Vec<&Column> {
    let mut found = Vec::new();
    if let Some(condition) = condition {
        gather(&condition.tree(), &mut found);
    }
    found
}

fn gather<'q>(tree: &Tree<'q>, found: &mut Vec<&'q Column>) {
    match tree {
        Tree::All(parts) | Tree::Any(parts) => parts.iter().for_each(|part| gather(part, found)),
        Tree::Leaf(leaf) => {
            if let Some(column) = leaf.column.filter(|column| can_be_kept(column)) {
                if !found.contains(&column) {
                    found.push(column);
                }
            }
        }
    }
}

/// Whether a column can be kept beside the records: its value changes only with them.
pub(crate) fn can_be_kept(column: &Column) -> bool {
    // The ids have an index of their own; of an object there is nothing to tell.
    let is_needless = matches!(
        column.field(),
        Field::DeviceId | Field::ModuleId | Field::Unknown | Field::Job(_) | Field::Properties
    );
    !is_needless && !column.field().is_live()
}

/// Whether every part of a condition about this column compares it with a number, other than for
/// equality.
pub(crate) fn is_compared_only(tree: &Tree<'_>, column: &Column) -> bool {
    match tree {
        Tree::All(parts) | Tree::Any(parts) => parts.iter().all(|part| is_compared_only(part, column)),
        Tree::Leaf(leaf) if leaf.column == Some(column) => matches!(
            leaf.test(),
            Some(Test::Compare(op, Literal::Number(_))) if !matches!(op, Comparison::Equal | Comparison::NotEqual)
        ),
        Tree::Leaf(leaf) => !leaf.expr.columns().contains(&column),
    }
}
