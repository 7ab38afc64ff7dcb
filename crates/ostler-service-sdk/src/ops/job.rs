//! Jobs (service §10), and what Ostler adds to them under `/ostler/v1/jobs`.
//!
//! Invariant: a job is created once, however often its creation is sent: its id is the caller's, and a conflict that
//! this client may have caused itself is resolved by comparing the jobs.

use futures_util::stream::{self, TryStreamExt};
use http::Method;
use ostler_wire::rest::error::ErrorCode;
use ostler_wire::rest::page::{CONTINUATION_HEADER, MAX_ITEM_COUNT_HEADER};
use serde_json::json;

use self::compare::differs;
use super::lines::LineStream;
use super::{encode, json_body};
use crate::error::Error;
use crate::model::{DryRun, Job, JobStatus, JobType, NewJob};
use crate::retry::Safety;
use crate::rows::Rows;
use crate::transport::{Call, Reply};
use crate::Client;

mod compare;
mod follow;

/// A job's state as it changes; the last one is final.
pub type JobProgress = LineStream<Job>;

/// Which jobs to list. What is not set does not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only this kind of work.
    pub kind: Option<JobType>,
    /// Only jobs that stand there.
    pub status: Option<JobStatus>,
}

/// A part of a list of jobs.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// What asks for the next page; `None` on the last one.
    pub continuation: Option<String>,
}

/// Whose view of jobs is asked for.
#[derive(Clone, Copy)]
enum View {
    Azure,
    Ostler,
}

impl View {
    fn list(self) -> &'static str {
        match self {
            View::Azure => "/jobs/v2/query",
            View::Ostler => "/ostler/v1/jobs",
        }
    }

    fn job(self, id: &str) -> String {
        match self {
            View::Azure => format!("/jobs/v2/{}", encode(id)),
            View::Ostler => format!("/ostler/v1/jobs/{}", encode(id)),
        }
    }
}

impl Client {
    /// Creates a job: by Azure's route, or by Ostler's own if it has a rollout. Sending it again after an attempt
    /// without an answer does no harm: a job of this id that is the same one counts as created.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::{JobWork, MethodCall, NewJob};
    ///
    /// let lock = MethodCall::new("lockDoor");
    /// let job = NewJob::new("lock-doors-1", JobWork::Method(lock), "tags.building = 43");
    /// hub.create_job(&job).await?;
    /// let end = hub.follow_job("lock-doors-1").into_vec().await?.pop();
    /// println!("{:?}", end.and_then(|job| job.device_job_statistics));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::Conflict`] when there is another job of this id, [`crate::ErrorKind::Busy`] when too many
    /// are active. A condition that does not parse is no error here: the job fails and says why.
    pub async fn create_job(&self, job: &NewJob) -> Result<Job, Error> {
        let view = if job.rollout.is_some() { View::Ostler } else { View::Azure };
        let mut call = Call::new(Method::PUT, view.job(&job.id));
        call.body = json_body(job)?;
        self.make_job(&call, view, &job.id, |existing| !differs(job, existing)).await
    }

    /// Sends what creates the job `id`. `is_it` tells whether a job that is there is the one that was asked for.
    async fn make_job(
        &self,
        call: &Call,
        view: View,
        id: &str,
        is_it: impl Fn(&Job) -> bool,
    ) -> Result<Job, Error> {
        let reply = self.transport.exchange(call).await?;
        if reply.status.is_success() {
            return reply.json();
        }
        let ours = reply.may_have_run_before;
        let refusal = reply.into_fault();
        if ours && refusal.fault().is_some_and(|fault| fault.code == Some(ErrorCode::JobAlreadyExists)) {
            let existing: Job = self.get(view.job(id)).await?;
            if is_it(&existing) {
                return Ok(existing);
            }
        }
        Err(refusal)
    }

    /// A job, as Azure tells of it.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let job = hub.job("lock-doors-1").await?;
    /// println!("{} {:?}", job.status, job.failure_reason);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such job.
    pub async fn job(&self, id: &str) -> Result<Job, Error> {
        self.get(View::Azure.job(id)).await
    }

    /// A job with its rollout, wave and causes of failures, as Ostler alone tells of it.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// for (cause, devices) in hub.job_details("lock-doors-1").await?.failures_by_cause {
    ///     println!("{cause}: {devices}");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such job.
    pub async fn job_details(&self, id: &str) -> Result<Job, Error> {
        self.get(View::Ostler.job(id)).await
    }

    /// A page of jobs, as Azure tells of them. `continuation` is what the page before it said.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::{JobFilter, JobStatus};
    ///
    /// let running = JobFilter { status: Some(JobStatus::Running), ..JobFilter::default() };
    /// let page = hub.jobs(&running, 100, None).await?;
    /// println!("{} and {}", page.jobs.len(), if page.continuation.is_some() { "more" } else { "no more" });
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for a continuation of another list.
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        page_size: u32,
        continuation: Option<&str>,
    ) -> Result<JobPage, Error> {
        self.job_page(View::Azure, filter, page_size, continuation).await
    }

    /// A page of jobs with what Ostler alone tells of them.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::JobFilter;
    ///
    /// for job in hub.jobs_details(&JobFilter::default(), 100, None).await?.jobs {
    ///     println!("{} {:?}", job.job_id, job.wave);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for a continuation of another list.
    pub async fn jobs_details(
        &self,
        filter: &JobFilter,
        page_size: u32,
        continuation: Option<&str>,
    ) -> Result<JobPage, Error> {
        self.job_page(View::Ostler, filter, page_size, continuation).await
    }

    /// Every job, page by page, as Azure tells of them.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::JobFilter;
    ///
    /// let mut jobs = hub.all_jobs(JobFilter::default());
    /// while let Some(job) = jobs.try_next().await? {
    ///     println!("{} {}", job.job_id, job.status);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The stream ends with the first error.
    pub fn all_jobs(&self, filter: JobFilter) -> Rows<Job> {
        let start = Some((self.clone(), filter, None::<String>));
        let pages = stream::try_unfold(start, |state| async move {
            let Some((client, filter, continuation)) = state else { return Ok::<_, Error>(None) };
            let page = client.jobs(&filter, 1000, continuation.as_deref()).await?;
            let next = page.continuation.map(|continuation| (client, filter, Some(continuation)));
            Ok(Some((stream::iter(page.jobs.into_iter().map(Ok)), next)))
        });
        Rows::new(pages.try_flatten())
    }

    async fn job_page(
        &self,
        view: View,
        filter: &JobFilter,
        page_size: u32,
        continuation: Option<&str>,
    ) -> Result<JobPage, Error> {
        let mut call = Call::new(Method::GET, view.list());
        if let Some(kind) = &filter.kind {
            call.query.push_str(&format!("&jobType={}", encode(kind.as_str())));
        }
        if let Some(status) = &filter.status {
            call.query.push_str(&format!("&jobStatus={}", encode(status.as_str())));
        }
        call.headers.push((MAX_ITEM_COUNT_HEADER, page_size.to_string()));
        call.headers.extend(continuation.map(|token| (CONTINUATION_HEADER, token.to_owned())));
        let reply = self.transport.send(&call).await?;
        Ok(JobPage { jobs: reply.json()?, continuation: next_page(&reply) })
    }

    /// Calls a job off. Devices that were begun are finished; the others stay as they are.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// hub.cancel_job("lock-doors-1").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such job, [`crate::ErrorKind::Invalid`] when it has ended.
    pub async fn cancel_job(&self, id: &str) -> Result<Job, Error> {
        self.change_job(View::Azure, id, "cancel", Safety::Repeatable).await
    }

    /// Holds a job: no further device is begun.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// hub.pause_job("lock-doors-1").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such job, [`crate::ErrorKind::Invalid`] when it has ended.
    pub async fn pause_job(&self, id: &str) -> Result<Job, Error> {
        self.change_job(View::Ostler, id, "pause", Safety::Repeatable).await
    }

    /// Lets a job that is held go on.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// hub.resume_job("lock-doors-1").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such job, [`crate::ErrorKind::Invalid`] when it is not held.
    pub async fn resume_job(&self, id: &str) -> Result<Job, Error> {
        self.change_job(View::Ostler, id, "resume", Safety::Once).await
    }

    async fn change_job(&self, view: View, id: &str, verb: &str, safety: Safety) -> Result<Job, Error> {
        let mut call = Call::new(Method::POST, format!("{}/{verb}", view.job(id)));
        call.safety = safety;
        self.transport.send(&call).await?.json()
    }

    /// Creates a job that tries again the devices on which an ended job failed. Sending it again is as harmless as it
    /// is for [`Client::create_job`].
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// hub.retry_job("lock-doors-1", "lock-doors-2").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such job, [`crate::ErrorKind::Conflict`] when there is a job of
    /// the new id, [`crate::ErrorKind::Invalid`] when the job has not ended, or no device failed.
    pub async fn retry_job(&self, id: &str, new_id: &str) -> Result<Job, Error> {
        let mut call = Call::new(Method::POST, format!("{}/retry", View::Ostler.job(id)));
        call.safety = Safety::Repeatable;
        call.body = json_body(&json!({ "jobId": new_id }))?;
        let is_it = |existing: &Job| existing.parent_job_id.as_deref() == Some(id);
        self.make_job(&call, View::Ostler, new_id, is_it).await
    }

    /// Tells whom a job would touch if it started now. Nothing is created.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::{JobWork, MethodCall, NewJob};
    ///
    /// let job = NewJob::new("lock-doors-1", JobWork::Method(MethodCall::new("lockDoor")), "tags.building = 43");
    /// println!("{} devices would be called", hub.dry_run_job(&job).await?.device_count);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] when the condition does not parse; the error says where.
    pub async fn dry_run_job(&self, job: &NewJob) -> Result<DryRun, Error> {
        let mut call = Call::new(Method::POST, "/ostler/v1/jobs/dryRun");
        call.safety = Safety::Repeatable;
        call.body = json_body(job)?;
        self.transport.send(&call).await?.json()
    }

    /// Opens the stream of a job's progress: how it stands now, then each change, as fast as they are read. It ends
    /// after the final state.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut progress = hub.job_progress("lock-doors-1").await?;
    /// while let Some(job) = progress.try_next().await? {
    ///     println!("{}", job.status);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such job.
    pub async fn job_progress(&self, id: &str) -> Result<JobProgress, Error> {
        self.lines(&Call::new(Method::GET, format!("{}/progress", View::Ostler.job(id)))).await
    }
}

fn next_page(reply: &Reply) -> Option<String> {
    let token = reply.headers.get(CONTINUATION_HEADER)?.to_str().ok()?;
    (!token.is_empty()).then(|| token.to_owned())
}
