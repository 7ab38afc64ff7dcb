//! Starts jobs when their time has come, and takes up those that a stop of the hub interrupted.
//!
//! One task and one timer serve every job that waits. The timer sleeps on monotonic time, but what is due
//! is decided by the wall clock, looked at every few seconds: when that jumps, jobs start early or late by
//! those seconds, never twice and never not at all.

use super::commit::Gone;
use super::read_job;
use super::run;
use super::table::{Jobs, Phase, Rest, Shared};
use crate::error::Error;
use ostler_core::job::{JobId, Stage};
use ostler_store::{Change, Shelf};
use std::sync::Arc;
use std::time::Duration;

/// How often jobs are deleted that ended long ago.
const PURGE_EVERY: Duration = Duration::from_secs(3600);
/// When that is done first after the start.
const FIRST_PURGE: Duration = Duration::from_secs(60);
/// Stored jobs read at a time.
const READ_AT_ONCE: usize = 500;

impl Jobs {
    /// Takes up the stored jobs and starts the scheduler.
    pub(crate) async fn begin(&self) -> Result<(), Error> {
        let mut after: Option<Box<str>> = None;
        loop {
            let page = self.shared.store.documents(Shelf::Jobs, "", after.as_deref(), READ_AT_ONCE).await?;
            let is_last = page.len() < READ_AT_ONCE;
            for (key, document) in &page {
                match read_job(key, document) {
                    Ok((job, _)) if job.has_ended() => {}
                    Ok((job, _)) => {
                        self.shared.insert(&job.spec.id);
                        match (&job.stage, job.paused) {
                            (Stage::Waiting, None) => {
                                self.shared.rest(&job.spec.id, &Rest::Until(job.start_time()));
                            }
                            (Stage::Waiting, Some(_)) => {
                                self.shared.rest(&job.spec.id, &Rest::Held);
                            }
                            _ => self.shared.start(job.spec.id.clone()),
                        }
                    }
                    Err(error) => {
                        tracing::error!(job = &**key, %error, "a stored job cannot be read; it is left out")
                    }
                }
            }
            after = page.into_iter().last().map(|(key, _)| key);
            if is_last {
                break;
            }
        }
        tokio::spawn(schedule(self.shared.clone()));
        Ok(())
    }
}

impl Shared {
    /// Starts the task of a job.
    pub(super) fn start(self: &Arc<Self>, id: JobId) {
        let task = self.task();
        let run = run::run(self.clone(), id);
        tokio::spawn(async move {
            run.await;
            drop(task);
        });
    }
}

async fn schedule(shared: Arc<Shared>) {
    let mut phase = shared.phase.subscribe();
    let mut purge = Box::pin(tokio::time::sleep(FIRST_PURGE));
    loop {
        let now = shared.now();
        let (due, next) = shared.due(now);
        due.into_iter().for_each(|id| shared.start(id));
        let wait = next.map(|at| shared.until(at, now));
        tokio::select! {
            () = shared.wake.notified() => {}
            () = sleep(wait) => {}
            () = &mut purge => {
                purge.set(tokio::time::sleep(PURGE_EVERY));
                let (shared, task) = (shared.clone(), shared.task());
                tokio::spawn(async move {
                    // An error means that the hub stops; the next one goes on.
                    let _ = purge_ended(&shared).await;
                    drop(task);
                });
            }
            _ = phase.wait_for(|phase| *phase != Phase::Open) => return,
        }
    }
}

/// Deletes the jobs whose time of being kept is over: what became of their devices first, so that nothing
/// is left behind when the hub stops in between.
async fn purge_ended(shared: &Arc<Shared>) -> Result<(), Gone> {
    let secs = i64::try_from(shared.retention_days).unwrap_or(i64::MAX).saturating_mul(24 * 3600);
    let kept_since = shared.now().plus_secs(secs.saturating_neg());
    let mut after: Option<Box<str>> = None;
    loop {
        let from = after.as_deref();
        let page = shared.read(|| shared.store.documents(Shelf::Jobs, "", from, READ_AT_ONCE)).await?;
        let is_last = page.len() < READ_AT_ONCE;
        for (key, document) in page {
            let ended = read_job(&key, &document).ok().and_then(|(job, _)| job.ended);
            if ended.is_some_and(|ended| ended < kept_since) {
                shared.delete_steps(&key).await?;
                let delete = Change::DeleteDocument { shelf: Shelf::Jobs, key: key.clone() };
                shared.commit_all(|| vec![delete.clone()]).await?;
                tracing::info!(job = &*key, "deleted a job that ended long ago");
            }
            after = Some(key);
            if *shared.phase.borrow() != Phase::Open {
                return Err(Gone);
            }
        }
        if is_last {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

/// Waits so long, or for ever.
pub(super) async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
