//! What became of jobs on their devices: the rows of `devices.jobs` (service §10.4).

use super::codec::{decode_step, parse_step_key, step_key};
use super::corrupt;
use crate::error::Error;
use crate::hub::Hub;
use ostler_core::id::DeviceId;
use ostler_core::job::{DeviceJob, JobId};
use ostler_store::{Document, Shelf, StoreError};

/// Device jobs looked at for one page.
const LOOKED_AT: usize = 20_000;
/// Device jobs read at a time.
const READ_AT_ONCE: usize = 1000;

/// Where to look for device jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceJobFilter {
    /// Of this job only: reads its documents and no others.
    pub job: Option<JobId>,
    /// Of this device only: reads one document of each job.
    pub device: Option<DeviceId>,
}

/// Some device jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceJobPage {
    /// The device jobs; a page may hold fewer than asked for, even none, and still not be the last.
    pub rows: Vec<DeviceJob>,
    /// The key after which the next page starts; absent on the last page.
    pub next: Option<Box<str>>,
}

impl Hub {
    /// Device jobs in the order of their keys (`job/device`), after the key `after`, at most `limit`.
    ///
    /// # Errors
    /// The store's.
    pub async fn device_jobs(
        &self,
        filter: &DeviceJobFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<DeviceJobPage, Error> {
        match (&filter.job, &filter.device) {
            (Some(job), Some(device)) => {
                let key = step_key(job, device.as_str());
                let document = self.store.document(Shelf::DeviceJobs, &key).await?;
                let is_new = after.is_none_or(|after| *after < *key);
                let row =
                    document.filter(|_| is_new).map(|document| read_row(&key, &document)).transpose()?;
                Ok(DeviceJobPage { rows: row.into_iter().collect(), next: None })
            }
            (None, Some(device)) => self.jobs_of_device(device, after, limit.max(1)).await,
            (job, None) => {
                let prefix = job.as_ref().map(|job| step_key(job, "")).unwrap_or_default();
                self.scan_device_jobs(&prefix, after, limit.max(1)).await
            }
        }
    }

    async fn scan_device_jobs(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<DeviceJobPage, Error> {
        let mut page = DeviceJobPage { rows: Vec::new(), next: after.map(Into::into) };
        while page.rows.len() < limit {
            let count = READ_AT_ONCE.min(limit - page.rows.len());
            let documents =
                self.store.documents(Shelf::DeviceJobs, prefix, page.next.as_deref(), count).await?;
            let is_last = documents.len() < count;
            for (key, document) in documents {
                match read_row(&key, &document) {
                    Ok(row) => page.rows.push(row),
                    Err(error) => tracing::error!(%error, "a device job cannot be read; it is left out"),
                }
                page.next = Some(key);
            }
            if is_last {
                page.next = None;
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(page)
    }

    async fn jobs_of_device(
        &self,
        device: &DeviceId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<DeviceJobPage, Error> {
        let mut page = DeviceJobPage { rows: Vec::new(), next: after.map(Into::into) };
        for _ in 0..LOOKED_AT / READ_AT_ONCE {
            let after = page.next.as_deref().map(|key| key.split_once('/').map_or(key, |(job, _)| job));
            let jobs = self.store.documents(Shelf::Jobs, "", after, READ_AT_ONCE).await?;
            let is_last = jobs.len() < READ_AT_ONCE;
            for (job, _) in jobs {
                if page.rows.len() == limit {
                    return Ok(page);
                }
                let job = JobId::new(&job).map_err(|error| Error::InvalidArgument(error.to_string()))?;
                let key = step_key(&job, device.as_str());
                if let Some(document) = self.store.document(Shelf::DeviceJobs, &key).await? {
                    page.rows.push(read_row(&key, &document)?);
                }
                page.next = Some(key);
            }
            if is_last {
                page.next = None;
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(page)
    }
}

fn read_row(key: &str, document: &Document) -> Result<DeviceJob, StoreError> {
    let damaged = |damage| corrupt(key, damage);
    let (job, device) = parse_step_key(key).map_err(damaged)?;
    Ok(decode_step(&document.value).map_err(damaged)?.named(job, device))
}

#[cfg(test)]
impl Hub {
    /// Writes a device job as if it had come about.
    pub(crate) async fn put_device_job(&self, row: DeviceJob) {
        let key = step_key(&row.job, row.device.as_str());
        let step = super::codec::Step {
            kind: row.kind,
            status: row.status,
            wave: 0,
            attempts: row.attempts,
            created: row.created,
            updated: row.updated,
            start: row.start,
            end: row.end,
            outcome: row.outcome,
            error: row.error,
        };
        let value = super::codec::encode_step(&step);
        let put = ostler_store::Change::PutDocument { shelf: Shelf::DeviceJobs, key, value, expect: None };
        assert_eq!(self.commit_one(put).await, Ok(()));
    }
}
