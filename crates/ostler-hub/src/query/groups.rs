//! Rows that are made of several: `GROUP BY` and aggregates (query §8).
//!
//! The groups are gathered anew for every page; a token says behind which group to go on.
//!
//! Invariant: groups come in the order of their values, so that the last one says where to go on.

use super::device_jobs::Reader;
use super::job_row::JobRow;
use super::token::{After, Datum, Place};
use super::{apart, Asked, QueryPage, Rows};
use crate::error::Error;
use crate::hub::Hub;
use ostler_core::json::{Object, Value};
use ostler_core::query::{Collection, Direction, Groups};
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
        let len = groups.len();
        let after = match &asked.place {
            Some(Place { after: After::Group(last), .. }) => Some(last.clone()),
            _ => None,
        };
        let descending = asked.query.order_by.first().is_some_and(|(_, way)| *way == Direction::Descending);
        let (skipped, wanted) = (asked.skipped(), asked.wanted());
        let cut = move || page(&groups, after.as_ref(), descending, skipped, wanted);
        let (rows, more) = apart(len, cut).await?;
        let left = asked.left().map(|left| left.saturating_sub(rows.len() as u64));
        let next = match rows.last().filter(|_| more && left != Some(0)) {
            Some((value, _)) => Some(self.seal(asked, &Place { left, after: After::Group(value.clone()) })?),
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
    after: Option<&Datum>,
    descending: bool,
    skipped: u64,
    wanted: usize,
) -> (Vec<(Datum, Object)>, bool) {
    let mut rows = groups.groups();
    if let Some(after) = after {
        let behind = if descending { Ordering::Less } else { Ordering::Greater };
        rows.retain(|(value, _)| compare(value, after) == behind);
    }
    let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(rows.len());
    rows.drain(..skipped);
    let more = rows.len() > wanted;
    rows.truncate(wanted);
    (rows, more)
}

/// The order of [`Groups::groups`]: that of values, arrays and objects by their text.
fn compare(left: &Datum, right: &Datum) -> Ordering {
    match (left, right) {
        (Some(Value::Array(_) | Value::Object(_)), Some(Value::Array(_) | Value::Object(_))) => {
            let text = |value: &Datum| value.as_ref().map(ToString::to_string);
            text(left).cmp(&text(right))
        }
        _ => super::order::compare(left, right),
    }
}
