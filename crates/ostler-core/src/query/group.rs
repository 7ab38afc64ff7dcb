//! Gathering rows: aggregates over all rows or per value of one column (query §8).
//!
//! Each thread fills its own [`Groups`]; merged in any order they give the same rows.
//!
//! Must not know: where rows come from, how many are shown.
//!
//! Invariant: there are at most [`QUERY_GROUPS`] groups, and what they hold has at most about
//! [`QUERY_GROUP_BYTES`].

use super::column::Column;
use super::eval::{Datum, Row};
use super::num::Num;
use super::sum::Sum;
use super::{Aggregate, Direction, Query, Select, What};
use crate::json::{Key, Number, Object, Value};
use crate::limits::{QUERY_GROUPS, QUERY_GROUP_BYTES};
use std::collections::HashMap;
use std::sync::Arc;

/// Why rows cannot be gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// Too many distinct values.
    #[error("the query makes more than {QUERY_GROUPS} groups; narrow it with WHERE or group by a column with fewer values")]
    TooMany,
    /// Too many bytes of values.
    #[error("the values of the query's groups need more than {QUERY_GROUP_BYTES} bytes; narrow it with WHERE or group by a column with shorter values")]
    TooLarge,
    /// An object was counted without its members.
    #[error("rows whose group is an object must be added one by one")]
    Object,
}

/// Gathered rows.
#[derive(Clone, Debug)]
pub struct Groups {
    plan: Arc<Plan>,
    /// Rows without a value, or all rows when nothing is grouped by.
    undefined: Option<Group>,
    null: Option<Group>,
    bools: [Option<Group>; 2],
    numbers: HashMap<Num, Group>,
    texts: HashMap<Box<str>, Group>,
    /// Arrays and objects, by their text.
    others: HashMap<Box<str>, (Value, Group)>,
    bytes: usize,
}

#[derive(Debug)]
struct Plan {
    group_by: Option<Column>,
    descending: bool,
    items: Vec<(Key, Output)>,
    /// The columns that are aggregated.
    columns: Vec<Column>,
}

/// What an item of the answer is; the number is the column's place in [`Plan::columns`].
#[derive(Debug)]
enum Output {
    Value,
    Count,
    Sum(usize),
    Avg(usize),
    Min(usize),
    Max(usize),
}

#[derive(Clone, Debug)]
struct Group {
    rows: u64,
    stats: Box<[Stats]>,
}

/// What is known of a column's values in a group. Texts count only where there are no numbers (query §8).
#[derive(Clone, Debug, Default)]
struct Stats {
    sum: Sum,
    numbers: Option<(Num, Num)>,
    texts: Option<(Box<str>, Box<str>)>,
}

impl Groups {
    /// No rows yet.
    pub fn new(query: &Query) -> Groups {
        Groups {
            plan: Arc::new(Plan::new(query)),
            undefined: None,
            null: None,
            bools: [None, None],
            numbers: HashMap::new(),
            texts: HashMap::new(),
            others: HashMap::new(),
            bytes: 0,
        }
    }

    /// The columns whose values [`Groups::add_values`] takes, in that order. None: rows are only counted.
    pub fn columns(&self) -> &[Column] {
        &self.plan.columns
    }

    /// The column that rows are grouped by.
    pub fn group_by(&self) -> Option<&Column> {
        self.plan.group_by.as_ref()
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`GroupError`] when a bound is met.
    pub fn add<R: Row + ?Sized>(&mut self, row: &R) -> Result<(), GroupError> {
        let plan = self.plan.clone();
        let group = match plan.group_by.as_ref().map(|column| (column, row.get(column))) {
            None => self.group(&Datum::Undefined)?,
            Some((column, Datum::Object)) => {
                let value = row.value(column).unwrap_or(Value::Object(Object::new()));
                self.other(value)?
            }
            Some((_, datum)) => self.group(&datum)?,
        };
        group.rows += 1;
        let mut grown = 0;
        for (stats, column) in group.stats.iter_mut().zip(&plan.columns) {
            grown += stats.add(&row.get(column));
        }
        self.charge(grown)
    }

    /// Adds a row by its values: the group's, and one for each of [`Groups::columns`].
    ///
    /// # Errors
    /// [`GroupError`] when a bound is met, or the group is an object.
    pub fn add_values(&mut self, group: &Datum<'_>, values: &[Datum<'_>]) -> Result<(), GroupError> {
        let group = self.group(group)?;
        group.rows += 1;
        let grown = group.stats.iter_mut().zip(values).map(|(stats, value)| stats.add(value)).sum();
        self.charge(grown)
    }

    /// Adds many rows of one group, when nothing but rows is counted: [`Groups::columns`] is empty.
    ///
    /// # Errors
    /// [`GroupError`] when a bound is met, or the group is an object.
    pub fn add_counted(&mut self, group: &Datum<'_>, rows: u64) -> Result<(), GroupError> {
        if rows > 0 {
            self.group(group)?.rows += rows;
        }
        Ok(())
    }

    /// Adds what another thread gathered for the same query.
    ///
    /// # Errors
    /// [`GroupError`] when a bound is met.
    pub fn merge(&mut self, other: Groups) -> Result<(), GroupError> {
        let [no, yes] = other.bools;
        let fixed = [
            (Datum::Undefined, other.undefined),
            (Datum::Null, other.null),
            (Datum::Bool(false), no),
            (Datum::Bool(true), yes),
        ];
        for (datum, group) in fixed {
            if let Some(group) = group {
                let grown = self.group(&datum)?.merge(group);
                self.charge(grown)?;
            }
        }
        // The order of these loops does not show: sums and bounds do not depend on it.
        for (num, group) in other.numbers {
            let grown = self.group(&Datum::Number(num))?.merge(group);
            self.charge(grown)?;
        }
        for (text, group) in other.texts {
            let grown = self.group(&Datum::text(&text))?.merge(group);
            self.charge(grown)?;
        }
        for (_, (value, group)) in other.others {
            let grown = self.other(value)?.merge(group);
            self.charge(grown)?;
        }
        Ok(())
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        let fixed = [&self.undefined, &self.null, &self.bools[0], &self.bools[1]];
        let fixed = fixed.into_iter().flatten().count();
        fixed + self.numbers.len() + self.texts.len() + self.others.len()
    }

    /// Whether no row was added.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of the answer in the order of their groups: undefined, null, booleans, numbers, texts, arrays and
    /// objects. Without `GROUP BY` it is one row, even of nothing.
    pub fn rows(&self) -> Vec<Object> {
        self.groups().into_iter().map(|(_, row)| row).collect()
    }

    /// As [`Groups::rows`], each with the value that its group has in common; `None` is undefined.
    pub fn groups(&self) -> Vec<(Option<Value>, Object)> {
        let plan = &*self.plan;
        if plan.group_by.is_none() {
            let nothing = Group::new(plan.columns.len());
            return vec![(None, plan.row(None, self.undefined.as_ref().unwrap_or(&nothing)))];
        }
        let mut numbers: Vec<_> = self.numbers.iter().collect();
        numbers.sort_unstable_by_key(|(num, _)| **num);
        let mut texts: Vec<_> = self.texts.iter().collect();
        texts.sort_unstable_by_key(|(text, _)| *text);
        let mut others: Vec<_> = self.others.iter().collect();
        others.sort_unstable_by_key(|(text, _)| *text);
        let row = |value: Option<Value>, group| (value.clone(), plan.row(value, group));
        let mut rows = Vec::with_capacity(self.len());
        rows.extend(self.undefined.iter().map(|group| row(None, group)));
        rows.extend(self.null.iter().map(|group| row(Some(Value::Null), group)));
        for (value, group) in [false, true].into_iter().zip(&self.bools) {
            rows.extend(group.iter().map(|group| row(Some(Value::Bool(value)), group)));
        }
        let number = |num: &Num| Some(Value::Number(num.to_number()));
        rows.extend(numbers.into_iter().map(|(num, group)| row(number(num), group)));
        let string = |text: &str| Some(Value::String(text.into()));
        rows.extend(texts.into_iter().map(|(text, group)| row(string(text), group)));
        rows.extend(others.into_iter().map(|(_, (value, group))| row(Some(value.clone()), group)));
        if plan.descending {
            rows.reverse();
        }
        rows
    }

    fn charge(&mut self, bytes: usize) -> Result<(), GroupError> {
        self.bytes += bytes;
        match self.bytes > QUERY_GROUP_BYTES {
            true => Err(GroupError::TooLarge),
            false => Ok(()),
        }
    }

    /// Room for one more group whose value has this many bytes.
    fn admit(&mut self, bytes: usize) -> Result<Group, GroupError> {
        if self.len() >= QUERY_GROUPS {
            return Err(GroupError::TooMany);
        }
        self.charge(bytes)?;
        Ok(Group::new(self.plan.columns.len()))
    }

    fn group(&mut self, datum: &Datum<'_>) -> Result<&mut Group, GroupError> {
        let columns = self.plan.columns.len();
        match datum {
            Datum::Undefined => Ok(self.undefined.get_or_insert_with(|| Group::new(columns))),
            Datum::Null => Ok(self.null.get_or_insert_with(|| Group::new(columns))),
            Datum::Bool(value) => {
                Ok(self.bools[usize::from(*value)].get_or_insert_with(|| Group::new(columns)))
            }
            Datum::Number(num) => {
                let num = num.canonical();
                if !self.numbers.contains_key(&num) {
                    let group = self.admit(0)?;
                    self.numbers.insert(num, group);
                }
                self.numbers.get_mut(&num).ok_or(GroupError::TooMany)
            }
            Datum::Text(text) => {
                if !self.texts.contains_key(&**text) {
                    let group = self.admit(text.len())?;
                    self.texts.insert((&**text).into(), group);
                }
                self.texts.get_mut(&**text).ok_or(GroupError::TooMany)
            }
            Datum::Array(elements) => self.other(Value::Array(elements.to_vec())),
            Datum::Object => Err(GroupError::Object),
        }
    }

    fn other(&mut self, value: Value) -> Result<&mut Group, GroupError> {
        let text: Box<str> = value.to_string().into();
        if !self.others.contains_key(&text) {
            let group = self.admit(2 * text.len())?;
            self.others.insert(text.clone(), (value, group));
        }
        self.others.get_mut(&text).map(|(_, group)| group).ok_or(GroupError::TooMany)
    }
}

impl Plan {
    fn new(query: &Query) -> Plan {
        let mut columns: Vec<Column> = Vec::new();
        let mut place = |column: &Column| {
            columns.iter().position(|known| known == column).unwrap_or_else(|| {
                columns.push(column.clone());
                columns.len() - 1
            })
        };
        let items = match &query.select {
            Select::All => &[],
            Select::Items(items) => items.as_slice(),
        };
        let items = items
            .iter()
            .map(|item| {
                let output = match &item.what {
                    What::Aggregate(Aggregate::Sum, Some(column)) => Output::Sum(place(column)),
                    What::Aggregate(Aggregate::Avg, Some(column)) => Output::Avg(place(column)),
                    What::Aggregate(Aggregate::Min, Some(column)) => Output::Min(place(column)),
                    What::Aggregate(Aggregate::Max, Some(column)) => Output::Max(place(column)),
                    What::Aggregate(..) => Output::Count,
                    What::Column(_) => Output::Value,
                };
                (item.output_name(), output)
            })
            .collect();
        let descending = query.order_by.first().is_some_and(|(column, way)| {
            *way == Direction::Descending && query.group_by.as_ref() == Some(column)
        });
        Plan { group_by: query.group_by.clone(), descending, items, columns }
    }

    fn row(&self, value: Option<Value>, group: &Group) -> Object {
        let mut row = Object::new();
        for (name, output) in &self.items {
            let value = match output {
                Output::Value => value.clone(),
                Output::Count => Some(count(group.rows)),
                Output::Sum(at) => group.stats[*at].sum.total().map(number),
                Output::Avg(at) => group.stats[*at].sum.mean().map(number),
                Output::Min(at) => group.stats[*at].ends().map(|(least, _)| least),
                Output::Max(at) => group.stats[*at].ends().map(|(_, greatest)| greatest),
            };
            if let Some(value) = value {
                row.insert(name.clone(), value);
            }
        }
        row
    }
}

fn number(num: Num) -> Value {
    Value::Number(num.to_number())
}

fn count(rows: u64) -> Value {
    Value::Number(Number::from(i64::try_from(rows).unwrap_or(i64::MAX)))
}

impl Group {
    fn new(columns: usize) -> Group {
        Group { rows: 0, stats: vec![Stats::default(); columns].into() }
    }

    /// Returns by how many bytes it grew.
    fn merge(&mut self, other: Group) -> usize {
        self.rows += other.rows;
        self.stats.iter_mut().zip(other.stats).map(|(stats, other)| stats.merge(&other)).sum()
    }
}

impl Stats {
    /// Returns by how many bytes it grew.
    fn add(&mut self, datum: &Datum<'_>) -> usize {
        match datum {
            Datum::Number(num) => {
                self.sum.add(*num);
                self.widen(*num, *num);
                0
            }
            Datum::Text(text) => self.widen_texts(text, text),
            _ => 0,
        }
    }

    fn merge(&mut self, other: &Stats) -> usize {
        self.sum.merge(&other.sum);
        if let Some((least, greatest)) = other.numbers {
            self.widen(least, greatest);
        }
        other.texts.as_ref().map_or(0, |(least, greatest)| self.widen_texts(least, greatest))
    }

    fn widen(&mut self, least: Num, greatest: Num) {
        self.numbers = Some(match self.numbers {
            None => (least, greatest),
            Some((low, high)) => (low.min(least), high.max(greatest)),
        });
    }

    fn widen_texts(&mut self, least: &str, greatest: &str) -> usize {
        let Some((low, high)) = &mut self.texts else {
            self.texts = Some((least.into(), greatest.into()));
            return least.len() + greatest.len();
        };
        let before = low.len() + high.len();
        if *least < **low {
            *low = least.into();
        }
        if *greatest > **high {
            *high = greatest.into();
        }
        (low.len() + high.len()).saturating_sub(before)
    }

    fn ends(&self) -> Option<(Value, Value)> {
        match (&self.numbers, &self.texts) {
            (Some((least, greatest)), _) => Some((number(*least), number(*greatest))),
            (None, Some((least, greatest))) => {
                Some((Value::String(least.clone()), Value::String(greatest.clone())))
            }
            (None, None) => None,
        }
    }
}
