//! Starts jobs when their time has come, and takes up those that a stop of the hub interrupted.
//!
//! One task and one timer serve every job that waits. The timer sleeps on monotonic time, but what is due
//! is decided by the wall clock, looked at every few seconds: when that jumps, jobs start early or late by
//! those seconds, never twice and never not at all.

use super::read_job;
use super::run;
use super::table::{Jobs, Phase, Rest, Shared};
use crate::error::Error;
use ostler_core::job::{JobId, Stage};
use ostler_core::time::{Timestamp, TICKS_PER_SEC};
use ostler_store::Shelf;
use std::sync::Arc;
use std::time::Duration;

/// The wall clock is looked at this often while jobs wait.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(2);
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
        tokio::spawn(run::run(self.clone(), id));
    }
}

async fn schedule(shared: Arc<Shared>) {
    let mut phase = shared.phase.subscribe();
    loop {
        let now = shared.now();
        let (due, next) = shared.due(now);
        due.into_iter().for_each(|id| shared.start(id));
        let wait = next.map(|at| until(at, now).min(LOOK_AGAIN));
        tokio::select! {
            () = shared.wake.notified() => {}
            () = sleep(wait) => {}
            _ = phase.wait_for(|phase| *phase != Phase::Open) => return,
        }
    }
}

/// How long it is from `now` to `at`.
pub(super) fn until(at: Timestamp, now: Timestamp) -> Duration {
    let ticks = at.ticks().saturating_sub(now.ticks()).max(0);
    let (secs, rest) = (ticks / TICKS_PER_SEC, ticks % TICKS_PER_SEC);
    // A tick more, so that the time has come when the timer ends.
    Duration::new(secs.unsigned_abs(), u32::try_from(rest * 100).unwrap_or(0)) + Duration::from_micros(100)
}

/// Waits so long, or for ever.
pub(super) async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
