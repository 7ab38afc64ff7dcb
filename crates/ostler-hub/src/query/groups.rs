//! Rows that are made of several: `GROUP BY` and aggregates (query §8).
//!
//! The groups are gathered anew for every page; a token says behind which group to go on.
//!
//! Invariant: groups come in the order asked for, their values breaking ties, so that the last one says where to go on.

use super::device_jobs::Reader;
use super::job_row::JobRow;
use super::order::{self, Standing};
use super::token::{After, Datum, Place};
use super::{apart, Asked, QueryPage, Rows};
use crate::error::Error;
use crate::hub::Hub;
use ostler_core::json::{Object, Value};
use ostler_core::query::{Collection, Column, Direction, Groups, Query};
use ostler_store::StoreError;
use std::cmp::Ordering;

impl Hub {
    pub(super) async fn query_groups(&self, asked: &Asked<'_>) -> Result<QueryPage, Error> {
        let groups = match asked.query.from {
            Collection::Jobs => self.group_device_jobs(asked).await?,
            Collection::Devices | Collection::Modules => {
                self.store.fold(asked.filter(), asked.live.clone(), asked.query.clone()).await?
            }
        };
        let after = match &asked.place {
            Some(Place { after: After::Group { key, values }, .. }) => {
                Some(Standing { values: values.clone(), key: GroupKey(key.clone()) })
            }
            _ => None,
        };
        let (len, query) = (groups.len(), asked.query.clone());
        let (skipped, wanted) = (asked.skipped(), asked.wanted());
        let cut = move || page(&groups, &query, after.as_ref(), skipped, wanted);
        let (rows, more) = apart(len, cut).await?;
        let left = asked.left().map(|left| left.saturating_sub(rows.len() as u64));
        let next = match rows.last().filter(|_| more && left != Some(0)) {
            Some((Standing { values, key }, _)) => {
                let after = After::Group { key: key.0.clone(), values: values.clone() };
                Some(self.seal(asked, &Place { left, after })?)
            }
            None => None,
        };
        Ok(QueryPage { rows: Rows::Raw(rows.into_iter().map(|(_, row)| row).collect()), next })
    }

    async fn group_device_jobs(&self, asked: &Asked<'_>) -> Result<Groups, Error> {
        let mut groups = Groups::new(&asked.query);
        let mut reader = Reader::new(self, &asked.query);
        while let Some(row) = reader.next().await? {
            if reader.matches(&row) {
                groups.add(&JobRow(&row)).map_err(StoreError::Groups)?;
            }
        }
        Ok(groups)
    }
}

/// The groups behind `after`, without the first `skipped`, at most `wanted`; whether there are more.
fn page(
    groups: &Groups,
    query: &Query,
    after: Option<&Standing<GroupKey>>,
    skipped: u64,
    wanted: usize,
) -> (Vec<(Standing<GroupKey>, Object)>, bool) {
    let directions: Vec<Direction> = query.order_by.iter().map(|(_, way)| *way).collect();
    let standing = |(key, row): (Datum, Object)| {
        let value = |column: &Column| match query.group_by.as_ref() == Some(column) {
            true => key.clone(),
            false => row.get(column.name()).cloned(),
        };
        let values = query.order_by.iter().map(|(column, _)| value(column)).collect();
        (Standing { values, key: GroupKey(key) }, row)
    };
    let rows = groups.groups().into_iter().map(standing).collect();
    order::page(rows, &directions, after, skipped, wanted)
}

/// What the rows of a group have in common. In the order of values; arrays and objects by their text.
#[derive(Clone, Debug)]
struct GroupKey(Datum);

impl Ord for GroupKey {
    fn cmp(&self, other: &GroupKey) -> Ordering {
        match (&self.0, &other.0) {
            (
                Some(left @ (Value::Array(_) | Value::Object(_))),
                Some(right @ (Value::Array(_) | Value::Object(_))),
            ) => left.to_string().cmp(&right.to_string()),
            (left, right) => order::compare(left, right),
        }
    }
}

impl PartialOrd for GroupKey {
    fn partial_cmp(&self, other: &GroupKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for GroupKey {
    fn eq(&self, other: &GroupKey) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for GroupKey {}
