//! Rows that say what jobs did to devices (query §9).
//!
//! The rows are read from the store one after the other; those of one job, or of one device, without the others.
//!
//! Invariant: rows come by job, then device, unless another order is asked for, and then with these two breaking ties.

use super::job_row::JobRow;
use super::order::{self, Standing};
use super::token::{After, Place};
use super::{apart, Asked, QueryPage, Rows};
use crate::error::Error;
use crate::hub::Hub;
use crate::jobs::DeviceJobFilter;
use ostler_core::id::DeviceId;
use ostler_core::job::{DeviceJob, JobId};
use ostler_core::query::{
    project_row, Comparison, Direction, Expr, Field, JobField, Literal, Query, Row, Select,
};

/// Rows read at once.
const CHUNK: usize = 1000;
/// Rows looked at for one page, which may end before it is full.
const LOOKED_AT: usize = 100_000;
/// Rows that are put in an order of their own.
const MOST_ORDERED: usize = 100_000;

/// Rows of a page, and the last of them (or of those looked at) if there is more behind it.
type Found = (Vec<DeviceJob>, Option<After>);

impl Hub {
    pub(super) async fn query_device_jobs(&self, asked: &Asked<'_>) -> Result<QueryPage, Error> {
        let (rows, last) = match asked.query.order_by.is_empty() {
            _ if asked.wanted() == 0 => (Vec::new(), None),
            true => self.device_jobs_by_id(asked).await?,
            false => self.device_jobs_in_order(asked).await?,
        };
        let left = asked.left().map(|left| left.saturating_sub(rows.len() as u64));
        let next = match last.filter(|_| left != Some(0)) {
            Some(after) => Some(self.seal(asked, &Place { left, after })?),
            None => None,
        };
        let rows = match &asked.query.select {
            Select::All => Rows::DeviceJobs(rows),
            Select::Items(items) => {
                Rows::Raw(rows.iter().map(|job| project_row(&JobRow(job), items)).collect())
            }
        };
        Ok(QueryPage { rows, next })
    }

    async fn device_jobs_by_id(&self, asked: &Asked<'_>) -> Result<Found, Error> {
        let mut reader = Reader::new(self, &asked.query);
        reader.after = last_of(asked).map(|standing| standing.key);
        let (mut rows, mut last) = (Vec::new(), None);
        let (mut skipped, mut looked_at) = (asked.skipped(), 0);
        while let Some(row) = reader.next().await? {
            let key = key(&row);
            if reader.matches(&row) {
                if rows.len() == asked.wanted() {
                    return Ok((rows, last));
                }
                match skipped {
                    0 => rows.push(row),
                    _ => skipped -= 1,
                }
            }
            last = Some(After::Row { values: Vec::new(), key });
            looked_at += 1;
            if looked_at >= LOOKED_AT && skipped == 0 {
                return Ok((rows, last));
            }
        }
        Ok((rows, None))
    }

    async fn device_jobs_in_order(&self, asked: &Asked<'_>) -> Result<Found, Error> {
        let mut reader = Reader::new(self, &asked.query);
        let mut all = Vec::new();
        while let Some(row) = reader.next().await? {
            if !reader.matches(&row) {
                continue;
            }
            if all.len() == MOST_ORDERED {
                let text = format!(
                    "more than {MOST_ORDERED} device jobs match, too many to order; narrow the condition"
                );
                return Err(Error::InvalidArgument(text));
            }
            let columns = asked.query.order_by.iter();
            let values = columns.map(|(column, _)| JobRow(&row).value(column)).collect();
            all.push((Standing { values, key: key(&row) }, row));
        }
        let rows = all.len();
        let directions: Vec<Direction> = asked.query.order_by.iter().map(|(_, way)| *way).collect();
        let (after, skipped, wanted) = (last_of(asked), asked.skipped(), asked.wanted());
        let sort = move || order::page(all, &directions, after.as_ref(), skipped, wanted);
        let (page, more) = apart(rows, sort).await?;
        let last = page
            .last()
            .filter(|_| more)
            .map(|(standing, _)| After::Row { values: standing.values.clone(), key: standing.key.clone() });
        Ok((page.into_iter().map(|(_, row)| row).collect(), last))
    }

    /// How device jobs would be found, for people.
    pub(super) fn plan_of_device_jobs(query: &Query) -> &'static str {
        match filter(query) {
            DeviceJobFilter { job: Some(_), device: Some(_) } => "look up 1 device job",
            DeviceJobFilter { job: Some(_), device: None } => "go through the devices of one job",
            DeviceJobFilter { job: None, device: Some(_) } => {
                "go through the jobs, looking up one device in each"
            }
            DeviceJobFilter { job: None, device: None } => "look at every device job",
        }
    }
}

/// The last row of the page before.
fn last_of(asked: &Asked<'_>) -> Option<Standing<Box<str>>> {
    match &asked.place.as_ref()?.after {
        After::Row { values, key } => Some(Standing { values: values.clone(), key: key.clone() }),
        After::Group { .. } => None,
    }
}

fn key(row: &DeviceJob) -> Box<str> {
    format!("{}/{}", row.job, row.device).into()
}

/// Device jobs one after the other, as far as they may match.
pub(super) struct Reader<'a> {
    hub: &'a Hub,
    filter: DeviceJobFilter,
    condition: Option<&'a Expr>,
    /// Where the store goes on.
    after: Option<Box<str>>,
    read: std::vec::IntoIter<DeviceJob>,
    ended: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(hub: &'a Hub, query: &'a Query) -> Reader<'a> {
        let (filter, condition) = (filter(query), query.condition.as_ref());
        Reader { hub, filter, condition, after: None, read: Vec::new().into_iter(), ended: false }
    }

    pub(super) async fn next(&mut self) -> Result<Option<DeviceJob>, Error> {
        loop {
            if let Some(row) = self.read.next() {
                return Ok(Some(row));
            }
            if self.ended {
                return Ok(None);
            }
            let page = self.hub.device_jobs(&self.filter, self.after.as_deref(), CHUNK).await?;
            self.ended = page.next.is_none();
            self.after = page.next;
            self.read = page.rows.into_iter();
        }
    }

    pub(super) fn matches(&self, row: &DeviceJob) -> bool {
        self.condition.is_none_or(|condition| condition.truth(&JobRow(row)) == Some(true))
    }
}

/// The job and the device that every match must have, as far as the condition says so plainly.
fn filter(query: &Query) -> DeviceJobFilter {
    let mut filter = DeviceJobFilter::default();
    let parts = match &query.condition {
        Some(Expr::And(parts)) => parts.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    for part in parts {
        let Expr::Compare { op: Comparison::Equal, left, right } = part else { continue };
        let (column, text) = match (&**left, &**right) {
            (Expr::Column(column), Expr::Literal(Literal::Text(text)))
            | (Expr::Literal(Literal::Text(text)), Expr::Column(column)) => (column, text),
            _ => continue,
        };
        match column.field() {
            Field::Job(JobField::JobId) => filter.job = JobId::new(text).ok(),
            Field::Job(JobField::DeviceId) => filter.device = DeviceId::new(text).ok(),
            _ => {}
        }
    }
    filter
}
