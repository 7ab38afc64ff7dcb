//! What back ends do with jobs.

use super::codec::encode_job;
use super::read_job;
use super::table::{Rest, Wish};
use crate::error::Error;
use crate::hub::Hub;
use ostler_core::job::{Job, JobId, JobKind, JobSpec, JobStatus, JobView, Refused};
use ostler_store::{Change, CommitError, Expect, Shelf, StoreError};
use std::time::Duration;
use tokio::sync::watch;

/// How long a cancellation waits for the job to end, so that most callers see `cancelled` at once.
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);
/// Jobs looked at for one page.
const LOOKED_AT: usize = 20_000;
/// Jobs read at a time.
const READ_AT_ONCE: usize = 500;

/// Which jobs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Of this kind only.
    pub kind: Option<JobKind>,
    /// At one of these statuses only; empty is any.
    pub statuses: Vec<JobStatus>,
}

/// Some jobs in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobPage {
    /// The jobs; a page may hold fewer than asked for, even none, and still not be the last.
    pub jobs: Vec<JobView>,
    /// The id after which the next page starts; absent on the last page.
    pub next: Option<JobId>,
}

impl Hub {
    /// Creates a job. It is durable when this resolves; a caller that left meanwhile and asks again gets
    /// [`Error::JobExists`], and the job runs once.
    ///
    /// # Errors
    /// [`Error::JobExists`], [`Error::TooManyJobs`], [`Error::Job`], or the store's.
    pub async fn create_job(&self, spec: JobSpec) -> Result<JobView, Error> {
        let job = Job::new(spec.checked()?, None, self.now());
        self.add_job(job).await
    }

    /// Tries the failed devices of an ended job again, as a new job that starts now.
    ///
    /// # Errors
    /// As [`Hub::create_job`]; [`Error::JobNotFound`], [`Error::JobState`] when it has not ended or nothing
    /// failed.
    pub async fn retry_job(&self, id: &JobId, retry: JobId) -> Result<JobView, Error> {
        let failed = self.load_job(id).await?;
        if !failed.has_ended() {
            return Err(Refused::NotEnded.into());
        }
        if failed.counts.is_none_or(|counts| counts.failed == 0) {
            return Err(Refused::NothingFailed.into());
        }
        let spec = JobSpec { id: retry, start: None, ..JobSpec::clone(&failed.spec) };
        self.add_job(Job::new(spec, Some(id.clone()), self.now())).await
    }

    async fn add_job(&self, job: Job) -> Result<JobView, Error> {
        let id = job.spec.id.clone();
        self.jobs.shared.reserve(&id)?;
        let (shared, start) = (self.jobs.shared.clone(), job.start_time());
        let change = Change::PutDocument {
            shelf: Shelf::Jobs,
            key: id.as_str().into(),
            value: encode_job(&job),
            expect: Some(Expect::Absent),
        };
        // In a task of its own: when the caller leaves, what is durable must still be scheduled.
        let added = tokio::spawn(async move {
            let outcome = shared.store.commit(vec![change]).await.pop();
            match outcome.unwrap_or(Err(StoreError::Closed.into())) {
                Ok(_) => {
                    if !shared.rest(&id, &Rest::Until(start)) {
                        shared.start(id);
                    }
                    Ok(())
                }
                Err(error) => {
                    shared.remove(&id);
                    Err(match error {
                        CommitError::Store(error) => Error::Store(error),
                        _ => Error::JobExists(id.to_string()),
                    })
                }
            }
        });
        added.await.unwrap_or(Err(Error::Store(StoreError::Closed)))?;
        self.stats().jobs_created.add(1);
        // Azure answers `queued`, whenever the job is to start (service §10.1).
        Ok(JobView { status: JobStatus::Queued, ..job.view(None, self.now()) })
    }

    /// A job.
    ///
    /// # Errors
    /// [`Error::JobNotFound`], or the store's.
    pub async fn job(&self, id: &JobId) -> Result<JobView, Error> {
        if let Some(view) = self.jobs.shared.live(id.as_str()).and_then(|live| live.view(self.now())) {
            return Ok(view);
        }
        Ok(self.load_job(id).await?.view(None, self.now()))
    }

    /// Jobs in the order of their ids, after `after`, at most `limit`.
    ///
    /// # Errors
    /// The store's.
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        after: Option<&JobId>,
        limit: usize,
    ) -> Result<JobPage, Error> {
        let limit = limit.max(1);
        let mut page = JobPage { jobs: Vec::new(), next: after.cloned() };
        for _ in 0..LOOKED_AT / READ_AT_ONCE {
            let after = page.next.as_ref().map(JobId::as_str);
            let documents = self.store.documents(Shelf::Jobs, "", after, READ_AT_ONCE).await?;
            let is_last = documents.len() < READ_AT_ONCE;
            for (key, document) in documents {
                if page.jobs.len() == limit {
                    return Ok(page);
                }
                page.next = JobId::new(&key).ok().or(page.next);
                let view = match self.jobs.shared.live(&key).and_then(|live| live.view(self.now())) {
                    Some(view) => view,
                    None => match read_job(&key, &document) {
                        Ok((job, _)) => job.view(None, self.now()),
                        Err(error) => {
                            tracing::error!(job = &*key, %error, "a stored job cannot be read; it is not listed");
                            continue;
                        }
                    },
                };
                let is_wanted = filter.kind.is_none_or(|kind| kind == view.spec.work.kind())
                    && (filter.statuses.is_empty() || filter.statuses.contains(&view.status));
                if is_wanted {
                    page.jobs.push(view);
                }
            }
            if is_last {
                page.next = None;
                break;
            }
        }
        Ok(page)
    }

    /// Cancels a job: at once before its start; else what has not begun is canceled, and what has begun is
    /// let finish. Cancelling a cancelled job is no error.
    ///
    /// # Errors
    /// [`Error::JobNotFound`], [`Error::JobState`] when it ended otherwise, or the store's.
    pub async fn cancel_job(&self, id: &JobId) -> Result<JobView, Error> {
        let mut progress = self.job_progress(id).await?;
        let view = self.wish(id, Wish::Cancel).await?;
        if view.status.is_terminal() {
            return Ok(view);
        }
        let ended = async {
            let view = progress.wait_for(|view| view.status.is_terminal()).await;
            view.map(|view| view.clone())
        };
        if let Ok(Ok(view)) = tokio::time::timeout(CANCEL_PATIENCE, ended).await {
            return Ok(view);
        }
        self.job(id).await
    }

    /// Holds a job: what has begun goes on, nothing else begins, and the time does not count.
    ///
    /// # Errors
    /// [`Error::JobNotFound`], [`Error::JobState`] when it has ended, or the store's.
    pub async fn pause_job(&self, id: &JobId) -> Result<JobView, Error> {
        self.wish(id, Wish::Pause).await
    }

    /// Lets a held job go on.
    ///
    /// # Errors
    /// [`Error::JobNotFound`], [`Error::JobState`] when it is not held, or the store's.
    pub async fn resume_job(&self, id: &JobId) -> Result<JobView, Error> {
        self.wish(id, Wish::Resume).await
    }

    async fn wish(&self, id: &JobId, wish: Wish) -> Result<JobView, Error> {
        if let Some((answered, start)) = self.jobs.shared.wish(id, wish) {
            if start {
                self.jobs.shared.start(id.clone());
            }
            return match answered.await {
                Ok(answer) => Ok(answer?),
                // The hub stops, or the store does not let the job's task go on.
                Err(_) => Err(Error::Store(StoreError::Closed)),
            };
        }
        let mut job = self.load_job(id).await?;
        let now = self.now();
        match wish {
            Wish::Cancel => job.cancel(now)?,
            Wish::Pause => job.pause(now)?,
            Wish::Resume => job.resume(now)?,
        }
        Ok(job.view(None, now))
    }

    /// Follows a job: the receiver sees views some times a second at most, the last one when the job has
    /// ended; then it is closed.
    ///
    /// # Errors
    /// [`Error::JobNotFound`], or the store's.
    pub async fn job_progress(&self, id: &JobId) -> Result<watch::Receiver<JobView>, Error> {
        loop {
            let view = self.job(id).await?;
            if view.status.is_terminal() {
                return Ok(watch::channel(view).1);
            }
            let watched = self.jobs.shared.with_live(id, |live| live.watch(view));
            if let Some(receiver) = watched {
                return Ok(receiver);
            }
            // It ended in between; what is stored says so.
        }
    }

    /// Stops the runner before the store is closed: what has begun is let finish and recorded, nothing
    /// else begins. Jobs go on when the hub is opened again. Dropping the future gives up waiting.
    pub async fn drain_jobs(&self) {
        self.jobs.drain().await;
    }

    /// How many jobs have not ended.
    pub fn active_jobs(&self) -> usize {
        self.jobs.shared.active()
    }

    pub(super) async fn load_job(&self, id: &JobId) -> Result<Job, Error> {
        match self.store.document(Shelf::Jobs, id.as_str()).await? {
            Some(document) => Ok(read_job(id.as_str(), &document)?.0),
            None => Err(Error::JobNotFound(id.to_string())),
        }
    }
}
