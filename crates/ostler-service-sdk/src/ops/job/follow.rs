//! A job from now to its end, on any hub: by Ostler's stream where there is one, by asking elsewhere.
//!
//! Must not know: what the job does.
//!
//! Invariant: the last item is final; a stream that broke before is taken up again.

use std::time::Duration;

use futures_util::stream;

use super::JobProgress;
use crate::error::Error;
use crate::model::{DeviceJob, Job};
use crate::rows::Rows;
use crate::Client;

/// How often a hub without a stream is asked, and the wait before a stream that broke is opened again, unless the
/// client waits less for everything.
const PAUSE: Duration = Duration::from_secs(2);

impl Client {
    /// How a job goes: as it stands now, then each change, and last its final state. Ostler tells changes as they come;
    /// Azure IoT Hub, which has no such route, is asked every two seconds (or [`crate::RetryPolicy::max_wait`], if that is less). A broken connection is no end: the job goes
    /// on without its watcher, and so does the watching.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut news = hub.follow_job("lock-doors-1");
    /// while let Some(job) = news.try_next().await? {
    ///     println!("{}: {}", job.job_id, job.status);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// It ends with [`crate::ErrorKind::NotFound`] when there is no such job, and with whatever keeps the hub from
    /// answering for longer than [`crate::RetryPolicy`] allows.
    pub fn follow_job(&self, id: impl Into<String>) -> Rows<Job> {
        let follower = Follower { client: self.clone(), id: id.into(), source: Source::Unopened, last: None };
        Rows::new(stream::try_unfold(follower, |mut follower| async move {
            Ok::<_, Error>(follower.next().await?.map(|job| (job, follower)))
        }))
    }

    /// What a job did to each of its devices, as far as it has got.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut devices = hub.device_jobs("lock-doors-1");
    /// while let Some(device) = devices.try_next().await? {
    ///     println!("{}: {}", device.device_id, device.status);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`crate::Query::rows`].
    pub fn device_jobs(&self, job_id: &str) -> Rows<DeviceJob> {
        // A job's id has no quote in it; whatever else somebody passes must not end the literal.
        let literal = job_id.replace('\'', "''");
        self.query(format!("SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{literal}'")).rows()
    }
}

struct Follower {
    client: Client,
    id: String,
    source: Source,
    last: Option<Job>,
}

/// Where the next state comes from.
enum Source {
    Unopened,
    Stream(JobProgress),
    /// The stream broke.
    Broken,
    /// The hub has no stream.
    Asking,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<Job>, Error> {
        loop {
            if self.last.as_ref().is_some_and(|job| job.status.is_final()) {
                return Ok(None);
            }
            let Some(job) = self.step().await? else { continue };
            if self.last.as_ref() != Some(&job) {
                self.last = Some(job.clone());
                return Ok(Some(job));
            }
        }
    }

    async fn pause(&self) {
        tokio::time::sleep(PAUSE.min(self.client.transport.retry.max_wait)).await;
    }

    /// One look at the job, or one step towards it.
    async fn step(&mut self) -> Result<Option<Job>, Error> {
        match &mut self.source {
            Source::Unopened => {
                self.source = match self.client.job_progress(&self.id).await {
                    Ok(stream) => Source::Stream(stream),
                    Err(error) if error.is_unknown_route() => Source::Asking,
                    // The look tells more patiently what is wrong, if anything still is.
                    Err(error) if error.is_transient() => Source::Broken,
                    Err(error) => return Err(error),
                };
                Ok(None)
            }
            Source::Stream(stream) => match stream.next().await {
                Some(Ok(job)) => Ok(Some(job)),
                Some(Err(error)) if !error.is_transient() => Err(error),
                Some(Err(_)) | None => {
                    self.source = Source::Broken;
                    Ok(None)
                }
            },
            Source::Broken => {
                self.pause().await;
                self.source = Source::Unopened;
                match self.client.job_details(&self.id).await {
                    Err(error) if error.is_unknown_route() => {
                        self.source = Source::Asking;
                        Ok(None)
                    }
                    told => told.map(Some),
                }
            }
            Source::Asking => {
                if self.last.is_some() {
                    self.pause().await;
                }
                self.client.job(&self.id).await.map(Some)
            }
        }
    }
}
